"""Figures of curves: returns against simulated steps, and against time."""

from typing import Any

import numpy as np
import pandas as pd
import seaborn as sns
from matplotlib.axes import Axes
from matplotlib.lines import Line2D

from dpft.analysis.captions import (
    Drawing,
    NothingToDraw,
    caption,
    cloned,
    finished,
    in_lines,
    label,
    learning,
    panels_of,
)
from dpft.analysis.load import Records
from dpft.analysis.names import experiment_name
from dpft.analysis.statistics import FEW_SEEDS, LEAST_SEEDS, mean_curve, per_run
from dpft.analysis.style import (
    COLUMNS,
    GREY,
    MANY,
    SMALL,
    Look,
    grid_of,
    legend,
    limits_of_data,
    log_axis,
    looks,
    others,
    samples_of,
    shades,
    steps_axis,
)

PARTS = {"act": "#56B4E9", "simulate": "#999999", "update": "#D55E00", "evaluate": "#F0E442"}
NEAR = 0.015  # of an axis; levels nearer than that hide each other


def sample_efficiency(records: Records) -> Drawing:
    """Mean evaluation return against simulated steps, one panel for each task and K.

    A line is the mean over finished runs, a band its 95 % interval, a dashed line the method's own score at zero
    updates, a dotted one the demonstrations' mean. Under FEW_SEEDS each run is drawn too; failed runs are dotted and
    end in a cross.
    """
    if records.runs["from_scratch"].all():
        raise NothingToDraw("every run is from scratch")
    return _learning_curves(learning(cloned(records)), "the sample-efficiency figures of DPPO and NCDPO")


def from_scratch(records: Records) -> Drawing:
    """The same of randomly initialised policies."""
    own = records.select(records.runs[records.runs["from_scratch"]])
    if not len(own.curves):
        raise NothingToDraw("no run is from scratch")
    return _learning_curves(learning(own), "the comparisons from scratch of DPPO (appendix) and NCDPO")


def _learning_curves(records: Records, paper: str) -> Drawing:
    panels = panels_of(records)
    columns = min(COLUMNS, len(panels), max(2, len({task for task, _ in panels})))
    figure, axes = grid_of(len(panels), columns)
    look = looks(records)
    demos = _demonstrations(records)
    crowded = len(look) > MANY
    bases: list[list[tuple[str, float]]] = []
    for i, (axis, (task, steps)) in enumerate(zip(axes, panels, strict=True)):
        bases.append([])
        for experiment, own in records.experiments():
            k = experiment["denoising_steps"]
            if experiment["task"] == task and (pd.isna(k) or k == steps):
                name = experiment_name(experiment)
                _curves(axis, own, name, look, crowded=crowded)
                bases[-1] += [] if name in others(look) else [(name, _base(own))]
        axis.set_title(task if steps is None else f"{task}, K = {steps}")
        axis.set_xlabel("Simulated environment steps")
        if i % columns == 0:
            axis.set_ylabel("Mean evaluation return")
        steps_axis(axis)
        if task in demos:
            axis.axhline(demos[task], color=GREY, linewidth=1, linestyle=":", gid="demonstrations")
    _same_limits(axes, [task for task, _ in panels])
    based = sum(_bases(axis, own, look) for axis, own in zip(axes, bases, strict=True)) > 0
    sns.despine(figure)
    legend(figure, samples_of(look) + _legend_of_kinds(records, based, bool(demos)))
    what = "Lines: mean over finished seeds, as far as all of them have got"
    what += _of_many(look) if crowded else "; bands: its interval."
    if based:
        what += " Dashed: each method's own base policy, evaluated the same way before the first update."
    if demos:
        what += " Dotted grey: mean return of the demonstrations."
    if records.runs["denoising_steps"].isna().any() and not records.runs["denoising_steps"].isna().all():
        what += " Gaussian policies have a base of their own and no denoising steps."
    if (records.runs["status"] != "done").any():
        what += " Failed runs are dotted up to a cross, unfinished ones thin."
    text = caption(records, what, paper, intervals=not crowded)
    return figure, text


def _of_many(look: Look) -> str:
    named = len(look) - len(others(look))
    return f"; of {len(look)} settings the best {named} by their last evaluation are named, intervals are in the table."


def _demonstrations(records: Records) -> dict[str, float]:
    """Mean return of the demonstrations of each task, where its runs agree on it."""
    found: dict[str, set[float]] = {}
    for run in records.runs[~records.runs["from_scratch"]].to_dict("records"):
        value = (records.configs[run["run"]].get("provenance") or {}).get("demo_mean_return")
        if value is not None:
            found.setdefault(run["task"], set()).add(float(value))
    return {task: values.pop() for task, values in found.items() if len(values) == 1}


def _curves(axis: Axes, own: Records, name: str, look: Look, x: str = "env_steps", crowded: bool = False) -> None:
    """The runs of one experiment, their mean and its band; in a crowd, the mean alone."""
    kind = look[name]
    colour = kind["color"]
    runs = [
        (run["status"].iloc[0], f"{name}, seed {run['seed'].iloc[0]}", run[x].to_numpy(float), run["return_mean"])
        for _, run in own.curves.groupby("run", sort=True)
    ]
    if x.endswith("seconds"):  # as minutes, on a logarithmic axis
        runs = [(status, gid, at[at > 0] / 60, y[at > 0]) for status, gid, at, y in runs if (at > 0).any()]
    ended = [(at, y.to_numpy()) for status, _, at, y in runs if status == "done"]
    for status, gid, at, y in runs:
        if status == "failed":
            axis.plot(at, y, color=colour, linewidth=0.8, linestyle=":", gid=gid)
            axis.plot(at[-1:], y[-1:], color=colour, marker="x", markersize=4, clip_on=False, gid=gid)
        elif status != "done" or (len(ended) < FEW_SEEDS and not crowded):
            axis.plot(at, y, color=colour, linewidth=0.4, gid=gid)
    if not ended:
        return
    steps, mean, low, high = mean_curve(ended)
    if len(ended) >= LEAST_SEEDS and not crowded:
        axis.fill_between(steps, low, high, color=colour, alpha=0.12, linewidth=0, gid=name)
    over = 1 if name in others(look) else 3
    axis.plot(steps, mean, **kind, linewidth=0.5 if over == 1 else 1.6, gid=name, zorder=over)


def _base(own: Records) -> float:
    """The mean return of finished runs at zero updates; nan where it is not known."""
    return float(per_run(own).query("status == 'done'")["base"].mean())


def _bases(axis: Axes, bases: list[tuple[str, float]], look: Look) -> bool:
    """A dashed line at each experiment's base; where several lie together their dashes take turns."""
    levels = {(look[name]["color"], base): name for name, base in bases[::-1] if np.isfinite(base)}
    low, high = axis.get_ylim()
    groups: list[list[tuple[float, str, str]]] = []
    for base, colour, name in sorted((base, colour, name) for (colour, base), name in levels.items()):
        if groups and base - groups[-1][-1][0] < NEAR * (high - low):
            groups[-1].append((base, colour, name))
        else:
            groups.append([(base, colour, name)])
    for group in groups:
        by_colour = {colour: (base, name) for base, colour, name in group[::-1]}
        for i, (colour, (base, name)) in enumerate(by_colour.items()):
            dashes = (3.5 * i, (3.5, 3.5 * max(1, len(by_colour) - 1)))
            axis.axhline(base, color=colour, linewidth=1, linestyle=dashes, gid=name)
    return bool(levels)


def _same_limits(axes: list[Axes], tasks: list[str]) -> None:
    """Panels of one task share both axes, so that K can be compared by eye, and show every line as a whole."""
    for task in set(tasks):
        own = [axis for axis, its in zip(axes, tasks, strict=True) if its == task]
        lines = [line for axis in own for line in axis.lines]
        curves = (line for line in lines if line.get_gid() != "demonstrations")
        right = max((float(np.max(line.get_xdata())) for line in curves), default=1)
        for axis in own:
            limits_of_data(axis, np.concatenate([np.asarray(line.get_ydata(), float) for line in lines]))
            axis.set_xlim(0, 1.02 * right or 1)


def _legend_of_kinds(records: Records, based: bool, demos: bool) -> list[Line2D]:
    grey: dict[str, Any] = {"color": GREY}
    kinds = []
    if based:
        kinds.append(Line2D([], [], linestyle=(0, (3.5, 3.5)), linewidth=1, label="own base policy", **grey))
    if demos:
        kinds.append(Line2D([], [], linestyle=":", linewidth=1, label="demonstrations", **grey))
    if (records.runs["status"] == "failed").any():
        kinds.append(Line2D([], [], linestyle=":", linewidth=0.8, marker="x", markersize=4, label="failed run", **grey))
    return kinds


def curves_by_denoising_steps(records: Records) -> Drawing:
    """Learning curves, one panel for each task and method, one line for each K."""
    own = learning(finished(cloned(records)))
    chained = own.select(own.runs.dropna(subset="denoising_steps"))
    counts = chained.runs.groupby("task")["denoising_steps"].nunique()
    if counts.empty or counts.max() < 2:
        raise NothingToDraw("there is one number of denoising steps")
    every = sorted(map(int, chained.runs["denoising_steps"].unique()))
    look: Look = {
        f"K = {k}": {"color": shade, "linestyle": "solid"} for k, shade in zip(every, shades(len(every)), strict=True)
    }
    panels = list(dict.fromkeys((e["task"], experiment_name(e)) for e, _ in chained.experiments()))
    figure, axes = grid_of(len(panels))
    bases = []
    for i, (axis, panel) in enumerate(zip(axes, panels, strict=True)):
        mine = [
            (f"K = {e['denoising_steps']}", own)
            for e, own in chained.experiments()
            if panel == (e["task"], experiment_name(e))
        ]
        for name, runs in mine:
            _curves(axis, runs, name, look, crowded=True)
        axis.set_title(in_lines(", ".join(panel), 36), fontsize=7)
        axis.set_xlabel("Simulated environment steps")
        if i % COLUMNS == 0:
            axis.set_ylabel("Mean evaluation return")
        steps_axis(axis)
        bases.append([(name, _base(runs)) for name, runs in mine])
    _same_limits(axes, [task for task, _ in panels])
    for axis, its in zip(axes, bases, strict=True):
        _bases(axis, its, look)
    sns.despine(figure)
    legend(figure, samples_of(look))
    text = caption(
        chained, "Lines: mean over seeds; dashed: the base policy of that K.",
        "the curves per number of denoising steps of NCDPO", intervals=False,
    )  # fmt: skip
    return figure, text


def compute(records: Records) -> Drawing:
    """Return against CPU minutes (wall-clock where CPU time is unknown), and where the time went."""
    records = learning(cloned(records))
    spent = records.metrics.filter(like="time/").columns.intersection([f"time/{part}" for part in PARTS])
    clock = "cpu_seconds" if records.curves["cpu_seconds"].notna().all() else "wall_seconds"
    untimed = records.curves.loc[records.curves[clock].isna(), "run"]
    records = records.select(records.runs[~records.runs["run"].isin(untimed)])
    names = [(e, own) for e, own in finished(records).experiments()]
    times = records.curves.loc[records.curves[clock] > 0, clock] / 60
    if not names or times.empty:
        raise NothingToDraw("no finished run has times")
    panels = panels_of(records)
    bars = bool(len(spent)) and len(names) <= MANY
    figure, axes = grid_of(len(panels) + bars, 2)
    look = looks(records)
    for axis, (task, steps) in zip(axes, panels, strict=False):
        bases = []
        for experiment, own in records.experiments():
            k = experiment["denoising_steps"]
            if experiment["task"] == task and (pd.isna(k) or k == steps):
                name = experiment_name(experiment)
                _curves(axis, own, name, look, clock, crowded=len(look) > MANY)
                bases += [] if name in others(look) else [(name, _base(own))]
        axis.set(title=task if steps is None else f"{task}, K = {steps}", ylabel="Mean evaluation return")
        axis.set_xlabel(f"{'CPU' if clock == 'cpu_seconds' else 'Wall-clock'} minutes of a run")
        limits_of_data(axis, records.curves.loc[records.curves["task"] == task, "return_mean"].to_numpy(float))
        log_axis(axis, "x", times.min(), times.max())
        axis.set_xlim(0.9 * times.min(), 1.1 * times.max())
        _bases(axis, bases, look)
    if bars:
        _time_shares(axes[len(panels)], records, names, list(spent))
    sns.despine(figure)
    legend(figure, samples_of(look))
    what = "Curves: return against the time of the run's own process, evaluation included, on a logarithmic scale"
    what += _of_many(look) if len(look) > MANY else "; dashed: before the first update."
    if bars:
        what += " Bars: shares of act, simulate, update and evaluate in the recorded seconds."
    facts = (config.get("provenance") or {} for config in records.configs.values())
    machines = sorted({str((fact.get("hardware") or {}).get("cpu")) for fact in facts})
    what += f" Hardware: {', '.join(machines)}."
    text = caption(records, what, "the wall-clock comparison of DPPO", intervals=len(look) <= MANY)
    return figure, text


def _time_shares(axis: Axes, records: Records, names: list[tuple[dict[str, Any], Records]], spent: list[str]) -> None:
    several = len({experiment["task"] for experiment, _ in names}) > 1
    labels = [f"{e['task'].split('-')[0]} " * several + label(e, records, 26) for e, _ in names]
    table = pd.DataFrame([own.metrics[spent].sum() for _, own in names])
    table = 100 * table.div(table.sum(axis=1), axis=0).fillna(0)
    left = np.zeros(len(table))
    for column in spent:
        part = column.removeprefix("time/")
        axis.barh(range(len(labels)), table[column], left=left, color=PARTS[part], label=part, height=0.7)
        left += table[column].to_numpy()
    axis.set_yticks(range(len(labels)), labels, fontsize=SMALL)
    axis.invert_yaxis()
    axis.set(xlabel="Share of the time, %", xlim=(0, 100), title="Where the time went")
    below: dict[str, Any] = {"loc": "upper center", "bbox_to_anchor": (0.5, -0.18), "ncols": 4}
    axis.legend(fontsize=SMALL, frameon=False, handlelength=1, columnspacing=0.8, **below)

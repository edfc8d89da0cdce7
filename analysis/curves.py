"""Figures of curves: returns against simulated steps, and against time."""

from typing import Any

import numpy as np
import pandas as pd
import seaborn as sns
from matplotlib.axes import Axes
from matplotlib.lines import Line2D
from matplotlib.ticker import SymmetricalLogLocator

from dpft.analysis.captions import Drawing, NothingToDraw, caption, cloned, finished, label, learning, panels_of
from dpft.analysis.load import Records, experiment_name
from dpft.analysis.statistics import FEW_SEEDS, mean_curve, per_run
from dpft.analysis.style import COLUMNS, GREY, MANY, grid_of, legend, looks, samples_of, steps_axis

PARTS = {"act": "#56B4E9", "simulate": "#999999", "update": "#D55E00", "evaluate": "#F0E442"}


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
    figure, axes = grid_of(len(panels), min(COLUMNS, max(2, len({task for task, _ in panels}))))
    look = looks(records)
    demos = _demonstrations(records)
    for axis, (task, steps) in zip(axes, panels, strict=True):
        for experiment, own in records.experiments():
            k = experiment["denoising_steps"]
            if experiment["task"] == task and (pd.isna(k) or k == steps):
                _curves(axis, own, look[experiment_name(experiment)], look)
        if task in demos:
            axis.axhline(demos[task], color=GREY, linewidth=0.9, linestyle=":")
        axis.set_title(task if steps is None else f"{task}, K = {steps}")
        axis.set(xlabel="Simulated environment steps", ylabel="Mean evaluation return")
        steps_axis(axis)
    _same_limits(dict(zip(panels, axes, strict=True)), records.curves)
    sns.despine(figure)
    legend(figure, samples_of(look) + _legend_of_kinds(records, bool(demos)))
    crowded = len(look) > MANY
    what = "Lines: mean over finished seeds, as far as all of them have got"
    what += f"; of {len(look)} settings, intervals are in the table alone." if crowded else "; bands: its interval."
    if not records.runs["from_scratch"].all():
        what += " Dashed: each method's own base policy, evaluated the same way before the first update."
    if demos:
        what += " Dotted grey: mean return of the demonstrations."
    if records.runs["denoising_steps"].isna().any() and not records.runs["denoising_steps"].isna().all():
        what += " Gaussian policies have a base of their own and no denoising steps."
    if (records.runs["status"] != "done").any():
        what += " Failed runs are dotted up to a cross, unfinished ones thin."
    text = caption(records, what, paper, intervals=not crowded)
    return figure, text


def _demonstrations(records: Records) -> dict[str, float]:
    """Mean return of the demonstrations of each task, where its runs agree on it."""
    found: dict[str, set[float]] = {}
    for run in records.runs[~records.runs["from_scratch"]].to_dict("records"):
        value = (records.configs[run["run"]].get("provenance") or {}).get("demo_mean_return")
        if value is not None:
            found.setdefault(run["task"], set()).add(float(value))
    return {task: values.pop() for task, values in found.items() if len(values) == 1}


def _curves(
    axis: Axes, own: Records, kind: dict[str, Any], look: dict[str, dict[str, Any]], x: str = "env_steps"
) -> None:
    """The runs of one experiment, their mean and its band, and their base; among many, the mean and the base alone."""
    crowded = len(look) > MANY
    scale = 1 / 60 if x.endswith("seconds") else 1.0
    runs = [
        (run["status"].iloc[0], scale * run[x].to_numpy(float), run["return_mean"].to_numpy())
        for _, run in own.curves.groupby("run", sort=True)
    ]
    ended = [(x, y) for status, x, y in runs if status == "done"]
    for status, steps, y in runs:
        if status == "failed":
            axis.plot(steps, y, color=kind["color"], linewidth=0.8, linestyle=":", alpha=0.8)
            axis.plot(steps[-1:], y[-1:], color=kind["color"], marker="x", markersize=4, clip_on=False)
        elif status != "done" or (len(ended) < FEW_SEEDS and not crowded):
            axis.plot(steps, y, color=kind["color"], linewidth=0.5, alpha=0.45)
    if not ended:
        return
    steps, mean, low, high = mean_curve(ended)
    if len(ended) > 1 and not crowded:
        axis.fill_between(steps, low, high, color=kind["color"], alpha=0.1, linewidth=0)
    look_of_mean = {"color": kind["color"], "linewidth": 0.9} if crowded else kind | {"linewidth": 1.6}
    axis.plot(steps, mean, **look_of_mean)
    base = per_run(own).query("status == 'done'")["base"].mean()
    if not pd.isna(base):  # every other colour's dashes are shifted, so that equal bases stay visible
        shades = list(dict.fromkeys(each["color"] for each in look.values()))
        shift = 4 * shades.index(kind["color"])
        axis.axhline(base, color=kind["color"], linewidth=0.9, linestyle=(shift, (4, 4)), alpha=0.85)


def _same_limits(axes: dict[tuple[str, Any], Axes], curves: pd.DataFrame) -> None:
    """Panels of one task share both axes, so that numbers of denoising steps can be compared by eye."""
    for task, own_curves in curves.groupby("task"):
        own = [axis for (name, _), axis in axes.items() if name == task]
        returns, right = own_curves["return_mean"], own_curves["env_steps"].max()
        # bands of few seeds reach far beyond every run
        margin = 0.12 * (returns.max() - returns.min()) or 1.0
        for axis in own:
            axis.set(ylim=(returns.min() - margin, returns.max() + margin), xlim=(0, 1.02 * right or 1))


def _legend_of_kinds(records: Records, demos: bool) -> list[Line2D]:
    grey: dict[str, Any] = {"color": GREY}
    kinds = []
    if not records.runs["from_scratch"].all():
        kinds.append(Line2D([], [], linestyle=(0, (3, 2)), linewidth=0.9, label="own base policy", **grey))
    if demos:
        kinds.append(Line2D([], [], linestyle=":", linewidth=0.9, label="demonstrations", **grey))
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
    shades = dict(zip(every, sns.color_palette("viridis", len(every)), strict=True))
    panels = sorted({(e["task"], experiment_name(e)) for e, _ in chained.experiments()})
    figure, axes = grid_of(len(panels))
    for axis, panel in zip(axes, panels, strict=True):
        for experiment, mine in chained.experiments():
            if (experiment["task"], experiment_name(experiment)) == panel:
                kind = {"color": shades[int(experiment["denoising_steps"])]}
                _curves(axis, mine, kind, {"": kind})
        axis.set_title(", ".join(panel), fontsize=7.5)
        axis.set(xlabel="Simulated environment steps", ylabel="Mean evaluation return")
        steps_axis(axis)
    sns.despine(figure)
    legend(figure, [Line2D([], [], color=shade, label=f"K = {k}") for k, shade in shades.items()])
    text = caption(
        chained, "Lines: mean over seeds; bands: its interval; dashed: the base policy of that K.",
        "the curves per number of denoising steps of NCDPO",
    )  # fmt: skip
    return figure, text


def compute(records: Records) -> Drawing:
    """Return against CPU minutes (wall-clock where CPU time is unknown), and where the time went."""
    records = learning(cloned(records))
    spent = records.metrics.filter(like="time/").columns.intersection([f"time/{part}" for part in PARTS])
    clock = "cpu_seconds" if records.curves["cpu_seconds"].notna().all() else "wall_seconds"
    untimed = records.curves.loc[records.curves[clock].isna(), "run"]
    records = records.select(records.runs[~records.runs["run"].isin(untimed)])
    tasks = sorted(records.curves["task"].unique())
    names = [(e, own) for e, own in finished(records).experiments()]
    if not names:
        raise NothingToDraw("no finished run has times")
    bars = bool(len(spent)) and len(names) <= MANY
    figure, axes = grid_of(len(tasks) + bars, 2 if len(tasks) + bars < 4 else COLUMNS)
    look = looks(records)
    for axis, task in zip(axes, tasks, strict=False):
        for experiment, own in records.experiments():
            if experiment["task"] == task:
                _curves(axis, own, look[experiment_name(experiment)], look, clock)
        returns = records.curves.loc[records.curves["task"] == task, "return_mean"]
        margin = 0.12 * (returns.max() - returns.min()) or 1.0
        axis.set(xlabel=f"{'CPU' if clock == 'cpu_seconds' else 'Wall-clock'} minutes of a run", title=task)
        axis.set(ylabel="Mean evaluation return", ylim=(returns.min() - margin, returns.max() + margin))
        axis.set_xscale("symlog", linthresh=1)
        axis.xaxis.set_major_locator(SymmetricalLogLocator(base=10, linthresh=1, subs=[1, 2, 5]))
        axis.xaxis.set_major_formatter(lambda value, _: f"{value:g}")
        axis.set_xlim(0, None)
    if bars:
        _time_shares(axes[len(tasks)], records, names, list(spent))
    sns.despine(figure)
    legend(figure, samples_of(look))
    what = (
        "Curves: return against the time of the run's own process, evaluation included (a linear scale up "
        "to one minute, then a logarithmic one)."
    )
    if bars:
        what += " Bars: shares of act, simulate, update and evaluate in the recorded seconds."
    machines = sorted(
        {str((c.get("provenance") or {}).get("hardware", {}).get("cpu")) for c in records.configs.values()}
    )
    what += f" Hardware: {', '.join(machines)}."
    text = caption(records, what, "the wall-clock comparison of DPPO", intervals=len(look) <= MANY)
    return figure, text


def _time_shares(axis: Axes, records: Records, names: list, spent: list[str]) -> None:
    labels, rows = [], []
    for experiment, own in names:
        labels.append(f"{experiment['task'].split('-')[0]} {label(experiment, 30)}")
        rows.append(own.metrics[spent].sum())
    table = pd.DataFrame(rows)
    table = 100 * table.div(table.sum(axis=1), axis=0).fillna(0)
    left = np.zeros(len(table))
    for column in spent:
        part = column.removeprefix("time/")
        axis.barh(range(len(labels)), table[column], left=left, color=PARTS[part], label=part, height=0.7)
        left += table[column].to_numpy()
    axis.set_yticks(range(len(labels)), labels, fontsize=5.5)
    axis.invert_yaxis()
    axis.set(xlabel="Share of the time, %", xlim=(0, 100), title="Where the time went")
    axis.legend(ncols=4, fontsize=5.5, frameon=False, loc="upper center", bbox_to_anchor=(0.5, -0.22), handlelength=1)

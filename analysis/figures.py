"""Figures: each is one function from records to a matplotlib figure and its caption, listed in FIGURES."""

import textwrap
from collections.abc import Callable, Iterable, Sequence
from itertools import combinations
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import seaborn as sns
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from analysis.load import NAMES, RecordError, Records, experiment_name, read_chains
from analysis.statistics import (
    FEW_SEEDS,
    Estimate,
    estimate,
    iqm,
    mean_curve,
    optimality_gap,
    per_run,
    performance_profile,
    probability_of_improvement,
    steps_to,
    stratified_bootstrap,
)
from analysis.style import (
    COLUMNS,
    GREY,
    MANY,
    PANEL,
    canvas,
    colours,
    grid_of,
    legend,
    looks,
    samples_of,
    steps_axis,
)

PARTS = {"act": "#56B4E9", "simulate": "#999999", "update": "#D55E00", "evaluate": "#F0E442"}
LEVELS = (50, 75, 90)  # per cent of the D4RL-scaled return
METRICS = {
    "loss/policy": "Policy loss",
    "loss/value": "Value loss",
    "loss/critic": "Critic loss",
    "policy/kl": "KL estimate, nats",
    "policy/clip_fraction": "Clip fraction",
    "policy/gradient_norm": "Gradient norm",
    "policy/std": "Deviation of the final Gaussian",
    "value/explained_variance": "Explained variance",
    "policy/entropy": "Entropy of the noise, nats",
    "policy/temperature": "Temperature",
    "loss/distillation": "Distillation loss",
}
LOGARITHMIC = ("loss/value", "loss/critic", "loss/distillation", "policy/gradient_norm", "policy/temperature")
EPISODES = 30  # probes whose chains are drawn
Drawing = tuple[Figure, str]


class NothingToDraw(Exception):
    """Why a figure cannot be drawn of these records."""


# -- what captions have in common -------------------------------------------------------------------------------------


def caption(records: Records, what: str, paper: str = "", means: bool = True) -> str:
    """What a figure shows, then task, seeds, interval and protocol (of means), and failures, as one paragraph."""
    runs = records.runs
    text = [f"{title[0].upper()}{title[1:].rstrip('.')}." for title in records.captions]
    chain = ", ".join(str(k) for k in sorted(runs["denoising_steps"].dropna().unique()))
    text.append(f"{', '.join(sorted(runs['task'].unique()))}{f', K = {chain} denoising steps' if chain else ''}.")
    text.append(what)
    if means:
        text += [seeds_and_interval(records), protocol(records)]
    if failed := int((runs["status"] == "failed").sum()):
        text.append(f"{failed} of {len(runs)} runs failed and are in no mean.")
    if unfinished := int((runs["status"] == "unfinished").sum()):
        text.append(f"{unfinished} of {len(runs)} runs are unfinished and in no mean.")
    if paper:
        text.append(f"Corresponds to {paper}.")
    return " ".join(part for part in text if part)


def protocol(records: Records) -> str:
    runs = records.runs
    episodes = " or ".join(str(n) for n in sorted(runs["eval_episodes"].dropna().unique()))
    text = f"Evaluation: mean return of {episodes} complete episodes, whose steps are not counted."
    bases = runs[(runs["status"] == "done") & ~runs["from_scratch"]].dropna(subset="base_seed")
    if len(bases) and (bases.groupby(["task", "method", "variant"])["base_seed"].nunique() == 1).all():
        text += " Intervals cover fine-tuning only: seeds share one base policy."
    return text


def seeds_and_interval(records: Records) -> str:
    groups = (own.runs.groupby("value")["status"] for _, own in records.experiments())
    counts = [int((status == "done").sum()) for group in groups for _, status in group]
    seeds = f"{min(counts)}" if min(counts) == max(counts) else f"{min(counts)} to {max(counts)}"
    few = f"Student's t under {FEW_SEEDS} seeds, where every seed is shown"
    many = "percentile bootstrap over seeds"
    kind = many if min(counts) >= FEW_SEEDS else few if max(counts) < FEW_SEEDS else f"{few}; {many} from there"
    return f"Seeds: {seeds} per method; intervals: 95 %, {kind}."


def finished(records: Records) -> Records:
    return records.select(records.runs[records.runs["status"] == "done"])


def cloned(records: Records) -> Records:
    """Without the runs from scratch, which have a figure of their own; all of them where there are no others."""
    own = records.select(records.runs[~records.runs["from_scratch"]])
    return own if len(own.curves) else records


def learning(records: Records) -> Records:
    """The runs that were evaluated more than once. Raises NothingToDraw where there are none."""
    counts = records.curves["run"].value_counts()
    own = records.select(records.runs[records.runs["run"].map(counts) > 1])
    if not len(own.runs):
        raise NothingToDraw("no run was evaluated more than once")
    return own


def label(experiment: dict[str, Any], width: int = 44) -> str:
    """An experiment's name with its K, short enough for an axis."""
    k = experiment["denoising_steps"]
    return textwrap.shorten(experiment_name(experiment) + ("" if pd.isna(k) else f", K = {k}"), width, placeholder=" …")


# -- 1, 3: sample efficiency ------------------------------------------------------------------------------------------


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
    panels = _panels(records)
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
    what = "Lines: mean over finished seeds, as far as all of them have got; bands: its interval."
    if not records.runs["from_scratch"].all():
        what += " Dashed: each method's own base policy, evaluated the same way before the first update."
    if demos:
        what += " Dotted grey: mean return of the demonstrations."
    if records.runs["denoising_steps"].isna().any() and not records.runs["denoising_steps"].isna().all():
        what += " Gaussian policies have a base of their own and no denoising steps."
    if (records.runs["status"] != "done").any():
        what += " Failed runs are dotted up to a cross, unfinished ones thin."
    text = caption(records, what, paper)
    return figure, text


def _panels(records: Records) -> list[tuple[str, Any]]:
    """(task, K) of each panel; policies without a chain are drawn in all panels of their task."""
    pairs = records.runs[["task", "denoising_steps"]].drop_duplicates()
    chained = pairs.dropna().sort_values(["denoising_steps", "task"])
    alone = sorted(set(pairs["task"]) - set(chained["task"]))
    return [*chained.itertuples(index=False, name=None), *((task, None) for task in alone)]


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
    """The runs of one experiment, their mean and its band, and their base."""
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
        elif status != "done" or len(ended) < FEW_SEEDS:
            axis.plot(steps, y, color=kind["color"], linewidth=0.5, alpha=0.45)
    if not ended:
        return
    steps, mean, low, high = mean_curve(ended)
    if len(ended) > 1:
        axis.fill_between(steps, low, high, color=kind["color"], alpha=0.1, linewidth=0)
    axis.plot(steps, mean, **kind, linewidth=1.6)
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


# -- 2: denoising steps -----------------------------------------------------------------------------------------------


def denoising_steps(records: Records) -> Drawing:
    """Final return and mean return along the run against K, a row of two panels for each task."""
    own = finished(cloned(records))
    chained = own.runs.dropna(subset="denoising_steps")
    if chained.groupby("task")["denoising_steps"].nunique().max() < 2 or chained.empty:
        raise NothingToDraw("there is one number of denoising steps")
    tasks = sorted(chained["task"].unique())
    figure, axes = canvas(len(tasks), 2)
    scores, look = _named(per_run(own)), looks(own.select(chained))
    for row, task in zip(axes, tasks, strict=True):
        for axis, (column, label) in zip(
            row, {"final": "Final return", "area": "Mean return along the run"}.items(), strict=True
        ):
            mine = scores[scores["task"] == task]
            for i, (name, kind) in enumerate(look.items()):
                groups = [(float(k), part[column]) for k, part in mine[mine["name"] == name].groupby("denoising_steps")]
                _points(axis, groups, kind, shift=1.02 ** (i - len(look) / 2))
            alone = mine[mine["denoising_steps"].isna()]
            for method, part in alone.groupby("method"):
                colour = colours([str(method)])[str(method)]
                axis.axhline(
                    part[column].mean(), color=colour, linewidth=1, linestyle="-.", label=NAMES.get(str(method))
                )
            axis.set(xscale="log", xlabel="Denoising steps K", ylabel=label, title=task)
            ticks = sorted(chained.loc[chained["task"] == task, "denoising_steps"].unique())
            axis.set_xticks(ticks, [str(k) for k in ticks])
            axis.minorticks_off()
    sns.despine(figure)
    legend(figure, samples_of(look))
    what = (
        "Dots: mean over seeds of the last evaluation (left) and of the area under the curve divided by its steps "
        "(right)."
    )
    if own.runs["denoising_steps"].isna().any():
        what += " Dash-dotted: policies without a chain."
    text = caption(records, what, "the ablations over denoising steps of NCDPO and DPPO")
    return figure, text


def _named(scores: pd.DataFrame) -> pd.DataFrame:
    """With the name of each run's experiment."""
    return scores.assign(
        name=[experiment_name({str(k): v for k, v in run.items()}) for run in scores.to_dict("records")]
    )


def _points(axis: Axes, groups: Sequence[tuple[float, pd.Series]], kind: dict[str, Any], shift: float = 1.0) -> None:
    """Means with their intervals, joined; each seed as well where there are few."""
    if not groups:
        return
    x = np.array([at for at, _ in groups]) * shift
    found = [estimate(values) for _, values in groups]
    axis.plot(x, [e.mean for e in found], marker="o", markersize=4, linewidth=1.2, **kind)
    for at, e, (_, values) in zip(x, found, groups, strict=True):
        axis.plot([at, at], [e.low, e.high], color=kind["color"], linewidth=1, alpha=0.5)
        if len(values) < FEW_SEEDS:
            axis.plot([at] * len(values), values, "_", color=kind["color"], markersize=5, alpha=0.7)


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


# -- 4: time ----------------------------------------------------------------------------------------------------------


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
    text = caption(records, what, "the wall-clock comparison of DPPO")
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


# -- 5: aggregates over tasks -----------------------------------------------------------------------------------------


def aggregates(records: Records) -> Drawing:
    """IQM, optimality gap, performance profiles and probability of improvement over tasks (Agarwal et al. 2021).

    Scores are D4RL-scaled returns of the last evaluation, 1 being D4RL's expert; a method is compared where it has
    finished runs on every task.
    """
    records = cloned(records)
    scores, tasks = _scores(records)
    if len(tasks) < 2 or len(scores) < 2:
        raise NothingToDraw("it takes two tasks and two methods that have finished runs on all of them")
    rng = np.random.default_rng(0)
    look = {name: kind for name, kind in looks(records).items() if name in {n.split(", K")[0] for n in scores}}
    shades = {name: look[name.split(", K")[0]]["color"] for name in scores}
    # of different K, too many to read
    pairs = [(a, b) for a, b in combinations(scores, 2) if len({n.partition(", K = ")[2] for n in (a, b)} - {""}) < 2]
    figure, axes = canvas(2, 2, panel=(PANEL[0], max(PANEL[1], 0.11 * len(pairs))))
    for axis, (title, statistic) in zip(axes[0], {"IQM": iqm, "Optimality gap": optimality_gap}.items(), strict=True):
        for i, (name, own) in enumerate(scores.items()):
            low, high = stratified_bootstrap(statistic, own, rng=rng)
            axis.plot([low, high], [i, i], color=shades[name], linewidth=5, alpha=0.35, solid_capstyle="butt")
            axis.plot(statistic(own), i, "|", color=shades[name], markersize=9, markeredgewidth=2)
        axis.set_yticks(range(len(scores)), list(scores), fontsize=6)
        axis.invert_yaxis()
        axis.set(title=title, xlabel="D4RL-scaled return, 1 = expert")
    at = np.linspace(0, max(1.2, max(float(np.concatenate(own).max()) for own in scores.values())), 61)
    for name, own in scores.items():
        low, high = stratified_bootstrap(lambda s: performance_profile(s, at), own, rng=rng)
        axes[1, 0].plot(at, performance_profile(own, at), color=shades[name])
        axes[1, 0].fill_between(at, low, high, color=shades[name], alpha=0.15, linewidth=0)
    axes[1, 0].set(
        title="Performance profile", xlabel="D4RL-scaled return", ylabel="Share of runs above", ylim=(0, 1.02)
    )
    for i, (first, second) in enumerate(pairs):
        both = scores[first], scores[second]
        low, high = stratified_bootstrap(probability_of_improvement, *both, rng=rng)
        axes[1, 1].plot([low, high], [i, i], color=shades[first], linewidth=5, alpha=0.35, solid_capstyle="butt")
        axes[1, 1].plot(probability_of_improvement(*both), i, "|", color=shades[first], markersize=9, markeredgewidth=2)
    axes[1, 1].axvline(0.5, color=GREY, linewidth=0.8, linestyle=":")
    axes[1, 1].set_yticks(range(len(pairs)), [_pair(a, b) for a, b in pairs], fontsize=5.5)
    axes[1, 1].invert_yaxis()
    axes[1, 1].set(title="Probability of improvement", xlabel="P(first > second)", xlim=(0, 1))
    sns.despine(figure)
    what = (
        f"Last evaluations over {len(tasks)} tasks, D4RL-scaled on v5 dynamics. Bars and bands: 95 % stratified "
        "bootstrap over "
        "seeds within each task (Agarwal et al. 2021); with few seeds such intervals are too narrow. Optimality gap: "
        "lower is better."
    )
    text = caption(records, f"{what} {protocol(records)}", "the aggregate figures that rliable draws", means=False)
    return figure, text


def _pair(first: str, second: str) -> str:
    (a, k), (b, other) = (name.split(", K = ") if ", K = " in name else (name, "") for name in (first, second))
    return f"{a} > {b}" + (f" (K = {k or other})" if k or other else "")


def _scores(records: Records) -> tuple[dict[str, list[np.ndarray]], list[str]]:
    """Name (with K) -> one array of scaled final returns per task, of what has runs on every task."""
    table = per_run(finished(records)).dropna(subset="normalised")
    tasks = sorted(table["task"].unique())
    found: dict[str, dict[str, np.ndarray]] = {}
    for experiment, _ in records.experiments():
        k = experiment["denoising_steps"]
        same = (table["method"] == experiment["method"]) & (table["variant"] == experiment["variant"])
        same &= table["denoising_steps"].isna() if pd.isna(k) else table["denoising_steps"] == k
        own = table[same & (table["task"] == experiment["task"])]
        if len(own):
            name = experiment_name(experiment) + ("" if pd.isna(k) else f", K = {k}")
            found.setdefault(name, {})[experiment["task"]] = own["normalised"].to_numpy(float) / 100
    return {name: [own[task] for task in tasks] for name, own in found.items() if set(own) == set(tasks)}, tasks


# -- 6: steps to a threshold ------------------------------------------------------------------------------------------


def steps_to_threshold(records: Records) -> Drawing:
    """Simulated steps until a run's evaluations reach LEVELS per cent of D4RL's expert; hollow where it never does."""
    own = learning(finished(records))
    known = own.curves.dropna(subset="return_normalised")
    if known.empty:
        raise NothingToDraw("no finished run has a scaled return")
    tasks = sorted(known["task"].unique())
    look = looks(own)
    rows = {task: [(e, mine) for e, mine in own.experiments() if e["task"] == task] for task in tasks}
    tallest = max(map(len, rows.values()))
    if tallest > 2 * MANY:
        raise NothingToDraw(f"more than {2 * MANY} experiments on a task")
    figure, axes = canvas(len(tasks), len(LEVELS), panel=(PANEL[0] * 0.8, 1.0 + 0.16 * tallest), sharey="row")
    censored = 0
    for line, task in zip(axes, tasks, strict=True):
        names = []
        for i, (experiment, mine) in enumerate(rows[task]):
            names.append(label(experiment))
            colour = look[experiment_name(experiment)]["color"]
            for _, run in mine.curves.dropna(subset="return_normalised").groupby("run", sort=True):
                steps, scaled = run["env_steps"].to_numpy(float), run["return_normalised"].to_numpy(float)
                for axis, level in zip(line, LEVELS, strict=True):
                    reached = steps_to(level, steps, scaled)
                    never = np.isinf(reached)
                    censored += int(never)
                    axis.plot(
                        steps[-1] if never else reached, i, ">" if never else "o", color=colour, markersize=4,
                        fillstyle="none" if never else "full", alpha=0.9,
                    )  # fmt: skip
        for axis, level in zip(line, LEVELS, strict=True):
            axis.set_title(f"{task.split('-')[0]}: {level} %")
            axis.set_xlabel("Simulated steps")
            axis.margins(y=0.15)
            steps_axis(axis)
            axis.set_xlim(0, None)
        line[0].set_yticks(range(len(names)), names, fontsize=6)
        line[0].set_ylim(len(names) - 0.5, -0.5)
    sns.despine(figure)
    levels = ", ".join(map(str, LEVELS))
    what = (
        f"Dots: each seed's first evaluation (interpolated) at {levels} % of D4RL's expert, random being 0 %. Hollow "
        "triangles: "
        f"never within the run, at its last step ({censored} of "
        f"{len(LEVELS) * own.runs['run'].isin(known['run']).sum()} cases): "
        "censored, not missing."
    )
    text = caption(records, f"{what} {protocol(records)}", means=False)
    return figure, text


# -- 7: diagnostics ---------------------------------------------------------------------------------------------------


def diagnostics(records: Records) -> Drawing:
    """Metrics of every run along its steps, a panel for each metric."""
    there = [name for name in METRICS if name in records.metrics and records.metrics[name].notna().any()]
    if not there:
        raise NothingToDraw("no run has metrics")
    figure, axes = grid_of(len(there))
    look = looks(records)
    kinds = {run: look[experiment_name(e)] for e, own in records.experiments() for run in own.runs["run"]}
    for axis, name in zip(axes, there, strict=True):
        for run, rows in records.metrics.dropna(subset=name).groupby("run", sort=True):
            axis.plot(rows["env_steps"], rows[name], color=kinds[str(run)]["color"], linewidth=0.6, alpha=0.7)
        axis.set(title=METRICS[name], xlabel="Simulated environment steps")
        if name in LOGARITHMIC:
            axis.set_yscale("log")
        elif name == "loss/policy":  # a surrogate near 0, or minus a value
            axis.set_yscale("symlog", linthresh=0.1)
        else:
            known = records.metrics[name].dropna()
            low, high = known.quantile([0.002, 0.998])  # one outlier would flatten every other line
            axis.set_ylim(low - 0.08 * (high - low) - 1e-9, high + 0.08 * (high - low) + 1e-9)
        steps_axis(axis, y=False)
    sns.despine(figure)
    legend(figure, samples_of(look))
    what = (
        "One line a run; axes leave out the 0.2 % most extreme values at either end. Metrics differ in meaning "
        "between methods: methods/NAME.md."
    )
    text = caption(records, what, means=False)
    return figure, text


def chains(records: Records) -> Drawing:
    """Paths of the denoising chain in the first two dimensions of the first action, before and after fine-tuning.

    The same observations and noise in both; the first finished run of each experiment whose chain has such dimensions.
    """
    rows: list[tuple[str, str, np.ndarray, np.ndarray]] = []
    for experiment, own in finished(records).experiments():
        run = own.runs.sort_values("seed")["run"].iloc[0]
        try:
            before, after = read_chains(Path(run))
        except RecordError:
            continue  # published records may do without
        if before.shape[1] > 1 and before.shape[3] > 1:
            rows.append((f"{experiment['task']}, {label(experiment)}", experiment["method"], before, after))
    rows = rows[:MANY]
    if not rows:
        raise NothingToDraw("no finished run has chains.npz of a chain")
    figure, axes = canvas(len(rows), 2, panel=(2.4, 2.1))
    for line, (title, method, before, after) in zip(axes, rows, strict=True):
        for axis, points, when in ((line[0], before, "before"), (line[1], after, "after")):
            paths = points[:EPISODES, :, 0, :2]
            axis.plot(paths[..., 0].T, paths[..., 1].T, color=GREY, linewidth=0.4, alpha=0.5)
            axis.plot(paths[:, 0, 0], paths[:, 0, 1], ".", color=GREY, markersize=2)
            axis.plot(paths[:, -1, 0], paths[:, -1, 1], "o", color=colours([method])[method], markersize=2.5)
            axis.set_title(f"{title}: {when}", fontsize=6.5)
            axis.set(xlabel="first action, dimension 1", ylabel="dimension 2", xlim=(-2.6, 2.6), ylim=(-2.6, 2.6))
            axis.add_patch(_box())
    sns.despine(figure)
    what = (
        f"Grey: paths of the first action from noise (dots) to chunk (coloured), normalised units, {EPISODES} of the "
        "64 stored "
        "observations under the same noise; the square is the range of actions. One seed each."
    )
    text = caption(records, what, "the visualisations of denoising paths in DPPO", means=False)
    return figure, text


def _box() -> Any:
    from matplotlib.patches import Rectangle

    return Rectangle((-1, -1), 2, 2, fill=False, edgecolor=GREY, linewidth=0.7)


# -- 8: ablations -----------------------------------------------------------------------------------------------------


def ablation(records: Records, field: str) -> Drawing:
    """Final return against a config field's values (analysis.load.load with ablate), a panel for each task and K."""
    own = finished(records)
    scores = _named(per_run(own))
    values = _ordered(scores["value"].unique())
    if len(values) < 2:
        raise NothingToDraw(f"{field} has one value in all finished runs")
    panels = _panels(own)
    figure, axes = grid_of(len(panels))
    look = looks(own)
    for axis, (task, k) in zip(axes, panels, strict=True):
        for i, (name, kind) in enumerate(look.items()):
            mine = scores[(scores["task"] == task) & (scores["name"] == name)]
            mine = mine[mine["denoising_steps"].isna() | (mine["denoising_steps"] == k)]
            groups = [(values.index(value), mine.loc[mine["value"] == value, "final"]) for value in values]
            shift = min(0.08, 0.6 / len(look)) * (i - (len(look) - 1) / 2)
            _points(axis, [(at + shift, found) for at, found in groups if len(found)], kind)
        axis.set_xticks(range(len(values)), values)
        axis.set(title=task if k is None else f"{task}, K = {k}", xlabel=field, ylabel="Final return")
    sns.despine(figure)
    legend(figure, samples_of(look))
    text = caption(
        records, f"Dots: mean over seeds of the last evaluation for each value of {field}; bars: its interval."
    )
    return figure, text


def _ordered(values: Iterable[str]) -> list[str]:
    def key(value: str) -> tuple[bool, float, str]:
        try:
            return False, float(value), value
        except ValueError:
            return True, 0.0, value

    return sorted(values, key=key)


FIGURES: dict[str, Callable[[Records], Drawing]] = {
    "sample_efficiency": sample_efficiency,
    "from_scratch": from_scratch,
    "denoising_steps": denoising_steps,
    "curves_by_denoising_steps": curves_by_denoising_steps,
    "compute": compute,
    "aggregates": aggregates,
    "steps_to_threshold": steps_to_threshold,
    "diagnostics": diagnostics,
    "chains": chains,
}
__all__ = ["FIGURES", "PANEL", "Drawing", "Estimate", "NothingToDraw", "ablation", "caption"]

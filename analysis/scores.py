"""Figures of scores: one number a run, against denoising steps, tasks, thresholds or a config field."""

from collections.abc import Sequence
from itertools import combinations
from typing import Any

import numpy as np
import pandas as pd
import seaborn as sns
from matplotlib.axes import Axes

from dpft.analysis.captions import (
    Drawing,
    NothingToDraw,
    caption,
    cloned,
    finished,
    in_lines,
    label,
    learning,
    name_with_k,
    panels_of,
    protocol,
)
from dpft.analysis.load import NAMES, Records, experiment_name, ordered
from dpft.analysis.statistics import (
    FEW_SEEDS,
    estimate,
    iqm,
    optimality_gap,
    per_run,
    performance_profile,
    probability_of_improvement,
    steps_to,
    stratified_bootstrap,
)
from dpft.analysis.style import GREY, MANY, PANEL, canvas, colours, grid_of, legend, looks, samples_of, steps_axis

LEVELS = (50, 75, 90)  # per cent of the D4RL-scaled return


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
        for axis, (column, title) in zip(
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
            axis.set(xscale="log", xlabel="Denoising steps K", ylabel=title, title=task)
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
    look = looks(records)
    kinds = {name: look[name.split(", K")[0]] for name in scores}
    shades = {name: kind["color"] for name, kind in kinds.items()}
    # of different K, too many to read
    pairs = [(a, b) for a, b in combinations(scores, 2) if len({n.partition(", K = ")[2] for n in (a, b)} - {""}) < 2]
    figure, axes = canvas(2, 2, panel=(PANEL[0], max(PANEL[1], 0.2 * len(pairs))))
    for axis, (title, statistic) in zip(axes[0], {"IQM": iqm, "Optimality gap": optimality_gap}.items(), strict=True):
        for i, (name, own) in enumerate(scores.items()):
            low, high = stratified_bootstrap(statistic, own, rng=rng)
            axis.plot([low, high], [i, i], color=shades[name], linewidth=5, alpha=0.35, solid_capstyle="butt")
            axis.plot(statistic(own), i, "|", color=shades[name], markersize=9, markeredgewidth=2)
        axis.set_yticks(range(len(scores)), [in_lines(name, 30) for name in scores], fontsize=6)
        axis.invert_yaxis()
        axis.set(title=title, xlabel="D4RL-scaled return, 1 = expert")
    at = np.linspace(0, max(1.2, max(float(np.concatenate(own).max()) for own in scores.values())), 61)
    for name, own in scores.items():
        low, high = stratified_bootstrap(lambda s: performance_profile(s, at), own, rng=rng)
        axes[1, 0].plot(at, performance_profile(own, at), **kinds[name])
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
    axes[1, 1].set_yticks(range(len(pairs)), [in_lines(_pair(a, b), 32) for a, b in pairs], fontsize=5.5)
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
            found.setdefault(name_with_k(experiment), {})[experiment["task"]] = own["normalised"].to_numpy(float) / 100
    return {name: [own[task] for task in tasks] for name, own in found.items() if set(own) == set(tasks)}, tasks


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
    names = {task: [label(experiment) for experiment, _ in rows[task]] for task in tasks}
    breaks = max(name.count("\n") for own_names in names.values() for name in own_names)
    height = 1.0 + tallest * (0.16 + 0.1 * breaks)
    figure, axes = canvas(len(tasks), len(LEVELS), panel=(PANEL[0] * 0.8, height), sharey="row")
    censored = 0
    for line, task in zip(axes, tasks, strict=True):
        for i, (experiment, mine) in enumerate(rows[task]):
            colour = look[experiment_name(experiment)]["color"]
            for _, run in mine.curves.dropna(subset="return_normalised").groupby("run", sort=True):
                steps, scaled = run["env_steps"].to_numpy(float), run["return_normalised"].to_numpy(float)
                for axis, level in zip(line, LEVELS, strict=True):
                    reached = steps_to(level, steps, scaled)
                    never = np.isinf(reached)
                    censored += int(never)
                    axis.plot(
                        steps[-1] if never else reached, i, ">" if never else "o", color=colour, markersize=4,
                        fillstyle="none" if never else "full", alpha=0.9, clip_on=False,
                    )  # fmt: skip
        for axis, level in zip(line, LEVELS, strict=True):
            axis.set_title(f"{task.split('-')[0]}: {level} %")
            axis.set_xlabel("Simulated steps")
            axis.margins(y=0.15)
            steps_axis(axis)
            axis.set_xlim(0, None)
        line[0].set_yticks(range(len(names[task])), names[task], fontsize=6)
        line[0].set_ylim(len(names[task]) - 0.5, -0.5)
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


def ablation(records: Records, field: str) -> Drawing:
    """Final return against a config field's values (analysis.load.load with ablate), a panel for each task and K."""
    own = finished(records)
    scores = _named(per_run(own))
    values = ordered(scores["value"].unique())
    if len(values) < 2:
        raise NothingToDraw(f"{field} has one value in all finished runs")
    panels = panels_of(own)
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

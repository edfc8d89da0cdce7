"""Figures of scores: one number a run, against denoising steps, tasks, thresholds or a config field."""

from collections.abc import Sequence
from itertools import combinations, pairwise
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
    panels_of,
    protocol,
)
from dpft.analysis.load import Records
from dpft.analysis.names import NAMES, experiment_name, ordered
from dpft.analysis.statistics import (
    FEW_SEEDS,
    LEAST_SEEDS,
    estimate,
    iqm,
    optimality_gap,
    per_run,
    performance_profile,
    probability_of_improvement,
    steps_to,
    stratified_bootstrap,
)
from dpft.analysis.style import (
    GREY,
    HEIGHTS,
    SMALL,
    canvas,
    colours,
    grid_of,
    legend,
    limits_of_data,
    log_axis,
    looks,
    others,
    samples_of,
    steps_axis,
)

LEVELS = (50, 75, 90)  # per cent of the D4RL-scaled return
AGAINST_K = {
    "final": "Final return",
    "area": "Mean along the run",
    "gradient_norm": "Mean gradient norm",
}


def denoising_steps(records: Records) -> Drawing:
    """Final return, mean return along the run and mean gradient norm against K, a row of panels for each task."""
    own = finished(cloned(records))
    chained = own.select(own.runs.dropna(subset="denoising_steps"))
    if chained.runs.empty or chained.runs.groupby("task")["denoising_steps"].nunique().max() < 2:
        raise NothingToDraw("there is one number of denoising steps")
    tasks = list(dict.fromkeys(e["task"] for e, _ in chained.experiments()))
    scores, look = _named(per_run(own).merge(_gradient_norms(own), on="run", how="left")), looks(chained)
    trained = own.curves["run"].duplicated().any()
    columns = [name for name in AGAINST_K if name == "final" or (trained and scores[name].notna().any())]
    figure, axes = canvas(len(tasks), len(columns), HEIGHTS[len(columns)])
    for row, task in zip(axes, tasks, strict=True):
        mine = scores[scores["task"] == task]
        for axis, column in zip(row, columns, strict=True):
            shown: list[float] = []
            for i, (name, kind) in enumerate(look.items()):
                groups = [(float(k), part[column]) for k, part in mine[mine["name"] == name].groupby("denoising_steps")]
                shown += _points(axis, groups, kind, name, shift=1.08 ** (i - (len(look) - 1) / 2))
            for method, part in mine[mine["denoising_steps"].isna()].groupby("method"):
                colour = colours([str(method)])[str(method)]
                name = NAMES.get(str(method), str(method))
                shown.append(part[column].mean())
                axis.axhline(shown[-1], color=colour, linewidth=1, linestyle="-.", label=name, gid=name)
            axis.set(xscale="log", xlabel="Denoising steps K", title=task)
            axis.set_ylabel(AGAINST_K[column] if trained else "Return of the base policy")
            if column == "gradient_norm":
                log_axis(axis, "y", mine[column].min(), mine[column].max())
            else:
                limits_of_data(axis, np.array(shown))
            ticks = sorted(chained.runs.loc[chained.runs["task"] == task, "denoising_steps"].unique())
            crowded = [following < 1.15 * k for k, following in pairwise([*ticks, np.inf])]  # as 9 and 10 are
            axis.set_xticks(ticks, ["" if close else str(k) for k, close in zip(ticks, crowded, strict=True)])
            axis.minorticks_off()
    sns.despine(figure)
    legend(figure, samples_of(look))
    what = "Dots: mean over seeds of the last evaluation"
    if "area" in columns:
        what += ", of the area under the curve divided by its steps"
    if "gradient_norm" in columns:
        what += " and of the gradient norm over all updates"
    what += "."
    if own.runs["denoising_steps"].isna().any():
        what += " Dash-dotted: policies without a chain."
    text = caption(records, what, "the ablations over denoising steps of NCDPO and DPPO")
    return figure, text


def _gradient_norms(records: Records) -> pd.DataFrame:
    """run and gradient_norm, the mean over its updates."""
    norms = records.metrics.reindex(columns=["run", "policy/gradient_norm"]).dropna()
    means = norms.groupby("run")["policy/gradient_norm"].mean()
    return means.rename("gradient_norm").reset_index()


def _named(scores: pd.DataFrame) -> pd.DataFrame:
    """With the name of each run's experiment."""
    return scores.assign(
        name=[experiment_name({str(k): v for k, v in run.items()}) for run in scores.to_dict("records")]
    )


def _points(
    axis: Axes, groups: Sequence[tuple[float, pd.Series]], kind: dict[str, Any], name: str, shift: float = 1.0
) -> list[float]:
    """Means with their intervals, joined; each seed as well where there are few.

    Returns what the axis must hold: the seeds, of many the interval.
    """
    groups = [(at * shift, values.dropna()) for at, values in groups if values.notna().any()]
    if not groups:
        return []
    found = [estimate(values) for _, values in groups]
    means = [e.mean for e in found]
    axis.plot([at for at, _ in groups], means, marker="o", markersize=3.5, linewidth=1.2, gid=name, **kind)
    for (at, values), e in zip(groups, found, strict=True):
        if len(values) >= LEAST_SEEDS:
            axis.vlines(at, e.low, e.high, color=kind["color"], linewidth=2.5, alpha=0.35, gid=name)
        if 1 < len(values) < FEW_SEEDS:
            axis.plot([at] * len(values), values, "_", color=kind["color"], markersize=5, gid=name)
    return [value for e in found for value in (e.seeds if len(e.seeds) < FEW_SEEDS else (e.low, e.high))]


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
    # of different K, too many to read
    pairs = [(a, b) for a, b in combinations(scores, 2) if None in (a[1], b[1]) or a[1] == b[1]]
    figure, axes = canvas(2, 2, max(HEIGHTS[2] - 0.2, 0.5 + 0.22 * max(len(scores), len(pairs))))
    for axis, (title, statistic) in zip(axes[0], {"IQM": iqm, "Optimality gap": optimality_gap}.items(), strict=True):
        for i, (key, own) in enumerate(scores.items()):
            _bar(axis, i, statistic(own), stratified_bootstrap(statistic, own, rng=rng), look[key[0]]["color"], key[0])
        axis.set_yticks(range(len(scores)), [in_lines(_with_k(*key), 24) for key in scores], fontsize=SMALL)
        axis.set_ylim(len(scores) - 0.5, -0.5)
        axis.set(title=title, xlabel="D4RL-scaled return, 1 = expert")
    at = np.linspace(0, max(1.2, max(float(np.concatenate(own).max()) for own in scores.values())), 61)
    for key, own in scores.items():
        low, high = stratified_bootstrap(lambda s: performance_profile(s, at), own, rng=rng)
        kind = look[key[0]]
        axes[1, 0].plot(at, performance_profile(own, at), gid=key[0], **kind)
        axes[1, 0].fill_between(at, low, high, color=kind["color"], alpha=0.15, linewidth=0, gid=key[0])
    axes[1, 0].set(
        title="Performance profile", xlabel="D4RL-scaled return", ylabel="Share of runs above", ylim=(0, 1.02)
    )
    for i, (first, second) in enumerate(pairs):
        both = scores[first], scores[second]
        ends = stratified_bootstrap(probability_of_improvement, *both, rng=rng)
        _bar(axes[1, 1], i, probability_of_improvement(*both), ends, look[first[0]]["color"], first[0])
    axes[1, 1].axvline(0.5, color=GREY, linewidth=0.8, linestyle=":")
    axes[1, 1].set_yticks(range(len(pairs)), [in_lines(_pair(a, b), 26) for a, b in pairs], fontsize=SMALL)
    axes[1, 1].set_ylim(len(pairs) - 0.5, -0.5)
    axes[1, 1].set(title="Probability of improvement", xlabel="P(first > second)", xlim=(0, 1))
    sns.despine(figure)
    what = (
        f"Last evaluations over {len(tasks)} tasks, D4RL-scaled on v5 dynamics. Bars and bands: 95 % stratified "
        "bootstrap over "
        f"seeds within each task (Agarwal et al. 2021), none under {LEAST_SEEDS} seeds; with few seeds such intervals "
        "are too narrow. Optimality gap: lower is better."
    )
    text = caption(records, f"{what} {protocol(records)}", "the aggregate figures that rliable draws", means=False)
    return figure, text


def _bar(axis: Axes, at: int, value: float, ends: tuple, colour: Any, name: str) -> None:
    """A value on a row and its interval."""
    axis.hlines(at, *ends, color=colour, linewidth=5, alpha=0.35, gid=name)
    axis.plot(value, at, "|", color=colour, markersize=9, markeredgewidth=2, gid=name)


def _with_k(name: str, k: int | None) -> str:
    return name if k is None else f"{name}, K = {k}"


def _pair(first: tuple[str, int | None], second: tuple[str, int | None]) -> str:
    k = first[1] if first[1] is not None else second[1]
    return f"{first[0]} > {second[0]}" + ("" if k is None else f" (K = {k})")


def _scores(records: Records) -> tuple[dict[tuple[str, int | None], list[np.ndarray]], list[str]]:
    """(name, K) -> one array of scaled final returns per task, of what has runs on every task."""
    table = per_run(finished(records)).dropna(subset="normalised")
    tasks = sorted(table["task"].unique())
    found: dict[tuple[str, int | None], dict[str, np.ndarray]] = {}
    for experiment, own in records.experiments():
        k = experiment["denoising_steps"]
        mine = table.loc[table["run"].isin(own.runs["run"]), "normalised"].to_numpy(float) / 100
        if len(mine):
            key = (experiment_name(experiment), None if pd.isna(k) else int(k))
            found.setdefault(key, {})[experiment["task"]] = mine
    return {key: [own[task] for task in tasks] for key, own in found.items() if set(own) == set(tasks)}, tasks


def steps_to_threshold(records: Records) -> Drawing:
    """Simulated steps until a run's evaluations reach LEVELS per cent of D4RL's expert; hollow where it never does."""
    own = learning(finished(records))
    known = own.curves.dropna(subset="return_normalised")
    if known.empty:
        raise NothingToDraw("no finished run has a scaled return")
    look = looks(own)
    grey = others(look)
    rows: dict[str, list[tuple[dict[str, Any], Records]]] = {}
    for experiment, mine in own.experiments():
        if mine.curves["return_normalised"].notna().any() and experiment_name(experiment) not in grey:
            rows.setdefault(experiment["task"], []).append((experiment, mine))
    tallest = max(map(len, rows.values()))
    names = {task: [label(experiment, own, 40) for experiment, _ in those] for task, those in rows.items()}
    breaks = max(name.count("\n") for own_names in names.values() for name in own_names)
    figure, axes = canvas(len(rows), len(LEVELS), 0.7 + tallest * (0.2 + 0.1 * breaks), sharey="row")
    censored = cases = 0
    for line, (task, those) in zip(axes, rows.items(), strict=True):
        for axis, level in zip(line, LEVELS, strict=True):
            for i, (experiment, mine) in enumerate(those):
                name = experiment_name(experiment)
                runs, never = _reached(axis, i, mine, level, look[name]["color"], name)
                cases, censored = cases + runs, censored + never
            axis.set_title(f"{task.split('-')[0]}: {level} %")
            axis.set_xlabel("Simulated steps")
            steps_axis(axis)
            axis.set_xlim(0, 1.04 * own.curves.loc[own.curves["task"] == task, "env_steps"].max())
        line[0].set_yticks(range(len(names[task])), names[task], fontsize=SMALL)
        line[0].set_ylim(len(names[task]) - 0.5, -0.5)
    sns.despine(figure)
    levels = ", ".join(map(str, LEVELS))
    what = (
        f"Dots: each seed's first evaluation (interpolated) at {levels} % of D4RL's expert, random being 0 %. Hollow "
        f"triangles: never within the run, at its last step ({censored} of {cases} cases, beside each its number of "
        "seeds): censored, not missing."
    )
    if grey:
        what += f" Of {len(look)} settings the best {len(look) - len(grey)} by their last evaluation."
    text = caption(records, f"{what} {protocol(records)}", means=False)
    return figure, text


def _reached(axis: Axes, row: int, own: Records, level: float, colour: Any, name: str) -> tuple[int, int]:
    """A dot where each run reaches the level, seed above seed; one triangle for those that never do. Their numbers."""
    runs = [
        (run["env_steps"].to_numpy(float), run["return_normalised"].to_numpy(float))
        for _, run in own.curves.dropna(subset="return_normalised").groupby("run", sort=True)
    ]
    found = [steps_to(level, steps, scaled) for steps, scaled in runs]
    apart = np.linspace(-0.25, 0.25, len(found)) if len(found) > 1 else [0.0]
    for at, offset in zip(found, apart, strict=True):
        if np.isfinite(at):
            axis.plot(at, row + offset, "o", color=colour, markersize=3, clip_on=False, gid=name)
    never = [steps[-1] for (steps, _), at in zip(runs, found, strict=True) if np.isinf(at)]
    if never:
        axis.plot(max(never), row, ">", color=colour, markersize=4, fillstyle="none", clip_on=False, gid=name)
        note: dict[str, Any] = {"xytext": (4, 0), "textcoords": "offset points", "va": "center", "fontsize": SMALL}
        axis.annotate(str(len(never)), (max(never), row), **note, annotation_clip=False)
    return len(runs), len(never)


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
        shown: list[float] = []
        for i, (name, kind) in enumerate(look.items()):
            mine = scores[(scores["task"] == task) & (scores["name"] == name)]
            mine = mine[mine["denoising_steps"].isna() | (mine["denoising_steps"] == k)]
            groups = [(values.index(value), mine.loc[mine["value"] == value, "final"]) for value in values]
            shift = min(0.08, 0.6 / len(look)) * (i - (len(look) - 1) / 2)
            shown += _points(axis, [(at + shift, found) for at, found in groups], kind, name)
        axis.set_xticks(range(len(values)), values)
        limits_of_data(axis, np.array(shown))
        axis.set(title=task if k is None else f"{task}, K = {k}", xlabel=field, ylabel="Final return")
    sns.despine(figure)
    legend(figure, samples_of(look))
    text = caption(
        records, f"Dots: mean over seeds of the last evaluation for each value of {field}; bars: its interval."
    )
    return figure, text

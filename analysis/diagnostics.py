"""Figures that look inside: metrics of the updates, and paths of the denoising chain."""

from pathlib import Path

import numpy as np
import pandas as pd
import seaborn as sns
from matplotlib.axes import Axes
from matplotlib.patches import Rectangle

from dpft.analysis.captions import Drawing, NothingToDraw, caption, finished, in_lines
from dpft.analysis.load import Records
from dpft.analysis.names import NAMES, experiment_name, rank
from dpft.analysis.reading import RecordError, read_chains
from dpft.analysis.style import (
    COLUMNS,
    GREY,
    MANY,
    PAGE,
    Look,
    canvas,
    colours,
    grid_of,
    legend,
    log_axis,
    looks,
    others,
    samples_of,
    steps_axis,
)

METRICS = {
    "loss/policy": "Policy loss",
    "loss/value": "Value loss",
    "loss/critic": "Critic loss",
    "policy/kl": "KL estimate, nats",
    "policy/clip_fraction": "Clip fraction",
    "policy/gradient_norm": "Gradient norm",
    "policy/std": "Deviation of the final Gaussian",
    "value/explained_variance": "Explained variance",
    "policy/noise_std": "Deviation of the initial noise",
    "policy/pull": "Pull to N(0, I), before its weight",
    "policy/entropy": "Entropy of the noise, nats",
    "policy/temperature": "Temperature",
    "loss/distillation": "Distillation loss",
}
LOGARITHMIC = (
    "loss/value",
    "loss/critic",
    "loss/distillation",
    "policy/gradient_norm",
    "policy/temperature",
    "policy/kl",
)
APART = 30  # methods whose values differ by such a factor share no linear axis
PATHS = 12  # probes whose paths are drawn; the ends of all are


def diagnostics(records: Records) -> Drawing:
    """Metrics of every run along its steps: a panel for each metric and task, and for methods of other magnitude."""
    tasks = list(dict.fromkeys(e["task"] for e, _ in records.experiments()))
    panels = [
        (name, task, methods)
        for name in METRICS
        if name in records.metrics
        for task in tasks
        for methods in _alike(records, name, task)
    ]
    if not panels:
        raise NothingToDraw("no run has metrics")
    figure, axes = grid_of(len(panels), COLUMNS if len(tasks) == 1 else min(len(tasks), COLUMNS))
    look = looks(records)
    for axis, (name, task, methods) in zip(axes, panels, strict=True):
        runs = records.runs[(records.runs["task"] == task) & records.runs["method"].isin(methods)]
        known = _metric(axis, records.select(runs), name, look)
        where = f"{task}: " if len(tasks) > 1 else ""
        split = sum(panel[:2] == (name, task) for panel in panels) > 1
        whose = ": " + ", ".join(NAMES.get(method, method) for method in methods) if split else ""
        axis.set_title(in_lines(f"{where}{METRICS[name]}{whose}", 42), fontsize=7)
        axis.set_xlabel("Simulated environment steps")
        if name in LOGARITHMIC and known.min() > 0 and known.max() > 5 * known.min():
            log_axis(axis, "y", known.min(), known.max())
        else:
            low, high = known.quantile([0.002, 0.998])  # one outlier would flatten every other line
            margin = 0.08 * (high - low) or 0.05 * abs(high) or 1.0
            axis.set_ylim(low - margin, high + margin)
        steps_axis(axis, y=False)
        axis.set_xlim(0, 1.02 * records.curves.loc[records.curves["task"] == task, "env_steps"].max() or 1)
    sns.despine(figure)
    legend(figure, samples_of(look))
    what = (
        "One line a run; axes leave out the 0.2 % most extreme values at either end. Metrics differ in meaning "
        f"between methods (methods/NAME.md); those whose values differ {APART}-fold have panels of their own."
    )
    text = caption(records, what, means=False)
    return figure, text


def _alike(records: Records, name: str, task: str) -> list[list[str]]:
    """Methods that have the metric on a task, together where one axis shows them all."""
    methods = records.runs.loc[records.runs["task"] == task].set_index("run")["method"]
    known = records.metrics[records.metrics["run"].isin(methods.index)].dropna(subset=name)
    sizes = known[name].abs().groupby(known["run"].map(methods)).quantile(0.9).sort_values()
    groups: list[list[str]] = []
    last = np.nan
    for method, size in sizes.items():
        if groups and (name in LOGARITHMIC or size <= APART * last):
            groups[-1].append(str(method))
        else:
            groups.append([str(method)])
            last = size
    return sorted((sorted(group, key=rank) for group in groups), key=lambda group: rank(group[0]))


def _metric(axis: Axes, own: Records, name: str, look: Look) -> pd.Series:
    """A line for each run, others below those that are named. Returns all values."""
    grey = others(look)
    for experiment, mine in own.experiments():
        label = experiment_name(experiment)
        seeds = mine.runs.set_index("run")["seed"]
        for run, rows in mine.metrics.dropna(subset=name).groupby("run", sort=True):
            kind = look[label] | {"gid": f"{label}, seed {seeds[str(run)]}", "zorder": 1 if label in grey else 2}
            axis.plot(rows["env_steps"], rows[name], linewidth=0.6, **kind)
    return own.metrics[name].dropna()


def chains(records: Records) -> Drawing:
    """Paths of the denoising chain in the first two dimensions of the first action, before and after fine-tuning.

    The same observations and noise in both, and how far the chunk went from one to the other; the first finished run
    of each experiment whose chain has such dimensions.
    """
    rows: list[tuple[str, str, np.ndarray, np.ndarray]] = []
    for experiment, own in finished(records).experiments():
        run = own.runs.sort_values("seed")["run"].iloc[0]
        try:
            before, after = read_chains(Path(run))
        except RecordError:
            continue  # published records may do without
        if before.shape[1] > 1 and before.shape[3] > 1:
            name = f"{experiment['task']}, {experiment_name(experiment)}"
            rows.append((name, experiment["method"], before[:, :, 0, :2], after[:, :, 0, :2]))
    rows = rows[:MANY]
    if not rows:
        raise NothingToDraw("no finished run has chains.npz of a chain")
    figure, axes = canvas(len(rows), COLUMNS, PAGE / COLUMNS + 0.15)
    for line, (title, method, before, after) in zip(axes, rows, strict=True):
        colour = colours([method])[method]
        for axis, points, ends in ((line[0], before, GREY), (line[1], after, colour)):
            paths = points[:PATHS]
            axis.plot(paths[..., 0].T, paths[..., 1].T, color=ends, linewidth=0.5)
            axis.plot(paths[:, 0, 0], paths[:, 0, 1], ".", color=ends, markersize=3)
            axis.plot(points[:, -1, 0], points[:, -1, 1], "o", color=ends, markersize=2.5)
            axis.set(xlim=(-2.6, 2.6), ylim=(-2.6, 2.6))
        moved = np.stack([before[:, -1], after[:, -1]])
        line[2].plot(moved[..., 0], moved[..., 1], color=GREY, linewidth=0.6)
        line[2].plot(*moved[0].T, "o", color=GREY, markersize=2.5)
        line[2].plot(*moved[1].T, "o", color=colour, markersize=2.5)
        line[2].set(xlim=(-1.3, 1.3), ylim=(-1.3, 1.3))
        far = np.linalg.norm(moved[1] - moved[0], axis=1).mean()
        for axis, what in zip(line, ("before", "after", f"moved by {far:.2g} on average"), strict=True):
            axis.set_title(what, fontsize=7)
            axis.set(aspect="equal", xlabel="first action, dimension 1")
            axis.add_patch(Rectangle((-1, -1), 2, 2, fill=False, edgecolor=GREY, linewidth=0.7))
        line[0].set_ylabel(f"{in_lines(title, 36)}\ndimension 2")
    sns.despine(figure)
    what = (
        f"Paths of the first action from noise (small dots) to chunk (large dots), normalised units: {PATHS} paths and "
        "the chunks of all stored observations, the same observations and noise before and after fine-tuning; right: "
        "each chunk's way from before (grey) to after. The square is the range of actions. One seed each."
    )
    text = caption(records, what, "the visualisations of denoising paths in DPPO", means=False)
    return figure, text

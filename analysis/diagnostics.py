"""Figures that look inside: metrics of the updates, and paths of the denoising chain."""

from pathlib import Path
from typing import Any

import numpy as np
import seaborn as sns

from dpft.analysis.captions import Drawing, NothingToDraw, caption, finished, label
from dpft.analysis.load import RecordError, Records, experiment_name, read_chains
from dpft.analysis.style import GREY, MANY, canvas, colours, grid_of, legend, looks, samples_of, steps_axis

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
        known = records.metrics[name].dropna()
        if name in LOGARITHMIC:
            axis.set_yscale("log")
        elif name == "loss/policy" and known.abs().max() > 1:  # minus a value, perhaps beside a surrogate near 0
            axis.set_yscale("symlog", linthresh=0.1)
        else:
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

"""Figures: each is one function from records to a matplotlib figure, listed in FIGURES."""

import io
import os
import textwrap
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import matplotlib as mpl

mpl.use("Agg")
import numpy as np
import pandas as pd
import seaborn as sns
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import EngFormatter, MaxNLocator

from analysis.load import Records, experiment_name
from analysis.statistics import FEW_SEEDS, mean_curve, per_run

PANEL = (3.4, 2.5)  # inches: one column of a two-column paper
COLUMNS = 3  # panels side by side
CAPTION_WIDTH = 77  # characters below one panel
MANY = 12  # experiments; of more, the legend names the methods only
LEGEND_WIDTH = 68  # characters above one panel, seven of them for each line's sample
STYLE = {
    **sns.axes_style("ticks"),
    **sns.plotting_context("paper"),
    "font.size": 8,
    "axes.labelsize": 8,
    "axes.titlesize": 8.5,
    "legend.fontsize": 7.5,
    "xtick.labelsize": 7.5,
    "ytick.labelsize": 7.5,
    "lines.solid_capstyle": "round",
    "axes.linewidth": 0.7,
    "xtick.major.width": 0.7,
    "ytick.major.width": 0.7,
    "xtick.major.size": 3,
    "ytick.major.size": 3,
    "figure.facecolor": "white",
    "svg.hashsalt": "dpft",  # element ids would be random
}
_PALETTE = sns.color_palette("colorblind").as_hex()
COLOURS = {
    "ncdpo": _PALETTE[0],  # blue
    "dppo": _PALETTE[1],  # orange
    "dsrl-na": _PALETTE[2],  # green
    "dsrl-sac": _PALETTE[4],  # pink
    "gaussian-ppo": "#4d4d4d",  # no diffusion: grey
}
NEXT_COLOURS = ["#882255", _PALETTE[9], "#999933", _PALETTE[3], _PALETTE[5]]  # of other methods, in alphabetical order
VARIANTS: list[Any] = [
    "solid",
    (0, (6, 1.5)),
    (0, (6, 1.5, 1, 1.5)),
    (0, (1, 1.2)),
]  # line styles of one method's variants


def colours(methods: list[str]) -> dict[str, str]:
    """One colour a method: its fixed one, or the next free one for a method from elsewhere."""
    others = sorted(set(methods) - set(COLOURS))
    return COLOURS | {name: NEXT_COLOURS[i % len(NEXT_COLOURS)] for i, name in enumerate(others)}


@contextmanager
def style() -> Iterator[None]:
    """The suite's look, whatever the user's own matplotlib settings are."""
    with mpl.rc_context():
        mpl.rcdefaults()
        mpl.rcParams.update(STYLE)
        yield


def save(figure: Figure, path: Path) -> None:
    """Write a figure, the same bytes for the same figure: no date and no version inside."""
    metadata = {".png": {"Software": None}, ".svg": {"Date": None, "Creator": None}}[path.suffix]
    buffer = io.BytesIO()
    with style():
        figure.savefig(buffer, format=path.suffix[1:], dpi=300, metadata=metadata)
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    temporary.write_bytes(buffer.getvalue())
    os.replace(temporary, path)


def looks(records: Records) -> dict[str, dict[str, Any]]:
    """Colour and line style of every experiment's name, in the order of the legend."""
    names: dict[str, list[str]] = {}
    for experiment, _ in records.experiments():
        names.setdefault(experiment["method"], []).append(experiment_name(experiment))
    palette = colours(list(names))
    return {
        name: {"color": palette[method], "linestyle": VARIANTS[i % len(VARIANTS)]}
        for method in palette  # the fixed order first
        for i, name in enumerate(dict.fromkeys(names.get(method, [])))
    }


def sample_efficiency(records: Records) -> Figure:
    """Mean evaluation return against simulated steps, one panel for each task and K.

    A line is the mean over finished runs, a band its 95 % bootstrap interval, a dashed line the method's own score
    at zero updates. Under FEW_SEEDS each run is drawn too; failed runs are dotted and end in a cross.
    """
    panels = _panels(records)
    columns = min(COLUMNS, len(panels), max(2, len({task for task, _ in panels})))
    rows = -(-len(panels) // columns)
    look = looks(records)
    with style():
        caption = textwrap.wrap(sample_efficiency_caption(records), CAPTION_WIDTH * columns)
        width = LEGEND_WIDTH * columns
        named = look if len(look) <= MANY else _methods_alone(look)
        samples = [Line2D([], [], label=textwrap.fill(name, width - 7), **kind) for name, kind in named.items()]
        handles = samples + _legend_of_kinds(records)
        labels = [str(handle.get_label()).splitlines() for handle in handles]
        across = max(1, width // (7 + max(len(line) for lines in labels for line in lines)))
        below = -(-sum(map(len, labels)) // across)
        size = (PANEL[0] * columns, PANEL[1] * rows + 0.155 * below + 0.105 * len(caption))
        figure = Figure(figsize=size, layout="constrained")
        axes = figure.subplots(rows, columns, squeeze=False)
        for axis, panel in zip(axes.flat, panels, strict=False):
            _sample_efficiency_panel(axis, records, panel, look)
        for axis in axes.flat[len(panels) :]:
            axis.remove()
        _same_limits(dict(zip(panels, axes.flat, strict=False)), records.curves)
        for row in axes:
            row[0].set_ylabel("Mean evaluation return")
        for axis in axes.flat[max(0, len(panels) - columns) : len(panels)]:
            axis.set_xlabel("Simulated environment steps")
        sns.despine(figure)
        figure.legend(
            handles=handles,
            loc="outside upper center",
            ncols=across,
            frameon=False,
            handlelength=1.8,
            columnspacing=1.2,
        )
        figure.supxlabel("\n".join(caption), x=0.01, ha="left", fontsize=5.8, color="#444444", linespacing=1.3)
    return figure


def _panels(records: Records) -> list[tuple[str, Any]]:
    """(task, K) of each panel; policies without a chain are drawn in all panels of their task."""
    pairs = records.runs[["task", "denoising_steps"]].drop_duplicates()
    chained = pairs.dropna().sort_values(["denoising_steps", "task"])
    alone = sorted(set(pairs["task"]) - set(chained["task"]))
    return [*chained.itertuples(index=False, name=None), *((task, None) for task in alone)]


def _sample_efficiency_panel(axis: Axes, records: Records, panel: tuple[str, Any], look: dict[str, dict]) -> None:
    task, steps = panel
    shades = list(dict.fromkeys(kind["color"] for kind in look.values()))
    for experiment, own in records.experiments():
        k = experiment["denoising_steps"]
        if experiment["task"] != task or not (pd.isna(k) or k == steps):
            continue
        kind = look[experiment_name(experiment)]
        runs = [(run["status"].iloc[0], *_line(run)) for _, run in own.curves.groupby("run", sort=True)]
        finished = [(x, y) for status, x, y in runs if status == "done"]
        for status, x, y in runs:
            if status == "failed":
                axis.plot(x, y, color=kind["color"], linewidth=0.8, linestyle=":", alpha=0.8)
                axis.plot(x[-1:], y[-1:], color=kind["color"], marker="x", markersize=4, clip_on=False)
            elif status != "done" or len(finished) < FEW_SEEDS:
                axis.plot(x, y, color=kind["color"], linewidth=0.5, alpha=0.45)
        if finished:
            x, mean, low, high = mean_curve(finished)
            axis.fill_between(x, low, high, color=kind["color"], alpha=0.16, linewidth=0)
            axis.plot(x, mean, **kind, linewidth=1.6)
            base = per_run(own).query("status == 'done'")["base"].mean()
            if not pd.isna(base):  # every other colour's dashes are shifted, so that equal bases stay visible
                shift = 4 * shades.index(kind["color"])
                axis.axhline(base, color=kind["color"], linewidth=0.9, linestyle=(shift, (4, 4)), alpha=0.85)
    axis.set_title(task if steps is None else f"{task}, K = {steps}")
    axis.xaxis.set_major_formatter(EngFormatter(sep=""))
    axis.xaxis.set_major_locator(MaxNLocator(5, steps=[1, 2, 5, 10]))
    axis.yaxis.set_major_locator(MaxNLocator(5))


def _line(run: pd.DataFrame) -> tuple[np.ndarray, np.ndarray]:
    return run["env_steps"].to_numpy(), run["return_mean"].to_numpy()


def _same_limits(axes: dict[tuple[str, Any], Axes], curves: pd.DataFrame) -> None:
    """Panels of one task share both axes, so that numbers of denoising steps can be compared by eye."""
    for task, right in curves.groupby("task")["env_steps"].max().items():
        own = [axis for (name, _), axis in axes.items() if name == task]
        top = max(axis.get_ylim()[1] for axis in own)
        bottom = min(axis.get_ylim()[0] for axis in own)
        for axis in own:
            axis.set(ylim=(bottom, top), xlim=(0, 1.02 * right or 1))


def _methods_alone(look: dict[str, dict[str, Any]]) -> dict[str, dict[str, Any]]:
    """One entry a method, with the number of its experiments; the table names them all."""
    methods: dict[str, list[dict[str, Any]]] = {}
    for name, kind in look.items():
        methods.setdefault(name.split(",")[0], []).append(kind)
    return {f"{name}: {len(own)} settings": {"color": own[0]["color"]} for name, own in methods.items()}


def _legend_of_kinds(records: Records) -> list[Line2D]:
    grey: dict[str, Any] = {"color": "#888888"}
    kinds = []
    if not records.runs["from_scratch"].all():
        kinds.append(Line2D([], [], linestyle=(0, (3, 2)), linewidth=0.9, label="own base policy", **grey))
    if (records.runs["status"] == "failed").any():
        kinds.append(Line2D([], [], linestyle=":", linewidth=0.8, marker="x", markersize=4, label="failed run", **grey))
    return kinds


def sample_efficiency_caption(records: Records) -> str:
    """What the figure shows and what its intervals mean, as one paragraph."""
    runs = records.runs
    finished = runs[runs["status"] == "done"]
    tasks = ", ".join(sorted(runs["task"].unique()))
    chain = ", ".join(str(k) for k in sorted(runs["denoising_steps"].dropna().unique()))
    counts = [len(own.runs[own.runs["status"] == "done"]) for _, own in records.experiments()]
    seeds = f"{min(counts)}" if min(counts) == max(counts) else f"{min(counts)} to {max(counts)}"
    episodes = " or ".join(str(n) for n in sorted(runs["eval_episodes"].unique()))
    text = [f"{caption[0].upper()}{caption[1:].rstrip('.')}." for caption in records.captions]
    text.append(f"{tasks}{f', K = {chain} denoising steps' if chain else ''}.")
    text.append(
        f"Lines: mean over finished seeds ({seeds} per method); bands: 95 % percentile-bootstrap interval over seeds."
    )
    if min(counts) < FEW_SEEDS:
        text.append(f"Under {FEW_SEEDS} seeds such an interval is too narrow, so each seed is drawn as a thin line.")
    if not runs["from_scratch"].all():
        text.append("Dashed: each method's own base policy, evaluated the same way before the first update.")
    if runs["denoising_steps"].isna().any() and not runs["denoising_steps"].isna().all():
        text.append("Gaussian policies have a base of their own and no denoising steps.")
    text.append(f"Evaluation: mean return of {episodes} complete episodes, whose steps are not counted.")
    cloned = finished[~finished["from_scratch"]]
    if len(cloned) and (cloned.groupby(["task", "method", "variant"])["base_seed"].nunique() == 1).all():
        text.append("Intervals cover fine-tuning only: seeds share one base policy.")
    if failed := int((runs["status"] == "failed").sum()):
        text.append(f"{failed} of {len(runs)} runs failed: dotted up to a cross, not in the means.")
    if unfinished := int((runs["status"] == "unfinished").sum()):
        text.append(f"{unfinished} of {len(runs)} runs unfinished: thin as far as they are, not in the means.")
    return " ".join(text)


FIGURES: dict[str, tuple[Callable[[Records], Figure], Callable[[Records], str]]] = {
    "sample_efficiency": (sample_efficiency, sample_efficiency_caption),
}

"""The look of every figure: colours, sizes, legends, captions, files."""

import io
import os
import textwrap
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import matplotlib as mpl

mpl.use("Agg")
import numpy as np
import seaborn as sns
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import EngFormatter, MaxNLocator

from dpft.analysis.load import Records, experiment_name

PANEL = (3.4, 2.5)  # inches: one column of a two-column paper
COLUMNS = 3  # panels side by side
CAPTION_WIDTH = 77  # characters below one panel
MANY = 12  # experiments; of more, the legend names the methods only
LEGEND_WIDTH = 68  # characters above one panel, seven of them for each line's sample
FORMATS = (".png", ".svg", ".pdf")
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
    "svg.hashsalt": "dpft",  # element ids would be random
    "pdf.fonttype": 42,  # text stays text
}
INK = ("text.color", "axes.labelcolor", "axes.edgecolor", "xtick.color", "ytick.color", "axes.titlecolor")
STYLES = {
    "light": dict.fromkeys(INK, "#1a1a1a") | dict.fromkeys(("figure.facecolor", "axes.facecolor"), "white"),
    "dark": dict.fromkeys(INK, "#e6e6e6") | dict.fromkeys(("figure.facecolor", "axes.facecolor"), "#14171a"),
}
GREY = "#888888"  # readable on both backgrounds
_PALETTE = sns.color_palette("colorblind").as_hex()
COLOURS = {
    "ncdpo": _PALETTE[0],  # blue
    "dppo": _PALETTE[1],  # orange
    "dsrl-na": _PALETTE[2],  # green
    "dsrl-sac": _PALETTE[4],  # pink
    "gaussian-ppo": "#757575",  # no diffusion: grey
}
NEXT_COLOURS = ["#AA4499", _PALETTE[9], "#999933", _PALETTE[3], _PALETTE[5]]  # of other methods, in alphabetical order
VARIANTS: list[Any] = [
    "solid",
    (0, (6, 1.5)),
    (0, (6, 1.5, 1, 1.5)),
    (0, (1, 1.2)),
]  # line styles of one method's variants


def colours(methods: Sequence[str]) -> dict[str, str]:
    """One colour a method: its fixed one, or the next free one for a method from elsewhere."""
    others = sorted(set(methods) - set(COLOURS))
    return COLOURS | {name: NEXT_COLOURS[i % len(NEXT_COLOURS)] for i, name in enumerate(others)}


@contextmanager
def style(name: str = "light") -> Iterator[None]:
    """The suite's look, light or dark, whatever the user's own matplotlib settings are."""
    with mpl.rc_context():
        mpl.rcdefaults()
        mpl.rcParams.update(STYLE | STYLES[name])
        yield


def save(figure: Figure, path: Path) -> None:
    """Write a figure as its suffix says, the same bytes for the same figure: no date and no version inside."""
    metadata: dict[str, dict[str, Any]] = {
        ".png": {"Software": None},
        ".svg": {"Date": None, "Creator": None},
        ".pdf": {"CreationDate": None, "Creator": None, "Producer": None},
    }
    buffer = io.BytesIO()
    figure.savefig(buffer, format=path.suffix[1:], dpi=200, metadata=metadata[path.suffix])
    write_atomically(path, buffer.getvalue())


def write_atomically(path: Path, content: bytes | str) -> None:
    """Write a file under another name and rename it: readers see all of it or nothing."""
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    temporary.write_bytes(content.encode() if isinstance(content, str) else content)
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


def canvas(rows: int, columns: int, panel: tuple[float, float] = PANEL, **options: Any) -> tuple[Figure, np.ndarray]:
    """A figure of panels in columns of a paper, and its axes [rows, columns]."""
    figure = Figure(figsize=(panel[0] * columns, panel[1] * rows), layout="constrained")
    return figure, figure.subplots(rows, columns, squeeze=False, **options)


def grid_of(count: int, columns: int = COLUMNS) -> tuple[Figure, list[Axes]]:
    """A figure of so many panels, and their axes row by row."""
    columns = min(columns, count)
    figure, axes = canvas(-(-count // columns), columns)
    for axis in axes.flat[count:]:
        axis.remove()
    return figure, list(axes.flat[:count])


def samples_of(look: dict[str, dict[str, Any]]) -> list[Line2D]:
    """A legend entry for each experiment; of many, one a method with the number of its experiments."""
    if len(look) > MANY:
        methods: dict[str, list[dict[str, Any]]] = {}
        for name, kind in look.items():
            methods.setdefault(name.split(",")[0], []).append(kind)
        look = {f"{name}: {len(own)} settings": {"color": own[0]["color"]} for name, own in methods.items()}
    return [Line2D([], [], label=name, **kind) for name, kind in look.items()]


def legend(figure: Figure, handles: list[Line2D]) -> None:
    """A legend above the panels, wrapped to their width; the figure grows by its height."""
    width = int(LEGEND_WIDTH * figure.get_figwidth() / PANEL[0])
    for handle in handles:
        handle.set_label(textwrap.fill(str(handle.get_label()), width - 7))
    labels = [str(handle.get_label()).splitlines() for handle in handles]
    across = min(len(handles), max(1, width // (7 + max(len(line) for lines in labels for line in lines))))
    figure.set_figheight(figure.get_figheight() + 0.155 * -(-sum(map(len, labels)) // across))
    figure.legend(
        handles=handles,
        loc="outside upper center",
        ncols=across,
        frameon=False,
        handlelength=1.8,
        columnspacing=1.2,
    )


def add_caption(figure: Figure, caption: str) -> None:
    """The caption below the panels, wrapped to their width; the figure grows by its height."""
    lines = textwrap.wrap(caption, int(CAPTION_WIDTH * figure.get_figwidth() / PANEL[0]))
    figure.set_figheight(figure.get_figheight() + 0.105 * len(lines))
    figure.supxlabel("\n".join(lines), x=0.01, ha="left", fontsize=5.8, alpha=0.85, linespacing=1.3)


def steps_axis(axis: Axes, y: bool = True) -> None:
    """Few, round ticks, on y as well; thousands and millions by letters."""
    axis.xaxis.set_major_formatter(EngFormatter(sep=""))
    axis.xaxis.set_major_locator(MaxNLocator(5, steps=[1, 2, 5, 10]))
    if y:
        axis.yaxis.set_major_locator(MaxNLocator(5))

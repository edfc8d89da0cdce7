"""The look of every figure: sizes, colours, legends, captions; and how files are written."""

import io
import os
import secrets
import textwrap
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import matplotlib as mpl
import numpy as np
import seaborn as sns
from matplotlib.axes import Axes
from matplotlib.colors import to_rgb
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import EngFormatter, LogLocator, MaxNLocator, NullFormatter

from dpft.analysis.load import Records
from dpft.analysis.names import experiment_name, rank
from dpft.analysis.reading import RecordError

COLUMN, PAGE = 3.3, 6.8  # inches: a column and the text of a two-column paper, at whose size every text is readable
COLUMNS = 3  # panels side by side
HEIGHTS = {1: 2.4, 2: 2.3, 3: 1.9}  # inches of a panel, by how many stand side by side
SMALL = 6.0  # points; no text is smaller
CHARACTERS = 21  # of SMALL text on an inch
MANY = 12  # experiments; of more, the best are named and the others grey
NAMED = 4  # of many
FORMATS = ("png", "svg", "pdf")
STYLE = {
    **sns.axes_style("ticks"),
    **sns.plotting_context("paper"),
    "font.size": 7.5,
    "axes.labelsize": 7.5,
    "axes.titlesize": 8,
    "legend.fontsize": 7,
    "xtick.labelsize": 7,
    "ytick.labelsize": 7,
    "lines.solid_capstyle": "round",
    "axes.linewidth": 0.7,
    "axes.labelpad": 2,
    "axes.titlepad": 4,
    "xtick.major.width": 0.7,
    "ytick.major.width": 0.7,
    "xtick.major.size": 3,
    "ytick.major.size": 3,
    "xtick.major.pad": 2,
    "ytick.major.pad": 2,
    "svg.hashsalt": "dpft",  # element ids would be random
    "pdf.fonttype": 42,  # text stays text
    "text.parse_math": False,  # nor does a dollar in somebody's name begin mathematics
}
INK = ("text.color", "axes.labelcolor", "axes.edgecolor", "xtick.color", "ytick.color", "axes.titlecolor")
STYLES = {
    "light": dict.fromkeys(INK, "#1a1a1a") | dict.fromkeys(("figure.facecolor", "axes.facecolor"), "white"),
    "dark": dict.fromkeys(INK, "#e6e6e6") | dict.fromkeys(("figure.facecolor", "axes.facecolor"), "#14171a"),
}
# every colour stands out 3 : 1 from both backgrounds, so that one palette serves both
GREY = "#888888"
COLOURS = {
    "ncdpo": "#0173b2",  # blue
    "dppo": "#c77700",  # orange
    "dsrl-na": "#029e73",  # green
    "dsrl-sac": "#c2569f",  # pink
    "find": "#8c6d46",  # brown
    "gaussian-ppo": "#7d6bb8",  # violet
}
NEXT_COLOURS = ["#d03b3b", "#8a7a00", "#008b9c", "#AA4499"]  # of other methods, in alphabetical order
VARIANTS: list[Any] = [
    "solid",
    (0, (6, 1.5)),
    (0, (6, 1.5, 1, 1.5)),
    (0, (1, 1.2)),
]  # line styles of one colour's experiments
Look = dict[str, dict[str, Any]]  # an experiment's name -> how its lines look


def colours(methods: Sequence[str]) -> dict[str, str]:
    """One colour a method: its fixed one, or the next free one for a method from elsewhere."""
    others = sorted(set(methods) - set(COLOURS))
    return COLOURS | {name: NEXT_COLOURS[i % len(NEXT_COLOURS)] for i, name in enumerate(others)}


def contrast(first: Any, second: Any) -> float:
    """The contrast of two colours, 1 to 21 (WCAG 2.2: relative luminances)."""

    def luminance(colour: Any) -> float:
        linear = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in to_rgb(colour)]
        return float(np.dot(linear, (0.2126, 0.7152, 0.0722)))

    low, high = sorted((luminance(first), luminance(second)))
    return (high + 0.05) / (low + 0.05)


def shades(count: int) -> list[Any]:
    """So many colours of one ramp that stand out from the background of the style in use."""
    ground = mpl.rcParams["axes.facecolor"]
    ramp = [colour for colour in sns.color_palette("plasma", 256) if contrast(colour, ground) >= 3]
    return [ramp[round(i)] for i in np.linspace(0, len(ramp) - 1, count)]


@contextmanager
def style(name: str = "light") -> Iterator[None]:
    """The suite's look, light or dark, whatever the user's own matplotlib settings are."""
    with mpl.rc_context():
        mpl.rcdefaults()
        mpl.rcParams.update(STYLE | STYLES[name])
        yield


def picture(figure: Figure, kind: str) -> bytes:
    """A figure as a file of that kind, the same bytes for the same figure: no date and no version inside."""
    metadata: dict[str, dict[str, Any]] = {
        "png": {"Software": None},
        "svg": {"Date": None, "Creator": None},
        "pdf": {"CreationDate": None, "Creator": None, "Producer": None},
    }
    buffer = io.BytesIO()
    figure.savefig(buffer, format=kind, dpi=200, metadata=metadata[kind])
    return buffer.getvalue()


def make_folder(path: Path) -> None:
    """Make a folder to write into. Raises RecordError, one line, where that cannot be."""
    try:
        path.mkdir(parents=True, exist_ok=True)
    except (OSError, ValueError) as error:
        raise RecordError(_cannot_write(path, error)) from None


def write_atomically(path: Path, content: bytes | str) -> None:
    """Write a file under a name of its own and rename it: readers see all of it or nothing.

    Raises RecordError, one line, where it cannot be written; nothing is left behind.
    """
    temporary = path.with_name(f".{secrets.token_hex(8)}.part")
    try:
        with temporary.open("xb") as file:
            file.write(content.encode(errors="replace") if isinstance(content, str) else content)
        os.replace(temporary, path)
    except OSError as error:
        raise RecordError(_cannot_write(path, error)) from None
    finally:
        with suppress(OSError):
            temporary.unlink()


def _cannot_write(path: Path, error: OSError | ValueError) -> str:
    why = getattr(error, "strerror", None) or error
    return f"cannot write {path}: {why}; --out names another place"


def looks(records: Records) -> Look:
    """Colour and line style of every experiment's name, in the order of the legend: by method, then by variant.

    Of MANY and more, NAMED at most: of each method those with the best last evaluations; the others are grey.
    """
    names: dict[str, list[str]] = {}  # method -> its experiments
    finals: dict[str, float] = {}
    for experiment, own in records.experiments():
        name = experiment_name(experiment)
        names.setdefault(experiment["method"], []).append(name)
        ended = own.curves[own.curves["status"] == "done"].groupby("run")["return_mean"].last()
        finals[name] = max(finals.get(name, -np.inf), ended.mean() if len(ended) else -np.inf)
    best = set(finals)
    if len(finals) > MANY:
        each = max(1, NAMED // len(names))
        best = {name for own in names.values() for name in sorted(set(own), key=finals.__getitem__)[-each:]}
    palette, used, look = colours(list(names)), dict[str, int](), Look()
    for method in sorted(names, key=rank):
        for name in dict.fromkeys(names[method]):
            colour = palette[method] if name in best else GREY
            i = used[colour] = used.get(colour, -1) + 1 if name in best else 0
            look[name] = {"color": colour, "linestyle": VARIANTS[i % len(VARIANTS)]}
    return look


def others(look: Look) -> set[str]:
    """The experiments of many that are not named."""
    return {name for name, kind in look.items() if kind["color"] == GREY}


def canvas(rows: int, columns: int, height: float, **options: Any) -> tuple[Figure, np.ndarray]:
    """A figure as wide as a column or a page of a paper, with panels of that height, and its axes [rows, columns]."""
    width = COLUMN if columns == 1 else PAGE
    figure = Figure(figsize=(width, height * rows), layout="constrained")
    return figure, figure.subplots(rows, columns, squeeze=False, **options)


def grid_of(count: int, columns: int = COLUMNS) -> tuple[Figure, list[Axes]]:
    """A figure of so many panels, and their axes row by row."""
    columns = min(columns, count)
    figure, axes = canvas(-(-count // columns), columns, HEIGHTS[columns])
    for axis in axes.flat[count:]:
        axis.remove()
    return figure, list(axes.flat[:count])


def samples_of(look: Look) -> list[Line2D]:
    """A legend entry for each experiment; of many, for each that is named, and one for the others."""
    grey = others(look)
    shown = [Line2D([], [], label=name, **kind) for name, kind in look.items() if name not in grey]
    if grey:
        shown.append(Line2D([], [], color=GREY, linewidth=0.8, label=f"{len(grey)} other settings"))
    return shown


def legend(figure: Figure, handles: list[Line2D]) -> None:
    """A legend above the panels, wrapped to their width; the figure grows by its height."""
    width = int(0.86 * CHARACTERS * figure.get_figwidth())
    for handle in handles:
        text = textwrap.fill(str(handle.get_label()), width - 7)
        handle.set_label(f"\u2009{text}" if text.startswith("_") else text)  # or it would be left out
    labels = [str(handle.get_label()).splitlines() for handle in handles]
    across = min(len(handles), max(1, width // (7 + max(len(line) for lines in labels for line in lines))))
    figure.set_figheight(figure.get_figheight() + 0.15 * -(-sum(map(len, labels)) // across))
    figure.legend(
        handles=handles,
        loc="outside upper center",
        ncols=across,
        frameon=False,
        handlelength=2.2,
        columnspacing=1.2,
        borderpad=0.2,
        labelspacing=0.35,
    )


def add_caption(figure: Figure, caption: str) -> None:
    """The caption below the panels, wrapped to their width; the figure grows by its height."""
    lines = textwrap.wrap(caption, int(CHARACTERS * figure.get_figwidth()))
    figure.set_figheight(figure.get_figheight() + 0.11 * len(lines))
    figure.supxlabel("\n".join(lines), x=0.01, ha="left", fontsize=SMALL, linespacing=1.3)


def steps_axis(axis: Axes, y: bool = True) -> None:
    """Few, round ticks, on y as well; thousands and millions by letters."""
    axis.xaxis.set_major_formatter(EngFormatter(sep=""))
    axis.xaxis.set_major_locator(MaxNLocator(4, steps=[1, 2, 5, 10]))
    if y:
        axis.yaxis.set_major_locator(MaxNLocator(5))


def log_axis(axis: Axes, which: str, low: float, high: float) -> None:
    """A logarithmic axis, x or y, for values between low and high, whose ticks are plain numbers."""
    axis.set(**{f"{which}scale": "log"})
    own = getattr(axis, f"{which}axis")
    subs = (1.0, 2.0, 5.0) if high < 200 * low else (1.0,)
    own.set_major_locator(LogLocator(base=10, subs=subs, numticks=8))
    own.set_major_formatter(lambda value, _: f"{value:g}")
    own.set_minor_formatter(NullFormatter())


def limits_of_data(axis: Axes, values: np.ndarray) -> None:
    """The y axis as far as the runs themselves reach: intervals of few seeds reach far beyond every run."""
    known = values[np.isfinite(values)]
    if len(known):
        low, high = known.min(), known.max()
        margin = 0.08 * (high - low) or 0.05 * abs(high) or 1.0
        axis.set_ylim(low - margin, high + margin)

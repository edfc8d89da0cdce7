"""The speed page: figures and a table from what `make bench` wrote (pytest-benchmark's JSON)."""

import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import seaborn as sns
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from dpft.analysis.names import NAMES, rank
from dpft.analysis.reading import RecordError
from dpft.analysis.style import (
    COLOURS,
    SMALL,
    add_caption,
    colours,
    grid_of,
    log_axis,
    make_folder,
    picture,
    style,
    write_atomically,
)

FILE = "bench.json"
PARTS = {"act": "#0173b2", "simulate": "#de8f05", "update": "#029e73"}


def load_benchmarks(folder: Path) -> tuple[pd.DataFrame, dict[str, Any]]:
    """One row per benchmark: name, test, seconds (median of its rounds) and what it found; and the machine.

    Raises RecordError where the file is missing or no benchmark file.
    """
    path = folder / FILE
    try:
        data = json.loads(path.read_text())
        rows = [
            {"name": b["name"], "test": b["name"].split("[")[0], "seconds": b["stats"]["median"], **b["extra_info"]}
            for b in data["benchmarks"]
        ]
        machine = {
            "processor": data["machine_info"]["cpu"].get("brand_raw", "?"),
            "cores": data["machine_info"]["cpu"].get("count", "?"),
            "python": data["machine_info"]["python_version"],
            "commit": data["commit_info"]["id"][:10] + " and changes" * data["commit_info"]["dirty"],
            "date": data["datetime"][:10],
        }
    except FileNotFoundError:
        raise RecordError(f"{path} is missing: make bench writes it") from None
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise RecordError(f"{path} is no file of pytest-benchmark: {error!r}") from None
    return pd.DataFrame(rows), machine


def linear_fit(steps: np.ndarray, seconds: np.ndarray) -> tuple[float, float, float]:
    """a and b of seconds = a + b K by relative least squares, and the largest relative error from K = 5 on."""
    b, a = np.polyfit(steps, seconds, 1, w=1 / seconds)
    error = np.abs((a + b * steps) / seconds - 1)
    return float(a), float(b), float(error[steps >= min(5, steps.max())].max())


def update_against_denoising_steps(axis: Axes, rows: pd.DataFrame) -> str:
    said = []
    for method, checkpointing in sorted(
        set(zip(rows["method"], rows["checkpointing"], strict=True)), key=lambda pair: (rank(pair[0]), pair[1])
    ):
        own = rows[(rows["method"] == method) & (rows["checkpointing"] == checkpointing)]
        steps, taken = own["denoising_steps"].to_numpy(float), own["seconds"].to_numpy()
        label = NAMES.get(method, method) + ", checkpointing" * bool(checkpointing)
        colour = colours([method])[method]
        axis.plot(steps, taken, "o", color=colour, fillstyle="none" if checkpointing else "full", label=label)
        if method == "ncdpo":
            a, b, error = linear_fit(steps, taken)
            axis.plot(
                steps,
                a + b * steps,
                color=colour,
                linestyle="--" if checkpointing else "-",
                linewidth=1,
            )
            said.append(f"{label}: {1e3 * a:.0f} + {1e3 * b:.1f} K ms, within {100 * error:.0f} % from K = 5")
    axis.set(xscale="log", xlabel="Denoising steps K", ylabel="CPU seconds an update")
    log_axis(axis, "y", rows["seconds"].min(), rows["seconds"].max())
    plain_ticks(axis, rows["denoising_steps"])
    axis.legend(frameon=False, fontsize=SMALL)
    return (
        f"one epoch over 1,000 decisions, 512-wide denoiser, one thread. {'; '.join(said)}. "
        "DPPO fine-tunes min(10, K) steps, NCDPO differentiates all K."
    )


def plain_ticks(axis: Axes, values: pd.Series) -> None:
    """The values themselves on a logarithmic axis."""
    ticks = sorted(map(int, values.unique()))
    axis.set_xticks(ticks, list(map(str, ticks)))
    axis.minorticks_off()


def simulator_rate(axis: Axes, rows: pd.DataFrame) -> str:
    for i, threads in enumerate(sorted(map(int, rows["threads"].unique()))):
        own, colour = rows[rows["threads"] == threads], [*COLOURS.values()][i % len(COLOURS)]
        label = f"{threads} thread" if threads == 1 else f"{threads} threads"
        axis.plot(own["environments"], own["env_steps_per_second"], "o-", color=colour, label=label, markersize=4)
    axis.set(xscale="log", xlabel="Environments", ylabel="Environment steps per second", ylim=(0, None))
    plain_ticks(axis, rows["environments"])
    axis.legend(frameon=False, fontsize=SMALL)
    return "Hopper, chunks of 4 random actions, wall-clock time."


def whole_runs(axis: Axes, rows: pd.DataFrame) -> str:
    axis.plot(rows["workers"], rows["env_steps_per_second"], "o-", color=COLOURS["dppo"])
    axis.set(xlabel="Runs side by side", ylabel="Environment steps per second, all runs", ylim=(0, None))
    axis.set_xticks(sorted(rows["workers"]))
    return "DPPO from scratch (K = 5, defaults), starting processes and evaluation included, wall-clock time."


def shares(axis: Axes, rows: pd.DataFrame) -> str:
    """Stacked bars of each method and precision, named with the whole and, where it is known, the hardware's limit."""
    rows = rows.sort_values("name", key=lambda names: names.map(lambda name: rank(_method(name)[0])), kind="stable")
    labels, left = [], np.zeros(len(rows))
    for row in rows.to_dict("records"):
        method, precision = _method(row["name"])
        per = 1e4 / row["env_steps"]
        limit = per * sum(row.get(f"{part}_limit", np.nan) for part in PARTS)
        known = "" if np.isnan(limit) else f" (limit {limit:.3g})"
        labels.append(
            f"{NAMES.get(method, method)}{', bf16' * (precision != 'float32')}\n"
            f"{per * row['total_cpu_seconds']:.3g} s{known}"
        )
    for part, colour in PARTS.items():
        share = 100 * rows[f"{part}_seconds"].to_numpy() / rows["total_cpu_seconds"].to_numpy()
        axis.barh(labels, share, left=left, color=colour, label=part, height=0.7)
        left += share
    axis.invert_yaxis()
    axis.set(xlabel="Share of CPU time, %", xlim=(0, 100))
    axis.tick_params(axis="y", labelsize=SMALL)
    axis.legend(frameon=False, fontsize=SMALL, loc="upper center", ncols=3, bbox_to_anchor=(0.5, 1.12))
    return (
        "the authors' Hopper settings (K = 20, 512-wide; DSRL: 20 critic and actor steps of 256 for every 32 steps), "
        "one thread; in seconds per 10,000 environment steps. Limit: what products at the hidden layer's measured rate "
        "and bare mj_step take."
    )


def _method(name: str) -> tuple[str, str]:
    """Method and precision of a benchmark's name, such as test_iteration[dppo-bfloat16] or test_…[dsrl-na]."""
    method, _, precision = name.split("[")[1].rstrip("]").rpartition("-")
    return (method, precision) if precision in ("float32", "bfloat16") else (f"{method}-{precision}", "float32")


PANELS: dict[str, tuple[str, tuple[str, ...], Callable[[Axes, pd.DataFrame], str]]] = {
    "Update against K": (
        "update_against_steps",
        ("test_update_against_denoising_steps",),
        update_against_denoising_steps,
    ),
    "Simulator": ("simulator_rate", ("test_rate",), simulator_rate),
    "Whole runs": ("whole_runs", ("test_workers",), whole_runs),
    "Where time goes": ("shares", ("test_iteration", "test_off_policy_iterations"), shares),
}


def speed_figure(rows: pd.DataFrame) -> tuple[Figure, str]:
    """All panels whose benchmarks were run, and their caption."""
    there = [
        (title, draw, own) for title, (_, tests, draw) in PANELS.items() if len(own := rows[rows["test"].isin(tests)])
    ]
    figure, axes = grid_of(len(there), 2)
    texts = []
    for axis, (title, draw, own) in zip(axes, there, strict=True):
        texts.append(f"{title}: {draw(axis, own)}")
        axis.set_title(title, pad=16 if title == "Where time goes" else None)
    sns.despine(figure)
    return figure, " ".join(texts)


def table(rows: pd.DataFrame) -> str:
    """Every benchmark in Markdown: its median and what it found."""
    lines = ["| benchmark | median | found |", "|:--|--:|:--|"]
    for row in rows.to_dict("records"):
        found = {str(key).replace("_", " "): value for key, value in row.items() if not pd.isna(value)}
        text = ", ".join(
            f"{key} {value:,g}" if isinstance(value, float) else f"{key} {value}"
            for key, value in found.items()
            if key not in ("name", "test", "seconds")
        )
        lines.append(f"| {row['name']} | {duration(row['seconds'])} | {text} |")
    return "\n".join(lines) + "\n"


def duration(seconds: float) -> str:
    """Three digits with a unit."""
    for unit, factor in (("s", 1.0), ("ms", 1e3), ("µs", 1e6)):
        if seconds * factor >= 1:
            return f"{seconds * factor:.3g} {unit}"
    return f"{seconds * 1e9:.3g} ns"


def write_speed(folder: Path, out: Path, look: str, formats: Sequence[str], captioned: bool) -> None:
    """Draw the page of a folder with bench.json: speed in those formats and summary.md. Raises RecordError."""
    rows, machine = load_benchmarks(folder)
    make_folder(out)
    with style(look):
        figure, caption = speed_figure(rows)
        if captioned:
            add_caption(figure, caption)
        for kind in formats:
            write_atomically(out / f"speed.{kind}", picture(figure, kind))
    facts = ", ".join(f"{key} {value}" for key, value in machine.items())
    write_atomically(out / "summary.md", f"# Speed\n\n{facts}.\n\n![speed](speed.png)\n\n{caption}\n\n{table(rows)}")

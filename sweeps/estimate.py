"""What a sweep takes, from what earlier runs took."""

import os
from collections import defaultdict
from pathlib import Path
from statistics import median

from sweeps.grid import Grid
from sweeps.records import read_done
from sweeps.status import last_line


def estimate(grid: Grid, folder: Path) -> str:
    """A line for each kind of run that is missing (task, method, K), then the whole: core-hours and storage.

    Rates are medians of the ended runs of the same kind in the folders beside this one and in results/.
    """
    missing: dict[str, list[int]] = defaultdict(list)
    for name, config in grid.runs.items():
        if not read_done(folder / "runs" / name):
            missing[kind(name)].append(config.env_steps)
    records = recorded([folder.parent, Path("results")])
    lines = [f"{grid.name}: {len(grid.runs):,} runs in {folder}, {sum(map(len, missing.values())):,} of them to do"]
    hours, size, unknown = 0.0, 0.0, 0
    for name, env_steps in missing.items():
        line = f"  {len(env_steps):>6,} x {name}, {sum(env_steps):,} steps"
        if name in records:
            seconds, stored = (median(column) for column in zip(*records[name], strict=True))
            hours += seconds * sum(env_steps) / 3600
            size += stored * len(env_steps)
            line += f": {seconds * sum(env_steps) / 3600:,.1f} core-hours"
        else:
            unknown += len(env_steps)
            line += ": no such run has ended yet"
        lines.append(line)
    lines.append(
        f"about {hours:,.1f} core-hours and {size / 2**20:,.0f} MiB" + f", and {unknown:,} unknown" * (unknown > 0)
    )
    return "\n".join(lines)


def kind(name: str) -> str:
    """Task, method and K of a run's id."""
    return name.split("_seed")[0]


def recorded(folders: list[Path]) -> dict[str, list[tuple[float, int]]]:
    """CPU seconds per environment step and bytes of each ended run, by kind."""
    found: dict[str, list[tuple[float, int]]] = defaultdict(list)
    for folder in folders:
        for marker in folder.glob("*/runs/*/done.json"):
            cells = last_line(marker.parent / "curve.csv").split(",")
            if len(cells) > 2 and cells[0].isdigit() and int(cells[0]):
                size = sum(entry.stat().st_size for entry in os.scandir(marker.parent) if entry.is_file())
                found[kind(marker.parent.name)].append((float(cells[2]) / int(cells[0]), size))
    return found

"""What a sweep takes, from what earlier runs took."""

import json
import os
from collections import defaultdict
from pathlib import Path
from statistics import median

import yaml

from dpft.sweeps.attempts import last_line
from dpft.sweeps.config import RunConfig, complete
from dpft.sweeps.grid import Grid
from dpft.sweeps.records import read_done

# what a rate, seconds of CPU time per environment step, does not depend on
FREE = ("seed", "base", "base_seed", "env_steps", "eval_every", "eval_episodes", "eval_seed", "device")


def estimate(grid: Grid, folder: Path) -> str:
    """A line for each kind of run that is missing (task, method, K), then the whole: core-hours and storage.

    Rates are medians of the ended runs of the same kind in the folders beside this one and in results/: of those with
    the same settings, or of all, which is then said.
    """
    missing: dict[str, list[RunConfig]] = defaultdict(list)
    for name, config in grid.runs.items():
        if not read_done(folder / "runs" / name):
            missing[kind(name)].append(complete(config))
    lines = [f"{grid.name}: {len(grid.runs):,} runs in {folder}, {sum(map(len, missing.values())):,} of them to do"]
    hours, size, unknown = 0.0, 0.0, 0
    for name, configs in missing.items():
        steps = sum(config.env_steps for config in configs)
        line = f"  {len(configs):>6,} x {name}, {steps:,} steps: "
        records = recorded([folder.parent, Path("results")], name)
        wanted = {shape(config.model_dump(mode="json")) for config in configs}
        same = [record for key in wanted for record in records.get(key, [])]
        used = same or [record for every in records.values() for record in every]
        if used:
            seconds, stored = (median(column) for column in zip(*used, strict=True))
            hours += seconds * steps / 3600
            size += stored * len(configs)
            line += f"{seconds * steps / 3600:,.1f} core-hours" + ", by runs of other settings" * (not same)
        else:
            unknown += len(configs)
            line += "no such run has ended yet"
        lines.append(line)
    more = f", and {unknown:,} runs of which nothing is known" if unknown else ""
    return "\n".join([*lines, f"about {hours:,.1f} core-hours and {size / 2**20:,.1f} MiB{more}"])


def kind(name: str) -> str:
    """Task, method and K of a run's id."""
    return name.split("_seed")[0]


def shape(config: dict) -> str:
    """All of a resolved config that its rate depends on."""
    return json.dumps({key: value for key, value in config.items() if key not in FREE}, sort_keys=True)


def recorded(folders: list[Path], name: str) -> dict[str, list[tuple[float, int]]]:
    """CPU seconds per environment step and bytes of each ended run of a kind, by shape."""
    found: dict[str, list[tuple[float, int]]] = defaultdict(list)
    for run in (marker.parent for folder in folders for marker in folder.glob(f"*/runs/{name}_seed*/done.json")):
        cells = last_line(run / "curve.csv").split(",")
        if len(cells) > 2 and cells[0].isdigit() and int(cells[0]) and (run / "config.yaml").exists():
            config = yaml.safe_load((run / "config.yaml").read_text())
            config.pop("provenance", None)
            size = sum(entry.stat().st_size for entry in os.scandir(run) if entry.is_file())
            found[shape(config)].append((float(cells[2]) / int(cells[0]), size))
    return found

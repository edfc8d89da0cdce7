"""Launching a sweep: which runs are missing, in which folder, on which engine."""

from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import yaml

from envs.task import DataError
from sweeps.grid import Grid
from sweeps.records import read_done, write_atomically


@dataclass(frozen=True)
class Job:
    """One run to be made."""

    name: str
    folder: Path
    threads: int


class Engine(Protocol):
    """Where runs are executed. run() returns when all have ended; it starts `dpft train` for each, and no more."""

    def run(self, jobs: list[Job]) -> None: ...


def prepare(grid: Grid, folder: Path) -> tuple[list[Job], list[str]]:
    """Freeze the grid in the sweep's folder; the jobs still to do, and the names of the runs that have ended.

    Raises DataError where the folder holds another sweep.
    """
    frozen = folder / "grid.yaml"
    if frozen.exists() and yaml.safe_load(frozen.read_text()) != yaml.safe_load(grid.text):
        raise DataError(f"{folder} holds another grid: choose another --out, or delete it")
    folder.mkdir(parents=True, exist_ok=True)
    write_atomically(frozen, grid.text)
    jobs, ended = [], []
    for name, config in grid.runs.items():
        run = folder / "runs" / name
        if read_done(run):
            ended.append(name)
            continue
        run.mkdir(parents=True, exist_ok=True)
        # what was asked for; config.yaml, which the run itself writes, holds what that meant here
        write_atomically(run / "request.yaml", yaml.safe_dump(config.model_dump(mode="json"), sort_keys=False))
        jobs.append(Job(name, run, config.threads))
    return jobs, ended


def failures(grid: Grid, folder: Path) -> dict[str, str]:
    """Name -> reason of every run that failed or did not end."""
    found = {}
    for name in grid.runs:
        run = folder / "runs" / name
        done = read_done(run)
        if done and done["status"] == "failed":
            found[name] = done["reason"]
        elif not done:
            error = run / "error.txt"
            last = error.read_text().strip().splitlines()[-1:] if error.exists() else []
            found[name] = last[0] if last else f"did not end: see {run / 'run.log'}"
    return found

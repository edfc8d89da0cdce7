"""How a sweep stands, from its files and the scheduler's word; from any shell, also while it runs."""

import os
import sys
import time
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

from dpft.arguments import Parser, place
from dpft.envs.cache import Claim
from dpft.envs.task import DataError
from dpft.sweeps.launch import ENGINES, Sweep, engine_class
from dpft.sweeps.records import read_done

STATES = {
    "done": "",
    "running": "its process shows signs of life",
    "waiting": "its launcher lives, or its job is in the queue",
    "failed": "it diverged (a result), or crashed more often than is retried",
    "lost": "it was begun or asked for, and nobody makes it: dpft resume",
    "missing": "nobody was asked for it: dpft resume",
}


@dataclass(frozen=True)
class RunState:
    state: str  # one of STATES
    ended: bool = False  # a result, be it a failure: not made again
    reason: str = ""
    steps: int = 0  # environment steps so far
    left: float | None = None  # seconds, at its pace so far


def states(sweep: Sweep, guess: bool = False) -> dict[str, RunState]:
    """Every run's state. Raises DataError where the scheduler cannot be asked, unless its jobs may be taken to wait."""
    submissions = sweep.submissions()
    pending: set[str] = set()
    fates: dict[str, str] = {}
    for name in ENGINES:
        mine = [submission for submission in submissions if submission.engine == name]
        if not mine:
            continue
        try:
            pending |= engine_class(name).pending(sweep, mine)
            fates |= engine_class(name).fates(mine)
        except DataError as error:
            if not guess:
                raise
            print(f"{error}: its jobs are taken to wait", file=sys.stderr)
            pending |= {run for submission in mine for names in submission.jobs.values() for run in names}
    job = {name: job for submission in submissions for job, names in submission.jobs.items() for name in names}
    return {
        name: state(
            sweep.run(name), config["env_steps"], name in pending, name in job, fates.get(job.get(name, ""), "")
        )
        for name, config in sweep.runs.items()
    }


def state(run: Path, env_steps: int, pending: bool, asked: bool, fate: str) -> RunState:
    done = read_done(run)
    if done and done["status"] == "done":
        return RunState("done", ended=True)
    if done:
        return RunState("failed", ended=True, reason=done["reason"])
    if Claim(run / "run").alive():
        return RunState("running", False, "", *progress(run, env_steps))
    error = last_line(run / "error.txt")
    if error:
        return RunState("failed", reason=error)
    if pending:
        return RunState("waiting")
    if asked or run.exists():
        return RunState("lost", reason=fate)
    return RunState("missing")


def last_line(path: Path) -> str:
    """The last line of a file, read from its end; nothing where there is none."""
    try:
        with path.open("rb") as file:
            file.seek(max(0, os.fstat(file.fileno()).st_size - 4096))
            return (file.read().decode(errors="replace").strip().splitlines() or [""])[-1]
    except FileNotFoundError:
        return ""


def progress(run: Path, env_steps: int) -> tuple[int, float | None]:
    """Environment steps made, and the seconds left at that pace, by the last row of metrics.csv."""
    try:
        steps, seconds = (float(cell) for cell in last_line(run / "metrics.csv").split(",")[:2])
    except ValueError:  # none yet, or only its header
        return 0, None
    return int(steps), max(0.0, env_steps - steps) * seconds / steps


def summary(found: dict[str, RunState]) -> str:
    counts = Counter(run.state for run in found.values())
    return f"{len(found)} runs: " + ", ".join(f"{counts[name]} {name}" for name in STATES if counts[name])


def exit_code(found: dict[str, RunState]) -> int:
    """0: all done; 1: all ended or failed; 3: under way; 4: some need dpft resume."""
    kinds = {run.state for run in found.values()}
    if kinds & {"lost", "missing"}:
        return 4
    return 3 if kinds & {"running", "waiting"} else int("failed" in kinds)


def listing(found: dict[str, RunState], most: int) -> list[str]:
    """A line for each run that is neither done nor merely waiting."""
    lines = []
    for name, run in found.items():
        if run.state == "running":
            left = "starting" if run.left is None else f"{run.steps:,} steps, {duration(run.left)} left"
            lines.append(f"running  {name}: {left}")
        elif run.state in ("failed", "lost"):
            lines.append(f"{run.state:<8} {name}" + (f": {run.reason}" if run.reason else ""))
    return lines[:most] + ([f"... and {len(lines) - most} more: --all"] if len(lines) > most else [])


def duration(seconds: float) -> str:
    return f"{seconds / 3600:.1f} h" if seconds >= 5400 else f"{seconds / 60:.0f} min"


def following(folder: Path, code: int) -> str:
    """What to do next."""
    return {
        3: f"dpft status {folder} --watch",
        4: f"dpft resume {folder}",
        1: f"dpft resume {folder} tries what crashed once more; dpft figures {folder}",
    }.get(code, f"dpft figures {folder}")


def main(argv: list[str]) -> int:
    parser = Parser(
        prog="dpft status",
        description="How a sweep stands. Exit code 0: all done; 1: ended, some failed; 3: under way; "
        "4: runs are lost or missing, dpft resume makes them.",
        epilog="example: dpft status runs/quickstart --watch",
    )
    parser.add_argument("sweep", type=place)
    parser.add_argument("--watch", action="store_true", help="show it until nothing is under way")
    parser.add_argument("--all", action="store_true", help="list every run that is not done, not the first 20")
    options = parser.parse_args(argv)
    sweep = Sweep.open(options.sweep)
    most = len(sweep.runs) if options.all else 20
    found = states(sweep, guess=True)
    if options.watch:
        found = watch(sweep, found, most)
    print("\n".join([*listing(found, most), summary(found)]))
    print(f"records in {sweep.folder / 'runs'}; next: {following(sweep.folder, exit_code(found))}")
    return exit_code(found)


def watch(sweep: Sweep, found: dict[str, RunState], most: int) -> dict[str, RunState]:
    """Show the state every two seconds on a terminal, when it changes elsewhere, until nothing is under way."""
    from rich.live import Live
    from rich.text import Text

    from dpft.sweeps.progress import console

    before = ""
    with Live(console=console, auto_refresh=False, transient=True) as live:
        while any(run.state in ("running", "waiting") for run in found.values()):
            if console.is_terminal:
                live.update(Text("\n".join([*listing(found, most), summary(found)])), refresh=True)
            elif summary(found) != before:
                before = summary(found)
                print(before, flush=True)
            time.sleep(2.0)
            found = states(sweep, guess=True)
    return found

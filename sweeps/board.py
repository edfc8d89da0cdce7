"""How a sweep stands, in words and as a display that renews itself on a terminal."""

import time
from collections import Counter, defaultdict
from collections.abc import Collection
from dataclasses import replace
from statistics import median

from rich.console import Group
from rich.live import Live
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn
from rich.text import Text

from dpft.sweeps.launch import DONE, Sweep
from dpft.sweeps.progress import console
from dpft.sweeps.run_state import STATES, RunState, result, so_far

ORDER = ("running", "failed", "lost", "stopped", "waiting", "missing", "done")  # of the listing
SECONDS = 1.0  # between two looks at the runs under way


def listing(found: dict[str, RunState], most: int) -> list[str]:
    """A line for each run of which there is something to say, those under way first."""
    lines = []
    for name, run in sorted(found.items(), key=lambda item: ORDER.index(item[1].state)):
        words = about(run)
        if words or run.state in ("failed", "lost"):
            lines.append(f"{run.state:<8} {name}" + (f": {words}" if words else ""))
    return lines[:most] + ([f"... and {len(lines) - most} more: --all"] if len(lines) > most else [])


def about(run: RunState) -> str:
    score = "" if run.score is None else f"return {run.score:,.0f}"
    if run.state == "running" and run.left is None:
        return "starting"
    if run.state == "running" and not run.left:
        return "finishing"
    if run.state in ("running", "stopped"):
        left = f"{duration(run.left or 0)} left" if run.state == "running" else ""
        steps = f"{'at ' * (not left)}{run.steps:,} of {run.of:,} steps"
        return ", ".join(part for part in (steps, score, left) if part)
    return run.reason or (score if run.state == "done" else "")


def summary(found: dict[str, RunState]) -> str:
    counts = Counter(run.state for run in found.values())
    return f"{len(found)} runs: " + ", ".join(f"{counts[name]} {name}" for name in STATES if counts[name])


def duration(seconds: float) -> str:
    if seconds < 90:
        return f"{seconds:.0f} s"
    return f"{seconds / 3600:.1f} h" if seconds >= 5400 else f"{seconds / 60:.0f} min"


def time_left(sweep: Sweep, found: dict[str, RunState], workers: int) -> float | None:
    """Seconds until so many workers have made what is not made, at the pace of each run, or the median pace of its
    kind (task, method, K), or of all; none before any pace is known."""
    paces: dict[tuple, list[float]] = defaultdict(list)
    for name, run in found.items():
        if run.pace is not None:
            paces[kind(sweep, name)].append(run.pace)
    if not paces:
        return None
    every = median(pace for some in paces.values() for pace in some)
    left = [
        max(0, run.of - run.steps) * (run.pace or median(paces[kind(sweep, name)] or [every]))
        for name, run in found.items()
        if run.state in ("running", "waiting")
    ]
    return max(sum(left) / workers, *left, 0.0)


def kind(sweep: Sweep, name: str) -> tuple:
    return tuple(sweep.runs[name][field] for field in ("task", "method", "denoising_steps"))


class Board:
    """A bar of the runs that have ended, and lines below it; nothing where there is no terminal."""

    def __init__(self, total: int) -> None:
        self.bar = Progress(TextColumn("runs"), BarColumn(), MofNCompleteColumn(), TextColumn("{task.description}"))
        self.handle = self.bar.add_task("", total=total)
        self.live = Live(console=console, auto_refresh=False, transient=True)

    def __enter__(self) -> "Board":
        return self

    def show(self, ended: int, left: float | None, lines: list[str]) -> None:
        if console.is_terminal:
            self.live.start()  # with the first: a run in this very process has a bar of its own
            about = "" if left is None else f"about {duration(left)} left"
            self.bar.update(self.handle, completed=ended, description=about)
            self.live.update(Group(self.bar, Text("\n".join(lines))), refresh=True)

    def __exit__(self, *error: object) -> None:
        self.live.stop()


class SweepProgress:
    """What a launcher says while it makes runs: a line for each that ends, the board below them."""

    def __init__(self, sweep: Sweep, names: list[str], workers: int = 1) -> None:
        self.sweep, self.workers = sweep, workers
        self.found = {name: RunState("waiting", of=sweep.runs[name]["env_steps"]) for name in names}
        self.board, self.count = Board(len(names)), 0
        self.started = self.shown = time.monotonic()

    def __enter__(self) -> "SweepProgress":
        self.board.__enter__()
        return self

    def under_way(self, names: Collection[str]) -> None:
        """The runs that are being made just now."""
        if console.is_terminal and time.monotonic() - self.shown >= SECONDS:
            for name in names:
                self.found[name] = replace(self.found[name], state="running", **so_far(self.sweep.run(name)))
            running = {name: self.found[name] for name in names}
            left = time_left(self.sweep, self.found, self.workers)
            self.board.show(self.count, left, listing(running, len(running)))
            self.shown = time.monotonic()

    def ended(self, name: str, code: int, reason: str) -> None:
        """A run ended with an exit code of `dpft train`."""
        self.count += 1
        run = result(self.sweep.run(name)) or RunState("failed", reason=reason or f"ended with code {code}")
        self.found[name] = run
        minutes = (time.monotonic() - self.started) / 60
        words = ", ".join(part for part in ("done" if code == DONE else "failed", about(run)) if part)
        print(f"[{minutes:6.1f} min] {self.count}/{len(self.found)} {name}: {words}", flush=True)

    def __exit__(self, *error: object) -> None:
        self.board.__exit__(*error)

"""How each run of a sweep stands, from its files and the scheduler's word; from any shell, also while it runs."""

import math
import os
import sys
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from dpft.envs.cache import Claim
from dpft.envs.task import DataError
from dpft.sweeps.attempts import NO_FOLDER, attempts, last_line
from dpft.sweeps.launch import ENGINES, Submission, Sweep, engine_class
from dpft.sweeps.state_file import DONE, Damaged, read_state

STATES = {
    "done": "",
    "running": "its process shows signs of life",
    "waiting": "its launcher lives, or its job is in the queue; after Ctrl-C for dpft resume",
    "failed": "it diverged (a result), or crashed more often than is retried",
    "stopped": "it wrote its checkpoint when it was asked to stop: dpft resume",
    "lost": "it was begun or asked for, and nobody makes it: dpft resume",
    "missing": "nobody was asked for it: dpft resume",
}


@dataclass(frozen=True)
class RunState:
    state: str  # one of STATES
    ended: bool = False  # a result, be it a failure: not made again
    reason: str = ""
    steps: int = 0  # environment steps so far
    of: int = 0  # environment steps that were asked for
    score: float | None = None  # mean return of the last evaluation
    pace: float | None = None  # seconds of an environment step, so far
    idle: bool = False  # it waits for dpft resume

    @property
    def left(self) -> float | None:
        """Seconds until it ends, at its pace."""
        return None if self.pace is None else max(0, self.of - self.steps) * self.pace

    @property
    def under_way(self) -> bool:
        return self.state == "running" or (self.state == "waiting" and not self.idle)


def states(sweep: Sweep, guess: bool = False, before: dict[str, RunState] | None = None) -> dict[str, RunState]:
    """Every run's state; what had ended `before` is not read again.

    Raises DataError where the scheduler cannot be asked, unless its jobs may be taken to wait.
    """
    found = {name: run for name, run in (before or {}).items() if run.ended}
    for name in sweep.runs.keys() - found.keys():
        run = result(sweep.run(name))
        if run:
            found[name] = replace(run, of=sweep.runs[name]["env_steps"])
    goes_on = sweep.runs.keys() - found.keys()
    submissions = [submission for submission in sweep.submissions() if not goes_on.isdisjoint(submission.names)]
    pending, fates = ask_engines(sweep, submissions, guess)
    asked = {
        name: (submission, job)
        for submission in submissions
        for job, names in submission.jobs.items()
        for name in names
    }
    for name in goes_on:
        submission, job = asked.get(name, (None, ""))
        run = unfinished(sweep, name, name in pending, submission, fates.get(job, ""))
        found[name] = replace(run, of=sweep.runs[name]["env_steps"])
    return {name: found[name] for name in sweep.runs}


def ask_engines(sweep: Sweep, submissions: list[Submission], guess: bool) -> tuple[set[str], dict[str, str]]:
    """The runs that are going to be made, and the fates of jobs."""
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
            pending |= {run for submission in mine for run in submission.names}
    return pending, fates


def result(run: Path) -> RunState | None:
    """How a run has ended; none where it has not."""
    try:
        done = read_state(run / "done.json", DONE)
    except Damaged:
        return None
    if not done:
        return None
    return RunState(done["status"], ended=True, reason=done.get("reason") or "", **so_far(run))


def unfinished(sweep: Sweep, name: str, pending: bool, submission: Submission | None, fate: str) -> RunState:
    """The state of a run that has not ended, by whoever was asked for it last."""
    run = sweep.run(name)
    if os.path.lexists(run) and not run.is_dir():
        return RunState("failed", reason=NO_FOLDER.format(run))
    claim = Claim(run / "run")
    if claim.alive():
        return RunState("running", **so_far(run))
    error, tries = last_line(run / "error.txt"), attempts(run)
    if error and not (pending and tries and tries["tried"] < tries["of"]):
        return RunState("failed", reason=error)
    if pending:
        return RunState(
            "waiting", reason=f"tried {tries['tried']} of {tries['of']}: {error}" if error and tries else ""
        )
    if os.path.lexists(run / "done.json"):
        return RunState("lost", reason="done.json: damaged")
    if claim.file.exists():  # its owner had no time to let go of it
        return RunState("lost", reason=fate, **so_far(run))
    if (run / "config.yaml").exists():
        return RunState("stopped", **so_far(run))
    if submission and "" in submission.jobs and not sweep.launcher(submission).file.exists():
        return RunState("waiting", reason="for dpft resume", idle=True)
    return RunState("lost", reason=fate) if submission or run.exists() else RunState("missing")


def so_far(run: Path) -> dict[str, Any]:
    """Steps, pace and score of a run under way, by the last rows of metrics.csv and curve.csv."""
    steps, seconds = last_row(run / "metrics.csv", 2)
    evaluated_at, evaluated_after, _, score = last_row(run / "curve.csv", 4)
    if (evaluated_at or 0) > (steps or 0):
        steps, seconds = evaluated_at, evaluated_after
    return {"steps": int(steps or 0), "pace": seconds / steps if steps and seconds else None, "score": score}


def last_row(path: Path, columns: int) -> list[float | None]:
    """The first numbers of a growing file's last row; none where there is no row yet, or only a part of one."""
    try:
        row = [float(cell) for cell in last_line(path).split(",")[:columns]]
    except ValueError:
        row = []
    return [cell if math.isfinite(cell) else None for cell in row] if len(row) == columns else [None] * columns

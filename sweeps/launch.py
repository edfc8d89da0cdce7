"""A sweep on disk: frozen runs, and an append-only manifest of who was asked to make them. Nothing is in a process."""

import json
import os
import signal
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass, field, replace
from importlib import import_module
from pathlib import Path
from shlex import quote
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Protocol

import yaml
from pydantic import BaseModel, Field, TypeAdapter

from dpft.envs.cache import Claim
from dpft.envs.task import DataError
from dpft.sweeps.folders import holds_records, is_run, no_sweep
from dpft.sweeps.names import path_segment
from dpft.sweeps.records import read_done, write_atomically
from dpft.sweeps.state_file import RUNS, Damaged, read_state, say

if TYPE_CHECKING:  # it imports torch, which a glance at a sweep does not need
    from dpft.sweeps.grid import Grid

# exit codes of `dpft train`, and of a shell's command after Ctrl-C
DONE, CRASHED, BAD_INPUT, DIVERGED, CLAIMED, STOPPED, INTERRUPTED = 0, 1, 2, 3, 4, 143, 130
ENGINES = {
    "inline": "dpft.sweeps.engine_inline:InlineEngine",
    "local": "dpft.sweeps.engine_local:LocalEngine",
    "slurm": "dpft.sweeps.engine_slurm:SlurmEngine",
}


Job = Annotated[str, Field(pattern=r"^(\d+(_\d+)?)?$")]


@dataclass(frozen=True)
class Submission:
    """A file of the manifest: runs that an engine was asked for. Never changed once written."""

    id: str
    engine: str
    options: dict[str, Any]
    jobs: dict[Job, list[str]]  # the scheduler's id of a job ("" for a process) -> the runs it makes
    resumes: int = 0  # how often the sweep had resumed itself by then
    host: str = field(default_factory=lambda: os.uname().nodename)
    at: float = field(default_factory=time.time)  # seconds since 1970

    @property
    def names(self) -> set[str]:
        return {name for names in self.jobs.values() for name in names}


SUBMISSION: TypeAdapter[Submission] = TypeAdapter(Submission)


class Engine(Protocol):
    """Where runs are executed. An engine is a file with such a class and a line in ENGINES."""

    Options: ClassVar[type[BaseModel]]  # its flags; their descriptions are the help
    POLL: ClassVar[float]  # seconds between two questions of `dpft status --watch`

    def __init__(self, options: Any) -> None: ...

    def at_once(self, runs: int) -> int:
        """How many of so many runs it makes at a time, at most."""
        ...

    def submit(self, sweep: "Sweep", names: list[str], resumes: int = 0) -> bool:
        """Have the runs made; True when they have been, False where they go on without this process."""
        ...

    @staticmethod
    def pending(sweep: "Sweep", submissions: list[Submission]) -> set[str]:
        """The runs that its submissions make or are still going to make."""
        ...

    @staticmethod
    def fates(submissions: list[Submission]) -> dict[str, str]:
        """Job id -> the scheduler's word on how it ended, where there is one."""
        ...

    @staticmethod
    def cancel(sweep: "Sweep", submissions: list[Submission]) -> int:
        """Stop them; returns how many jobs or processes were asked to."""
        ...


def engine_class(name: str) -> type[Engine]:
    """Raises DataError for an unknown name."""
    if name not in ENGINES:
        raise DataError(f"unknown engine {name!r}: there are {', '.join(ENGINES)}")
    module, attribute = ENGINES[name].split(":")
    return getattr(import_module(module), attribute)


@dataclass(frozen=True)
class Sweep:
    folder: Path
    runs: dict[str, dict[str, Any]]  # name -> config as plain data
    flags: tuple[str, ...] = ()  # of `dpft train`, for this launch

    @classmethod
    def open(cls, folder: Path) -> "Sweep":
        """A sweep that was launched before. Raises DataError where there is none."""
        try:
            runs = read_state(folder / "runs.json", RUNS)
        except Damaged:
            again = f"dpft sweep {quote(str(folder / 'grid.yaml'))} --out {quote(str(folder))}"
            raise DataError(
                f"{folder / 'runs.json'}: damaged; {again} writes it anew and keeps what was made"
            ) from None
        if runs is None:
            raise DataError(no_sweep(folder))
        for name in runs:
            path_segment(name, f"{folder / 'runs.json'}: run")
        return cls(folder, runs)

    @classmethod
    def freeze(cls, grid: "Grid", folder: Path) -> "Sweep":
        """Keep the grid with its sweep; runs may be added to one that exists.

        Raises DataError where a run that is there would change or vanish.
        """
        runs = {name: config.model_dump(mode="json") for name, config in grid.runs.items()}
        try:
            earlier = read_state(folder / "runs.json", RUNS) or {}
        except Damaged as damage:
            say(f"{folder}: {damage}, written anew; a run that would be another refuses to go on")
            earlier = {}
        if not (folder / "runs.json").exists() and (is_run(folder) or holds_records(folder)):
            raise DataError(f"{folder} holds records that no sweep made there: choose another --out")
        for name, before in earlier.items():
            if runs.get(name) != before:
                changed = [key for key, value in before.items() if name in runs and runs[name].get(key) != value]
                how = f"{changed[0]} of {name} is another" if changed else f"{name} is not in this one"
                raise DataError(f"{folder} holds another grid ({how}): choose another --out, or delete it")
        (folder / "runs").mkdir(parents=True, exist_ok=True)
        write_atomically(folder / "grid.yaml", grid.text)
        lines = ",\n".join(f"{json.dumps(name)}: {json.dumps(config)}" for name, config in runs.items())
        write_atomically(folder / "runs.json", f"{{\n{lines}\n}}\n")
        return cls(folder, runs)

    def run(self, name: str) -> Path:
        return self.folder / "runs" / name

    def missing(self) -> list[str]:
        """The runs that have not ended, as a result or by divergence."""
        return [name for name in self.runs if not read_done(self.run(name))]

    def request(self, name: str) -> list[str]:
        """The arguments of `dpft` that make a run; its request.yaml is written."""
        folder = self.run(name)
        folder.mkdir(exist_ok=True)
        # what was asked for; config.yaml, which the run itself writes, holds what that meant there
        write_atomically(folder / "request.yaml", yaml.safe_dump(self.runs[name], sort_keys=False))
        return ["train", "--config", str(folder / "request.yaml"), "--out", str(folder), *self.flags]

    def record(self, engine: str, options: BaseModel, jobs: dict[str, list[str]], resumes: int = 0) -> Submission:
        """Add to the manifest."""
        submission = Submission(
            f"{time.time_ns()}-{os.getpid()}", engine, options.model_dump(mode="json"), jobs, resumes
        )
        (self.folder / "manifest").mkdir(exist_ok=True)
        write_atomically(self.folder / "manifest" / f"{submission.id}.json", json.dumps(asdict(submission)))
        return submission

    def submissions(self, engine: str = "") -> list[Submission]:
        """The manifest, oldest first."""
        found = []
        for file in sorted((self.folder / "manifest").glob("[0-9]*.json")):
            try:
                submission = read_state(file, SUBMISSION)
                if submission is None:  # a link to nowhere
                    raise Damaged(f"{file.name}: damaged")
            except Damaged as damage:
                say(f"{file.parent}: {damage}, passed over")
                continue
            if submission.engine not in ENGINES:
                say(f"{file}: there is no engine {submission.engine!r}, passed over")
            elif engine in ("", submission.engine):
                found.append(replace(submission, id=file.stem))
        return found

    def launcher(self, submission: Submission) -> Claim:
        """What a launching process holds as long as it lives."""
        return Claim(self.folder / "manifest" / submission.id)

    @contextmanager
    def launching(self, engine: str, options: BaseModel, names: list[str]) -> Iterator[None]:
        """The manifest entry of an engine that makes runs while this process lives."""
        claim = self.launcher(self.record(engine, options, {"": names}))
        claim.take()
        try:
            yield
        finally:
            claim.release()


class LaunchedHere:
    """What engines have in common whose runs are made by their launcher, as long as it lives."""

    POLL = 2.0

    @staticmethod
    def pending(sweep: Sweep, submissions: list[Submission]) -> set[str]:
        alive = [submission for submission in submissions if sweep.launcher(submission).alive()]
        return {name for submission in alive for name in submission.names}

    @staticmethod
    def fates(submissions: list[Submission]) -> dict[str, str]:
        return {}

    @staticmethod
    def cancel(sweep: Sweep, submissions: list[Submission]) -> int:
        """Asks the launchers of this machine first, which would start again what ends under them, then their runs."""
        claims = [sweep.launcher(submission) for submission in submissions]
        claims += [Claim(sweep.run(name) / "run") for name in sweep.missing()]
        processes = [process for claim in claims if (process := claim.process())]
        for process in processes:
            with suppress(ProcessLookupError):
                os.kill(process, signal.SIGTERM)
        return len(processes)

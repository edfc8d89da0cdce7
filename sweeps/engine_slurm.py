"""The SLURM engine: job arrays through submitit. Submits and returns; the sweep ends complete by itself.

A job is a local engine for its share of the runs, which retries them. When all jobs have ended, however they did, a
last one resumes what is missing. Nothing depends on submitit's checkpoint() or results: runs continue from their files.
"""

import contextlib
import logging
import os
import re
import subprocess
import warnings
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field

from dpft.arguments import Whole
from dpft.envs.cache import Claim
from dpft.envs.task import DataError, first_line
from dpft.sweeps.engine_local import supervise
from dpft.sweeps.launch import Submission, Sweep
from dpft.sweeps.run_state import states

if TYPE_CHECKING:
    from submitit import AutoExecutor
    from submitit.helpers import DelayedSubmission

RESUMES = 3  # how often a sweep resumes itself
REQUEUES = 100  # a job may meet its time limit so often: each time its runs have come further
KEPT = ("SLURM_CONF", "SLURM_CLUSTERS")  # where SLURM is, also for a job that submits jobs
SIGNAL_DELAY = 90  # seconds before its end in which a job is told to stop


def minutes(time: object) -> object:
    """H:MM:SS and D-HH:MM:SS in minutes; anything else is left to pydantic."""
    found = re.fullmatch(r"(?:(\d+)-)?(\d+):(\d\d):\d\d", str(time))
    return (int(found[1] or 0) * 24 + int(found[2])) * 60 + int(found[3]) if found else time


def text(value: object) -> object:
    """Numbers where text is meant: a partition may be called 1. What would add a line to a job's script is refused."""
    if isinstance(value, str) and not value.isprintable():
        raise ValueError("expected one line without control characters")
    return str(value) if type(value) in (int, float) else value


Text = Annotated[str, BeforeValidator(text)]


class SlurmEngine:
    class Options(BaseModel):
        """A site's YAML file holds these; flags win."""

        model_config = ConfigDict(extra="forbid", frozen=True)

        partition: Text | None = Field(None, description="where jobs run (default: the cluster's)")
        time: Annotated[Whole, BeforeValidator(minutes), Field(ge=1)] = Field(
            240, description="a job's time limit: minutes, H:MM:SS or D-HH:MM:SS"
        )
        cpus: Whole = Field(1, ge=1, description="cores of a job")
        gpus: Whole = Field(0, ge=0, description="GPUs of a job")
        memory: Text | None = Field(None, description="of a job, such as 8G (default: the cluster's)")
        array_parallelism: Whole | None = Field(None, ge=1, description="jobs at a time (default: as many as fit)")
        runs_per_job: Whole = Field(1, ge=1, description="runs that share a job, one after another but for --workers")
        workers: Whole = Field(1, ge=1, description="runs at a time, on this machine or in each job")
        setup: list[Text] = []  # lines of shell before the job's command, such as "module load cuda"
        # any other option of sbatch, such as {account: mine, constraint: v100}; true: one without a value, false: none
        sbatch: dict[Text, bool | Text] = {}

    POLL = 30.0  # seconds; many sites ask not to be asked more often

    def __init__(self, options: Options) -> None:
        self.options = options

    def at_once(self, runs: int) -> int:
        jobs = self.options.array_parallelism or -(-runs // self.options.runs_per_job)
        return jobs * self.options.workers

    def submit(self, sweep: Sweep, names: list[str], resumes: int = 0) -> bool:
        """Submit arrays of jobs, none larger than the cluster takes, and the job that resumes. Raises DataError."""
        with Claim(sweep.folder / "submitting").waited_for():  # somebody else's jobs are in the manifest by then
            found = states(sweep)
            self.arrays(sweep, [name for name in names if not found[name].under_way], resumes)
        return False

    def arrays(self, sweep: Sweep, names: list[str], resumes: int) -> None:
        options = self.options
        shares = [names[i : i + options.runs_per_job] for i in range(0, len(names), options.runs_per_job)]
        size, asked = max_array_size(), list[str]()
        for first in range(0, len(shares), size):
            part = shares[first : first + size]
            parameters: dict[str, Any] = {"slurm_array_parallelism": options.array_parallelism or len(part)}
            if options.array_parallelism and asked:  # one array after another, or each would run as many
                parameters["slurm_dependency"] = f"afterany:{asked[-1]}"
            with submitting(len(asked) * size, len(shares)):
                jobs = self.executor(sweep, parameters).map_array(Share(sweep, options.workers), part)
            sweep.record("slurm", options, {job.job_id: part[i] for i, job in enumerate(jobs)}, resumes)
            asked.append(jobs[0].job_id.split("_")[0])
        if asked and resumes < RESUMES:
            after = f"afterany:{':'.join(asked)}"
            last = {"slurm_dependency": after, "timeout_min": 30, "cpus_per_task": 1, "slurm_gpus_per_node": None}
            with submitting(len(shares), len(shares)):
                job = self.executor(sweep, last).submit(
                    resume_by_itself, sweep.folder.absolute(), sweep.flags, resumes + 1
                )
            sweep.record("slurm", options, {job.job_id: []}, resumes)
        arrays = " ".join(asked) or "none"
        print(f"{len(names):,} runs in {len(shares):,} jobs (arrays: {arrays}); their logs in {sweep.folder / 'slurm'}")

    def executor(self, sweep: Sweep, parameters: dict) -> "AutoExecutor":
        from submitit import AutoExecutor

        options = self.options
        folder = sweep.folder.absolute() / "slurm"
        executor = AutoExecutor(folder=folder, cluster="slurm", slurm_max_num_timeout=REQUEUES)
        defaults = {
            "name": re.sub(r"\W+", "-", sweep.folder.name),
            "timeout_min": options.time,
            "cpus_per_task": options.cpus,
            "slurm_partition": options.partition,
            "slurm_gpus_per_node": options.gpus or None,
            "slurm_mem": options.memory,
            "slurm_setup": options.setup or None,
            "slurm_signal_delay_s": SIGNAL_DELAY,
            "slurm_additional_parameters": {key: value for key, value in options.sbatch.items() if value is not False},
            # since 22.05 srun does not ask for the cores of its job
            "slurm_srun_args": [f"--cpus-per-task={parameters.get('cpus_per_task', options.cpus)}"],
        }
        executor.update_parameters(
            **{key: value for key, value in (defaults | parameters).items() if value is not None}
        )
        return executor

    @staticmethod
    def pending(sweep: Sweep, submissions: list[Submission]) -> set[str]:
        queue = queued()
        return {
            name
            for submission in submissions
            for job, names in submission.jobs.items()
            if job in queue
            for name in names
        }

    @staticmethod
    def fates(submissions: list[Submission]) -> dict[str, str]:
        """SLURM's states of the jobs, where it keeps accounts."""
        from submitit.slurm.slurm import read_job_id

        jobs = [job for submission in submissions for job in submission.jobs]
        arrays = ",".join(sorted({job.split("_")[0] for job in jobs}))
        found: dict[str, str] = {}
        for line in ask("sacct", "-X", "-n", "-P", "-o", "JobID,State", "-j", arrays, needed=False).splitlines():
            ids, state = line.split("|")
            for main, *span in read_job_id(ids):
                elements = range(int(span[0]), int(span[-1]) + 1) if span else None
                for job in [f"{main}_{i}" for i in elements] if elements else [main]:
                    found[job] = state.split()[0]
        # elements that ended together before they were ever told apart have one account, the array's
        return {job: word for job in jobs if (word := found.get(job) or found.get(job.split("_")[0]))}

    @staticmethod
    def cancel(sweep: Sweep, submissions: list[Submission]) -> int:
        """The jobs that resume first, or they would."""
        queue = queued()
        jobs = [(bool(names), job) for submission in submissions for job, names in submission.jobs.items()]
        arrays = list(dict.fromkeys(job.split("_")[0] for _, job in sorted(jobs) if job in queue))
        if arrays:
            ask("scancel", *arrays)
        return sum(job in queue for _, job in jobs)


class Share:
    """A job: some runs of a sweep. submitit pickles it; on SIGUSR2 it calls checkpoint() and requeues the job."""

    def __init__(self, sweep: Sweep, workers: int) -> None:
        self.folder, self.flags, self.workers = sweep.folder.absolute(), sweep.flags, workers

    def __call__(self, names: list[str]) -> None:
        supervise(
            replace(Sweep.open(self.folder), flags=self.flags),
            names,
            self.workers,
            lambda name, code, reason: print(f"{name}: code {code} {reason}", flush=True),
        )

    def checkpoint(self, names: list[str]) -> "DelayedSubmission":
        from submitit.helpers import DelayedSubmission

        return DelayedSubmission(self, names)


def resume_by_itself(folder: Path, flags: tuple[str, ...], resumes: int) -> None:
    """The last job of a sweep: ask for what its jobs did not end."""
    from dpft.sweeps.sweep_commands import launch, make_engine

    sweep = replace(Sweep.open(folder), flags=flags)
    launch(sweep, make_engine(sweep, "slurm", {}), resumes)


@contextlib.contextmanager
def submitting(submitted: int, jobs: int) -> Iterator[None]:
    """DataError, with SLURM's own words, where it refuses a job."""
    from submitit.core.utils import FailedJobError

    logging.getLogger("submitit").setLevel(logging.ERROR)
    try:
        with out_of_the_job(), warnings.catch_warnings(action="ignore"):
            yield
    except FailedJobError as error:
        words = re.findall(r"(?:sbatch: )?error: (.*)", str(error)) or [first_line(error)]
        kept = f"; {submitted} of {jobs} jobs are submitted, dpft resume submits the rest" if submitted else ""
        raise DataError(f"SLURM refused: {words[-1].strip()}{kept}") from None
    except RuntimeError as error:
        raise DataError(f"cannot submit to SLURM: {first_line(error)}") from None


@contextlib.contextmanager
def out_of_the_job() -> Iterator[None]:
    """A job that submits jobs does not hand on what SLURM says to it alone. What a user or a site says (which cluster,
    and SBATCH_*, the options of sbatch) stays, as it does where no job submits."""
    inside = "SLURM_JOB_ID" in os.environ
    said = [name for name in os.environ if re.match("SLURMD?_|SRUN_|SUBMITIT_", name) and name not in KEPT]
    hidden = {name: os.environ.pop(name) for name in said if inside}
    try:
        yield
    finally:
        os.environ.update(hidden)


def ask(*command: str, needed: bool = True) -> str:
    """What a command of SLURM prints; nothing where it fails and is not needed. Raises DataError where it is."""
    try:
        return subprocess.run(command, capture_output=True, text=True, check=True).stdout
    except FileNotFoundError:
        problem = f"there is no {command[0]} on this machine"
    except subprocess.CalledProcessError as error:
        problem = f"{command[0]}: {(error.stderr.strip().splitlines() or ['failed'])[-1]}"
    if needed:
        raise DataError(f"cannot ask SLURM: {problem}")
    return ""


def queued() -> set[str]:
    """The ids of this user's jobs that wait, run, or are being requeued."""
    return set(ask("squeue", "-h", "-r", "-o", "%i", "-u", str(os.getuid())).split())


def max_array_size() -> int:
    """How many jobs the cluster takes in one array."""
    found = re.search(r"MaxArraySize\s*=\s*(\d+)", ask("scontrol", "show", "config"))
    return int(found.group(1)) if found else 1001

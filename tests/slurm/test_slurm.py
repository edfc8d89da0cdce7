"""Sweeps on a real SLURM that kills jobs in every way it has: each ends with the records of an undisturbed one."""

import json
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest
import yaml
from same import same_records

from dpft.sweeps.launch import Sweep
from dpft.sweeps.run_state import states

pytestmark = pytest.mark.slurm
DPFT = [sys.executable, "-m", "dpft"]


def dpft(*arguments: object, code: int | None = 0, **options) -> str:
    """The output of a command that must end with the code."""
    done = subprocess.run([*DPFT, *map(str, arguments)], capture_output=True, text=True, **options)
    assert code is None or done.returncode == code, done.stdout + done.stderr
    return done.stdout + done.stderr


def slurm(*command: str) -> str:
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout


def until(condition: Callable[[], object], seconds: float = 240.0) -> None:
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, f"not within {seconds} s; squeue: {slurm('squeue', '-r')}"
        time.sleep(0.2)


@pytest.fixture(autouse=True)
def _empty_queue(cluster):
    """A sweep's last job may outlive its test."""
    slurm("scancel", "-u", str(os.getuid()))
    until(lambda: not slurm("squeue", "-h", "-r"), 60)


def begin(grid: Path, folder: Path, *flags: object) -> Sweep:
    dpft("sweep", grid, "--out", folder, "--engine", "slurm", "--time", "0:20:00", *flags)
    return Sweep.open(folder)


def jobs(sweep: Sweep) -> dict[str, list[str]]:
    """Job id -> its runs, of everything submitted so far."""
    return {job: names for submission in sweep.submissions() for job, names in submission.jobs.items() if names}


def process(sweep: Sweep, name: str) -> int:
    """The process of a run that has got somewhere."""
    folder = sweep.run(name)
    until(lambda: (folder / "checkpoint/latest.pt").exists() or (folder / "done.json").exists())
    assert not (folder / "done.json").exists(), "it ended before it could be disturbed"
    return json.loads((folder / "run.claim").read_text())["pid"]


def complete(sweep: Sweep, undisturbed: Path, seconds: float = 400.0) -> None:
    until(lambda: not sweep.missing(), seconds)
    assert {run.state for run in states(sweep).values()} == {"done"}
    for name in sweep.runs:
        same_records(sweep.run(name), undisturbed / "runs" / name)


def test_an_array_of_jobs_that_share_runs(grid, undisturbed, tmp_path):
    """Two launchers at once submit every run once; a third finds nothing to do; the sweep ends complete."""
    folder = tmp_path / "out"
    flags = ["--engine", "slurm", "--time", "0:20:00", "--array-parallelism", "2", "--runs-per-job", "2"]
    command = ["sweep", grid, "--out", folder, *flags]
    launchers = [subprocess.Popen([*DPFT, *command], stdout=subprocess.PIPE, text=True) for _ in range(2)]
    outs = [launcher.communicate(timeout=120)[0] for launcher in launchers]
    assert [launcher.returncode for launcher in launchers] == [0, 0]
    assert sorted(re.findall(r"(\d) runs in (\d) jobs", "".join(outs))) == [("0", "0"), ("4", "2")]
    sweep = Sweep.open(folder)
    assert sorted(name for names in jobs(sweep).values() for name in names) == sorted(sweep.runs)
    assert "4 waiting" in dpft("status", folder, code=3) or "running" in dpft("status", folder, code=3)
    complete(sweep, undisturbed)
    assert all((sweep.run(name) / "run.log").read_text().count("done: records") == 1 for name in sweep.runs)
    assert "0 runs in 0 jobs" in dpft(*command)
    assert "4 runs: 4 done" in dpft("status", folder)


def test_kill_9_of_a_run(grid, undisturbed, tmp_path):
    """Its job notices and starts it again; until then it waits, and nobody else is asked for it."""
    sweep = begin(grid, tmp_path / "out")
    name = next(iter(sweep.runs))
    os.kill(process(sweep, name), signal.SIGKILL)
    until(lambda: states(sweep)[name].reason.startswith("tried 1 of 3: killed by SIGKILL"), 20)
    assert states(sweep)[name].state == "waiting"
    assert "0 runs in 0 jobs" in dpft("resume", sweep.folder)
    complete(sweep, undisturbed)
    assert len(jobs(sweep)) == 4, "nothing was submitted again"


def test_kill_9_of_a_job(grid, undisturbed, tmp_path):
    """Nobody requeues it: the sweep's last job submits what is missing, without a process of ours."""
    sweep = begin(grid, tmp_path / "out", "--runs-per-job", "4")
    name = next(iter(sweep.runs))
    run = process(sweep, name)
    parent = int(Path(f"/proc/{run}/stat").read_text().rpartition(")")[2].split()[1])
    os.kill(parent, signal.SIGKILL)
    complete(sweep, undisturbed)
    assert max(submission.resumes for submission in sweep.submissions()) == 1


@pytest.mark.parametrize("way", ["USR2", "priority"])
def test_preemption(way, grid, undisturbed, tmp_path):
    """By the signal that submitit listens to, and by a job of higher priority that wants both cores."""
    sweep = begin(grid, tmp_path / "out", "--runs-per-job", "2")
    job, (name, _) = next(iter(jobs(sweep).items()))
    process(sweep, name)
    if way == "USR2":
        slurm("scancel", "--signal=USR2", job)
    else:
        slurm("sbatch", "--partition=urgent", "--cpus-per-task=2", "--output=/dev/null", "--wrap=sleep 3")
    until(lambda: "Restarts=1" in slurm("scontrol", "show", "job", job), 60)
    until(lambda: "the same command continues from the checkpoint" in (sweep.run(name) / "run.log").read_text(), 20)
    complete(sweep, undisturbed)
    assert len(jobs(sweep)) == 2, "the jobs themselves went on"


def test_time_limits(grid, undisturbed, tmp_path):
    """A job of a minute is told to stop at once, by SLURM's own rules; its runs come further each time."""
    data = yaml.safe_load(grid.read_text()) | {"env_steps": 100_000, "seed": [0, 1]}
    long = tmp_path / "long.yaml"
    long.write_text(yaml.safe_dump(data))
    sweep = begin(long, tmp_path / "out", "--time", "0:01:00")
    until(lambda: not sweep.missing(), 500)
    assert any("Restarts=0" not in slurm("scontrol", "show", "job", job) for job in jobs(sweep))
    dpft("sweep", long, "--out", tmp_path / "whole", "--workers", "2")
    for name in sweep.runs:
        same_records(sweep.run(name), tmp_path / "whole/runs" / name)


def test_node_loss(cluster, grid, undisturbed, tmp_path):
    """The node's daemons and everything on it die at once; SLURM notices, the node returns, the runs continue."""
    folder = cluster()
    sweep = begin(grid, tmp_path / "out", "--runs-per-job", "2")
    runs = [process(sweep, names[0]) for names in jobs(sweep).values()]
    daemon = int((folder / "slurmd.pid").read_text())
    steps = [int(pid) for pid in slurm("pgrep", "-x", "slurmstepd").split()]
    parents = [int(Path(f"/proc/{run}/stat").read_text().rpartition(")")[2].split()[1]) for run in runs]
    for pid in (daemon, *steps, *parents, *runs):
        os.kill(pid, signal.SIGKILL)
    until(lambda: "down" in slurm("sinfo", "-h", "-N", "-o", "%t"), 90)
    assert {run.state for run in states(sweep).values()} <= {"waiting", "done"}
    cluster()
    complete(sweep, undisturbed)


def test_half_was_lost(grid, undisturbed, tmp_path):
    """Cancelled jobs are lost with SLURM's word for it, where it keeps accounts; resume submits them alone."""
    folder = tmp_path / "out"
    sweep = begin(grid, folder)
    third, fourth = list(jobs(sweep))[2:]
    process(sweep, next(iter(sweep.runs)))  # SLURM has no account of what is cancelled before it was looked at
    last = next(job for submission in sweep.submissions() for job, names in submission.jobs.items() if not names)
    slurm("scancel", last, third, fourth)
    lost = [*jobs(sweep)[third], *jobs(sweep)[fourth]]
    until(lambda: sweep.missing() == lost)
    out = dpft("status", folder, code=4)
    assert out.count(": CANCELLED") == 2
    assert f"next: dpft resume {folder}" in out
    tools = tmp_path / "tools"  # a cluster whose sacct has no accounts
    tools.mkdir()
    (tools / "sacct").write_text("#!/bin/sh\necho 'Slurm accounting storage is disabled' >&2\nexit 1\n")
    (tools / "sacct").chmod(0o755)
    without = os.environ | {"PATH": f"{tools}:{os.environ['PATH']}"}
    assert "2 done, 2 lost" in dpft("status", folder, code=4, env=without)
    assert "2 runs in 2 jobs" in dpft("resume", folder, env=without)
    assert [name for names in list(jobs(sweep).values())[4:] for name in names] == lost
    complete(sweep, undisturbed)


def test_cancel(grid, undisturbed, tmp_path):
    """Everything stops, the job that would resume included; runs under way have written their checkpoints."""
    folder = tmp_path / "out"
    sweep = begin(grid, folder)
    name = jobs(sweep)[next(iter(jobs(sweep)))][0]
    process(sweep, name)
    assert "5 jobs and processes" in dpft("cancel", folder)
    until(lambda: not slurm("squeue", "-h", "-r"), 60)
    found = states(sweep)
    assert found[name].state == "stopped"
    assert {run.state for run in found.values()} <= {"stopped", "lost"}
    assert f"stopped  {name}: at " in dpft("status", folder, code=4)
    assert (sweep.run(name) / "checkpoint/latest.pt").exists()
    dpft("resume", folder)
    complete(sweep, undisturbed)


def test_a_search_waits_for_its_jobs(grid, tmp_path):
    """Killed while jobs are under way, it goes on with them and ends with the trials of one without SLURM."""
    search, here, there = tmp_path / "search.yaml", tmp_path / "here", tmp_path / "there"
    ranges = {"gaussian-ppo": {"settings.learning_rate": {"low": 1e-5, "high": 1e-3, "log": True}}}
    fields = {"seed": [0, 1], "tune": {"trials": 2, "batch": 1, "ranges": ranges}}
    search.write_text(yaml.safe_dump(yaml.safe_load(grid.read_text()) | fields))
    command = ["tune", search, "--out", there, "--engine", "slurm", "--time", "0:20:00"]
    first = subprocess.Popen([*DPFT, *command], stdout=subprocess.DEVNULL)
    until(lambda: list(there.glob("runs/*/checkpoint/latest.pt")))
    first.kill()
    first.wait()
    assert len(jobs(Sweep.open(there))) == 2
    assert f"next: dpft sweep {there / 'best.yaml'}" in dpft(*command)
    assert len(jobs(Sweep.open(there))) == 4, "no run was submitted twice"
    dpft("tune", search, "--out", here, "--workers", "2")
    assert (there / "tune.csv").read_text() == (here / "tune.csv").read_text()
    complete(Sweep.open(there), here)


@pytest.mark.parametrize(("count", "arrays"), [(1001, [1001]), (2500, [1001, 1001, 498])])
def test_arrays_are_split_by_what_the_cluster_takes(count, arrays, grid, tmp_path):
    """MaxArraySize is 1001, as by default. The partition is down meanwhile: nothing starts."""
    data = yaml.safe_load(grid.read_text()) | {"seed": list(range(count))}
    many = tmp_path / "many.yaml"
    many.write_text(yaml.safe_dump(data))
    slurm("scontrol", "update", "partition=main", "state=down")
    try:
        sweep = begin(many, tmp_path / "out", "--array-parallelism", "2")
        assert [len(submission.jobs) for submission in sweep.submissions()] == [*arrays, 1]
        assert [name for names in jobs(sweep).values() for name in names] == list(sweep.runs)
        assert f"{count} waiting" in dpft("status", tmp_path / "out", code=3)
        assert f"{count + 1} jobs and processes" in dpft("cancel", tmp_path / "out")
        until(lambda: not slurm("squeue", "-h", "-r"), 60)
        assert f"{count} lost" in dpft("status", tmp_path / "out", code=4)
    finally:
        slurm("scontrol", "update", "partition=main", "state=up")


def test_a_refusal_is_one_line(grid, tmp_path):
    site = tmp_path / "site.yaml"
    site.write_text("time: 1:00:00\npartition: nowhere\n")
    command = ["sweep", grid, "--out", tmp_path / "out", "--engine", "slurm", "--site", site]
    out = dpft(*command, code=2)
    assert out.splitlines()[-1].startswith("dpft sweep: SLURM refused: ")
    assert "invalid partition" in out
    site.write_text("time: 1:00:00\npartitoin: main\n")
    assert "unknown field partitoin: did you mean partition?" in dpft(*command, code=2)
    assert "4 missing" in dpft("status", tmp_path / "out", code=4)
    site.write_text("time: 1:00:00\npartition: main\nsbatch: {comment: 0123, exclusive: true, requeue: false}\n")
    dpft(*command)
    (submission, _) = Sweep.open(tmp_path / "out").submissions()
    assert submission.options["time"] == 60
    job = slurm("scontrol", "show", "job", next(iter(submission.jobs)))
    assert "Comment=0123" in job
    assert "OverSubscribe=NO" in job, "exclusive is an option without a value"
    dpft("cancel", tmp_path / "out")

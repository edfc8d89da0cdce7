"""The local engine: a bounded pool of processes on this machine. A job of a cluster is one, too."""

import os
import shutil
import signal
import subprocess
import sys
import time
from collections import Counter, deque
from collections.abc import Callable, Collection

from pydantic import BaseModel, ConfigDict, Field

from dpft.arguments import Whole
from dpft.envs.cache import Claim
from dpft.sweeps.attempts import its_own, note, note_deleted
from dpft.sweeps.board import SweepProgress
from dpft.sweeps.launch import BAD_INPUT, CLAIMED, CRASHED, DIVERGED, DONE, LaunchedHere, Sweep
from dpft.sweeps.records import read_done
from dpft.sweeps.stop import StopSignal

RETRIES = 2  # of a run that crashes or is killed
PAUSE = 5.0  # seconds before a run is tried again
POLL = 0.2  # seconds


class LocalEngine(LaunchedHere):
    class Options(BaseModel):
        model_config = ConfigDict(extra="forbid", frozen=True)

        workers: Whole = Field(1, ge=1, description="runs at a time, on this machine or in each job")

    def __init__(self, options: Options) -> None:
        self.options = options

    def at_once(self, runs: int) -> int:
        return min(self.options.workers, os.cpu_count() or 1)

    def submit(self, sweep: Sweep, names: list[str], resumes: int = 0) -> bool:
        with sweep.launching("local", self.options, names), SweepProgress(sweep, names, self.options.workers) as shown:
            supervise(sweep, names, self.options.workers, shown.ended, shown.under_way)
        return True


def supervise(
    sweep: Sweep,
    names: list[str],
    workers: int,
    ended: Callable[[str, int, str], None],
    under_way: Callable[[Collection[str]], None] = lambda names: None,
) -> None:
    """Have every run made, at most `workers` at a time, each a process of its own with its output in run.log.

    A crash is retried RETRIES times. A run that somebody else makes is waited for. ended(name, exit code, reason) is
    told of each, under_way of those that run, again and again. What is wrong with one run's folder ends that run, but
    for a full disk. On Ctrl-C, SIGTERM or an error every child is asked to write its checkpoint and waited for.
    """
    waiting, running, tries = deque(names), dict[str, tuple[subprocess.Popen, int]](), Counter[str]()
    free, after, gpus = list(range(workers)), dict[str, float](), visible_gpus()
    stop = StopSignal(signal.SIGINT, signal.SIGTERM)
    try:
        while waiting or running:
            if stop.asked:
                raise KeyboardInterrupt
            for _ in range(len(waiting)):
                if not free:
                    break
                name = waiting.popleft()
                done = read_done(sweep.run(name))
                if done:
                    ended(name, DONE if done["status"] == "done" else DIVERGED, done.get("reason") or "")
                elif after.get(name, 0.0) > time.monotonic() or Claim(sweep.run(name) / "run").alive():
                    waiting.append(name)
                else:
                    try:
                        running[name] = start(sweep, name, gpus[free[0] % len(gpus)] if gpus else None), free[0]
                        free.pop(0)
                    except OSError as error:
                        ended(name, CRASHED, its_own(error))
            under_way(running.keys())
            time.sleep(POLL)
            for name, (process, slot) in list(running.items()):
                code = process.poll()
                if code is None:
                    continue
                del running[name]
                free.append(slot)
                run = sweep.run(name)
                if not run.is_dir():
                    ended(name, CRASHED, note_deleted(run))
                elif code in (DONE, DIVERGED):
                    ended(name, code, (read_done(run) or {}).get("reason") or "")
                elif code == CLAIMED:
                    waiting.append(name)
                else:
                    tries[name] += 1
                    of = tries[name] if code == BAD_INPUT else 1 + RETRIES
                    try:
                        reason = note(run, code, tries[name], of)
                    except OSError as error:
                        reason, of = its_own(error), tries[name]
                    if tries[name] == of:
                        ended(name, code, reason)
                    else:
                        after[name] = time.monotonic() + PAUSE
                        waiting.append(name)
    finally:
        stop.restore()  # a second Ctrl-C ends the waiting
        for process, _ in running.values():
            process.terminate()
        for process, _ in running.values():
            process.wait()


def start(sweep: Sweep, name: str, gpu: str | None) -> subprocess.Popen:
    threads = str(sweep.runs[name]["threads"])
    environment = os.environ | {"OMP_NUM_THREADS": threads, "MKL_NUM_THREADS": threads}
    if gpu is not None:
        environment["CUDA_VISIBLE_DEVICES"] = gpu
    command = [sys.executable, "-m", "dpft", *sweep.request(name)]
    (sweep.run(name) / "error.txt").unlink(missing_ok=True)  # of the attempt before
    with (sweep.run(name) / "run.log").open("a") as log:
        # a session of its own: Ctrl-C reaches the launcher, which lets every run write its checkpoint
        return subprocess.Popen(command, stdout=log, stderr=subprocess.STDOUT, env=environment, start_new_session=True)


def visible_gpus() -> list[str]:
    """The GPUs that this process may use, without importing torch."""
    if "CUDA_VISIBLE_DEVICES" in os.environ:
        return [gpu for gpu in os.environ["CUDA_VISIBLE_DEVICES"].split(",") if gpu]
    if not shutil.which("nvidia-smi"):
        return []
    query = ["nvidia-smi", "--query-gpu=index", "--format=csv,noheader"]
    return subprocess.run(query, capture_output=True, text=True).stdout.split()

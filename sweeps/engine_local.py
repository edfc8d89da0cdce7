"""The local engine: a bounded pool of processes on this machine. A job of a cluster is one, too."""

import os
import shutil
import signal
import subprocess
import sys
import time
from collections import Counter, deque
from collections.abc import Callable

from pydantic import BaseModel, ConfigDict, Field

from dpft.envs.cache import Claim
from dpft.sweeps.launch import BAD_INPUT, CLAIMED, DIVERGED, DONE, LaunchedHere, Sweep
from dpft.sweeps.progress import SweepProgress
from dpft.sweeps.records import read_done, write_atomically
from dpft.sweeps.stop import StopSignal

RETRIES = 2  # of a run that crashes or is killed
PAUSE = 5.0  # seconds before a run is tried again
POLL = 0.2  # seconds


class LocalEngine(LaunchedHere):
    class Options(BaseModel):
        model_config = ConfigDict(extra="forbid", frozen=True)

        workers: int = Field(1, ge=1, description="runs at a time, on this machine or in each job")

    def __init__(self, options: Options) -> None:
        self.options = options

    def submit(self, sweep: Sweep, names: list[str], resumes: int = 0) -> bool:
        with sweep.launching("local", self.options, names), SweepProgress(len(names)) as ended:
            supervise(sweep, names, self.options.workers, ended)
        return True


def supervise(sweep: Sweep, names: list[str], workers: int, ended: Callable[[str, int], None]) -> None:
    """Have every run made, at most `workers` at a time, each a process of its own with its output in run.log.

    A crash is retried RETRIES times. A run that somebody else makes is waited for. ended(name, exit code) is told of
    each. On Ctrl-C, SIGTERM or an error every child is asked to write its checkpoint and waited for.
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
                    ended(name, DONE if done["status"] == "done" else DIVERGED)
                elif after.get(name, 0.0) > time.monotonic() or Claim(sweep.run(name) / "run").alive():
                    waiting.append(name)
                else:
                    slot = free.pop(0)
                    running[name] = start(sweep, name, gpus[slot % len(gpus)] if gpus else None), slot
            time.sleep(POLL)
            for name, (process, slot) in list(running.items()):
                code = process.poll()
                if code is None:
                    continue
                del running[name]
                free.append(slot)
                if code in (DONE, DIVERGED):
                    ended(name, code)
                elif code == CLAIMED:
                    waiting.append(name)
                elif code == BAD_INPUT or tries[name] == RETRIES:
                    note(sweep, name, code)
                    ended(name, code)
                else:
                    note(sweep, name, code)
                    tries[name] += 1
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


def note(sweep: Sweep, name: str, code: int) -> None:
    """Write down why a run ended; a crash of its own has left its traceback."""
    folder = sweep.run(name)
    if code < 0:
        write_atomically(folder / "error.txt", f"killed by {signal.Signals(-code).name}; see {folder / 'run.log'}\n")
    elif not (folder / "error.txt").exists():
        lines = (folder / "run.log").read_text(errors="replace").strip().splitlines()
        write_atomically(folder / "error.txt", f"{lines[-1] if lines else f'ended with code {code}'}\n")

"""The local engine: a bounded pool of processes on this machine."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable

from envs.task import DataError
from sweeps.launch import Job
from sweeps.stop import StopSignal


class LocalEngine:
    """At most `workers` runs at a time, each a process of its own with its output in run.log."""

    def __init__(self, workers: int, ended: Callable[[Job, int], None]) -> None:
        if workers < 1:
            raise DataError(f"--workers {workers}: at least one process is needed")
        self.workers, self.ended = workers, ended

    def run(self, jobs: list[Job]) -> None:
        """On Ctrl-C, SIGTERM or an error every child is asked to write its checkpoint and waited for."""
        waiting, running, stop = list(jobs), dict[Job, subprocess.Popen](), StopSignal()
        try:
            while waiting or running:
                while waiting and len(running) < self.workers:
                    job = waiting.pop(0)
                    running[job] = start(job)
                time.sleep(0.2)
                if stop.asked:
                    raise KeyboardInterrupt
                for job, process in list(running.items()):
                    code = process.poll()
                    if code is not None:
                        del running[job]
                        self.ended(job, code)
        finally:
            stop.restore()  # a second Ctrl-C ends the waiting
            for process in running.values():
                process.send_signal(signal.SIGTERM)
            for process in running.values():
                process.wait()


def start(job: Job) -> subprocess.Popen:
    command = [
        sys.executable,
        "-m",
        "sweeps.cli",
        "train",
        "--config",
        str(job.folder / "request.yaml"),
        "--out",
        str(job.folder),
    ]
    threads = {name: str(job.threads) for name in ("OMP_NUM_THREADS", "MKL_NUM_THREADS")}
    with (job.folder / "run.log").open("a") as log:
        # a session of its own: Ctrl-C reaches the launcher, which lets every run write its checkpoint
        return subprocess.Popen(
            command, stdout=log, stderr=subprocess.STDOUT, env=os.environ | threads, start_new_session=True
        )

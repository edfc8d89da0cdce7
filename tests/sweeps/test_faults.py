"""A sweep whose processes are killed at random ends with the records of one that is left alone."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from same import same_records
from test_launch import write_grid

from dpft.envs.cache import Claim
from dpft.sweeps.launch import Sweep

KILLS = 50


def sweep(grid: Path, folder: Path, **environment: str) -> subprocess.Popen:
    command = [sys.executable, "-m", "dpft", "sweep", str(grid), "--out", str(folder), "--workers", "2"]
    quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL, "start_new_session": True}
    return subprocess.Popen(command, env=os.environ | environment, **quiet)


def signs_of_life(folder: Path) -> list[int]:
    return sorted(path.stat().st_mtime_ns for path in folder.glob("runs/*/checkpoint/latest.pt"))


@pytest.mark.slow
def test_fifty_kills_change_nothing(tmp_path):
    """SIGKILL to a run, to the launcher, to a run and the launcher, or to everything, within a second of progress."""
    grid = write_grid(tmp_path / "small.yaml", seed=[0, 1, 2, 3], env_steps=60_000, eval_every=10_000)
    assert sweep(grid, tmp_path / "whole").wait() == 0
    folder, rng, kills, launcher = tmp_path / "killed", np.random.default_rng(0), 0, None
    while True:
        if launcher is None or launcher.poll() is not None:
            if (folder / "runs.json").exists() and not Sweep.open(folder).missing():
                break
            launcher = sweep(grid, folder, DPFT_CHECKPOINT_SECONDS="0.05")
        before = signs_of_life(folder)
        while launcher.poll() is None and (kills == KILLS or signs_of_life(folder) == before):
            time.sleep(0.02)
        if launcher.poll() is not None:
            continue
        time.sleep(rng.uniform(0.0, 1.0))
        opened = Sweep.open(folder)
        runs = [process for name in opened.runs if (process := Claim(opened.run(name) / "run").process())]
        rng.shuffle(runs)
        victims = [[launcher.pid], runs[:1], [launcher.pid, *runs[:1]], [launcher.pid, *runs]][rng.integers(4)]
        for victim in victims:
            os.kill(victim, signal.SIGKILL)
        kills += bool(victims)
        if launcher.pid in victims:
            launcher.wait()
    assert kills == KILLS, "the runs are too short to be killed so often"
    for run in (tmp_path / "whole/runs").iterdir():
        same_records(run, folder / "runs" / run.name)

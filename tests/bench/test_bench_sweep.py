"""What 10,000 runs cost before the first of them starts, and to look at."""

import json
import os
import subprocess
import sys
import time
from pathlib import Path

import pytest
import yaml

from dpft.envs.cache import Claim
from dpft.sweeps.engine_local import LocalEngine
from dpft.sweeps.grid import Grid, load_grid
from dpft.sweeps.launch import Sweep
from dpft.sweeps.status import states, summary

pytestmark = pytest.mark.benchmark(timer=time.process_time)
CORES = os.cpu_count() or 1
FROM_SCRATCH = {"method": "dppo", "denoising_steps": 5, "from_scratch": True}


@pytest.fixture(scope="module")
def large(tmp_path_factory) -> str:
    path = tmp_path_factory.mktemp("grid") / "large.yaml"
    axes = {"method": ["ncdpo", "dppo", "dsrl-na", "gaussian-ppo"], "denoising_steps": [1, 5, 10, 20, 50]}
    path.write_text(yaml.safe_dump({**axes, "seed": list(range(500))}))
    load_grid("quickstart")  # imports torch
    return str(path)


def test_expanding(benchmark, large):
    """Under a second: every run validated, its id unique."""
    assert len(benchmark.pedantic(load_grid, [large], rounds=3).runs) == 10_000


def test_freezing(benchmark, large, tmp_path):
    grid: Grid = load_grid(large)
    benchmark.pedantic(Sweep.freeze, [grid, tmp_path], rounds=3)


def test_status(benchmark, large, tmp_path):
    """Under two seconds: half of them done, eight running, the others waiting for a launcher that lives."""
    sweep = Sweep.freeze(load_grid(large), tmp_path)
    names = list(sweep.runs)
    for name in names[:5000]:
        sweep.run(name).mkdir(parents=True)
        (sweep.run(name) / "done.json").write_text(json.dumps({"status": "done", "reason": None}))
    claims = [Claim(sweep.run(name) / "run") for name in names[5000:5008]]
    assert all(claim.take() for claim in claims)
    launcher = sweep.launcher(sweep.record("local", LocalEngine.Options(), {"": names}))
    assert launcher.take()

    def look() -> str:
        return summary(states(Sweep.open(tmp_path)))

    assert benchmark.pedantic(look, rounds=3) == "10000 runs: 5000 done, 8 running, 4992 waiting"
    for claim in (*claims, launcher):
        claim.release()


def seconds(command: list[str]) -> float:
    started = time.perf_counter()
    subprocess.run([sys.executable, *command], check=True, capture_output=True)
    return time.perf_counter() - started


@pytest.mark.slow
@pytest.mark.parametrize("workers", sorted({1, 2, CORES}))
@pytest.mark.benchmark(timer=time.perf_counter)
def test_workers(benchmark, tmp_path, workers):
    """Wall-clock environment steps per second of all runs together: two short runs of DPPO for each core."""
    grid = {**FROM_SCRATCH, "name": "w", "seed": list(range(2 * CORES)), "env_steps": 32_000, "eval_every": 32_000}
    path = tmp_path / "w.yaml"
    path.write_text(yaml.safe_dump(grid))
    command = ["-m", "dpft", "sweep", str(path), "--out", str(tmp_path / "out"), "--workers", str(workers)]
    taken = benchmark.pedantic(seconds, (command,), rounds=1)
    steps = grid["env_steps"] * len(grid["seed"])
    benchmark.extra_info |= {"workers": workers, "env_steps_per_second": round(steps / taken)}


@pytest.mark.benchmark(timer=time.perf_counter)
def test_starting_a_run(benchmark, tmp_path):
    """Under three seconds beyond importing torch: a run of no steps and one evaluation episode."""
    config = tmp_path / "config.yaml"
    config.write_text(yaml.safe_dump({**FROM_SCRATCH, "env_steps": 0, "eval_episodes": 1}))
    command = ["-m", "dpft", "train", "--config", str(config), "--out", str(tmp_path / "run")]
    alone = seconds(["-c", "import torch"])
    whole = benchmark.pedantic(seconds, (command,), rounds=1)
    benchmark.extra_info["seconds_beyond_importing_torch"] = round(whole - alone, 2)
    assert Path(tmp_path / "run/done.json").exists()

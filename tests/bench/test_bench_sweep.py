"""What 10,000 runs cost before the first of them starts, and to look at."""

import json
import time

import pytest
import yaml

from envs.cache import Claim
from sweeps.engine_local import LocalEngine
from sweeps.grid import Grid, load_grid
from sweeps.launch import Sweep
from sweeps.status import states, summary

pytestmark = pytest.mark.benchmark(timer=time.process_time)


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

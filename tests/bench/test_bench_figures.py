"""What drawing takes."""

import sys
from pathlib import Path

import pytest

from dpft.analysis.cli import figures

sys.path.append(str(Path(__file__).parents[1] / "analysis"))  # where pytest puts it for the tests there
from run_folders import write_run

CURVE = [(i * 1000, 1000.0 + 40 * i) for i in range(50)]


@pytest.mark.slow
@pytest.mark.benchmark
def test_figures_of_a_thousand_runs(benchmark, tmp_path):
    """Under a minute: three tasks, four methods, four numbers of denoising steps, 21 seeds."""
    for task in ("hopper-medium", "walker2d-medium", "halfcheetah-medium"):
        for method in ("ncdpo", "dppo", "dsrl-na", "gaussian-ppo"):
            for k in (5, 10, 20, 50):
                for seed in range(21):
                    write_run(tmp_path, [(steps + seed, value) for steps, value in CURVE], task, method, k, seed)
    assert benchmark.pedantic(figures, ([str(tmp_path)],), rounds=1) == 0

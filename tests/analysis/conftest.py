"""A sweep with known curves."""

from pathlib import Path

import pytest
from run_folders import write_run


@pytest.fixture
def sweep(tmp_path: Path) -> Path:
    """Two tasks, four methods, three seeds; DPPO's last seed on hopper failed half-way."""
    folder = tmp_path / "runs" / "demo"
    folder.mkdir(parents=True)
    (folder / "grid.yaml").write_text("caption: short demonstration\n")
    for task, scale in (("hopper-medium", 1.0), ("walker2d-medium", 2.0)):
        for method, base in (("ncdpo", 1000.0), ("dppo", 1010.0), ("dsrl-na", 950.0), ("gaussian-ppo", 800.0)):
            for seed in range(3):
                gain = [0.0, 100.0 + 10 * seed, 200.0 + 30 * seed, 400.0 + 50 * seed]
                curve = [(i * 100 + seed * bool(i), scale * (base + g)) for i, g in enumerate(gain)]
                failed = (task, method, seed) == ("hopper-medium", "dppo", 2)
                outcome = {"status": "failed", "reason": "loss/policy is nan at step 201"} if failed else {}
                write_run(folder, curve[:2] if failed else curve, task, method, seed=seed, **outcome)
    return folder

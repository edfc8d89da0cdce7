"""Training an expert: what the file holds at any time, and that its numbers are those of its own episodes."""

import pytest

from envs import TASKS
from envs.experts import load_expert
from sweeps.expert import main, mean_return


@pytest.mark.slow
def test_training_comes_nearer_and_keeps_the_nearest(tmp_path, capsys):
    path = tmp_path / "e.safetensors"
    returns = []
    for steps in ("8192", "60000"):
        main(["hopper-medium", "--target", "300", "--seed", "3", "--max-steps", steps, "--out", str(path)])
        returns.append(float(load_expert(str(path)).metadata["mean_return"]))
    assert abs(returns[1] - 300) < abs(returns[0] - 300)
    expert = load_expert(str(path))
    assert expert.std.tolist() == pytest.approx([0.1] * 3)
    assert mean_return(expert, TASKS["hopper-medium"], 3, 1) == pytest.approx(returns[1], abs=0.1)
    judged = [line for line in capsys.readouterr().out.splitlines() if "with noise" in line]
    assert len(judged) >= 2

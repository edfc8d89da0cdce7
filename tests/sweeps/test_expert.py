"""Training an expert: what the file holds at any time, and that its numbers are those of its own episodes."""

import re

import pytest

from dpft.envs import TASKS, DataError
from dpft.envs.experts import load_expert
from dpft.sweeps.expert import main, mean_return


@pytest.mark.slow
def test_training_keeps_the_nearest_to_its_target(tmp_path, capsys):
    path = tmp_path / "e.safetensors"
    main(["hopper-medium", "--target", "300", "--seed", "3", "--max-steps", "70000", "--out", str(path)])
    kept = re.findall(r"return (\d+), .*\n +nearest so far: (\d+)", capsys.readouterr().out)
    distances = [max(abs(int(score) - 300) for score in scores) for scores in kept]
    assert distances
    assert distances == sorted(distances, reverse=True)
    expert = load_expert(str(path))
    assert expert.std.tolist() == pytest.approx([0.1] * 3)
    assert float(expert.metadata["mean_return"]) == pytest.approx(int(kept[-1][0]), abs=0.6)
    assert mean_return(expert, TASKS["hopper-medium"], 3, 1) == pytest.approx(
        float(expert.metadata["mean_return"]), abs=0.1
    )


def test_too_few_steps_are_said(tmp_path):
    with pytest.raises(DataError, match="no expert came near a return of 300 within 4,096 steps"):
        main(["hopper-medium", "--target", "300", "--max-steps", "4096", "--out", str(tmp_path / "e.safetensors")])
    assert not list(tmp_path.iterdir())

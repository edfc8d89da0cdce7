"""A run on a task that is judged by success: its records, and its switches."""

import csv

import pytest
import yaml

from dpft.envs import DataError
from dpft.sweeps.cli import main
from dpft.sweeps.config import complete, parse_config

TINY = {
    "policy.hidden": "8",
    "pretrain.steps": "20",
    "demos.steps": "100",
    "denoising-steps": "2",
    "env-steps": "400",
    "eval-every": "400",
    "eval-episodes": "2",
    "settings.num-envs": "5",
    "settings.decisions-per-update": "10",
}


def rows(path):
    with path.open() as file:
        return list(csv.DictReader(file))


@pytest.mark.slow
def test_train_and_evaluate_lift(tmp_path, monkeypatch, capsys):
    pytest.importorskip("robosuite")
    from dpft.envs import experts

    monkeypatch.setenv("DPFT_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(experts, "SLOTS", 4)
    flags = [word for name, value in TINY.items() for word in (f"--{name}", value)]
    flags += ["--task", "lift", "--method", "dppo", "--env.reward-offset", "-1", "--out", str(tmp_path / "run")]
    assert main(["train", *flags]) == 0
    recorded = yaml.safe_load((tmp_path / "run" / "config.yaml").read_text())
    assert (recorded["chunk"], recorded["env"]["reward_offset"], recorded["demos"]["source"]) == (
        4,
        -1.0,
        "expert:lift",
    )
    episodes, curve = rows(tmp_path / "run" / "episodes.csv"), rows(tmp_path / "run" / "curve.csv")
    assert len(curve) == 2
    for line in curve:
        of_it = [episode for episode in episodes if episode["env_steps"] == line["env_steps"]]
        assert len(of_it) == 2
        assert float(line["success_rate"]) == sum(int(episode["success"]) for episode in of_it) / 2
        for episode in of_it:  # -1 a step until it is solved
            assert (float(episode["return"]) > -300) == bool(int(episode["success"]))
    assert main(["eval", str(tmp_path / "run"), "--episodes", "2"]) == 0
    assert "success rate" in capsys.readouterr().out
    assert [line["success"] for line in rows(tmp_path / "run" / "evaluation.csv")]


def test_what_a_config_leaves_open_is_the_tasks_own():
    for task, chunk, steps in (("hopper-medium", 4, 200_000), ("lift", 4, 4_000), ("transport", 8, 0)):
        config = parse_config({"task": task})
        assert config.spec().chunk == chunk
        done = complete(config)
        assert (done.chunk, done.demos.steps) == (chunk, steps)
    assert complete(parse_config({"task": "transport", "chunk": 3})).chunk == 3


def test_switches_of_tasks_are_checked():
    for env, words in (
        ({"ends_at_sucess": True}, "unknown field env.ends_at_sucess: did you mean ends_at_success?"),
        ({"lean": True}, "hopper-medium has no option lean"),
        ({"reward_offset": True}, "env.reward_offset: input should be a valid number, got True"),
        ({"reward_offset": float("nan")}, "env.reward_offset: input should be a finite number"),
        ({"cube_size": "big"}, "env.cube_size: input should be 'fixed' or 'episode'"),
    ):
        with pytest.raises(DataError) as caught:
            parse_config({"env": env})
        assert words in str(caught.value)

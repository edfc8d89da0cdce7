"""Scripted experts: what they solve, and the demonstrations that are made of it."""

import numpy as np
import pytest

from dpft.envs import TASKS, DataError, experts
from dpft.envs.demonstrations import load_demos
from dpft.envs.experts import load_expert, rollout_expert
from dpft.envs.experts.scripted import ScriptedExpert, load_script, rotation, wrap, yaw
from dpft.envs.task import EnvOptions

pytest.importorskip("robosuite")


@pytest.fixture
def few_slots(monkeypatch, tmp_path):
    monkeypatch.setattr(experts, "SLOTS", 4)
    monkeypatch.setenv("DPFT_CACHE", str(tmp_path))


def test_rotations():
    angle = np.array([0.3, -2.0])
    quat = np.stack([0 * angle, 0 * angle, np.sin(angle / 2), np.cos(angle / 2)], 1)
    np.testing.assert_allclose(rotation(quat), yaw(angle), atol=1e-15)
    np.testing.assert_allclose(yaw(angle[:1])[0] @ [1, 0, 0], [np.cos(0.3), np.sin(0.3), 0], atol=1e-15)
    np.testing.assert_allclose(wrap(np.array([3.2, -3.2, 1.0]), np.pi), [3.2 - np.pi, np.pi - 3.2, 1.0])


@pytest.mark.slow
def test_demonstrations_are_the_solved_episodes(few_slots, tmp_path):
    """Same seed, same bytes; each ends at its success; the others are counted."""
    demos = load_demos("expert:lift", TASKS["lift"], steps=400, seed=1)
    assert demos.obs.shape[1:] == (19,)
    np.testing.assert_array_equal(demos.returns, 1)
    assert (demos.lengths < 300).all()
    played = len(demos.lengths) / demos.success_rate
    assert played == pytest.approx(round(played))
    options = EnvOptions(ends_at_success=True)
    again = rollout_expert(load_expert("lift"), TASKS["lift"].with_options(options), 400, 1)
    solved = [episode for episode in again if episode["terminations"][-1]]
    assert (len(again), len(solved)) == (round(played), len(demos.lengths))
    np.testing.assert_array_equal(np.concatenate([episode["actions"] for episode in solved]), demos.actions)
    other = TASKS["lift"].with_options(EnvOptions(reward_offset=-1.0))  # options do not change demonstrations
    assert load_demos("expert:lift", other, steps=400, seed=1).digest() == demos.digest()


def test_an_expert_of_another_task(few_slots):
    with pytest.raises(DataError, match="for robosuite/PickPlaceCan, not for robosuite/Lift"):
        load_demos("expert:can", TASKS["lift"], steps=400)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["lift", "can", "square"])
def test_scripts_solve_their_tasks_without_noise(name, few_slots):
    expert = ScriptedExpert(load_script(name).model_copy(update={"noise": 0.0}))
    task = TASKS[name].with_options(EnvOptions(ends_at_success=True, lean=name != "lift"))
    episodes = rollout_expert(expert, task, 1600, 0)
    assert np.mean([episode["terminations"][-1] for episode in episodes]) > 0.85

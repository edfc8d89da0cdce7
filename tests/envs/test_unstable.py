"""A simulation that becomes unstable goes on as in Gymnasium: MuJoCo resets its data, and both see the same."""

import gymnasium as gym
import numpy as np
import pytest
from mujoco import mjtWarning

from dpft.envs import TASKS, make_vec

UNSTABLE = [mjtWarning.mjWARN_BADQPOS, mjtWarning.mjWARN_BADQVEL, mjtWarning.mjWARN_BADQACC]


@pytest.mark.parametrize("speed", [1e3, 1e9, 1e12, np.nan])
@pytest.mark.parametrize("name", [name for name, task in TASKS.items() if task.simulator == "locomotion"])
def test_the_same_end_as_in_gymnasium(name, speed):
    task = TASKS[name]
    env = make_vec(task, 3, 4)
    env.reset(seed=0)
    single = gym.make(task.env_id)
    single.reset(seed=1)
    data = single.unwrapped.data
    env.qvel[1, 2] = data.qvel[2] = speed
    chunk = np.random.default_rng(0).uniform(-1, 1, (3, 4, task.action_dim)).astype(np.float32)
    _, reward, terminated, truncated, info = env.step(chunk)
    total, executed = 0.0, 0
    for action in chunk[1]:
        obs, r, fell, late, _ = single.step(action)
        total, executed = total + r, executed + 1
        if fell or late:
            break
    if speed != 1e3:
        assert sum(data.warning[kind].number for kind in UNSTABLE) > 0  # it did become unstable
    np.testing.assert_array_equal(info["final_obs"][1], obs)
    np.testing.assert_array_equal(reward[1], total)
    assert (terminated[1], truncated[1], info["executed"][1]) == (fell, late, executed)
    assert np.isfinite(reward[[0, 2]]).all()  # the neighbours notice nothing

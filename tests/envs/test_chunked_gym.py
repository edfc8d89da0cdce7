"""Any Gymnasium id through worker processes: the same interface, the same exactness."""

import gymnasium as gym
import numpy as np
import pytest
from gymnasium.vector import AutoresetMode

from dpft.envs import DataError, get_task, make_vec
from dpft.envs.chunked_gym import episode_seed


@pytest.fixture(scope="module")
def pendulum():
    return get_task("Pendulum-v1")


def chunks(count, slots, rng_seed=0):
    return np.random.default_rng(rng_seed).uniform(-2, 2, (count, slots, 3, 1)).astype(np.float32)


def test_task_from_a_gymnasium_id(pendulum):
    assert (pendulum.obs_dim, pendulum.action_dim, pendulum.max_episode_steps) == (3, 1, 200)
    assert pendulum.normalised(100.0) is None
    with pytest.raises(DataError, match="only flat Box spaces"):
        get_task("CartPole-v1")
    with pytest.raises(DataError, match="did you mean Pendulum-v1"):
        get_task("Pendulm-v1")


def test_equal_to_gymnasium(pendulum):
    """200 steps are no multiple of 3: the last chunk of an episode is cut."""
    env = make_vec(pendulum, 3, 3, threads=2)
    obs, _ = env.reset(seed=4)
    single = [gym.make("Pendulum-v1") for _ in range(3)]
    for slot, one in enumerate(single):
        np.testing.assert_array_equal(obs[slot], one.reset(seed=4 + slot)[0])
    for chunk in chunks(70, 3):
        obs, reward, terminated, truncated, info = env.step(chunk)
        for slot, one in enumerate(single):
            total, executed = 0.0, 0
            for action in chunk[slot]:
                final, r, _, over, _ = one.step(action)
                total, executed = total + float(r), executed + 1
                if over:
                    break
            assert (reward[slot], executed, truncated[slot]) == (total, info["executed"][slot], over)
            assert not terminated[slot]
            np.testing.assert_array_equal(info["final_obs"][slot], final)
            if over:
                assert executed == 2
                final, _ = one.reset(seed=episode_seed(4 + slot, 1))
            np.testing.assert_array_equal(obs[slot], final)
    env.close()


def test_state_is_replayed_exactly(pendulum):
    env = make_vec(pendulum, 3, 3, threads=1)
    env.reset(seed=0)
    sequence = chunks(90, 3)
    for chunk in sequence[:75]:
        env.step(chunk)
    state = env.get_state()
    expected = [env.step(chunk) for chunk in sequence[75:]]
    other = make_vec(pendulum, 3, 3, threads=2)
    other.set_state(state)
    for chunk, want in zip(sequence[75:], expected, strict=True):
        got = other.step(chunk)
        for a, b in zip(got[:4], want[:4], strict=True):
            np.testing.assert_array_equal(a, b)
    env.close()
    other.close()


def test_without_autoreset_a_finished_slot_rests(pendulum):
    env = make_vec(pendulum, 2, 3, autoreset=AutoresetMode.DISABLED)
    env.reset(seed=0)
    for chunk in chunks(67, 2):
        obs, _, _, truncated, _ = env.step(chunk)
    assert truncated.all()
    again, reward, _, truncated, info = env.step(chunks(1, 2)[0])
    np.testing.assert_array_equal(obs, again)
    assert truncated.all()
    assert (reward == 0).all()
    assert (info["executed"] == 0).all()
    env.close()


def test_a_dead_worker_is_one_line(pendulum):
    env = make_vec(pendulum, 2, 3)
    env.reset(seed=0)
    env.workers[0].kill()
    env.workers[0].join()
    with pytest.raises(DataError, match="worker process of Pendulum-v1 died"):
        env.step(chunks(1, 2)[0])

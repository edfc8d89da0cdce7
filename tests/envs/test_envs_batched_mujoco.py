"""The batch engine against Gymnasium stepping one environment at a time."""

import dataclasses

import gymnasium as gym
import numpy as np
import pytest
from gymnasium.vector import AutoresetMode

from dpft.envs import TASKS, make_vec

LOCOMOTION = [name for name, task in TASKS.items() if task.simulator == "locomotion"]


def gymnasium_reference(task, seeds, chunks):
    """Step one Gymnasium environment a slot with the same chunks; what our step() promises, slot by slot."""
    out = []
    for slot, seed in enumerate(seeds):
        env = gym.make(task.env_id, max_episode_steps=task.max_episode_steps)
        obs, _ = env.reset(seed=seed)
        rows = [(obs, obs, 0.0, False, False, 0)]
        for chunk in chunks[:, slot]:
            total, count = 0.0, 0
            for action in chunk:
                obs, reward, terminated, truncated, _ = env.step(action)
                total += reward
                count += 1
                if terminated or truncated:
                    break
            final = obs
            if terminated or truncated:
                obs, _ = env.reset()
            rows.append((obs, final, total, terminated, truncated, count))
        out.append(rows)
    return out


@pytest.mark.parametrize("threads", [1, 2])
@pytest.mark.parametrize("limit", [1000, 10])
@pytest.mark.parametrize("name", LOCOMOTION)
def test_bit_equal_to_gymnasium(name, limit, threads):
    """Thousands of steps, with falls and time-outs inside chunks, and actions beyond the box."""
    task = dataclasses.replace(TASKS[name], max_episode_steps=limit)
    slots, decisions = 6, (260 if limit == 1000 else 60)
    rng = np.random.default_rng(3)
    chunks = rng.uniform(-1.3, 1.3, (decisions, slots, 4, task.action_dim)).astype(np.float32)
    chunks[:, 0] *= 0.02  # one slot moves little and lives longer
    expected = gymnasium_reference(task, range(50, 50 + slots), chunks)
    env = make_vec(task, slots, 4, threads)
    obs, _ = env.reset(seed=50)
    ended = np.zeros(2, int)
    for t in range(decisions + 1):
        if t:
            obs, reward, terminated, truncated, info = env.step(chunks[t - 1])
            ended += terminated.sum(), truncated.sum()
        for slot in range(slots):
            want = expected[slot][t]
            np.testing.assert_array_equal(obs[slot], want[0])
            if t:
                got = info["final_obs"][slot], reward[slot], terminated[slot], truncated[slot], info["executed"][slot]
                np.testing.assert_array_equal(got[0], want[1])
                assert got[1:] == want[2:]
    if name == "halfcheetah-medium" or limit == 10:
        assert ended[1] > 0
    else:
        assert ended[0] > 20


def play(env, chunks):
    return [[np.copy(x) for x in (*env.step(chunk)[:4], env.step.__self__.elapsed)] for chunk in chunks]


@pytest.mark.parametrize("name", LOCOMOTION)
def test_state_continues_bit_for_bit(name):
    task = TASKS[name]
    rng = np.random.default_rng(0)
    chunks = rng.uniform(-1, 1, (80, 5, 4, task.action_dim)).astype(np.float32)
    first = make_vec(task, 5, 4)
    first.reset(seed=1)
    play(first, chunks[:37])
    state = first.get_state()
    expected = play(first, chunks[37:])
    second = make_vec(task, 5, 4)
    second.reset(seed=99)
    second.set_state(state)
    for want, got in zip(expected, play(second, chunks[37:]), strict=True):
        for a, b in zip(want, got, strict=True):
            np.testing.assert_array_equal(a, b)


def test_a_finished_slot_rests_without_autoreset():
    task = TASKS["hopper-medium"]
    env = make_vec(task, 8, 4, autoreset=AutoresetMode.DISABLED)
    env.reset(seed=0)
    rng = np.random.default_rng(0)
    finished = np.zeros(8, bool)
    last = np.empty((8, 11))
    length = np.zeros(8, int)
    for _ in range(300):
        obs, reward, terminated, truncated, info = env.step(rng.uniform(-1, 1, (8, 4, 3)).astype(np.float32))
        assert (info["executed"][finished] == 0).all()
        assert (reward[finished] == 0).all()
        assert (terminated | truncated)[finished].all()
        if finished.any():
            np.testing.assert_array_equal(obs[finished], last[finished])
        last = obs.copy()
        finished |= terminated | truncated
        length += info["executed"]
        if finished.all():
            break
    assert finished.all()
    env.reset(seed=0)
    assert not env.resting.any()


def test_vector_env_conventions():
    env = make_vec(TASKS["walker2d-medium"], 3, 4)
    assert isinstance(env, gym.vector.VectorEnv)
    assert env.metadata["autoreset_mode"] == AutoresetMode.SAME_STEP
    assert env.observation_space.shape == (3, 17)
    assert env.action_space.shape == (3, 4, 6)
    obs, info = env.reset(seed=[5, 5, 6])
    assert info == {}
    np.testing.assert_array_equal(obs[0], obs[1])
    assert (obs[0] != obs[2]).any()
    env.action_space.seed(0)
    obs, reward, terminated, truncated, info = env.step(env.action_space.sample())
    assert obs.shape == (3, 17)
    assert reward.shape == terminated.shape == truncated.shape == info["executed"].shape == (3,)
    with pytest.raises(ValueError, match=r"expected \(3, 4, 6\)"):
        env.step(np.zeros((3, 6)))
    with pytest.raises(ValueError, match="2 seeds for 3"):
        env.reset(seed=[1, 2])

"""The batch engine against Gymnasium's vector environment and against bare physics: environment steps per second."""

import time

import gymnasium as gym
import mujoco
import numpy as np
import pytest
from mujoco.batch import Batch

from envs import TASKS, make_vec

ENVS, CHUNK, CHUNKS = 40, 4, 25


def actions_of(task, count=CHUNKS) -> np.ndarray:
    rng = np.random.default_rng(0)
    return rng.uniform(-1, 1, (count, ENVS, CHUNK, task.action_dim)).astype(np.float32)


def engine(task, threads):
    env = make_vec(task, ENVS, CHUNK, threads)
    env.reset(seed=0)
    chunks = actions_of(task)

    def run() -> int:
        return int(sum(env.step(chunk)[4]["executed"].sum() for chunk in chunks))

    return run


def replayed(task, threads):
    """The engine on actions of the task's expert, whose states are those of a trained policy."""
    from envs.experts import load_expert

    expert, rng = load_expert(task.name), np.random.default_rng(0)
    env = make_vec(task, ENVS, CHUNK, threads)
    obs, _ = env.reset(seed=0)
    chunks = []
    for _ in range(100):  # beyond the first strides
        chunks.append(np.repeat(expert.sample(obs, rng)[:, None], CHUNK, 1))
        obs, *_ = env.step(chunks[-1])

    def run() -> int:
        return int(sum(env.step(chunk)[4]["executed"].sum() for chunk in chunks[-CHUNKS:]))

    return run


def gymnasium_vector(task):
    env = gym.make_vec(task.env_id, ENVS, vectorization_mode="sync")
    env.reset(seed=0)
    chunks = actions_of(task, 5)

    def run() -> int:
        for chunk in chunks:
            for h in range(CHUNK):
                env.step(chunk[:, h])
        return len(chunks) * CHUNK * ENVS

    return run


def bare_physics(task, threads):
    """mj_step alone, no Python between the steps of an action, on the same threads."""
    env = gym.make(task.env_id).unwrapped
    batch = Batch(env.model, nsim=ENVS, nthread=threads)
    ctrl, qpos = batch.bind("ctrl"), batch.bind("qpos")
    chunks = actions_of(task)
    qpos[:] = env.init_qpos

    def run() -> int:
        batch.reset()
        for chunk in chunks:
            ctrl[:] = chunk[:, 0]
            batch.step(nstep=CHUNK * env.frame_skip)
        return len(chunks) * CHUNK * ENVS

    return run


def bare_loop(task):
    """The same by mj_step on one MjData after the other."""
    env = gym.make(task.env_id).unwrapped
    datas = [mujoco.MjData(env.model) for _ in range(ENVS)]
    chunks = actions_of(task, 10)

    def run() -> int:
        for data in datas:
            mujoco.mj_resetData(env.model, data)
        for chunk in chunks:
            for data, action in zip(datas, chunk[:, 0], strict=True):
                data.ctrl[:] = action
                mujoco.mj_step(env.model, data, nstep=CHUNK * env.frame_skip)
        return len(chunks) * CHUNK * ENVS

    return run


def rate(run) -> float:
    started = time.process_time()
    steps = run()
    return steps / (time.process_time() - started)


@pytest.mark.parametrize("name", TASKS)
def test_engine(benchmark, name):
    """One thread, CPU seconds; every round measures all routes in turn, so that the ratios survive a noisy machine."""
    task = TASKS[name]
    routes = {
        "engine": engine(task, 1),
        "engine, policy actions": replayed(task, 1),
        "bare physics": bare_physics(task, 1),
        "bare physics, mj_step loop": bare_loop(task),
        "gymnasium SyncVectorEnv": gymnasium_vector(task),
    }
    for run in routes.values():
        run()
    rates = {key: [] for key in routes}
    for _ in range(7):
        for key, run in routes.items():
            rates[key].append(rate(run))
    physics = np.asarray(rates["bare physics"])
    for key, values in rates.items():
        benchmark.extra_info[key] = {
            "env_steps_per_cpu_second": round(float(np.median(values))),
            "ratio_to_bare_physics": round(float(np.median(np.asarray(values) / physics)), 3),
        }
    benchmark(routes["engine"])

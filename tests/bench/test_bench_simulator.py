"""The batch engine against bare physics and Gymnasium's vector environment: environment steps per CPU second."""

import os
import time
from pathlib import Path

import gymnasium as gym
import mujoco
import numpy as np
import pytest
from gymnasium.vector import AutoresetMode

import dpft.envs.experts
from dpft.envs import TASKS, make_vec
from dpft.envs.experts import load_expert

ENVS, CHUNK, CHUNKS = 40, 4, 100
LOCOMOTION = [name for name, task in TASKS.items() if task.simulator == "locomotion"]
EXPERTS = sorted(Path(dpft.envs.experts.__file__).parent.glob("*.safetensors"))


def expert_chunk(expert, task, env, obs, rng) -> np.ndarray:
    """What the task's expert does in the next steps, found on a copy of the environment."""
    ahead = make_vec(task, ENVS, 1, autoreset=AutoresetMode.DISABLED)
    ahead.set_state(env.get_state())
    actions = []
    for _ in range(CHUNK):
        actions.append(expert.sample(obs, rng))
        obs, *_ = ahead.step(actions[-1][:, None])
    return np.stack(actions, 1)


def bare_physics(model, data, frame_skip, states, chunk, executed) -> None:
    """mj_step on the same states, actions and executed steps as the engine, and nothing else."""
    for i in range(ENVS):
        mujoco.mj_setState(model, data, states[i], mujoco.mjtState.mjSTATE_INTEGRATION)
        for action in chunk[i, : executed[i]]:
            data.ctrl[:] = action
            mujoco.mj_step(model, data, nstep=frame_skip)


@pytest.mark.parametrize(
    ("name", "policy"), [(name, "random") for name in LOCOMOTION] + [(path.stem, "expert") for path in EXPERTS]
)
def test_engine_against_bare_physics(benchmark, name, policy):
    """One thread, chunk by chunk in pairs, so that the ratio survives a noisy machine; it should be at least 0.9."""
    task, rng = TASKS[name], np.random.default_rng(0)
    env = make_vec(task, ENVS, CHUNK)
    data = mujoco.MjData(env.model)
    expert = load_expert(name) if policy == "expert" else None
    obs, _ = env.reset(seed=0)
    ratios, engine_seconds, steps = [], 0.0, 0
    for _ in range(CHUNKS):
        if expert:
            chunk = expert_chunk(expert, task, env, obs, rng)
        else:
            chunk = rng.uniform(-1, 1, (ENVS, CHUNK, task.action_dim)).astype(np.float32)
        states = env.get_state()["simulation"]
        started = time.process_time()
        obs, _, _, _, info = env.step(chunk)
        between = time.process_time()
        bare_physics(env.model, data, env.frame_skip, states, chunk, info["executed"])
        ended = time.process_time()
        ratios.append((ended - between) / (between - started))
        engine_seconds += between - started
        steps += int(info["executed"].sum())
    benchmark.extra_info["env_steps_per_cpu_second"] = round(steps / engine_seconds)
    benchmark.extra_info["rate_over_bare_physics"] = round(float(np.median(ratios)), 3)
    benchmark(env.step, chunk)


@pytest.mark.parametrize("threads", [2**i for i in range((os.cpu_count() or 1).bit_length())])
@pytest.mark.parametrize("envs", [1, 10, 40, 160, 640])
def test_rate(benchmark, envs, threads):
    """Wall-clock environment steps per second on Hopper, chunks of 4 random actions."""
    task, rng = TASKS["hopper-medium"], np.random.default_rng(0)
    env = make_vec(task, envs, CHUNK, threads)
    env.reset(seed=0)
    steps, started = 0, time.perf_counter()
    while time.perf_counter() - started < 1.0:
        chunk = rng.uniform(-1, 1, (envs, CHUNK, task.action_dim)).astype(np.float32)
        steps += int(env.step(chunk)[4]["executed"].sum())
    rate = steps / (time.perf_counter() - started)
    benchmark.extra_info |= {"environments": envs, "threads": threads, "env_steps_per_second": round(rate)}
    benchmark(env.step, chunk)


@pytest.mark.parametrize("name", LOCOMOTION)
def test_engine_against_gymnasium(benchmark, name):
    """The same number of random actions in SyncVectorEnv, in turn."""
    task, rng = TASKS[name], np.random.default_rng(0)
    env = make_vec(task, ENVS, CHUNK)
    theirs = gym.make_vec(task.env_id, ENVS, vectorization_mode="sync")
    env.reset(seed=0)
    theirs.reset(seed=0)
    rates: dict[str, list[float]] = {"engine": [], "sync": []}
    for _ in range(10):
        chunk = rng.uniform(-1, 1, (ENVS, CHUNK, task.action_dim)).astype(np.float32)
        started = time.process_time()
        executed = env.step(chunk)[4]["executed"].sum()
        between = time.process_time()
        for h in range(CHUNK):
            theirs.step(chunk[:, h])
        rates["engine"].append(executed / (between - started))
        rates["sync"].append(ENVS * CHUNK / (time.process_time() - between))
    benchmark.extra_info["rate_over_SyncVectorEnv"] = round(
        float(np.median(rates["engine"]) / np.median(rates["sync"])), 2
    )
    benchmark(env.step, chunk)

"""The batched manipulation tasks against robosuite itself and bare physics: environment steps per CPU second."""

import time

import mujoco
import numpy as np
import pytest

from dpft.envs import TASKS, make_vec
from dpft.envs.manipulation import SUBSTEPS
from dpft.envs.task import EnvOptions

pytest.importorskip("robosuite")
from robosuite_single import Single

ENVS, CHUNK, CHUNKS, BARE = 50, 4, 25, 10
MODELS = [(name, False) for name, task in TASKS.items() if task.simulator == "manipulation"]


def bare_physics(env, states, controls) -> None:
    """mj_step as often as in a chunk, from the first slots' states, and nothing else."""
    data = mujoco.MjData(env.model)
    for state, ctrl in zip(states[:BARE], controls[:BARE], strict=True):
        mujoco.mj_setState(env.model, data, state, mujoco.mjtState.mjSTATE_INTEGRATION)
        data.ctrl[:] = ctrl
        mujoco.mj_step(env.model, data, nstep=SUBSTEPS * CHUNK)


@pytest.mark.parametrize(("name", "lean"), [*MODELS, ("can", True), ("square", True)])
def test_engine_against_robosuite(benchmark, name, lean):
    """100 random control steps on one thread, in turn by chunks: robosuite's rate should be 4 times lower, or more."""
    rng = np.random.default_rng(0)
    single = Single(name, record=False)
    single.reset(0)
    env = make_vec(TASKS[name].with_options(EnvOptions(lean=lean)), ENVS, CHUNK)
    env.reset(seed=0)
    seconds = np.zeros((CHUNKS, 3))  # an environment step of ours, of robosuite, of mj_step alone
    for row in seconds:
        chunk = rng.uniform(-1, 1, (ENVS, CHUNK, env.task.action_dim)).astype(np.float32)
        states = env.get_state()["simulation"]
        times = [time.process_time()]
        env.step(chunk)
        times.append(time.process_time())
        for action in chunk[0].astype(float):
            single.step(action)
        times.append(time.process_time())
        bare_physics(env, states, env.fields["ctrl"])
        times.append(time.process_time())
        row[:] = np.diff(times) / [ENVS * CHUNK, CHUNK, BARE * CHUNK]
    ours, theirs, bare = seconds.sum(0)
    benchmark.extra_info["env_steps_per_cpu_second"] = round(CHUNKS / ours)
    benchmark.extra_info["robosuite"] = round(CHUNKS / theirs)
    benchmark.extra_info["bare_physics"] = round(CHUNKS / bare)
    benchmark.extra_info["rate_over_robosuite"] = round(theirs / ours, 2)
    benchmark.extra_info["rate_over_bare_physics"] = round(bare / ours, 3)
    benchmark(env.step, chunk)

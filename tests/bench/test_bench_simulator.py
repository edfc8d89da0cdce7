"""The batch engine against bare physics and against Gymnasium's SyncVectorEnv: 40 environments, chunks of 4.

Bare physics is mj_step alone, on the same threads, from the same states and with the same actions: what no simulator
can beat. It is timed just before every round, so that a busy machine slows both. extra_info holds environment steps/s
and the ratio to bare physics; on a machine that does other work too, `--benchmark-timer=time.process_time` counts CPU
seconds instead. Actions are uniform random, or (replayed) those of the task's expert, whose episodes are longer.
"""

import time
from concurrent.futures import ThreadPoolExecutor
from statistics import median

import gymnasium as gym
import mujoco
import numpy as np
import pytest
from gymnasium.vector import AutoresetMode, SyncVectorEnv

from envs import TASKS, DataError, make_vec
from envs.experts import load_expert

SLOTS, CHUNK, DECISIONS, ROUNDS = 40, 4, 30, 7


def random_policy(task):
    rng = np.random.default_rng(0)
    return lambda obs: rng.uniform(-1, 1, (len(obs), CHUNK, task.action_dim)).astype(np.float32)


def expert_policy(task):
    """The expert's chunk repeats its action: it was made for chunks of 1, and the states stay those of a policy."""
    try:
        expert = load_expert(task.name)
    except DataError as error:
        pytest.skip(str(error))
    rng = np.random.default_rng(0)
    return lambda obs: np.repeat(expert.sample(obs, rng)[:, None], CHUNK, axis=1)


class Recording:
    """One stretch of experience: where it starts, its chunks, and the physics that it takes."""

    def __init__(self, task, policy, threads):
        self.env = make_vec(task, SLOTS, CHUNK, threads)
        self.model, self.frame_skip = self.env.model, self.env.frame_skip
        self.pool = ThreadPoolExecutor(threads)
        self.shares = np.array_split(np.arange(SLOTS), threads)
        self.data = [mujoco.MjData(self.model) for _ in range(SLOTS)]
        obs, _ = self.env.reset(seed=0)
        for _ in range(10):  # away from the common beginning
            obs, *_ = self.env.step(policy(obs))
        self.start = self.env.get_state()
        self.chunks, self.states, self.executed = [], [], []
        for _ in range(DECISIONS):
            self.states.append(self.env.get_state()["simulation"])
            self.chunks.append(policy(obs))
            obs, _, _, _, info = self.env.step(self.chunks[-1])
            self.executed.append(info["executed"])
        self.steps = int(np.sum(self.executed))

    def engine(self):
        for chunk in self.chunks:
            self.env.step(chunk)

    def bare(self):
        list(self.pool.map(self._bare_share, self.shares))

    def _bare_share(self, slots):
        for states, chunks, executed in zip(self.states, self.chunks, self.executed, strict=True):
            for i in slots:
                data = self.data[i]
                mujoco.mj_setState(self.model, data, states[i], mujoco.mjtState.mjSTATE_INTEGRATION)
                for h in range(executed[i]):
                    data.ctrl[:] = chunks[i, h]
                    mujoco.mj_step(self.model, data, nstep=self.frame_skip)


def timed(function, timer):
    start = timer()
    function()
    return timer() - start


def compare(benchmark, recording, function, prepare, steps):
    """Time function, with bare physics before every round; steps is what one call of function simulates."""
    timer = benchmark._timer if benchmark.enabled else time.perf_counter
    bare = []

    def before_a_round():
        bare.append(timed(recording.bare, timer))
        prepare()

    benchmark.pedantic(function, setup=before_a_round, rounds=ROUNDS if benchmark.enabled else 1)
    if not benchmark.enabled:
        return None
    own = benchmark.stats.stats.data
    ratio = median(b / recording.steps * steps / o for b, o in zip(bare, own, strict=True))
    benchmark.extra_info |= {
        "env_steps_per_second": round(steps / median(own)),
        "bare_env_steps_per_second": round(recording.steps / median(bare)),
        "ratio_to_bare_physics": round(ratio, 3),
    }
    return ratio


@pytest.mark.parametrize("threads", [1, 2])
@pytest.mark.parametrize("policy", [random_policy, expert_policy], ids=["random", "expert"])
@pytest.mark.parametrize("name", TASKS)
def test_batch_engine(benchmark, name, policy, threads):
    recording = Recording(TASKS[name], policy(TASKS[name]), threads)

    def prepare():
        recording.env.set_state(recording.start)

    ratio = compare(benchmark, recording, recording.engine, prepare, recording.steps)
    np.testing.assert_array_equal(recording.env.batch.state, replayed_end(recording))  # the same experience was timed
    if ratio is not None and policy is random_policy and threads == 1:
        assert ratio > 0.9, f"the batch engine reaches {ratio:.3f} of bare physics"


def replayed_end(recording):
    recording.env.set_state(recording.start)
    recording.engine()
    return recording.env.batch.state.copy()


@pytest.mark.parametrize("name", TASKS)
def test_gymnasium_sync_vector_env(benchmark, name):
    """One environment step a call, 40 environments; its episodes are its own, its actions are random too."""
    task = TASKS[name]
    recording = Recording(task, random_policy(task), 1)
    env = SyncVectorEnv([lambda: gym.make(task.env_id)] * SLOTS, autoreset_mode=AutoresetMode.SAME_STEP)
    env.reset(seed=0)
    actions = np.concatenate([chunk.transpose(1, 0, 2) for chunk in recording.chunks])

    def step():
        for action in actions:
            env.step(action)

    compare(benchmark, recording, step, lambda: env.reset(seed=0), len(actions) * SLOTS)
    env.close()

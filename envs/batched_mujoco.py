"""MuJoCo's native batch engine behind the chunked interface: many simulations, whole chunks, threads of its own."""

from typing import Any

import gymnasium as gym
import mujoco
import numpy as np
from gymnasium.utils.seeding import np_random
from gymnasium.vector import AutoresetMode
from mujoco.batch import Batch

from dpft.envs.chunked import Array, ChunkedVectorEnv
from dpft.envs.locomotion import LOCOMOTION
from dpft.envs.task import TaskSpec

mujoco.set_mju_user_warning(lambda message: None)  # an unstable simulation shows in its state, not in a log file

NO_FORWARD = mujoco.mjtStage.mjSTAGE_NONE.value


class BatchedMujoco(ChunkedVectorEnv):
    """Bit-equal to Gymnasium's v5 environment stepped one at a time with the same float32 actions."""

    def __init__(self, task: TaskSpec, num_envs: int, chunk: int, threads: int, autoreset: AutoresetMode) -> None:
        reference: Any = gym.make(task.env_id).unwrapped
        self.model, self.frame_skip, self.dt = reference.model, reference.frame_skip, reference.dt
        self.init_qpos, self.init_qvel = reference.init_qpos.copy(), reference.init_qvel.copy()
        space = reference.action_space
        super().__init__(task, num_envs, chunk, space.low, space.high, autoreset)
        self.rules = LOCOMOTION[task.env_id]
        self.batch = Batch(self.model, nsim=num_envs, nthread=threads)
        self.qpos, self.qvel, self.ctrl = (self.batch.bind(name) for name in ("qpos", "qvel", "ctrl"))
        self.elapsed = np.zeros(num_envs, np.int64)  # environment steps since the reset
        self.resting = np.ones(num_envs, bool)  # finished, until the next reset (AutoresetMode.DISABLED)
        self.ended = np.zeros((2, num_envs), bool)  # terminated, truncated
        self.rngs = [np_random(seed)[0] for seed in range(num_envs)]

    def reset(
        self, *, seed: int | list[int] | None = None, options: dict[str, Any] | None = None
    ) -> tuple[Array, dict]:
        if seed is not None:
            self.rngs = [np_random(one)[0] for one in self.slot_seeds(seed)]
        self._restart(np.arange(self.num_envs))
        self.resting[:] = False
        self.ended[:] = False
        return self.rules.observe(self.qpos, self.qvel), {}

    def _restart(self, slots: Array) -> None:
        self.batch.reset(slots.astype(np.int32), stage=NO_FORWARD)  # discards earlier writes, so it comes first
        for i in slots:
            self.qpos[i], self.qvel[i] = self.rules.reset_state(self.init_qpos, self.init_qvel, self.rngs[i])
        self.elapsed[slots] = 0

    def step(self, actions: Array) -> tuple[Array, Array, Array, Array, dict]:
        actions = self.check_chunk(actions)
        reward = np.zeros(self.num_envs)
        executed = np.zeros(self.num_envs, np.int64)
        terminated, truncated = self.ended.copy() if self.resting.any() else np.zeros((2, self.num_envs), bool)
        alive = ~self.resting
        for h in range(self.chunk):
            rows: Any = slice(None)
            ids = None
            if not alive.all():
                rows = np.flatnonzero(alive)
                if not len(rows):
                    break
                ids = rows.astype(np.int32)
            before = self.qpos[rows, 0].copy()
            self.ctrl[:] = actions[:, h]
            self.batch.step(ids, nstep=self.frame_skip)
            qpos, qvel = self.qpos[rows], self.qvel[rows]
            healthy = self.rules.healthy(qpos, qvel)
            reward[rows] += self.rules.reward((qpos[:, 0] - before) / self.dt, healthy, actions[rows, h])
            executed[rows] += 1
            self.elapsed[rows] += 1
            terminated[rows] = ~healthy
            truncated[rows] = self.elapsed[rows] >= self.task.max_episode_steps
            alive = ~(terminated | truncated | self.resting)
        obs = final_obs = self.rules.observe(self.qpos, self.qvel)
        done = np.flatnonzero((terminated | truncated) & ~self.resting)
        if self.autoreset == AutoresetMode.DISABLED:
            self.resting[done] = True
            self.ended[:] = terminated, truncated
        elif len(done):
            self._restart(done)
            obs = final_obs.copy()
            obs[done] = self.rules.observe(self.qpos[done], self.qvel[done])
        return obs, reward, terminated, truncated, {"executed": executed, "final_obs": final_obs}

    def get_state(self) -> dict[str, Any]:
        return {
            "simulation": self.batch.state.copy(),
            "elapsed": self.elapsed.copy(),
            "resting": self.resting.copy(),
            "ended": self.ended.copy(),
            "rngs": [rng.bit_generator.state for rng in self.rngs],
        }

    def set_state(self, state: dict[str, Any]) -> None:
        self.batch.state[:] = state["simulation"]
        self.elapsed[:], self.resting[:], self.ended[:] = state["elapsed"], state["resting"], state["ended"]
        for rng, saved in zip(self.rngs, state["rngs"], strict=True):
            rng.bit_generator.state = saved

    def close(self, **kwargs: Any) -> None:
        pass  # the batch's threads end with it

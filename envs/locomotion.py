"""Hopper, Walker2d and HalfCheetah as Gymnasium's v5 environments define them, for many states at once."""

from dataclasses import dataclass
from typing import Any

import gymnasium as gym
import numpy as np
from gymnasium.vector import AutoresetMode
from numpy.random import Generator

from dpft.envs.batched_mujoco import BatchedMujoco, Rows
from dpft.envs.chunked import Array
from dpft.envs.task import TaskSpec


@dataclass(frozen=True)
class Locomotion:
    """Reward, health and reset of one v5 environment (gymnasium.envs.mujoco, default arguments)."""

    control_cost: float  # weight of the summed squared action
    reset_noise: float  # half-width of the uniform noise, or scale of the normal noise, on the initial state
    healthy_reward: float = 0.0  # per step while healthy; 0 also means that the environment never terminates
    velocity_clip: float | None = None  # bound on velocities in the observation
    normal_velocity_noise: bool = False  # HalfCheetah: velocity noise is normal instead of uniform

    def observe(self, qpos: Array, qvel: Array) -> Array:
        """Positions without the forward one, then velocities: [n, nq], [n, nv] -> [n, nq - 1 + nv]."""
        if self.velocity_clip is not None:
            qvel = np.clip(qvel, -self.velocity_clip, self.velocity_clip)
        return np.concatenate((qpos[:, 1:], qvel), axis=1)

    def healthy(self, qpos: Array, qvel: Array) -> Array:
        """Whether each state [n, nq], [n, nv] lets the episode go on, [n] bool."""
        return np.ones(len(qpos), bool)

    def reward(self, forward_velocity: Array, healthy: Array, action: Array) -> Array:
        """[n], [n] bool, float32 [n, A] -> [n]; the cost is computed in float32 as Gymnasium does with such actions."""
        cost = self.control_cost * np.sum(np.square(action), axis=1)
        return forward_velocity + healthy * self.healthy_reward - cost

    def reset_state(self, init_qpos: Array, init_qvel: Array, rng: Generator) -> tuple[Array, Array]:
        scale = self.reset_noise
        qpos = init_qpos + rng.uniform(low=-scale, high=scale, size=len(init_qpos))
        if self.normal_velocity_noise:
            return qpos, init_qvel + scale * rng.standard_normal(len(init_qvel))
        return qpos, init_qvel + rng.uniform(low=-scale, high=scale, size=len(init_qvel))


class HopperV5(Locomotion):
    def healthy(self, qpos: Array, qvel: Array) -> Array:
        rest = np.concatenate((qpos[:, 2:], qvel), axis=1)
        height, angle = qpos[:, 1], qpos[:, 2]
        return (np.abs(rest) < 100).all(axis=1) & (height > 0.7) & (np.abs(angle) < 0.2)


class Walker2dV5(Locomotion):
    def healthy(self, qpos: Array, qvel: Array) -> Array:
        height, angle = qpos[:, 1], qpos[:, 2]
        return (height > 0.8) & (height < 2.0) & (np.abs(angle) < 1.0)


LOCOMOTION: dict[str, Locomotion] = {
    "Hopper-v5": HopperV5(control_cost=1e-3, reset_noise=5e-3, healthy_reward=1.0, velocity_clip=10.0),
    "Walker2d-v5": Walker2dV5(control_cost=1e-3, reset_noise=5e-3, healthy_reward=1.0, velocity_clip=10.0),
    "HalfCheetah-v5": Locomotion(control_cost=0.1, reset_noise=0.1, normal_velocity_noise=True),
}


class BatchedLocomotion(BatchedMujoco):
    """Bit-equal to Gymnasium's v5 environment stepped one at a time with the same float32 actions."""

    def __init__(self, task: TaskSpec, num_envs: int, chunk: int, threads: int, autoreset: AutoresetMode) -> None:
        reference: Any = gym.make(task.env_id).unwrapped
        self.frame_skip, self.dt = reference.frame_skip, reference.dt
        self.init_qpos, self.init_qvel = reference.init_qpos.copy(), reference.init_qvel.copy()
        box = reference.action_space
        super().__init__(task, reference.model, num_envs, chunk, threads, box.low, box.high, autoreset)
        self.rules = LOCOMOTION[task.env_id]
        self.qpos, self.qvel, self.ctrl = (self.batch.bind(name) for name in ("qpos", "qvel", "ctrl"))

    def start(self, slots: Array) -> None:
        for i in slots:
            self.qpos[i], self.qvel[i] = self.rules.reset_state(self.init_qpos, self.init_qvel, self.rngs[i])

    def advance(self, rows: Rows, ids: Array | None, action: Array) -> tuple[Array, Array, Array]:
        before = self.qpos[rows, 0].copy()
        self.ctrl[:] = action
        self.batch.step(ids, nstep=self.frame_skip)
        qpos, qvel = self.qpos[rows], self.qvel[rows]
        healthy = self.rules.healthy(qpos, qvel)
        reward = self.rules.reward((qpos[:, 0] - before) / self.dt, healthy, action[rows])
        return reward, ~healthy, np.zeros_like(healthy)

    def observe(self, rows: Rows) -> Array:
        return self.rules.observe(self.qpos[rows], self.qvel[rows])

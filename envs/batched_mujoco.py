"""MuJoCo's native batch engine behind the chunked interface: many simulations, whole chunks, threads of its own."""

from abc import abstractmethod
from typing import Any

import mujoco
import numpy as np
from gymnasium.utils.seeding import np_random
from gymnasium.vector import AutoresetMode
from mujoco.batch import Batch

from dpft.envs.chunked import Array, ChunkedVectorEnv
from dpft.envs.task import TaskSpec

mujoco.set_mju_user_warning(lambda message: None)  # an unstable simulation shows in its state, not in a log file

NO_FORWARD = mujoco.mjtStage.mjSTAGE_NONE.value
Rows = Array | slice  # of the slots that take part: a slice gives views


class BatchedMujoco(ChunkedVectorEnv):
    """A family of tasks says how an episode starts, what a step does and what is observed; the rest is the same."""

    def __init__(
        self,
        task: TaskSpec,
        model: mujoco.MjModel,
        num_envs: int,
        chunk: int,
        threads: int,
        low: Array,
        high: Array,
        autoreset: AutoresetMode,
        persistent: bool = False,
    ) -> None:
        super().__init__(task, num_envs, chunk, low, high, autoreset)
        self.model = model
        self.batch = Batch(model, nsim=num_envs, nthread=threads, persistent=persistent)
        self.elapsed = np.zeros(num_envs, np.int64)  # environment steps since the reset
        self.resting = np.ones(num_envs, bool)  # finished, until the next reset (AutoresetMode.DISABLED)
        self.ended = np.zeros((2, num_envs), bool)  # terminated, truncated
        self.rngs = [np_random(seed)[0] for seed in range(num_envs)]

    @abstractmethod
    def start(self, slots: Array) -> None:
        """Put these slots into the first state of an episode; the engine's own reset has been done."""

    @abstractmethod
    def advance(self, rows: Rows, ids: Array | None, action: Array) -> tuple[Array, Array, Array]:
        """One environment step of some slots (rows; ids are the same for the engine, None for all).

        action [n, A] of all slots, float32 -> reward, terminated, solved of those slots.
        """

    @abstractmethod
    def observe(self, rows: Rows) -> Array:
        """[len(rows), O] in an array of its own."""

    def reset(
        self, *, seed: int | list[int] | None = None, options: dict[str, Any] | None = None
    ) -> tuple[Array, dict]:
        if seed is not None:
            self.rngs = [np_random(one)[0] for one in self.slot_seeds(seed)]
        self._restart(np.arange(self.num_envs))
        self.resting[:] = False
        self.ended[:] = False
        return self.observe(slice(None)), {}

    def _restart(self, slots: Array) -> None:
        self.batch.reset(slots.astype(np.int32), stage=NO_FORWARD)  # discards earlier writes, so it comes first
        self.elapsed[slots] = 0
        self.start(slots)

    def step(self, actions: Array) -> tuple[Array, Array, Array, Array, dict]:
        actions = self.check_chunk(actions)
        reward = np.zeros(self.num_envs)
        executed = np.zeros(self.num_envs, np.int64)
        success = np.zeros(self.num_envs, bool)
        terminated, truncated = self.ended.copy() if self.resting.any() else np.zeros((2, self.num_envs), bool)
        alive = ~self.resting
        for h in range(self.chunk):
            rows: Rows = slice(None)
            ids = None
            if not alive.all():
                rows = np.flatnonzero(alive)
                if not len(rows):
                    break
                ids = rows.astype(np.int32)
            gained, terminated[rows], solved = self.advance(rows, ids, actions[:, h])
            reward[rows] += gained
            success[rows] |= solved
            executed[rows] += 1
            self.elapsed[rows] += 1
            truncated[rows] = self.elapsed[rows] >= self.task.max_episode_steps
            alive = ~(terminated | truncated | self.resting)
        obs = final_obs = self.observe(slice(None))
        done = np.flatnonzero((terminated | truncated) & ~self.resting)
        if self.autoreset == AutoresetMode.DISABLED:
            self.resting[done] = True
            self.ended[:] = terminated, truncated
        elif len(done):
            self._restart(done)
            obs = final_obs.copy()
            obs[done] = self.observe(done)
        info = {"executed": executed, "final_obs": final_obs}
        return obs, reward, terminated, truncated, info | ({"success": success} if self.task.score == "success" else {})

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

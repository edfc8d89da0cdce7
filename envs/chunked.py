"""What every simulator looks like to a run: a Gymnasium VectorEnv whose step executes whole action chunks."""

from abc import abstractmethod
from typing import Any

import gymnasium as gym
import numpy as np
from gymnasium.vector import AutoresetMode

from dpft.envs.task import DataError, TaskSpec

Array = np.ndarray


class ChunkedVectorEnv(gym.vector.VectorEnv):
    """n slots, each stepped by chunks of up to H actions; a chunk stops where its episode ends.

    step(chunk [n, H, A] float32, action units) -> obs [n, O] float64, reward [n] summed over the executed steps,
    terminated [n], truncated [n], info with "executed" [n] (simulated steps) and "final_obs" [n, O] (the observation
    after the chunk, before any reset, of every slot).

    AutoresetMode.SAME_STEP starts the next episode within the step that ends one. With DISABLED a finished slot
    rests: it executes 0 steps for reward 0 until the next reset().
    """

    def __init__(
        self, task: TaskSpec, num_envs: int, chunk: int, low: Array, high: Array, autoreset: AutoresetMode
    ) -> None:
        if autoreset not in (AutoresetMode.SAME_STEP, AutoresetMode.DISABLED):
            raise ValueError(f"autoreset must be SAME_STEP or DISABLED, not {autoreset}")
        self.task, self.num_envs, self.chunk, self.autoreset = task, num_envs, chunk, autoreset
        self.metadata = {"autoreset_mode": autoreset}
        self.single_observation_space = gym.spaces.Box(-np.inf, np.inf, (task.obs_dim,), np.float64)
        self.single_action_space = gym.spaces.Box(
            np.broadcast_to(low, (chunk, task.action_dim)).astype(np.float32),
            np.broadcast_to(high, (chunk, task.action_dim)).astype(np.float32),
        )
        self.observation_space = gym.vector.utils.batch_space(self.single_observation_space, num_envs)
        self.action_space = gym.vector.utils.batch_space(self.single_action_space, num_envs)

    @abstractmethod
    def reset(
        self, *, seed: int | list[int] | None = None, options: dict[str, Any] | None = None
    ) -> tuple[Array, dict]:
        """Start an episode in every slot: obs [n, O], {}."""

    def slot_seeds(self, seed: int | list[int] | None) -> list[int]:
        """One seed a slot: an int s seeds slot i with s + i, None draws one."""
        if seed is None:
            seed = int(np.random.SeedSequence().generate_state(1)[0])
        seeds = [seed + i for i in range(self.num_envs)] if isinstance(seed, int) else list(seed)
        if len(seeds) != self.num_envs:
            raise ValueError(f"got {len(seeds)} seeds for {self.num_envs} environments")
        return seeds

    def check_chunk(self, actions: Array) -> Array:
        expected = (self.num_envs, self.chunk, self.task.action_dim)
        actions = np.asarray(actions, np.float32)
        if actions.shape != expected:
            raise ValueError(f"chunk has shape {actions.shape}, expected {expected} (environments, chunk, action)")
        if not np.isfinite(actions).all():
            raise DataError("the policy gave an action that is not finite")
        return actions

    @abstractmethod
    def get_state(self) -> dict[str, Any]:
        """Everything needed to continue bit for bit: plain numbers, lists, dicts and arrays."""

    @abstractmethod
    def set_state(self, state: dict[str, Any]) -> None:
        """Continue where get_state() was taken, in an environment built with the same arguments."""

"""Evaluation: a fixed number of complete episodes, in environments of their own."""

from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from gymnasium.spaces import Box
from gymnasium.vector import AutoresetMode

from dpft.envs import TaskSpec, make_vec
from dpft.methods.interface import Method
from dpft.sweeps.collect import Diverged, Scale

SLOTS = 40  # episodes played side by side, and rows of every batch that the method sees


@dataclass(frozen=True)
class Episode:
    seed: int
    total: float  # return, undiscounted
    length: int  # environment steps
    ended: str  # "terminated" or "truncated"
    success: bool | None = None  # whether the task was solved at any step, where it is judged by that

    def row(self, env_steps: int | None) -> dict[str, Any]:
        """Its line of a csv file."""
        fields = {"env_steps": env_steps, "seed": self.seed, "return": self.total, "length": self.length}
        return fields | {"ended": self.ended} | ({} if self.success is None else {"success": int(self.success)})


def success_rate(episodes: list[Episode]) -> float | None:
    """Share of the episodes that were solved; None where the task is not judged by that."""
    solved = [episode.success for episode in episodes if episode.success is not None]
    return float(np.mean(solved)) if solved else None


class Evaluator:
    """Plays episodes seed, seed + 1, …: episode j always starts from the same state and meets the same noise.

    Episodes are given to slots beforehand and all of them are completed, so that short episodes count no more often
    than long ones. Every SLOTS episodes have a stream of draws of their own, and the method always sees SLOTS rows:
    what an episode draws, and how its row is rounded, depends neither on how many are played nor on the others.
    Training draws from another stream, so it is the same however often it is evaluated.
    """

    def __init__(self, task: TaskSpec, chunk: int, threads: int, scale: Scale) -> None:
        self.task, self.chunk, self.threads, self.scale = task, chunk, threads, scale

    def __call__(self, method: Method, episodes: int, seed: int, noise_seed: int) -> list[Episode]:
        """Raises Diverged where an action is not finite."""
        played: list[Episode] = []
        for first in range(0, episodes, SLOTS):
            with self.drawing(method, noise_seed, first // SLOTS):
                played += self._play(method, [seed + i for i in range(first, min(first + SLOTS, episodes))])
        return played

    def drawing(self, method: Method, noise_seed: int, block: int = 0) -> AbstractContextManager[None]:
        """Held while the block-th SLOTS episodes are played."""
        return method.drawing_from(int(np.random.SeedSequence([noise_seed, block]).generate_state(1)[0]))

    def decide(self, method: Method, obs: np.ndarray, box: Box) -> np.ndarray:
        """Observations of at most SLOTS episodes [n, O] -> the chunks to execute [n, H, A], in the environment's units.

        Raises Diverged where an action is not finite.
        """
        rows = np.resize(self.scale.obs(obs), (SLOTS, obs.shape[1]))  # the missing ones repeat the others
        chunk = method.exploit(torch.from_numpy(rows).to(method.device))[: len(obs)].cpu().numpy()
        if not np.isfinite(chunk).all():
            raise Diverged("the policy's actions are not finite in evaluation")
        return np.clip(self.scale.action(chunk), box.low, box.high).astype(np.float32)

    def _play(self, method: Method, seeds: list[int]) -> list[Episode]:
        env = make_vec(self.task, len(seeds), self.chunk, self.threads, AutoresetMode.DISABLED)
        box: Any = env.single_action_space
        obs, _ = env.reset(seed=seeds)
        total, length = np.zeros(len(seeds)), np.zeros(len(seeds), np.int64)
        done = np.zeros(len(seeds), bool)
        terminated = done
        solved = np.zeros(len(seeds), bool)
        while not done.all():
            obs, reward, terminated, truncated, info = env.step(self.decide(method, obs, box))
            total += reward
            length += info["executed"]
            solved |= info.get("success", False)
            done = terminated | truncated
        env.close()
        ended = np.where(terminated, "terminated", "truncated")
        success = solved.tolist() if self.task.score == "success" else [None] * len(seeds)
        columns = seeds, total.tolist(), length.tolist(), ended.tolist(), success
        return [Episode(*row) for row in zip(*columns, strict=True)]

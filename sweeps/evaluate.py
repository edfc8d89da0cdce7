"""Evaluation: a fixed number of complete episodes, in environments of their own."""

from dataclasses import dataclass

import numpy as np
import torch
from gymnasium.vector import AutoresetMode

from dpft.envs import TaskSpec, make_vec
from dpft.methods.interface import Method
from dpft.sweeps.collect import Diverged, Scale

SLOTS = 40  # episodes played side by side


@dataclass(frozen=True)
class Episode:
    seed: int
    total: float  # return, undiscounted
    length: int  # environment steps
    ended: str  # "terminated" or "truncated"


class Evaluator:
    """Plays episodes seed, seed + 1, …: episode j always starts from the same state.

    Episodes are given to slots beforehand and all of them are completed, so that short episodes count no more often
    than long ones. The method draws from a stream of its own, so training is the same however often it is evaluated.
    """

    def __init__(self, task: TaskSpec, chunk: int, threads: int, scale: Scale) -> None:
        self.task, self.chunk, self.threads, self.scale = task, chunk, threads, scale

    def __call__(self, method: Method, episodes: int, seed: int, noise_seed: int) -> list[Episode]:
        """Raises Diverged where an action is not finite."""
        played: list[Episode] = []
        with method.drawing_from(noise_seed):
            while len(played) < episodes:
                count = min(SLOTS, episodes - len(played))
                played += self._play(method, [seed + len(played) + i for i in range(count)])
        return played

    def _play(self, method: Method, seeds: list[int]) -> list[Episode]:
        env = make_vec(self.task, len(seeds), self.chunk, self.threads, AutoresetMode.DISABLED)
        low, high = env.single_action_space.low, env.single_action_space.high  # type: ignore[attr-defined]
        obs, _ = env.reset(seed=seeds)
        total, length = np.zeros(len(seeds)), np.zeros(len(seeds), np.int64)
        done = np.zeros(len(seeds), bool)
        terminated = done
        while not done.all():
            chunk = method.exploit(torch.from_numpy(self.scale.obs(obs)).to(method.device)).cpu().numpy()
            if not np.isfinite(chunk).all():
                raise Diverged("the policy's actions are not finite in evaluation")
            obs, reward, terminated, truncated, info = env.step(np.clip(self.scale.action(chunk), low, high))
            total += reward
            length += info["executed"]
            done = terminated | truncated
        env.close()
        ended = np.where(terminated, "terminated", "truncated")
        return [Episode(*row) for row in zip(seeds, total.tolist(), length.tolist(), ended.tolist(), strict=True)]

"""Rolling a method out: decisions of many environments into one Rollout."""

import math
import time
from typing import Any, Protocol

import numpy as np
import torch
from torch import Tensor

from dpft.envs.chunked import ChunkedVectorEnv
from dpft.methods.interface import Method, Rollout

Array = np.ndarray


class Diverged(Exception):
    """Something is no longer a finite number: the run has failed, and that is its result."""


class Scale(Protocol):
    """Maps between the environment's units and the method's."""

    def obs(self, obs: Array) -> Array: ...

    def action(self, chunk: Array) -> Array: ...


class Collector:
    """Steps the training environments; counts simulated steps and the returns of finished episodes."""

    def __init__(self, env: ChunkedVectorEnv, method: Method, scale: Scale, seeds: list[int]) -> None:
        self.env, self.method, self.scale = env, method, scale
        self.obs, _ = env.reset(seed=seeds)
        self.low, self.high = env.single_action_space.low, env.single_action_space.high  # type: ignore[attr-defined]
        self.env_steps = 0
        self.running = np.zeros(env.num_envs)  # return of the episode under way
        self.finished = [0.0, 0]  # summed returns and number of episodes that ended since take_training_return()
        self.seconds = {"act": 0.0, "simulate": 0.0}

    def collect(self, until: float = math.inf) -> Rollout | None:
        """The next decisions_per_update decisions; None where so many environment steps are reached before.

        Raises Diverged where a chunk is not finite.
        """
        method, device = self.method, self.method.device
        rows: list[dict[str, Tensor]] = []
        with method.mixed():
            while len(rows) < method.decisions_per_update:
                if self.env_steps >= until:
                    return None
                started = time.perf_counter()
                obs = torch.from_numpy(self.scale.obs(self.obs)).to(device)
                decision = method.act(obs)
                chunk = decision.chunk.cpu().numpy()
                acted = time.perf_counter()
                if not np.isfinite(chunk).all():
                    raise Diverged(f"the policy's actions are not finite at step {self.env_steps}")
                self.obs, reward, terminated, truncated, info = self.env.step(
                    np.clip(self.scale.action(chunk), self.low, self.high)
                )
                self._count(reward, terminated | truncated, info["executed"])
                after = {
                    "reward": reward,
                    "executed": info["executed"],
                    "terminated": terminated,
                    "truncated": truncated,
                    "final_obs": self.scale.obs(info["final_obs"]),
                }
                rows.append(
                    {"obs": obs, "chunk": decision.chunk}
                    | {key: torch.from_numpy(np.array(value)) for key, value in after.items()}
                    | {f"memo.{key}": value for key, value in decision.memo.items()}
                )
                self.seconds["act"] += acted - started
                self.seconds["simulate"] += time.perf_counter() - acted
        stacked = {key: torch.stack([row[key] for row in rows]).to(device) for key in rows[0]}
        memo = {key.removeprefix("memo."): stacked.pop(key) for key in list(stacked) if key.startswith("memo.")}
        return Rollout(**stacked, memo=memo)

    def _count(self, reward: Array, done: Array, executed: Array) -> None:
        self.env_steps += int(executed.sum())
        self.running += reward
        self.finished[0] += float(self.running[done].sum())
        self.finished[1] += int(done.sum())
        self.running[done] = 0.0

    def take_training_return(self) -> float | None:
        """Mean return, exploration included, of the episodes that ended since the last call."""
        total, count = self.finished
        self.finished = [0.0, 0]
        return total / count if count else None

    def state_dict(self) -> dict[str, Any]:
        return {
            "env": self.env.get_state(),
            "obs": self.obs.copy(),
            "env_steps": self.env_steps,
            "running": self.running.copy(),
            "finished": list(self.finished),
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.env.set_state(state["env"])
        self.obs, self.running = np.array(state["obs"]), np.array(state["running"])
        self.env_steps, self.finished = state["env_steps"], list(state["finished"])

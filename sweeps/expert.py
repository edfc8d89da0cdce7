"""Training the experts whose episodes are the demonstrations: this suite's own Gaussian PPO, before any data exist."""

import argparse
import sys
from pathlib import Path

import numpy as np
import torch

from envs import TaskSpec, get_task, make_vec
from envs.experts import Expert, rollout_expert, save_expert
from methods.gaussian_ppo import GaussianPPO, GaussianPPOConfig
from methods.interface import Spec
from methods.policy.config import PolicyConfig
from methods.policy.models import make_policy
from sweeps.collect import Collector
from sweeps.records import versions


class RunningScale:
    """Running mean and deviation of the observations (before demonstrations there is no minimum and maximum)."""

    def __init__(self, obs_dim: int) -> None:
        self.mean, self.var, self.count = np.zeros(obs_dim), np.ones(obs_dim), 1e-4

    def obs(self, obs: np.ndarray) -> np.ndarray:
        return np.clip((obs - self.mean) / self.std, -10, 10).astype(np.float32)

    def action(self, chunk: np.ndarray) -> np.ndarray:
        return chunk

    @property
    def std(self) -> np.ndarray:
        return np.sqrt(self.var + 1e-8)

    def update(self, obs: np.ndarray) -> None:
        """Merge the moments of observations [n, O] (Chan et al. 1979)."""
        n, delta = len(obs), obs.mean(0) - self.mean
        total = self.count + n
        self.var = (self.var * self.count + obs.var(0) * n + delta**2 * self.count * n / total) / total
        self.mean, self.count = self.mean + delta * n / total, total


JUDGE_EVERY = 4  # updates of 2,048 steps between two candidates
SETTINGS = GaussianPPOConfig(
    num_envs=8,
    decisions_per_update=256,
    minibatches=32,
    critic_learning_rate=3e-4,
    critic_hidden=(64, 64, 64),
    max_grad_norm=0.5,
    target_kl=None,
)
POLICY = PolicyConfig(hidden=(64, 64, 64), activation="tanh", std_init=0.4, std_bounds=(0.05, 1.0))


def freeze(method: GaussianPPO, scale: RunningScale, metadata: dict[str, str]) -> Expert:
    """The trained policy as numpy weights."""
    linears = method.policy.trunk.linears()
    layers = [(layer.weight.detach().numpy().copy(), layer.bias.detach().numpy().copy()) for layer in linears]
    std = method.policy.log_std.detach().exp().numpy().copy()
    return Expert(layers, std, scale.mean.astype(np.float32), scale.std.astype(np.float32), metadata)


def train_expert(task: TaskSpec, target: float, seed: int, max_steps: int, threads: int) -> tuple[Expert, float, int]:
    """PPO from scratch until sampled episodes (exploration included) reach `target`; the update nearest to it is kept.

    Returns the expert, its mean return over 40 episodes and the environment steps used.
    """
    spec = Spec(task.obs_dim, task.action_dim, chunk=1, gamma=SETTINGS.gamma)
    rng = torch.Generator().manual_seed(seed)
    method = GaussianPPO(make_policy("gaussian", POLICY, spec, 1, seed), spec, SETTINGS, rng)  # type: ignore[arg-type]
    scale = RunningScale(task.obs_dim)
    env = make_vec(task, SETTINGS.num_envs, 1, threads)
    collector = Collector(env, method, scale, [seed + i for i in range(SETTINGS.num_envs)])
    best: tuple[float, Expert, float] | None = None
    observed = float("-inf")
    while collector.env_steps < max_steps:
        rollout = collector.collect()
        method.update(rollout)
        observed = collector.take_training_return() or observed  # none where no episode ended
        # scaled with the statistics that acting used: they change only between updates
        raw = rollout.obs.flatten(0, 1).numpy() * scale.std + scale.mean
        scale.update(raw)
        if method.updates % 20 == 0:
            print(f"{collector.env_steps:>9} steps: training return {observed:.0f}", flush=True)
        # the rise through "medium" is steep, but judging costs ten times as much as an update
        if observed < 0.7 * target or method.updates % JUDGE_EVERY:
            continue
        expert = freeze(method, scale, {})
        returns = [e["rewards"].sum() for e in rollout_expert(expert, task, 40, seed + 10_000, threads)]
        mean = float(np.mean(returns))
        print(
            f"{collector.env_steps:>9} steps: mean return {mean:.0f} over {len(returns)} sampled episodes", flush=True
        )
        if best is None or abs(mean - target) < best[0]:
            best = abs(mean - target), expert, mean
        if mean >= target:
            break
    if best is None:
        raise SystemExit(f"no policy came near a return of {target} within {max_steps} steps: try another --seed")
    return best[1], best[2], collector.env_steps


def main(argv: list[str]) -> int:
    parser = argparse.ArgumentParser(
        prog="dpft train-expert",
        description="Train a Gaussian policy from scratch until it reaches a return, and store it as an expert.",
        epilog="example: dpft train-expert hopper-medium --target 1400 --out envs/experts/hopper-medium.safetensors",
    )
    parser.add_argument("task")
    parser.add_argument("--target", type=float, required=True, help="mean return of sampled episodes to stop at")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--max-steps", type=lambda x: int(float(x)), default=3_000_000, help="environment steps")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--out", type=Path, required=True, help="a .safetensors file")
    options = parser.parse_args(argv)
    torch.set_num_threads(options.threads)
    task = get_task(options.task)
    expert, mean, steps = train_expert(task, options.target, options.seed, options.max_steps, options.threads)
    expert.metadata.update(
        task=task.name,
        env_id=task.env_id,
        activation="tanh",
        command=" ".join(["dpft train-expert", *argv]),
        versions=", ".join(f"{k} {v}" for k, v in versions().items()),
        mean_return=f"{mean:.1f}",
        env_steps=str(steps),
    )
    save_expert(options.out, expert)
    print(f"expert of mean return {mean:.0f} after {steps} steps in {options.out}", file=sys.stdout)
    print(f"next: dpft demos {task.name} --source expert:{options.out}")
    return 0

"""Training the experts whose episodes are the demonstrations: this suite's own Gaussian PPO, before any data exist."""

import shlex
from collections.abc import Iterator
from dataclasses import replace

import numpy as np
import torch

from dpft.arguments import Parser, count, finite, not_negative, place, positive, seed_number, writable_file
from dpft.envs import DataError, TaskSpec, get_task, make_vec
from dpft.envs.experts import Expert, rollout_expert, save_expert
from dpft.methods.gaussian_ppo import GaussianPPO, GaussianPPOConfig
from dpft.methods.interface import Spec
from dpft.methods.policy.config import PolicyConfig
from dpft.methods.policy.models import make_policy
from dpft.sweeps.collect import Collector
from dpft.sweeps.process import use_cpu
from dpft.sweeps.records import versions


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


JUDGE_EVERY = 2  # updates of 2,048 steps between two candidates: the rise through "medium" is steep
WORTH_JUDGING = 0.5  # of the target below it, while exploring: judging costs more than an update
TOLERANCE = 0.1  # relative distance from the target that ends training
SETTINGS = GaussianPPOConfig(
    num_envs=8,
    decisions_per_update=256,
    minibatches=32,
    clip=0.2,
    log_prob="joint",
    critic_learning_rate=3e-4,
    critic_hidden=(64, 64, 64),
    max_grad_norm=0.5,
    target_kl=None,
)
POLICY = PolicyConfig(hidden=(64, 64, 64), activation="tanh", std_init=0.4, std_bounds=(0.05, 1.0))


def freeze(method: GaussianPPO, scale: RunningScale, noise: float) -> Expert:
    """The policy's mean as numpy weights, with the deviation that demonstrations shall have (not that of exploring)."""
    linears = method.policy.trunk.linears()
    layers = [(layer.weight.detach().numpy().copy(), layer.bias.detach().numpy().copy()) for layer in linears]
    std = np.full(method.policy.spec.action_dim, noise, np.float32)
    return Expert(layers, std, scale.mean.astype(np.float32), scale.std.astype(np.float32), {})


def train_expert(
    task: TaskSpec, target: float, noise: float, learning_rate: float, seed: int, max_steps: int, threads: int
) -> Iterator[Expert]:
    """PPO from scratch until episodes of the mean action return `target`, with demonstrations' `noise` and without it.

    Noise that makes an expert "medium" would be removed by whatever clones its mean: such a clone is not medium.
    Yields each expert that comes nearer to the target (in the worse of the two) than all before it.
    """
    spec = Spec(task.obs_dim, task.action_dim, chunk=1, gamma=SETTINGS.gamma)
    rng = torch.Generator().manual_seed(seed)
    settings = SETTINGS.model_copy(update={"learning_rate": learning_rate})
    method = GaussianPPO(make_policy("gaussian", POLICY, spec, 1, seed), spec, settings, rng)  # type: ignore[arg-type]
    scale = RunningScale(task.obs_dim)
    env = make_vec(task, SETTINGS.num_envs, 1, threads)
    collector = Collector(env, method, scale, [seed + i for i in range(SETTINGS.num_envs)])
    nearest, observed = float("inf"), float("-inf")
    while collector.env_steps < max_steps:
        rollout = collector.collect()
        assert rollout, "without a limit it is complete"
        method.update(rollout)
        # scaled with the statistics that acting used: they change only between updates
        raw = rollout.obs.flatten(0, 1).numpy() * scale.std + scale.mean
        scale.update(raw)
        observed = collector.take_training_return() or observed  # none where no episode ended
        if observed < target - WORTH_JUDGING * abs(target) or method.updates % JUDGE_EVERY:
            continue
        expert = freeze(method, scale, noise)
        returns = mean_return(expert, task, seed, threads)
        print(f"{collector.env_steps:>9} steps: return {returns:.0f}, {observed:.0f} exploring", flush=True)
        if abs(returns - target) >= nearest:
            continue
        noiseless = mean_return(replace(expert, std=0 * expert.std), task, seed, threads)
        distance = max(abs(returns - target), abs(noiseless - target))
        if distance < nearest:
            nearest = distance
            print(f"          nearest so far: {noiseless:.0f} without noise", flush=True)
            expert.metadata.update(
                env_steps=str(collector.env_steps), mean_return=f"{returns:.1f}", noiseless_return=f"{noiseless:.1f}"
            )
            yield expert
        if nearest <= TOLERANCE * abs(target):
            return


def mean_return(expert: Expert, task: TaskSpec, seed: int, threads: int) -> float:
    """Mean return of 40 episodes, the same first states for every candidate."""
    return float(np.mean([e["rewards"].sum() for e in rollout_expert(expert, task, 40, seed + 10_000, threads)]))


def main(argv: list[str]) -> int:
    parser = Parser(
        prog="dpft train-expert",
        description="Train a Gaussian policy from scratch until it reaches a return, and store it as an expert.",
        epilog="example: dpft train-expert hopper-medium --target 1400 --out envs/experts/hopper-medium.safetensors",
    )
    parser.add_argument("task")
    parser.add_argument("--target", type=finite, required=True, help="mean return of the demonstrations to stop at")
    parser.add_argument(
        "--noise", type=not_negative, default=0.1, help="their deviation around the mean, in action units"
    )
    parser.add_argument("--learning-rate", type=positive, default=3e-4, help="lower ones climb less steeply")
    parser.add_argument("--seed", type=seed_number, default=0)
    parser.add_argument("--max-steps", type=count, default=3_000_000, help="environment steps")
    parser.add_argument("--threads", type=count, default=1)
    parser.add_argument(
        "--out", type=place, required=True, help="a .safetensors file; holds the best so far at any time"
    )
    o = parser.parse_args(argv)
    task = get_task(o.task)
    if o.out.suffix != ".safetensors":
        raise DataError(f"--out {o.out}: expected a name that ends in .safetensors")
    writable_file(o.out)
    use_cpu(o.threads)
    expert = None
    for expert in train_expert(task, o.target, o.noise, o.learning_rate, o.seed, o.max_steps, o.threads):
        expert.metadata.update(
            task=task.name,
            env_id=task.env_id,
            activation="tanh",
            command=shlex.join(["dpft", "train-expert", *argv]),
            versions=", ".join(f"{k} {v}" for k, v in versions().items()),
        )
        save_expert(o.out, expert)
    if expert is None:
        raise DataError(
            f"no expert came near a return of {o.target:g} within {o.max_steps:,} steps: try more --max-steps"
        )
    print(f"expert of mean return {expert.metadata['mean_return']} in {o.out}")
    print(f"next: dpft demos {shlex.quote(task.name)} --source {shlex.quote(f'expert:{o.out}')}")
    return 0

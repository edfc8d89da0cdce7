"""Whole iterations at the authors' Hopper settings: where the time goes, each part beside what the hardware allows."""

import time

import mujoco
import numpy as np
import pytest
import torch
from products import seconds
from test_bench_methods import STEPS, build

from dpft.envs import get_task, make_vec
from dpft.envs.demonstrations import Normaliser
from dpft.sweeps.collect import Collector

BOX = Normaliser(*(np.full(n, bound, np.float32) for n, bound in ((11, -5), (11, 5), (3, -1), (3, 1))))
LAYER = 2048, 512, 512  # a hidden layer and a slice of samples


def physics_rate() -> float:
    """Environment steps per second of bare mj_step under random actions."""
    env = make_vec(get_task("hopper-medium"), 1, 1)
    data, rng = mujoco.MjData(env.model), np.random.default_rng(0)
    started, steps = time.process_time(), 4000
    for step in range(steps):
        if step % 50 == 0:
            mujoco.mj_resetData(env.model, data)
        data.ctrl[:] = rng.uniform(-1, 1, 3)
        mujoco.mj_step(env.model, data, nstep=env.frame_skip)
    return steps / (time.process_time() - started)


def weights(network: torch.nn.Module) -> int:
    return sum(layer.weight.numel() for layer in network.modules() if isinstance(layer, torch.nn.Linear))


def iterate(benchmark, method, updates: int) -> tuple[int, dict[str, float]]:
    """So many updates and their rollouts: environment steps and CPU seconds of act, simulate and update."""
    envs = method.config.num_envs
    collector = Collector(make_vec(get_task("hopper-medium"), envs, 4), method, BOX, range(envs))
    method.update(collector.collect())  # allocations settle
    before, steps = dict(collector.seconds), collector.env_steps

    def work() -> None:
        for _ in range(updates):
            method.update(collector.collect())

    started = time.process_time()
    benchmark.pedantic(work, rounds=1, iterations=1)
    total = time.process_time() - started
    parts = {part: collector.seconds[part] - before[part] for part in before}
    parts["update"] = total - sum(parts.values())
    benchmark.extra_info |= {f"{part}_seconds": round(taken, 2) for part, taken in parts.items()}
    benchmark.extra_info |= {"total_cpu_seconds": round(total, 2), "env_steps": collector.env_steps - steps}
    return collector.env_steps - steps, parts


@pytest.mark.slow
@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
@pytest.mark.parametrize("name", ["dppo", "ncdpo", "gaussian-ppo"])
def test_iteration(benchmark, name, precision):
    """40 environments x 500 decisions x chunks of 4, K = 20, 10 steps fine-tuned, 5 epochs; CPU seconds, one thread."""
    method = build(name, precision=precision)
    steps, _ = iterate(benchmark, method, 1)
    epochs, decisions = method.config.epochs, method.config.num_envs * method.decisions_per_update
    forward = 1 if name == "gaussian-ppo" else STEPS  # network passes of a decision
    trained = 1 if name == "gaussian-ppo" else 10  # of which so many carry gradient
    untrained = STEPS - trained if name == "ncdpo" else 0  # recomputed without gradient in each epoch
    per_weight = 2 * decisions * seconds(LAYER, getattr(torch, precision)) / (2 * np.prod(LAYER))
    policy, critic = per_weight * weights(method.policy), per_weight * weights(method.critic)
    benchmark.extra_info |= {
        "act_limit": round(policy * forward, 2),
        "simulate_limit": round(steps / physics_rate(), 2),
        "update_limit": round(policy * epochs * (3 * trained + untrained) + critic * (3 * epochs + 2), 2),
    }


@pytest.mark.parametrize("name", ["dsrl-na", "dsrl-sac"])
def test_off_policy_iterations(benchmark, name):
    """4 environments, an update every 2 decisions: 20 critic and actor steps of 256 (NA: and 10 of distillation)."""
    iterate(benchmark, build(name), 20)

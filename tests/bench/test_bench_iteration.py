"""One whole iteration at the reference's published Hopper settings, each part beside what the hardware allows."""

import time

import mujoco
import numpy as np
import pytest
import torch
from test_bench_methods import HOPPER, STEPS, build

from envs import get_task, make_vec
from envs.demonstrations import Normaliser
from sweeps.collect import Collector

BOX = Normaliser(*(np.full(n, bound, np.float32) for n, bound in ((11, -5), (11, 5), (3, -1), (3, 1))))


def product_rate(rows: int = 2048, width: int = 512) -> float:
    """FLOP per second of the hidden layers' matrix product, float32, one thread."""
    x, weight = torch.randn(rows, width), torch.randn(width, width)
    rates = []
    for _ in range(20):
        started = time.process_time()
        for _ in range(10):
            torch.mm(x, weight)
        rates.append(10 * 2 * rows * width**2 / (time.process_time() - started))
    return float(np.median(rates))


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


@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
@pytest.mark.parametrize("name", ["dppo", "ncdpo", "gaussian-ppo"])
def test_iteration(benchmark, name, precision):
    """40 environments x 500 decisions x chunks of 4, K = 20, 10 steps fine-tuned, 5 epochs; CPU seconds, one thread."""
    method = build(name, precision=precision)
    config = method.config
    collector = Collector(make_vec(get_task("hopper-medium"), 40, 4), method, BOX, list(range(40)))
    method.update(collector.collect())  # allocations settle
    before, steps = dict(collector.seconds), collector.env_steps

    def iteration() -> None:
        method.update(collector.collect())

    started = time.process_time()
    benchmark.pedantic(iteration, rounds=1, iterations=1)
    total = time.process_time() - started
    parts = {part: collector.seconds[part] - before[part] for part in before}
    parts["update"] = total - sum(parts.values())
    decisions = config.num_envs * method.decisions_per_update
    forward = 1 if name == "gaussian-ppo" else STEPS  # network passes of a decision
    trained = 1 if name == "gaussian-ppo" else 10  # of which so many carry gradient
    untrained = STEPS - trained if name == "ncdpo" else 0  # recomputed without gradient in each epoch
    flop = 2 * weights(method.policy) * decisions
    critic = 2 * weights(method.critic) * decisions
    rate = product_rate()
    limits = {
        "act": flop * forward / rate,
        "simulate": (collector.env_steps - steps) / physics_rate(),
        "update": (flop * config.epochs * (3 * trained + untrained) + critic * (3 * config.epochs + 2)) / rate,
    }
    for part, seconds in parts.items():
        benchmark.extra_info[f"{part}_seconds"] = round(seconds, 2)
        benchmark.extra_info[f"{part}_limit"] = round(limits[part], 2)
    benchmark.extra_info["total_cpu_seconds"] = round(total, 2)
    benchmark.extra_info["gflops_of_the_product"] = round(rate / 1e9)
    assert method.spec == HOPPER

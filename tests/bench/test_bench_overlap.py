"""Simulating one half of the environments while the other half is denoised, against both in turn on the same cores."""

import time
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
import torch
from test_bench_methods import build

from dpft.envs import get_task, make_vec

ENVS, DECISIONS, CORES = 40, 25, 2


def act(method, obs: np.ndarray) -> np.ndarray:
    return method.act(torch.from_numpy(obs).float()).chunk.numpy().clip(-1, 1)


def in_turn(method, env, obs: np.ndarray) -> np.ndarray:
    """All environments, all cores for the denoiser, then all cores for the simulator."""
    torch.set_num_threads(CORES)
    for _ in range(DECISIONS):
        obs = env.step(act(method, obs))[0]
    return obs


def overlapped(method, halves, obs: list[np.ndarray], pool: ThreadPoolExecutor) -> list[np.ndarray]:
    """One core denoises a half while the other simulates the other half."""
    torch.set_num_threads(1)
    stepping = [pool.submit(half.step, act(method, own)) for half, own in zip(halves, obs, strict=True)]
    for turn in range(2 * (DECISIONS - 1)):
        half = turn % 2
        chunk = act(method, stepping[half].result()[0])
        stepping[half] = pool.submit(halves[half].step, chunk)
    return [future.result()[0] for future in stepping]


@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
def test_overlap(benchmark, precision):
    """DPPO at the authors' Hopper settings: wall-clock seconds of a rollout's decisions, the two ways by turns."""
    method, task = build("dppo", precision=precision), get_task("hopper-medium")
    whole = make_vec(task, ENVS, 4, CORES)
    halves = [make_vec(task, ENVS // 2, 4) for _ in range(2)]
    obs = whole.reset(seed=0)[0]
    parts = [half.reset(seed=seed)[0] for seed, half in enumerate(halves)]
    seconds: dict[str, list[float]] = {"in_turn": [], "overlapped": []}
    with method.mixed(), ThreadPoolExecutor(1) as pool:
        for _ in range(6):
            started = time.perf_counter()
            obs = in_turn(method, whole, obs)
            between = time.perf_counter()
            parts = overlapped(method, halves, parts, pool)
            seconds["in_turn"].append(between - started)
            seconds["overlapped"].append(time.perf_counter() - between)
        per_decision = {way: 1000 * float(np.median(taken[1:])) / DECISIONS for way, taken in seconds.items()}
        benchmark.extra_info |= {f"{way}_ms_per_decision": round(ms, 2) for way, ms in per_decision.items()}
        benchmark.extra_info["overlapped_over_in_turn"] = round(per_decision["overlapped"] / per_decision["in_turn"], 2)
        benchmark.pedantic(overlapped, (method, halves, parts, pool), rounds=1, iterations=1)

"""Sampling, and one update of each method, at the reference's Hopper settings."""

import os
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch
from products import limit

from dpft.methods import get_method
from dpft.methods.interface import Rollout, Spec
from dpft.methods.policy.config import PolicyConfig
from dpft.methods.policy.models import make_policy
from dpft.sweeps.process import use_cpu

pytestmark = pytest.mark.benchmark(timer=time.process_time)
HOPPER = Spec(obs_dim=11, action_dim=3, chunk=4, gamma=0.99)
REFERENCE_POLICY = PolicyConfig(hidden=(512, 512, 512))
STEPS = 20
# 40 environments x 500 decisions, batch 50,000 (DPPO counts a denoising step as a sample), 5 epochs
ON_POLICY = {"num_envs": 40, "decisions_per_update": 500, "epochs": 5, "minibatches": 4, "target_kl": None}
SETTINGS = {
    "ncdpo": ON_POLICY | {"gradient_steps": 10},
    "dppo": ON_POLICY,
    "gaussian-ppo": ON_POLICY,
    "dsrl-na": {"warmup": 2},
    "dsrl-sac": {"warmup": 2},
}


def build(name: str, steps: int = STEPS, **changes):
    use_cpu(1)
    cls = get_method(name)
    config = cls.Config(**SETTINGS[name] | changes).resolved(steps)
    policy = make_policy(cls.fine_tunes, REFERENCE_POLICY, HOPPER, steps, 0)
    return cls(policy, HOPPER, config, torch.Generator().manual_seed(0))


def rollout_of(method) -> Rollout:
    shape = method.decisions_per_update, method.config.num_envs
    rng = torch.Generator().manual_seed(0)
    obs = torch.rand(*shape, 11, generator=rng) * 2 - 1
    decisions = [method.act(row) for row in obs]
    chance = torch.rand(shape, generator=rng)
    return Rollout(
        obs=obs,
        chunk=torch.stack([d.chunk for d in decisions]),
        reward=torch.rand(shape, generator=rng),
        executed=torch.full(shape, 4),
        terminated=chance < 0.01,
        truncated=chance > 0.995,
        final_obs=torch.rand(*shape, 11, generator=rng) * 2 - 1,
        memo={key: torch.stack([d.memo[key] for d in decisions]) for key in decisions[0].memo},
    )


@pytest.mark.parametrize("name", SETTINGS)
def test_act(benchmark, name):
    """One decision for 40 environments (DSRL: 4), K = 20."""
    method = build(name)
    obs = torch.rand(method.config.num_envs, 11)
    benchmark(method.act, obs)


@pytest.mark.slow
@pytest.mark.parametrize("name", SETTINGS)
def test_update(benchmark, name):
    """One whole update: CPU seconds, and what its matrix products alone would take."""
    method = build(name)
    rollout = rollout_of(method)
    method.update(rollout)  # DSRL's replay needs one, and allocations settle
    started = time.process_time()
    benchmark.pedantic(method.update, (rollout,), rounds=1, iterations=1)
    taken = time.process_time() - started
    if name in ("ncdpo", "dppo"):
        passes = rollout.reward.numel() * 10 * method.config.epochs
        benchmark.extra_info["microseconds_per_sample_step_epoch"] = round(1e6 * taken / passes, 3)
    else:
        benchmark.extra_info["share_of_product_rate"] = round(limit(lambda: method.update(rollout)) / taken, 2)


@pytest.mark.parametrize("steps", [1, 2, 5, 10, 20, 50, 100])
@pytest.mark.parametrize(("name", "checkpointing"), [("dppo", False), ("ncdpo", False), ("ncdpo", True)], ids=str)
def test_update_against_denoising_steps(benchmark, name, checkpointing, steps):
    """One epoch over 1,000 decisions; DPPO fine-tunes min(10, K) steps, NCDPO differentiates all K."""
    changes = {"decisions_per_update": 25, "epochs": 1, "minibatches": 1}
    if name == "ncdpo":
        changes |= {"gradient_steps": None, "checkpointing": checkpointing}
    method = build(name, steps, **changes)
    rollout = rollout_of(method)
    method.update(rollout)
    benchmark.extra_info |= {"method": name, "checkpointing": checkpointing, "denoising_steps": steps}
    benchmark.pedantic(method.update, (rollout,), rounds=3, iterations=1)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "steps", "changes"),
    [
        ("dppo", STEPS, {}),
        ("ncdpo", STEPS, {}),
        ("ncdpo", 100, {"gradient_steps": None, "decisions_per_update": 125, "checkpointing": False}),
        ("ncdpo", 100, {"gradient_steps": None, "decisions_per_update": 125, "checkpointing": True}),
    ],
    ids=["dppo", "ncdpo", "ncdpo-100", "ncdpo-100-checkpointing"],
)
def test_memory(benchmark, name, steps, changes):
    """The most memory that a process had which acts and updates once."""
    code = f"""
from pathlib import Path
from test_bench_methods import build, rollout_of
method = build({name!r}, {steps}, **{changes | {"epochs": 1}})
method.update(rollout_of(method))
print(Path("/proc/self/status").read_text().split("VmHWM:")[1].split()[0])
"""
    here = Path(__file__).parent
    path = os.pathsep.join([str(here), str(here.parents[1])])
    options = {"env": os.environ | {"PYTHONPATH": path}, "capture_output": True, "check": True}
    done = benchmark.pedantic(subprocess.run, ([sys.executable, "-c", code],), options, rounds=1)
    benchmark.extra_info["MiB"] = int(done.stdout) // 1024


@pytest.mark.parametrize("rows", [1_000, 100_000, 1_000_000])
def test_replay_sampling(benchmark, rows):
    """A batch of 256; the time must not grow with the number of rows."""
    from dpft.methods.replay import Replay

    replay = Replay(rows, torch.device("cpu"))
    replay.add(obs=torch.zeros(rows, 11), chunk=torch.zeros(rows, 4, 3), reward=torch.zeros(rows))
    rng = torch.Generator().manual_seed(0)
    benchmark(replay.sample, (256,), rng)

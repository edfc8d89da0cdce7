"""Roll-outs of experts: the same bytes for the same seed, whole episodes, no bias to short ones; the cache."""

import hashlib
import subprocess
import sys
import time
from dataclasses import replace

import numpy as np
import pytest

from dpft.envs import TASKS, DataError
from dpft.envs.cache import STALE, Claim, build_once
from dpft.envs.demonstrations import load_demos
from dpft.envs.experts import Expert, load_expert, rollout_expert, save_expert

TASK = TASKS["hopper-medium"]


def random_expert(seed=0, std=0.3) -> Expert:
    rng = np.random.default_rng(seed)
    shapes = [(16, 11), (16, 16), (16, 16), (3, 16)]
    weights = [(rng.normal(size=s).astype(np.float32) / 4, np.zeros(s[0], np.float32)) for s in shapes]
    return Expert(
        weights, np.full(3, std, np.float32), np.zeros(11, np.float32), np.ones(11, np.float32), {"task": "x"}
    )


def test_file_round_trip(tmp_path):
    path = tmp_path / "e.safetensors"
    save_expert(path, random_expert())
    obs = np.random.default_rng(0).normal(size=(5, 11))
    np.testing.assert_array_equal(load_expert(str(path)).mean(obs), random_expert().mean(obs))
    assert load_expert(str(path)).metadata == {"task": "x"}
    path.write_bytes(path.read_bytes()[:100])
    with pytest.raises(DataError, match="no expert"):
        load_expert(str(path))


def test_same_seed_same_bytes(tmp_path, monkeypatch):
    save_expert(tmp_path / "e.safetensors", random_expert())
    digests, files = [], []
    for name in ("a", "b"):
        monkeypatch.setenv("DPFT_CACHE", str(tmp_path / name))
        demos = load_demos(f"expert:{tmp_path / 'e.safetensors'}", TASK, steps=2000, seed=5)
        digests.append(demos.digest())
        stored = next((tmp_path / name).rglob("main_data.hdf5"))
        files.append(hashlib.sha256(stored.read_bytes()).hexdigest())
    assert digests[0] == digests[1]
    assert files[0] == files[1]
    assert load_demos(f"expert:{tmp_path / 'e.safetensors'}", TASK, steps=2000, seed=6).digest() != digests[0]


def test_episodes_are_whole_and_of_every_length():
    episodes = rollout_expert(random_expert(), TASK, 4000, 0)
    assert sum(len(e["actions"]) for e in episodes) >= 4000
    for episode in episodes:
        assert (episode["terminations"] | episode["truncations"])[-1]
        assert not (episode["terminations"] | episode["truncations"])[:-1].any()
        assert len(episode["observations"]) == len(episode["actions"]) + 1
        assert (np.abs(episode["actions"]) <= 1).all()


@pytest.mark.parametrize("noise", [True, False])
@pytest.mark.parametrize("name", [name for name, task in TASKS.items() if task.simulator == "locomotion"])
def test_committed_experts_reach_what_their_files_say(name, noise):
    expert = load_expert(name)
    claimed = float(expert.metadata["mean_return" if noise else "noiseless_return"])
    judged = expert if noise else replace(expert, std=0 * expert.std)
    returns = [e["rewards"].sum() for e in rollout_expert(judged, TASKS[name], 40, 1)]
    assert abs(np.mean(returns) - claimed) < 5 * max(np.std(returns) / np.sqrt(len(returns)), 0.01 * claimed)
    assert expert.metadata["command"].startswith(f"dpft train-expert {name}")


BUILD = """
import sys, time
from pathlib import Path
from dpft.envs.cache import build_once
def build(path):
    with open(sys.argv[2], "a") as log: log.write("built\\n")
    time.sleep(1.0)
    path.write_text("contents")
print(build_once(Path(sys.argv[1]), build).read_text())
"""


def test_four_processes_build_once(tmp_path):
    arguments = [sys.executable, "-c", BUILD, str(tmp_path / "thing"), str(tmp_path / "log")]
    processes = [subprocess.Popen(arguments, stdout=subprocess.PIPE, text=True) for _ in range(4)]
    assert [p.communicate(timeout=60)[0].strip() for p in processes] == ["contents"] * 4
    assert (tmp_path / "log").read_text().count("built") == 1
    assert sorted(p.name for p in tmp_path.iterdir()) == ["log", "thing"]


def test_stale_claim_is_taken_over(tmp_path):
    import os

    path = tmp_path / "thing"
    claim = tmp_path / "thing.claim"
    claim.touch()
    os.utime(claim, (time.time() - 2 * STALE,) * 2)
    build_once(path, lambda temporary: temporary.write_text("x"))
    assert path.read_text() == "x"


def test_live_claim_is_respected(tmp_path):
    first, second = Claim(tmp_path / "thing"), Claim(tmp_path / "thing")
    assert first.take()
    assert not second.take()
    first.release()
    assert second.take()
    second.release()


def test_a_failed_build_leaves_nothing(tmp_path):
    def build(path):
        path.write_text("half")
        raise RuntimeError("no")

    with pytest.raises(RuntimeError):
        build_once(tmp_path / "thing", build)
    assert list(tmp_path.iterdir()) == []

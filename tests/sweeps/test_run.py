"""A run is a function of its config: same bits again, interrupted or not, however often it is evaluated."""

import json
import os
import signal
import subprocess
import sys
import time

import numpy as np
import pytest
import torch
import yaml
from full_disk import LIMITED
from safetensors.torch import load_file
from same import read, same_records, timeless

from dpft.envs import DataError, get_task
from dpft.methods import METHODS
from dpft.methods.policy.checkpoint import save_policy
from dpft.sweeps.base import base_policy
from dpft.sweeps.begin import plan
from dpft.sweeps.checkpoint import load_checkpoint, save_checkpoint
from dpft.sweeps.cli import main
from dpft.sweeps.collect import Diverged
from dpft.sweeps.config import parse_config, resolve
from dpft.sweeps.grid import load_grid
from dpft.sweeps.owner import Owner
from dpft.sweeps.records import Records
from dpft.sweeps.run import Run, make_method, train


def test_no_steps_evaluate_the_base_and_train_nothing(tiny, tmp_path):
    assert train(tiny(env_steps=0), tmp_path / "run")["status"] == "done"
    (row,) = read(tmp_path / "run" / "curve.csv")
    assert row["env_steps"] == "0"
    assert not (tmp_path / "run" / "metrics.csv").exists()
    chains = np.load(tmp_path / "run" / "chains.npz")
    np.testing.assert_array_equal(chains["chain_before"], chains["chain_after"])


@pytest.mark.parametrize("method", METHODS)
def test_records_of_a_run(tiny, tmp_path, method):
    done = train(tiny(method=method), tmp_path / "run")
    folder = tmp_path / "run"
    assert done["status"] == "done"
    assert json.loads((folder / "done.json").read_text())["status"] == "done"
    curve, episodes, metrics = (read(folder / f"{name}.csv") for name in ("curve", "episodes", "metrics"))
    assert curve[0]["env_steps"] == "0"
    assert int(curve[-1]["env_steps"]) >= 2000
    assert len(episodes) == 3 * len(curve)
    for row in curve:
        mine = [float(e["return"]) for e in episodes if e["env_steps"] == row["env_steps"]]
        assert np.mean(mine) == pytest.approx(float(row["return_mean"]))
        expected = get_task("hopper-medium").normalised(float(row["return_mean"]))
        assert float(row["return_normalised"]) == pytest.approx(expected)
    assert {e["seed"] for e in episodes} == {"1000000", "1000001", "1000002"}
    assert all(float(row["time/update"]) > 0 for row in metrics)
    config = yaml.safe_load((folder / "config.yaml").read_text())
    assert (
        config["provenance"]["versions"]["torch"] == torch.__version__.split("+")[0]
        or "torch" in config["provenance"]["versions"]
    )
    assert config["provenance"]["hardware"]["cores"] == os.cpu_count()
    assert config["settings"]["num_envs"] >= 1
    assert not (folder / "checkpoint").exists()
    assert list((folder / "tensorboard").iterdir())
    chains = np.load(folder / "chains.npz")
    assert chains["obs"].shape == (64, 11)
    assert chains["chain_before"].shape[0] == 64
    assert not np.array_equal(chains["chain_before"][:, -1], chains["chain_after"][:, -1])


@pytest.mark.parametrize(
    ("fields", "lines"),
    [
        ({"method": "dppo"}, "900 environment steps, an update after every 320 or fewer: 2 of them; the last 260 are"),
        (
            {"method": "gaussian-ppo", "settings": {"decisions_per_update": 13, "critic_warmup": 2}},
            "900 environment steps, an update after every 208 or fewer: 4 of them, the policy's first after 624;",
        ),
        ({"method": "dsrl-sac", "settings": {"num_envs": 4, "warmup": 30}}, "the policy's first after 480"),
    ],
)
def test_runs_end_at_the_steps_that_were_asked_for(tiny, tmp_path, capsys, fields, lines):
    """Within one decision of all environments, however many steps an update takes; and it is said before."""
    done = train(tiny(env_steps=900, **fields), tmp_path / "run")
    assert 900 <= done["env_steps"] < 900 + 4 * 4
    assert read(tmp_path / "run/curve.csv")[-1]["env_steps"] == str(done["env_steps"])
    assert lines in capsys.readouterr().out


@pytest.mark.parametrize(
    "fields",
    [
        {"method": "dsrl-sac", "env_steps": 479, "settings": {"num_envs": 4, "warmup": 30}},
        {"method": "dppo", "env_steps": 319},
        {"method": "dppo", "env_steps": 4000, "settings": {"critic_warmup": 1000}},
    ],
)
def test_a_run_that_cannot_learn_says_so_first(tiny, tmp_path, fields, capsys):
    words = "allow no update of the policy, whose first comes after"
    assert words in plan(resolve(tiny(**fields)))
    assert words not in plan(resolve(tiny(**fields | {"env_steps": 0})))
    (tmp_path / "g.yaml").write_text(yaml.safe_dump(tiny(**fields).model_dump(mode="json") | {"name": "g"}))
    load_grid(str(tmp_path / "g.yaml"))
    assert words in capsys.readouterr().err


def test_same_seed_same_bits(tiny, tmp_path):
    for name in ("a", "b"):
        train(tiny(), tmp_path / name)
    same_records(tmp_path / "a", tmp_path / "b")
    train(tiny(seed=1), tmp_path / "c")
    assert timeless(tmp_path / "a") != timeless(tmp_path / "c")


def test_evaluation_leaves_training_alone(tiny, tmp_path):
    """However often and long a run is evaluated, it ends with the same weights."""
    train(tiny(eval_every=300, eval_episodes=2), tmp_path / "often")
    train(tiny(eval_every=100_000, eval_episodes=5), tmp_path / "rarely")
    weights = [load_file(tmp_path / name / "weights.safetensors") for name in ("often", "rarely")]
    assert all(torch.equal(value, weights[1][name]) for name, value in weights[0].items())


def test_zero_updates_score_the_base_policy(tiny, tmp_path):
    """The first row of the curve is the base under the method's own sampler, not something initialised anew."""
    config = resolve(tiny(method="dppo"))
    train(config, tmp_path / "run")
    base = base_policy(config, get_task(config.task))
    method = make_method(config, base.policy)
    obs = torch.from_numpy(base.probes)
    with method.drawing_from(3):
        chunk = method.exploit(obs)
    with method.drawing_from(3):
        noise = method.exploit_chain.noise(64, 4, 3, method.rng)
    assert torch.equal(
        chunk, base_policy(config, get_task(config.task)).policy.denoise(obs, noise, method.exploit_chain)
    )


def command(config, folder) -> list[str]:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "request.yaml").write_text(yaml.safe_dump(config.model_dump(mode="json")))
    return [sys.executable, "-m", "dpft", "train", "--config", str(folder / "request.yaml"), "--out", str(folder)]


@pytest.mark.slow
@pytest.mark.parametrize("method", METHODS)
def test_killed_runs_end_with_the_same_bits(tiny, tmp_path, method):
    """SIGKILL at random moments, then the same command again, until it is done."""
    config = tiny(method=method, env_steps=6000)
    subprocess.run(command(config, tmp_path / "whole"), check=True, capture_output=True)
    rng = np.random.default_rng(0)
    folder, kills = tmp_path / "killed", 0
    for _ in range(60):
        quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
        process = subprocess.Popen(command(config, folder), env=os.environ | {"DPFT_CHECKPOINT_SECONDS": "0"}, **quiet)
        # importing torch takes seconds: count from the moment the run shows itself
        before = sorted((p.name, p.stat().st_mtime_ns) for p in folder.glob("*.csv"))
        while process.poll() is None and sorted((p.name, p.stat().st_mtime_ns) for p in folder.glob("*.csv")) == before:
            time.sleep(0.02)
        try:
            process.wait(rng.uniform(0.0, 0.6) if kills < 5 else None)
        except subprocess.TimeoutExpired:
            process.send_signal(signal.SIGKILL)
            kills += 1
        process.wait()
        if (folder / "done.json").exists():
            break
    assert kills >= 3
    same_records(tmp_path / "whole", folder)


@pytest.mark.slow
def test_sigterm_writes_a_checkpoint(tiny, tmp_path):
    config = tiny(env_steps=40_000)
    folder = tmp_path / "run"
    process = subprocess.Popen(command(config, folder), stdout=subprocess.PIPE, text=True)
    while not (folder / "metrics.csv").exists():
        time.sleep(0.05)
    process.terminate()
    out, _ = process.communicate(timeout=60)
    assert process.returncode == 143
    assert "the same command continues" in out
    state = load_checkpoint(folder / "checkpoint", "cpu")
    assert state is not None
    assert 0 < state["collector"]["env_steps"] < 40_000


def test_divergence_is_a_result(tiny, tmp_path):
    config = tiny(settings={"learning_rate": 1e30, "max_grad_norm": None, "target_kl": None})
    done = train(config, tmp_path / "run")
    assert done["status"] == "failed"
    assert "at step" in done["reason"] or "not finite" in done["reason"]
    assert read(tmp_path / "run/curve.csv")


@pytest.mark.parametrize(
    ("method", "learned"),
    [("dsrl-na", "noise_critic"), ("dsrl-sac", "actor"), ("dsrl-sac", "log_temperature"), ("ncdpo", "critic")],
)
def test_every_learned_module_is_looked_at(tiny, tmp_path, method, learned):
    """Not only the policy, which DSRL freezes."""
    config = resolve(tiny(method=method))
    task = get_task(config.task)
    run = Run(config, Owner(tmp_path), task, base_policy(config, task))
    run.restore(None)
    run.pending_updates = 1
    value = getattr(run.method, learned)
    with torch.no_grad():
        (value if isinstance(value, torch.Tensor) else list(value.parameters())[-1]).fill_(float("nan"))
    with pytest.raises(Diverged, match=rf"{learned}.* is not finite at step 0"):
        run.write_metrics()


def test_finished_run_is_left_alone(tiny, tmp_path):
    first = train(tiny(), tmp_path / "run")
    stamp = (tmp_path / "run/curve.csv").stat().st_mtime_ns
    assert train(tiny(), tmp_path / "run") == first
    assert (tmp_path / "run/curve.csv").stat().st_mtime_ns == stamp


def test_another_run_in_the_folder_is_refused(tiny, tmp_path):
    train(tiny(), tmp_path / "run")
    with pytest.raises(DataError, match=r"holds another run \(settings.clip is 0.05 there, 0.3 now\)"):
        train(tiny(settings={"clip": 0.3}), tmp_path / "run")


def test_another_machine_is_refused_unless_allowed(tiny, tmp_path, monkeypatch):
    config = tiny(env_steps=1000)
    train(config, tmp_path / "run")
    (tmp_path / "run/done.json").unlink()
    path = tmp_path / "run/config.yaml"
    recorded = yaml.safe_load(path.read_text())
    recorded["provenance"]["hardware"]["cpu"] = "Another CPU"
    path.write_text(yaml.safe_dump(recorded))
    with pytest.raises(DataError, match=r"was started elsewhere .*Another CPU.* --allow-hardware-change"):
        train(config, tmp_path / "run")
    train(config, tmp_path / "run", allow_hardware_change=True)
    assert yaml.safe_load(path.read_text())["provenance"]["hardware_changes"][0]["changes"]


def test_from_scratch_starts_from_random_weights(tiny, tmp_path, cache):
    """And clones nothing; actions span the environment's box, not what the expert did."""
    task = get_task("hopper-medium")
    cloned = base_policy(resolve(tiny()), task)
    bases = sorted((cache / "bases").iterdir())
    config = resolve(tiny(from_scratch=True, denoising_steps=2))
    base = base_policy(config, task)
    other = base_policy(resolve(tiny(from_scratch=True, denoising_steps=2, seed=1)), task)
    key = "network.trunk.input.weight"
    assert not torch.equal(base.policy.state_dict()[key], cloned.policy.state_dict()[key])
    assert not torch.equal(base.policy.state_dict()[key], other.policy.state_dict()[key])
    assert np.array_equal(base.normaliser.obs_min, cloned.normaliser.obs_min)
    assert cloned.normaliser.action_min[0] > -1
    np.testing.assert_allclose(base.normaliser.action(np.array([[-1] * 3, [1] * 3])), [[-1] * 3, [1] * 3], atol=2e-6)
    assert train(config, tmp_path / "run")["status"] == "done"
    assert sorted((cache / "bases").iterdir()) == bases


def test_from_scratch_needs_no_demonstrations():
    """A task that has none: actions span the box, observations keep their units."""
    config = resolve(parse_config({"task": "Pendulum-v1", "method": "dppo", "from_scratch": True}))
    base = base_policy(config, get_task("Pendulum-v1"))
    assert base.demo_mean_return is None
    assert base.normaliser.action_max.tolist() == [2]
    assert base.probes.shape == (64, 3)
    obs = np.random.default_rng(0).normal(size=(5, 3))
    np.testing.assert_allclose(base.normaliser.obs(obs), obs, rtol=1e-5, atol=1e-5)


def test_digest_is_of_the_contents(tiny, tmp_path):
    """Not of the file: what else is written beside equal weights makes no other base."""
    config = resolve(tiny())
    task = get_task(config.task)
    base = base_policy(config, task)
    arrays = base.normaliser.arrays() | {"probes": base.probes, "demo_mean_return": np.array([1.0], np.float32)}
    save_policy(tmp_path / "same.safetensors", base.policy, arrays, {"loss/cloning": "another number"})
    arrays["action_max"] = arrays["action_max"] + 1
    save_policy(tmp_path / "other.safetensors", base.policy, arrays, {})
    digests = [
        base_policy(resolve(tiny(base=str(tmp_path / f"{name}.safetensors"))), task).digest
        for name in ("same", "other")
    ]
    assert digests[0] == base.digest != digests[1]


def test_demonstrations_that_surprise_are_said(tmp_path, capsys, tiny):
    """A constant observation and actions outside the box: by the run, whose base may come from the cache, and demos."""
    rng = np.random.default_rng(0)
    obs = rng.normal(size=(60, 11)).astype(np.float32)
    obs[:, 4] = 0
    low, high = -np.ones(11, np.float32), np.ones(11, np.float32)
    limits = {"obs_min": low, "obs_max": high, "action_min": low[:3], "action_max": high[:3]}
    limits["obs_min"][4] = limits["obs_max"][4] = 0
    np.savez(tmp_path / "train.npz", states=obs, actions=rng.uniform(-50, 50, (60, 3)), traj_lengths=[30, 30])
    np.savez(tmp_path / "normalization.npz", **limits)
    config = tiny(demos={"source": str(tmp_path)}, env_steps=0, eval_episodes=1, pretrain={"steps": 10})
    said = []
    for name in ("first", "second"):
        train(config, tmp_path / name)
        said.append(capsys.readouterr().out.splitlines()[:2])
    assert main(["demos", "hopper-medium", "--source", str(tmp_path)]) == 0
    said.append(capsys.readouterr().out.splitlines()[1:3])
    assert said[0] == said[1] == said[2]
    assert "observation 4" in said[0][0]
    assert "of 60 actions of the demonstrations lie outside" in said[0][1]


def test_base_of_the_users_own(tiny, tmp_path):
    config = resolve(tiny())
    base = base_policy(config, get_task(config.task))
    arrays = base.normaliser.arrays() | {"probes": base.probes, "demo_mean_return": np.array([1.0], np.float32)}
    path = tmp_path / "mine.safetensors"
    save_policy(path, base.policy, arrays, {})
    again = base_policy(resolve(tiny(base=str(path))), get_task(config.task))
    assert torch.equal(again.policy.network.trunk.input.weight, base.policy.network.trunk.input.weight)
    assert again.demo_mean_return == 1.0


def torn(data: bytes) -> bytes:
    return data[:300]


def one_bit_flipped(data: bytes) -> bytes:
    """In the middle of a tensor, where torch.load would not see it."""
    place = data.index(np.arange(40.0).tobytes()) + 100
    return data[:place] + bytes([data[place] ^ 4]) + data[place + 1 :]


def one_bit_of_the_directory(data: bytes) -> bytes:
    """An external attribute of the zip's entry, whose checksums do not cover it: torch reads zeros without a word."""
    place = data.rindex(b"PK\x01\x02") + 38
    return data[:place] + bytes([data[place] ^ 0x10]) + data[place + 1 :]


@pytest.mark.parametrize("damage", [torn, one_bit_flipped, one_bit_of_the_directory])
def test_damaged_checkpoint_falls_back_to_the_one_before(damage, tmp_path, capsys):
    for number in range(2):
        state = {"x": torch.tensor(number), "env": {"rng": 2**100, "a": np.arange(40.0)}}
        save_checkpoint(tmp_path, state, Owner(tmp_path))
    latest = tmp_path / "latest.pt"
    assert load_checkpoint(tmp_path, "cpu")["x"].item() == 1
    latest.write_bytes(damage(latest.read_bytes()))
    state = load_checkpoint(tmp_path, "cpu")
    assert state["x"].item() == 0
    assert state["env"]["rng"] == 2**100
    assert capsys.readouterr().out.count(f"checkpoint {latest} cannot be read") == 1
    (tmp_path / "previous.pt").unlink()
    assert load_checkpoint(tmp_path, "cpu") is None


def test_any_flipped_bit_of_a_checkpoint_is_noticed(tmp_path, capsys):
    save_checkpoint(tmp_path, {"x": torch.arange(9.0)}, Owner(tmp_path))
    path, rng = tmp_path / "latest.pt", np.random.default_rng(0)
    whole = path.read_bytes()
    for place in [*rng.integers(len(whole), size=400), *range(len(whole) - 40, len(whole))]:
        damaged = bytearray(whole)
        damaged[place] ^= 1 << rng.integers(8)
        path.write_bytes(damaged)
        assert load_checkpoint(tmp_path, "cpu") is None


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda data: data[:5], "is shorter than the checkpoint"),
        (lambda data: data.replace(b"\n", b"\r\n"), "is not what the checkpoint"),
        (lambda data: data.replace(b"2.0", b"3.0"), "is not what the checkpoint"),
    ],
)
def test_records_changed_under_their_checkpoint_are_refused(tmp_path, change, words):
    records, path = Records(Owner(tmp_path)), tmp_path / "episodes.csv"
    row = {"env_steps": 0, "seed": 1, "return": 2.0, "length": 3, "ended": "time"}
    records.episodes([row])
    states, before = records.states(), path.read_bytes()
    records.episodes([row])
    Records(Owner(tmp_path)).resume(states)
    assert path.read_bytes() == before, "what was written after the checkpoint is cut off"
    path.write_bytes(change(before))
    with pytest.raises(DataError, match=rf"episodes\.csv {words}"):
        Records(Owner(tmp_path)).resume(states)


@pytest.mark.parametrize("limit", [200, 30_000])
def test_a_disk_that_is_full_is_one_line_and_the_run_continues(tiny, tmp_path, limit):
    """No file of the process may grow beyond a limit: the records' first rows, and then a checkpoint, hit it."""
    config, folder = tiny(env_steps=1500, policy={"hidden": [64, 64, 64]}), tmp_path / "run"
    base_policy(resolve(config), get_task(config.task))
    arguments = command(config, folder)[3:]
    environment = os.environ | {"DPFT_CHECKPOINT_SECONDS": "0"}
    line = [sys.executable, "-c", LIMITED, str(limit), *arguments]
    full = subprocess.run(line, capture_output=True, text=True, env=environment)
    assert full.returncode == 2
    assert full.stderr.splitlines()[-1].startswith(f"dpft train: cannot write to {folder} (File too large): free some")
    assert "Traceback" not in full.stderr
    assert {path.name for path in folder.iterdir()} <= {
        *("request.yaml", "config.yaml", "curve.csv", "episodes.csv", "metrics.csv", "tensorboard", "checkpoint")
    }
    assert train(config, folder)["status"] == "done"
    assert train(config, tmp_path / "whole")["status"] == "done"
    same_records(tmp_path / "whole", folder)

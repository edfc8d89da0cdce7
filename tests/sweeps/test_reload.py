"""What acting needs lies in the run's folder: no demonstrations, no cache, no cloning, on whatever device is there."""

import shutil

import pytest
from same import read

from dpft.envs import DataError, get_task
from dpft.envs.experts import expert_demos, load_expert, rollout_expert
from dpft.methods.policy.checkpoint import load_policy, save_policy
from dpft.methods.policy.models import make_policy
from dpft.sweeps import run
from dpft.sweeps.base import base_policy
from dpft.sweeps.cli import main
from dpft.sweeps.config import resolve
from dpft.sweeps.reload import reload_run
from dpft.sweeps.run import Stopped, train


@pytest.fixture
def alone(tmp_path, monkeypatch):
    """Another folder, another machine's empty cache; nothing may come to lie in it."""
    cache, folder = tmp_path / "empty", tmp_path / "elsewhere"
    cache.mkdir()
    folder.mkdir()
    monkeypatch.setenv("DPFT_CACHE", str(cache))
    monkeypatch.chdir(folder)
    yield cache
    assert list(cache.iterdir()) == []


@pytest.mark.parametrize("method", ["dppo", "dsrl-na", "gaussian-ppo"])
def test_a_finished_run_acts_by_itself(tiny, tmp_path, method, request):
    source = tmp_path / "expert.safetensors"
    shutil.copyfile(run.__file__.replace("sweeps/run.py", "envs/experts/hopper-medium.safetensors"), source)
    folder = tmp_path / "run"
    train(tiny(method=method, env_steps=600, demos={"source": f"expert:{source}", "steps": 500}), folder)
    source.unlink()
    path = folder / "config.yaml"
    path.write_text(path.read_text().replace("device: cpu", "device: cuda"))  # as a run on a GPU has it
    request.getfixturevalue("alone")
    assert main(["eval", str(folder), "--episodes", "3"]) == 0
    last = [row["return"] for row in read(folder / "episodes.csv")[-3:]]
    assert [row["return"] for row in read(folder / "evaluation.csv")] == last


def test_a_run_under_way_acts_by_itself_too(tiny, tmp_path, monkeypatch, request):
    monkeypatch.setattr(run, "CHECKPOINT_EVERY", 0.0)
    monkeypatch.setattr(run.Run, "finish", lambda self: (_ for _ in ()).throw(Stopped))
    with pytest.raises(Stopped):
        train(tiny(env_steps=600), tmp_path / "run")
    request.getfixturevalue("alone")
    loaded = reload_run(tmp_path / "run")
    assert loaded.env_steps >= 600
    (played,) = loaded.evaluator(loaded.method, 1, 0, 0)
    assert played.length > 0


def test_a_run_continues_from_the_base_it_began_with(tiny, tmp_path, monkeypatch):
    """Whatever has become of the file since; and a damaged copy is refused."""
    config = resolve(tiny(env_steps=600))
    base = base_policy(config, get_task(config.task))
    mine = tmp_path / "mine.safetensors"
    save_policy(mine, base.policy, base.arrays, {})
    config = tiny(env_steps=600, base=str(mine))
    train(config, tmp_path / "run")
    mine.unlink()
    (tmp_path / "run/done.json").unlink()
    assert train(config, tmp_path / "run")["status"] == "done"
    (tmp_path / "run/done.json").unlink()
    kept = tmp_path / "run/base.safetensors"
    data = bytearray(kept.read_bytes())
    data[-100] ^= 1
    kept.write_bytes(data)
    with pytest.raises(DataError, match=r"base\.safetensors is not what the run wrote"):
        train(config, tmp_path / "run")


def test_any_flipped_bit_of_the_weights_is_noticed(tiny, tmp_path, capsys):
    train(tiny(env_steps=0), tmp_path / "run")
    weights = tmp_path / "run/weights.safetensors"
    data = bytearray(weights.read_bytes())
    data[-100] ^= 1
    weights.write_bytes(data)
    assert main(["eval", str(tmp_path / "run")]) == 2
    (line,) = [line for line in capsys.readouterr().err.splitlines() if line.startswith("dpft")]
    assert line.startswith(f"dpft eval: cannot read {weights}: it is not what the run wrote")


def test_a_diverged_run_says_so(tiny, tmp_path, capsys):
    config = tiny(method="dppo", settings={"learning_rate": 1e30, "max_grad_norm": None, "target_kl": None})
    reason = train(config, tmp_path / "run")["reason"]
    for verb in ("eval", "video"):
        assert main([verb, str(tmp_path / "run")]) == 2
        (line,) = capsys.readouterr().err.splitlines()
        assert line == f"dpft {verb}: {tmp_path / 'run'} diverged ({reason}), so it has no weights"


def test_the_mean_is_printed_whatever_becomes_of_the_file(tiny, tmp_path, capsys, monkeypatch):
    train(tiny(env_steps=0), tmp_path / "run")
    monkeypatch.setattr("dpft.sweeps.reload.write_atomically", lambda *_: (_ for _ in ()).throw(OSError(28, "full")))
    assert main(["eval", str(tmp_path / "run"), "--episodes", "1", "--out", str(tmp_path / "new/e.csv")]) == 2
    said = capsys.readouterr()
    assert "mean return" in said.out
    assert len(said.err.splitlines()) == 1


def test_a_device_that_is_not_there_is_one_line(tiny, tmp_path, capsys):
    train(tiny(env_steps=0), tmp_path / "run")
    capsys.readouterr()
    for device, words in (("gpu", "did you mean cuda?"), ("cuda:77", "cuda:77: this torch sees")):
        assert main(["eval", str(tmp_path / "run"), "--device", device]) == 2
        (line,) = capsys.readouterr().err.splitlines()
        assert words in line


def test_a_file_is_believed_about_its_environment(tiny, tmp_path):
    """Walker and cheetah have the same sizes: nothing else would tell them apart."""
    walker, cheetah = get_task("walker2d-medium"), get_task("halfcheetah-medium")
    config = resolve(tiny(task="walker2d-medium"))
    policy = make_policy("diffusion", config.policy, config.spec(), 3, 0)
    for number, metadata in enumerate(({"env_id": cheetah.env_id}, {"made_from": '{"task": "HalfCheetah-v5"}'})):
        path = tmp_path / f"{number}.safetensors"
        save_policy(path, policy, {}, metadata)
        with pytest.raises(DataError, match="env_id is HalfCheetah-v5, the run asks for Walker2d-v5"):
            load_policy(path, "diffusion", config.policy, config.spec(), 3, walker.env_id)
    with pytest.raises(DataError, match="this expert is for HalfCheetah-v5, not for Walker2d-v5"):
        rollout_expert(load_expert("halfcheetah-medium"), walker, 100, 0)
    made = expert_demos("halfcheetah-medium", cheetah, 100, 0, 1)
    with pytest.raises(DataError, match="was made on HalfCheetah-v5, so it is not for Walker2d-v5"):
        base_policy(resolve(tiny(task="walker2d-medium", demos={"source": made.source})), walker)


def test_files_of_another_version_or_without_a_word_pass(tiny):
    from dpft.envs.readers import family

    assert family("Hopper-v2") == family("mine/Hopper-v5") != family("HopperHard-v5")

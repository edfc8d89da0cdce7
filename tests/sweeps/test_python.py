"""What `import dpft` offers."""

import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from conftest import tiny_data
from same import same_records

import dpft
from dpft.envs import DataError
from dpft.envs.cache import Claim
from dpft.sweeps.cli import main
from dpft.sweeps.run import train

README = Path(__file__).parents[2] / "README.md"


def test_importing_it_is_instant():
    heavy = "{'torch', 'numpy', 'pandas', 'gymnasium', 'pydantic', 'yaml'}"
    line = f"import dpft, sys; dpft.train, dpft.load, dpft.records; assert not {heavy} & set(sys.modules)"
    subprocess.run([sys.executable, "-c", line], check=True)


def test_the_readme_works(tmp_path, monkeypatch, capsys):
    """Its block as it stands, but for a smaller run."""
    (block,) = re.findall(r"### From Python\n\n```python\n(.*?)```", README.read_text(), re.DOTALL)
    monkeypatch.chdir(tmp_path)
    real = dpft.train
    monkeypatch.setattr(dpft, "train", lambda out, **fields: real(out, **fields | tiny_data(method="dppo")))
    exec(block, {})
    out = capsys.readouterr().out
    assert re.search(r"^\d+\.\d+ +env_steps +return_mean$", out, re.MULTILINE)
    assert (tmp_path / "runs/python/done.json").exists()


def test_train_is_the_verb(tiny, tmp_path):
    fields = tiny_data(method="dppo", env_steps=600)
    clip = {"settings.clip": 0.07}
    done = dpft.train(tmp_path / "python", **{**fields, "settings": fields["settings"]}, **clip)
    assert done["status"] == "done"
    train(tiny(method="dppo", env_steps=600, settings={"clip": 0.07}), tmp_path / "config")
    same_records(tmp_path / "python", tmp_path / "config")
    assert not Claim(tmp_path / "python/run").alive()


def test_mistakes(tmp_path):
    with pytest.raises(DataError, match=r"unknown field env_step: did you mean env_steps\?"):
        dpft.train(tmp_path / "new", env_step=3)
    assert not (tmp_path / "new").exists()
    owner = Claim(tmp_path / "busy/run")
    assert owner.take()
    with pytest.raises(DataError, match="is being made by another process"):
        dpft.train(tmp_path / "busy", env_steps=0)
    owner.release()
    with pytest.raises(DataError, match="expected the folder of a run"):
        dpft.load(tmp_path / "nothing")


def test_a_loaded_policy_acts_on_raw_observations(tiny, tmp_path):
    """One observation or many, as evaluation acts: a whole episode has the return that evaluation gives it."""
    train(tiny(method="gaussian-ppo", env_steps=600), tmp_path / "run")
    policy = dpft.load(str(tmp_path / "run"))
    import gymnasium

    env = gymnasium.make("Hopper-v5")
    first, _ = env.reset(seed=3)
    assert policy(first).shape == (4, 3)
    many = np.tile(first, (90, 1))
    assert policy(many).shape == (90, 4, 3)
    np.testing.assert_array_equal(policy(many)[77], policy(first))
    obs, total, ended = first, 0.0, False
    while not ended:
        for action in policy(obs):
            assert np.abs(action).max() <= 1
            obs, reward, terminated, truncated, _ = env.step(action)
            total, ended = total + reward, terminated or truncated
            if ended:
                break
    (played,) = policy.run.evaluator(policy.run.method, 1, 3, 0)
    assert total == pytest.approx(played.total)
    with pytest.raises(ValueError, match=r"expected \[11\] or \[n, 11\], got \[7\]"):
        policy(np.zeros(7))


def test_version(capsys):
    assert main(["--version"]) == 0
    assert capsys.readouterr().out == f"dpft {dpft.__version__}\n"

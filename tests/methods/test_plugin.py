"""A method in somebody else's package: found through its entry point, checked, trained, without an edit here."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

PLUGIN = Path(__file__).parent / "plugin"
ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def installed(tmp_path_factory):
    """The example package, installed by pip into a folder that only these processes see."""
    folder = tmp_path_factory.mktemp("plugin")
    source = shutil.copytree(PLUGIN, folder / "source")
    target = folder / "site"
    pip = [
        sys.executable,
        "-m",
        "pip",
        "install",
        "-q",
        "--no-deps",
        "--no-build-isolation",
        "--target",
        str(target),
        str(source),
    ]
    done = subprocess.run(pip, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return os.environ | {"PYTHONPATH": f"{target}{os.pathsep}{ROOT}", "DPFT_CACHE": str(folder / "cache")}


def dpft(installed, *arguments, cwd=ROOT) -> subprocess.CompletedProcess:
    return subprocess.run(
        [sys.executable, "-m", "dpft", *arguments], env=installed, cwd=cwd, capture_output=True, text=True
    )


def test_it_is_listed_and_passes_the_checks(installed):
    assert "noise-ppo       PPO on the initial noise" in dpft(installed, "methods").stdout
    checked = dpft(installed, "check-method", "noise-ppo")
    assert checked.returncode == 0, checked.stdout
    assert dpft(installed, "check-method", "noise_ppo:NoisePPO").returncode == 0


def test_it_trains(installed, tmp_path):
    small = "--policy.hidden 16 16 16 --pretrain.steps 30 --demos.steps 2000 --env-steps 1000 --eval-episodes 2"
    settings = "--settings.num-envs 4 --settings.decisions-per-update 20 --settings.sampler-steps 2"
    arguments = f"train --method noise-ppo --denoising-steps 3 {small} {settings} --out {tmp_path / 'run'}"
    done = dpft(installed, *arguments.split())
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "run/done.json").exists()


def test_contributing_shows_this_very_method():
    """The complete example, under 60 lines, is the file that is tested here."""
    code = (PLUGIN / "noise_ppo.py").read_text()
    assert len(code.splitlines()) < 60
    assert code.strip() in (ROOT / "CONTRIBUTING.md").read_text()


def test_unknown_methods():
    from dpft.envs import DataError
    from dpft.methods import get_method, load_class

    with pytest.raises(DataError, match="did you mean dppo"):
        get_method("dpo")
    with pytest.raises(DataError, match="cannot load method 'nowhere:X'"):
        load_class("nowhere:X")
    with pytest.raises(DataError, match="is not a method"):
        load_class("pathlib:Path")

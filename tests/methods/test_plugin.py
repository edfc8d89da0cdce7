"""A method of somebody else's, pasted from CONTRIBUTING: in a folder or installed, checked, trained, swept."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from dpft.sweeps.cli import main

PLUGIN = Path(__file__).parent / "plugin"
ROOT = Path(__file__).parents[2]
TINY = [
    *("--policy.hidden", "16", "16", "16", "--pretrain.steps", "30", "--demos.steps", "2000", "--env-steps", "1000"),
    *("--eval-episodes", "2", "--denoising-steps", "3", "--settings.num-envs", "4"),
    *("--settings.decisions-per-update", "20", "--settings.sampler-steps", "2"),
]


def paste(folder: Path, changes: dict[str, str] | None = None) -> Path:
    """What CONTRIBUTING shows, in files of a folder."""
    text = (ROOT / "CONTRIBUTING.md").read_text()
    code, project = (text.split(f"```{kind}\n")[1].split("```")[0] for kind in ("python", "toml"))
    for before, after in (changes or {}).items():
        assert before in code
        code = code.replace(before, after)
    folder.mkdir(exist_ok=True)
    (folder / "noise_ppo.py").write_text(code)
    (folder / "pyproject.toml").write_text(project)
    return folder


@pytest.fixture(scope="module")
def installed(tmp_path_factory):
    """The example package, installed by pip into a folder that only these processes see."""
    folder = tmp_path_factory.mktemp("plugin")
    source = paste(folder / "source")
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


@pytest.fixture
def here(tmp_path, monkeypatch):
    """The current folder is somebody's, and the console command does not look there by itself."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [path for path in sys.path if path])
    yield tmp_path
    sys.modules.pop("noise_ppo", None)


def test_it_trains_from_where_it_was_pasted(here, capsys):
    paste(here)
    assert main(["train", "--method", "noise_ppo:NoisePPO", *TINY, "--out", "run"]) == 0
    assert "method: noise_ppo:NoisePPO\n" in (here / "run/config.yaml").read_text()
    assert main(["eval", "run", "--episodes", "1"]) == 0


@pytest.mark.parametrize(
    ("before", "after", "says"),
    [
        (
            "denoise(obs, noise, self.chain), {",
            "denoise(obs, noise, self.chain).flatten(1), {",
            "act() gave a chunk of",
        ),
        ("return self.act(obs).chunk", "return self.act(obs).chunk[0]", "exploit() gave a chunk of shape (3, 2), not"),
        ('{"noise": noise, ', '{"noise": noise.transpose(0, 1), ', 'memo["noise"] has 1 rows for 4 environments, not'),
        ("log_prob = self.reduce(", "log_prob = (", 'memo["log_prob"] has 6 numbers for each environment, not 1'),
        (
            "        return self.reduce(",
            "        return (",
            "new_log_prob() of 32 samples has shape (32, 1, 3, 2), not",
        ),
        ("return self.mean(obs)", "return self.mean(obs[:, 1:])", "RuntimeError: mat1 and mat2 shapes cannot be"),
    ],
)
def test_wrong_shapes_are_told_with_file_and_line(before, after, says, here, capsys):
    paste(here, {before: after})
    assert main(["check-method", "noise_ppo:NoisePPO"]) == 1
    printed = capsys.readouterr().out
    assert printed.count("FAIL") == 1
    assert says in printed
    assert re.search(re.escape(str(here / "noise_ppo.py")) + r", line \d+", printed)


@pytest.mark.parametrize(
    ("before", "after", "says"),
    [
        ("def exploit(", "def exploits(", "is no whole method: it does not define exploit"),
        ("    Config = NoisePPOConfig", "    Config = dict", "has no Config: set it to a subclass of"),
        ("class NoisePPO(PPO)", "class Noise(PPO)", "there is no class 'NoisePPO' in <module 'noise_ppo' from '/"),
        ("from_scratch = False", "from_scratch = = 1", "noise_ppo.py, line 23: SyntaxError: invalid syntax"),
        ("from_scratch = False", "from_scratch = 1 / 0", "noise_ppo.py, line 23: ZeroDivisionError: division by zero"),
        ("import torch\n", "import torhc\n", "noise_ppo.py, line 3: ModuleNotFoundError: No module named 'torhc'"),
    ],
)
def test_what_cannot_be_a_method_is_one_line(before, after, says, here, capsys):
    paste(here, {before: after})
    for arguments in (
        ["check-method", "noise_ppo:NoisePPO"],
        ["train", "--method", "noise_ppo:NoisePPO", "--out", "x"],
    ):
        sys.modules.pop("noise_ppo", None)
        assert main(arguments) == 2
        (line,) = capsys.readouterr().err.splitlines()
        assert says in line
    assert not (here / "x").exists()


GRID = """method: [dppo, "noise_ppo:NoisePPO"]
seed: 0
denoising_steps: 3
env_steps: 500
eval_episodes: 2
policy.hidden: [16, 16, 16]
pretrain.steps: 30
demos.steps: 2000
settings.num_envs: 4
settings.decisions_per_update: 20
overrides:
  noise_ppo:NoisePPO: {settings.sampler_steps: 2}
"""


@pytest.mark.slow
def test_a_grid_names_it_where_it_was_pasted(here):
    """By the console command, which looks in the current folder for nothing else, and its worker processes."""
    paste(here)
    (here / "mine.yaml").write_text(GRID)
    command = [sys.executable, "-P", "-m", "dpft", "sweep", "mine.yaml", "--workers", "2"]
    done = subprocess.run(command, env=os.environ | {"PYTHONPATH": str(ROOT)}, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    dppo, own = sorted(marker.parent.name for marker in here.glob("runs/mine/runs/*/done.json"))
    assert dppo == "hopper-medium_dppo_K3_seed0"
    assert own.startswith("hopper-medium_noise_ppo-NoisePPO_K3_seed0")


def test_it_trains(installed, tmp_path):
    done = dpft(installed, "train", "--method", "noise-ppo", *TINY, "--out", str(tmp_path / "run"))
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "run/done.json").exists()


def test_contributing_shows_this_very_method():
    """The complete example, under 60 lines, is a file that is linted."""
    code = (PLUGIN / "noise_ppo.py").read_text()
    assert len(code.splitlines()) < 60
    assert code.strip() in (ROOT / "CONTRIBUTING.md").read_text()
    assert (PLUGIN / "pyproject.toml").read_text() in (ROOT / "CONTRIBUTING.md").read_text()


def test_unknown_methods():
    from dpft.envs import DataError
    from dpft.methods import get_method, load_class

    with pytest.raises(DataError, match="did you mean dppo"):
        get_method("dpo")
    with pytest.raises(DataError, match="cannot load method 'nowhere:X'"):
        load_class("nowhere:X")
    with pytest.raises(DataError, match="there is no class 'X' in <module 'sys'"):
        load_class("sys:X")
    for name in (":X", "..:X", "a b:X", "a.:X"):
        with pytest.raises(DataError, match="is no module's name"):
            load_class(name)
    with pytest.raises(DataError, match="is not a method"):
        load_class("pathlib:Path")

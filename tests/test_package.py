"""The package: one import name, whatever folders its users have, and everything that it reads is in the wheel."""

import os
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
ROOT = Path(__file__).parents[1]
ROOMS = ("envs", "methods", "sweeps", "analysis")


@pytest.fixture(scope="module")
def wheel(tmp_path_factory):
    """A wheel built from a copy: building leaves folders behind."""
    source, folder = tmp_path_factory.mktemp("source"), tmp_path_factory.mktemp("wheel")
    for room in ROOMS:
        shutil.copytree(ROOT / room, source / room, ignore=shutil.ignore_patterns("__pycache__"))
    for file in filter(Path.is_file, ROOT.iterdir()):
        shutil.copy(file, source)
    pip = [sys.executable, "-m", "pip", "wheel", "-q", "--no-deps", "--no-build-isolation", "-w", folder, source]
    done = subprocess.run(pip, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return next(folder.glob("*.whl"))


def test_the_wheel_holds_one_package_with_everything_in_it(wheel):
    names = set(zipfile.ZipFile(wheel).namelist())
    assert {name.split("/")[0] for name in names if ".dist-info/" not in name} == {"dpft"}
    files = (path for room in ROOMS for path in (ROOT / room).rglob("*") if path.is_file())
    assert {f"dpft/{path.relative_to(ROOT)}" for path in files if path.suffix != ".pyc"} <= names


def test_folders_named_like_our_rooms_do_not_matter(wheel, tmp_path):
    """A user's envs/ and dpft checkout in the current folder hide nothing of an installed dpft."""
    zipfile.ZipFile(wheel).extractall(tmp_path / "site")
    for room in ROOMS:
        (tmp_path / "mine" / room).mkdir(parents=True)
        (tmp_path / "mine" / room / "__init__.py").write_text("raise SystemExit('the wrong one')\n")
    site = os.environ | {"PYTHONPATH": str(tmp_path / "site")}
    command = [sys.executable, "-m", "dpft", "tasks"]
    done = subprocess.run(command, env=site, cwd=tmp_path / "mine", capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert "hopper-medium" in done.stdout

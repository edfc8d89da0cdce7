"""Files that several users, containers and machines share."""

import os
import shutil
import tempfile
from pathlib import Path

import pytest

from dpft.envs import DataError
from dpft.envs.cache import build_once, cache_dir
from dpft.envs.experts import load_expert, save_expert
from dpft.envs.files import replacing
from dpft.methods.interface import Spec
from dpft.methods.policy.checkpoint import load_policy
from dpft.methods.policy.config import PolicyConfig


def test_temporary_names_are_nobody_elses(tmp_path, monkeypatch):
    """Two containers share a folder and a process id; and a link that waits at the name is not followed."""
    monkeypatch.setattr(os, "getpid", lambda: 1)
    path = tmp_path / "shared"
    with replacing(path) as first, replacing(path) as second:
        assert first != second
        first.write_text("first")
        second.write_text("second")
    assert path.read_text() == "first"
    taken = tmp_path / f".{'0' * 16}.tmp"
    taken.symlink_to(tmp_path / "elsewhere")
    monkeypatch.setattr("secrets.token_hex", lambda _: "0" * 16)
    with pytest.raises(FileExistsError), replacing(path):
        raise AssertionError("unreachable")
    assert not (tmp_path / "elsewhere").exists()


@pytest.mark.parametrize("umask", [0o002, 0o022, 0o077])
def test_files_have_the_rights_that_the_umask_leaves(tmp_path, umask):
    before = os.umask(umask)
    try:
        build_once(tmp_path / "bases/file", lambda path: save_expert(path, load_expert("hopper-medium")))
        build_once(tmp_path / "minari/folder", lambda path: (path / "data").mkdir(parents=True))
        with replacing(tmp_path / "text") as temporary:
            temporary.write_text("text")
    finally:
        os.umask(before)
    for path in tmp_path.rglob("*"):
        assert path.stat().st_mode & 0o777 == (0o777 if path.is_dir() else 0o666) & ~umask, path


@pytest.fixture
def somebody_else():
    """A user who may read and write nothing here; the superuser may everything."""
    if os.geteuid():
        pytest.skip("becoming another user needs root")
    os.seteuid(65534)
    yield
    os.seteuid(0)


def test_what_may_not_be_used_is_one_line(request):
    shared = Path(tempfile.mkdtemp())
    request.addfinalizer(lambda: shutil.rmtree(shared))
    cache, base = shared / "cache", shared / "base.safetensors"
    cache.mkdir()
    base.touch()
    for path, mode in ((shared, 0o755), (cache, 0o755), (base, 0o600)):
        path.chmod(mode)
    request.getfixturevalue("somebody_else")
    with pytest.raises(DataError, match=rf"cannot use the cache {cache} \(Permission denied\).*DPFT_CACHE"):
        build_once(cache / "thing", lambda path: path.write_text(""))
    with pytest.raises(DataError, match=rf"cannot read base policy {base}: Permission denied$"):
        load_policy(base, "diffusion", PolicyConfig(), Spec(11, 3, 4, 0.99), 5)


def test_no_home_directory_is_one_line(monkeypatch):
    monkeypatch.delenv("DPFT_CACHE")
    monkeypatch.delenv("HOME")
    monkeypatch.setattr("pwd.getpwuid", lambda _: (_ for _ in ()).throw(KeyError))
    with pytest.raises(DataError, match="set DPFT_CACHE"):
        cache_dir()

"""Who owns a path: one process at a time, however its owners die."""

import errno
import json
import os
import subprocess
import sys
import time

import pytest

from dpft.envs.cache import STALE, Claim, machine

TAKE = """
import sys, time
from pathlib import Path
from dpft.envs.cache import Claim
claim = Claim(Path(sys.argv[1]))
while not Path(sys.argv[2]).exists():
    time.sleep(0.001)
print(int(claim.take()), flush=True)
time.sleep(60)
"""


def taker(tmp_path) -> subprocess.Popen:
    arguments = [sys.executable, "-c", TAKE, str(tmp_path / "run"), str(tmp_path / "go")]
    return subprocess.Popen(arguments, stdout=subprocess.PIPE, text=True)


def test_a_dead_process_of_this_machine_owns_nothing(tmp_path):
    """At once, without waiting for its heartbeat to be missed; several heirs at once: one succeeds."""
    (tmp_path / "go").touch()
    owner = taker(tmp_path)
    assert owner.stdout.readline() == "1\n"
    claim = Claim(tmp_path / "run")
    assert claim.alive()
    assert claim.process() == owner.pid
    assert not claim.take()
    owner.kill()
    assert not wait_for(lambda: claim.alive())
    assert claim.process() is None, "a zombie is dead"
    owner.wait()
    (tmp_path / "go").unlink()
    heirs = [taker(tmp_path) for _ in range(4)]
    time.sleep(1.0)
    (tmp_path / "go").touch()
    took = [heir.stdout.readline().strip() for heir in heirs]
    for heir in heirs:
        heir.kill()
        heir.wait()
    assert sorted(took) == ["0", "0", "0", "1"]


def wait_for(condition, seconds=5.0) -> bool:
    end = time.monotonic() + seconds
    while condition() and time.monotonic() < end:
        time.sleep(0.01)
    return condition()


def elsewhere(claim: Claim, age: float) -> None:
    """The claim's owner moves to another machine, where it beat last so long ago."""
    owner = json.loads(claim.file.read_text()) | {"machine": "another boot and space of ids"}
    claim.file.write_text(json.dumps(owner))
    os.utime(claim.file, (time.time() - age,) * 2)


def test_an_owner_elsewhere_is_dead_when_its_heartbeat_stops(tmp_path):
    first, second = Claim(tmp_path / "run"), Claim(tmp_path / "run")
    assert first.take()
    elsewhere(first, STALE / 2)
    assert second.alive()
    assert second.process() is None
    assert not second.take()
    elsewhere(first, 2 * STALE)
    assert not second.alive()
    assert second.take()
    assert second.held()
    assert not first.held(), "the content of the file says whose it is"
    first.release()
    assert second.file.exists(), "the dead do not take away what the living own"
    second.release()
    assert list(tmp_path.iterdir()) == []


def test_a_heartbeat_leaves_an_heirs_claim_alone(tmp_path, monkeypatch):
    """e.g. of a process that was stopped for a minute and goes on."""
    monkeypatch.setattr("dpft.envs.cache.STALE", 0.06)
    first = Claim(tmp_path / "run")
    assert first.take()
    heirs = tmp_path / "heirs"
    heirs.write_text(json.dumps({"machine": "another", "pid": 1, "birth": "1"}))
    os.utime(heirs, (time.time() - 100,) * 2)
    heirs.rename(first.file)
    time.sleep(0.2)
    assert not first.held()
    assert time.time() - first.file.stat().st_mtime > 90
    first.release()
    assert first.file.exists()


def test_a_claim_is_no_program(tmp_path):
    claim = Claim(tmp_path / "run")
    assert claim.take()
    assert claim.file.stat().st_mode & 0o111 == 0
    claim.release()


def test_a_half_written_claim_is_respected_for_a_minute(tmp_path):
    claim = Claim(tmp_path / "run")
    claim.file.write_text('{"machine": "abc')
    assert claim.alive()
    assert not claim.take()
    os.utime(claim.file, (time.time() - 2 * STALE,) * 2)
    assert claim.take()


HERE = {"machine": machine(), "pid": 1, "birth": "1"}
DAMAGED = {
    "empty": b"",
    "a list": b"[]",
    "binary": b"\xff\xfe\x00",
    "deep": b"[" * 100_000,
    "no process": json.dumps({"machine": HERE["machine"]}).encode(),
    "a process of the wrong type": json.dumps(HERE | {"pid": "1"}).encode(),
    "every process": json.dumps(HERE | {"pid": -1, "birth": None}).encode(),
}


@pytest.mark.parametrize("content", DAMAGED.values(), ids=DAMAGED)
def test_a_damaged_claim_counts_by_its_age(content, tmp_path):
    """And names no process, which `dpft cancel` would stop: -1 is every process there is."""
    claim = Claim(tmp_path / "run")
    claim.file.write_bytes(content)
    assert claim.alive()
    assert claim.process() is None
    assert not claim.take()
    os.utime(claim.file, (time.time() - 2 * STALE,) * 2)
    assert not claim.alive()
    assert claim.take()
    claim.release()


def test_what_is_no_file_is_no_claim(tmp_path):
    """A run's folder that is a file, a claim that is a folder, a link to nowhere."""
    (tmp_path / "file").touch()
    assert not Claim(tmp_path / "file/run").alive()
    folder = Claim(tmp_path / "folder")
    folder.file.mkdir()
    assert folder.alive()
    assert folder.process() is None
    link = Claim(tmp_path / "link")
    link.file.symlink_to(tmp_path / "nowhere")
    assert not link.alive()
    assert link.take()
    link.release()


def test_a_claim_that_a_full_disk_refuses_is_none(tmp_path, monkeypatch):
    def write(descriptor: int, data: bytes) -> int:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    claim = Claim(tmp_path / "run")
    with monkeypatch.context() as full:
        full.setattr(os, "write", write)
        with pytest.raises(OSError, match="No space"):
            claim.take()
    assert list(tmp_path.iterdir()) == []
    assert claim.take()
    claim.release()

"""A run that was taken over: its first owner writes nothing any more, whenever it goes on."""

import json
import os
import signal
import subprocess
import sys
import time

import numpy as np
import pytest
from same import same_records
from test_run import command

from dpft.envs.cache import Claim
from dpft.sweeps import run
from dpft.sweeps.owner import Owner, TakenOver
from dpft.sweeps.records import GrowingFile


def contents(folder) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_nothing_is_written_after_a_takeover(tiny, tmp_path, monkeypatch):
    """Whichever write comes next: a row, a checkpoint, an event, weights, done.json."""
    monkeypatch.setattr(run, "CHECKPOINT_EVERY", 0.0)
    calls = iter(range(1000))
    run.train(tiny(env_steps=400, eval_every=200), tmp_path / "whole", held=lambda: next(calls) >= 0)
    count = next(calls)
    assert count > 30
    for last in np.linspace(1, count - 1, 5).astype(int):
        folder, calls, frozen = tmp_path / str(last), iter(range(1000)), {}

        def held(folder=folder, calls=calls, frozen=frozen, last=last) -> bool:
            if next(calls) < last:
                return True
            frozen.setdefault("at", contents(folder))
            return False

        with pytest.raises(TakenOver):
            run.train(tiny(env_steps=400, eval_every=200), folder, held=held)
        now = contents(folder)
        assert now.items() <= frozen["at"].items()
        assert all(name.endswith(".owned") for name in frozen["at"].keys() - now.keys())


def test_a_takeover_between_the_last_look_and_the_rename(tmp_path):
    """The heir has removed the temporary file by then, so that the rename fails."""
    path, looks = tmp_path / "done.json", iter(range(3))

    def held() -> bool:
        look = next(looks)
        if look == 1:  # we are stopped here, with an answer that is out of date when it arrives
            Owner(tmp_path).write("done.json", "the heir's")
            Owner(tmp_path).begin()
        return look < 2

    with pytest.raises(TakenOver):
        Owner(tmp_path, held).write("done.json", "ours")
    assert path.read_text() == "the heir's"
    assert list(tmp_path.iterdir()) == [path]


def test_a_takeover_between_the_last_look_and_an_append(tmp_path):
    """The heir has written the file anew by then: the row goes to the one that has lost its name."""
    path = tmp_path / "curve.csv"
    first = GrowingFile(path, Owner(tmp_path))
    first.append(b"header\n")
    heir = GrowingFile(path, Owner(tmp_path))
    assert heir.resume(*first.state()) == b"header\n"
    first.append(b"first\n")
    heir.append(b"heir\n")
    assert path.read_bytes() == b"header\nheir\n"


ELSEWHERE = """
import sys
from dpft.envs import cache
from dpft.sweeps.cli import main
cache.machine = lambda: sys.argv[1]  # heartbeats decide between machines
sys.exit(main(sys.argv[2:]))
"""


def elsewhere(machine: str, config, folder) -> subprocess.Popen:
    line = [sys.executable, "-c", ELSEWHERE, machine, *command(config, folder)[3:]]
    environment = os.environ | {"DPFT_STALE_SECONDS": "2", "DPFT_CHECKPOINT_SECONDS": "0"}
    return subprocess.Popen(line, env=environment, stdout=subprocess.PIPE, text=True)


def rows(folder) -> int:
    path = folder / "curve.csv"
    return path.read_text().count("\n") if path.exists() else 0


@pytest.mark.slow
@pytest.mark.parametrize("heir_is", ["alive", "done"])
def test_stopped_taken_over_and_continued(tiny, tmp_path, monkeypatch, heir_is):
    """SIGSTOP at random moments for longer than a heartbeat may miss, and SIGCONT: only the heir's records remain."""
    monkeypatch.setattr("dpft.envs.cache.STALE", 2.0)
    config = tiny(method="gaussian-ppo", env_steps=10_000, eval_every=500, eval_episodes=1)
    run.train(config, tmp_path / "whole")
    rng = np.random.default_rng(0)
    for attempt in range(2):
        folder = tmp_path / str(attempt)
        first = elsewhere("one", config, folder)
        while rows(folder) < 2:
            time.sleep(0.01)
        time.sleep(rng.uniform(0.0, 1.0))
        first.send_signal(signal.SIGSTOP)
        assert first.poll() is None, "the run is too short to be stopped"
        while Claim(folder / "run").alive():
            time.sleep(0.1)
        before = rows(folder)
        heir = elsewhere("two", config, folder)
        if heir_is == "alive":
            while rows(folder) <= before and heir.poll() is None:
                time.sleep(0.01)
            assert heir.poll() is None
        else:
            heir.wait()
        frozen = contents(folder)
        first.send_signal(signal.SIGCONT)
        out, _ = first.communicate(timeout=60)
        assert first.returncode == 4
        assert "was taken over" in out
        if heir_is == "done":
            assert contents(folder) == frozen
        assert heir.wait() == 0
        same_records(tmp_path / "whole", folder)
        assert json.loads((folder / "done.json").read_text())["status"] == "done"
        assert not (folder / "checkpoint").exists()

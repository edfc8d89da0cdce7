"""Where a sweep stands, from its files alone."""

import json
import threading
import time

import pytest
import yaml

from dpft.envs.cache import Claim
from dpft.sweeps.cli import main
from dpft.sweeps.engine_local import LocalEngine
from dpft.sweeps.grid import load_grid
from dpft.sweeps.launch import Sweep
from dpft.sweeps.status import RunState, exit_code, states


@pytest.fixture
def sweep(tmp_path) -> Sweep:
    path = tmp_path / "grid.yaml"
    path.write_text(yaml.safe_dump({"seed": [0, 1, 2, 3, 4, 5], "env_steps": 1000}))
    return Sweep.freeze(load_grid(str(path)), tmp_path / "out")


def mark(sweep: Sweep, index: int, file: str, text: str) -> str:
    """Write a file of a run; returns the run's name."""
    name = list(sweep.runs)[index]
    sweep.run(name).mkdir(parents=True, exist_ok=True)
    (sweep.run(name) / file).write_text(text)
    return name


def test_every_state(sweep, capsys):
    assert {run.state for run in states(sweep).values()} == {"missing"}
    assert main(["status", str(sweep.folder)]) == 4
    assert "6 runs: 6 missing" in capsys.readouterr().out
    done = mark(sweep, 0, "done.json", json.dumps({"status": "done", "reason": None}))
    diverged = mark(sweep, 1, "done.json", json.dumps({"status": "failed", "reason": "loss is nan at step 7"}))
    crashed = mark(sweep, 2, "error.txt", "Traceback …\nMemoryError: none left\n")
    running = mark(sweep, 3, "metrics.csv", "env_steps,wall_seconds,loss\n200,10.0,1\n400,20.0,1\n")
    claim = Claim(sweep.run(running) / "run")
    assert claim.take()
    begun = mark(sweep, 4, "config.yaml", "")
    with sweep.launching("local", LocalEngine.Options(), list(sweep.runs)):
        found = states(sweep)
        assert found.pop(done) == RunState("done", ended=True)
        assert found.pop(diverged) == RunState("failed", ended=True, reason="loss is nan at step 7")
        assert found.pop(crashed) == RunState("failed", reason="MemoryError: none left")
        assert found.pop(running) == RunState("running", steps=400, left=30.0)
        assert {run.state for run in found.values()} == {"waiting"}
        assert main(["status", str(sweep.folder)]) == 3
        out = capsys.readouterr().out
        assert f"running  {running}: 400 steps, 0 min left" in out
        assert f"failed   {diverged}: loss is nan at step 7" in out
        assert "6 runs: 1 done, 1 running, 2 waiting, 2 failed" in out
    claim.release()
    assert {states(sweep)[name].state for name in (running, begun)} == {"lost"}, "its launcher has gone"
    assert main(["status", str(sweep.folder)]) == 4
    assert f"next: dpft resume {sweep.folder}" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("kinds", "code"),
    [(["done"], 0), (["done", "failed"], 1), (["failed", "running"], 3), (["waiting"], 3), (["running", "lost"], 4)],
)
def test_exit_codes(kinds, code):
    assert exit_code({str(number): RunState(kind) for number, kind in enumerate(kinds)}) == code


def test_a_torn_row_is_no_progress(sweep):
    name = mark(sweep, 0, "metrics.csv", "env_steps,wall_seconds\n2")
    claim = Claim(sweep.run(name) / "run")
    assert claim.take()
    assert states(sweep)[name] == RunState("running")
    claim.release()


def test_no_sweep(tmp_path, capsys):
    for verb in ("status", "resume", "cancel"):
        assert main([verb, str(tmp_path)]) == 2
        assert capsys.readouterr().err.startswith(f"dpft {verb}: {tmp_path} is no sweep: it has no runs.json")


def test_watching_ends_with_the_last_run(sweep, capsys):
    for index in range(5):
        mark(sweep, index, "done.json", json.dumps({"status": "done"}))
    claim = Claim(sweep.run(list(sweep.runs)[5]) / "run")
    assert claim.take()

    def end() -> None:
        mark(sweep, 5, "done.json", json.dumps({"status": "done"}))
        claim.release()

    threading.Timer(1.0, end).start()
    started = time.monotonic()
    assert main(["status", str(sweep.folder), "--watch"]) == 0
    assert 1.0 < time.monotonic() - started < 30.0
    assert capsys.readouterr().out.splitlines()[:2] == ["6 runs: 5 done, 1 running", "6 runs: 6 done"]

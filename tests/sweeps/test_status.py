"""Where a sweep stands, from its files alone."""

import json
import threading
import time
from pathlib import Path

import pytest
import yaml

from dpft.envs.cache import Claim, machine
from dpft.sweeps import status
from dpft.sweeps.attempts import note
from dpft.sweeps.cli import main
from dpft.sweeps.engine_local import LocalEngine
from dpft.sweeps.grid import load_grid
from dpft.sweeps.launch import Sweep
from dpft.sweeps.run_state import STATES, RunState, states
from dpft.sweeps.status import exit_code


@pytest.fixture
def sweep(tmp_path) -> Sweep:
    path = tmp_path / "grid.yaml"
    path.write_text(yaml.safe_dump({"seed": [0, 1, 2, 3, 4, 5], "env_steps": 1000, "settings": {"num_envs": 4}}))
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
    mark(sweep, 0, "curve.csv", "env_steps,wall_seconds,cpu_seconds,return_mean,x\n1000,50,50,1234.5,7\n")
    diverged = mark(sweep, 1, "done.json", json.dumps({"status": "failed", "reason": "loss is nan at step 7"}))
    crashed = mark(sweep, 2, "error.txt", "Traceback …\nMemoryError: none left\n")
    running = mark(sweep, 3, "metrics.csv", "env_steps,wall_seconds,loss\n200,10.0,1\n400,20.0,1\n")
    mark(sweep, 3, "curve.csv", "env_steps,wall_seconds,cpu_seconds,return_mean,x\n0,1.0,1.0,90.0,\n")
    mark(sweep, 3, "config.yaml", "")
    claim = Claim(sweep.run(running) / "run")
    assert claim.take()
    begun = mark(sweep, 4, "config.yaml", "")
    with sweep.launching("local", LocalEngine.Options(), list(sweep.runs)):
        found = states(sweep)
        assert found.pop(done) == RunState("done", ended=True, of=1000, steps=1000, pace=0.05, score=1234.5)
        assert found.pop(diverged) == RunState("failed", ended=True, reason="loss is nan at step 7", of=1000)
        assert found.pop(crashed) == RunState("failed", reason="MemoryError: none left", of=1000)
        assert found.pop(running) == RunState("running", of=1000, steps=400, pace=0.05, score=90.0)
        assert {run.state for run in found.values()} == {"waiting"}
        assert main(["status", str(sweep.folder)]) == 3
        out = capsys.readouterr().out.splitlines()
        assert out == [
            f"running  {running}: 400 of 1,000 steps, return 90, 30 s left",
            f"failed   {diverged}: loss is nan at step 7",
            f"failed   {crashed}: MemoryError: none left",
            f"done     {done}: return 1,234",
            "6 runs: 1 done, 1 running, 2 waiting, 2 failed; about 2 min left",
            f"records in {sweep.folder / 'runs'}; next: dpft status {sweep.folder} --watch",
        ]
    claim.release()
    found = states(sweep)
    assert (found[running].state, found[begun].state) == ("stopped", "stopped"), "both had time to let go"
    assert found[list(sweep.runs)[5]] == RunState("waiting", reason="for dpft resume", of=1000, idle=True)
    assert main(["status", str(sweep.folder)]) == 4
    out = capsys.readouterr().out
    assert f"stopped  {running}: at 400 of 1,000 steps, return 90\n" in out
    assert f"next: dpft resume {sweep.folder}" in out


def test_what_was_killed_is_lost(sweep, capsys):
    """A dead owner's claim is left behind: by the run's process, or by its launcher before the run began."""
    names = list(sweep.runs)
    killed = mark(sweep, 0, "config.yaml", "")
    submission = sweep.record("local", LocalEngine.Options(), {"": names})
    for claim in (Claim(sweep.run(killed) / "run"), sweep.launcher(submission)):
        claim.file.write_text(json.dumps({"machine": machine(), "pid": 2**22 + 1, "birth": "1"}))
    assert {run.state for run in states(sweep).values()} == {"lost"}
    assert main(["status", str(sweep.folder)]) == 4
    assert "6 runs: 6 lost" in capsys.readouterr().out


def test_what_will_be_tried_again_is_not_failed(sweep, capsys):
    """As long as its launcher lives; then it is."""
    name = mark(sweep, 0, "run.log", "the last words\n")
    note(sweep.run(name), -9, 1, 3)
    with sweep.launching("local", LocalEngine.Options(), list(sweep.runs)):
        assert states(sweep)[name].reason == f"tried 1 of 3: killed by SIGKILL; see {sweep.run(name) / 'run.log'}"
        assert main(["status", str(sweep.folder)]) == 3
        assert f"waiting  {name}: tried 1 of 3: killed by SIGKILL" in capsys.readouterr().out
        note(sweep.run(name), -9, 3, 3)
        assert states(sweep)[name].state == "failed"
    note(sweep.run(name), -9, 1, 3)
    assert states(sweep)[name].state == "failed"


def test_status_for_programs(sweep, capsys):
    """The keys that sweeps/cluster.md documents."""
    done = mark(sweep, 0, "done.json", json.dumps({"status": "done", "reason": None}))
    mark(sweep, 0, "curve.csv", "env_steps,wall_seconds,cpu_seconds,return_mean\n1000,50,50,nan\n")
    assert main(["status", str(sweep.folder), "--json"]) == 4
    data = json.loads(capsys.readouterr().out, parse_constant=lambda word: pytest.fail(f"{word} is no JSON"))
    page = (Path(status.__file__).with_name("cluster.md")).read_text()
    documented = json.loads(page.split("```json")[1].split("```")[0])
    assert data.keys() == documented.keys()
    assert data["runs"][0].keys() == documented["runs"][0].keys()
    assert data["counts"] == dict.fromkeys(STATES, 0) | {"done": 1, "missing": 5}
    assert data["exit_code"] == 4
    assert data["runs"][0] == {
        "name": done,
        "folder": str(sweep.run(done)),
        "state": "done",
        "ended": True,
        "reason": None,
        "env_steps": 1000,
        "env_steps_asked": 1000,
        "return_mean": None,
        "seconds_left": None,
    }


@pytest.mark.parametrize(
    ("kinds", "code"),
    [(["done"], 0), (["done", "failed"], 1), (["failed", "running"], 3), (["waiting"], 3), (["running", "lost"], 4)],
)
def test_exit_codes(kinds, code):
    assert exit_code({str(number): RunState(kind) for number, kind in enumerate(kinds)}) == code


@pytest.mark.parametrize("row", ["2", "0,1.0", "nan,nan", "1e400,2", ",", "\xff\x00"])
def test_a_torn_row_is_no_progress(row, sweep):
    name = mark(sweep, 0, "metrics.csv", f"env_steps,wall_seconds\n{row}")
    claim = Claim(sweep.run(name) / "run")
    assert claim.take()
    assert states(sweep)[name] == RunState("running", of=1000)
    claim.release()


def test_no_sweep(sweep, tmp_path, capsys):
    """What is named instead is said, and what to do with it; nobody is sent to sweep into records."""
    name = mark(sweep, 0, "config.yaml", "")
    published, single, parent = tmp_path / "results/mine", tmp_path / "single", tmp_path
    (published / "runs/a").mkdir(parents=True)
    single.mkdir()
    (tmp_path / "a b").mkdir()
    for config in (published / "runs/a/config.yaml", single / "config.yaml"):
        config.touch()
    says = {
        tmp_path / "a b": "is no sweep: it has no runs.json; dpft sweep GRID --out '{}' makes one",
        tmp_path / "nowhere": "is not there: expected the folder of a sweep",
        tmp_path / "grid.yaml": "is a file: expected the folder of a sweep",
        sweep.run(name): f"is one run of a sweep: name {sweep.folder}",
        sweep.folder / "runs": f"is part of a sweep: name {sweep.folder}",
        single: "is one run, no sweep: the command that began it continues it; dpft figures {}",
        published: "holds records alone, nothing is made there: dpft figures {}",
        parent: f"is no sweep but holds 1: name one of {sweep.folder}",
    }
    for folder, words in says.items():
        for verb in ("status", "resume", "cancel"):
            assert main([verb, str(folder)]) == 2
            assert capsys.readouterr().err == f"dpft {verb}: {folder} {words.format(folder)}\n"
    for folder in (published, single):
        assert main(["sweep", str(tmp_path / "grid.yaml"), "--out", str(folder)]) == 2
        assert capsys.readouterr().err.endswith("holds records that no sweep made there: choose another --out\n")


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
    out = capsys.readouterr().out.splitlines()
    assert (out[0], out[1:]) == ("6 runs: 5 done, 1 running", ["6 runs: 6 done", out[-1]])

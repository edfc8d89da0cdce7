"""What a launcher and `status --watch` show on a terminal."""

import io
import json

import pytest
from rich.console import Console
from test_launch import small

from dpft.sweeps import board
from dpft.sweeps.board import Board, SweepProgress, duration, listing, time_left
from dpft.sweeps.launch import DONE
from dpft.sweeps.run_state import RunState


@pytest.fixture
def terminal(monkeypatch) -> io.StringIO:
    screen = io.StringIO()
    console = Console(file=screen, force_terminal=True, width=120)
    monkeypatch.setattr(board, "console", console)
    monkeypatch.setattr(board, "SECONDS", 0.0)
    return screen


def test_a_line_for_each_run_under_way(tmp_path, terminal):
    """Steps, return and time left of each, and of the whole by their paces; before there is a pace, no number."""
    made = small(tmp_path, 4, env_steps=1000)
    first, second, *_ = made.runs
    for name in (first, second):
        made.run(name).mkdir()
    with SweepProgress(made, list(made.runs), 2) as shown:
        shown.under_way([first, second])
        text = terminal.getvalue()
        assert f"running  {first}: starting" in text
        assert f"running  {second}: starting" in text
        assert "left" not in text
        (made.run(first) / "metrics.csv").write_text("env_steps,wall_seconds\n500,100.0\n")
        (made.run(first) / "curve.csv").write_text("env_steps,wall,cpu,return\n400,80.0,80.0,1234.5\n")
        shown.under_way([first, second])
        text = terminal.getvalue()
        assert f"running  {first}: 500 of 1,000 steps, return 1,234, 2 min left" in text
        # 100 s of the first and 200 s of each other, on two workers
        assert "about 6 min left" in text
        (made.run(first) / "done.json").write_text(json.dumps({"status": "done", "reason": None}))
        shown.ended(first, DONE, "")
        shown.under_way([second])
        assert "1/4" in terminal.getvalue()
    assert f"1/4 {first}: done, return 1,234\n" in terminal.getvalue(), "lines go above the board"


def test_time_left_is_by_kind(tmp_path):
    made = small(tmp_path, 2, method=["gaussian-ppo", "ncdpo"], env_steps=1000)
    slow, quick = [name for name in made.runs if "ncdpo" in name], [name for name in made.runs if "gaussian" in name]
    found = {name: RunState("waiting", of=1000) for name in made.runs}
    assert time_left(made, found, 2) is None
    found[slow[0]] = RunState("done", ended=True, steps=1000, of=1000, pace=1.0)
    assert time_left(made, found, 1) == 3000, "nothing else is known"
    found[quick[0]] = RunState("running", steps=500, of=1000, pace=0.01)
    assert time_left(made, found, 1) == 1000 + 5 + 10
    assert time_left(made, found, 4) == 1000, "no shorter than its longest"
    found[slow[1]] = RunState("failed", of=1000)
    assert time_left(made, found, 1) == 15


def test_without_a_terminal_there_is_no_board(tmp_path, monkeypatch):
    screen = io.StringIO()
    monkeypatch.setattr(board, "console", Console(file=screen))
    with Board(3) as shown:
        shown.show(1, 10.0, ["running"])
    assert screen.getvalue() == ""


def test_words():
    assert [duration(seconds) for seconds in (0, 89, 90, 5399, 5400)] == ["0 s", "89 s", "2 min", "90 min", "1.5 h"]
    found = {
        "a": RunState("done", score=1.0),
        "b": RunState("running", steps=10, of=10, pace=1.0),
        "c": RunState("missing"),
        "d": RunState("lost"),
        "e": RunState("stopped", steps=5, of=10),
    }
    lines = ["running  b: finishing", "lost     d", "stopped  e: at 5 of 10 steps", "done     a: return 1"]
    assert listing(found, 20) == lines
    assert listing(found, 2) == [*lines[:2], "... and 2 more: --all"]

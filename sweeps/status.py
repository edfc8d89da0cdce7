"""dpft status: how a sweep stands, from any shell, also while it runs."""

import json
import time
from pathlib import Path
from shlex import quote
from typing import Any

from dpft.arguments import Parser, place
from dpft.sweeps.board import Board, duration, listing, summary, time_left
from dpft.sweeps.launch import LaunchedHere, Sweep, engine_class
from dpft.sweeps.progress import console
from dpft.sweeps.run_state import STATES, RunState, states


def exit_code(found: dict[str, RunState]) -> int:
    """0: all done; 1: all ended or failed; 3: under way; 4: some need dpft resume."""
    if any(run.idle or run.state in ("lost", "missing", "stopped") for run in found.values()):
        return 4
    if any(run.under_way for run in found.values()):
        return 3
    return int(any(run.state == "failed" for run in found.values()))


def following(folder: Path, code: int) -> str:
    """What to do next."""
    sweep = quote(str(folder))
    return {
        3: f"dpft status {sweep} --watch",
        4: f"dpft resume {sweep}",
        1: f"dpft resume {sweep} tries what crashed once more; dpft figures {sweep}",
    }.get(code, f"dpft figures {sweep}")


def main(argv: list[str]) -> int:
    parser = Parser(
        prog="dpft status",
        description="How a sweep stands. Exit code 0: all done; 1: ended, some failed; 3: under way; "
        "4: runs are stopped, lost or missing, dpft resume makes them.",
        epilog="example: dpft status runs/quickstart --watch",
    )
    parser.add_argument("sweep", type=place)
    how = parser.add_mutually_exclusive_group()
    how.add_argument("--watch", action="store_true", help="show it until nothing is under way")
    how.add_argument("--json", action="store_true", help="everything, for programs (sweeps/cluster.md has the keys)")
    parser.add_argument("--all", action="store_true", help="list every run, not the first 20")
    options = parser.parse_args(argv)
    sweep = Sweep.open(options.sweep)
    most = len(sweep.runs) if options.all else 20
    found = states(sweep, guess=True)
    if options.watch:
        found = watch(sweep, found, most)
    code = exit_code(found)
    if options.json:
        print(json.dumps(as_data(sweep, found)))
    else:
        print("\n".join([*listing(found, most), summary(found) + and_left(sweep, found)]))
        print(f"records in {sweep.folder / 'runs'}; next: {following(sweep.folder, code)}")
    return code


def left(sweep: Sweep, found: dict[str, RunState]) -> float | None:
    """Seconds until all is made, by as many workers as are at work now."""
    running = sum(run.state == "running" for run in found.values())
    return time_left(sweep, found, running) if running else None


def and_left(sweep: Sweep, found: dict[str, RunState]) -> str:
    seconds = left(sweep, found)
    return "" if seconds is None else f"; about {duration(seconds)} left"


def as_data(sweep: Sweep, found: dict[str, RunState]) -> dict[str, Any]:
    """What `dpft status --json` prints; keys are only ever added."""
    code = exit_code(found)
    return {
        "sweep": str(sweep.folder),
        "exit_code": code,
        "counts": {state: sum(run.state == state for run in found.values()) for state in STATES},
        "seconds_left": left(sweep, found),
        "next": following(sweep.folder, code),
        "runs": [
            {
                "name": name,
                "folder": str(sweep.run(name)),
                "state": run.state,
                "ended": run.ended,
                "reason": run.reason or None,
                "env_steps": run.steps,
                "env_steps_asked": run.of,
                "return_mean": run.score,
                "seconds_left": run.left if run.state == "running" else None,
            }
            for name, run in found.items()
        ],
    }


def watch(sweep: Sweep, found: dict[str, RunState], most: int) -> dict[str, RunState]:
    """Show the state on a terminal, when it changes elsewhere, as often as its engines may be asked, until nothing is
    under way."""
    before = ""
    with Board(len(found)) as board:
        while any(run.under_way for run in found.values()):
            if console.is_terminal:
                ended = sum(run.ended for run in found.values())
                board.show(ended, left(sweep, found), [*listing(found, most), summary(found)])
            elif summary(found) != before:
                before = summary(found)
                print(before, flush=True)
            time.sleep(between_looks(sweep, found))
            found = states(sweep, guess=True, before=found)
    return found


def between_looks(sweep: Sweep, found: dict[str, RunState]) -> float:
    """Seconds, by the engines of the runs under way."""
    goes_on = {name for name, run in found.items() if run.under_way}
    engines = {submission.engine for submission in sweep.submissions() if not goes_on.isdisjoint(submission.names)}
    return max((engine_class(engine).POLL for engine in engines), default=LaunchedHere.POLL)

"""What a launcher writes down about a run that crashed under it."""

import json
import signal
from contextlib import suppress
from pathlib import Path
from typing import Any

from dpft.envs.files import FULL
from dpft.envs.task import first_line
from dpft.sweeps.records import write_atomically
from dpft.sweeps.state_file import ATTEMPTS, Damaged, read_state

NO_FOLDER = "{} is a file or a link to nowhere: move it away"


def note(run: Path, code: int, tried: int, of: int) -> str:
    """Write down why an attempt ended, in error.txt where the run did not itself; returns the reason, one line."""
    error = run / "error.txt"
    if code < 0:
        write_atomically(error, f"killed by {signal.Signals(-code).name}; see {run / 'run.log'}\n")
    elif not error.exists():
        write_atomically(error, f"{last_line(run / 'run.log') or f'ended with code {code}'}\n")
    write_atomically(run / "attempts.json", json.dumps({"tried": tried, "of": of}))
    return last_line(error)


def note_deleted(run: Path) -> str:
    """The same of a run whose folder is no longer one."""
    if run.is_symlink() or run.exists():
        return NO_FOLDER.format(run)
    with suppress(OSError):  # the whole sweep is gone
        run.mkdir()
        write_atomically(run / "error.txt", f"{run} was deleted while the run was under way\n")
    return f"{run} was deleted while the run was under way"


def its_own(error: OSError) -> str:
    """What is wrong with one run's folder. A disk that takes no more is everybody's: raised again."""
    if error.errno in FULL:
        raise error
    return f"{first_line(error)}: {error.filename}"


def attempts(run: Path) -> Any:
    """How often it was tried, of how often it will be; none where it did not crash."""
    try:
        return read_state(run / "attempts.json", ATTEMPTS)
    except Damaged:
        return None


def forget(run: Path) -> None:
    for name in ("error.txt", "attempts.json"):
        with suppress(FileNotFoundError, NotADirectoryError):
            (run / name).unlink()


def last_line(path: Path) -> str:
    """The last line of a file, read from its end; nothing where there is none."""
    try:
        with path.open("rb") as file:
            file.seek(max(0, file.seek(0, 2) - 4096))
            return (file.read().decode(errors="replace").strip().splitlines() or [""])[-1]
    except (FileNotFoundError, IsADirectoryError, NotADirectoryError):
        return ""

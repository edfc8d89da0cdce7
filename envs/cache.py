"""Files that are expensive to make are made once and whole, even when several processes want them together."""

import hashlib
import json
import os
import secrets
import socket
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from dpft.envs.task import DataError, first_line

# seconds without a sign of life after which a claim of another machine is taken over
STALE = float(os.environ.get("DPFT_STALE_SECONDS", 60.0))


def cache_dir() -> Path:
    """$DPFT_CACHE, or ~/.cache/dpft. Raises DataError where there is no home directory either."""
    try:
        return Path(os.environ.get("DPFT_CACHE") or Path.home() / ".cache" / "dpft")
    except RuntimeError:  # of pathlib, for a user id without an entry, as in many containers
        raise DataError("there is no home directory for the cache: set DPFT_CACHE to a folder") from None


def machine() -> str | None:
    """What tells whether a process id means anything here: this start of the machine and this space of ids."""
    try:
        boot = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
        return f"{boot} {os.readlink('/proc/self/ns/pid')}"
    except OSError:  # no Linux: heartbeats decide
        return None


def birth(pid: int) -> str | None:
    """When a process of this machine was started, in clock ticks; None where it is dead (a zombie is)."""
    try:
        state, *rest = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return None
    return None if state in "ZX" else rest[18]


class Claim:
    """Ownership of a path by an exclusively created file with a heartbeat; works on network disks, unlike locks.

    An owner on this machine is dead when its process is; one elsewhere, after a minute without a heartbeat. Whose it
    is, its content alone says.
    """

    def __init__(self, path: Path) -> None:
        self.file = path.with_name(path.name + ".claim")
        self._stop = threading.Event()
        self._text = ""

    def take(self) -> bool:
        """Try to own the path; a dead owner's claim is taken over. Others may try at the same time: one succeeds."""
        self.file.parent.mkdir(parents=True, exist_ok=True)
        for _ in range(2):
            try:
                descriptor = os.open(self.file, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o666)
            except FileExistsError:
                self._bury()
                continue
            process = {"machine": machine(), "pid": os.getpid(), "birth": birth(os.getpid())}
            about = {"host": socket.gethostname(), "time": time.time_ns(), "token": secrets.token_hex(16)}
            self._text = json.dumps(process | about)
            try:
                os.write(descriptor, self._text.encode())
            except OSError:  # of a full disk: an empty claim would stand for a minute
                os.close(descriptor)
                self.file.unlink()
                raise
            self._stop = threading.Event()
            threading.Thread(target=self._beat, args=(descriptor, self._stop), daemon=True).start()
            return True
        return False

    @contextmanager
    def waited_for(self) -> Iterator[None]:
        """Own the path inside the block."""
        while not self.take():
            time.sleep(0.2)
        try:
            yield
        finally:
            self.release()

    def held(self) -> bool:
        """Whether it is still ours: a process that slept for long may have been thought dead."""
        return bool(self._text) and self._read() == self._text

    def release(self) -> None:
        self._stop.set()
        if self.held():
            self.file.unlink(missing_ok=True)
            for tombstone in self.file.parent.glob(f"{self.file.name}.*.dead"):
                tombstone.unlink(missing_ok=True)

    def alive(self) -> bool:
        """Whether somebody owns the path."""
        text = self._read()
        return text is not None and self._lives(text, time.time())

    def process(self) -> int | None:
        """The owner's process id, where it is alive and on this machine."""
        owner = _parse(self._read() or "")
        here = owner and owner["machine"] == machine()
        return owner["pid"] if here and birth(owner["pid"]) == owner["birth"] else None

    def _read(self) -> str | None:
        """None where there is no claim; what cannot be one says nothing, and counts by its age."""
        try:
            return self.file.read_text(errors="replace")
        except IsADirectoryError:
            return ""
        except (FileNotFoundError, NotADirectoryError):
            return "" if self.file.is_symlink() else None

    def _lives(self, text: str, now: float) -> bool:
        owner = _parse(text)
        if owner and owner["machine"] == machine():
            return birth(owner["pid"]) == owner["birth"]
        try:
            return now - self.file.stat().st_mtime < STALE
        except FileNotFoundError:
            return False

    def _beat(self, descriptor: int, stop: threading.Event) -> None:
        while not stop.wait(STALE / 6):
            with suppress(OSError):  # of a disk that does not answer just now
                if not self.held():
                    break
                os.utime(descriptor)  # the file that we made: an heir's has another
        os.close(descriptor)

    def _bury(self) -> None:
        """Remove a dead owner's claim; of several heirs only the one that makes its tombstone does."""
        text = self._read()
        if text is None or self._lives(text, time.time()):
            return
        with tempfile.NamedTemporaryFile(dir=self.file.parent, prefix=f".{self.file.name}.") as probe:
            now = os.stat(probe.name).st_mtime  # the disk's clock, which heartbeats go by, may not be ours
        if self._lives(text, now):
            return
        identity = hashlib.sha256(text.encode()).hexdigest()[:16]
        tombstone = self.file.with_name(f"{self.file.name}.{identity}.dead")
        try:
            os.close(os.open(tombstone, os.O_CREAT | os.O_EXCL, 0o666))
        except FileExistsError:
            with suppress(FileNotFoundError):
                if now - tombstone.stat().st_mtime > STALE:  # its maker died before it could go on
                    tombstone.unlink()
            return
        if self._read() == text:
            self.file.unlink(missing_ok=True)


def _parse(text: str) -> dict[str, Any]:
    """An owner that said where it is; nothing where it could not, is just writing it, or where the claim is damaged."""
    try:
        owner = json.loads(text)
        process = owner["machine"], owner["pid"], owner["birth"]
    except (KeyError, TypeError, ValueError, RecursionError):
        return {}
    # a process id that is no process's, such as -1, would be everybody's where it is asked to stop
    return owner if [type(part) for part in process] == [str, int, str] and process[1] > 0 else {}


def build_once(path: Path, build: Callable[[Path], None]) -> Path:
    """Return path, made by build(temporary path) if it is not there: once, and renamed into place when complete.

    Other processes wait meanwhile. What build raises is raised, and nothing is left behind. Raises DataError where the
    folder cannot be read or written.
    """
    claim = Claim(path)
    try:
        while not path.exists():
            if not claim.take():
                time.sleep(0.2)
                continue
            try:
                if not path.exists():  # the owner before us may have finished
                    _build(path, build)
            finally:
                claim.release()
    except OSError as error:
        raise DataError(
            f"cannot use the cache {path.parent} ({first_line(error)}): make room or ask for the right to write there, "
            "or set DPFT_CACHE to another folder"
        ) from None
    return path


def _build(path: Path, build: Callable[[Path], None]) -> None:
    with tempfile.TemporaryDirectory(dir=path.parent, prefix=".building.") as folder:
        temporary = Path(folder) / path.name
        build(temporary)
        try:
            os.replace(temporary, path)
        except OSError:  # a folder is there already: we were thought dead and somebody else built it
            if not path.exists():
                raise

"""Files that are expensive to make are made once, even when several processes want them together."""

import os
import shutil
import tempfile
import threading
import time
from collections.abc import Callable
from pathlib import Path

STALE = 60.0  # seconds without a sign of life after which a claim is taken over


def cache_dir() -> Path:
    """$DPFT_CACHE, or ~/.cache/dpft."""
    return Path(os.environ.get("DPFT_CACHE") or Path.home() / ".cache" / "dpft")


class Claim:
    """Ownership of a path by an exclusively created file with a heartbeat; works on network disks, unlike locks."""

    def __init__(self, path: Path) -> None:
        self.file = path.with_name(path.name + ".claim")
        self._stop = threading.Event()

    def take(self) -> bool:
        """Try to own the path; a claim whose owner shows no sign of life is taken over."""
        self.file.parent.mkdir(parents=True, exist_ok=True)
        try:
            os.close(os.open(self.file, os.O_CREAT | os.O_EXCL | os.O_WRONLY))
        except FileExistsError:
            self._bury_if_stale()
            return False
        threading.Thread(target=self._beat, daemon=True).start()
        return True

    def release(self) -> None:
        self._stop.set()
        self.file.unlink(missing_ok=True)

    def _beat(self) -> None:
        while not self._stop.wait(STALE / 6):
            try:
                os.utime(self.file)
            except FileNotFoundError:
                return

    def _bury_if_stale(self) -> None:
        try:
            if time.time() - self.file.stat().st_mtime > STALE:
                # of several heirs one succeeds in renaming it; all then try to create it anew
                grave = self.file.with_name(f"{self.file.name}.{os.getpid()}.dead")
                os.rename(self.file, grave)
                grave.unlink()
        except FileNotFoundError:
            pass


def build_once(path: Path, build: Callable[[Path], None]) -> Path:
    """Return path, made by build(temporary path) if it is not there: once, and renamed into place when complete.

    Other processes wait meanwhile. What build raises is raised, and nothing is left behind.
    """
    claim = Claim(path)
    while not path.exists():
        if not claim.take():
            time.sleep(0.2)
            continue
        try:
            if not path.exists():  # the owner before us may have finished
                with tempfile.TemporaryDirectory(dir=path.parent, prefix=f".{path.name}.") as folder:
                    temporary = Path(folder) / path.name
                    build(temporary)
                    if temporary.is_dir():
                        shutil.copymode(path.parent, temporary)
                    try:
                        os.replace(temporary, path)
                    except OSError:  # a folder is there already: we were thought dead and somebody else built it
                        if not path.exists():
                            raise
        finally:
            claim.release()
    return path

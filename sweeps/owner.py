"""Writing into a run's folder as its owner: once another process has taken the run over, nothing is written any more.

A process that was stopped for long (a suspended machine, a hung disk) may find an heir when it goes on. Its claim is
read before each write. Between that read and the write it may be stopped again, so the writes themselves are such that
they fail, or go nowhere, once there is an heir: the heir removes the temporary files of owners before it reads
anything, so a rename of one fails; and it writes growing files anew under their names, so that rows appended through
an older descriptor land in a file that has none. What remains: to be stopped between the read and the keeping of the
checkpoint before (which only renames the heir's newest to previous.pt), or a TensorBoard event, in a file of its own.
"""

import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from dpft.arguments import writable_folder
from dpft.envs.cache import Claim
from dpft.envs.files import replacing
from dpft.envs.task import DataError


class TakenOver(Exception):
    """Another process thought this one dead and makes the run: nothing may be written any more."""


class Owner:
    """The right to write into a run's folder; held() says whether it is still ours."""

    def __init__(self, folder: Path, held: Callable[[], bool] = lambda: True) -> None:
        self.folder, self.held = folder, held

    def begin(self) -> None:
        """Take away what an earlier owner is about to rename."""
        self.check()
        for temporary in [*self.folder.glob(".*.owned"), *self.folder.glob("checkpoint/.*.owned")]:
            temporary.unlink(missing_ok=True)

    def check(self) -> None:
        """Raises TakenOver where the folder is somebody else's."""
        if not self.held():
            raise TakenOver

    @contextmanager
    def replacing(self, path: Path) -> Iterator[Path]:
        """envs.files.replacing, while the folder is ours."""
        self.check()
        try:
            with replacing(path, self.check) as temporary:
                yield temporary
        except FileNotFoundError:
            self.check()  # an heir removed it
            raise

    def write(self, name: str, text: str) -> None:
        with self.replacing(self.folder / name) as temporary:
            temporary.write_text(text)


@contextmanager
def owning(folder: Path) -> Iterator[Claim | None]:
    """The claim of a run's folder, None where it is another process's; a folder without records is not left behind.

    Raises DataError where nothing can be written there, and where there are other runs.
    """
    others = (run for pattern in ("runs/*", "*") for run in folder.glob(f"{pattern}/config.yaml"))
    if (folder / "runs.json").exists() or any(others):
        raise DataError(f"{folder} holds runs, so it cannot be one: choose another --out, such as {folder / 'NAME'}")
    fresh = not folder.exists()
    writable_folder(folder)
    claim = Claim(folder / "run")
    if not claim.take():
        yield None
        return
    try:
        yield claim
    except DataError:
        if fresh and claim.held() and not (folder / "curve.csv").exists():
            shutil.rmtree(folder, ignore_errors=True)
        raise
    finally:
        claim.release()

"""Files that are there as a whole or not at all, whoever else writes beside us."""

import errno
import os
import secrets
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from dpft.envs.task import DataError

FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EROFS)  # a disk that takes no more


@contextmanager
def replacing(path: Path, check: Callable[[], None] | None = None) -> Iterator[Path]:
    """A temporary file beside path: flushed and renamed to it at the end of the block, removed where that fails.

    check is called just before the rename and raises where path may no longer be written: see sweeps/owner.py.
    """
    # random, as process ids are the same in many containers, and created by us, with the rights that the umask leaves
    temporary = path.with_name(f".{secrets.token_hex(8)}.{'owned' if check else 'tmp'}")
    os.close(os.open(temporary, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o666))
    try:
        yield temporary
        with temporary.open("rb") as file:
            os.fsync(file.fileno())
        if check:
            check()
        os.replace(temporary, path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise


@contextmanager
def full_disk_is_said(folder: Path) -> Iterator[None]:
    """DataError, one line, for a disk or quota that is full or read-only while writing to the folder."""
    try:
        yield
    except OSError as error:
        if error.errno not in FULL:
            raise
        raise DataError(
            f"cannot write to {folder} ({error.strerror}): free some space or make it writable, and give the same "
            "command again; nothing is half-written"
        ) from None

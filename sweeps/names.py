"""Names that become names of files and folders."""

import hashlib
import os
import re

from dpft.envs.task import DataError

LONGEST, CUT = 255, 200  # bytes that a file system takes; that ours are cut to


def path_segment(name: str, what: str) -> str:
    """The name, where it can be a folder's. Raises DataError, one line, where it would be another place or none."""
    # surrogates and line ends are not printable
    if name.isprintable() and name not in ("", ".", "..") and "/" not in name and len(os.fsencode(name)) <= LONGEST:
        return name
    shown = name if len(name) < 60 else f"{name[:50]}…"
    raise DataError(f"{what} {shown!r} cannot name a folder: 1 to {LONGEST} bytes, no /, no control characters, not ..")


def segment(text: str) -> str:
    """A text as a part of a name: what names should not have becomes -, and a short hash keeps apart what that, or
    cutting, would make alike."""
    plain = re.sub(r"[^\w.=+-]+", "-", text)
    cut = os.fsencode(plain)[:CUT].decode(errors="ignore")
    return cut if cut == text else f"{cut}-{hashlib.sha256(text.encode()).hexdigest()[:8]}"

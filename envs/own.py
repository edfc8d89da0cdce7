"""Code of the user's own, which a task or a method names as MODULE:NAME."""

import os
import sys
import traceback
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from types import ModuleType

from dpft.envs.task import DataError, first_line


def import_own(name: str) -> ModuleType:
    """A module that is installed or lies in the current folder. Raises DataError, with the line at fault."""
    if not all(part.isidentifier() for part in name.split(".")):
        raise DataError(f"{name!r} is no module's name")
    try:
        if find_spec(name.partition(".")[0]) is None:
            sys.path.append(os.getcwd())  # processes that are started from here look there, too
        return import_module(name)
    except ModuleNotFoundError as error:
        if error.name and (name == error.name or name.startswith(f"{error.name}.")):
            raise DataError(
                f"no module {name!r} is installed or in {os.getcwd()}: install it, or call dpft from its folder"
            ) from None
        raise DataError(f"cannot import {name}: {said(error)}") from None
    except (Exception, SystemExit) as error:  # whatever somebody's module does
        raise DataError(f"cannot import {name}: {said(error)}") from None


def said(error: BaseException, folder: Path | None = None) -> str:
    """An exception's kind and words, with the file and line where it was raised: of a folder, or of no import."""
    frames = traceback.extract_tb(error.__traceback__)
    inside = [f for f in frames if folder is not None and Path(f.filename).is_relative_to(folder)]
    outside = [f for f in frames if f.filename != __file__ and not f.filename.startswith("<frozen")]
    words = f"{type(error).__name__}: {first_line(error)}"
    if isinstance(error, SyntaxError):
        return f"{error.filename}, line {error.lineno}: {type(error).__name__}: {error.msg}"
    return "".join([*(f"{f.filename}, line {f.lineno}: " for f in (inside or outside)[-1:]), words])

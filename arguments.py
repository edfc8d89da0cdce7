"""What all verbs of the command line read alike: flags, numbers, names and places. A mistake is one line."""

import argparse
import re
import tempfile
from collections.abc import Callable
from decimal import Decimal, InvalidOperation
from pathlib import Path
from typing import Annotated, Any, NoReturn

from pydantic import BeforeValidator, Field, TypeAdapter, ValidationError

from dpft.errors import DataError

LONGEST = 100  # bytes of a name: two of them and a few numbers make the name of a folder, 255 at most


class Parser(argparse.ArgumentParser):
    """A verb's flags, by their whole names. Raises DataError, one line, for what it does not know."""

    def __init__(self, **about: Any) -> None:
        super().__init__(allow_abbrev=False, **about)

    def error(self, message: str) -> NoReturn:
        raise DataError(f"{message.removeprefix('argument ')}; see {self.prog} --help")


def printable(text: str) -> str:
    """Text that a user gave in part: a line break or a terminal's command in it is shown, not obeyed."""
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)


def whole(value: Any) -> Any:
    """1e6 and "1e6" are whole numbers to a person; anything else is left for pydantic to judge."""
    try:
        number = Decimal(str(value))
    except InvalidOperation:
        return value
    return int(number) if number.is_finite() and number.adjusted() < 20 and number % 1 == 0 else value


def typed(kind: Any) -> Callable[[str], Any]:
    """An argparse type: pydantic's judgement of `kind`, in the words that it has for a run's fields."""
    adapter: TypeAdapter[Any] = TypeAdapter(kind)

    def read(text: str) -> Any:
        try:
            return adapter.validate_python(text)
        except ValidationError as error:
            problem = error.errors()[0]
            words = f"{problem['msg'][0].lower()}{problem['msg'][1:]}, got {problem['input']!r}"
            raise argparse.ArgumentTypeError(words) from None

    return read


Whole = Annotated[int, BeforeValidator(whole), Field(strict=True, le=10**15)]
SEED = Field(ge=0, lt=2**32)  # the range that every simulator takes
count = typed(Annotated[Whole, Field(ge=1)])  # steps, episodes, processes
seed_number = typed(Annotated[Whole, SEED])
finite = typed(Annotated[float, Field(allow_inf_nan=False)])
not_negative = typed(Annotated[float, Field(ge=0, allow_inf_nan=False)])
positive = typed(Annotated[float, Field(gt=0, allow_inf_nan=False)])


def plain_name(text: str, others: str = "") -> str:
    """An argparse type: a name that is that of a folder, too, and in no table a formula; `others` may be in it."""
    if not re.fullmatch(rf"\w[\w.=+{others}-]*", text) or len(text.encode()) > LONGEST:
        signs = " ".join(f"._=+-{others}")
        raise argparse.ArgumentTypeError(
            f"expected at most {LONGEST} letters, digits and {signs}, the first a letter or digit, got {text!r}"
        )
    return text


def task_name(text: str) -> str:
    """An argparse type: a name with the signs of Gymnasium's ids."""
    return plain_name(text, ":/")


def place(text: str) -> Path:
    """An argparse type: a file or folder, which need not be there."""
    if not text.strip() or "\0" in text:
        raise argparse.ArgumentTypeError(f"expected a path, got {text!r}")
    return Path(text)


def writable_folder(folder: Path, flag: str = "--out") -> None:
    """Make a folder, or find out before any work that nothing can be written into it. Raises DataError.

    flag is what names another.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder):
            pass
    except OSError as error:
        why = "it is a file" if isinstance(error, FileExistsError) else error.strerror
        raise DataError(f"cannot write into {folder} ({why}): choose another {flag}") from None


def writable_file(path: Path) -> None:
    """The same for a file, which may be there: its folder is made."""
    if path.is_dir():
        raise DataError(f"cannot write {path}: it is a folder; expected the name of a file")
    writable_folder(path.parent)

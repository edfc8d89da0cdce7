"""State files: JSON that dpft wrote about a sweep and its runs. A damaged one is named and passed over."""

import sys
from functools import cache
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import ConfigDict, Field, TypeAdapter, ValidationError
from typing_extensions import TypedDict  # pydantic asks for it before Python 3.12


class Done(TypedDict):
    """done.json, as far as it decides anything; its other facts are kept."""

    __pydantic_config__ = ConfigDict(extra="allow")  # type: ignore[misc]
    status: Literal["done"]


class Failed(TypedDict):
    __pydantic_config__ = ConfigDict(extra="allow")  # type: ignore[misc]
    status: Literal["failed"]
    reason: str


class Attempts(TypedDict):
    """attempts.json: of a run that crashed under a launcher, which tries it so often."""

    tried: Annotated[int, Field(ge=1)]
    of: Annotated[int, Field(ge=1)]


class Frozen(TypedDict):
    """A run in runs.json, as far as launchers read it; `dpft train` judges the rest."""

    __pydantic_config__ = ConfigDict(extra="allow")  # type: ignore[misc]
    task: str
    method: str
    denoising_steps: Annotated[int, Field(ge=1)]
    env_steps: Annotated[int, Field(ge=0)]
    threads: Annotated[int, Field(ge=1)]


DONE: TypeAdapter[Any] = TypeAdapter(Done | Failed)
ATTEMPTS: TypeAdapter[Any] = TypeAdapter(Attempts)
RUNS: TypeAdapter[dict[str, Any]] = TypeAdapter(dict[str, Frozen])


class Damaged(Exception):
    """A state file that is not what dpft writes; the message names it, in one line."""


def read_state(path: Path, kind: TypeAdapter[Any]) -> Any:
    """What a state file says; None where there is none. Raises Damaged."""
    try:
        return kind.validate_json(path.read_bytes())
    except (FileNotFoundError, NotADirectoryError):
        return None
    except (OSError, ValidationError):
        raise Damaged(f"{path.name}: damaged") from None


@cache  # once, however often it is read
def say(line: str) -> None:
    print(line, file=sys.stderr)

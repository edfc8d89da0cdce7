"""One file of a run folder at a time: what is sound in it, and one line for what is not."""

import csv
import json
import math
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import yaml
from pydantic import BaseModel, Field, ValidationError

COLUMNS = [
    "env_steps",
    "wall_seconds",
    "cpu_seconds",
    "return_mean",
    "return_normalised",
    "episodes",
    "training_return",
]  # of curve.csv; others that a task adds are left to whoever knows them
NEEDED = {"env_steps", "return_mean"}  # a row without these is damaged; the others may be empty
LARGEST = 1e100  # no simulator's number: squares and margins of it must stay finite
DEEPEST, MOST_VALUES = 50, 100_000  # of a YAML file
NO_METRICS = pd.DataFrame({"run": pd.Series(dtype=str), "env_steps": pd.Series(dtype=float)})
YAML = getattr(yaml, "CSafeLoader", yaml.SafeLoader)  # safe either way, ten times faster in C
Warnings = list[str]


class RecordError(Exception):
    """There is nothing to draw, or no place to draw it; the message is the one line a user sees."""


class Provenance(BaseModel, strict=True):
    """What is read of where a run comes from; every part may be missing."""

    fine_tunes: str | None = None
    demo_mean_return: float | None = Field(None, ge=-LARGEST, le=LARGEST)
    versions: dict[str, Any] | None = None
    hardware: dict[str, Any] | None = None


class Config(BaseModel, strict=True):
    """The fields of config.yaml that figures need. Imported curves know neither base_seed nor env_steps."""

    task: str
    method: str
    denoising_steps: int | None = Field(ge=1, lt=2**31)
    seed: int = Field(ge=-(2**62), lt=2**62)
    base_seed: int | None = Field(ge=-(2**62), lt=2**62)
    from_scratch: bool
    env_steps: int | None
    eval_episodes: int | None
    provenance: Provenance | None = None


def read_config(path: Path, warnings: Warnings) -> dict[str, Any] | None:
    """The fields of a run's config.yaml; None, with a warning, where it is damaged."""
    config = read_yaml(path, warnings)
    if config is None:
        return None
    try:
        Config.model_validate(config)
    except ValidationError as error:
        missing = [str(fault["loc"][0]) for fault in error.errors() if fault["type"] == "missing"]
        first = error.errors()[0]
        field, value = ".".join(map(str, first["loc"])), str(first["input"])[:40]
        why = f"{', '.join(missing)} missing" if missing else f"{field} is {value!r}: {first['msg'].lower()}"
        warnings.append(f"{path}: {why}; run left out")
        return None
    return config


def read_yaml(path: Path, warnings: Warnings) -> dict[str, Any] | None:
    """The mapping in a YAML file; None, with a warning, where there is none."""
    try:
        data = yaml.load(path.read_text(), Loader=YAML)
        if _unwieldy(data):
            raise ValueError(f"more than {DEEPEST} levels or {MOST_VALUES:,} values")
    except FileNotFoundError:
        warnings.append(f"{path}: missing; run left out")
    except (OSError, ValueError, RecursionError, yaml.YAMLError) as error:  # ValueError: no text, no such date
        warnings.append(f"{path}: unreadable ({(str(error).splitlines() or [repr(error)])[0]})")
    else:
        if isinstance(data, dict):
            return data
        warnings.append(f"{path}: {'empty' if data is None else 'not a list of fields and values'}")
    return None


def _unwieldy(data: Any) -> bool:
    """Whether data is deeper or larger than a config, aliases followed: a few lines can stand for a billion values."""
    left, seen = [(data, 0)], 0
    while left:
        value, depth = left.pop()
        seen += 1
        if depth > DEEPEST or seen > MOST_VALUES:
            return True
        inner = value.values() if isinstance(value, dict) else value if isinstance(value, list) else ()
        left += [(each, depth + 1) for each in inner]
    return False


def read_json(path: Path, warnings: Warnings) -> dict[str, Any]:
    """The mapping in a JSON file that a sweep may do without: empty where it is missing, with a warning if damaged."""
    if not path.exists():
        return {}
    try:
        data = json.loads(path.read_text())
        if isinstance(data, dict):
            return data
        raise ValueError("not a list of names")
    except (OSError, ValueError, RecursionError) as error:
        warnings.append(f"{path}: unreadable ({error})")
    return {}


def flat(value: Any, name: str = "") -> Iterator[tuple[str, Any]]:
    """Fields of a config by dotted names, their values as text."""
    if isinstance(value, dict):
        for key, inner in value.items():
            yield from flat(inner, f"{name}.{key}" if name else str(key))
    else:
        yield name, str(value)


def read_fate(folder: Path, last_step: float, warnings: Warnings) -> tuple[str, str]:
    """Status and reason: done.json is written last, error.txt by a crash; neither means that the run goes on.

    A run whose curve ends before the run did has no final return, so it is unfinished, whatever done.json says.
    """
    try:
        done = json.loads((folder / "done.json").read_text())
        status, reason, steps = done["status"], str(done.get("reason") or ""), done["env_steps"]
        if status == "failed" or (status == "done" and last_step >= steps):
            return status, reason
        if status == "done":
            warnings.append(f"{folder / 'curve.csv'}: does not reach the run's end at step {steps}; not in the means")
            return "unfinished", ""
        raise ValueError("unknown status")
    except FileNotFoundError:
        if (folder / "error.txt").exists():
            return "failed", f"crashed: {_last_line(folder / 'error.txt')}"
    except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError):
        warnings.append(f"{folder / 'done.json'}: damaged; expected status, reason and env_steps; taken as unfinished")
    return "unfinished", ""


def _last_line(path: Path) -> str:
    try:
        lines = path.read_text(errors="replace").strip().splitlines()
    except OSError as error:
        return f"{path.name} is unreadable ({error.strerror})"
    return lines[-1] if lines else "no traceback"


def read_curve(path: Path, warnings: Warnings) -> list[dict[str, float]]:
    """The sound rows of a curve, up to the first damaged one; columns that are not in COLUMNS are passed over."""
    try:
        lines = list(csv.reader(path.read_text().splitlines()))
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        why = "missing" if isinstance(error, FileNotFoundError) else f"unreadable ({error})"
        warnings.append(f"{path}: {why}; run has no curve")
        return []
    head = lines[0] if lines else []
    if not set(COLUMNS) <= set(head) or len(set(head)) < len(head):
        warnings.append(f"{path}: {'not the expected columns' if lines else 'empty'}; expected {','.join(COLUMNS)}")
        return []
    curve: list[dict[str, float]] = []
    for number, cells in enumerate(lines[1:], start=2):
        try:
            row = dict(zip(head, cells, strict=True))
            point = {name: _number(name, row[name]) for name in COLUMNS}
            if curve and point["env_steps"] <= curve[-1]["env_steps"]:
                raise ValueError("env_steps do not grow")
        except ValueError as error:
            left = f"; {len(lines) - number + 1} of {len(lines) - 1} rows left out"
            warnings.append(f"{path}, line {number}: {str(error).removeprefix('zip() ')}{left}")
            break
        curve.append(point)
    if not curve:
        warnings.append(f"{path}: no evaluation in it yet")
    elif curve[0]["env_steps"] != 0:
        warnings.append(f"{path}: no row at 0 env_steps, so the base's score is unknown")
    return curve


def _number(name: str, cell: str) -> float:
    number = float(cell) if cell else math.nan
    if name in NEEDED and not abs(number) < LARGEST:
        raise ValueError(f"{name} is {cell or 'empty'!r}")
    if name == "env_steps" and number < 0:
        raise ValueError(f"env_steps is {cell!r}")
    return number if abs(number) < LARGEST else math.nan


def read_metrics(path: Path, warnings: Warnings) -> pd.DataFrame:
    """The rows of metrics.csv up to the first damaged one; what is infinite is not known."""
    try:
        table = pd.read_csv(path)
        if "env_steps" not in table or not table.columns.is_unique:
            raise ValueError("not the expected columns")
    except (OSError, ValueError) as error:  # of pandas' parser, too
        why = "missing" if isinstance(error, FileNotFoundError) else str(error).splitlines()[0]
        warnings.append(f"{path}: {why}; run has no diagnostics")
        return NO_METRICS
    numbers = table.apply(pd.to_numeric, errors="coerce").astype(float)
    # an empty cell is a metric that this row has none of, but every row ends with a number
    sound = ~(numbers.isna() & table.notna()).any(axis=1) & numbers.iloc[:, -1].notna()
    kept = len(table) if sound.all() else int(sound.argmin())
    if kept < len(table):
        warnings.append(f"{path}, line {kept + 2}: incomplete; {len(table) - kept} of {len(table)} rows left out")
    return numbers.where(numbers.abs() < LARGEST).head(kept)


def read_chains(folder: Path) -> tuple[np.ndarray, np.ndarray]:
    """The chains of 64 observations before and after training, each [64, S + 1, H, A] in normalised action units.

    Raises RecordError, one line, where chains.npz is missing or damaged.
    """
    path = folder / "chains.npz"
    try:
        with np.load(path) as arrays:
            before, after = (arrays[name].astype(float) for name in ("chain_before", "chain_after"))
        if before.ndim != 4 or before.shape != after.shape or not len(before):
            raise ValueError(f"chains of shapes {before.shape} and {after.shape}; expected [n, S + 1, H, A] twice")
        if not (np.isfinite(before).all() and np.isfinite(after).all()):
            raise ValueError("chains that are not finite")
    except (OSError, ValueError, KeyError, EOFError, TypeError, AttributeError, zipfile.BadZipFile) as error:
        why = "missing" if isinstance(error, FileNotFoundError) else (str(error).splitlines() or [repr(error)])[0]
        raise RecordError(f"{path}: {why}; expected chain_before and chain_after") from None
    return before, after

"""Run folders -> tables: curve, metrics and fate of every run, and one line for each record that cannot be used."""

import csv
import difflib
import json
import math
import zipfile
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import yaml

COLUMNS = [
    "env_steps",
    "wall_seconds",
    "cpu_seconds",
    "return_mean",
    "return_normalised",
    "episodes",
    "training_return",
]
NEEDED = {"env_steps", "return_mean"}  # a row without these is damaged; the others may be empty
REQUIRED = ("task", "method", "denoising_steps", "seed", "base_seed", "from_scratch", "env_steps", "eval_episodes")
# fields in which runs may differ and still be averaged as seeds of one experiment
SAME_EXPERIMENT = {"seed", "base_seed", "denoising_steps", "device", "threads", "eval_every", "provenance"}
EXPERIMENT = ["task", "denoising_steps", "method", "from_scratch", "variant"]  # rows that agree here are seeds
NAMES = {
    "ncdpo": "NCDPO",
    "dppo": "DPPO",
    "dsrl-na": "DSRL-NA",
    "dsrl-sac": "DSRL-SAC",
    "gaussian-ppo": "Gaussian PPO",
}  # other methods go by the name they are registered under
NO_METRICS = pd.DataFrame({"run": pd.Series(dtype=str), "env_steps": pd.Series(dtype=float)})
YAML = getattr(yaml, "CSafeLoader", yaml.SafeLoader)  # safe either way, ten times faster in C


class RecordError(Exception):
    """There is nothing to draw; the message is the one line a user sees."""


@dataclass(frozen=True)
class Records:
    """What was found in run folders.

    runs has one row per run: sweep, run, task, method, denoising_steps (K, missing where the policy has no chain),
    seed, base_seed, from_scratch, variant (other settings that differ between runs of this method, as text),
    planned_steps, eval_episodes, status (done, failed or unfinished) and reason (of a failure).
    value is the ablated field's, as text.
    curves has one row per evaluation: those columns of its run, and COLUMNS (steps, seconds, returns).
    metrics has one row per row of metrics.csv: run, and that file's columns.
    configs has every run's config.yaml; captions are those of the sweeps' grid.yaml; warnings has one line per record
    that is missing or damaged.
    """

    curves: pd.DataFrame
    runs: pd.DataFrame
    metrics: pd.DataFrame
    configs: dict[str, dict[str, Any]]
    captions: list[str]
    warnings: list[str]

    def select(self, runs: pd.DataFrame) -> "Records":
        """The records of some of the runs."""
        curves, metrics = (table[table["run"].isin(runs["run"])] for table in (self.curves, self.metrics))
        return replace(self, curves=curves, runs=runs, metrics=metrics)

    def experiments(self) -> Iterator[tuple[dict[str, Any], "Records"]]:
        """What is averaged over seeds: its EXPERIMENT columns as a dict, and its own runs and curves."""
        for key, runs in self.runs.groupby(EXPERIMENT, sort=True, dropna=False):
            yield dict(zip(EXPERIMENT, key, strict=True)), self.select(runs)


def experiment_name(experiment: dict[str, Any]) -> str:
    """The method, and in what it differs from others of the same method, e.g. "NCDPO, from scratch, clip=0.1"."""
    scratch = "from scratch" if experiment["from_scratch"] else ""
    method = NAMES.get(experiment["method"], experiment["method"])
    return ", ".join(filter(None, (method, scratch, experiment["variant"])))


@dataclass
class _Run:
    row: dict[str, Any]
    config: dict[str, Any]
    settings: dict[str, Any]  # the config, flat, without SAME_EXPERIMENT and the ablated field
    curve: list[dict[str, float]] = field(default_factory=list)


def load(paths: Sequence[Path], ablate: str | None = None) -> Records:
    """Read sweep folders (runs/NAME, results/NAME) or single run folders into one set of records.

    ablate names a config field, dotted or by its last part, whose values are compared. Raises RecordError where a
    path has no runs, no run has an evaluation, or no run has the field.
    """
    warnings: list[str] = []
    sweeps = {path: _sweep_folder(path) for path in paths}
    read = [_read_run(folder, sweeps[path], warnings) for path in paths for folder in run_folders(path)]
    found = [run for run in read if run is not None]
    if ablate:
        _take_out(ablate, found)
    _name_variants(found)
    found = list(_without_repeats(found, warnings))
    rows = [run.row | point for run in found for point in run.curve]
    if not rows:
        fault = f" ({warnings[0]})" if warnings else ""
        raise RecordError(
            f"nothing to draw in {', '.join(map(str, paths))}: no run has an evaluation in curve.csv{fault}"
        )
    runs = pd.DataFrame([run.row for run in found])
    curves = pd.DataFrame(rows).drop(columns=["reason", "planned_steps"])
    for table in (runs, curves):
        table["denoising_steps"] = table["denoising_steps"].astype("Int64")
    metrics = pd.concat([NO_METRICS, *filter(len, (_read_metrics(run, warnings) for run in found))], ignore_index=True)
    captions = [text for path in dict.fromkeys(sweeps.values()) if (text := _caption(path, warnings))]
    configs = {run.row["run"]: run.config for run in found}
    return Records(curves, runs, metrics, configs, captions, warnings)


def run_folders(path: Path) -> list[Path]:
    """The run folders at a path: itself, or those of the sweep. Raises RecordError where there are none."""
    if not path.is_dir():
        raise RecordError(f"{path}: there is no such folder; expected a sweep (runs/NAME, results/NAME) or one run")
    if (path / "config.yaml").exists():
        return [path]
    parent = path / "runs" if (path / "runs").is_dir() else path
    folders = sorted(child for child in parent.iterdir() if child.is_dir() and not child.name.startswith("."))
    if parent == path:  # a folder of single runs; a sweep's own folders are all meant to be runs
        folders = [folder for folder in folders if (folder / "config.yaml").exists()]
    if not folders:
        raise RecordError(f"{path}: no runs in it; expected runs/RUN/config.yaml (a sweep) or config.yaml (one run)")
    return folders


def _sweep_folder(path: Path) -> Path:
    """The folder with grid.yaml, for a sweep and for one of its runs; a run on its own is its own sweep."""
    path = path.resolve()
    sweep = path.parent.parent
    return sweep if (path / "config.yaml").exists() and (sweep / "grid.yaml").exists() else path


def _caption(sweep: Path, warnings: list[str]) -> str:
    grid = _yaml(sweep / "grid.yaml", warnings) if (sweep / "grid.yaml").exists() else None
    return str((grid or {}).get("caption") or "")


def _read_run(folder: Path, sweep: Path, warnings: list[str]) -> _Run | None:
    config = _yaml(folder / "config.yaml", warnings)
    if config is None:
        return None
    missing = [name for name in REQUIRED if name not in config]
    if missing:
        warnings.append(f"{folder / 'config.yaml'}: {', '.join(missing)} missing; run left out")
        return None
    curve = _read_curve(folder / "curve.csv", warnings)
    status, reason = _fate(folder, curve[-1]["env_steps"] if curve else -1, warnings)
    chain = (config.get("provenance") or {}).get("fine_tunes") != "gaussian"
    row = {
        "sweep": sweep.name,
        "run": str(folder),
        **{name: config[name] for name in ("task", "method", "seed", "base_seed", "from_scratch", "eval_episodes")},
        "denoising_steps": config["denoising_steps"] if chain else None,
        "planned_steps": config["env_steps"],
        "variant": "",
        "value": "",
        "status": status,
        "reason": reason,
    }
    settings = dict(flat({name: value for name, value in config.items() if name not in SAME_EXPERIMENT}))
    return _Run(row, config, settings, curve)


def _yaml(path: Path, warnings: list[str]) -> dict[str, Any] | None:
    try:
        data = yaml.load(path.read_text(), Loader=YAML)
    except FileNotFoundError:
        warnings.append(f"{path}: missing; run left out")
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        warnings.append(f"{path}: unreadable ({str(error).splitlines()[0]})")
    else:
        if isinstance(data, dict):
            return data
        warnings.append(f"{path}: {'empty' if data is None else 'not a list of fields and values'}")
    return None


def flat(value: Any, name: str = "") -> Iterator[tuple[str, Any]]:
    """Fields of a config by dotted names, their values as text."""
    if isinstance(value, dict):
        for key, inner in value.items():
            yield from flat(inner, f"{name}.{key}" if name else str(key))
    else:
        yield name, str(value)


def _fate(folder: Path, last_step: float, warnings: list[str]) -> tuple[str, str]:
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
            lines = (folder / "error.txt").read_text(errors="replace").strip().splitlines()
            return "failed", f"crashed: {lines[-1] if lines else 'no traceback'}"
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        warnings.append(f"{folder / 'done.json'}: damaged; expected status, reason and env_steps; taken as unfinished")
    return "unfinished", ""


def _read_curve(path: Path, warnings: list[str]) -> list[dict[str, float]]:
    """The sound rows of a curve, up to the first damaged one."""
    try:
        lines = list(csv.reader(path.read_text().splitlines()))
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        why = "missing" if isinstance(error, FileNotFoundError) else f"unreadable ({error})"
        warnings.append(f"{path}: {why}; run has no curve")
        return []
    if not lines or lines[0] != COLUMNS:
        warnings.append(f"{path}: {'not the expected columns' if lines else 'empty'}; expected {','.join(COLUMNS)}")
        return []
    curve: list[dict[str, float]] = []
    for number, cells in enumerate(lines[1:], start=2):
        try:
            point = {name: _number(name, cell) for name, cell in zip(COLUMNS, cells, strict=True)}
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
    if not cell and name not in NEEDED:
        return math.nan
    number = float(cell) if cell else math.nan
    if name in NEEDED and not math.isfinite(number):
        raise ValueError(f"{name} is {cell or 'empty'!r}")
    return number


def _read_metrics(run: _Run, warnings: list[str]) -> pd.DataFrame:
    """The rows of metrics.csv up to the first damaged one; a run that made no step has none."""
    path = Path(run.row["run"]) / "metrics.csv"
    if not run.curve or run.curve[-1]["env_steps"] == 0 or "imported_from" in (run.config.get("provenance") or {}):
        return NO_METRICS
    try:
        table = pd.read_csv(path)
        if "env_steps" not in table:
            raise ValueError("not the expected columns")
    except (OSError, ValueError) as error:  # of pandas' parser, too
        why = "missing" if isinstance(error, FileNotFoundError) else str(error).splitlines()[0]
        warnings.append(f"{path}: {why}; run has no diagnostics")
        return NO_METRICS
    numbers = table.apply(pd.to_numeric, errors="coerce")
    # an empty cell is a metric that this row has none of, but every row ends with a number
    sound = ~(numbers.isna() & table.notna()).any(axis=1) & numbers.iloc[:, -1].notna()
    kept = len(table) if sound.all() else int(sound.argmin())
    if kept < len(table):
        warnings.append(f"{path}, line {kept + 2}: incomplete; {len(table) - kept} of {len(table)} rows left out")
    return numbers.head(kept).assign(run=run.row["run"])


def read_chains(folder: Path) -> tuple[np.ndarray, np.ndarray]:
    """The chains of 64 observations before and after training, each [64, S + 1, H, A] in normalised action units.

    Raises RecordError, one line, where chains.npz is missing or damaged.
    """
    path = folder / "chains.npz"
    try:
        with np.load(path) as arrays:
            before, after = arrays["chain_before"], arrays["chain_after"]
        if before.ndim != 4 or before.shape != after.shape:
            raise ValueError(f"chains of shapes {before.shape} and {after.shape}; expected [n, S + 1, H, A] twice")
    except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile) as error:
        why = "missing" if isinstance(error, FileNotFoundError) else str(error).splitlines()[0]
        raise RecordError(f"{path}: {why}; expected chain_before and chain_after") from None
    return before, after


def _take_out(field_name: str, found: list[_Run]) -> None:
    """Move the ablated field from what tells experiments apart to the runs' value."""
    fields = dict.fromkeys(name for run in found for name, _ in flat(run.config) if not name.startswith("provenance."))
    matches = [name for name in fields if name == field_name] or [
        name for name in fields if name.rpartition(".")[2] == field_name
    ]
    if len(matches) != 1:
        near = matches or difflib.get_close_matches(field_name, [*fields, *(n.rpartition(".")[2] for n in fields)], 3)
        hint = f"did you mean {' or '.join(near)}?" if near else f"there are {', '.join(fields)}"
        raise RecordError(f"no single config field {field_name!r} in these runs: {hint}")
    for run in found:
        run.row["value"] = dict(flat(run.config)).get(matches[0], "")
        run.settings.pop(matches[0], None)
        if matches[0] == "denoising_steps":
            run.row["denoising_steps"] = None


def ordered(values: Iterable[str]) -> list[str]:
    """An ablated field's values, numbers by size before other text."""

    def key(value: str) -> tuple[bool, float, str]:
        try:
            return False, float(value), value
        except ValueError:
            return True, 0.0, value

    return sorted(values, key=key)


def _name_variants(found: list[_Run]) -> None:
    """Name the settings in which runs of one task, method and K differ beyond their seed, so that none are mixed."""
    alike: dict[tuple, list[_Run]] = {}
    for run in found:
        alike.setdefault((run.row["task"], run.row["method"], run.row["denoising_steps"]), []).append(run)
    for runs in alike.values():
        names = {name: None for run in runs for name in run.settings}
        varied = [name for name in names if name != "from_scratch" and len({r.settings.get(name) for r in runs}) > 1]
        for run in runs:
            run.row["variant"] = ", ".join(f"{name.split('.')[-1]}={run.settings.get(name, '?')}" for name in varied)


def _without_repeats(found: Iterable[_Run], warnings: list[str]) -> Iterator[_Run]:
    """Of runs with the same config and seed, the first: the second holds the same numbers and is no new evidence."""
    seen: dict[tuple, str] = {}
    for run in found:
        key = tuple(run.row[name] for name in (*EXPERIMENT, "value", "seed", "base_seed"))
        if key in seen:
            warnings.append(f"{run.row['run']}: the same config and seed as {seen[key]}; left out")
        else:
            seen[key] = run.row["run"]
            yield run

"""Run folders -> tables: the curve and the fate of every run, and one line for each record that cannot be used."""

import csv
import json
import math
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

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
NEEDED = {"env_steps", "wall_seconds", "return_mean"}  # a row without these is damaged; the others may be empty
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
YAML = getattr(yaml, "CSafeLoader", yaml.SafeLoader)  # safe either way, ten times faster in C


class RecordError(Exception):
    """There is nothing to draw; the message is the one line a user sees."""


@dataclass(frozen=True)
class Records:
    """What was found in run folders.

    runs has one row per run: sweep, run, task, method, denoising_steps (K, missing where the policy has no chain),
    seed, base_seed, from_scratch, variant (other settings that differ between runs of this method, as text),
    planned_steps, eval_episodes, status (done, failed or unfinished) and reason (of a failure).
    curves has one row per evaluation: those columns of its run, and COLUMNS (steps, seconds, returns).
    captions are those of the sweeps' grid.yaml; warnings has one line per record that is missing or damaged.
    """

    curves: pd.DataFrame
    runs: pd.DataFrame
    captions: list[str]
    warnings: list[str]

    def experiments(self) -> Iterator[tuple[dict[str, Any], "Records"]]:
        """What is averaged over seeds: its EXPERIMENT columns as a dict, and its own runs and curves."""
        for key, runs in self.runs.groupby(EXPERIMENT, sort=True, dropna=False):
            curves = self.curves[self.curves["run"].isin(runs["run"])]
            yield dict(zip(EXPERIMENT, key, strict=True)), Records(curves, runs, self.captions, self.warnings)


def experiment_name(experiment: dict[str, Any]) -> str:
    """The method, and in what it differs from others of the same method, e.g. "NCDPO, from scratch, clip=0.1"."""
    scratch = "from scratch" if experiment["from_scratch"] else ""
    method = NAMES.get(experiment["method"], experiment["method"])
    return ", ".join(filter(None, (method, scratch, experiment["variant"])))


@dataclass
class _Run:
    row: dict[str, Any]
    settings: dict[str, Any]  # the config, flat, without SAME_EXPERIMENT
    curve: list[dict[str, float]] = field(default_factory=list)


def load(paths: Sequence[Path]) -> Records:
    """Read sweep folders (runs/NAME, results/NAME) or single run folders into one set of records.

    Raises RecordError where a path has no runs, or no run has an evaluation.
    """
    warnings: list[str] = []
    sweeps = {path: _sweep_folder(path) for path in paths}
    read = [_read_run(folder, sweeps[path], warnings) for path in paths for folder in run_folders(path)]
    found = [run for run in read if run is not None]
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
    captions = [text for path in dict.fromkeys(sweeps.values()) if (text := _caption(path, warnings))]
    return Records(curves, runs, captions, warnings)


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
        "status": status,
        "reason": reason,
    }
    settings = dict(_flat({name: value for name, value in config.items() if name not in SAME_EXPERIMENT}))
    return _Run(row, settings, curve)


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


def _flat(value: Any, name: str = "") -> Iterator[tuple[str, Any]]:
    if isinstance(value, dict):
        for key, inner in value.items():
            yield from _flat(inner, f"{name}.{key}" if name else str(key))
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
        key = tuple(run.row[name] for name in (*EXPERIMENT, "seed", "base_seed"))
        if key in seen:
            warnings.append(f"{run.row['run']}: the same config and seed as {seen[key]}; left out")
        else:
            seen[key] = run.row["run"]
            yield run

"""Run folders -> tables: curve, metrics and fate of every run, and one line for each record that cannot be used."""

import difflib
import os
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import pandas as pd

from dpft.analysis.names import natural, one_line, rank
from dpft.analysis.reading import (
    NO_METRICS,
    RecordError,
    flat,
    read_config,
    read_curve,
    read_fate,
    read_metrics,
    read_yaml,
)

# fields in which runs may differ and still be averaged as seeds of one experiment
SAME_EXPERIMENT = {"seed", "base_seed", "denoising_steps", "device", "threads", "eval_every", "provenance"}
EXPERIMENT = ["task", "denoising_steps", "method", "from_scratch", "variant"]  # rows that agree here are seeds


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
        """What is averaged over seeds: its EXPERIMENT columns as a dict, and its own runs and curves, in one order."""
        groups = [
            (dict(zip(EXPERIMENT, key, strict=True)), runs)
            for key, runs in self.runs.groupby(EXPERIMENT, sort=False, dropna=False)
        ]
        for experiment, runs in sorted(groups, key=lambda group: _place(group[0])):
            yield experiment, self.select(runs)


def _place(experiment: dict[str, Any]) -> tuple:
    """By task, then methods in the suite's order, then their variants, then K."""
    k = experiment["denoising_steps"]
    own = rank(experiment["method"]), experiment["from_scratch"], natural(experiment["variant"])
    return natural(experiment["task"]), *own, 0 if pd.isna(k) else int(k)


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
    folders = {path: run_folders(path) for path in paths}
    sweeps = {path: _sweep_folder(path) for path in paths}
    read = [_read_run(folder, sweeps[path], warnings) for path in paths for folder in folders[path]]
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
    metrics = pd.concat([NO_METRICS, *filter(len, (_metrics(run, warnings) for run in found))], ignore_index=True)
    captions = [text for path in dict.fromkeys(sweeps.values()) if (text := _caption(path, warnings))]
    configs = {run.row["run"]: run.config for run in found}
    return Records(curves, runs, metrics, configs, captions, list(map(one_line, warnings)))


def run_folders(path: Path) -> list[Path]:
    """The run folders at a path: itself, or those of the sweep. Raises RecordError where there are none."""
    if not os.path.isdir(path):  # of a name that no file can have, pathlib would raise
        fault = "that is a file" if os.path.exists(path) else "there is no such folder"
        raise RecordError(f"{path}: {fault}; expected a sweep (runs/NAME, results/NAME) or the folder of one run")
    if (path / "config.yaml").exists():
        return [path]
    parent = path / "runs" if (path / "runs").is_dir() else path
    try:
        folders = sorted(child for child in parent.iterdir() if child.is_dir() and not child.name.startswith("."))
    except OSError as error:
        raise RecordError(f"{parent}: cannot be read ({error.strerror})") from None
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
    grid = read_yaml(sweep / "grid.yaml", warnings) if (sweep / "grid.yaml").exists() else None
    return one_line((grid or {}).get("caption") or "")


def _metrics(run: _Run, warnings: list[str]) -> pd.DataFrame:
    """A run's metrics; one that made no step, or comes from elsewhere, has none."""
    if not run.curve or run.curve[-1]["env_steps"] == 0 or "imported_from" in (run.config.get("provenance") or {}):
        return NO_METRICS
    return read_metrics(Path(run.row["run"]) / "metrics.csv", warnings).assign(run=run.row["run"])


def _read_run(folder: Path, sweep: Path, warnings: list[str]) -> _Run | None:
    config = read_config(folder / "config.yaml", warnings)
    if config is None:
        return None
    curve = read_curve(folder / "curve.csv", warnings)
    status, reason = read_fate(folder, curve[-1]["env_steps"] if curve else -1, warnings)
    chain = (config.get("provenance") or {}).get("fine_tunes") != "gaussian"
    row = {
        "sweep": one_line(sweep.name),
        "run": str(folder),
        **{name: one_line(config[name]) for name in ("task", "method")},
        **{name: config[name] for name in ("seed", "base_seed", "from_scratch", "eval_episodes")},
        "denoising_steps": config["denoising_steps"] if chain else None,
        "planned_steps": config["env_steps"],
        "variant": "",
        "value": "",
        "status": status,
        "reason": one_line(reason),
    }
    settings = dict(flat({name: value for name, value in config.items() if name not in SAME_EXPERIMENT}))
    return _Run(row, config, settings, curve)


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
        run.row["value"] = one_line(dict(flat(run.config)).get(matches[0], ""))
        run.settings.pop(matches[0], None)
        if matches[0] == "denoising_steps":
            run.row["denoising_steps"] = None


def _name_variants(found: list[_Run]) -> None:
    """Name the settings in which runs of one task, method and K differ beyond their seed, so that none are mixed."""
    alike: dict[tuple, list[_Run]] = {}
    for run in found:
        alike.setdefault((run.row["task"], run.row["method"], run.row["denoising_steps"]), []).append(run)
    for runs in alike.values():
        names = {name: None for run in runs for name in run.settings}
        varied = [name for name in names if name != "from_scratch" and len({r.settings.get(name) for r in runs}) > 1]
        for run in runs:
            texts = (f"{name.split('.')[-1]}={run.settings.get(name, '?')}" for name in varied)
            run.row["variant"] = one_line(", ".join(texts))


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

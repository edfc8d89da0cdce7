"""A grid of runs: a YAML file whose lists are axes."""

import difflib
import itertools
import math
from dataclasses import dataclass
from functools import reduce
from pathlib import Path
from shlex import quote
from typing import Any, get_args, get_origin

from pydantic import BaseModel

from dpft.envs.task import DataError
from dpft.sweeps.config import RunConfig, absolute, complete, config_model, nested, no_update, parse_config
from dpft.sweeps.listing import grid_files
from dpft.sweeps.names import path_segment, segment
from dpft.sweeps.state_file import say
from dpft.sweeps.yaml_file import read_yaml

LIMIT = 1_000_000  # runs
META = ("name", "caption", "overrides", "tune")
NAMED = ("task", "method", "denoising_steps", "seed")  # always part of a run's id


@dataclass(frozen=True)
class Grid:
    name: str
    caption: str
    text: str  # the file, kept with the sweep
    runs: dict[str, RunConfig]  # run id -> config
    data: dict[str, Any]  # the file, parsed


def load_grid(name: str, tuned: bool = False) -> Grid:
    """A grid by path or by the name of one that comes with the suite, with a `tune` section or without; every run is
    validated.

    Raises DataError naming the file, the run and the key.
    """
    path = grid_files().get(name, Path(name))
    if (path / "runs.json").exists():
        raise DataError(f"{name} is a sweep's folder, no grid: dpft resume {quote(name)}")
    if not path.exists():
        raise DataError(f"no grid {name!r}: give a YAML file, or one of {', '.join(grid_files())}")
    data = read_yaml(path)
    try:
        runs = expand(data)
        title, caption = words(data, "name", path.stem), words(data, "caption", "")
        path_segment(title, "name")
    except DataError as error:
        raise DataError(f"grid {path}: {error}") from None
    if tuned != ("tune" in data):
        why = "it has no tune section; see dpft tune --help" if tuned else f"it is a search: dpft tune {quote(name)}"
        raise DataError(f"grid {path}: {why}")
    return Grid(title, caption, path.read_text(), runs, data)


def words(data: dict, field: str, default: str) -> str:
    """A field that is text, such as the grid's name. Raises DataError."""
    value = data.get(field, default)
    if not isinstance(value, str | int | float) or isinstance(value, bool):
        raise DataError(f"{field} must be text, got {value!r}")
    return str(value)


def expand(data: Any) -> dict[str, RunConfig]:
    """Every run of a grid's data. Raises DataError for data that are no grid and for the first run that is wrong."""
    if not isinstance(data, dict) or not data:
        raise DataError("there are no fields in it: it needs those of a run, lists being axes (see dpft sweep --help)")
    for key in map(str, data):
        if key.split(".")[0] not in (*META, *RunConfig.model_fields):
            near = difflib.get_close_matches(key, [*META, *RunConfig.model_fields], 1)
            raise DataError(
                f"unknown field {key}: " + (f"did you mean {near[0]}?" if near else "see dpft train --help")
            )
    overrides = data.get("overrides") or {}
    if not isinstance(overrides, dict) or not all(isinstance(value, dict) for value in overrides.values()):
        raise DataError("overrides must map a method to fields and values")
    fields = dotted({key: value for key, value in data.items() if key not in META})
    asked = fields.get("method", RunConfig.model_fields["method"].default)
    methods = [str(method) for method in (asked if isinstance(asked, list) else [asked])]
    strangers = set(overrides) - set(methods)
    if strangers:
        raise DataError(f"overrides for {', '.join(map(str, strangers))}, which is not among its methods")
    # an override replaces a field of its method, axis or not
    parts = [fields | {"method": method} | dotted(overrides.get(method, {})) for method in methods]
    axes = [axes_of(part) for part in parts]
    count = sum(math.prod(map(len, axis.values())) for axis in axes)
    if count > LIMIT:
        raise DataError(f"{count:,} runs are more than {LIMIT:,}: split it")
    if count == 0:
        raise DataError("an axis is an empty list, so there is no run")
    runs: dict[str, RunConfig] = {}
    for part, axis in zip(parts, axes, strict=True):
        varied = [key for key in axis if key not in NAMED]
        for point in itertools.product(*axis.values()):
            values = part | dict(zip(axis, point, strict=True))
            try:
                config = parse_config(nested(values))
                few = no_update(complete(config))
            except DataError as error:
                where = ", ".join(f"{key} {values[key]}" for key in dict.fromkeys((*NAMED, *axis)) if key in values)
                raise DataError(f"run with {where}: {error}") from None
            if few:
                say(f"{config.method}: {few}")
            name = run_id(config, varied)
            if name in runs:
                raise DataError(f"two runs are both {name}: an axis repeats a value")
            runs[name] = absolute(config)  # its own name is of the path as it was typed
    return runs


def run_id(config: RunConfig, varied: list[str]) -> str:
    """hopper-medium_ncdpo_K5_seed0, and every other varied field as _field=value."""
    parts = [segment(config.task), config.method, f"K{config.denoising_steps}", f"seed{config.seed}"]
    for key in varied:
        value = reduce(getattr, key.split("."), config)
        text = "-".join(map(str, value)) if isinstance(value, tuple) else str(value)
        parts.append(f"{key.split('.')[-1]}={segment(text)}")
    return segment("_".join(parts))


def axes_of(fields: dict[str, Any]) -> dict[str, list]:
    """The lists among a method's fields; where a list is one value of a field, only a list of lists is an axis."""
    model = config_model(fields["method"])
    return {
        key: value
        for key, value in fields.items()
        if isinstance(value, list) and (any(isinstance(item, list) for item in value) or not _takes_list(model, key))
    }


def _takes_list(model: type[BaseModel], key: str) -> bool:
    *parents, last = key.split(".")
    for parent in parents:
        inner = model.model_fields[parent].annotation if parent in model.model_fields else None
        if not (isinstance(inner, type) and issubclass(inner, BaseModel)):
            return False  # parse_config says what is wrong with the name
        model = inner
    return last in model.model_fields and _is_list(model.model_fields[last].annotation)


def _is_list(kind: Any) -> bool:
    return get_origin(kind) is tuple or any(map(_is_list, get_args(kind)))


def dotted(tree: dict[str, Any], prefix: str = "") -> dict[str, Any]:
    flat: dict[str, Any] = {}
    for key, value in tree.items():
        more = dotted(value, f"{prefix}{key}.") if isinstance(value, dict) else {f"{prefix}{key}": value}
        twice = flat.keys() & more.keys()
        if twice:
            raise DataError(f"{min(twice)} is given twice")
        flat |= more
    return flat

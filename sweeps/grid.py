"""A grid of runs: a YAML file whose lists are axes."""

import itertools
import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from envs.task import DataError
from sweeps.config import RunConfig, parse_config
from sweeps.listing import grid_files

LIMIT = 1_000_000  # runs
META = ("name", "caption", "overrides")
# list-valued fields: a list of numbers is one value of theirs, a list of lists is an axis
LISTS = ("policy.hidden", "policy.std_bounds")


@dataclass(frozen=True)
class Grid:
    name: str
    caption: str
    text: str  # the file, kept with the sweep
    runs: dict[str, RunConfig]  # run id -> config


def load_grid(name: str) -> Grid:
    """A grid by path or by the name of one that comes with the suite; every run is validated.

    Raises DataError naming the file, the key and the run.
    """
    path = grid_files().get(name, Path(name))
    try:
        text = path.read_text()
        data = yaml.safe_load(text)
    except FileNotFoundError:
        raise DataError(f"no grid {name!r}: give a YAML file, or one of {', '.join(grid_files())}") from None
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise DataError(f"cannot read grid {path}: {str(error).splitlines()[0]}") from None
    if not isinstance(data, dict) or not data:
        raise DataError(f"grid {path} is empty: it needs fields of a run, lists being axes (see dpft sweep --help)")
    overrides = data.get("overrides") or {}
    if not isinstance(overrides, dict) or not all(isinstance(value, dict) for value in overrides.values()):
        raise DataError(f"grid {path}: overrides must map a method to fields and values")
    fields = {key: value for key, value in _dotted(data).items() if key.split(".")[0] not in META}
    return Grid(str(data.get("name", path.stem)), str(data.get("caption", "")), text, _runs(path, fields, overrides))


def _runs(path: Path, fields: dict[str, Any], overrides: dict[str, dict[str, Any]]) -> dict[str, RunConfig]:
    runs: dict[str, RunConfig] = {}
    methods = fields.get("method", RunConfig.model_fields["method"].default)
    unknown = set(overrides) - set(methods if isinstance(methods, list) else [methods])
    if unknown:
        raise DataError(f"grid {path}: overrides for {', '.join(sorted(unknown))}, which is not among its methods")
    for values in _points(path, fields):
        values = {**values, **_dotted(overrides.get(values.get("method", methods), {}))}
        varied = {key: values[key] for key in values if key in _axes(fields) and key not in NAMED}
        config = parse_config(_nested(values), f"grid {path}, run {_plain(values)}")
        name = run_id(config, varied)
        if name in runs:
            raise DataError(
                f"grid {path}: two runs are the same ({name}): an axis repeats a value, or an override hides it"
            )
        runs[name] = config
    return runs


NAMED = ("task", "method", "denoising_steps", "seed")


def run_id(config: RunConfig, varied: dict[str, Any]) -> str:
    """hopper-medium_ncdpo_K5_seed0, and every other varied field as _field=value."""
    extra = "".join(f"_{key.split('.')[-1]}={_word(value)}" for key, value in varied.items())
    return f"{config.task.replace('/', '-')}_{config.method}_K{config.denoising_steps}_seed{config.seed}{extra}"


def _word(value: Any) -> str:
    return "-".join(map(str, value)) if isinstance(value, list) else str(value).replace("/", "-").replace(" ", "")


def _plain(values: dict[str, Any]) -> str:
    return json.dumps({key: values[key] for key in NAMED if key in values})


def _dotted(tree: dict[str, Any], prefix: str = "") -> dict[str, Any]:
    flat: dict[str, Any] = {}
    for key, value in tree.items():
        flat |= _dotted(value, f"{prefix}{key}.") if isinstance(value, dict) else {f"{prefix}{key}": value}
    return flat


def _nested(flat: dict[str, Any]) -> dict[str, Any]:
    tree: dict[str, Any] = {}
    for key, value in flat.items():
        *parents, last = key.split(".")
        node = tree
        for parent in parents:
            node = node.setdefault(parent, {})
        node[last] = value
    return tree


def _axes(fields: dict[str, Any]) -> dict[str, list]:
    return {
        key: value
        for key, value in fields.items()
        if isinstance(value, list) and (key not in LISTS or any(isinstance(item, list) for item in value))
    }


def _points(path: Path, fields: dict[str, Any]) -> Iterator[dict[str, Any]]:
    axes = _axes(fields)
    count = 1
    for key, values in axes.items():
        if not values:
            raise DataError(f"grid {path}: {key} is an empty list, so there is no run")
        count *= len(values)
    if count > LIMIT:
        raise DataError(f"grid {path} has {count:,} runs, more than {LIMIT:,}: split it")
    fixed = {key: value for key, value in fields.items() if key not in axes}
    for point in itertools.product(*axes.values()):
        yield fixed | dict(zip(axes, point, strict=True))

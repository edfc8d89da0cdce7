"""What two runs of one config have in common: everything but time."""

import csv

import numpy as np
import torch
from safetensors.torch import load_file

TIMES = {"wall_seconds", "cpu_seconds"}


def read(path) -> list[dict[str, str]]:
    with path.open() as file:
        return list(csv.DictReader(file))


def timeless(folder, name="curve.csv") -> list[dict[str, str]]:
    return [
        {k: v for k, v in row.items() if k not in TIMES and not k.startswith("time/")} for row in read(folder / name)
    ]


def same_records(first, second) -> None:
    for name in ("curve.csv", "metrics.csv", "episodes.csv"):
        assert timeless(first, name) == timeless(second, name), name
    weights = [load_file(folder / "weights.safetensors") for folder in (first, second)]
    assert weights[0].keys() == weights[1].keys()
    assert all(torch.equal(value, weights[1][name]) for name, value in weights[0].items())
    chains = [np.load(folder / "chains.npz") for folder in (first, second)]
    for name in chains[0].files:
        np.testing.assert_array_equal(chains[0][name], chains[1][name])

"""Checkpoints of a run under way: two generations, each complete or not there at all."""

import os
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch

from dpft.envs.cache import replacing

NAMES = ("latest.pt", "previous.pt")


def convert(tree: Any, kind: type, to: Callable[[Any], Any]) -> Any:
    """The same nested containers with every value of a kind converted."""
    if isinstance(tree, kind):
        return to(tree)
    if isinstance(tree, dict):
        return {key: convert(value, kind, to) for key, value in tree.items()}
    if isinstance(tree, list | tuple):
        return type(tree)(convert(value, kind, to) for value in tree)
    return tree


def save_checkpoint(folder: Path, state: dict[str, Any]) -> None:
    """Write the state; the checkpoint before it is kept, should this one turn out to be damaged."""
    folder.mkdir(exist_ok=True)
    latest, previous = (folder / name for name in NAMES)
    with replacing(latest) as temporary:
        try:
            with temporary.open("wb") as file:
                # weights_only loading knows tensors, not numpy arrays
                torch.save(convert(state, np.ndarray, torch.from_numpy), file)
        except RuntimeError as error:  # torch's words for a full disk
            raise error.__context__ if isinstance(error.__context__, OSError) else error from None
        if latest.exists():
            os.replace(latest, previous)


def load_checkpoint(folder: Path, device: str) -> dict[str, Any] | None:
    """The newest undamaged checkpoint, tensors on the device; None where there is none."""
    for name in NAMES:
        path = folder / name
        try:
            with zipfile.ZipFile(path) as archive:  # torch.load does not look at the checksums
                damaged = archive.testzip()
            if damaged:
                raise ValueError(f"{damaged} in it is damaged")
            return torch.load(path, map_location=device, weights_only=True)
        except FileNotFoundError:
            continue
        except Exception as error:  # a torn file raises many kinds
            print(f"checkpoint {path} cannot be read ({str(error).splitlines()[0]}): trying the one before", flush=True)
    return None


def to_numpy(tree: Any) -> Any:
    """Tensors back to the numpy arrays that simulators keep."""
    return convert(tree, torch.Tensor, lambda tensor: tensor.cpu().numpy())

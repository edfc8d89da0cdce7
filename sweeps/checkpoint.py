"""Checkpoints of a run under way: two generations, each complete or not there at all."""

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch

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
    """Write the state; the checkpoint before it is kept, should this one turn out to be torn."""
    folder.mkdir(exist_ok=True)
    latest, previous = (folder / name for name in NAMES)
    temporary = folder / f".latest.{os.getpid()}"
    with temporary.open("wb") as file:
        # weights_only loading knows tensors, not numpy arrays
        torch.save(convert(state, np.ndarray, torch.from_numpy), file)
        file.flush()
        os.fsync(file.fileno())
    if latest.exists():
        os.replace(latest, previous)
    os.replace(temporary, latest)


def load_checkpoint(folder: Path, device: str) -> dict[str, Any] | None:
    """The newest readable checkpoint, tensors on the device; None where there is none."""
    for name in NAMES:
        try:
            return torch.load(folder / name, map_location=device, weights_only=True)
        except FileNotFoundError:
            continue
        except Exception as error:  # torch.load raises many kinds for a torn file
            print(
                f"checkpoint {folder / name} cannot be read ({str(error).splitlines()[0]}): trying the one before",
                flush=True,
            )
    return None


def to_numpy(tree: Any) -> Any:
    """Tensors back to the numpy arrays that simulators keep."""
    return convert(tree, torch.Tensor, lambda tensor: tensor.cpu().numpy())

"""Checkpoints of a run under way: two generations, each complete or not there at all."""

import hashlib
import io
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch

from dpft.envs.task import first_line
from dpft.sweeps.owner import Owner

NAMES = ("latest.pt", "previous.pt")
DIGEST = 32  # bytes of SHA-256 at a file's end


def convert(tree: Any, kind: type, to: Callable[[Any], Any]) -> Any:
    """The same nested containers with every value of a kind converted."""
    if isinstance(tree, kind):
        return to(tree)
    if isinstance(tree, dict):
        return {key: convert(value, kind, to) for key, value in tree.items()}
    if isinstance(tree, list | tuple):
        return type(tree)(convert(value, kind, to) for value in tree)
    return tree


def save_checkpoint(folder: Path, state: dict[str, Any], owner: Owner) -> None:
    """Write the state and its SHA-256; the checkpoint before it is kept, should this one turn out to be damaged."""
    owner.check()
    folder.mkdir(exist_ok=True)
    latest, previous = (folder / name for name in NAMES)
    content = io.BytesIO()
    # weights_only loading knows tensors, not numpy arrays
    torch.save(convert(state, np.ndarray, torch.from_numpy), content)
    with owner.replacing(latest) as temporary:
        with temporary.open("wb") as file:
            file.write(content.getbuffer())
            file.write(hashlib.sha256(content.getbuffer()).digest())
        if latest.exists():
            owner.check()
            os.replace(latest, previous)


def load_checkpoint(folder: Path, device: str) -> dict[str, Any] | None:
    """The newest undamaged checkpoint, tensors on the device; None where there is none."""
    for name in NAMES:
        path = folder / name
        try:
            content = memoryview(path.read_bytes())
            if hashlib.sha256(content[:-DIGEST]).digest() != content[-DIGEST:]:
                raise ValueError("it is damaged")
            return torch.load(io.BytesIO(content[:-DIGEST]), map_location=device, weights_only=True)
        except FileNotFoundError:
            continue
        except Exception as error:  # whole, but of another torch: many kinds
            print(f"checkpoint {path} cannot be read ({first_line(error)}): trying the one before", flush=True)
    return None


def to_numpy(tree: Any) -> Any:
    """Tensors back to the numpy arrays that simulators keep."""
    return convert(tree, torch.Tensor, lambda tensor: tensor.cpu().numpy())

"""DPFT: fine-tuning diffusion policies with reinforcement learning, compared.

What the command line does, for a notebook or a script. Importing this takes no time: each call imports what it needs.
"""

from importlib.metadata import version
from os import PathLike
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from dpft.analysis.load import Records
    from dpft.sweeps.reload import Policy

__all__ = ["load", "records", "train"]
__version__ = version("dpft")


def train(out: str | PathLike[str], *, allow_hardware_change: bool = False, **fields: Any) -> dict[str, Any]:
    """Make a run in the folder `out`, or continue it, as `dpft train` does; returns what done.json says.

    Fields are those of a config or a grid, settings={"clip": 0.1} or **{"settings.clip": 0.1}. On Ctrl-C a checkpoint
    is written, and the same call continues. To be called from a program's main thread. Raises dpft.envs.DataError for
    a field that is not right, a folder that holds another run, or one that another process is writing.
    """
    from dpft.sweeps.run import train_here

    return train_here(out, fields, allow_hardware_change)


def load(run: str | PathLike[str], device: str = "auto", seed: int = 0) -> "Policy":
    """The newest policy of a run: called with raw observations it gives actions. Its noise is drawn from `seed`.

    Raises dpft.envs.DataError where there is no run, or nothing in it that acts yet.
    """
    from dpft.sweeps.reload import Policy

    return Policy(run, device, seed)


def records(*folders: str | PathLike[str]) -> "Records":
    """The records of runs and sweeps as pandas tables: `.curves`, `.runs` and `.metrics`.

    Raises dpft.analysis.load.RecordError where there are none.
    """
    from pathlib import Path

    from dpft.analysis.load import load

    return load([Path(folder) for folder in folders])

"""Weights & Biases beside TensorBoard, by --log wandb. A run is the same with and without."""

import argparse
import hashlib
import os
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from dpft.envs.task import DataError, first_line

VARIABLE = "DPFT_LOG"  # the processes of a sweep, and its jobs, have it from who asked


def add_flag(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--log",
        choices=["wandb"],
        help="log to Weights & Biases, too (pip install 'dpft[wandb]'; its WANDB_... variables work)",
    )


def ask_for(log: str | None) -> None:
    """Have the runs of this process, and of those that it starts, logged. Raises DataError where that cannot be."""
    if log and find_spec("wandb") is None:
        raise DataError("--log wandb needs a package that is not installed: pip install 'dpft[wandb]'")
    if log:
        os.environ[VARIABLE] = log


def asked_for() -> bool:
    return os.environ.get(VARIABLE) == "wandb"


class WandbLog:
    """The scalars of one run. One that was interrupted goes on in the same W&B run; rows made again are there twice."""

    def __init__(self, folder: Path, config: dict[str, Any], started: str) -> None:
        """Raises DataError, with W&B's words, where it cannot be reached or does not know the user."""
        import wandb

        sweep = folder.absolute().parent.parent if folder.absolute().parent.name == "runs" else None
        try:
            self.run = wandb.init(
                project=os.environ.get("WANDB_PROJECT", "dpft"),
                group=sweep.name if sweep else None,
                name=folder.absolute().name,
                id=hashlib.sha256(f"{folder.absolute()} {started}".encode()).hexdigest()[:16],
                resume="allow",
                dir=folder,
                config=config,
                settings=wandb.Settings(silent=True, console="off", save_code=False),
            )
        except wandb.Error as error:
            raise DataError(f"--log wandb: {first_line(error)} (offline: WANDB_MODE=offline)") from None
        self.run.define_metric("*", step_metric="env_steps")

    def log(self, env_steps: int, scalars: dict[str, float]) -> None:
        self.run.log({"env_steps": env_steps, **scalars})

    def close(self) -> None:
        self.run.finish()

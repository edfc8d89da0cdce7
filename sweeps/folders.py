"""Which kind of folder somebody named."""

import shlex
from pathlib import Path

from dpft.envs.task import DataError
from dpft.sweeps.records import read_done

SHOWN = 3  # runs of a sweep that are named


def expect_run(folder: Path) -> None:
    """Raises DataError where it is no run's folder, saying what it is instead; a sweep's runs are named."""
    if (folder / "config.yaml").exists():
        return
    if not folder.is_dir():
        raise DataError(f"{folder} is {'a file' if folder.exists() else 'not there'}: expected the folder of a run")
    runs = sorted(config.parent for pattern in ("runs/*", "*") for config in folder.glob(f"{pattern}/config.yaml"))
    if runs:
        names = ", ".join(map(str, runs[:SHOWN])) + (", …" if len(runs) > SHOWN else "")
        raise DataError(f"{folder} is no run but holds {len(runs)}: name one of {names}")
    raise DataError(f"{folder} is no run: it has no config.yaml")


def expect_weights(run: Path) -> None:
    """Raises DataError where a run's folder holds nothing that acts, with the reason and what to do."""
    expect_run(run)
    if (run / "weights.safetensors").exists() or any(run.glob("checkpoint/*.pt")):
        return
    done = read_done(run)
    if done and done["status"] == "failed":
        raise DataError(f"{run} diverged ({done['reason']}), so it has no weights")
    if done:
        raise DataError(
            f"{run} has no weights.safetensors (published records have none): "
            f"make it again by dpft train --config {shlex.quote(str(run / 'config.yaml'))} --out runs/NAME"
        )
    raise DataError(f"{run} has neither weights.safetensors nor a checkpoint yet: wait a minute, or train it")

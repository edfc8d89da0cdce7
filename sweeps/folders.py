"""Which kind of folder somebody named."""

from pathlib import Path
from shlex import quote

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
            f"make it again by dpft train --config {quote(str(run / 'config.yaml'))} --out runs/NAME"
        )
    raise DataError(f"{run} has neither weights.safetensors nor a checkpoint yet: wait a minute, or train it")


def no_sweep(folder: Path) -> str:
    """What a folder without a sweep's runs.json is instead, and what to do."""
    if not folder.is_dir():
        return f"{folder} is {'a file' if folder.exists() else 'not there'}: expected the folder of a sweep"
    if is_run(folder):
        sweep = folder.absolute().parent.parent
        if (sweep / "runs.json").exists():
            return f"{folder} is one run of a sweep: name {quote(str(sweep))}"
        return (
            f"{folder} is one run, no sweep: the command that began it continues it; dpft figures {quote(str(folder))}"
        )
    if (folder.absolute().parent / "runs.json").exists():
        return f"{folder} is part of a sweep: name {quote(str(folder.absolute().parent))}"
    if holds_records(folder):
        return f"{folder} holds records alone, nothing is made there: dpft figures {quote(str(folder))}"
    sweeps = sorted(file.parent for file in folder.glob("*/runs.json"))
    if sweeps:
        names = ", ".join(map(str, sweeps[:SHOWN])) + (", …" if len(sweeps) > SHOWN else "")
        return f"{folder} is no sweep but holds {len(sweeps)}: name one of {names}"
    return f"{folder} is no sweep: it has no runs.json; dpft sweep GRID --out {quote(str(folder))} makes one"


def is_run(folder: Path) -> bool:
    return any((folder / name).exists() for name in ("config.yaml", "request.yaml"))


def holds_records(folder: Path) -> bool:
    """Whether a folder holds runs that no sweep there made, such as published ones."""
    return not (folder / "manifest").exists() and any(folder.glob("runs/*/config.yaml"))

"""Which kind of folder somebody named."""

from pathlib import Path

from dpft.envs.task import DataError

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

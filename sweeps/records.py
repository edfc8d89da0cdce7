"""What a run writes: config.yaml, the csv files, TensorBoard events, done.json."""

import csv
import datetime
import hashlib
import io
import json
import math
import os
import platform
import shlex
import subprocess
import sys
from importlib.metadata import PackageNotFoundError, version
from io import FileIO
from pathlib import Path
from typing import Any

import yaml

from dpft.envs.files import replacing
from dpft.envs.task import DataError
from dpft.sweeps.owner import Owner
from dpft.sweeps.state_file import DONE, Damaged, read_state
from dpft.sweeps.wandb_log import WandbLog, asked_for
from dpft.sweeps.yaml_file import read_yaml

CURVE = ["env_steps", "wall_seconds", "cpu_seconds", "return_mean", "return_normalised", "episodes", "training_return"]
GROWING = ("curve.csv", "episodes.csv", "metrics.csv")


def write_atomically(path: Path, text: str) -> None:
    """Write a file under another name and rename it: readers see all of it or nothing."""
    with replacing(path) as temporary:
        temporary.write_text(text)


def now() -> str:
    return datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds")


def versions() -> dict[str, str]:
    found = {"python": platform.python_version()}
    for package in ("dpft", "torch", "mujoco", "gymnasium", "numpy"):
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            found[package] = "not installed"
    return found


def hardware(device: str) -> dict[str, Any]:
    """What bit-equality depends on (cpu, gpu) and what a reader of timings wants to know."""
    cpu = platform.processor() or platform.machine()
    info = Path("/proc/cpuinfo")
    if info.exists():
        cpu = next(
            (line.split(":", 1)[1].strip() for line in info.read_text().splitlines() if line.startswith("model name")),
            cpu,
        )
    gpu = None
    if device.startswith("cuda"):
        import torch

        gpu = torch.cuda.get_device_name(device)
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30
    return {"cpu": cpu, "cores": os.cpu_count(), "memory_gib": round(memory, 1), "gpu": gpu}


def git_commit() -> str | None:
    """The commit of this checkout, marked where it has been edited; none outside one."""
    folder = Path(__file__).parent
    try:
        commit = subprocess.run(["git", "rev-parse", "HEAD"], cwd=folder, capture_output=True, text=True, check=True)
        changed = subprocess.run(
            ["git", "status", "--porcelain", "-uno"], cwd=folder, capture_output=True, text=True, check=True
        )
    except (OSError, subprocess.CalledProcessError):
        return None
    return commit.stdout.strip() + ("-modified" if changed.stdout.strip() else "")


def provenance(device: str, **facts: Any) -> dict[str, Any]:
    return {
        "command": shlex.join(["dpft", *sys.argv[1:]]),
        "versions": versions(),
        "git_commit": git_commit(),
        "hardware": hardware(device),
        "started": now(),
        **facts,
    }


class GrowingFile:
    """A file that is appended to, and the digest of what was: only its owner's rows are in it."""

    def __init__(self, path: Path, owner: Owner) -> None:
        self.path, self.owner = path, owner
        self.file: FileIO | None = None  # stays open: see sweeps/owner.py
        self.size, self.digest = 0, hashlib.sha256()

    def append(self, text: bytes) -> None:
        if self.file is None:
            with self.owner.replacing(self.path) as temporary:
                self.file = temporary.open("w+b", buffering=0)
                self._write(text)
        else:
            self.owner.check()
            self._write(text)
        self.size += len(text)
        self.digest.update(text)

    def _write(self, text: bytes) -> None:
        rest = memoryview(text)
        while rest:
            rest = rest[self.file.write(rest) :]  # type: ignore[union-attr]

    def state(self) -> list[Any]:
        """Size and digest of what is on the disk when this returns."""
        os.fsync(self.file.fileno())  # type: ignore[union-attr]
        return [self.size, self.digest.hexdigest()]

    def resume(self, size: int, digest: str) -> bytes:
        """Cut to an earlier state; returns the content. Raises DataError where the file is not what it was then."""
        content = self.path.read_bytes() if self.path.exists() else b""
        if len(content) < size or hashlib.sha256(content[:size]).hexdigest() != digest:
            how = "is shorter than" if len(content) < size else "is not what"
            raise DataError(
                f"{self.path} {how} the checkpoint beside it remembers: put back the file as the run wrote it, "
                f"or delete {self.path.parent} and begin anew"
            )
        self.append(content[:size])
        return content[:size]

    def settle(self) -> None:
        """Have what was written under the name, which another program (an editor) may have given to a file of its own.

        Raises DataError where it changed ours.
        """
        ours = os.pread(self.file.fileno(), self.size, 0)  # type: ignore[union-attr]
        if hashlib.sha256(ours).hexdigest() != self.digest.hexdigest():
            raise DataError(
                f"another program changed {self.path} while the run wrote it: delete {self.path.parent} and begin anew"
            )
        if not self.path.exists() or self.path.read_bytes() != ours:
            with self.owner.replacing(self.path) as temporary:
                temporary.write_bytes(ours)

    def close(self) -> None:
        if self.file is not None:
            self.file.close()


class Records:
    """The growing files of a run. Their states are part of a checkpoint; what was written after it is cut off."""

    def __init__(self, owner: Owner) -> None:
        self.owner = owner
        self.files = {name: GrowingFile(owner.folder / name, owner) for name in GROWING}
        self.columns: list[str] = []  # of metrics.csv, fixed by its first row
        self._tensorboard: Any = None
        self._wandb: WandbLog | None = None

    def resume(self, states: dict[str, list[Any]]) -> None:
        """Cut the csv files to what a checkpoint remembers; one that is not in it begins anew with its first row.

        Raises DataError where one is shorter or another.
        """
        for name, (size, digest) in states.items():
            content = self.files[name].resume(size, digest)
            if name == "metrics.csv":
                self.columns = next(csv.reader([content.decode().splitlines()[0]]))

    def states(self) -> dict[str, list[Any]]:
        return {name: file.state() for name, file in self.files.items() if file.file is not None}

    def settle(self) -> None:
        """Nothing is written any more: what lies in the folder is what was. Raises DataError where it is not."""
        for file in self.files.values():
            if file.file is not None:
                file.settle()

    def curve(self, row: dict[str, Any]) -> None:
        self._append("curve.csv", list(row), [row])
        shown = ("return_mean", "return_normalised", "training_return", "success_rate")
        scalars = {f"eval/{key}": row[key] for key in shown if key in row}
        self._scalars(row["env_steps"], scalars)

    def episodes(self, rows: list[dict[str, Any]]) -> None:
        self._append("episodes.csv", list(rows[0]), rows)

    def metrics(self, row: dict[str, Any]) -> None:
        self.columns = self.columns or list(row)
        self._append("metrics.csv", self.columns, [row])
        self._scalars(row["env_steps"], {key: value for key, value in row.items() if "/" in key})

    def _append(self, name: str, columns: list[str], rows: list[dict[str, Any]]) -> None:
        buffer = io.StringIO()
        writer = csv.DictWriter(buffer, columns, lineterminator="\n")
        if self.files[name].file is None:
            writer.writeheader()
        writer.writerows({key: "" if row.get(key) is None else row[key] for key in columns} for row in rows)
        self.files[name].append(buffer.getvalue().encode())

    def _scalars(self, step: int, scalars: dict[str, float | None]) -> None:
        # TensorBoard's own writer: torch's costs a second of imports
        from tensorboard.compat.proto.event_pb2 import Event, SessionLog
        from tensorboard.compat.proto.summary_pb2 import Summary
        from tensorboard.summary.writer.event_file_writer import EventFileWriter

        def event(**content: Any) -> Event:
            return Event(wall_time=datetime.datetime.now().timestamp(), step=step, **content)

        self.owner.check()
        if self._tensorboard is None:
            self._tensorboard = EventFileWriter(str(self.owner.folder / "tensorboard"))
            # what an interrupted process wrote from this step on is superseded
            self._tensorboard.add_event(event(session_log=SessionLog(status=SessionLog.START)))
        finite = {tag: value for tag, value in scalars.items() if value is not None and math.isfinite(value)}
        values = [Summary.Value(tag=tag, simple_value=value) for tag, value in finite.items()]
        self._tensorboard.add_event(event(summary=Summary(value=values)))
        self._tensorboard.flush()  # its thread would write in its own time
        if asked_for():
            if self._wandb is None:
                config, facts = read_config(self.owner.folder)
                self._wandb = WandbLog(self.owner.folder, config, facts["started"])
            self._wandb.log(step, finite)

    def close(self) -> None:
        for file in self.files.values():
            file.close()
        if self._tensorboard is not None:
            self._tensorboard.close()
            self._tensorboard = None
        if self._wandb is not None:
            self._wandb.close()
            self._wandb = None


def write_config(owner: Owner, config: dict[str, Any], facts: dict[str, Any]) -> None:
    owner.write("config.yaml", yaml.safe_dump({**config, "provenance": facts}, sort_keys=False))


def read_config(folder: Path) -> tuple[dict[str, Any], dict[str, Any]]:
    """config.yaml: the resolved config, and what was recorded beside it. Raises DataError where it is damaged."""
    recorded = read_yaml(folder / "config.yaml")
    facts = recorded.pop("provenance", None) if isinstance(recorded, dict) else None
    if not isinstance(facts, dict) or not all(isinstance(facts.get(part), dict) for part in ("hardware", "versions")):
        raise DataError(f"{folder / 'config.yaml'}: damaged, and with it which run this is: delete {folder}")
    return recorded, facts


def read_done(folder: Path) -> dict[str, Any] | None:
    """done.json of a run that has ended, as a result or as a failure; one that is damaged counts as none."""
    try:
        return read_state(folder / "done.json", DONE)
    except Damaged:
        return None


def write_done(owner: Owner, **facts: Any) -> None:
    owner.write("done.json", json.dumps({**facts, "finished": now()}, indent=1) + "\n")

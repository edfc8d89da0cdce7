"""--log wandb: the same run with and without, and its scalars in W&B's own file, offline."""

import csv
import struct
from collections.abc import Iterator
from pathlib import Path

import pytest

from dpft.sweeps.cli import main
from dpft.sweeps.wandb_log import VARIABLE

TINY = [
    *("--method", "gaussian-ppo", "--env-steps", "400", "--eval-every", "200", "--eval-episodes", "2"),
    *("--policy.hidden", "8", "--pretrain.steps", "10", "--demos.steps", "500", "--settings.critic-hidden", "8"),
    *("--settings.num-envs", "2", "--settings.decisions-per-update", "20"),
]


@pytest.fixture
def offline(tmp_path, monkeypatch):
    pytest.importorskip("wandb")
    for name in ("WANDB_CACHE_DIR", "WANDB_CONFIG_DIR", "WANDB_DATA_DIR"):
        monkeypatch.setenv(name, str(tmp_path / "wandb"))
    monkeypatch.setenv("WANDB_MODE", "offline")
    monkeypatch.setenv(VARIABLE, "")  # what the flag sets is undone with it


def records(content: bytes) -> Iterator[bytes]:
    """The records of W&B's file: LevelDB's log format after a header of 7 bytes."""
    at, parts = 7, b""
    while at + 7 <= len(content):
        if 32768 - at % 32768 < 7:  # what is left of a block is padding
            at += 32768 - at % 32768
            continue
        _, length, kind = struct.unpack_from("<IHB", content, at)
        parts += content[at + 7 : at + 7 + length]
        at += 7 + length
        if kind in (1, 4):  # whole, or the last part
            yield parts
            parts = b""


def history(folder: Path) -> list[dict[str, str]]:
    """The rows of a run's only offline file."""
    from wandb.proto import wandb_internal_pb2

    (path,) = folder.glob("wandb/offline-run-*/*.wandb")
    rows = []
    for data in records(path.read_bytes()):
        record = wandb_internal_pb2.Record()
        record.ParseFromString(data)
        if record.WhichOneof("record_type") == "history":
            items = record.history.item
            rows.append({item.key or ".".join(item.nested_key): item.value_json for item in items})
    return rows


def test_a_run_is_the_same_and_its_scalars_are_there(offline, tmp_path):
    assert main(["train", *TINY, "--out", str(tmp_path / "plain")]) == 0
    assert main(["train", *TINY, "--out", str(tmp_path / "logged"), "--log", "wandb"]) == 0
    plain, logged = tmp_path / "plain", tmp_path / "logged"
    assert not (plain / "wandb").exists()
    assert (plain / "weights.safetensors").read_bytes() == (logged / "weights.safetensors").read_bytes()
    assert (plain / "episodes.csv").read_bytes() == (logged / "episodes.csv").read_bytes()
    with (logged / "curve.csv").open() as file:
        curve = [(float(row["env_steps"]), float(row["return_mean"])) for row in csv.DictReader(file)]
    rows = history(logged)
    found = [(float(row["env_steps"]), float(row["eval/return_mean"])) for row in rows if "eval/return_mean" in row]
    assert found == curve
    assert any("loss/value" in row for row in rows)


def test_without_the_package_or_for_another_name_it_is_one_line(tmp_path, capsys, monkeypatch):
    monkeypatch.setattr("dpft.sweeps.wandb_log.find_spec", lambda name: None)
    for arguments in (["train", *TINY, "--out", str(tmp_path / "x")], ["sweep", "quickstart", "--dry-run"]):
        assert main([*arguments, "--log", "wandb"]) == 2
        assert "pip install 'dpft[wandb]'" in capsys.readouterr().err
        assert main([*arguments, "--log", "tensorboard"]) == 2
        assert "--log: invalid choice: 'tensorboard'" in capsys.readouterr().err
    assert not (tmp_path / "x").exists()

"""What a sweep would take, before anything starts."""

import re
import shutil

import pytest
import yaml
from test_launch import write_grid

from dpft.sweeps.cli import main
from dpft.sweeps.config import complete
from dpft.sweeps.estimate import stored
from dpft.sweeps.grid import load_grid
from dpft.sweeps.launch import Sweep
from dpft.sweeps.run import train

SMALL = {"num_envs": 2, "decisions_per_update": 20}


def test_a_dry_run_starts_nothing_and_estimates(tmp_path, capfd):
    """From the recorded rates of runs of the same kind, those with the same settings if there are any."""
    path = write_grid(tmp_path / "small.yaml", seed=[0, 1], method=["gaussian-ppo", "ncdpo"], settings=SMALL)
    grid = str(path)
    ended = tmp_path / "earlier/runs/hopper-medium_gaussian-ppo_K1_seed7"
    ended.mkdir(parents=True)
    (ended / "curve.csv").write_text("env_steps,wall_seconds,cpu_seconds\n1000,2000,900\n")
    (ended / "done.json").write_text("{}")
    (ended / "config.yaml").write_text("chunk: 8\nprovenance: {hardware: {}, versions: {}}\n")

    def estimated(*flags: str) -> str:
        assert main(["sweep", grid, "--out", str(tmp_path / "out"), "--dry-run", *flags]) == 0
        assert not (tmp_path / "out").exists()
        return capfd.readouterr().out

    out = estimated()
    assert "4 runs in" in out
    # 600 steps x 0.9 s
    assert "2 x hopper-medium_gaussian-ppo_K1, 600 steps: 0.1 core-hours, by runs of other settings\n" in out
    assert "2 x hopper-medium_ncdpo_K1, 600 steps: no such run has ended yet" in out
    assert re.search(
        r"about 0\.1 core-hours \(9 min with 1 at a time\), about \d.\d MB, 2 runs of unknown duration\n", out
    )
    for name in load_grid(grid).runs:
        assert re.search(rf"  {name} +300 steps  missing\n", out), "the table of runs"
    for damaged in ("", "[]", "chunk: [", "provenance: 1"):
        (ended / "config.yaml").write_text(damaged)
        assert "2 x hopper-medium_gaussian-ppo_K1, 600 steps: no such run has ended yet" in estimated()
    same = tmp_path / "earlier/runs/hopper-medium_gaussian-ppo_K1_seed8"
    shutil.copytree(ended, same)
    (same / "curve.csv").write_text("env_steps,wall_seconds,cpu_seconds\n1000,2000,6000\n")
    config = complete(load_grid(grid).runs["hopper-medium_gaussian-ppo_K1_seed0"])
    (same / "config.yaml").write_text(
        yaml.safe_dump(
            config.model_dump(mode="json")
            | {"seed": 8, "device": "cpu", "provenance": {"hardware": {}, "versions": {}}}
        )
    )
    out = estimated("--workers", "2")
    assert "2 x hopper-medium_gaussian-ppo_K1, 600 steps: 1.0 core-hours\n" in out
    assert re.search(r"about 1\.0 core-hours \((30 min with 2|60 min with 1) at a time\)", out), (
        "no more than there are cores"
    )
    assert main(["sweep", grid, "--dry-run", "--workers", "0"]) == 2, "flags are looked at"


@pytest.mark.parametrize("method", ["ncdpo", "dsrl-na", "gaussian-ppo"])
def test_storage_is_what_a_run_leaves(method, tiny, tmp_path):
    """Within a tenth; most of it are weights, and those of the base."""
    config = tiny(method=method, policy={"hidden": [128, 128, 128]}, env_steps=1000)
    train(config, tmp_path / "run")
    left = sum(path.stat().st_size for path in (tmp_path / "run").rglob("*") if path.is_file())
    assert stored(complete(config)) == pytest.approx(left, rel=0.1)


def test_when_all_is_done_figures_come_next(tmp_path, capfd):
    grid = write_grid(tmp_path / "small.yaml", seed=[0, 1])
    made = Sweep.freeze(load_grid(str(grid)), tmp_path / "out dir")
    for name in made.runs:
        made.run(name).mkdir()
        (made.run(name) / "done.json").write_text('{"status": "done", "reason": null}')
    assert main(["sweep", str(grid), "--out", str(made.folder), "--dry-run"]) == 0
    out = capfd.readouterr().out
    assert "2 runs in" in out
    assert ", 0 of them to do\n" in out
    assert out.endswith(f"next: dpft figures '{made.folder}'\n")

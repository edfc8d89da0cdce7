"""A sweep in a bounded pool of real processes: what is missing is run, what failed is named."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import yaml

from envs import DataError
from sweeps.cli import main
from sweeps.engine_local import LocalEngine
from sweeps.grid import load_grid
from sweeps.launch import Job, failures, prepare
from sweeps.records import read_done


def write_grid(path: Path, **fields) -> Path:
    """Runs of a small Gaussian policy from scratch on Hopper, a few seconds each (most of it importing torch)."""
    data = {
        "name": "small",
        "method": "gaussian-ppo",
        "denoising_steps": 1,
        "env_steps": 300,
        "eval_every": 300,
        "eval_episodes": 1,
        "policy": {"hidden": [8]},
        "pretrain": {"steps": 5},
        "demos": {"steps": 300},
        "settings": {"num_envs": 2, "decisions_per_update": 20, "epochs": 1, "critic_hidden": [8]},
        **fields,
    }
    path.write_text(yaml.safe_dump(data))
    return path


def sweep(grid: Path, folder: Path, workers: int = 2) -> int:
    return main(["sweep", str(grid), "--out", str(folder), "--workers", str(workers)])


@pytest.mark.slow
def test_one_failure_stops_nothing_and_the_rest_is_not_done_again(tmp_path, capfd):
    """A diverging run and a crashing one among good ones; the second launch repeats the crashed one alone."""
    grid = write_grid(
        tmp_path / "small.yaml",
        seed=[0, 1],
        **{"settings.learning_rate": [1e-4, 1e30], "settings.max_grad_norm": None, "settings.target_kl": None},
    )
    folder = tmp_path / "out"
    runs = folder / "runs"
    crashing = "hopper-medium_gaussian-ppo_K1_seed1_learning_rate=0.0001"
    (runs / crashing / "tensorboard").mkdir(parents=True)
    (runs / crashing / "curve.csv").mkdir()  # a folder where the run wants to write a file
    assert sweep(grid, folder) == 1
    out = capfd.readouterr().out
    assert {path.name: (read_done(path) or {}).get("status") for path in runs.iterdir()} == {
        "hopper-medium_gaussian-ppo_K1_seed0_learning_rate=0.0001": "done",
        "hopper-medium_gaussian-ppo_K1_seed0_learning_rate=1e+30": "failed",
        crashing: None,
        "hopper-medium_gaussian-ppo_K1_seed1_learning_rate=1e+30": "failed",
    }
    assert "1 of 4 runs done" in out
    assert f"failed: {crashing}: " in out
    assert "Directory" in out or "directory" in out, "the crash's own message is the reason"
    assert "at step" in out, "so is the divergence's"
    stamps = {path: path.stat().st_mtime_ns for path in runs.glob("*/done.json")}
    (runs / crashing / "curve.csv").rmdir()
    assert sweep(grid, folder) == 1, "two runs diverge, whoever asks"
    assert "1 runs to do, 3 done before" in capfd.readouterr().out
    assert read_done(runs / crashing)["status"] == "done"
    assert not (runs / crashing / "error.txt").exists()
    assert {path: path.stat().st_mtime_ns for path in stamps} == stamps


@pytest.mark.slow
def test_stopping_and_continuing_gives_the_same_records(tmp_path, capfd):
    """Ctrl-C reaches the launcher alone; its children write checkpoints, and the same command goes on."""
    grid = write_grid(tmp_path / "small.yaml", seed=[0, 1, 2], env_steps=20_000, eval_every=2_000)
    folder, whole = tmp_path / "out", tmp_path / "whole"
    command = [sys.executable, "-m", "sweeps.cli", "sweep", str(grid), "--out", str(folder), "--workers", "2"]
    launcher = subprocess.Popen(command, stdout=subprocess.PIPE, text=True, start_new_session=True)
    under_way = [folder / "runs" / f"hopper-medium_gaussian-ppo_K1_seed{seed}" for seed in (0, 1)]
    while not all((run / "metrics.csv").exists() for run in under_way):
        assert launcher.poll() is None
        time.sleep(0.05)
    launcher.send_signal(signal.SIGINT)
    out, _ = launcher.communicate(timeout=60)
    assert launcher.returncode == 130
    assert "the same command continues" in out
    assert any((run / "checkpoint/latest.pt").exists() for run in under_way)
    assert not (folder / "runs/hopper-medium_gaussian-ppo_K1_seed2/config.yaml").exists()
    assert sweep(grid, folder) == 0
    assert sweep(grid, whole) == 0
    for run in sorted((whole / "runs").iterdir()):
        rows = [
            [line.split(",")[0:1] + line.split(",")[3:] for line in (path / "curve.csv").read_text().splitlines()]
            for path in (run, folder / "runs" / run.name)
        ]
        assert rows[0] == rows[1]


def test_the_pool_is_bounded_and_every_job_is_reported(tmp_path, monkeypatch):
    """With real processes that sleep: never more than `workers` at once, all of them reported with their codes."""
    jobs = [Job(f"job{i}", tmp_path / f"job{i}", threads=3) for i in range(5)]
    for job in jobs:
        job.folder.mkdir()
    running: list[subprocess.Popen] = []
    most = 0

    def start(job: Job) -> subprocess.Popen:
        nonlocal most
        code = f"import time, sys; time.sleep(0.3); sys.exit({1 if job.name == 'job2' else 0})"
        running.append(subprocess.Popen([sys.executable, "-S", "-c", code]))
        most = max(most, sum(process.poll() is None for process in running))
        return running[-1]

    monkeypatch.setattr("sweeps.engine_local.start", start)
    ended: dict[str, int] = {}
    LocalEngine(2, lambda job, code: ended.update({job.name: code})).run(jobs)
    assert most == 2
    assert ended == {f"job{i}": int(i == 2) for i in range(5)}


def test_a_process_knows_its_threads_and_writes_its_log(tmp_path):
    """The environment of a child is read from the child itself."""
    from sweeps.engine_local import start

    (tmp_path / "request.yaml").write_text("seed: zero\n")
    process = start(Job("bad", tmp_path, threads=3))
    environment = Path(f"/proc/{process.pid}/environ")
    if environment.exists():
        while process.poll() is None and b"OMP_NUM_THREADS=3" not in environment.read_bytes():
            time.sleep(0.01)
        assert process.poll() is None, "it ended without ever having OMP_NUM_THREADS=3"
    assert process.wait() == 2
    assert "seed: input should be a valid integer" in (tmp_path / "run.log").read_text()


def test_preparing_freezes_the_grid(tmp_path):
    grid = load_grid(str(write_grid(tmp_path / "small.yaml", seed=[0, 1])))
    folder = tmp_path / "out"
    jobs, ended = prepare(grid, folder)
    assert [job.name for job in jobs] == list(grid.runs)
    assert ended == []
    assert (folder / "grid.yaml").read_text() == grid.text
    for job in jobs:
        assert yaml.safe_load((job.folder / "request.yaml").read_text())["env_steps"] == 300
    (jobs[0].folder / "done.json").write_text('{"status": "done", "reason": null}')
    again, ended = prepare(grid, folder)
    assert (again, ended) == (jobs[1:], [jobs[0].name])
    assert failures(grid, folder) == {jobs[1].name: f"did not end: see {jobs[1].folder / 'run.log'}"}
    other = load_grid(str(write_grid(tmp_path / "small.yaml", seed=[0, 1, 2])))
    with pytest.raises(DataError, match=r"holds another grid: choose another --out, or delete it"):
        prepare(other, folder)


def test_a_dry_run_starts_nothing(tmp_path, capfd):
    grid = write_grid(tmp_path / "small.yaml", seed=[0, 1])
    assert main(["sweep", str(grid), "--out", str(tmp_path / "out"), "--dry-run"]) == 0
    out = capfd.readouterr().out
    assert "hopper-medium_gaussian-ppo_K1_seed0" in out
    assert "hopper-medium_gaussian-ppo_K1_seed1" in out
    assert out.count("to do") == 2
    assert not (tmp_path / "out").exists()


def test_no_workers(tmp_path, capfd):
    assert sweep(write_grid(tmp_path / "small.yaml"), tmp_path / "out", workers=0) == 2
    assert capfd.readouterr().err.strip() == "dpft sweep: --workers 0: at least one process is needed"


def test_stopping_asks_the_children(tmp_path, monkeypatch):
    """A launcher that is told to end (a closed terminal, a batch system) does not leave its children behind."""
    children: list[subprocess.Popen] = []

    def start(job: Job) -> subprocess.Popen:
        children.append(subprocess.Popen([sys.executable, "-S", "-c", "import time; time.sleep(60)"]))
        os.kill(os.getpid(), signal.SIGTERM)
        return children[-1]

    monkeypatch.setattr("sweeps.engine_local.start", start)
    before = signal.getsignal(signal.SIGTERM)
    try:
        with pytest.raises(KeyboardInterrupt):
            LocalEngine(1, lambda job, code: None).run([Job("job", tmp_path, 1)])
    finally:
        signal.signal(signal.SIGTERM, before)
        left = [child for child in children if child.poll() is None]
        for child in left:
            child.kill()
    assert children
    assert not left

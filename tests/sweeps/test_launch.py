"""A sweep on one machine: what is missing is made, once, whoever launches it and however it dies."""

import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import yaml
from same import same_records

from dpft.envs import DataError
from dpft.envs.cache import Claim, birth
from dpft.sweeps import engine_local, engine_slurm
from dpft.sweeps.cli import main
from dpft.sweeps.engine_local import supervise
from dpft.sweeps.grid import load_grid
from dpft.sweeps.launch import Sweep
from dpft.sweeps.records import read_done
from dpft.sweeps.run_state import states
from dpft.sweeps.yaml_file import read_yaml


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
        "pretrain": {"steps": 20},
        "demos": {"steps": 300},
        "settings": {"num_envs": 2, "decisions_per_update": 20, "epochs": 1, "critic_hidden": [8]},
        **fields,
    }
    path.write_text(yaml.safe_dump(data))
    return path


def sweep(grid: Path, folder: Path, workers: int = 2) -> int:
    return main(["sweep", str(grid), "--out", str(folder), "--workers", str(workers)])


@pytest.mark.slow
def test_one_failure_stops_nothing_and_the_rest_is_not_done_again(tmp_path, capfd, monkeypatch):
    """A diverging run and a crashing one among good ones; the second launch repeats the crashed one alone."""
    monkeypatch.setattr(engine_local, "PAUSE", 0.0)
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
    assert "4 runs: 1 done, 3 failed" in out
    assert f"failed   {crashing}: IsADirectoryError" in out, "the crash's own message is the reason"
    assert "at step" in out, "so is the divergence's"
    assert (runs / crashing / "run.log").read_text().count("IsADirectoryError") == 1 + engine_local.RETRIES
    stamps = {path: path.stat().st_mtime_ns for path in runs.glob("*/done.json")}
    (runs / crashing / "curve.csv").rmdir()
    assert main(["resume", str(folder)]) == 1, "two runs diverge, whoever asks"
    assert "1 runs to do, 3 done before" in capfd.readouterr().out
    assert read_done(runs / crashing)["status"] == "done"
    assert not (runs / crashing / "error.txt").exists()
    assert {path: path.stat().st_mtime_ns for path in stamps} == stamps


def launcher(grid: Path, folder: Path, *flags: str) -> subprocess.Popen:
    command = [sys.executable, "-m", "dpft", "sweep", str(grid), "--out", str(folder), *flags]
    return subprocess.Popen(command, stdout=subprocess.PIPE, text=True, start_new_session=True)


def until(condition, seconds: float = 120.0) -> None:
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.05)


@pytest.mark.slow
@pytest.mark.parametrize("way", ["Ctrl-C", "dpft cancel"])
def test_stopping_and_continuing_gives_the_same_records(way, tmp_path, capfd):
    """Either reaches the launcher; its children write checkpoints, and the same command goes on."""
    grid = write_grid(tmp_path / "small.yaml", seed=[0, 1, 2], env_steps=20_000, eval_every=2_000)
    folder, whole = tmp_path / "out", tmp_path / "whole"
    first = launcher(grid, folder, "--workers", "2")
    under_way = [folder / "runs" / f"hopper-medium_gaussian-ppo_K1_seed{seed}" for seed in (0, 1)]
    until(lambda: all((run / "metrics.csv").exists() for run in under_way))
    if way == "Ctrl-C":
        first.send_signal(signal.SIGINT)
    else:
        assert main(["cancel", str(folder)]) == 0
        assert "jobs and processes were asked to stop" in capfd.readouterr().out
    out, _ = first.communicate(timeout=60)
    assert first.returncode == 130
    assert f"next: dpft resume {folder}" in out
    assert any((run / "checkpoint/latest.pt").exists() for run in under_way)
    assert not (folder / "runs/hopper-medium_gaussian-ppo_K1_seed2/config.yaml").exists()
    capfd.readouterr()
    assert main(["status", str(folder)]) == 4
    status = capfd.readouterr().out
    assert "3 runs: 1 waiting, 2 stopped" in status, "nothing is lost"
    assert re.search(rf"stopped  {under_way[0].name}: at [\d,]+ of 20,000 steps", status)
    assert sweep(grid, folder) == 0
    assert sweep(grid, whole) == 0
    for run in sorted((whole / "runs").iterdir()):
        same_records(run, folder / "runs" / run.name)


@pytest.mark.slow
def test_two_launchers_at_once_share_the_work(tmp_path):
    grid = write_grid(tmp_path / "small.yaml", seed=[0, 1, 2, 3])
    launchers = [launcher(grid, tmp_path / "out", "--workers", "2") for _ in range(2)]
    outs = [process.communicate(timeout=300)[0] for process in launchers]
    assert [process.returncode for process in launchers] == [0, 0]
    for run in (tmp_path / "out/runs").iterdir():
        assert (run / "run.log").read_text().count("done: records") == 1
        assert all(f"{run.name}: done" in out for out in outs), "each ends when all is done, by whomever"


@pytest.mark.slow
def test_a_run_that_outlives_its_launcher_is_not_made_twice(tmp_path):
    """The launcher is killed; its child goes on, and the next launcher waits for it."""
    grid = write_grid(tmp_path / "small.yaml", env_steps=20_000, eval_every=5_000)
    folder = tmp_path / "out"
    run = folder / "runs/hopper-medium_gaussian-ppo_K1_seed0"
    first = launcher(grid, folder)
    until(lambda: (run / "metrics.csv").exists())
    first.kill()
    first.wait()
    child = Claim(run / "run").process()
    assert child is not None
    assert states(Sweep.open(folder))[run.name].state == "running"
    assert sweep(grid, folder) == 0
    assert (run / "run.log").read_text().count("done: records") == 1
    assert "being made by another process" not in (run / "run.log").read_text()
    until(lambda: birth(child) is None)


@pytest.mark.slow
def test_inline(tmp_path):
    """In this very process, with the records of processes of their own."""
    grid = write_grid(tmp_path / "small.yaml", seed=[0, 1])
    assert main(["sweep", str(grid), "--out", str(tmp_path / "inline"), "--engine", "inline"]) == 0
    assert sweep(grid, tmp_path / "local") == 0
    for run in (tmp_path / "local/runs").iterdir():
        assert (run / "run.log").exists()
        assert not (tmp_path / "inline/runs" / run.name / "run.log").exists()
        same_records(run, tmp_path / "inline/runs" / run.name)


def small(tmp_path, seeds: int, **fields) -> Sweep:
    grid = load_grid(str(write_grid(tmp_path / "small.yaml", seed=list(range(seeds)), **fields)))
    return Sweep.freeze(grid, tmp_path / "out")


def test_the_pool_is_bounded_and_crashes_are_retried(tmp_path, monkeypatch):
    """With real processes that sleep: never more than `workers` at once, all of them reported with their codes."""
    made = small(tmp_path, 5)
    names = list(made.runs)
    running: list[subprocess.Popen] = []
    starts: list[str] = []
    most = 0

    def start(sweep: Sweep, name: str, gpu: str | None) -> subprocess.Popen:
        nonlocal most
        starts.append(name)
        made.run(name).mkdir(parents=True, exist_ok=True)
        (made.run(name) / "run.log").write_text("the last words\n")
        end = "os.kill(os.getpid(), 9)" if name == names[2] else f"sys.exit({2 if name == names[3] else 0})"
        running.append(subprocess.Popen([sys.executable, "-S", "-c", f"import os, time, sys; time.sleep(0.3); {end}"]))
        most = max(most, sum(process.poll() is None for process in running))
        return running[-1]

    monkeypatch.setattr(engine_local, "start", start)
    monkeypatch.setattr(engine_local, "PAUSE", 0.0)
    ended: dict[str, int] = {}
    supervise(made, names, 2, lambda name, code, reason: ended.update({name: code}))
    assert most == 2
    assert ended == dict(zip(names, [0, 0, -9, 2, 0], strict=True))
    assert starts.count(names[2]) == 1 + engine_local.RETRIES, "a killed one is tried again"
    assert starts.count(names[3]) == 1, "bad input stays bad"
    found = states(made)
    assert found[names[2]].reason == f"killed by SIGKILL; see {made.run(names[2]) / 'run.log'}"
    assert found[names[3]].reason == "the last words"


def test_a_process_knows_its_threads_its_gpu_and_its_log(tmp_path):
    """The environment of a child is read from the child itself."""
    made = small(tmp_path, 1, threads=3)
    (name,) = made.runs
    made.runs[name]["seed"] = "zero"
    process = engine_local.start(made, name, "1")
    environment = Path(f"/proc/{process.pid}/environ")
    if environment.exists():
        wanted = {b"OMP_NUM_THREADS=3", b"CUDA_VISIBLE_DEVICES=1"}
        while process.poll() is None and not wanted <= set(environment.read_bytes().split(b"\0")):
            time.sleep(0.01)
        assert process.poll() is None, "it ended without ever having them"
    assert process.wait() == 2
    assert "seed: input should be a valid integer" in (made.run(name) / "run.log").read_text()


def test_each_worker_has_a_gpu_of_its_own(tmp_path, monkeypatch):
    made = small(tmp_path, 6)
    given: list[tuple[str | None, subprocess.Popen]] = []

    def start(sweep: Sweep, name: str, gpu: str | None) -> subprocess.Popen:
        assert gpu not in [other for other, process in given if process.poll() is None], "it is taken"
        given.append((gpu, subprocess.Popen([sys.executable, "-S", "-c", "import time; time.sleep(0.3)"])))
        return given[-1][1]

    monkeypatch.setattr(engine_local, "start", start)
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "2,5")
    supervise(made, list(made.runs), 2, lambda name, code, reason: None)
    assert sorted(gpu for gpu, _ in given) == ["2"] * 3 + ["5"] * 3


def test_runs_may_be_added_and_not_changed(tmp_path):
    made = small(tmp_path, 2)
    grid = load_grid(str(tmp_path / "small.yaml"))
    assert (made.folder / "grid.yaml").read_text() == grid.text
    assert Sweep.open(made.folder) == made
    assert made.missing() == list(grid.runs)
    arguments = made.request(made.missing()[0])
    assert yaml.safe_load(Path(arguments[2]).read_text())["env_steps"] == 300
    (made.run(made.missing()[0]) / "done.json").write_text('{"status": "done", "reason": null}')
    assert made.missing() == list(grid.runs)[1:]
    more = small(tmp_path, 4)
    assert list(more.runs)[:2] == list(made.runs)
    assert len(more.missing()) == 3
    last = list(more.runs)[3]
    with pytest.raises(DataError, match=rf"holds another grid \({last} is not in this one\): choose another --out"):
        small(tmp_path, 3)
    with pytest.raises(DataError, match=r"holds another grid \(env_steps of hopper.*seed0 is another\)"):
        small(tmp_path, 4, env_steps=301)
    assert Sweep.open(made.folder) == more, "a refusal changes nothing"


@pytest.mark.parametrize(
    ("flags", "words"),
    [
        (["--workers", "0"], "--engine local: workers: input should be greater than or equal to 1, got 0"),
        (["--workers", "many"], "--engine local: workers: input should be a valid integer"),
        (["--workers", "2", "--partition", "x"], "--engine local: unknown field partition"),
        (["--engine", "cloud"], "--engine: invalid choice: 'cloud'"),
        (["--wokers", "2"], "unrecognized arguments: --wokers 2; see dpft sweep --help"),
        (["--engine", "slurm", "--time", "soon"], "--engine slurm: time: input should be a valid integer"),
        (["--site", "{tmp}/no.yaml"], "cannot read {tmp}/no.yaml"),
    ],
    ids=str,
)
def test_a_wrong_option_of_an_engine_is_one_line(flags, words, tmp_path, capfd):
    grid = write_grid(tmp_path / "small.yaml")
    arguments = [flag.format(tmp=tmp_path) for flag in flags]
    assert main(["sweep", str(grid), "--out", str(tmp_path / "out"), *arguments]) == 2
    err = capfd.readouterr().err
    assert err.startswith("dpft sweep: ")
    assert words.format(tmp=tmp_path) in err
    assert err.count("\n") == 1


def test_without_slurm(tmp_path, capfd, monkeypatch):
    monkeypatch.setenv("PATH", str(tmp_path))
    grid = write_grid(tmp_path / "small.yaml")
    assert main(["sweep", str(grid), "--out", str(tmp_path / "out"), "--engine", "slurm"]) == 2
    assert capfd.readouterr().err == "dpft sweep: cannot ask SLURM: there is no scontrol on this machine\n"


@pytest.mark.parametrize(
    ("text", "expected"), [(90, 90), ("90", "90"), ("0:30:00", 30), ("36:05:00", 2165), ("2-12:30:00", 3630)]
)
def test_times(text, expected):
    from dpft.sweeps.engine_slurm import minutes

    assert minutes(text) == expected


def test_stopping_asks_the_children(tmp_path, monkeypatch):
    """A launcher that is told to end (a closed terminal, a batch system) does not leave its children behind."""
    made = small(tmp_path, 1)
    children: list[subprocess.Popen] = []

    def start(sweep: Sweep, name: str, gpu: str | None) -> subprocess.Popen:
        children.append(subprocess.Popen([sys.executable, "-S", "-c", "import time; time.sleep(60)"]))
        os.kill(os.getpid(), signal.SIGTERM)
        return children[-1]

    monkeypatch.setattr(engine_local, "start", start)
    before = signal.getsignal(signal.SIGTERM)
    try:
        with pytest.raises(KeyboardInterrupt):
            supervise(made, list(made.runs), 1, lambda name, code, reason: None)
    finally:
        signal.signal(signal.SIGTERM, before)
        left = [child for child in children if child.poll() is None]
        for child in left:
            child.kill()
    assert children
    assert not left


def test_the_site_file_of_the_page_is_one(tmp_path):
    """sweeps/cluster.md shows every option that a site sets."""
    page = Path(engine_slurm.__file__).with_name("cluster.md").read_text()
    file = tmp_path / "site.yaml"
    file.write_text(page.split("```yaml")[1].split("```")[0])
    site = read_yaml(file)
    options = engine_slurm.SlurmEngine.Options.model_validate(site)
    assert options.time == 240
    assert set(site) == set(engine_slurm.SlurmEngine.Options.model_fields) - {"workers"}

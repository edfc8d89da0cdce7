"""What SLURM's commands are given, by stand-ins for them; tests/slurm has a real one."""

from pathlib import Path

import pytest
import yaml
from test_launch import write_grid

from dpft.sweeps import status
from dpft.sweeps.attempts import note
from dpft.sweeps.cli import main
from dpft.sweeps.engine_slurm import resume_by_itself
from dpft.sweeps.launch import Sweep
from dpft.sweeps.run_state import states

SEEN = ("SLURM_CONF", "SLURM_CLUSTERS", "SBATCH_ACCOUNT", "SLURM_JOB_ID", "SLURM_MEM_PER_CPU", "SUBMITIT_EXECUTOR")


@pytest.fixture
def commands(tmp_path, monkeypatch) -> Path:
    """A log of the commands' calls and of what they see; squeue prints what is in the file queue."""
    for name in SEEN:
        monkeypatch.delenv(name, raising=False)
    folder = tmp_path / "bin"
    folder.mkdir()
    says = {
        "sbatch": "echo Submitted batch job 4242",
        "scontrol": "echo 'MaxArraySize = 1001'",
        "squeue": f"cat {folder}/queue",
        "sacct": "",
        "scancel": "",
        "srun": "",
    }
    for name, words in says.items():
        seen = " ".join(f"{variable}=[${variable}]" for variable in SEEN)
        (folder / name).write_text(f'#!/bin/sh\necho "{name} {seen}" >> {folder}/log\n{words}\n')
        (folder / name).chmod(0o755)
    (folder / "queue").write_text("4242\n4242_0\n4242_1\n")
    (folder / "log").touch()
    monkeypatch.setenv("PATH", str(folder), prepend=":")
    return folder


def submit(tmp_path, site: dict, **fields) -> int:
    grid = write_grid(tmp_path / "small.yaml", **fields)
    (tmp_path / "site.yaml").write_text(yaml.safe_dump(site))
    command = ["sweep", str(grid), "--out", str(tmp_path / "out"), "--engine", "slurm"]
    return main([*command, "--site", str(tmp_path / "site.yaml")])


def calls(commands: Path, name: str) -> list[str]:
    return [line for line in (commands / "log").read_text().splitlines() if line.startswith(name)]


def test_outside_a_job_sbatch_sees_what_squeue_sees(commands, tmp_path, monkeypatch):
    monkeypatch.setenv("SLURM_CONF", "/opt/site/slurm.conf")
    monkeypatch.setenv("SBATCH_ACCOUNT", "mine")
    assert submit(tmp_path, {}) == 0
    for name in ("sbatch", "squeue"):
        assert calls(commands, name)
        assert all("SLURM_CONF=[/opt/site/slurm.conf]" in line for line in calls(commands, name))
        assert all("SBATCH_ACCOUNT=[mine]" in line for line in calls(commands, name))


def test_a_job_that_submits_keeps_what_is_not_its_own(commands, tmp_path, monkeypatch):
    for name in SEEN:
        monkeypatch.setenv(name, "here")
    assert submit(tmp_path, {}) == 0
    kept = " ".join(f"{name}=[{'here' if name in SEEN[:3] else ''}]" for name in SEEN)
    assert set(calls(commands, "sbatch")) == {f"sbatch {kept}"}


def script(tmp_path) -> list[str]:
    return next((tmp_path / "out/slurm").glob("*_submission.sh")).read_text().splitlines()


def test_options_of_sbatch(commands, tmp_path):
    """true is an option without a value, false none; numbers are text where text is meant."""
    more = {"exclusive": True, "requeue": False, "qos": "on", "account": "0123", "nodes": 2, "nice": 1.5}
    site = {"partition": 1, "memory": 8, "setup": ["module load x"], "sbatch": more}
    assert submit(tmp_path, site) == 0
    lines = script(tmp_path)
    wanted = ("exclusive", "qos=on", "account=0123", "nodes=2", "nice=1.5", "partition=1", "mem=8")
    assert {f"#SBATCH --{option}" for option in wanted} <= set(lines)
    assert not [line for line in lines if "--requeue" in line]
    assert "module load x" in lines


@pytest.mark.parametrize(
    "site",
    [
        {"partition": "x\n#SBATCH --uid=0"},
        {"memory": True},
        {"sbatch": {"comment": "x\n#SBATCH --uid=0"}},
        {"sbatch": {"comment\n#SBATCH --uid": "0"}},
        {"setup": ["true\nfalse"]},
        {"sbatch": {"comment": None}},
        {"sbatch": [1]},
    ],
    ids=str,
)
def test_what_is_no_option_is_one_line(site, commands, tmp_path, capsys):
    assert submit(tmp_path, site) == 2
    err = capsys.readouterr().err
    assert err.startswith("dpft sweep: --engine slurm: ")
    assert err.count("\n") == 1
    assert not calls(commands, "sbatch")


def test_slurm_is_asked_every_half_minute(commands, tmp_path, monkeypatch):
    """And no run that has ended is read again."""
    assert submit(tmp_path, {}, seed=[0, 1]) == 0
    sweep = Sweep.open(tmp_path / "out")
    waits: list[float] = []

    def sleep(seconds: float) -> None:
        waits.append(seconds)
        name = list(sweep.runs)[len(waits) - 1]
        if len(waits) == 2:
            (sweep.run(next(iter(sweep.runs))) / "done.json").write_text("damaged after it was read")
        sweep.run(name).mkdir(exist_ok=True)
        (sweep.run(name) / "done.json").write_text('{"status": "done", "reason": null}')

    asked = len(calls(commands, "squeue"))
    monkeypatch.setattr(status.time, "sleep", sleep)
    assert main(["status", str(sweep.folder), "--watch"]) == 0
    assert waits == [30.0, 30.0]
    assert len(calls(commands, "squeue")) - asked == 2, "none once all have ended"


def test_what_its_job_will_try_again_is_not_submitted_again(commands, tmp_path, capsys):
    assert submit(tmp_path, {"runs_per_job": 3}, seed=[0, 1, 2]) == 0
    sweep = Sweep.open(tmp_path / "out")
    name = next(iter(sweep.runs))
    sweep.run(name).mkdir()
    note(sweep.run(name), -9, 1, 3)
    found = states(sweep)
    assert found[name].state == "waiting"
    assert found[name].reason.startswith("tried 1 of 3: killed by SIGKILL")
    submitted = len(calls(commands, "sbatch"))
    capsys.readouterr()
    assert main(["resume", str(sweep.folder)]) == 0
    assert len(calls(commands, "sbatch")) == submitted
    assert "0 runs in 0 jobs" in capsys.readouterr().out
    assert states(sweep)[name].reason.startswith("tried 1 of 3"), "its job still knows"


def test_a_sweep_that_resumes_itself_gives_up_what_failed(commands, tmp_path):
    """Bad input stays bad, and what crashed three times in its job would do so again; a person may ask for it."""
    assert submit(tmp_path, {}, seed=[0, 1]) == 0
    sweep = Sweep.open(tmp_path / "out")
    failed, lost = sweep.runs
    sweep.run(failed).mkdir()
    note(sweep.run(failed), 2, 1, 1)
    (commands / "queue").write_text("")
    resume_by_itself(sweep.folder, (), 1)
    assert list(sweep.submissions()[-2].jobs.values()) == [[lost]]
    assert states(sweep)[failed].reason == "ended with code 2"
    main(["resume", str(sweep.folder)])
    assert sweep.submissions()[-2].names == {failed, lost}

"""A curve from elsewhere becomes a run that is read like our own; a damaged file is one line and leaves nothing."""

import json
import shutil
import subprocess
import sys
from pathlib import Path

import full_disk
import pytest
import yaml
from run_folders import write_run

from dpft.analysis.captions import NothingToDraw
from dpft.analysis.cli import figures
from dpft.analysis.curves import compute
from dpft.analysis.load import load
from dpft.sweeps.cli import main as dpft
from dpft.sweeps.curve_import import main

ROOT = Path(__file__).parents[2]
CSV = "env_steps,return,wall_seconds\n0,1000,0\n1e5,1500.5,60\n200000,2000,125.5\n"
GIVEN = ("--method", "dppo-authors", "--task", "hopper-medium", "--eval-episodes", "40")


@pytest.fixture
def theirs(tmp_path):
    path = tmp_path / "theirs.csv"
    path.write_text(CSV)
    return path


def test_it_is_read_like_a_run_of_ours(theirs, tmp_path, capsys):
    out = tmp_path / "runs" / "theirs"
    assert main([str(theirs), *GIVEN, "--seed", "3", "--out", str(out)]) == 0
    assert f"next: dpft figures runs/MINE {out}" in capsys.readouterr().out
    records = load([out])
    assert records.warnings == []
    run = records.runs.iloc[0]
    assert (run["method"], run["task"], run["seed"], run["status"]) == ("dppo-authors", "hopper-medium", 3, "done")
    assert records.curves["env_steps"].tolist() == [0, 100_000, 200_000]
    assert records.curves["return_mean"].tolist() == [1000, 1500.5, 2000]
    assert records.curves["wall_seconds"].tolist() == [0, 60, 125.5]
    random, expert = -20.272305, 3234.3
    assert records.curves["return_normalised"].iloc[-1] == pytest.approx(100 * (2000 - random) / (expert - random))
    facts = records.configs[run["run"]]["provenance"]
    assert facts["imported_from"] == str(theirs)
    assert facts["command"].startswith(f"dpft import-curve {theirs} --method dppo-authors")


def test_it_stands_beside_a_sweep_of_ours(theirs, tmp_path):
    """The same experiments as without it, and one more; seeds of files that end at other steps are seeds of it."""
    for seed in range(2):
        write_run(tmp_path / "mine", [(0, 1.0), (100, 2.0)], seed=seed)
    out = tmp_path / "theirs"
    main([str(theirs), *GIVEN, "--seed", "0", "--out", str(out)])
    theirs.write_text(CSV + "210000,2100,140\n")
    main([str(theirs), *GIVEN, "--seed", "1", "--out", str(out)])
    found = {e["method"] + e["variant"]: len(own.runs) for e, own in load([tmp_path / "mine", out]).experiments()}
    assert found == {"ncdpo": 2, "dppo-authors": 2}


def test_a_column_of_seeds_gives_a_run_each(tmp_path, capsys):
    path = tmp_path / "theirs.csv"
    path.write_text("seed,env_steps,loss,return,wall_seconds\n0,0,x,1,0\n1,0,x,2,0\n0,10,,3,1\n1,10,,4,1\n")
    assert main([str(path), *GIVEN, "--denoising-steps", "10", "--out", str(tmp_path / "out")]) == 0
    assert "columns left out: loss" in capsys.readouterr().out
    records = load([tmp_path / "out"])
    assert {seed: own["return_mean"].tolist() for seed, own in records.curves.groupby("seed")} == {0: [1, 3], 1: [2, 4]}
    assert records.runs["denoising_steps"].tolist() == [10, 10]


def test_a_task_of_their_own_has_no_normalised_return(theirs, tmp_path):
    main([str(theirs), "--method", "x", "--task", "kitchen", "--eval-episodes", "1", "--out", str(tmp_path / "out")])
    assert load([tmp_path / "out"]).curves["return_normalised"].isna().all()


HEADER = "env_steps,return,wall_seconds\n"


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("", "line 1: no column env_steps and return; expected"),
        ("", "but it is empty"),
        ("step,return,wall_seconds\n0,1,0\n", "line 1: no column env_steps; expected env_steps,return,"),
        ("step,return,wall_seconds\n0,1,0\n", "but it has step, return, wall_seconds"),
        ("env_steps,return,return,wall_seconds\n0,1,1,0\n", "line 1: a column is there twice"),
        (HEADER, "line 2: no rows"),
        (HEADER + "0,1,0\n10,oops,1\n", "line 3: return is 'oops'; expected a finite number"),
        (HEADER + "0,nan,0\n", "line 2: return is 'nan'; expected a finite number"),
        (HEADER + "0.5,1,0\n", "line 2: env_steps is '0.5'; expected a whole number from 0"),
        (HEADER + "0,,0\n", "line 2: return is ''"),
        (HEADER + "0,1,0\n10,2,1\n10,3,2\n", "line 4: env_steps 10 after 10; expected more"),
        (HEADER + "0,1,0\n10,2\n", "line 3: not as many cells as the header; expected 3"),
        (HEADER + "0,1,0,7\n", "line 2: not as many cells as the header; expected 3"),
        (HEADER + '0,1,"0\n', "expected CSV with commas"),
        ("seed," + HEADER + "-1,0,1,0\n", "line 2: seed is '-1'"),
    ],
)
def test_damage_is_one_line_and_nothing_is_written(text, says, theirs, tmp_path, capsys):
    theirs.write_text(text)
    assert dpft(["import-curve", str(theirs), *GIVEN, "--out", str(tmp_path / "out")]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith(f"dpft import-curve: {theirs}, ")
    assert says in line
    assert not (tmp_path / "out").exists()


def test_what_is_asked_wrongly_is_one_line(theirs, tmp_path, capsys):
    out = ("--out", str(tmp_path / "out"))
    binary = tmp_path / "binary.csv"
    binary.write_bytes(b"\xff\xfe\x00")
    seeds = tmp_path / "seeds.csv"
    seeds.write_text("seed," + HEADER + "0,0,1,0\n")
    for arguments, says in (
        ([str(tmp_path / "nothing.csv"), *GIVEN, *out], "cannot read"),
        ([str(binary), *GIVEN, *out], "no text; expected CSV in UTF-8"),
        ([str(seeds), *GIVEN, *out, "--seed", "1"], "has a column seed: leave --seed out"),
        ([str(theirs), *GIVEN, *out, "--method", "dppo"], "name theirs otherwise, such as dppo-authors"),
        (
            [str(theirs), *GIVEN, *out, "--task", "../up"],
            "the first a letter or digit, got '../up'",
        ),
        ([str(theirs), *GIVEN, *out, "--task", ".hidden"], "got '.hidden'"),
        ([str(theirs), *GIVEN, *out, "--task", "t" * 101], "at most 100 letters"),
        ([str(theirs), *GIVEN, *out, "--method", "=1+1"], "got '=1+1'"),
        ([str(theirs), *GIVEN, *out, "--method", "a\nb"], "got 'a\\nb'"),
        ([str(theirs), *GIVEN, *out, "--eval-episodes", "-5"], "--eval-episodes: input should be greater than"),
        ([str(theirs), *GIVEN, *out, "--seed", "-1"], "--seed: input should be greater than or equal to 0"),
        ([str(theirs), *GIVEN, *out, "--denoising-steps", "-3"], "--denoising-steps: input should be greater than"),
        ([str(theirs), *GIVEN, "--out", str(theirs)], "theirs.csv/runs (Not a directory): choose another --out"),
    ):
        assert dpft(["import-curve", *arguments]) == 2
        (line,) = capsys.readouterr().err.splitlines()
        assert says in line
    assert not (tmp_path / "out").exists()


def test_what_was_imported_is_not_overwritten(theirs, tmp_path, capsys):
    arguments = ["import-curve", str(theirs), *GIVEN, "--out", str(tmp_path / "out")]
    assert dpft(arguments) == 0
    before = {path: path.read_bytes() for path in (tmp_path / "out").rglob("*.*")}
    assert dpft(arguments) == 2
    assert "is there already" in capsys.readouterr().err
    assert {path: path.read_bytes() for path in (tmp_path / "out").rglob("*.*")} == before
    (folder,) = (tmp_path / "out" / "runs").iterdir()
    assert json.loads((folder / "done.json").read_text())["env_steps"] == 200_000
    assert yaml.safe_load((folder / "config.yaml").read_text())["base_seed"] is None


def test_on_a_full_disk_no_seed_is_imported(tmp_path):
    """The second seed's curve is the larger: the first is not left alone either."""
    path = tmp_path / "theirs.csv"
    rows = [f"{seed},{step},1\n" for seed, count in ((0, 3), (1, 500)) for step in range(count)]
    path.write_text("seed,env_steps,return\n" + "".join(rows))
    arguments = ["import-curve", str(path), *GIVEN, "--out", str(tmp_path / "out")]
    done = full_disk.dpft(4000, *arguments)
    assert done.returncode == 2
    assert done.stderr.startswith(f"dpft import-curve: cannot write to {tmp_path / 'out/runs'} (File too large)")
    assert list((tmp_path / "out/runs").iterdir()) == []
    assert dpft(arguments) == 0
    assert len(list((tmp_path / "out/runs").iterdir())) == 2


def test_torch_is_not_imported(theirs, tmp_path):
    code = (
        "import sys; from dpft.sweeps.cli import main; assert main(['import-curve', *sys.argv[1:]]) == 0;"
        "assert not {'torch', 'mujoco', 'matplotlib'} & set(sys.modules)"
    )
    command = [sys.executable, "-c", code, str(theirs), *GIVEN, "--out", str(tmp_path / "out")]
    subprocess.run(command, cwd=ROOT, check=True)


def test_a_curve_without_times_is_drawn_wherever_time_does_not_matter(tmp_path, capsys):
    path = tmp_path / "theirs.csv"
    path.write_text("env_steps,return\n0,1000\n100,2000\n")
    out = tmp_path / "theirs"
    main([str(path), *GIVEN, "--out", str(out)])
    write_run(tmp_path / "mine", [(0, 1000.0), (100, 1500.0)])
    assert figures([str(tmp_path / "mine"), str(out), "--out", str(tmp_path / "both")]) == 0
    assert "| dppo-authors | - | 2000 |" in (tmp_path / "both" / "summary.md").read_text()
    records = load([tmp_path / "mine", out])
    assert "dppo-authors" not in [text.get_text() for text in compute(records)[0].legends[0].get_texts()]
    shutil.rmtree(tmp_path / "mine")
    with pytest.raises(NothingToDraw, match="no finished run has times"):
        compute(load([out]))


def test_a_task_may_be_any_id_of_gymnasium(theirs, tmp_path):
    for number, task in enumerate(("my_envs:Point-v0", "robosuite/Lift")):
        assert main([str(theirs), *GIVEN, "--task", task, "--out", str(tmp_path / str(number))]) == 0
        (folder,) = (tmp_path / str(number) / "runs").iterdir()
        assert yaml.safe_load((folder / "config.yaml").read_text())["task"] == task

"""The command `dpft figures`: its files, their bytes, its words."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import matplotlib.image as plt
from run_folders import write_run

from dpft.analysis.cli import figures
from dpft.analysis.figures import FIGURES
from dpft.analysis.load import run_folders
from dpft.analysis.style import FORMATS

ROOT = Path(__file__).parents[2]
NAMES = (
    "sample_efficiency",
    "compute",
    "aggregates",
    "steps_to_threshold",
    "diagnostics",
)  # what the fixture's records allow
FILES = ("summary.md", "results.csv", "results.tex", *(f"{name}.{kind}" for name in NAMES for kind in FORMATS))


def test_the_command(sweep, capsys):
    assert figures([str(sweep)]) == 0
    said = capsys.readouterr()
    assert "runs: 23 done, 1 failed" in said.out
    assert str(sweep / "figures" / "summary.md") in said.out
    assert said.err == ""
    assert sorted(path.name for path in (sweep / "figures").iterdir()) == sorted(FILES)
    summary = (sweep / "figures" / "summary.md").read_text()
    assert "hopper-medium_dppo_K5_seed2: failed: loss/policy is nan at step 201" in summary
    assert "published scores are for v2" in summary


def test_the_same_records_give_the_same_bytes(sweep, tmp_path):
    """Another process, another place, another day: the bytes are those of the records."""
    copy = tmp_path / "elsewhere" / "demo"
    shutil.copytree(sweep, copy)
    for folder in (run_folders(sweep)[1], run_folders(copy)[1]):
        (folder / "curve.csv").unlink()
    for folder, seed in ((sweep, "0"), (copy, "1")):
        code = "import sys; from dpft.analysis.cli import figures; sys.exit(figures(sys.argv[1:]))"
        environment = os.environ | {"PYTHONHASHSEED": seed, "SOURCE_DATE_EPOCH": seed}
        subprocess.run([sys.executable, "-c", code, str(folder)], cwd=ROOT, env=environment, check=True)
    for name in FILES:
        assert (sweep / "figures" / name).read_bytes() == (copy / "figures" / name).read_bytes(), name


def test_neither_torch_nor_the_other_rooms_are_imported(sweep):
    code = (
        "import sys; from dpft.analysis.cli import figures; assert figures(sys.argv[1:]) == 0;"
        "print(sorted(set(sys.modules) & {'torch', 'dpft.envs', 'dpft.methods', 'dpft.sweeps', 'mujoco'}))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, str(sweep)], cwd=ROOT, check=True, capture_output=True, text=True
    )
    assert done.stdout.splitlines()[-1] == "[]"


def test_damage_is_one_line_and_the_rest_is_drawn(sweep, capsys):
    (run_folders(sweep)[0] / "curve.csv").write_text("")
    assert figures([str(sweep)]) == 0
    lines = capsys.readouterr().err.splitlines()
    assert [line.startswith("warning: ") for line in lines] == [True, True]
    assert "curve.csv: empty" in lines[0]
    assert "not in the means" in lines[1]
    assert "curve.csv: empty" in (sweep / "figures" / "summary.md").read_text()


def test_nothing_to_draw_is_one_line(tmp_path, capsys, monkeypatch):
    assert figures([str(tmp_path / "nothing")]) == 2
    assert len(capsys.readouterr().err.splitlines()) == 1
    monkeypatch.chdir(tmp_path)
    assert figures([]) == 2
    assert "make quickstart" in capsys.readouterr().err


def test_all_committed_results_by_default(sweep, tmp_path, monkeypatch):
    for name in ("one", "two"):
        shutil.copytree(sweep, tmp_path / "results" / name)
    (tmp_path / "results" / "README.md").write_text("notes")
    monkeypatch.chdir(tmp_path)
    assert figures([]) == 0
    assert (tmp_path / "results" / "two" / "figures" / "summary.md").exists()


def test_two_sweeps_on_the_same_axes(tmp_path, capsys):
    write_run(tmp_path / "mine", [(0, 1.0), (100, 2.0)], method="mine")
    write_run(tmp_path / "published", [(0, 1.0), (100, 2.0)])
    assert figures([str(tmp_path / "mine"), str(tmp_path / "published"), "--out", str(tmp_path / "both")]) == 0
    summary = (tmp_path / "both" / "summary.md").read_text()
    assert summary.startswith("# mine, published")
    assert "| mine |" in summary
    assert "| NCDPO |" in summary


def test_every_figure_says_why_it_is_not_drawn(tmp_path, capsys):
    write_run(tmp_path, [(0, 1.0)], status="unfinished")
    assert figures([str(tmp_path)]) == 0
    said = capsys.readouterr().out
    for name in FIGURES:
        assert f"{name} (" in said


def test_a_dark_background(tmp_path):
    write_run(tmp_path, [(0, 1.0), (100, 2.0)])
    for style in ("light", "dark"):
        assert figures([str(tmp_path), "--style", style, "--out", str(tmp_path / style)]) == 0
    corners = [plt.imread(tmp_path / style / "sample_efficiency.png")[0, 0, :3].mean() for style in ("light", "dark")]
    assert corners[0] > 0.95
    assert corners[1] < 0.15


def test_chosen_figures_in_chosen_formats(tmp_path, capsys):
    write_run(tmp_path, [(0, 1.0), (100, 2.0)])
    arguments = [str(tmp_path), "--format", "svg", "pdf", "--only", "compute", "sample_efficiency"]
    assert figures(arguments) == 0
    names = [f"{name}.{kind}" for name in ("compute", "sample_efficiency") for kind in ("pdf", "svg")]
    assert sorted(path.name for path in (tmp_path / "figures").iterdir()) == names
    assert "sample_efficiency: hopper-medium, K = 5 denoising steps." in capsys.readouterr().out
    assert figures([str(tmp_path), "--only", "sample_eficiency"]) == 2
    assert "no such figure: did you mean sample_efficiency?" in capsys.readouterr().err
    assert figures([str(tmp_path), "--format", "pdf"]) == 0
    assert "[compute](compute.pdf)" in (tmp_path / "figures" / "summary.md").read_text()


def test_a_caption_is_text_beside_the_figure_and_below_it_on_request(tmp_path):
    write_run(tmp_path, [(0, 1.0), (100, 2.0)])
    heights = []
    for captioned in ([], ["--caption"]):
        assert figures([str(tmp_path), "--format", "png", *captioned]) == 0
        heights.append(plt.imread(tmp_path / "figures" / "sample_efficiency.png").shape[0])
        assert "Evaluation: mean return of 20 complete episodes" in (tmp_path / "figures" / "summary.md").read_text()
    assert heights[1] > heights[0] + 100

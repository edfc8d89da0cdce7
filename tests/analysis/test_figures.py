"""What is drawn, what the caption and the table say, and the command around them."""

import os
import shutil
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from run_folders import write_run

from analysis.cli import figures
from analysis.figures import COLOURS, colours, sample_efficiency, sample_efficiency_caption
from analysis.load import Records, load, run_folders
from analysis.tables import results_table

ROOT = Path(__file__).parents[2]
FILES = ("sample_efficiency.png", "sample_efficiency.svg", "summary.md")


def lines(axis, colour, linestyle):
    return [line for line in axis.lines if line.get_color() == colour and line.get_linestyle() == linestyle]


def test_what_is_drawn(sweep):
    figure = sample_efficiency(load([sweep]))
    hopper, walker = figure.axes
    assert (hopper.get_title(), walker.get_title()) == ("hopper-medium, K = 5", "walker2d-medium, K = 5")

    blue = COLOURS["ncdpo"]
    thick = max(lines(hopper, blue, "-"), key=lambda line: line.get_linewidth())
    # the mean of seeds whose evaluations are at i * 100 + seed steps, ending where the first seed ends
    assert thick.get_xdata()[-1] == 300
    at_300 = [
        np.interp(300, [0, 100 + s, 200 + s, 300 + s], [1000, 1100 + 10 * s, 1200 + 30 * s, 1400 + 50 * s])
        for s in range(3)
    ]
    assert thick.get_ydata()[-1] == pytest.approx(np.mean(at_300))
    assert len(lines(hopper, blue, "-")) == 4  # three seeds and their mean

    bases = {line.get_color(): line.get_ydata()[0] for line in walker.lines if line.get_linestyle() == "--"}
    assert bases == {
        COLOURS["ncdpo"]: 2000.0,
        COLOURS["dppo"]: 2020.0,
        COLOURS["dsrl-na"]: 1900.0,
        COLOURS["gaussian-ppo"]: 1600.0,
    }
    (failed,) = lines(hopper, COLOURS["dppo"], ":")
    assert failed.get_xdata().tolist() == [0, 102]
    assert lines(walker, COLOURS["dppo"], ":") == []
    survivors = max(lines(hopper, COLOURS["dppo"], "-"), key=lambda line: line.get_linewidth())
    assert survivors.get_xdata()[-1] == 300  # the failed run, which ended at step 102, is not in the mean


@pytest.mark.parametrize(("count", "entry"), [(12, "NCDPO, clip=0.1"), (13, "NCDPO: 13 settings")])
def test_a_legend_of_many_settings_names_their_method_only(tmp_path, count, entry):
    for i in range(count):
        write_run(tmp_path, [(0, 1.0), (100, 2.0)], settings={"gamma": 0.99, "clip": 0.1 * (i + 1)})
    (legend,) = sample_efficiency(load([tmp_path])).legends
    labels = [text.get_text() for text in legend.get_texts()]
    assert entry in labels
    assert len([label for label in labels if label.startswith("NCDPO")]) == (count if count == 12 else 1)


def test_five_seeds_are_a_mean_and_a_band_only(tmp_path):
    for seed in range(5):
        write_run(tmp_path, [(0, 1.0), (100, 2.0 + seed)], seed=seed)
    (axis,) = sample_efficiency(load([tmp_path])).axes
    assert len(lines(axis, COLOURS["ncdpo"], "-")) == 1
    assert len(axis.collections) == 1


def test_policies_without_a_chain_are_drawn_beside_every_k(tmp_path):
    for k in (5, 20):
        write_run(tmp_path, [(0, 1.0), (100, 2.0)], k=k)
    write_run(tmp_path, [(0, 1.0), (100, 2.0)], method="gaussian-ppo")
    figure = sample_efficiency(load([tmp_path]))
    assert [axis.get_title() for axis in figure.axes] == ["hopper-medium, K = 5", "hopper-medium, K = 20"]
    for axis in figure.axes:
        assert lines(axis, COLOURS["gaussian-ppo"], "-")
    assert figure.axes[0].get_ylim() == figure.axes[1].get_ylim()


def test_a_policy_from_scratch_has_no_base_line(tmp_path):
    write_run(tmp_path, [(0, 1.0), (100, 2.0)], from_scratch=True)
    records = load([tmp_path])
    (axis,) = sample_efficiency(records).axes
    assert lines(axis, COLOURS["ncdpo"], "--") == []
    assert "base policy" not in sample_efficiency_caption(records)


def test_a_method_keeps_its_colour():
    assert len(set(colours(["mine", "yours"]).values())) == len(COLOURS) + 2
    assert colours(["ncdpo", "mine"])["ncdpo"] == colours(["dppo", "ncdpo"])["ncdpo"]
    assert colours(["yours", "mine"]) == colours(["mine", "yours"])


def caption(records: Records) -> str:
    return sample_efficiency_caption(records)


def test_the_caption_says_what_was_done(sweep):
    text = caption(load([sweep]))
    for part in (
        "Short demonstration.",
        "hopper-medium, walker2d-medium, K = 5 denoising steps",
        "2 to 3 per method",
        "95 % percentile-bootstrap interval",
        "20 complete episodes",
        "Intervals cover fine-tuning only: seeds share one base policy.",
        "1 of 24 runs failed",
    ):
        assert part in text


def test_the_caption_does_not_say_that_bases_are_shared_where_they_are_not(tmp_path):
    for seed in range(2):
        write_run(tmp_path, [(0, 1.0), (100, 2.0)], seed=seed, base_seed=seed)
    assert "share one base" not in caption(load([tmp_path]))


def test_the_table(sweep):
    table = results_table(load([sweep])).splitlines()
    rows = {
        tuple(cell.strip() for cell in row.split("|")[1:3]): [c.strip() for c in row.split("|")[3:-1]]
        for row in table[2:]
    }
    assert len(rows) == 8
    # final returns 1400, 1450, 1500: with three seeds the interval is the range; areas 350000, 357555, 365120
    assert rows["hopper-medium", "NCDPO"] == [
        "5", "3", "301", "1000", "1450 [1400, 1500]", "450 [400, 500]", "1188", "14.5 [14.0, 15.0]", "0.5", "0 of 3",
    ]  # fmt: skip
    assert rows["hopper-medium", "DPPO"][1] == "2"
    assert rows["hopper-medium", "DPPO"][-1] == "1 of 3"
    assert rows["hopper-medium", "Gaussian PPO"][0] == "-"
    assert "D4RL-scaled, v5 dynamics" in table[0]


def test_an_experiment_that_only_failed_is_listed(tmp_path):
    write_run(tmp_path, [(0, 1.0), (100, 2.0)])
    write_run(tmp_path, [(0, 1.0)], method="dppo", status="failed", reason="loss is inf")
    records = load([tmp_path])
    assert results_table(records).splitlines()[-2:][0].endswith("| 1 of 1 |")
    assert sample_efficiency(records).axes


def test_the_command(sweep, capsys):
    assert figures([str(sweep)]) == 0
    said = capsys.readouterr()
    assert "runs: 23 done, 1 failed" in said.out
    assert str(sweep / "figures" / "summary.md") in said.out
    assert said.err == ""
    assert sorted(path.name for path in (sweep / "figures").iterdir()) == sorted(FILES)
    summary = (sweep / "figures" / "summary.md").read_text()
    assert "`hopper-medium_dppo_K5_seed2`: failed: loss/policy is nan at step 201" in summary
    assert "published scores are for v2" in summary


def test_the_same_records_give_the_same_bytes(sweep, tmp_path):
    """Another process, another place, another day: the bytes are those of the records."""
    copy = tmp_path / "elsewhere" / "demo"
    shutil.copytree(sweep, copy)
    for folder in (run_folders(sweep)[1], run_folders(copy)[1]):
        (folder / "curve.csv").unlink()
    for folder, seed in ((sweep, "0"), (copy, "1")):
        code = "import sys; from analysis.cli import figures; sys.exit(figures(sys.argv[1:]))"
        environment = os.environ | {"PYTHONHASHSEED": seed, "SOURCE_DATE_EPOCH": seed}
        subprocess.run([sys.executable, "-c", code, str(folder)], cwd=ROOT, env=environment, check=True)
    for name in FILES:
        assert (sweep / "figures" / name).read_bytes() == (copy / "figures" / name).read_bytes(), name


def test_neither_torch_nor_the_other_rooms_are_imported(sweep):
    code = (
        "import sys; from analysis.cli import figures; assert figures(sys.argv[1:]) == 0;"
        "print(sorted({name.split('.')[0] for name in sys.modules} & {'torch', 'envs', 'methods', 'sweeps', 'mujoco'}))"
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


@pytest.mark.slow
def test_a_thousand_runs_in_a_minute(tmp_path, capsys):
    for task in ("hopper-medium", "walker2d-medium", "halfcheetah-medium"):
        for method in ("ncdpo", "dppo", "dsrl-na", "gaussian-ppo"):
            for k in (5, 10, 20, 50):
                for seed in range(21):
                    write_run(tmp_path, [(i * 1000 + seed, float(i)) for i in range(50)], task, method, k, seed)
    started = time.monotonic()
    assert figures([str(tmp_path)]) == 0
    assert time.monotonic() - started < 60

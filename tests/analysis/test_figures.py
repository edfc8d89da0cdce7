"""What is drawn, what the caption and the table say, and the command around them."""

import csv
import io
import os
import shutil
import subprocess
import sys
from pathlib import Path

import matplotlib.image as plt
import numpy as np
import pytest
from run_folders import write_run

from dpft.analysis import figures as drawings
from dpft.analysis.captions import NothingToDraw
from dpft.analysis.cli import figures
from dpft.analysis.figures import FIGURES
from dpft.analysis.load import Records, load, run_folders
from dpft.analysis.scores import ablation
from dpft.analysis.style import COLOURS, FORMATS, colours
from dpft.analysis.tables import ablation_table, results_csv, results_latex, results_table

ROOT = Path(__file__).parents[2]
NAMES = (
    "sample_efficiency",
    "compute",
    "aggregates",
    "steps_to_threshold",
    "diagnostics",
)  # what the fixture's records allow
FILES = ("summary.md", "results.csv", "results.tex", *(f"{name}{suffix}" for name in NAMES for suffix in FORMATS))


def sample_efficiency(records: Records):
    return drawings.sample_efficiency(records)[0]


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


@pytest.mark.parametrize(("count", "crowded"), [(12, False), (13, True)])
def test_many_settings_are_means_only(tmp_path, count, crowded):
    for i in range(count):
        for seed in range(2):
            write_run(
                tmp_path, [(0, 1.0), (100, 2.0 + seed)], seed=seed, settings={"gamma": 0.99, "clip": 0.1 * (i + 1)}
            )
    figure, text = drawings.sample_efficiency(load([tmp_path]))
    (axis,) = figure.axes
    assert len(axis.collections) == (0 if crowded else count)
    single = [line for line in axis.lines if line.get_alpha() == 0.45]  # one seed's
    assert len(single) == (0 if crowded else 2 * count)
    assert ("of 13 settings, intervals are in the table alone" in text) == crowded
    assert ("95 %" in text) != crowded


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
    with pytest.raises(NothingToDraw, match="every run is from scratch"):
        sample_efficiency(records)
    figure, text = drawings.from_scratch(records)
    assert lines(figure.axes[0], COLOURS["ncdpo"], "--") == []
    assert "base policy" not in text
    write_run(tmp_path, [(0, 1.0), (100, 2.0)])
    assert len(lines(drawings.from_scratch(load([tmp_path]))[0].axes[0], COLOURS["ncdpo"], "-")) == 2  # run and mean


def test_a_method_keeps_its_colour():
    assert len(set(colours(["mine", "yours"]).values())) == len(COLOURS) + 2
    assert colours(["ncdpo", "mine"])["ncdpo"] == colours(["dppo", "ncdpo"])["ncdpo"]
    assert colours(["yours", "mine"]) == colours(["mine", "yours"])


def caption(records: Records) -> str:
    return drawings.sample_efficiency(records)[1]


def test_the_caption_says_what_was_done(sweep):
    text = caption(load([sweep]))
    for part in (
        "Short demonstration.",
        "hopper-medium, walker2d-medium, K = 5 denoising steps",
        "Seeds: 2 to 3 per method; intervals: 95 %, Student's t under 5 seeds, where every seed is shown",
        "Corresponds to the sample-efficiency figures",
        "20 complete episodes",
        "Intervals cover fine-tuning only: seeds share one base policy.",
        "1 of 24 runs failed and are in no mean",
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
    # final returns 1400, 1450, 1500: 1450 +- 4.303 * 50 / sqrt(3); areas 350000, 357555, 365120
    assert rows["hopper-medium", "NCDPO"] == [
        "5", "3", "301", "1000", "1450 [1326, 1574]", "450 [326, 574]", "1188", "14.5 [13.3, 15.7]", "0.5", "0 of 3",
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


def test_a_best_value_needs_five_seeds_and_a_difference(tmp_path):
    for method, top in (("ncdpo", 2000.0), ("dppo", 1500.0)):
        for seed in range(5):
            write_run(tmp_path, [(0, 1000.0), (100, top + 10 * seed)], method=method, seed=seed)
    assert results_table(load([tmp_path])).count("**") == 2
    assert r"\textbf{2020 [" in results_latex(load([tmp_path]))
    shutil.rmtree(tmp_path / "runs" / "hopper-medium_dppo_K5_seed4")
    assert "**" not in results_table(load([tmp_path]))
    write_run(tmp_path, [(0, 1000.0), (100, 9000.0)], method="dppo", seed=4)
    assert "**" not in results_table(load([tmp_path])), "one outlier makes the interval of the difference wide"


def test_the_csv_holds_what_the_table_rounds(sweep):
    rows = list(csv.DictReader(io.StringIO(results_csv(load([sweep])))))
    ours = next(row for row in rows if (row["task"], row["method"]) == ("hopper-medium", "NCDPO"))
    assert float(ours["final_mean"]) == 1450.0
    assert float(ours["final_high"]) - 1450.0 == pytest.approx(4.302653 * 50 / 3**0.5, rel=1e-6)
    assert (ours["seeds"], ours["failed"], ours["runs"]) == ("3", "0", "3")


def test_latex_is_escaped_and_balanced(sweep):
    text = results_latex(load([sweep]))
    assert text.count("{") == text.count("}")
    body = text.split(r"\midrule")[1].split(r"\bottomrule")[0].strip().splitlines()
    assert len(body) == 8
    assert len({line.count("&") for line in body}) == 1


def many_steps(folder: Path, ks=(5, 20)) -> Records:
    for k in ks:
        for seed in range(2):
            write_run(folder, [(0, 1000.0), (100, 1100.0 + 10 * k + seed)], k=k, seed=seed)
    write_run(folder, [(0, 900.0), (100, 950.0)], method="gaussian-ppo")
    return load([folder])


def test_robustness_to_denoising_steps(tmp_path):
    records = many_steps(tmp_path)
    final, area = drawings.denoising_steps(records)[0].axes
    (joined,) = [line for line in final.lines if line.get_marker() == "o"]
    assert joined.get_ydata().tolist() == [1150.5, 1300.5]
    assert [line.get_ydata()[0] for line in final.lines if line.get_linestyle() == "-."] == [950.0]
    (joined,) = [line for line in area.lines if line.get_marker() == "o"]
    assert joined.get_ydata().tolist() == [1075.25, 1150.25]
    (panel,) = drawings.curves_by_denoising_steps(records)[0].axes
    assert sum(line.get_linewidth() == 1.6 for line in panel.lines) == 2
    shutil.rmtree(tmp_path / "runs")
    with pytest.raises(NothingToDraw, match="one number of denoising steps"):
        drawings.denoising_steps(many_steps(tmp_path, ks=(5,)))


def test_time_is_that_of_the_runs(sweep):
    figure, text = drawings.compute(load([sweep]))
    hopper = figure.axes[0]
    mean = next(line for line in hopper.lines if line.get_linewidth() == 1.6)
    assert mean.get_xdata()[-1] == pytest.approx(300 / 20 / 60)  # the fixture's CPU seconds, in minutes
    assert "CPU minutes" in hopper.get_xlabel()
    assert "Hardware: " in text


def test_shares_of_time(tmp_path):
    for seed in range(2):
        write_run(tmp_path, [(0, 1.0), (100, 2.0)], seed=seed)
    bars = drawings.compute(load([tmp_path]))[0].axes[1].patches
    assert [round(bar.get_width(), 1) for bar in bars] == [12.5, 25.0, 62.5]


def test_aggregates_are_of_methods_with_runs_on_every_task(sweep):
    shutil.rmtree(sweep / "runs" / "walker2d-medium_dsrl-na_K5_seed0")
    figure, text = drawings.aggregates(load([sweep]))
    names = [label.get_text().replace("\xa0", " ") for label in figure.axes[0].get_yticklabels()]
    assert sorted(names) == ["DPPO, K = 5", "DSRL-NA, K = 5", "Gaussian PPO", "NCDPO, K = 5"]
    assert len(figure.axes[3].get_yticklabels()) == 6
    assert "over 2 tasks" in text
    for seed in (1, 2):
        shutil.rmtree(sweep / "runs" / f"walker2d-medium_dsrl-na_K5_seed{seed}")
    figure, _ = drawings.aggregates(load([sweep]))
    assert not any("DSRL-NA" in label.get_text() for label in figure.axes[0].get_yticklabels())


def test_runs_that_never_reach_a_threshold_are_shown_as_such(tmp_path):
    write_run(tmp_path, [(0, 1000.0), (100, 6000.0), (300, 7000.0)])  # scaled: 10, 60, 70
    write_run(tmp_path, [(0, 1000.0), (300, 2000.0)], method="dppo")
    figure, text = drawings.steps_to_threshold(load([tmp_path]))
    half, _, _ = figure.axes
    found = {line.get_marker(): line.get_xdata()[0] for line in half.lines}
    assert found == {"o": 80.0, ">": 300.0}
    assert "(5 of 6 cases): censored" in text


def test_diagnostics_and_chains(tmp_path):
    run = write_run(tmp_path, [(0, 1.0), (100, 2.0)])
    (run / "metrics.csv").write_text("env_steps,policy/kl,policy/clip_fraction\n50,0.1,0.2\n100,0.2,0.3\n")
    chain = np.random.default_rng(0).normal(size=(64, 6, 4, 3)).astype(np.float32)
    np.savez(run / "chains.npz", obs=np.zeros((64, 11)), chain_before=chain, chain_after=chain + 1)
    records = load([tmp_path])
    titles = [axis.get_title() for axis in drawings.diagnostics(records)[0].axes]
    assert titles == ["KL estimate, nats", "Clip fraction"]
    before, after = drawings.chains(records)[0].axes
    ends = next(line for line in after.lines if line.get_marker() == "o")
    assert ends.get_xdata() == pytest.approx(chain[:30, -1, 0, 0] + 1)
    assert len([line for line in before.lines if len(line.get_xdata()) == 6]) == 30


def test_an_ablation_is_the_final_return_for_each_value(tmp_path):
    for clip, top in ((0.01, 5.0), (0.1, 7.0), (0.05, 6.0)):
        for seed in range(2):
            write_run(tmp_path, [(0, 1.0), (100, top + seed)], seed=seed, settings={"gamma": 0.99, "clip": clip})
    figure, text = ablation(load([tmp_path], "clip"), "clip")
    (axis,) = figure.axes
    assert [label.get_text() for label in axis.get_xticklabels()] == ["0.01", "0.05", "0.1"]
    assert [line.get_ydata().tolist() for line in axis.lines if line.get_marker() == "o"] == [[5.5, 6.5, 7.5]]
    assert "Seeds: 2 per method" in text
    with pytest.raises(NothingToDraw, match="gamma has one value"):
        ablation(load([tmp_path], "gamma"), "gamma")
    assert figures([str(tmp_path), "--ablate", "clip"]) == 0
    assert (tmp_path / "figures" / "ablation_clip.pdf").stat().st_size > 1000
    assert figures([str(tmp_path), "--ablate", "clipp"]) == 2


def test_an_ablation_compares_runs_of_the_same_seed(tmp_path):
    """Seeds differ far more than values do, yet paired the difference is plain; a seed without a partner is in none."""
    for seed in range(4):
        write_run(tmp_path, [(0, 0.0), (100, 100.0 * seed)], seed=seed, settings={"clip": 0.01})
        write_run(
            tmp_path, [(0, 0.0), (100, 100.0 * seed + 15 + seed % 2)], seed=seed + (seed == 3), settings={"clip": 0.1}
        )
    _, _, first, second = ablation_table(load([tmp_path], "clip"), "clip").splitlines()
    assert first == "| hopper-medium | NCDPO | 5 | 0.01 | 4 | 150 [-55, 355] | - | 75 [-28, 178] | - |"
    change = 100 * np.array([15.0, 16, 15]) / 150
    half = 2.919986 * change.std(ddof=1) / np.sqrt(3)
    said = f"{change.mean():.1f} [{change.mean() - half:.1f}, {change.mean() + half:.1f}]"
    assert second.startswith("| hopper-medium | NCDPO | 5 | 0.1 | 4 |")
    assert second.count(f"| {said} |") == 2
    assert figures([str(tmp_path), "--ablate", "clip"]) == 0
    assert said in (tmp_path / "figures" / "ablation_clip.md").read_text()


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

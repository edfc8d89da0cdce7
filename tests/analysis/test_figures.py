"""What is drawn, and what the caption says."""

import shutil
from pathlib import Path

import numpy as np
import pytest
from run_folders import write_run

from dpft.analysis import figures as drawings
from dpft.analysis.captions import NothingToDraw
from dpft.analysis.cli import figures
from dpft.analysis.load import Records, load
from dpft.analysis.scores import ablation
from dpft.analysis.style import COLOURS, GREY, colours
from dpft.analysis.tables import results


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


@pytest.mark.parametrize(("count", "named"), [(12, range(12)), (13, (3, 9, 11, 12))])
def test_of_many_settings_the_best_are_named_and_the_others_grey(tmp_path, count, named):
    finals = [5, 1, 2, 9, 3, 4, 0, 5, 6, 7, 6.5, 8, 10]
    for i in range(count):
        write_run(tmp_path, [(0, 1.0), (100, float(finals[i]))], settings={"gamma": 0.99, "clip": i + 1})
    figure = sample_efficiency(load([tmp_path]))
    labels = [text.get_text() for text in figure.legends[0].get_texts()]
    assert [label for label in labels if "clip" in label] == [f"NCDPO, clip={i + 1}" for i in named]
    assert ("9 other settings" in labels) == (count == 13)
    grey = [line for line in figure.axes[0].lines if line.get_color() == GREY and line.get_ydata()[-1] in finals]
    assert len(grey) == count - len(named)


@pytest.mark.parametrize(("count", "crowded"), [(12, False), (13, True)])
def test_many_settings_are_means_only(tmp_path, count, crowded):
    for i in range(count):
        for seed in range(3):
            write_run(
                tmp_path, [(0, 1.0), (100, 2.0 + seed)], seed=seed, settings={"gamma": 0.99, "clip": 0.1 * (i + 1)}
            )
    figure, text = drawings.sample_efficiency(load([tmp_path]))
    (axis,) = figure.axes
    assert len(axis.collections) == (0 if crowded else count)
    single = [line for line in axis.lines if "seed" in str(line.get_gid())]
    assert len(single) == (0 if crowded else 3 * count)
    assert ("of 13 settings the best 4 by their last evaluation are named" in text) == crowded
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


def test_bases_that_are_equal_are_all_seen(tmp_path):
    """At each place of the level only one colour's dash is drawn."""
    for method in ("ncdpo", "dppo", "gaussian-ppo"):
        write_run(tmp_path, [(0, 1000.0), (100, 3000.0)], method=method)
    figure = sample_efficiency(load([tmp_path]))
    bases = [line for line in figure.axes[0].lines if line.get_linestyle() == "--"]
    assert {line.get_color() for line in bases} == {COLOURS["ncdpo"], COLOURS["dppo"], COLOURS["gaussian-ppo"]}
    at = np.arange(0, 100, 0.1)
    drawn = np.zeros((3, len(at)), bool)
    for i, line in enumerate(bases):
        offset, (dash, gap) = line._unscaled_dash_pattern
        drawn[i] = (at + offset) % (dash + gap) < dash
    assert (drawn.sum(axis=0) == 1).all()


def test_what_the_legend_names_lies_inside_the_axis(tmp_path):
    """Walker's demonstrations have twice the return of any run."""
    facts = {"fine_tunes": "diffusion", "demo_mean_return": 2626.0}
    write_run(tmp_path, [(0, 945.0), (100, 1300.0)], provenance=facts)
    figure = sample_efficiency(load([tmp_path]))
    low, high = figure.axes[0].get_ylim()
    assert "demonstrations" in [text.get_text() for text in figure.legends[0].get_texts()]
    assert low < 945 < 2626 < high


def test_one_order_of_methods_everywhere(sweep):
    """Legend, bars and rows: NCDPO first, those without diffusion last, methods from elsewhere after them."""
    for task in ("hopper-medium", "walker2d-medium"):
        write_run(sweep, [(0, 1.0), (100, 2.0), (200, 3.0)], task, "a-method")
    names = ["NCDPO", "DPPO", "DSRL-NA", "Gaussian PPO", "a-method"]
    records = load([sweep])

    def first_words(texts):
        return [text.get_text().split(",")[0].removeprefix("hopper ") for text in texts if text.get_text()]

    assert first_words(sample_efficiency(records).legends[0].get_texts())[:5] == names
    assert first_words(drawings.compute(records)[0].axes[2].get_yticklabels())[:5] == names
    assert first_words(drawings.steps_to_threshold(records)[0].axes[0].get_yticklabels()) == names
    assert first_words(drawings.aggregates(records)[0].axes[0].get_yticklabels()) == names
    assert [row.name for row in results(records)][:5] == names


def test_time_has_one_scale_in_every_panel(sweep):
    axes = drawings.compute(load([sweep]))[0].axes[:2]
    assert {axis.get_xscale() for axis in axes} == {"log"}
    assert axes[0].get_xlim() == axes[1].get_xlim()


def test_untrained_bases_are_one_panel(tmp_path):
    for k in (1, 10, 100):
        write_run(tmp_path, [(0, 1000.0 + k)], k=k)
    (axis,) = drawings.denoising_steps(load([tmp_path]))[0].axes
    assert axis.get_ylabel() == "Return of the base policy"


def test_diagnostics_pool_neither_tasks_nor_scales(tmp_path):
    for task in ("hopper-medium", "walker2d-medium"):
        for method, loss in (("ncdpo", 0.02), ("dppo", 0.01), ("dsrl-na", -900.0)):
            run = write_run(tmp_path, [(0, 1.0), (100, 2.0)], task, method)
            (run / "metrics.csv").write_text(f"env_steps,loss/policy\n50,{loss}\n100,{loss / 2}\n")
    axes = drawings.diagnostics(load([tmp_path]))[0].axes
    assert [axis.get_title() for axis in axes] == [
        "hopper-medium: Policy loss: NCDPO, DPPO",
        "hopper-medium: Policy loss: DSRL-NA",
        "walker2d-medium: Policy loss: NCDPO, DPPO",
        "walker2d-medium: Policy loss: DSRL-NA",
    ]
    assert [len(axis.lines) for axis in axes] == [2, 1, 2, 1]
    assert {axis.get_yscale() for axis in axes} == {"linear"}


def test_two_seeds_are_drawn_and_no_interval(tmp_path):
    for seed, final in enumerate((1850.0, 2750.0)):
        write_run(tmp_path, [(0, 1000.0), (100, final)], seed=seed)
    figure, text = drawings.sample_efficiency(load([tmp_path]))
    (axis,) = figure.axes
    assert not axis.collections
    assert 800 < axis.get_ylim()[0] < axis.get_ylim()[1] < 3000
    assert "2 per method, each shown; too few for an interval" in text


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


def many_steps(folder: Path, ks=(5, 20)) -> Records:
    for k in ks:
        for seed in range(2):
            write_run(folder, [(0, 1000.0), (100, 1100.0 + 10 * k + seed)], k=k, seed=seed)
    write_run(folder, [(0, 900.0), (100, 950.0)], method="gaussian-ppo")
    return load([folder])


def test_numbers_of_denoising_steps_do_not_lie_on_each_other(tmp_path):
    axis = drawings.denoising_steps(many_steps(tmp_path, ks=(5, 7, 9, 10, 20)))[0].axes[0]
    assert [text.get_text() for text in axis.get_xticklabels()] == ["5", "7", "", "10", "20"]


def test_robustness_to_denoising_steps(tmp_path):
    records = many_steps(tmp_path)
    final, area = drawings.denoising_steps(records)[0].axes
    (joined,) = [line for line in final.lines if line.get_marker() == "o"]
    assert joined.get_ydata().tolist() == [1150.5, 1300.5]
    assert [line.get_ydata()[0] for line in final.lines if line.get_linestyle() == "-."] == [950.0]
    (joined,) = [line for line in area.lines if line.get_marker() == "o"]
    assert joined.get_ydata().tolist() == [1075.25, 1150.25]
    assert all(axis.get_ylim()[0] > 900 and axis.get_ylim()[1] < 1400 for axis in (final, area))  # two seeds: no t
    assert not final.collections
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
    assert "(5 of 6 cases, beside each its number of seeds): censored" in text


def test_of_many_settings_the_thresholds_are_those_of_the_best(tmp_path):
    for i in range(13):
        write_run(tmp_path, [(0, 1000.0), (300, 6000.0 + i)], settings={"gamma": 0.99, "clip": i + 1})
    figure, text = drawings.steps_to_threshold(load([tmp_path]))
    labels = [label.get_text() for label in figure.axes[0].get_yticklabels()]
    assert labels == [f"NCDPO, clip={i}" for i in (10, 11, 12, 13)]
    assert "Of 13 settings the best 4 by their last evaluation." in text
    assert "(8 of 12 cases" in text


def test_seeds_that_never_reach_a_threshold_do_not_lie_on_each_other(tmp_path):
    for seed in range(7):
        write_run(tmp_path, [(0, 1000.0), (300, 2000.0 if seed < 5 else 7000.0)], seed=seed)
    half = drawings.steps_to_threshold(load([tmp_path]))[0].axes[0]
    places = [(float(line.get_xdata()[0]), float(line.get_ydata()[0])) for line in half.lines]
    assert len(places) == len(set(places)) == 3  # two dots, one triangle
    assert [text.get_text() for text in half.texts] == ["5"]


def test_diagnostics_and_chains(tmp_path):
    run = write_run(tmp_path, [(0, 1.0), (100, 2.0)])
    (run / "metrics.csv").write_text("env_steps,policy/kl,policy/clip_fraction\n50,0.1,0.2\n100,0.2,0.3\n")
    chain = np.random.default_rng(0).normal(size=(64, 6, 4, 3)).astype(np.float32)
    np.savez(run / "chains.npz", obs=np.zeros((64, 11)), chain_before=chain, chain_after=chain + 1)
    records = load([tmp_path])
    titles = [axis.get_title() for axis in drawings.diagnostics(records)[0].axes]
    assert titles == ["KL estimate, nats", "Clip fraction"]
    before, after, moved = drawings.chains(records)[0].axes
    ends = next(line for line in after.lines if line.get_marker() == "o")
    assert ends.get_xdata() == pytest.approx(chain[:, -1, 0, 0] + 1)
    assert len([line for line in before.lines if len(line.get_xdata()) == 6]) == 12
    assert moved.get_title() == f"moved by {2**0.5:.2g} on average"
    assert {before.lines[0].get_color(), after.lines[0].get_color()} == {GREY, COLOURS["ncdpo"]}
    assert {axis.get_aspect() for axis in (before, after, moved)} == {1.0}  # the square is a square


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

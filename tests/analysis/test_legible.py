"""Every figure at the size it has in a paper: its width, the size of its texts, the contrast of its lines."""

from pathlib import Path

import numpy as np
import pytest
from matplotlib.colors import to_rgb
from matplotlib.lines import Line2D
from matplotlib.text import Text
from run_folders import write_run

from dpft.analysis.captions import NothingToDraw
from dpft.analysis.figures import FIGURES
from dpft.analysis.load import Records, load
from dpft.analysis.scores import ablation
from dpft.analysis.speed import load_benchmarks, speed_figure
from dpft.analysis.style import COLOURS, GREY, NEXT_COLOURS, STYLES, contrast, picture, style

SPEED = Path(__file__).parents[2] / "results" / "speed"


@pytest.fixture(scope="module")
def everything(tmp_path_factory) -> Records:
    """Records of which every figure can be drawn: two tasks, three K, from scratch, a failed run, chains, metrics."""
    folder = tmp_path_factory.mktemp("everything")
    rng = np.random.default_rng(0)
    facts = {"fine_tunes": "diffusion", "demo_mean_return": 3000.0}
    for task in ("hopper-medium", "walker2d-medium"):
        for method in ("ncdpo", "dppo", "a-method-from-a-package"):
            for k in (1, 10, 100):
                for seed in range(3):
                    curve = [(i * 1000, 1000.0 + 200 * i + 10 * seed + k) for i in range(6)]
                    run = write_run(folder, curve, task, method, k, seed, provenance=facts)
                    rows = [f"{i * 1000},1,0.1,0.2,{0.1 * k + i}" for i in range(1, 6)]
                    head = "env_steps,time/act,time/update,policy/kl,policy/gradient_norm"
                    (run / "metrics.csv").write_text("\n".join([head, *rows]) + "\n")
                    if seed == 0 and k == 10:
                        chain = rng.normal(size=(64, 6, 4, 3))
                        np.savez(run / "chains.npz", chain_before=chain, chain_after=chain + 0.1)
        write_run(folder, [(0, 900.0), (1000, 950.0)], task, "gaussian-ppo")
        write_run(folder, [(0, 10.0), (1000, 950.0)], task, "gaussian-ppo", from_scratch=True)
        write_run(folder, [(0, 900.0), (500, 950.0)], task, "dsrl-na", status="failed", reason="loss is nan")
    return load([folder])


def ablated(records: Records) -> Records:
    return records.select(records.runs.assign(value=records.runs["seed"].astype(str)))


KINDS = {
    **{name: lambda records, draw=draw: draw(records) for name, draw in FIGURES.items()},
    "ablation": lambda records: ablation(ablated(records), "seed"),
    "speed": lambda records: speed_figure(load_benchmarks(SPEED)[0]),
}


@pytest.mark.parametrize("name", KINDS)
def test_a_figure_is_legible_at_its_size_in_a_paper(name, everything):
    """A column is 3.3 inches wide, a page 6.8; set at that width no text is under 6 points."""
    with style():
        figure, _ = KINDS[name](everything)
        picture(figure, "svg")  # makes the texts of the axes
    width = figure.get_figwidth()
    column = 3.3 if width <= 3.3 else 6.8
    texts = [text for text in figure.findobj(Text) if text.get_visible() and text.get_text().strip()]
    assert texts
    smallest = min(texts, key=lambda text: text.get_fontsize())
    assert smallest.get_fontsize() * min(1, column / width) >= 6, smallest
    assert not any(text.get_parse_math() for text in texts)


@pytest.mark.parametrize("look", STYLES)
@pytest.mark.parametrize("name", KINDS)
def test_lines_stand_out_from_their_background(name, look, everything):
    ground = STYLES[look]["axes.facecolor"]
    with style(look):
        figure, _ = KINDS[name](everything)
    for axis in figure.axes:
        for line in [*axis.lines, *(legend_line for legend in figure.legends for legend_line in legend.get_lines())]:
            assert isinstance(line, Line2D)
            alpha = 1.0 if line.get_alpha() is None else line.get_alpha()
            seen = alpha * np.array(to_rgb(line.get_color())) + (1 - alpha) * np.array(to_rgb(ground))
            assert contrast(seen, ground) >= 3, line


def test_one_palette_serves_both_backgrounds():
    for colour in (*COLOURS.values(), *NEXT_COLOURS, GREY):
        for look in STYLES.values():
            assert contrast(colour, look["axes.facecolor"]) >= 3
    assert contrast("white", "black") == pytest.approx(21)
    assert contrast("#777777", "white") == pytest.approx(4.48, abs=0.01)  # WCAG's own example of a near miss of 4.5


def test_every_figure_can_be_drawn_of_them(everything):
    for draw in FIGURES.values():
        try:
            draw(everything)
        except NothingToDraw as reason:  # pragma: no cover
            pytest.fail(str(reason))

"""The speed page, from a file that pytest-benchmark itself wrote."""

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from dpft.analysis.cli import figures
from dpft.analysis.reading import RecordError
from dpft.analysis.speed import linear_fit, load_benchmarks, speed_figure

SPEED = Path(__file__).parents[2] / "results" / "speed"
BENCHMARK = """
import pytest

@pytest.mark.parametrize("envs", [1, 10])
def test_rate(benchmark, envs):
    benchmark.extra_info |= {"environments": envs, "threads": 1, "env_steps_per_second": 100 * envs}
    benchmark.pedantic(sum, [range(1000)], rounds=3)
"""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "test_it.py").write_text(BENCHMARK)
    command = [sys.executable, "-m", "pytest", "-q", "--benchmark-enable", "--benchmark-only"]
    environment = {name: value for name, value in os.environ.items() if not name.startswith("PYTEST_")}  # of xdist
    subprocess.run([*command, "--benchmark-json=bench.json", "test_it.py"], cwd=tmp_path, check=True, env=environment)
    return tmp_path


def test_only_what_was_measured_is_drawn(folder, capsys):
    assert figures([str(folder)]) == 0
    assert "benchmarks; drawn in" in capsys.readouterr().out
    text = (folder / "figures" / "summary.md").read_text()
    assert "| test_rate[10] |" in text
    assert "env steps per second 1000" in text
    figure, caption = speed_figure(load_benchmarks(folder)[0])
    (axis,) = figure.axes
    assert axis.lines[0].get_ydata().tolist() == [100, 1000]
    assert caption.startswith("Simulator: ")


def test_the_committed_page_has_every_panel():
    figure, caption = speed_figure(load_benchmarks(SPEED)[0])
    titles = [axis.get_title() for axis in figure.axes]
    assert titles == ["Update against K", "Simulator", "Whole runs", "Where time goes"]
    assert caption in (SPEED / "figures" / "summary.md").read_text()


def test_a_line_is_found():
    steps = np.array([1.0, 5.0, 10.0, 100.0])
    a, b, error = linear_fit(steps, 0.5 + 0.02 * steps)
    assert (a, b, error) == pytest.approx((0.5, 0.02, 0.0))
    assert linear_fit(steps, (0.5 + 0.02 * steps) * [1, 1, 1.2, 1])[2] > 0.05


@pytest.mark.parametrize("text", [None, "", "[]", json.dumps({"benchmarks": [{"name": "x"}]})])
def test_another_file_is_one_line(tmp_path, text):
    if text is not None:
        (tmp_path / "bench.json").write_text(text)
    with pytest.raises(RecordError, match=r"bench\.json is (missing|no file of pytest-benchmark)"):
        load_benchmarks(tmp_path)

"""dpft compare: known differences, its exit codes, and what cannot be compared."""

import pandas as pd
import pytest
from run_folders import write_run
from scipy import stats

from dpft.analysis.compare import compare
from dpft.sweeps.cli import main as dpft


def final(value: float) -> list[tuple[int, float]]:
    return [(0, 100.0), (100, 150.0), (300, value)]


@pytest.fixture
def sweeps(tmp_path):
    """A, and B that ends 10, 20 and 30 lower."""
    a, b = tmp_path / "a", tmp_path / "b"
    for seed in range(3):
        write_run(a, final(1000.0 + seed), seed=seed)
        write_run(b, final(990.0 - 9 * seed), seed=seed)
    return a, b


def test_the_difference_of_matched_seeds_and_its_interval(sweeps, capsys):
    assert compare([str(path) for path in sweeps]) == 1
    low, high = stats.t.interval(0.95, 2, loc=-20, scale=10 / 3**0.5)
    line = capsys.readouterr().out.splitlines()[0]
    assert line.startswith("hopper-medium ncdpo: B is worse: 1,001.0 -> 981.0, -20.0 ")
    assert f"[{low:+,.1f}, {high:+,.1f}] over 3 seeds, which holds 0" in line


@pytest.mark.parametrize(("tolerance", "code"), [("1.9", 1), ("2.1", 0)])
def test_the_tolerance_is_in_per_cent_of_a(sweeps, tolerance, code):
    assert compare([*map(str, sweeps), "--tolerance", tolerance]) == code


def test_b_that_is_better_passes(sweeps, capsys):
    assert compare([str(path) for path in reversed(sweeps)]) == 0
    assert "B is better" in capsys.readouterr().out


def test_the_mean_along_the_run(sweeps):
    assert compare([*map(str, sweeps), "--by", "area", "--tolerance", "1.4"]) == 1  # -10 on 692, where the end says 2 %


def test_two_settings_of_one_sweep(tmp_path, capsys):
    sweep = tmp_path / "s"
    for seed in range(2):
        write_run(sweep, final(500.0), method="dppo", seed=seed, settings={"clip": 0.1})
        write_run(sweep, final(600.0), method="dppo", seed=seed, settings={"clip": 0.2})
        write_run(sweep, final(900.0), method="ncdpo", seed=seed)
    both = [str(sweep), str(sweep)]
    assert compare([*both, "--a", "method=dppo", "clip=0.1", "--b", "clip=0.2", "method=dppo"]) == 0
    assert "500.0 -> 600.0, +100.0" in capsys.readouterr().out
    assert compare([*both, "--a", "method=ncdpo", "--b", "method=dppo"]) == 2
    assert "several runs of one task, K and seed" in capsys.readouterr().err
    assert compare([*both, "--a", "clip=0.1", "--b", "method=ncdpo"]) == 0
    assert "500.0 -> 900.0" in capsys.readouterr().out
    assert compare([*both, "--a", "clap=0.1"]) == 2
    assert "no config field 'clap'" in capsys.readouterr().err


def episodes(run, column: str, values: list[float]) -> None:
    table = {"env_steps": 300, "seed": range(len(values)), "return": 0.0, "length": 10, "ended": "truncated"}
    pd.DataFrame(table | {column: values}).to_csv(run / "episodes.csv", index=False)


def test_one_pair_of_runs_by_their_episodes(tmp_path, capsys):
    a, b = (write_run(tmp_path / name, final(100.0)) for name in "ab")
    episodes(a, "return", [1.0, 2.0, 3.0, 4.0])
    episodes(b, "return", [2.0, 3.0, 4.0, 6.0])
    assert compare([str(a), str(b)]) == 0
    low, high = stats.t.interval(0.95, 3, loc=1.25, scale=0.25)
    assert f"2.5 -> 3.8, +1.2 [{low:+,.1f}, {high:+,.1f}] over 4 evaluation episodes" in capsys.readouterr().out


def test_success_has_wilsons_intervals_and_fishers_test(tmp_path, capsys):
    a, b = (write_run(tmp_path / name, final(100.0)) for name in "ab")
    episodes(a, "success", [1.0] * 18 + [0.0] * 2)
    episodes(b, "success", [1.0] * 9 + [0.0] * 11)
    assert compare([str(a), str(b), "--tolerance", "10"]) == 1
    line = capsys.readouterr().out.splitlines()[0]
    # Wilson 1927 of 18 and of 9 in 20; Fisher's exact test of the table
    assert "90.0% [69.9%, 97.2%] -> 45.0% [25.8%, 65.8%], -45.0 points" in line
    assert f"p = {stats.fisher_exact([[18, 2], [9, 11]]).pvalue:.2g}" in line


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["nowhere", "nowhere"], "no such folder"),
        (["A", "B", "--tolerance", "nan"], "--tolerance: input should be a finite number"),
        (["A", "B", "--a", "clip"], "expected FIELD=VALUE"),
        (["A", "B", "--a", "method=dppo"], "no finished run with method=dppo"),
        (["A", "B", "--a", "seed=0", "--b", "seed=1"], "no run of"),
    ],
)
def test_what_cannot_be_compared_is_one_line(sweeps, arguments, words, capsys):
    places = dict(zip("AB", map(str, sweeps), strict=True))
    assert dpft(["compare", *(places.get(argument, argument) for argument in arguments)]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert words in line


def test_damaged_episodes_are_one_line(sweeps, capsys):
    damaged = next(sweeps[0].glob("**/config.yaml")).with_name("episodes.csv")
    damaged.touch()
    assert compare([str(path) for path in sweeps]) == 2
    said = capsys.readouterr()
    assert said.out == ""
    assert said.err == f"dpft compare: {damaged}: unreadable (No columns to parse from file)\n"

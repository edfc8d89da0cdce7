"""A search: proposals follow from the seed and the records alone, methods get the same budget, nonsense is one line."""

import csv
import json
import math
import signal
import subprocess
import sys
import time
from collections import Counter
from textwrap import dedent

import pytest
import yaml
from same import same_records

from dpft.envs import DataError
from dpft.sweeps.cli import main
from dpft.sweeps.grid import load_grid
from dpft.sweeps.launch import Sweep
from dpft.sweeps.search import Search, Tuning
from dpft.sweeps.tune import EXAMPLE

RATE = {"low": 1e-5, "high": 1e-3, "log": True}
RANGES = {
    "dppo": {"settings.learning_rate": RATE, "settings.clip": [0.01, 0.05]},
    "gaussian-ppo": {"settings.learning_rate": RATE, "settings.minibatches": {"low": 1, "high": 10}},
}


@pytest.fixture
def write(tmp_path):
    """A function that writes a grid of two methods with a search of tiny runs, and returns its path."""

    def make(tune=(), **fields):
        data = {
            "name": "tiny",
            "method": ["dppo", "gaussian-ppo"],
            "denoising_steps": 3,
            "seed": [100, 1],
            "env_steps": 300,
            "eval_every": 150,
            "eval_episodes": 1,
            "policy": {"hidden": [16, 16, 16]},
            "pretrain": {"steps": 20},
            "demos": {"steps": 300},
            "settings": {"num_envs": 2, "decisions_per_update": 20, "epochs": 1, "critic_hidden": [8]},
            "overrides": {"gaussian-ppo": {"settings.entropy_coef": 0.01}},
            "tune": {"trials": 3, "batch": 2, "ranges": RANGES} | dict(tune),
        } | fields
        path = tmp_path / "search.yaml"
        path.write_text(yaml.safe_dump(data))
        return path

    return make


def searches(path) -> dict[str, Search]:
    grid = load_grid(str(path), tuned=True)
    tuning = Tuning.of(grid)
    return {method: Search(grid, tuning, method) for method in tuning.ranges}


def record(sweep: Sweep, search: Search, score) -> None:
    """Write what runs leave for the trials that have no score: two evaluations after a base that says nothing."""
    for trial in search.trials:
        for name in trial.runs if math.isnan(trial.score) else ():
            run, value = sweep.run(name), score(trial)
            run.mkdir(parents=True)
            rows = "".join(f"{step},{value + more},\n" for step, more in ((0, 1e9), (1, -1), (2, 3)))
            (run / "curve.csv").write_text(f"env_steps,return_mean,return_normalised\n{rows}")
            done = {"status": "done", "env_steps": 2} if math.isfinite(value) else {"status": "failed", "reason": "nan"}
            (run / "done.json").write_text(json.dumps(done))


@pytest.mark.parametrize("sampler", ["tpe", "random", "qmc"])
def test_the_same_seed_and_scores_give_the_same_trials(sampler, write, tmp_path):
    path = write({"sampler": sampler, "trials": 16})

    def run(folder, score) -> list[dict]:
        search, sweep = searches(path)["dppo"], Sweep(folder, {})
        for _ in range(4):
            search.propose(4)
            record(sweep, search, score)
            search.tell(sweep)
        return [trial.values for trial in search.trials]

    first = run(tmp_path / "a", lambda trial: -abs(math.log10(trial.values["settings.learning_rate"]) + 4))
    again = run(tmp_path / "b", lambda trial: -abs(math.log10(trial.values["settings.learning_rate"]) + 4))
    other = run(tmp_path / "c", lambda trial: trial.values["settings.learning_rate"])
    assert first == again
    assert (first != other) == (sampler == "tpe"), "one sampler alone learns from scores"
    assert all(1e-5 <= values["settings.learning_rate"] <= 1e-3 for values in first)
    assert {values["settings.clip"] for values in first} == {0.01, 0.05}


@pytest.mark.parametrize(("objective", "score"), [("mean", 6.0), ("final", 8.0)])
def test_a_score_is_the_mean_over_runs_and_the_base_is_no_part_of_it(objective, score, write, tmp_path):
    search, sweep = searches(write({"objective": objective}))["dppo"], Sweep(tmp_path, {})
    search.propose(1)
    assert sorted(run.seed for run in search.trials[0].runs.values()) == [1, 100]
    record(sweep, search, lambda trial: 5.0)
    search.tell(sweep)
    assert search.best().score == score
    search.propose(1)
    record(sweep, search, lambda trial: math.inf)
    search.tell(sweep)
    assert [trial.score for trial in search.trials] == [score, -math.inf], "it diverged"
    assert search.best() is search.trials[0]


@pytest.mark.parametrize("text", [None, "", "env_steps,return_mean,return_normalised\n", "a,b\n2,3\n", "\0", "cut"])
def test_damaged_records_have_no_score(text, write, tmp_path):
    search, sweep = searches(write())["dppo"], Sweep(tmp_path, {})
    search.propose(1)
    record(sweep, search, lambda trial: 5.0)
    curve = sweep.run(next(iter(search.trials[0].runs))) / "curve.csv"
    whole = curve.read_text()
    curve.unlink()
    if text is not None:
        curve.write_text("\n".join(whole.splitlines()[:-1]) if text == "cut" else text)
    with pytest.raises(DataError, match=r"curve.csv is damaged: delete"):
        search.tell(sweep)


def test_no_setting_is_tried_twice(write, tmp_path):
    """All four settings there are, although each has the same score; a fifth trial is refused before the start."""
    ranges = {"dppo": {"settings.clip": [0.01, 0.05], "settings.epochs": {"low": 1, "high": 2}}}
    search, sweep = searches(write({"trials": 4, "ranges": ranges}, method="dppo", overrides={}))["dppo"], None
    for _ in range(4):
        search.propose(1)
        sweep = Sweep(tmp_path, {})
        record(sweep, search, lambda trial: 1.0)
        search.tell(sweep)
    assert Counter(tuple(trial.values.values()) for trial in search.trials) == {
        (clip, epochs): 1 for clip in (0.01, 0.05) for epochs in (1, 2)
    }
    with pytest.raises(DataError, match=r"tune.ranges.dppo: 4 settings are fewer than 5 trials"):
        searches(write({"trials": 5, "ranges": ranges}, method="dppo", overrides={}))


def test_choices_may_be_lists_and_words(write):
    ranges = {"dppo": {"policy.hidden": [[16, 16, 16], [32, 32, 32]], "settings.log_prob": ["mean", "joint"]}}
    search = searches(write({"ranges": ranges}, method="dppo", overrides={}))["dppo"]
    search.propose(3)
    found = {(run.policy.hidden, run.settings.log_prob) for trial in search.trials for run in trial.runs.values()}
    assert len(found) == 3
    assert found <= {(hidden, how) for hidden in ((16,) * 3, (32,) * 3) for how in ("mean", "joint")}


def of_dppo(given, field="settings.learning_rate") -> dict:
    return {"tune": {"ranges": RANGES | {"dppo": {field: given}}}}


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        (of_dppo({"low": 1e-3, "high": 1e-5}), "low has to be below high"),
        (of_dppo({"low": 0, "high": 1e-3, "log": True}), "a logarithm needs low above 0"),
        (of_dppo({"low": 1e-4}), "high: field required"),
        (of_dppo({"low": 1e-4, "hihg": 1e-3}), "did you mean high?"),
        (of_dppo({"low": 1e-4, "high": ".inf"}), "tune.ranges.dppo.settings.learning_rate.high"),
        (of_dppo(3), "expected low, high, log, got 3"),
        (of_dppo([]), "expected different choices, got []"),
        (of_dppo([0.1, 0.1]), "expected different choices, got [0.1, 0.1]"),
        (of_dppo(RATE, "settings.learning_rat"), "did you mean learning_rate?"),
        (of_dppo(RATE, "learning_rate"), "by its dotted name"),
        (of_dppo({"low": 1e3, "high": 1e5}, "env_steps"), "by its dotted name"),
        (of_dppo({"low": 0, "high": 1}, "settings.log_prob"), "settings.log_prob"),
        (of_dppo({"low": -1, "high": 1}, "settings.clip"), "should be greater than 0"),
        (of_dppo({"low": 1.5, "high": 3}, "settings.epochs"), "settings.epochs"),
        (of_dppo({"low": 0, "high": 1}, "settings.reward_scaling"), "give a list of choices"),
        ({"tune": {"trials": 0}}, "tune.trials"),
        ({"tune": {"trails": 3}}, "did you mean trials?"),
        ({"tune": {"sampler": "best"}}, "tune.sampler"),
        ({"tune": {"seed": -1}}, "tune.seed"),
        ({"tune": {"ranges": {"dppo": RANGES["dppo"]}}}, "but the methods are dppo, gaussian-ppo"),
        (
            {"tune": {"ranges": RANGES | {"gaussian-ppo": {"settings.entropy_coef": [0, 1]}}}},
            "the grid gives it values already",
        ),
        ({"settings.clip": [0.1, 0.2]}, "the grid gives it values already"),
        ({"overrides": {"dppo": {"env_steps": 450}}}, "every method gets the same budget"),
        ({"overrides": {"dppo": {"seed": [1, 2, 3]}}}, "every method gets the same budget"),
    ],
)
def test_nonsense_is_one_line_before_anything_starts(fields, message, write, tmp_path, capsys):
    path = write(**fields)
    assert main(["tune", str(path), "--out", str(tmp_path / "out")]) == 2
    said = capsys.readouterr().err.strip()
    assert len(said.splitlines()) == 1, said
    assert message in said
    assert not (tmp_path / "out").exists()


def test_a_search_is_no_sweep_and_a_sweep_no_search(write, tmp_path, capsys):
    path = write()
    assert main(["sweep", str(path), "--dry-run"]) == 2
    assert f"dpft tune {path}" in capsys.readouterr().err
    data = yaml.safe_load(path.read_text())
    del data["tune"]
    path.write_text(yaml.safe_dump(data))
    assert main(["tune", str(path)]) == 2
    assert "no tune section; see dpft tune --help" in capsys.readouterr().err
    path.write_text(yaml.safe_dump(data | {"tune": 3}))
    assert main(["tune", str(path)]) == 2
    assert "tune: expected trials, ranges" in capsys.readouterr().err


def test_the_example_of_the_help_is_a_search(tmp_path):
    path = tmp_path / "search.yaml"
    path.write_text(dedent(EXAMPLE.partition("\n\n")[2]))
    for search in searches(path).values():
        search.propose(4)
        assert {len(trial.runs) for trial in search.trials} == {2}


def test_without_optuna_it_says_how_to_get_it(write, capsys, monkeypatch):
    monkeypatch.setitem(sys.modules, "optuna", None)
    assert main(["tune", str(write())]) == 2
    assert 'pip install "dpft[tune]"' in capsys.readouterr().err


@pytest.mark.slow
def test_killed_and_continued_it_makes_the_same_trials(write, tmp_path, capfd):
    path, whole, killed = write(), tmp_path / "whole", tmp_path / "killed"
    command = ["tune", str(path), "--engine", "inline", "--out"]
    assert main([*command, str(whole)]) == 0
    out = capfd.readouterr().out
    assert f"next: dpft sweep {whole / 'best.yaml'}" in out

    first = subprocess.Popen([sys.executable, "-m", "dpft", *command, str(killed)], stdout=subprocess.DEVNULL)
    while len(list(killed.glob("runs/*/done.json"))) < 2:  # of the eight of the first batch
        assert first.poll() is None
        time.sleep(0.02)
    first.send_signal(signal.SIGKILL)
    first.wait()
    assert main([*command, str(killed)]) == 0
    for name in ("runs.json", "tune.csv", "tune.md", "best.yaml"):
        assert (whole / name).read_text() == (killed / name).read_text()
    for name in Sweep.open(whole).runs:
        same_records(whole / "runs" / name, killed / "runs" / name)

    # the same number of trials, runs and steps for each method
    runs = Sweep.open(whole).runs.values()
    assert Counter((run["method"], run["env_steps"], run["seed"]) for run in runs) == {
        (method, 300, seed): 3 for method in RANGES for seed in (1, 100)
    }
    rows = list(csv.DictReader((whole / "tune.csv").open()))
    assert Counter(row["method"] for row in rows) == dict.fromkeys(RANGES, 3)
    # the best of each, other seeds
    best = load_grid(str(whole / "best.yaml"))
    assert {run.seed for run in best.runs.values()} == {0, 2, 3, 4, 5}
    for method in RANGES:
        top = max((row for row in rows if row["method"] == method), key=lambda row: float(row["score"]))
        rates = {run.settings.learning_rate for run in best.runs.values() if run.method == method}
        assert rates == {float(top["settings.learning_rate"])}
    assert {run.settings.entropy_coef for run in best.runs.values() if run.method == "gaussian-ppo"} == {0.01}
    # a finished search says its result again; more trials are added to it
    stamps = {file: file.stat().st_mtime_ns for file in whole.glob("runs/*/done.json")}
    assert main([*command, str(whole)]) == 0
    assert {file: file.stat().st_mtime_ns for file in stamps} == stamps
    write({"trials": 4})
    assert main([*command, str(whole)]) == 0
    assert len(Sweep.open(whole).runs) == 16
    assert {file: file.stat().st_mtime_ns for file in stamps} == stamps
    assert main(["status", str(whole)]) == 0
    assert main(["publish", str(whole), "--to", str(tmp_path / "published")]) == 0
    assert (tmp_path / "published/tune.md").read_text() == (whole / "tune.md").read_text()

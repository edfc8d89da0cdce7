"""Whatever lies in a records folder, and wherever figures go: the rest is drawn, or one line says why not."""

import json
import os
import re
import resource
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import yaml
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from run_folders import HEADER, write_run

from dpft.analysis.cli import figures
from dpft.analysis.load import load, run_folders
from dpft.analysis.reading import RecordError
from dpft.analysis.report import report
from dpft.analysis.tables import results_csv, results_latex, results_table
from dpft.sweeps.cli import main as dpft

ROOT = Path(__file__).parents[2]


def two_runs(folder: Path) -> Path:
    """A sweep of two seeds with everything that a sweep has; returns the first run's folder."""
    run, _ = (write_run(folder, [(0, 1000.0), (100, 1500.0), (200, 2000.0)], seed=seed) for seed in range(2))
    chain = np.zeros((4, 3, 2, 2))
    np.savez(run / "chains.npz", chain_before=chain, chain_after=chain)
    (folder / "grid.yaml").write_text("caption: a sweep\n")
    (folder / "runs.json").write_text("{}")
    return run


def change(run: Path, **fields) -> None:
    config = yaml.safe_load((run / "config.yaml").read_text())
    (run / "config.yaml").write_text(yaml.safe_dump(config | fields))


@pytest.mark.parametrize(
    "fields",
    [
        {"task": [1, 2]},
        {"method": None},
        {"denoising_steps": "abc"},
        {"denoising_steps": 0},
        {"denoising_steps": 10**30},
        {"seed": "abc"},
        {"seed": 1.5},
        {"from_scratch": "abc"},
        {"eval_episodes": [20]},
        {"env_steps": "many"},
        {"provenance": "abc"},
        {"provenance": {"fine_tunes": ["gaussian"]}},
        {"provenance": {"demo_mean_return": "high"}},
        {"provenance": {"hardware": "fast"}},
    ],
    ids=str,
)
def test_a_config_of_wrong_types_costs_its_run_alone(tmp_path, fields):
    run = two_runs(tmp_path)
    change(run, **fields)
    records = load([tmp_path])
    (warning,) = records.warnings
    assert warning.startswith(f"{run / 'config.yaml'}: {next(iter(fields))}")
    assert warning.endswith("; run left out")
    assert records.runs["seed"].tolist() == [1]


@pytest.mark.parametrize(
    "text",
    [
        "x: " + "[" * 3000 + "]" * 3000,
        "x: &x [*x]",
        "\n".join(["a0: &a0 [1, 1]", *(f"a{i}: &a{i} [*a{i - 1}, *a{i - 1}]" for i in range(1, 40))]),
    ],
    ids=["deep", "in itself", "a billion values"],
)
def test_a_config_that_is_unwieldy_costs_its_run_alone(tmp_path, text):
    run = two_runs(tmp_path)
    with (run / "config.yaml").open("a") as file:
        file.write(text + "\n")
    records = load([tmp_path])
    assert len(records.warnings) == 1
    assert len(records.runs) == 1


def test_columns_that_a_task_adds_are_passed_over(tmp_path):
    run = two_runs(tmp_path)
    lines = (run / "curve.csv").read_text().splitlines()
    (run / "curve.csv").write_text("\n".join(f"0.5,{line}" for line in lines).replace("0.5,env", "success_rate,env", 1))
    records = load([tmp_path])
    assert records.warnings == []
    assert records.curves["return_mean"].tolist() == [1000.0, 1500.0, 2000.0] * 2


@pytest.mark.parametrize("verb", ["figures", "report"])
def test_a_file_and_a_name_that_no_file_can_have_are_one_line(tmp_path, verb, capsys):
    (tmp_path / "notes.md").write_text("")
    for path, says in ((tmp_path / "notes.md", "that is a file"), ("x" * 300, "there is no such folder")):
        assert dpft([verb, str(path)]) == 2
        (line,) = capsys.readouterr().err.splitlines()
        assert line.startswith(f"dpft {verb}: ")
        assert says in line
    assert [path.name for path in tmp_path.iterdir()] == ["notes.md"]


def files_in(folder: Path) -> list[Path]:
    return sorted(path for path in folder.rglob("*") if path.is_file())


def run_limited(argv: list[str], bytes_at_most: int) -> subprocess.CompletedProcess:
    """A verb in a process none of whose files may grow larger: what a full disk does, at a place that is known."""
    code = "import sys; from dpft.sweeps.cli import main; sys.exit(main(sys.argv[1:]))"
    limit = (bytes_at_most, bytes_at_most)
    return subprocess.run(
        [sys.executable, "-c", code, *argv],
        cwd=ROOT,
        env=os.environ | {"PYTHONDONTWRITEBYTECODE": "1"},
        preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_FSIZE, limit),
        capture_output=True,
        text=True,
    )


@pytest.mark.parametrize("verb", ["figures", "report"])
def test_a_disk_that_is_full_is_one_line_and_leaves_nothing_half_written(tmp_path, verb):
    two_runs(tmp_path / "sweep")
    out = tmp_path / ("out" if verb == "figures" else "out.html")
    only = ["--only", "sample_efficiency"] if verb == "figures" else []
    done = run_limited([verb, str(tmp_path / "sweep"), "--out", str(out), *only], 2000)
    assert done.returncode == 2, done.stderr
    (line,) = done.stderr.splitlines()
    assert re.match(rf"dpft {verb}: cannot write .*out.*: File too large", line)
    assert [path for path in files_in(tmp_path) if "sweep" not in path.parts] == []


@pytest.mark.parametrize("verb", ["figures", "report"])
def test_a_place_that_cannot_be_written_is_one_line(tmp_path, verb, capsys):
    two_runs(tmp_path / "sweep")
    (tmp_path / "file").write_text("")
    for out in (tmp_path / "file" / "out", Path("/proc/nothing/out")):
        assert dpft([verb, str(tmp_path / "sweep"), "--out", str(out)]) == 2
        (line,) = capsys.readouterr().err.splitlines()
        assert line.startswith(f"dpft {verb}: cannot write ")


def test_the_backend_of_a_notebook_does_not_matter(tmp_path):
    """Jupyter sets MPLBACKEND for its children, whether or not they can import it."""
    two_runs(tmp_path)
    code = "import sys; from dpft.sweeps.cli import main; sys.exit(main(sys.argv[1:]))"
    argv = [sys.executable, "-c", code, "figures", str(tmp_path), "--only", "sample_efficiency", "--format", "svg"]
    for backend in ("module://not_installed.backend_inline", "TkAgg", "nonsense"):
        done = subprocess.run(argv, cwd=ROOT, env=os.environ | {"MPLBACKEND": backend}, capture_output=True, text=True)
        assert done.returncode == 0, done.stderr
        assert (tmp_path / "figures" / "sample_efficiency.svg").exists()


# -- anything at all ---------------------------------------------------------------------------------------------------

FILES = ("config.yaml", "curve.csv", "metrics.csv", "done.json", "chains.npz", "grid.yaml", "runs.json")
scalars = st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20) | st.just("$\\frac{")
values = st.recursive(
    scalars, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3)
)
FIELDS = (
    "task",
    "method",
    "denoising_steps",
    "seed",
    "base_seed",
    "from_scratch",
    "env_steps",
    "settings",
    "provenance",
)
cells = st.sampled_from(["", "nan", "inf", "-inf", "1e308", "-1e308", "0", "-5", "1e-320", "x", "5", '"', "1e5"])
DAMAGE = st.one_of(
    st.tuples(st.sampled_from(FILES), st.binary(max_size=200)),
    st.tuples(st.sampled_from(FILES), st.integers(0, 400)),  # cut there
    st.tuples(st.just("config.yaml"), st.dictionaries(st.sampled_from(FIELDS), values, min_size=1, max_size=3)),
    st.tuples(
        st.just("config.yaml"),
        st.fixed_dictionaries({}, optional={name: st.text(max_size=30) for name in ("task", "method")}),
    ),
    st.tuples(st.just("done.json"), values.map(lambda value: json.dumps(value).encode())),
    st.tuples(st.sampled_from(["runs.json", "grid.yaml"]), values.map(lambda value: json.dumps(value).encode())),
    st.tuples(
        st.sampled_from(["curve.csv", "metrics.csv"]),
        st.lists(st.lists(cells, min_size=7, max_size=7), max_size=4),
    ),
)


def damage(run: Path, name: str, how) -> None:
    path = (run.parent.parent if name in ("grid.yaml", "runs.json") else run) / name
    if isinstance(how, bytes):
        path.write_bytes(how)
    elif isinstance(how, int):
        path.write_bytes(path.read_bytes()[:how])
    elif isinstance(how, dict):
        change(run, **how)
    else:
        head = HEADER if name == "curve.csv" else "env_steps,policy/kl,policy/gradient_norm,loss/policy,a,b,time/act"
        path.write_text("\n".join([head, *map(",".join, how)]) + "\n")


def lay_out(folder: Path, faults: list) -> None:
    run = two_runs(folder)
    for name, how in faults:
        if (run / "config.yaml").exists():
            damage(run, name, how)


fuzzed = settings(deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow])


@settings(fuzzed, max_examples=150)
@given(st.lists(DAMAGE, min_size=1, max_size=3))
def test_any_damage_costs_at_most_its_run(tmp_path_factory, faults):
    folder = tmp_path_factory.mktemp("fuzz")
    lay_out(folder, faults)
    try:
        records = load([folder])
    except RecordError as error:
        pytest.fail(f"the sound run was lost: {error}")
    assert 1 in records.runs["seed"].tolist()
    assert all("\n" not in warning for warning in records.warnings)
    tables = results_table(records), results_latex(records), results_csv(records)
    assert len({line.count(" | ") for line in tables[0].splitlines()}) == 1
    "".join(tables).encode()


@pytest.mark.slow
@settings(fuzzed, max_examples=15)
@given(st.lists(DAMAGE, min_size=1, max_size=3))
def test_any_damage_can_be_drawn(tmp_path_factory, faults):
    folder = tmp_path_factory.mktemp("fuzz")
    lay_out(folder, faults)
    assert figures([str(folder), "--format", "svg"]) == 0
    assert report([str(folder)]) == 0
    assert len(run_folders(folder)) == 2

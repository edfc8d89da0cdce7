"""A YAML grid becomes runs, or one line that says what is wrong with it."""

import json
import re
import shlex
import time
from pathlib import Path

import pytest
import yaml

from dpft.envs import DataError
from dpft.methods import METHODS
from dpft.sweeps.cli import main
from dpft.sweeps.config import nested, parse_config
from dpft.sweeps.grid import expand, load_grid
from dpft.sweeps.launch import Sweep
from dpft.sweeps.listing import grid_files


def test_lists_are_axes():
    runs = expand({"method": ["ncdpo", "dppo"], "seed": [0, 1], "denoising_steps": 5, "env_steps": "2e5"})
    assert list(runs) == [f"hopper-medium_{method}_K5_seed{seed}" for method in ("ncdpo", "dppo") for seed in (0, 1)]
    assert {config.env_steps for config in runs.values()} == {200_000}
    assert [config.seed for config in runs.values()] == [0, 1, 0, 1]


def test_other_varied_fields_are_part_of_the_id():
    runs = expand({"settings.learning_rate": [1e-4, "3e-4"], "base_seed": ["same", 1]})
    assert list(runs) == [
        f"hopper-medium_ncdpo_K10_seed0_learning_rate={rate}_base_seed={seed}"
        for rate in (0.0001, 0.0003)
        for seed in ("same", 1)
    ]
    assert [config.settings.learning_rate for config in runs.values()] == [1e-4, 1e-4, 3e-4, 3e-4]


def test_nested_and_dotted_fields_are_the_same():
    nested = expand({"demos": {"steps": 500}, "policy": {"hidden": [8, 8, 8]}})
    assert nested == expand({"demos.steps": 500, "policy.hidden": [8, 8, 8]})


def test_a_list_is_one_value_where_the_field_takes_a_list():
    (config,) = expand({"policy.hidden": [64, 64, 64], "settings.std_bounds": [0.05, 0.5]}).values()
    assert config.policy.hidden == (64, 64, 64)
    assert config.settings.std_bounds == (0.05, 0.5)
    runs = expand({"policy.hidden": [[64, 64, 64], [32]], "settings.std_bounds": [[0.05, 0.5]]})
    assert [config.policy.hidden for config in runs.values()] == [(64, 64, 64), (32,)]
    assert next(iter(runs)).endswith("_hidden=64-64-64_std_bounds=0.05-0.5")


def test_overrides_belong_to_their_method():
    runs = expand(
        {
            "method": ["ncdpo", "dsrl-na"],
            "env_steps": 100_000,
            "overrides": {"dsrl-na": {"env_steps": 4000, "settings.warmup": 7, "demos": {"seed": 2}}},
        }
    )
    ncdpo, dsrl = runs.values()
    assert (ncdpo.env_steps, ncdpo.demos.seed) == (100_000, 0)
    assert (dsrl.env_steps, dsrl.settings.warmup, dsrl.demos.seed) == (4000, 7, 2)


def test_an_override_replaces_an_axis_or_adds_one():
    """Denoising steps mean nothing to a Gaussian policy; learning rates are tuned for one method alone."""
    runs = expand(
        {
            "method": ["dppo", "gaussian-ppo"],
            "denoising_steps": [5, 10, 20],
            "overrides": {"gaussian-ppo": {"denoising_steps": 1, "settings.learning_rate": [1e-4, 1e-3]}},
        }
    )
    assert list(runs) == [
        *(f"hopper-medium_dppo_K{steps}_seed0" for steps in (5, 10, 20)),
        "hopper-medium_gaussian-ppo_K1_seed0_learning_rate=0.0001",
        "hopper-medium_gaussian-ppo_K1_seed0_learning_rate=0.001",
    ]


@pytest.mark.parametrize(
    ("data", "words"),
    [
        ({}, "there are no fields in it"),
        (None, "there are no fields in it"),
        (["seed"], "there are no fields in it"),
        ({"sede": [1, 2]}, "unknown field sede: did you mean seed"),
        ({"overides": {"ncdpo": {"seed": 1}}}, "unknown field overides: did you mean overrides"),
        ({"seed": []}, "an axis is an empty list"),
        ({"method": []}, "an axis is an empty list"),
        ({"seed": [0, 1, 0]}, "two runs are both hopper-medium_ncdpo_K10_seed0: an axis repeats a value"),
        ({"env_steps": [100000, "1e5"]}, "two runs are both .*_env_steps=100000"),
        ({"method": ["ncdpo", "ncdpo"]}, "two runs are both hopper-medium_ncdpo_K10_seed0"),
        ({"seed": list(range(2000)), "env_steps": list(range(1, 5001))}, "10,000,000 runs are more than 1,000,000"),
        ({"method": "ncpdo"}, "unknown method 'ncpdo': did you mean ncdpo"),
        ({"task": ["hopper-medium", "hoper-medium"]}, "unknown task 'hoper-medium': did you mean hopper-medium"),
        ({"settings.clipp": 1}, "method ncdpo.*: unknown field settings.clipp: did you mean clip"),
        ({"settings.nothing.here": [1, 2]}, "unknown field settings.nothing"),
        ({"seed": ["zero", 1]}, "seed zero: seed: input should be a valid integer.*got 'zero'"),
        ({"settings.clip": [0.1, -1]}, r"run with .*settings\.clip -1: settings\.clip: input should be greater than 0"),
        ({"policy": {"hidden": [16]}, "policy.hidden": [8]}, "policy.hidden is given twice"),
        ({"policy": 3, "policy.hidden": [8]}, "policy.hidden and policy exclude each other"),
        ({"overrides": {"dppo": {"seed": 1}}}, "overrides for dppo, which is not among its methods"),
        ({"overrides": [1]}, "overrides must map a method to fields"),
        ({"overrides": {"ncdpo": 1}}, "overrides must map a method to fields"),
        ({"overrides": {"ncdpo": {"settings.clipp": 1}}}, "unknown field settings.clipp: did you mean clip"),
        ({"method": ["dppo", "dsrl-na"], "from_scratch": True}, "method dsrl-na.* cannot start from a random one"),
        (
            {"denoising_steps": [10, 5], "settings": {"sampler": "ddim", "sampler_steps": 8}},
            "steps 5.*sampler_steps is 8",
        ),
    ],
    ids=lambda value: str(value)[:60],
)
def test_what_is_wrong_is_said_before_anything_runs(data, words, tmp_path):
    path = tmp_path / "mine.yaml"
    path.write_text(yaml.safe_dump(data))
    with pytest.raises(DataError, match=words) as caught:
        load_grid(str(path))
    assert str(caught.value).startswith(f"grid {path}: ")
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    "name",
    [
        "../../escaped",
        "/abs",
        "..",
        ".",
        "",
        "a/b",
        "nul\0byte",
        "x\n#SBATCH --uid=0",
        "tab\t",
        "é" * 150,
        "line\u2028",
    ],
)
def test_a_name_is_one_of_a_folder(name, tmp_path):
    """A newline would add a line to a job's script, a path would leave the sweep's folder."""
    path = tmp_path / "mine.yaml"
    path.write_text(yaml.safe_dump({"name": name, "seed": 0}))
    with pytest.raises(DataError, match=r"mine\.yaml: name .* cannot name a folder") as caught:
        load_grid(str(path))
    assert str(caught.value).isprintable()
    with pytest.raises(DataError, match=r"run .* cannot name a folder"):
        Sweep.open(foreign(tmp_path / "sweep", name))


def foreign(folder: Path, name: str) -> Path:
    """Somebody else's sweep, of one run."""
    folder.mkdir()
    config = next(iter(expand({"seed": 0}).values())).model_dump(mode="json")
    (folder / "runs.json").write_text(json.dumps({name: config}))
    return folder


@pytest.mark.parametrize("name", ["a b", "$(touch x)", "-x", "2026-11-25", "ünï", "%j", "'"])
def test_names_that_are_only_strange(name, tmp_path, capsys):
    """They stay; what is printed to be pasted is quoted."""
    path = tmp_path / "mine.yaml"
    path.write_text(yaml.safe_dump({"name": name, "seed": 0}))
    assert load_grid(str(path)).name == name
    folder = foreign(tmp_path / name, name)
    assert list(Sweep.open(folder).runs) == [name]
    assert main(["status", str(folder)]) == 4
    assert capsys.readouterr().out.endswith(f"next: dpft resume {shlex.quote(str(folder))}\n")


@pytest.mark.parametrize("field", ["name", "caption"])
@pytest.mark.parametrize("value", [None, [1, 2], True, {"a": 1}], ids=str)
def test_text_is_text(field, value, tmp_path):
    path = tmp_path / "mine.yaml"
    path.write_text(yaml.safe_dump({field: value, "seed": 0}))
    with pytest.raises(DataError, match=f"{field} must be text"):
        load_grid(str(path))


def test_paths_as_an_axis():
    """Long and alike ones have names that a disk takes, each its own, the same each time."""
    long = "d" * 110
    sources = ["a/b.hdf5", "a-b.hdf5", "a b.hdf5", f"{long}/{long}/a.hdf5", f"{long}/{long}/b.hdf5", "ü" * 200]
    runs = expand({"demos.source": sources, "base": [f"{long}/{long}", "x"]})
    assert len(runs) == 12
    assert all(len(name.encode()) <= 255 for name in runs)
    assert all(re.fullmatch(r"[\w.=+-]+", name) for name in runs)
    assert list(expand({"demos.source": sources[:2]})) == [
        "hopper-medium_ncdpo_K10_seed0_source=a-b.hdf5-45dc3f21",
        "hopper-medium_ncdpo_K10_seed0_source=a-b.hdf5",
    ]


def test_paths_are_written_down_whole(tmp_path, monkeypatch):
    """Relative to where the sweep was launched, as on the command line; names of datasets and experts stay."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "demos.hdf5").touch()
    sources = ["demos.hdf5", "expert:hopper-medium", "D4RL/hopper/medium-v0", "d4rl:hopper-medium-v2"]
    runs = expand({"demos.source": sources, "base": "base.safetensors"})
    assert [config.demos.source for config in runs.values()] == [str(tmp_path / "demos.hdf5"), *sources[1:]]
    assert {config.base for config in runs.values()} == {str(tmp_path / "base.safetensors")}
    assert next(iter(runs)) == "hopper-medium_ncdpo_K10_seed0_source=demos.hdf5"


def test_files_that_cannot_be_read(tmp_path):
    path = tmp_path / "torn.yaml"
    path.write_text("seed: [0, 1\nmethod: {")
    with pytest.raises(DataError, match=r"cannot read .*torn\.yaml: .*line 2") as caught:
        load_grid(str(path))
    assert "\n" not in str(caught.value)
    path.write_text("seed: 0\nenv_steps: 1000\nseed: 1\n")
    with pytest.raises(DataError, match=r"torn\.yaml: seed is given twice .*line 3") as caught:
        load_grid(str(path))
    assert "\n" not in str(caught.value)
    path.write_bytes(b"\xff\xfe\x00\x01")
    with pytest.raises(DataError, match="cannot read "):
        load_grid(str(path))
    with pytest.raises(DataError, match="cannot read "):
        load_grid(str(tmp_path))
    with pytest.raises(DataError, match=r"no grid 'quikstart': give a YAML file, or one of .*quickstart"):
        load_grid("quikstart")


@pytest.mark.parametrize("name", grid_files())
def test_grids_of_the_suite(name):
    """Found by name and by path alike; each has a caption for its figure."""
    grid = load_grid(name)
    assert grid.runs == load_grid(str(grid_files()[name])).runs
    assert grid.name == name
    assert grid.caption


def test_ten_thousand_runs_are_expanded_within_a_second(tmp_path):
    path = tmp_path / "large.yaml"
    data = {"method": ["ncdpo", "dppo", "dsrl-na", "gaussian-ppo"], "denoising_steps": [1, 5, 10, 20, 50]}
    path.write_text(yaml.safe_dump({**data, "seed": list(range(500))}))
    load_grid("quickstart")  # imports the methods
    started = time.process_time()
    assert len(load_grid(str(path)).runs) == 10_000
    assert time.process_time() - started < 1.0


@pytest.mark.parametrize("method", METHODS)
def test_a_config_is_a_grid_of_one_run(method):
    """Fields whose one value is a list are no axes, those that may also be null included."""
    config = parse_config({"method": method})
    (run,) = expand(config.model_dump(mode="json")).values()
    assert run == config


@pytest.mark.parametrize("data", [{"method": {"a": "b"}}, {"policy.hidden": [8, 8, 8], "policy": 5}])
def test_a_field_and_a_part_of_it_exclude_each_other(data):
    with pytest.raises(DataError, match=r"(method|policy) is given twice, whole and in part"):
        expand(data)
    with pytest.raises(DataError, match=r"settings\.clip is given twice"):
        nested({"settings": {"clip": 0.1}, "settings.clip": 0.2})

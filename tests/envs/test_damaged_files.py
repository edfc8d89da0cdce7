"""Damage met after a file has opened: wrong kinds, wrong counts, broken compression, other contents."""

import io
import zipfile

import h5py
import numpy as np
import pytest
from safetensors.numpy import save_file

from dpft.envs import TASKS, DataError
from dpft.envs.cache import build_once
from dpft.envs.demonstrations import load_demos
from dpft.envs.readers import split_d4rl

TASK = TASKS["hopper-medium"]
N = 30


def good_d4rl() -> dict[str, np.ndarray]:
    rng = np.random.default_rng(0)
    return {
        "observations": rng.normal(size=(N, 11)).astype(np.float32),
        "actions": rng.uniform(-1, 1, (N, 3)).astype(np.float32),
        "rewards": np.ones(N, np.float32),
        "terminals": np.zeros(N, bool),
        "timeouts": np.arange(N) % 10 == 9,
    }


def good_dppo() -> dict[str, np.ndarray]:
    data = good_d4rl()
    return {"states": data["observations"], "actions": data["actions"], "traj_lengths": np.array([10, 5, 15])}


def limits() -> dict[str, np.ndarray]:
    return {"obs_min": -np.ones(11), "obs_max": np.ones(11), "action_min": -np.ones(3), "action_max": np.ones(3)}


def refused(source, words, task=TASK) -> None:
    with pytest.raises(DataError, match=words) as caught:
        load_demos(str(source), task, steps=40)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"rewards": np.float32(1)}, "differ in length: .* rewards 1"),
        ({"rewards": np.ones((N, 2))}, "differ in length: .* rewards 60"),
        ({"rewards": np.full(N, np.nan)}, "rewards must be 30 finite numbers"),
        ({"observations": np.full((N, 11), b"text")}, "observations are not an array of numbers"),
        ({"observations": np.ones(N)}, r"observations have shape \(30,\)"),
    ],
)
def test_d4rl_contents(tmp_path, change, words):
    with h5py.File(tmp_path / "d.hdf5", "w") as file:
        file.update(good_d4rl() | change)
    refused(tmp_path / "d.hdf5", words)


def test_d4rl_group_in_place_of_an_array(tmp_path):
    data = good_d4rl()
    with h5py.File(tmp_path / "d.hdf5", "w") as file:
        file["actions/left"] = data.pop("actions")
        file.update(data)
    refused(tmp_path / "d.hdf5", "is not a D4RL file: it has no actions")


def test_d4rl_package_dataset_with_metadata():
    """env.get_dataset() of D4RL's medium sets also lists what they were made with."""
    extra = {
        "metadata/algorithm": np.bytes_("SAC"),
        "metadata/policy/fc0/bias": np.zeros(256),
        "infos/qpos": np.zeros(N),
    }
    assert split_d4rl("d4rl:x", good_d4rl() | extra, TASK).returns.tolist() == [10, 10, 10]


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"rewards": np.ones(5)}, "rewards must be 30 finite numbers"),
        ({"rewards": np.ones(50)}, "rewards must be 30 finite numbers"),
        ({"traj_lengths": np.array([10, 30, 10]), "rewards": np.ones(N)}, "episodes of 50 steps in all do not add up"),
        ({"traj_lengths": np.array([-10, 20, 20])}, "do not add up"),
        ({"traj_lengths": np.array([9.5, 0.5 + 20])}, "do not add up"),
        ({"traj_lengths": np.array([10, np.nan, 20])}, "do not add up"),
        ({"traj_lengths": np.zeros(0, int)}, "do not add up"),
        ({"states": np.full((N, 11), "text")}, "states are not an array of numbers"),
    ],
)
def test_dppo_contents(tmp_path, change, words):
    np.savez(tmp_path / "train.npz", **(good_dppo() | change))
    np.savez(tmp_path / "normalization.npz", **limits())
    refused(tmp_path, words)


@pytest.mark.parametrize(
    "change", [{"obs_max": np.ones(4)}, {"obs_max": np.full(11, np.inf)}, {"obs_max": np.full(11, -2.0)}]
)
def test_dppo_limits(tmp_path, change):
    np.savez(tmp_path / "train.npz", **good_dppo())
    np.savez(tmp_path / "normalization.npz", **(limits() | change))
    refused(tmp_path, "normalization.npz: obs_min and obs_max are not the ends of a range")


def test_dppo_files_of_another_kind(tmp_path):
    np.savez(tmp_path / "normalization.npz", **limits())
    train = tmp_path / "train.npz"
    array = io.BytesIO()
    np.save(array, np.ones(3))
    for contents in (array.getvalue(), b"<html>404</html>", b""):
        train.write_bytes(contents)
        refused(train, "cannot read .*train.npz as npz: it is not a zip archive")
    with zipfile.ZipFile(train, "w") as archive:
        archive.writestr("readme.txt", "hello")
    refused(train, r"has no states, actions, traj_lengths \(found readme.txt\)")
    np.savez_compressed(train, **good_dppo())
    contents = bytearray(train.read_bytes())
    contents[200:260] = b"\xff" * 60
    train.write_bytes(contents)
    refused(train, "cannot read .*train.npz as npz")


def test_a_file_of_no_known_format(tmp_path):
    (tmp_path / "demos.txt").write_text("hello")
    refused(tmp_path / "demos.txt", "demos.txt is no format known here")


def test_experts_that_do_not_fit(tmp_path, monkeypatch):
    monkeypatch.setenv("DPFT_CACHE", str(tmp_path / "cache"))
    refused("expert:hopper-medium", "for Hopper-v5, not for Walker2d-v5", TASKS["walker2d-medium"])
    save_file({"weights": np.ones(3, np.float32)}, tmp_path / "other.safetensors")
    refused(f"expert:{tmp_path / 'other.safetensors'}", "is not an expert: it has no layers.0.weight, std")
    assert not list((tmp_path / "cache").rglob("*.claim"))


def test_a_folder_built_by_an_heir_meanwhile(tmp_path):
    """A suspended owner whose claim was taken over finds the folder there, and uses it."""

    def build(temporary):
        temporary.mkdir()
        (temporary / "file").write_text("late")
        (tmp_path / "thing").mkdir()
        (tmp_path / "thing" / "file").write_text("heir")

    assert (build_once(tmp_path / "thing", build) / "file").read_text() == "heir"
    assert [path.name for path in tmp_path.iterdir()] == ["thing"]

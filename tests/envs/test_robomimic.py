"""robomimic's HDF5 files: the layout that its datasets have, read into the task's order."""

import json

import h5py
import numpy as np
import pytest

from dpft.envs import TASKS, DataError
from dpft.envs.demonstrations import load_demos

WIDTHS = {"object": 10, "robot0_eef_pos": 3, "robot0_eef_quat": 4, "robot0_gripper_qpos": 2, "robot0_joint_pos": 7}


def write(path, episodes=12, env_args=None, obs=WIDTHS, **changes):
    """A Lift file: every observation holds its episode, key and column, so that the order can be seen."""
    controller = {"type": "OSC_POSE", "control_delta": True}
    facts = {"env_name": "Lift", "type": 1, "env_kwargs": {"controller_configs": controller}}
    with h5py.File(path, "w") as file:
        file.create_group("data").attrs["env_args"] = json.dumps(facts | (env_args or {}))
        for k in range(episodes):
            length = 5 + k
            demo = file["data"].create_group(f"demo_{k}")
            for number, (key, width) in enumerate(obs.items()):
                demo[f"obs/{key}"] = np.full((length, width), 100.0 * k + 10 * number) + np.arange(width) / 10
            demo["actions"] = np.zeros((length, 7))
            demo["rewards"] = np.eye(length)[-1]
            for key, value in changes.items():
                del demo[key]
                if value is not None:
                    demo[key] = value
        file["mask/train"] = np.array([b"demo_10", b"demo_3"])
    return str(path)


def test_observations_come_in_the_tasks_order_and_episodes_in_the_files(tmp_path):
    demos = load_demos(write(tmp_path / "low_dim.hdf5"), TASKS["lift"])
    assert demos.lengths.tolist() == [5 + k for k in range(12)]
    np.testing.assert_array_equal(demos.returns, 1)
    first_of_second = demos.obs[5]
    keys = ["robot0_eef_pos", "robot0_eef_quat", "robot0_gripper_qpos", "object"]
    want = [100 + 10 * list(WIDTHS).index(key) + np.arange(WIDTHS[key]) / 10 for key in keys]
    np.testing.assert_allclose(first_of_second, np.concatenate(want), rtol=1e-6)


def test_a_filter_key(tmp_path, monkeypatch):
    from dpft.sweeps.config import complete, parse_config

    path = write(tmp_path / "low_dim.hdf5")
    assert load_demos(f"{path}:train", TASKS["lift"]).lengths.tolist() == [15, 8]
    with pytest.raises(DataError, match=r"has no filter key test: there are train$"):
        load_demos(f"{path}:test", TASKS["lift"])
    monkeypatch.chdir(tmp_path)
    config = complete(parse_config({"task": "lift", "demos": {"source": "low_dim.hdf5:train"}}))
    assert config.demos.source == f"{path}:train"


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"env_args": {"env_name": "PickPlaceCan"}}, "made on robosuite/PickPlaceCan, so it is not for robosuite/Lift"),
        ({"env_args": {"env_version": "1.5.1"}}, "made with robosuite 1.5.1"),
        ({"env_args": {"env_kwargs": {"controller_configs": {"type": "JOINT_VELOCITY"}}}}, "controller JOINT_VELOCITY"),
        ({"env_args": {"env_kwargs": {"controller_configs": {"control_delta": False}}}}, "actions of absolute poses"),
        ({"env_args": {"env_kwargs": 3}}, "env_args are not robomimic's description"),
        (
            {"obs": {"agentview_image": 4}},
            r"has no observations robot0_eef_pos, .* \(found agentview_image\): a low",
        ),
        ({"obs": WIDTHS | {"object": 9}}, r"needs \[steps, 19\]"),
        ({"actions": np.zeros((5, 6))}, "not of one length|needs .steps, 7."),
        ({"actions": None}, r"demo_0 has no actions \(found obs, rewards\)"),
        ({"rewards": np.zeros(3)}, "not of one length"),
        ({"obs": {}, "actions": None}, "low_dim file is needed|not in robomimic's layout|has no observations"),
        ({"episodes": 0}, "no episode in it"),
    ],
)
def test_files_that_do_not_fit(tmp_path, changes, words):
    with pytest.raises(DataError, match=words) as caught:
        load_demos(write(tmp_path / "low_dim.hdf5", **changes), TASKS["lift"])
    assert "\n" not in str(caught.value)


def test_other_files_and_tasks(tmp_path):
    path = write(tmp_path / "low_dim.hdf5")
    with pytest.raises(DataError, match="hopper-medium is none of its tasks"):
        load_demos(path, TASKS["hopper-medium"])
    with h5py.File(tmp_path / "flat.hdf5", "w") as file:
        file["observations"] = np.zeros((3, 11))
    with pytest.raises(DataError, match="not a robomimic file, so it has no filter key train"):
        load_demos(f"{tmp_path / 'flat.hdf5'}:train", TASKS["hopper-medium"])
    with h5py.File(path, "a") as file:
        del file["data/demo_4"]
        file["data/demo_4"] = np.zeros(3)
    with pytest.raises(DataError, match="not in robomimic's layout"):
        load_demos(path, TASKS["lift"])
    whole = (tmp_path / "low_dim.hdf5").read_bytes()
    (tmp_path / "low_dim.hdf5").write_bytes(whole[: len(whole) // 2])
    with pytest.raises(DataError):
        load_demos(path, TASKS["lift"])

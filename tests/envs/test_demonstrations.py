"""Readers on real files of each format, written here; normalisers and windows; what is said of damaged files."""

import gymnasium as gym
import h5py
import minari
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from minari.data_collector import EpisodeBuffer

from dpft.envs import TASKS, DataError
from dpft.envs.demonstrations import Demonstrations, Normaliser, load_demos, make_demonstrations, remarks

TASK = TASKS["hopper-medium"]
LENGTHS = [7, 3, 12]


@pytest.fixture
def episodes():
    rng = np.random.default_rng(0)
    return [
        {
            "observations": rng.normal(size=(n + 1, 11)),
            "actions": rng.uniform(-1, 1, (n, 3)).astype(np.float32),
            "rewards": rng.normal(size=n),
        }
        for n in LENGTHS
    ]


def check(demos: Demonstrations, episodes, atol=0.0) -> None:
    np.testing.assert_allclose(
        demos.obs, np.concatenate([e["observations"][:-1] for e in episodes]).astype(np.float32), atol=atol
    )
    np.testing.assert_allclose(demos.actions, np.concatenate([e["actions"] for e in episodes]), atol=atol)
    assert demos.lengths.tolist() == LENGTHS
    np.testing.assert_allclose(demos.returns, [e["rewards"].sum() for e in episodes], rtol=1e-6)


def write_minari(name, episodes):
    buffers = []
    for i, e in enumerate(episodes):
        n = len(e["rewards"])
        flags = [False] * (n - 1) + [True]
        buffers.append(
            EpisodeBuffer(
                id=i,
                observations=list(e["observations"]),
                actions=list(e["actions"]),
                rewards=list(e["rewards"]),
                terminations=flags,
                truncations=[False] * n,
            )
        )
    env = gym.make("Hopper-v5")
    minari.create_dataset_from_buffers(
        name, buffers, env="Hopper-v5", observation_space=env.observation_space, action_space=env.action_space
    )


@pytest.fixture
def minari_root(tmp_path, monkeypatch):
    monkeypatch.setenv("MINARI_DATASETS_PATH", str(tmp_path / "minari"))
    return tmp_path / "minari"


def test_minari_id_and_folder(minari_root, episodes):
    write_minari("local/hopper-v0", episodes)
    for source in ("local/hopper-v0", "minari:local/hopper-v0", str(minari_root / "local/hopper-v0")):
        check(load_demos(source, TASK), episodes)


def test_minari_damaged(minari_root, episodes):
    write_minari("local/hopper-v0", episodes)
    file = minari_root / "local/hopper-v0/data/main_data.hdf5"
    file.write_bytes(file.read_bytes()[: file.stat().st_size // 2])
    refused(str(minari_root / "local/hopper-v0"), "cannot read Minari dataset")
    refused("local/nothing-v0", "neither a file or folder, nor a Minari dataset")


def refused(source, words, task=TASK) -> None:
    with pytest.raises(DataError, match=words) as caught:
        load_demos(source, task)
    assert "\n" not in str(caught.value)


def d4rl_arrays(episodes) -> dict[str, np.ndarray]:
    ends = np.cumsum(LENGTHS) - 1
    total = sum(LENGTHS)
    data = {
        "observations": np.concatenate([e["observations"][:-1] for e in episodes]).astype(np.float32),
        "actions": np.concatenate([e["actions"] for e in episodes]),
        "rewards": np.concatenate([e["rewards"] for e in episodes]).astype(np.float32),
        "terminals": np.zeros(total, bool),
        "timeouts": np.zeros(total, bool),
    }
    data["terminals"][ends[:2]] = True
    data["timeouts"][ends[2]] = True
    return data


def write_d4rl(path, data) -> str:
    with h5py.File(path, "w") as file:
        for name, value in data.items():
            file[name] = value
        file["infos/qpos"] = np.zeros((4, 2))
    return str(path)


def test_d4rl_file(tmp_path, episodes):
    data = d4rl_arrays(episodes)
    check(load_demos(write_d4rl(tmp_path / "hopper_medium-v2.hdf5", data), TASK), episodes)
    # a last episode that does not end is dropped
    longer = {name: np.concatenate([value, value[:5] * 0]) for name, value in data.items()}
    check(load_demos(write_d4rl(tmp_path / "longer.hdf5", longer), TASK), episodes)


def test_d4rl_file_without_timeouts_is_cut_at_the_limit(tmp_path):
    n = 2350
    data = {
        "observations": np.random.default_rng(0).normal(size=(n, 11)).astype(np.float32),
        "actions": np.zeros((n, 3), np.float32),
        "rewards": np.ones(n, np.float32),
        "terminals": np.zeros(n, bool),
    }
    data["terminals"][[1199, n - 1]] = True
    demos = load_demos(write_d4rl(tmp_path / "old.hdf5", data), TASK)
    assert demos.lengths.tolist() == [1000, 200, 1000, 150]
    assert demos.returns.tolist() == [1000, 200, 1000, 150]


def test_d4rl_file_damaged(tmp_path, episodes):
    data = d4rl_arrays(episodes)
    whole = tmp_path / "whole.hdf5"
    write_d4rl(whole, data)
    short = tmp_path / "short.hdf5"
    short.write_bytes(whole.read_bytes()[:1500])
    refused(str(short), "cannot read .*short.hdf5 as HDF5")
    text = tmp_path / "text.hdf5"
    text.write_text("<html>404 Not Found</html>")
    refused(str(text), "cannot read .*text.hdf5 as HDF5")
    refused(str(tmp_path / "gone.hdf5"), "no demonstration file")
    refused(write_d4rl(tmp_path / "m.hdf5", {k: v for k, v in data.items() if k != "actions"}), "has no actions")
    refused(
        write_d4rl(tmp_path / "d.hdf5", data), r"but HalfCheetah-v5 needs \[steps, 17\]", TASKS["halfcheetah-medium"]
    )
    refused(write_d4rl(tmp_path / "l.hdf5", data | {"rewards": data["rewards"][:-1]}), "differ in length")
    bad = data["observations"].copy()
    bad[5, 2] = np.nan
    refused(write_d4rl(tmp_path / "n.hdf5", data | {"observations": bad}), "not finite at step 5")
    never = {"terminals": data["terminals"] & False, "timeouts": data["timeouts"] & False}
    refused(write_d4rl(tmp_path / "e.hdf5", data | never), "no episode ends in it")


@pytest.fixture
def dppo_folder(tmp_path, episodes):
    """train.npz and normalization.npz as DPPO's conversion writes them: already normalised."""
    obs = np.concatenate([e["observations"][:-1] for e in episodes]).astype(np.float32)
    actions = np.concatenate([e["actions"] for e in episodes])
    limits = {
        "obs_min": obs.min(0) - 1,
        "obs_max": obs.max(0) + 2,
        "action_min": actions.min(0),
        "action_max": actions.max(0),
    }

    def scale(x, low, high):
        return 2 * (x - low) / (high - low + 1e-6) - 1

    np.savez(
        tmp_path / "train.npz",
        states=scale(obs, limits["obs_min"], limits["obs_max"]),
        actions=scale(actions, limits["action_min"], limits["action_max"]),
        traj_lengths=np.array(LENGTHS),
        rewards=np.concatenate([e["rewards"] for e in episodes]),
        terminals=np.zeros(len(obs), bool),
    )
    np.savez(tmp_path / "normalization.npz", **limits)
    return tmp_path


def test_dppo_npz(dppo_folder, episodes):
    for source in (dppo_folder, dppo_folder / "train.npz"):
        demos = load_demos(str(source), TASK)
        check(demos, episodes, atol=1e-5)
        # its normaliser is kept: wider than the data's own minimum and maximum
        np.testing.assert_allclose(
            demos.normaliser.obs_min, np.load(dppo_folder / "normalization.npz")["obs_min"], rtol=1e-6
        )
        states = np.load(dppo_folder / "train.npz")["states"]
        np.testing.assert_allclose(demos.normaliser.obs(demos.obs), states, atol=1e-5)


def test_dppo_npz_with_a_constant_dimension(dppo_folder, episodes):
    """DPPO's conversion makes it -1; its value comes back, and the environment's deviations are not amplified."""
    limits, train = (dict(np.load(dppo_folder / name)) for name in ("normalization.npz", "train.npz"))
    limits["obs_min"][4] = limits["obs_max"][4] = 0.25
    train["states"][:, 4] = -1
    np.savez(dppo_folder / "normalization.npz", **limits)
    np.savez(dppo_folder / "train.npz", **train)
    demos = load_demos(str(dppo_folder), TASK)
    assert (demos.obs[:, 4] == 0.25).all()
    assert np.abs(demos.normaliser.obs(demos.obs[:1] + 0.01)[0, 4]) < 0.011


def test_dppo_npz_damaged(dppo_folder):
    refused(str(dppo_folder), "but HalfCheetah-v5 has 17 and 6", TASKS["halfcheetah-medium"])
    train = dppo_folder / "train.npz"
    contents = train.read_bytes()
    train.write_bytes(contents[:400])
    refused(str(train), "cannot read .*train.npz as npz")
    train.write_bytes(contents)
    (dppo_folder / "normalization.npz").rename(dppo_folder / "n.npz")
    refused(str(train), "no file .*normalization.npz")
    np.savez(dppo_folder / "normalization.npz", obs_min=np.zeros(11))
    refused(str(train), "has no obs_max, action_min, action_max")
    np.savez(train, states=np.array([object()], dtype=object))
    refused(str(train), "cannot read .*as npz")


def test_d4rl_package_says_what_to_do_instead():
    """Where d4rl is not installed, or not usable, one line says why and which reader to use."""
    refused("d4rl:hopper-medium-v2", r"d4rl cannot give 'hopper-medium-v2' here \(.*\): download the HDF5 file")


def test_no_source():
    with pytest.raises(DataError, match="has no demonstrations of its own"):
        load_demos("", TASK)
    refused("expert:nobody", "no expert 'nobody'")


values = st.floats(-100, 100, width=32)


@given(arrays(np.float32, (6, 3), elements=values), arrays(np.float32, (5, 3), elements=values))
@settings(max_examples=60, deadline=None)
def test_normaliser_round_trip(actions, others):
    normaliser = Normaliser.of(np.zeros((6, 2), np.float32), actions)
    normalised = normaliser.normalise_action(actions)
    assert normalised.min() >= -1 - 1e-5
    assert normalised.max() <= 1 + 1e-5
    width = normaliser.action_max - normaliser.action_min
    np.testing.assert_allclose(normaliser.action(normalised), actions, atol=1e-3)
    # values outside the demonstrations' range keep their order and come back
    wide = width > 1
    back = normaliser.action(normaliser.normalise_action(others))
    np.testing.assert_allclose(back[:, wide], others[:, wide], rtol=1e-3, atol=1e-2)


@given(st.floats(-1e9, 1e9), st.sampled_from([0, 1e-9, 1e-5, 5e-4]), st.floats(-10, 10))
@settings(max_examples=100, deadline=None)
def test_a_dimension_without_range_is_not_amplified(centre, width, deviation):
    """Neither observation nor action of a dimension that hardly varies; both ways remain each other's inverse."""
    x = (centre + width * np.linspace(0, 1, 9)[:, None]).astype(np.float32)
    normaliser = Normaliser.of(x, x)
    other = (x[:1] + np.float32(deviation)).astype(np.float32)
    moved = np.abs(other - x[4]).astype(float)  # what float32 makes of the deviation
    assert (np.abs(normaliser.obs(other)) <= 1.001 * moved + 1e-3).all()
    assert (np.abs(normaliser.obs(x)) <= 0.51).all()
    back = normaliser.action(normaliser.normalise_action(other))
    np.testing.assert_allclose(back, other, rtol=1e-6, atol=1e-5)


def test_ordinary_dimensions_keep_dppos_formula_to_the_bit():
    rng = np.random.default_rng(0)
    x = np.concatenate([rng.normal(size=(50, 3)) * [2e-3, 1, 1e4], np.full((50, 1), 7)], 1).astype(np.float32)
    low, high = x[:, :3].min(0), x[:, :3].max(0)
    normaliser = Normaliser.of(x, x)
    expected = 2 * (x[:, :3] - low) / (high - low + np.float32(1e-6)) - 1
    assert (normaliser.obs(x)[:, :3] == expected).all()
    assert (
        normaliser.action(expected[:, [0, 1, 2, 2]])[:, :3]
        == (expected + 1) / 2 * (high - low + np.float32(1e-6)) + low
    ).all()


def test_a_large_offset_is_scaled_by_its_range():
    """A range that float32 resolves is a scale, however far from 0 it is."""
    x = np.linspace(1e6, 1e6 + 100, 9, dtype=np.float32)[:, None]
    np.testing.assert_allclose(Normaliser.of(x, x).obs(x)[:, 0], np.linspace(-1, 1, 9), atol=1e-5)


def test_remarks_on_demonstrations():
    rng = np.random.default_rng(0)
    obs, actions = rng.normal(size=(40, 11)), rng.uniform(-1, 1, (40, 3)).astype(np.float32)
    box = np.full(3, -1, np.float32), np.full(3, 1, np.float32)

    def lines() -> list[str]:
        demos = make_demonstrations("x", TASK, obs, actions, np.array([40]), None)
        return remarks(demos.normaliser, demos.outside(*box))

    actions[0, 0] = np.nextafter(np.float32(1), np.float32(2))  # rounding is not said
    assert lines() == []
    obs[:, [2, 4]], actions[:, 1] = 3 + 1e-5 * rng.random((40, 2)), 0
    actions[:7, 2] = -51
    constant, action, outside = lines()
    assert constant.endswith("not scaled: observation 2, 4")
    assert action.endswith("action 1")
    assert outside.startswith("7 of 40 actions of the demonstrations lie outside the environment's box, by up to 50:")


@given(st.lists(st.integers(1, 9), min_size=1, max_size=6), st.integers(1, 5))
@settings(max_examples=60, deadline=None)
def test_windows_stay_inside_their_episode(lengths, horizon):
    n = sum(lengths)
    episode = np.repeat(np.arange(len(lengths)), lengths)
    obs = np.stack([np.arange(n), episode], 1).astype(np.float32)
    actions = np.stack([np.arange(n), episode], 1).astype(np.float32)
    unit = Normaliser(*(np.array([x, x], np.float32) for x in (-1, 1, -1, 1)))
    demos = Demonstrations(obs, actions, np.array(lengths), None, unit, "test")
    starts, chunks = demos.chunks(horizon)
    assert len(starts) == sum(max(0, m - horizon + 1) for m in lengths)
    back = unit.action(chunks)
    for start, chunk in zip(starts, back, strict=True):
        np.testing.assert_allclose(chunk[:, 1], chunk[0, 1], atol=1e-3)
        np.testing.assert_allclose(np.diff(chunk[:, 0]), 1, atol=1e-3)
        np.testing.assert_allclose((start[0] + 1) / 2 * 2 - 1, chunk[0, 0], atol=1e-3)


def test_digest_changes_with_the_contents(episodes):
    def build(shift: float) -> Demonstrations:
        obs = np.concatenate([e["observations"][:-1] for e in episodes]) + shift
        return make_demonstrations(
            "x", TASK, obs, np.concatenate([e["actions"] for e in episodes]), np.array(LENGTHS), None
        )

    assert build(0).digest() == build(0).digest() != build(1).digest()

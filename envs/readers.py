"""One reader for each demonstration format that users have."""

import re
import zipfile
import zlib
from dataclasses import replace
from pathlib import Path

import numpy as np

from dpft.envs.demonstrations import Demonstrations, Normaliser, denormalise, make_demonstrations, numbers
from dpft.envs.task import DataError, TaskSpec, first_line

Array = np.ndarray
D4RL_KEYS = ("observations", "actions", "rewards", "terminals")  # and timeouts, in newer files


def read_minari(source: str, task: TaskSpec) -> Demonstrations:
    """A Minari dataset: its id, or its folder (the one that holds data/)."""
    import minari

    path = Path(source).expanduser()
    try:
        local = (path / "data").is_dir()
        dataset = minari.MinariDataset(path / "data") if local else minari.load_dataset(source)
        made_on = dataset.env_spec.id if dataset.env_spec else task.env_id
        episodes = list(dataset.iterate_episodes())
    except FileNotFoundError:
        raise DataError(
            f"no demonstrations {source!r}: neither a file or folder, nor a Minari dataset that is installed"
        ) from None
    except Exception as error:  # h5py, json and Minari raise many kinds for a damaged dataset
        raise DataError(f"cannot read Minari dataset {source!r}: {first_line(error)}") from None
    if family(made_on) != family(task.env_id):
        raise DataError(f"{source} says that it was made on {made_on}, so it is not for {task.env_id}")
    if not episodes:
        raise DataError(f"{source}: the Minari dataset has no episodes")
    if isinstance(episodes[0].observations, dict):
        raise DataError(f"{source}: its observations are dictionaries; flat observations are needed")
    lengths = [len(episode.actions) for episode in episodes]
    for number, (episode, length) in enumerate(zip(episodes, lengths, strict=True)):
        if len(episode.observations) != length + 1:
            raise DataError(
                f"{source}: episode {number} has {len(episode.observations)} observations for {length} actions"
            )
    found = make_demonstrations(
        source,
        task,
        np.concatenate([np.asarray(episode.observations)[:-1] for episode in episodes]),
        np.concatenate([np.asarray(episode.actions) for episode in episodes]),
        np.asarray(lengths),
        np.concatenate([np.asarray(episode.rewards) for episode in episodes]),
    )
    return replace(found, success_rate=dataset.storage.metadata.get("success_rate"))


def family(env_id: str) -> str:
    """Hopper of Hopper-v5: versions of an environment exchange demonstrations."""
    return re.sub(r"-v\d+$", "", env_id.rpartition("/")[2])


def read_d4rl_file(path: Path, task: TaskSpec) -> Demonstrations:
    """A D4RL HDF5 file: flat arrays, episodes split at terminals or timeouts; a last, unfinished episode is dropped."""
    import h5py

    if not path.is_file():
        raise DataError(f"no demonstration file {path}")
    try:
        with h5py.File(path, "r") as file:
            missing = [key for key in D4RL_KEYS if not isinstance(file.get(key), h5py.Dataset)]
            if missing:
                raise DataError(
                    f"{path} is not a D4RL file: it has no {', '.join(missing)} (found {', '.join(file) or 'nothing'})"
                )
            data = {key: np.asarray(file[key]) for key in (*D4RL_KEYS, "timeouts") if key in file}
    except OSError as error:
        raise DataError(f"cannot read {path} as HDF5: {first_line(error)}") from None
    return split_d4rl(str(path), data, task)


def split_d4rl(source: str, data: dict[str, Array], task: TaskSpec) -> Demonstrations:
    """Flat D4RL arrays -> episodes. Without timeouts, a full-length run of the time limit counts as one."""
    # the package's datasets hold more: what they were made with
    data = {key: numbers(source, key, data[key]) for key in (*D4RL_KEYS, "timeouts") if key in data}
    data |= {key: data[key].ravel() for key in ("rewards", "terminals", "timeouts") if key in data}
    sizes = {key: len(np.atleast_1d(value)) for key, value in data.items()}
    if len(set(sizes.values())) != 1:
        raise DataError(f"{source}: its arrays differ in length: " + ", ".join(f"{k} {n}" for k, n in sizes.items()))
    done = data["terminals"] != 0
    if "timeouts" in data:
        done = done | (data["timeouts"] != 0)
    ends: list[int] = []
    start = 0
    for end in [*(np.flatnonzero(done) + 1), len(done)]:
        while "timeouts" not in data and end - start >= task.max_episode_steps:
            start += task.max_episode_steps
            ends.append(start)
        if end > start and end <= len(done) and (end < len(done) or done[-1]):
            ends.append(int(end))
            start = int(end)
    if not ends:
        raise DataError(
            f"{source}: no episode ends in it, by terminals, timeouts or the limit of {task.max_episode_steps} steps"
        )
    obs, actions, rewards = (data[key][: ends[-1]] for key in ("observations", "actions", "rewards"))
    return make_demonstrations(source, task, obs, actions, np.diff([0, *ends]), rewards)


def read_dppo(path: Path, task: TaskSpec) -> Demonstrations:
    """DPPO's train.npz (already normalised) with the normalization.npz beside it, whose normaliser is kept."""
    train = path / "train.npz" if path.is_dir() else path
    data = _read_npz(train, ("states", "actions", "traj_lengths"), ("rewards",))
    limits_file = train.with_name("normalization.npz")
    limits = _read_npz(limits_file, ("obs_min", "obs_max", "action_min", "action_max"))
    normaliser = Normaliser(**{key: value.astype(np.float32) for key, value in limits.items()})
    if normaliser.obs_min.shape != (task.obs_dim,) or normaliser.action_min.shape != (task.action_dim,):
        raise DataError(
            f"{limits_file} is for {normaliser.obs_min.size} observations and "
            f"{normaliser.action_min.size} actions, but {task.env_id} has {task.obs_dim} and {task.action_dim}"
        )
    for what in ("obs", "action"):
        low, high = limits[f"{what}_min"], limits[f"{what}_max"]
        if low.shape != high.shape or not (np.isfinite(high - low) & (high >= low)).all():
            raise DataError(f"{limits_file}: {what}_min and {what}_max are not the ends of a range in every dimension")
    for key, width in (("states", task.obs_dim), ("actions", task.action_dim)):
        if data[key].ndim != 2 or data[key].shape[1] != width:
            raise DataError(f"{train}: {key} have shape {data[key].shape}, but {task.env_id} needs [steps, {width}]")
    return make_demonstrations(
        str(train),
        task,
        denormalise(data["states"], normaliser.obs_min, normaliser.obs_max),
        denormalise(data["actions"], normaliser.action_min, normaliser.action_max),
        data["traj_lengths"],
        data.get("rewards"),
        normaliser,
    )


def _read_npz(path: Path, keys: tuple[str, ...], optional: tuple[str, ...] = ()) -> dict[str, Array]:
    if not path.is_file():
        raise DataError(f"no file {path}: DPPO's demonstrations are a train.npz with a normalization.npz beside it")
    if not zipfile.is_zipfile(path):
        raise DataError(f"cannot read {path} as npz: it is not a zip archive, or it is cut short")
    try:
        with np.load(path, allow_pickle=False) as file:
            found = file.files
            data = {key: file[key] for key in (*keys, *optional) if key in found}
    except (OSError, ValueError, EOFError, zipfile.BadZipFile, zlib.error) as error:
        raise DataError(f"cannot read {path} as npz: {first_line(error)}") from None
    missing = [key for key in keys if key not in data]
    if missing:
        raise DataError(f"{path} has no {', '.join(missing)} (found {', '.join(found) or 'nothing'})")
    return {key: numbers(str(path), key, value) for key, value in data.items()}


def read_d4rl_package(name: str, task: TaskSpec) -> Demonstrations:
    """A dataset by its D4RL name, where the optional d4rl package works (it needs MuJoCo 2.1 for mujoco-py)."""
    advice = f"download the HDF5 file of {name} and name its path instead, or use expert:{task.name}"
    try:
        import d4rl  # noqa: F401 (registers the environments)
        import gym

        data = gym.make(name).get_dataset()  # downloads it
    except Exception as error:  # d4rl raises a plain Exception where MuJoCo 2.1 is missing
        raise DataError(f"d4rl cannot give {name!r} here ({first_line(error)}): {advice}") from None
    return split_d4rl(f"d4rl:{name}", data, task)

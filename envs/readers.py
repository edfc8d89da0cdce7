"""One reader for each demonstration format that users have."""

import json
import re
import zipfile
import zlib
from dataclasses import replace
from pathlib import Path
from typing import Any

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
        what = "a folder without data/ or train.npz" if path.is_dir() else "neither a file or folder"
        raise DataError(f"no demonstrations {source!r}: {what}, nor a Minari dataset that is installed") from None
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


def read_hdf5(path: Path, task: TaskSpec, filter_key: str = "") -> Demonstrations:
    """An HDF5 file of robomimic's layout, which has a group data, or of D4RL's; filter_key is one of robomimic's."""
    import h5py

    if not path.is_file():
        raise DataError(f"no demonstration file {path}")
    try:
        with h5py.File(path, "r") as file:
            if isinstance(file.get("data"), h5py.Group):
                return read_robomimic(path, file, task, filter_key)
            if filter_key:
                raise DataError(f"{path} is not a robomimic file, so it has no filter key {filter_key}")
            missing = [key for key in D4RL_KEYS if not isinstance(file.get(key), h5py.Dataset)]
            if missing:
                raise DataError(
                    f"{path} is not a D4RL file: it has no {', '.join(missing)} (found {', '.join(file) or 'nothing'})"
                )
            data = {key: np.asarray(file[key]) for key in (*D4RL_KEYS, "timeouts") if key in file}
    except OSError as error:
        raise DataError(f"cannot read {path} as HDF5: {first_line(error)}") from None
    return split_d4rl(str(path), data, task)


def read_robomimic(path: Path, file: Any, task: TaskSpec, filter_key: str) -> Demonstrations:
    """robomimic's low_dim layout: data/demo_k with obs/KEY, actions and rewards; episodes of a filter key, or all.

    Observations are put together by the task's keys, in the task's order.
    """
    if not task.obs_keys:
        raise DataError(f"{path} is a robomimic file, and {task.name} is none of its tasks")
    check_robomimic(path, file["data"].attrs.get("env_args"), task)
    names = sorted(file["data"], key=lambda name: (len(name), name))  # demo_2 before demo_10
    if filter_key:
        known = list(file.get("mask", {}))
        if filter_key not in known:
            raise DataError(f"{path} has no filter key {filter_key}: there are {', '.join(known) or 'none'}")
        names = [bytes(name).decode() for name in file["mask"][filter_key]]
    try:
        episodes = [robomimic_episode(f"{path}: {name}", file["data"][name], task) for name in names]
    except (KeyError, TypeError, AttributeError) as error:  # a name that is not there, an array for a group
        raise DataError(f"{path} is not in robomimic's layout: {first_line(error)}") from None
    if not episodes:
        raise DataError(f"{path}: there is no episode in it")
    obs, actions, rewards = (np.concatenate(parts) for parts in zip(*episodes, strict=True))
    return make_demonstrations(str(path), task, obs, actions, np.array([len(one[1]) for one in episodes]), rewards)


def check_robomimic(path: Path, env_args: Any, task: TaskSpec) -> None:
    """Raises DataError for what was recorded on another task, with other actions, or is seen differently today."""
    try:
        facts = json.loads(env_args or "{}")
        settings = facts.get("env_kwargs") or {}
        controller = settings.get("controller_configs") or {}
        name, version = facts.get("env_name"), str(facts.get("env_version") or settings.get("env_version") or "1.4")
        kind, delta = controller.get("type", "OSC_POSE"), controller.get("control_delta", True)
    except (ValueError, AttributeError, TypeError):
        raise DataError(f"{path}: its env_args are not robomimic's description of an environment") from None
    if name and f"robosuite/{name}" != task.env_id:
        raise DataError(f"{path} says that it was made on robosuite/{name}, so it is not for {task.env_id}")
    if not re.match(r"1\.[0-4](\.|$)", version):
        raise DataError(f"{path} was made with robosuite {version}, whose observations of objects differ from 1.4's")
    if kind != "OSC_POSE" or not delta:
        found = "absolute poses" if kind == "OSC_POSE" else f"controller {kind}"
        raise DataError(f"{path} has actions of {found}: {task.name} takes OSC_POSE's deltas")


def robomimic_episode(where: str, group: Any, task: TaskSpec) -> tuple[Array, Array, Array]:
    """Observations [T, O], actions [T, A] and rewards [T] of one demonstration."""
    found = list(group.get("obs", ()))
    missing = [key for key in task.obs_keys if key not in found]
    if missing:
        raise DataError(
            f"{where} has no observations {', '.join(missing)} (found {', '.join(found) or 'none'}): "
            "a low_dim file is needed, which robomimic's dataset_states_to_obs.py makes"
        )
    absent = [key for key in ("actions", "rewards") if key not in group]
    if absent:
        raise DataError(f"{where} has no {', '.join(absent)} (found {', '.join(group)})")
    seen = [numbers(where, key, group["obs"][key][()]) for key in task.obs_keys]
    actions, rewards = (numbers(where, key, group[key][()]) for key in ("actions", "rewards"))
    lengths = {key: len(part) if part.ndim == 2 else -1 for key, part in zip(task.obs_keys, seen, strict=True)}
    if set(lengths.values()) != {len(actions)} or rewards.shape != (len(actions),):
        raise DataError(f"{where}: its observations, actions and rewards are not of one length")
    return np.concatenate(seen, axis=1), actions, rewards


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

"""One reader for each demonstration format that users have."""

import zipfile
from pathlib import Path

import numpy as np

from envs.demonstrations import Demonstrations, Normaliser, denormalise, make_demonstrations
from envs.task import DataError, TaskSpec

Array = np.ndarray


def read_minari(source: str, task: TaskSpec) -> Demonstrations:
    """A Minari dataset: its id, or its folder (the one that holds data/)."""
    import minari

    path = Path(source).expanduser()
    try:
        local = (path / "data").is_dir()
        dataset = minari.MinariDataset(path / "data") if local else minari.load_dataset(source)
        episodes = list(dataset.iterate_episodes())
    except FileNotFoundError:
        raise DataError(
            f"no demonstrations {source!r}: neither a file or folder, nor a Minari dataset that is installed"
        ) from None
    except Exception as error:  # h5py, json and Minari raise many kinds for a damaged dataset
        raise DataError(f"cannot read Minari dataset {source!r}: {_first_line(error)}") from None
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
    return make_demonstrations(
        source,
        task,
        np.concatenate([np.asarray(episode.observations)[:-1] for episode in episodes]),
        np.concatenate([np.asarray(episode.actions) for episode in episodes]),
        np.asarray(lengths),
        np.asarray([np.sum(episode.rewards) for episode in episodes]),
    )


def read_d4rl_file(path: Path, task: TaskSpec) -> Demonstrations:
    """A D4RL HDF5 file: flat arrays, episodes split at terminals or timeouts; a last, unfinished episode is dropped."""
    import h5py

    if not path.is_file():
        raise DataError(f"no demonstration file {path}")
    try:
        with h5py.File(path, "r") as file:
            missing = [key for key in ("observations", "actions", "rewards", "terminals") if key not in file]
            if missing:
                raise DataError(
                    f"{path} is not a D4RL file: it has no {', '.join(missing)} (found {', '.join(file) or 'nothing'})"
                )
            data = {
                key: file[key][()]
                for key in ("observations", "actions", "rewards", "terminals", "timeouts")
                if key in file
            }
    except OSError as error:
        raise DataError(f"cannot read {path} as HDF5: {_first_line(error)}") from None
    return split_d4rl(str(path), data, task)


def split_d4rl(source: str, data: dict[str, Array], task: TaskSpec) -> Demonstrations:
    """Flat D4RL arrays -> episodes. Without timeouts, a full-length run of the time limit counts as one."""
    done = np.asarray(data["terminals"], bool).ravel()
    sizes = {key: len(value) for key, value in data.items()}
    if len(set(sizes.values())) != 1:
        raise DataError(f"{source}: its arrays differ in length: " + ", ".join(f"{k} {n}" for k, n in sizes.items()))
    if "timeouts" in data:
        done = done | np.asarray(data["timeouts"], bool).ravel()
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
    lengths = np.diff([0, *ends])
    rewards = np.asarray(data["rewards"], np.float64).ravel()[: ends[-1]]
    returns = np.add.reduceat(rewards, [0, *ends[:-1]])
    return make_demonstrations(
        source, task, data["observations"][: ends[-1]], data["actions"][: ends[-1]], lengths, returns
    )


def read_dppo(path: Path, task: TaskSpec) -> Demonstrations:
    """DPPO's train.npz (already normalised) with the normalization.npz beside it, whose normaliser is kept."""
    train = path / "train.npz" if path.is_dir() else path
    data = _read_npz(train, ("states", "actions", "traj_lengths"))
    limits = _read_npz(train.with_name("normalization.npz"), ("obs_min", "obs_max", "action_min", "action_max"))
    normaliser = Normaliser(
        **{
            key: np.asarray(value, np.float32)
            for key, value in limits.items()
            if key in vars(Normaliser)["__dataclass_fields__"]
        }
    )
    if normaliser.obs_min.shape != (task.obs_dim,) or normaliser.action_min.shape != (task.action_dim,):
        raise DataError(
            f"{train.with_name('normalization.npz')} is for {normaliser.obs_min.size} observations and "
            f"{normaliser.action_min.size} actions, but {task.env_id} has {task.obs_dim} and {task.action_dim}"
        )
    lengths = np.asarray(data["traj_lengths"]).ravel()
    returns = None
    if "rewards" in data:
        returns = np.add.reduceat(
            np.asarray(data["rewards"], np.float64).ravel(), np.concatenate([[0], np.cumsum(lengths)[:-1]])
        )
    for key, width in (("states", task.obs_dim), ("actions", task.action_dim)):
        if data[key].ndim != 2 or data[key].shape[1] != width:
            raise DataError(f"{train}: {key} have shape {data[key].shape}, but {task.env_id} needs [steps, {width}]")
    return make_demonstrations(
        str(train),
        task,
        denormalise(data["states"], normaliser.obs_min, normaliser.obs_max),
        denormalise(data["actions"], normaliser.action_min, normaliser.action_max),
        lengths,
        returns,
        normaliser,
    )


def _read_npz(path: Path, keys: tuple[str, ...]) -> dict[str, Array]:
    if not path.is_file():
        raise DataError(f"no file {path}: DPPO's demonstrations are a train.npz with a normalization.npz beside it")
    try:
        with np.load(path, allow_pickle=False) as file:
            data = {key: file[key] for key in file.files}
    except (OSError, ValueError, EOFError, zipfile.BadZipFile) as error:
        raise DataError(f"cannot read {path} as npz: {_first_line(error)}") from None
    missing = [key for key in keys if key not in data]
    if missing:
        raise DataError(f"{path} has no {', '.join(missing)} (found {', '.join(data) or 'nothing'})")
    return data


def read_d4rl_package(name: str, task: TaskSpec) -> Demonstrations:
    """A dataset by its D4RL name, where the optional d4rl package works (it needs MuJoCo 2.1 for mujoco-py)."""
    advice = f"download the HDF5 file of {name} and name its path instead, or use expert:{task.name}"
    try:
        import d4rl  # noqa: F401 (registers the environments)
        import gym

        env = gym.make(name)
    except Exception as error:  # d4rl raises a plain Exception where MuJoCo 2.1 is missing
        raise DataError(f"d4rl cannot give {name!r} here ({_first_line(error)}): {advice}") from None
    return split_d4rl(f"d4rl:{name}", env.get_dataset(), task)


def _first_line(error: BaseException) -> str:
    lines = [line for line in str(error).strip().splitlines() if line.strip()]
    return lines[0].strip() if lines else type(error).__name__

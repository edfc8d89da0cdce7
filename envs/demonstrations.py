"""Demonstrations: episodes of observations and actions, their normaliser, and where they come from."""

import hashlib
import re
from dataclasses import dataclass, fields
from functools import cached_property
from pathlib import Path

import numpy as np

from dpft.envs.task import DataError, TaskSpec

Array = np.ndarray
EPSILON = np.float32(1e-6)  # in the width, as DPPO's data conversion has it
NARROW = 1e-3, 1e-5  # a range that is no wider than this, or than this share of its magnitude, is no scale
ROUNDING = 1e-5  # action units by which an action may leave the environment's box unnoticed


@dataclass(frozen=True)
class Normaliser:
    """Minimum and maximum of the demonstrations map observations and actions to [-1, 1]; all float32.

    A dimension that is nearly constant in them is only shifted, to 0: its range says nothing about its scale.
    """

    obs_min: Array  # [O]
    obs_max: Array
    action_min: Array  # [A]
    action_max: Array

    @classmethod
    def of(cls, obs: Array, actions: Array) -> "Normaliser":
        extremes = (extreme(x, axis=0).astype(np.float32) for x in (obs, actions) for extreme in (np.min, np.max))
        return cls(*extremes)

    @cached_property
    def obs_ends(self) -> tuple[Array, Array]:
        """What is mapped to -1 and 1."""
        return _ends(self.obs_min, self.obs_max)

    @cached_property
    def action_ends(self) -> tuple[Array, Array]:
        return _ends(self.action_min, self.action_max)

    def obs(self, obs: Array) -> Array:
        """[..., O] in the environment's units -> normalised float32; may leave [-1, 1]."""
        return _normalise(obs, *self.obs_ends)

    def normalise_action(self, action: Array) -> Array:
        return _normalise(action, *self.action_ends)

    def action(self, chunk: Array) -> Array:
        """[..., A] normalised -> action units, float32, not clipped."""
        return denormalise(chunk, *self.action_ends)

    def arrays(self) -> dict[str, Array]:
        return {field.name: getattr(self, field.name) for field in fields(self)}


def remarks(normaliser: Normaliser, outside: Array) -> list[str]:
    """A line for each thing that may surprise in demonstrations; outside is what Demonstrations.outside says."""
    limits = {
        "observation": (normaliser.obs_min, normaliser.obs_max),
        "action": (normaliser.action_min, normaliser.action_max),
    }
    narrow = {what: np.flatnonzero(_narrow(*ends)[0]) for what, ends in limits.items()}
    lines = [
        f"constant or nearly so in the demonstrations, so shifted but not scaled: {what} {', '.join(map(str, which))}"
        for what, which in narrow.items()
        if len(which)
    ]
    count, distance, total = outside
    if count:
        lines.append(
            f"{count:,.0f} of {total:,.0f} actions of the demonstrations lie outside the environment's box, by up to "
            f"{distance:.3g}: they are clipped when they are executed"
        )
    return lines


def _narrow(low: Array, high: Array) -> tuple[Array, Array]:
    """Which ranges are no scale, and the width from which on they would be one."""
    absolute, relative = NARROW
    width = np.maximum(absolute, relative * np.maximum(np.abs(low), np.abs(high)))
    return high - low <= width, width


def _ends(low: Array, high: Array) -> tuple[Array, Array]:
    """What is mapped to -1 and 1: the range, or 1 to both sides of its centre (more where float32 has no such step)."""
    narrow, width = _narrow(low, high)
    centre, half = low + (high - low) / 2, np.maximum(1, width)
    ends = np.where(narrow, centre - half, low), np.where(narrow, centre + half, high)
    return ends[0].astype(np.float32), ends[1].astype(np.float32)


def _normalise(x: Array, low: Array, high: Array) -> Array:
    return (2 * (np.asarray(x, np.float32) - low) / (high - low + EPSILON) - 1).astype(np.float32)


def denormalise(x: Array, low: Array, high: Array) -> Array:
    return ((np.asarray(x, np.float32) + 1) / 2 * (high - low + EPSILON) + low).astype(np.float32)


@dataclass(frozen=True)
class Demonstrations:
    """E episodes, one after the other."""

    obs: Array  # [N, O] float32, the environment's units
    actions: Array  # [N, A] float32, action units
    lengths: Array  # [E] int64, sums to N
    returns: Array | None  # [E] summed rewards, where the source has rewards
    normaliser: Normaliser
    source: str
    success_rate: float | None = None  # of the expert that made them; episodes without success are left out

    @property
    def mean_return(self) -> float | None:
        return None if self.returns is None else float(np.mean(self.returns))

    def outside(self, low: Array, high: Array) -> Array:
        """How many actions lie outside the environment's box [A], by how much at most, and of how many: float64 [3]."""
        beyond = np.maximum(low - self.actions, self.actions - high).max(1)
        wrong = beyond > ROUNDING
        return np.array([wrong.sum(), beyond[wrong].max(initial=0.0), len(beyond)], np.float64)

    def chunks(self, horizon: int) -> tuple[Array, Array]:
        """Every full window of `horizon` actions inside an episode, with the observation at its start, normalised.

        Returns obs [M, O] and chunks [M, horizon, A]; episodes shorter than the horizon give none.
        """
        starts = np.concatenate([[0], np.cumsum(self.lengths)[:-1]]).astype(np.int64)
        windows = [np.arange(s, s + n - horizon + 1) for s, n in zip(starts, self.lengths, strict=True)]
        first = np.concatenate(windows) if windows else np.zeros(0, np.int64)
        actions = self.normaliser.normalise_action(self.actions)
        return self.normaliser.obs(self.obs[first]), actions[first[:, None] + np.arange(horizon)]

    def digest(self) -> str:
        """SHA-256 of the contents."""
        digest = hashlib.sha256()
        for array in (self.obs, self.actions, self.lengths, *self.normaliser.arrays().values()):
            digest.update(np.ascontiguousarray(array).tobytes())
        return digest.hexdigest()


def make_demonstrations(
    source: str,
    task: TaskSpec,
    obs: Array,
    actions: Array,
    lengths: Array,
    rewards: Array | None,
    normaliser: Normaliser | None = None,
) -> Demonstrations:
    """Check what a reader found, obs [N, O], actions [N, A], lengths [E], rewards [N], and put it together.

    Raises DataError saying what does not fit.
    """
    obs, actions = numbers(source, "observations", obs), numbers(source, "actions", actions)
    lengths = numbers(source, "episode lengths", lengths).ravel()
    for what, array, width in (("observations", obs, task.obs_dim), ("actions", actions, task.action_dim)):
        if array.ndim != 2 or array.shape[1] != width:
            raise DataError(f"{source}: {what} have shape {array.shape}, but {task.env_id} needs [steps, {width}]")
        if not np.isfinite(array).all():
            raise DataError(
                f"{source}: {what} hold a value that is not finite at step {np.argmin(np.isfinite(array).all(1))}"
            )
    whole = (lengths >= 1) & (lengths == np.floor(lengths))
    if len(obs) != len(actions) or lengths.sum() != len(obs) or not whole.all():
        raise DataError(
            f"{source}: {len(obs)} observations, {len(actions)} actions "
            f"and episodes of {lengths.sum():.0f} steps in all do not add up"
        )
    if not len(obs):
        raise DataError(f"{source}: there is no complete episode in it")
    lengths = lengths.astype(np.int64)
    returns = None
    if rewards is not None:
        rewards = numbers(source, "rewards", rewards).ravel()
        if len(rewards) != len(obs) or not np.isfinite(rewards).all():
            raise DataError(f"{source}: rewards must be {len(obs)} finite numbers, one a step")
        returns = np.add.reduceat(rewards, np.cumsum(lengths) - lengths)
    obs, actions = obs.astype(np.float32), actions.astype(np.float32)
    return Demonstrations(obs, actions, lengths, returns, normaliser or Normaliser.of(obs, actions), source)


def numbers(source: str, what: str, values: Array) -> Array:
    """The values as float64. Raises DataError where they are something else, such as text."""
    try:
        return np.asarray(values, np.float64)
    except (TypeError, ValueError):
        raise DataError(f"{source}: {what} are not an array of numbers") from None


def split_filter(source: str) -> tuple[str, str]:
    """FILE.hdf5:KEY -> the file and robomimic's filter key, which may be missing."""
    match = re.fullmatch(r"(.+\.(?:hdf5|h5)):([^/]*)", source)
    return (match[1], match[2]) if match else (source, "")


def load_demos(
    source: str, task: TaskSpec, steps: int | None = None, seed: int = 0, threads: int = 1
) -> Demonstrations:
    """Demonstrations from where `source` says.

    "expert:NAME" rolls out this suite's expert for about `steps` steps (none: the task's number; once, then from the
    cache); "minari:ID", an id that Minari knows, or a Minari folder; an HDF5 file of D4RL's or robomimic's layout, the
    latter with a filter key as FILE.hdf5:KEY; a folder or train.npz of DPPO; "d4rl:NAME" through the d4rl
    package. Raises DataError with one line for anything that cannot be used.
    """
    from dpft.envs import readers

    if not source:
        raise DataError(
            f"task {task.name} has no demonstrations of its own: name some with --demos.source (see README)"
        )
    kind, _, rest = source.partition(":")
    if kind == "expert":
        from dpft.envs.experts import expert_demos

        return expert_demos(rest, task, steps or task.demo_steps, seed, threads)
    if kind == "d4rl":
        return readers.read_d4rl_package(rest, task)
    if kind == "minari":
        return readers.read_minari(rest, task)
    name, filter_key = split_filter(source)
    path = Path(name).expanduser()
    if path.suffix in (".hdf5", ".h5") and not path.is_dir():
        return readers.read_hdf5(path, task, filter_key)
    if path.suffix == ".npz" or (path / "train.npz").exists():
        return readers.read_dppo(path, task)
    if path.is_file():
        raise DataError(
            f"{source} is no format known here: .hdf5 of D4RL or robomimic, DPPO's .npz, a Minari dataset's folder"
        )
    return readers.read_minari(source, task)

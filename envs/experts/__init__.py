"""Experts: small Gaussian policies and scripts, run in numpy, whose episodes are the demonstrations."""

import hashlib
from dataclasses import dataclass, replace
from pathlib import Path

import gymnasium as gym
import minari
import numpy as np
from gymnasium.vector import AutoresetMode
from minari.data_collector import EpisodeBuffer
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save

from dpft.envs import action_box, make_vec
from dpft.envs.cache import build_once, cache_dir
from dpft.envs.demonstrations import Demonstrations
from dpft.envs.experts.scripted import SCRIPTS, ScriptedExpert, load_script
from dpft.envs.files import replacing
from dpft.envs.readers import read_minari
from dpft.envs.task import DataError, EnvOptions, TaskSpec

Array = np.ndarray
SLOTS = 40  # environments side by side; part of what a seed means


@dataclass(frozen=True)
class Expert:
    """action = tanh(MLP((obs - obs_mean) / obs_std, clipped at 10)) + std * noise, clipped to the action box."""

    weights: list[tuple[Array, Array]]  # Linear layers of a residual MLP: in, two per block, out; tanh activations
    std: Array  # [A] action units
    obs_mean: Array  # [O]
    obs_std: Array
    metadata: dict[str, str]

    @property
    def sizes(self) -> tuple[int, int]:
        return self.obs_mean.size, self.std.size

    def digest(self) -> str:
        arrays = [*(array for layer in self.weights for array in layer), self.std, self.obs_mean, self.obs_std]
        return hashlib.sha256(b"".join(array.tobytes() for array in arrays)).hexdigest()

    def begin(self, slots: int) -> None:
        """It remembers nothing of the slots."""

    def restart(self, slots: Array) -> None:
        """Nor of their episodes."""

    def mean(self, obs: Array) -> Array:
        """[n, O] in the environment's units -> [n, A]."""
        x = np.clip((obs - self.obs_mean) / self.obs_std, -10, 10).astype(np.float32)
        layers = [lambda x, w=weight, b=bias: x @ w.T + b for weight, bias in self.weights]
        x = layers[0](x)
        for first, second in zip(layers[1:-1:2], layers[2:-1:2], strict=True):
            x = x + second(np.tanh(first(np.tanh(x))))
        return np.tanh(layers[-1](x))

    def sample(self, obs: Array, rng: np.random.Generator) -> Array:
        mean = self.mean(obs)
        return np.clip(mean + self.std * rng.standard_normal(mean.shape, np.float32), -1, 1).astype(np.float32)


def load_expert(name: str) -> Expert | ScriptedExpert:
    """An expert of this suite by its task's name, or a file. Raises DataError where there is none."""
    script = load_script(name)
    if script:
        return ScriptedExpert(script)
    return load_network(name)


def load_network(name: str) -> Expert:
    path = Path(__file__).parent / f"{name}.safetensors"
    path = path if path.exists() else Path(name)
    try:
        with safe_open(path, framework="numpy") as file:
            tensors = {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118 (not a dict)
            metadata = file.metadata() or {}
    except (OSError, SafetensorError) as error:
        known = sorted(path.stem for kind in ("*.safetensors", "*.yaml") for path in SCRIPTS.glob(kind))
        raise DataError(
            f"no expert {name!r} ({error}): there are {', '.join(known)}, or make one with dpft train-expert"
        ) from None
    missing = [key for key in ("layers.0.weight", "std", "obs_mean", "obs_std") if key not in tensors]
    if missing:
        raise DataError(f"{path} is not an expert: it has no {', '.join(missing)} (found {', '.join(tensors)})")
    count = sum(key.endswith(".weight") for key in tensors)
    weights = [(tensors[f"layers.{i}.weight"], tensors[f"layers.{i}.bias"]) for i in range(count)]
    return Expert(weights, tensors["std"], tensors["obs_mean"], tensors["obs_std"], metadata)


def save_expert(path: Path, expert: Expert) -> None:
    tensors = {"std": expert.std, "obs_mean": expert.obs_mean, "obs_std": expert.obs_std}
    for i, (weight, bias) in enumerate(expert.weights):
        tensors |= {f"layers.{i}.weight": weight, f"layers.{i}.bias": bias}
    arrays = {key: np.ascontiguousarray(value, np.float32) for key, value in tensors.items()}
    with replacing(path) as temporary:
        temporary.write_bytes(save(arrays, expert.metadata))


def rollout_expert(
    expert: Expert | ScriptedExpert, task: TaskSpec, steps: int, seed: int, threads: int = 1
) -> list[dict[str, Array]]:
    """Complete episodes of about `steps` steps in all; the same seed gives the same bytes.

    Every slot plays whole episodes one after the other and stops at the first one that ends beyond its share of the
    steps. That last episode is kept whatever its length, so that long ones are not lost more often than short ones.
    """
    if expert.metadata.get("env_id", task.env_id) != task.env_id:
        raise DataError(f"this expert is for {expert.metadata['env_id']}, not for {task.env_id}")
    if expert.sizes != (task.obs_dim, task.action_dim):
        raise DataError(
            f"this expert is for {expert.sizes[0]} observations and {expert.sizes[1]} actions, "
            f"but {task.env_id} has {task.obs_dim} and {task.action_dim}"
        )
    env = make_vec(task, SLOTS, 1, threads, AutoresetMode.SAME_STEP)
    rng = np.random.default_rng([seed, 1])
    obs, _ = env.reset(seed=int(np.random.default_rng([seed, 0]).integers(2**31)))
    expert.begin(SLOTS)
    share = -(-steps // SLOTS)
    episodes: list[list[dict[str, Array]]] = [[] for _ in range(SLOTS)]
    running: list[dict[str, list]] = [_empty() for _ in range(SLOTS)]
    played = np.zeros(SLOTS, np.int64)
    active = np.ones(SLOTS, bool)
    while active.any():
        action = expert.sample(obs, rng)
        following, reward, terminated, truncated, info = env.step(action[:, None])
        for slot in np.flatnonzero(active):
            episode = running[slot]
            episode["observations"].append(obs[slot])
            episode["actions"].append(action[slot])
            episode["rewards"].append(reward[slot])
            episode["terminations"].append(terminated[slot])
            episode["truncations"].append(truncated[slot])
            if terminated[slot] or truncated[slot]:
                episode["observations"].append(info["final_obs"][slot])
                episodes[slot].append({key: np.asarray(value) for key, value in episode.items()})
                played[slot] += len(episode["actions"])
                running[slot], active[slot] = _empty(), played[slot] < share
        obs = following
        expert.restart(np.flatnonzero(terminated | truncated))
    env.close()
    return [episode for slot in episodes for episode in slot]


def _empty() -> dict[str, list]:
    return {key: [] for key in ("observations", "actions", "rewards", "terminations", "truncations")}


def expert_demos(name: str, task: TaskSpec, steps: int, seed: int, threads: int) -> Demonstrations:
    """The expert's episodes, rolled out once into a Minari dataset in the cache.

    Where success is what counts they end with it, and those without it are left out; a task's options do not matter.
    """

    def build(temporary: Path) -> None:
        judged = task.score == "success"
        plain = replace(task, options=EnvOptions(ends_at_success=judged))
        played = rollout_expert(load_expert(name), plain, steps, seed, threads)
        kept = [episode for episode in played if episode["terminations"][-1] or not judged]
        if not kept:
            raise DataError(f"expert {name} solved {task.name} in none of {len(played)} episodes: try more steps")
        store(temporary, task, kept, {"success_rate": len(kept) / len(played)} if judged else {})

    return read_minari(str(build_once(cache_dir() / "minari" / demos_id(name, task, steps, seed), build)), task)


def demos_id(name: str, task: TaskSpec, steps: int, seed: int) -> str:
    """Folder of a roll-out: who, where, how much; the expert's weights or script are part of the name."""
    environment = task.env_id.replace("/", "-")
    return f"{Path(name).stem}-{environment}-{steps}-seed{seed}-{load_expert(name).digest()[:8]}"


def store(folder: Path, task: TaskSpec, episodes: list[dict[str, Array]], facts: dict[str, float]) -> None:
    """Write episodes as a Minari dataset to a folder of our choice (Minari itself knows one root only)."""
    from minari.dataset.minari_storage import MinariStorage

    observations = gym.spaces.Box(-np.inf, np.inf, (task.obs_dim,), np.float64)
    actions = gym.spaces.Box(*action_box(task))
    data = folder / "data"
    data.mkdir(parents=True)
    storage = MinariStorage.new(
        data, observation_space=observations, action_space=actions, env_spec=gym.registry.get(task.env_id)
    )
    storage.update_episodes(
        [EpisodeBuffer(id=i, seed=None, options=None, infos=None, **_lists(e)) for i, e in enumerate(episodes)]
    )
    storage.update_metadata(
        {
            "dataset_id": f"dpft/{folder.name}-v0",
            "minari_version": minari.__version__,
            "algorithm_name": "dpft expert",
            **facts,
        }
    )


def _lists(episode: dict[str, Array]) -> dict[str, list]:
    return {key: list(value) for key, value in episode.items()}

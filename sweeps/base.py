"""The base policy of a run: cloned from demonstrations once and cached, the user's own file, or random."""

import hashlib
import json
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from dpft.envs import DataError, TaskSpec, action_box, make_vec
from dpft.envs.cache import build_once, cache_dir
from dpft.envs.demonstrations import Demonstrations, Normaliser, load_demos, remarks
from dpft.methods import get_method
from dpft.methods.policy.checkpoint import load_policy, save_policy
from dpft.methods.policy.models import DiffusionPolicy, GaussianPolicy, make_policy
from dpft.methods.policy.pretrain import pretrain
from dpft.sweeps.config import RunConfig

PROBES = 64  # demonstration observations kept beside a base, for chains.npz
FORMAT = 2  # raised whenever the same settings would give another base: older caches are then left alone
LIMITS = ("obs_min", "obs_max", "action_min", "action_max")


@dataclass(frozen=True)
class Base:
    policy: DiffusionPolicy | GaussianPolicy
    normaliser: Normaliser
    digest: str  # SHA-256 of the weights and the normaliser
    arrays: dict[str, np.ndarray]  # beside the weights in its file: the normaliser's limits and the facts below

    @classmethod
    def of(cls, policy: DiffusionPolicy | GaussianPolicy, arrays: dict[str, np.ndarray]) -> "Base":
        normaliser = Normaliser(**{name: arrays[name] for name in LIMITS})
        return cls(policy, normaliser, _digest(policy, normaliser), arrays)

    @property
    def probes(self) -> np.ndarray:
        """[64, O] normalised observations."""
        return self.arrays["probes"]

    @property
    def demo_mean_return(self) -> float | None:
        mean = float(self.arrays["demo_mean_return"][0])
        return mean if np.isfinite(mean) else None

    @property
    def remarks(self) -> list[str]:
        """What may surprise in the demonstrations, a line each."""
        return remarks(self.normaliser, self.arrays.get("outside", np.zeros(3)))


def base_policy(config: RunConfig, task: TaskSpec) -> Base:
    """The base that a resolved config names, on the CPU. Raises DataError where it cannot be had."""
    if config.from_scratch:
        kind = get_method(config.method).fine_tunes
        policy = make_policy(kind, config.policy, config.spec(), config.denoising_steps, config.seed)
        return Base.of(policy, _scratch_facts(config, task))
    path = Path(config.base).expanduser() if config.base else cached_base(config, task)
    policy, arrays = read_base(path, config, task)
    if "obs_min" not in arrays:  # DPPO's .pt holds no normaliser
        arrays = _facts(demonstrations(config, task), task)
    return Base.of(policy, arrays)


def read_base(
    path: Path, config: RunConfig, task: TaskSpec
) -> tuple[DiffusionPolicy | GaussianPolicy, dict[str, np.ndarray]]:
    """The policy and the arrays of a file that fits the config and the task. Raises DataError where it is none."""
    kind = get_method(config.method).fine_tunes
    return load_policy(path, kind, config.policy, config.spec(), config.denoising_steps, task.env_id)


def _digest(policy: DiffusionPolicy | GaussianPolicy, normaliser: Normaliser) -> str:
    arrays = {name: value.numpy() for name, value in policy.state_dict().items()} | normaliser.arrays()
    digest = hashlib.sha256()
    for name, array in sorted(arrays.items()):
        digest.update(f"{name} {array.dtype} {array.shape} ".encode() + array.tobytes())
    return digest.hexdigest()


def demonstrations(config: RunConfig, task: TaskSpec) -> Demonstrations:
    return load_demos(config.demos.source, task, config.demos.steps, config.demos.seed, config.threads)


def _facts(demos: Demonstrations, task: TaskSpec) -> dict[str, np.ndarray]:
    rows = np.linspace(0, len(demos.obs) - 1, PROBES).astype(int)
    mean = np.nan if demos.mean_return is None else demos.mean_return
    return demos.normaliser.arrays() | {
        "probes": demos.normaliser.obs(demos.obs[rows]),
        "demo_mean_return": np.array([mean], np.float32),
        "outside": demos.outside(*action_box(task)),
    }


def _scratch_facts(config: RunConfig, task: TaskSpec) -> dict[str, np.ndarray]:
    """Actions by the environment's box, as an expert's range would bound what can be learned; observations by the
    ranges of the demonstrations. What has neither keeps its units."""
    if config.demos.source:
        facts = _facts(demonstrations(config, task), task)
    else:
        obs, action = np.ones(task.obs_dim, np.float32), np.ones(task.action_dim, np.float32)
        normaliser = Normaliser(-obs, obs, -action, action)
        env = make_vec(task, PROBES, 1)
        probes = normaliser.obs(env.reset(seed=0)[0])
        env.close()
        facts = normaliser.arrays() | {"probes": probes, "demo_mean_return": np.array([np.nan])}
    low, high = action_box(task)
    with np.errstate(over="ignore"):  # float32's largest number often stands for "no bound"
        bounded = np.isfinite(high - low)
    return facts | {
        "action_min": np.where(bounded, low, facts["action_min"]),
        "action_max": np.where(bounded, high, facts["action_max"]),
        "outside": np.zeros(3),
    }


def cached_base(config: RunConfig, task: TaskSpec) -> Path:
    """The file of the cloned base, made by whichever run comes first.

    Its name is a hash of all that shaped it. Demonstrations of a file count by their contents, an expert's by name,
    steps and seed: its folder in the cache is named after its weights.
    """
    kind = get_method(config.method).fine_tunes
    demos: Demonstrations | None = None
    if config.demos.source.startswith("expert:"):
        from dpft.envs.experts import demos_id

        origin = demos_id(
            config.demos.source.partition(":")[2], task, config.demos.steps or task.demo_steps, config.demos.seed
        )
    else:
        demos = demonstrations(config, task)
        origin = demos.digest()
    shaped = {
        "format": FORMAT,
        "task": task.env_id,
        "demos": origin,
        "kind": kind,
        "denoising_steps": config.denoising_steps if kind == "diffusion" else None,
        "chunk": config.spec().chunk,
        "base_seed": config.base_seed,
        "policy": config.policy.model_dump(mode="json"),
        "pretrain": config.pretrain.model_dump(mode="json"),
    }
    name = hashlib.sha256(json.dumps(shaped, sort_keys=True).encode()).hexdigest()[:16]

    def build(path: Path) -> None:
        from dpft.sweeps.progress import pretraining

        data = demos or demonstrations(config, task)
        obs, chunks = data.chunks(config.spec().chunk)
        if not len(obs):
            raise DataError(f"{data.source}: no episode is as long as one chunk of {config.spec().chunk} actions")
        assert isinstance(config.base_seed, int), "the config must be resolved"
        policy = make_policy(kind, config.policy, config.spec(), config.denoising_steps, config.base_seed)
        with pretraining(f"cloning {task.name} K={config.denoising_steps} ({kind})", config.pretrain.steps) as advance:
            metrics = pretrain(policy, obs, chunks, config.pretrain, config.base_seed, advance)
        facts = {key: str(value) for key, value in metrics.items()} | {"made_from": json.dumps(shaped)}
        save_policy(path, policy, _facts(data, task), {"env_id": task.env_id, **facts})

    return build_once(cache_dir() / "bases" / f"{task.name.replace('/', '_')}-{name}.safetensors", build)

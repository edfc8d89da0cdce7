"""The configuration of a run: pydantic models, the same for YAML files and for the command line."""

import difflib
import os
import re
from functools import cache
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, Field, ValidationError, create_model, field_validator

from dpft.envs import DataError, TaskSpec, get_task
from dpft.envs.demonstrations import split_filter
from dpft.envs.task import EnvOptions
from dpft.methods import get_method
from dpft.methods.fields import Count, Seed, Settings
from dpft.methods.interface import MethodConfig, Spec
from dpft.methods.policy.config import PolicyConfig, PretrainConfig
from dpft.sweeps.yaml_file import read_yaml

# looking for entry points, or making an environment to see its sizes, takes milliseconds
method_class, task_spec = cache(get_method), cache(get_task)


def device_name(device: str) -> str:
    """Raises ValueError where it is none."""
    if re.fullmatch(r"auto|cpu|cuda(:[0-9]{1,3})?", device):
        return device
    name = device.lower().replace("gpu", "cuda")
    near = [f": did you mean {near}?" for near in difflib.get_close_matches(name, ["cpu", "cuda", "auto"], 1)]
    raise ValueError("".join([f"expected auto, cpu, cuda or cuda:N, got {device!r}", *near]))


class DemosConfig(Settings):
    """The demonstrations that the base policy is cloned from and that observations and actions are scaled by."""

    source: str = ""  # expert:NAME, a Minari id or folder, .hdf5, DPPO folder, d4rl:NAME; none: the task's own
    # environment steps rolled out by an expert, at least: episodes are completed; none: as many as the task has it
    steps: Count | None = Field(None, ge=1)
    seed: Seed = 0  # of that roll-out


class RunConfig(Settings):
    """One run. The same config gives the same records, bit for bit, on the same machine type."""

    task: str = "hopper-medium"  # see `dpft tasks`, or any Gymnasium id
    method: str = "ncdpo"  # see `dpft methods`
    denoising_steps: Count = Field(10, ge=1, le=100)  # K, the schedule that the base is trained with
    seed: Seed = 0  # of everything but the base policy
    env_steps: Count = Field(1_000_000, ge=0)  # simulated environment steps, warm-up included, evaluation not
    base: str | None = None  # a base policy of yours: our .safetensors or DPPO's .pt
    base_seed: Seed | Literal["same"] = 0  # seed of the cloned base; same: the run's seed
    from_scratch: bool = False  # a randomly initialised policy instead of a cloned one
    chunk: Count | None = Field(None, ge=1)  # actions per decision (H); none: the task's own, 4 or 8
    eval_every: Count = Field(50_000, ge=1)  # environment steps between evaluations
    eval_episodes: Count = Field(20, ge=1)  # complete episodes per evaluation
    eval_seed: Seed = 1_000_000  # seed of the first evaluation episode, the same at every evaluation
    device: str = "auto"  # auto, cpu, cuda, cuda:1, …
    threads: Count = Field(1, ge=1, le=1024)  # of torch and of the simulator
    policy: PolicyConfig = PolicyConfig()
    pretrain: PretrainConfig = PretrainConfig()
    demos: DemosConfig = DemosConfig()
    env: EnvOptions = EnvOptions()  # switches of the task
    settings: MethodConfig  # the method's own

    @field_validator("device")
    @classmethod
    def known_device(cls, device: str) -> str:
        return device_name(device)

    def environment(self) -> TaskSpec:
        """The task with its switches. Raises DataError for one that it does not have."""
        return task_spec(self.task).with_options(self.env)

    def spec(self) -> Spec:
        task = task_spec(self.task)
        return Spec(task.obs_dim, task.action_dim, self.chunk or task.chunk, self.settings.gamma)


@cache
def config_model(method: str) -> type[RunConfig]:
    """RunConfig whose settings are those of the method, defaults included."""
    settings = method_class(method).Config
    return create_model("RunConfig", __base__=RunConfig, method=(str, method), settings=(settings, settings()))


def nested(flat: dict[str, Any]) -> dict[str, Any]:
    """Fields under dotted names as a config has them. Raises DataError where one is in another."""
    tree: dict[str, Any] = {}
    for key, value in flat.items():
        *parents, last = key.split(".")
        node = tree
        for parent in parents:
            node = node.setdefault(parent, {})
            if not isinstance(node, dict):
                raise DataError(f"{key} and {parent} exclude each other: give one of them")
        if last in node:
            raise DataError(f"{key} is given twice, whole and in part: give one of them")
        node[last] = value
    return tree


def parse_config(data: dict[str, Any]) -> RunConfig:
    """Validate plain data. Raises DataError: one line for all problems, with the names that were meant."""
    if not isinstance(data, dict):
        raise DataError(f"expected fields and values, got {type(data).__name__}")
    model = config_model(str(data.get("method", RunConfig.model_fields["method"].default)))
    try:
        config = model.model_validate(data)
    except ValidationError as error:
        raise DataError("; ".join(explain(problem, model) for problem in error.errors())) from None
    config.environment()
    return config


def explain(problem: Any, model: type[BaseModel], group: str = "") -> str:
    """One pydantic problem in plain words; group is where the model's fields are in a config."""
    path = ".".join(str(part) for part in (group, *problem["loc"]) if part != "")
    if problem["type"] == "extra_forbidden":
        *parents, name = problem["loc"]
        for parent in parents:
            model = model.model_fields[str(parent)].annotation  # type: ignore[assignment]
        near = difflib.get_close_matches(str(name), model.model_fields, 1)
        return f"unknown field {path}: " + (
            f"did you mean {near[0]}?" if near else f"there are {', '.join(model.model_fields)}"
        )
    path = re.sub(r"\.(function|literal).*", "", path)  # a member of a union is no field
    if problem["type"] == "value_error":  # of a whole part of the config: our own words
        return f"{path}: {problem['ctx']['error']}"
    return f"{path}: {problem['msg'][0].lower()}{problem['msg'][1:]}, got {problem['input']!r}"


def load_config(path: Path) -> RunConfig:
    """A config.yaml, of a run folder or by hand; what a run recorded beside its config is left out."""
    data = read_yaml(path)
    if isinstance(data, dict):
        data.pop("provenance", None)
        if "method" in data and not isinstance(data["method"], str):
            raise DataError(f"{path}: method must be one name; where lists are axes, it is a grid: dpft sweep {path}")
    try:
        return parse_config(data)
    except DataError as error:
        raise DataError(f"{path}: {error}") from None


def absolute(config: RunConfig) -> RunConfig:
    """The same config with its files under whole paths, so that it means the same from any folder."""
    source = config.demos.source
    kind, colon, name = source.partition(":")
    scheme, name = (f"{kind}:", name) if colon and kind in ("expert", "minari", "d4rl") else ("", source)
    name, filter_key = split_filter(name)
    path = os.path.expanduser(name)
    # what is no such file or folder is a name: of an expert, or of a dataset that Minari or d4rl knows
    folder = scheme != "expert:" and (os.path.isdir(f"{path}/data") or os.path.isfile(f"{path}/train.npz"))
    if name and scheme != "d4rl:" and (folder or os.path.isfile(path)):
        source = f"{scheme}{os.path.abspath(path)}" + (f":{filter_key}" if filter_key else "")
    base = config.base and os.path.abspath(os.path.expanduser(config.base))
    return config.model_copy(update={"base": base, "demos": config.demos.model_copy(update={"source": source})})


def complete(config: RunConfig) -> RunConfig:
    """Fill in everything that depends on K, on the task and on the method. Raises DataError for what does not fit."""
    method, task = method_class(config.method), config.environment()
    if config.from_scratch and not method.from_scratch:
        raise DataError(f"from_scratch: {config.method} steers a trained policy and cannot start from a random one")
    if config.from_scratch and config.base:
        raise DataError("from_scratch and base exclude each other: a policy is random or it is the file's")
    config = absolute(config)
    settings = config.settings.resolved(config.denoising_steps, config.from_scratch)
    return config.model_copy(
        update={
            "base_seed": config.seed if config.base_seed == "same" else config.base_seed,
            "policy": config.policy.resolved(config.denoising_steps),
            "settings": settings,
            "demos": config.demos.model_copy(
                update={"source": config.demos.source or task.demos, "steps": config.demos.steps or task.demo_steps}
            ),
            "chunk": config.spec().chunk,
        }
    )


def no_update(config: RunConfig) -> str:
    """That the steps of a complete config are too few to train its policy, in a line; nothing where they are not."""
    settings, chunk = config.settings, config.spec().chunk
    first = settings.first_update * settings.num_envs * chunk
    if not 0 < config.env_steps < first:
        return ""
    return (
        f"env_steps: {config.env_steps:,} allow no update of the policy, whose first comes after {first:,} "
        f"({settings.first_update} decisions of {chunk} steps in each of {settings.num_envs} environments): it "
        "stays as it is; more env_steps, a shorter warm-up, fewer num_envs or decisions_per_update train it"
    )


def find_device(device: str) -> str:
    """A device of this machine; "auto" is a GPU where torch sees one. Raises DataError where it is not there."""
    import torch

    try:
        device_name(device)
    except ValueError as error:
        raise DataError(f"device: {error}") from None
    device = ("cuda" if torch.cuda.is_available() else "cpu") if device == "auto" else device
    if device.startswith("cuda") and not torch.cuda.is_available():
        raise DataError(f"device {device}: this torch sees no GPU; use --device cpu, or install a CUDA build (README)")
    if int(device.partition(":")[2] or 0) >= max(1, torch.cuda.device_count()):
        raise DataError(f"device {device}: this torch sees {torch.cuda.device_count()} of them, counted from 0")
    return device


def resolve(config: RunConfig) -> RunConfig:
    """Fill in what is missing, this machine's device included; config.yaml records the result."""
    return complete(config).model_copy(update={"device": find_device(config.device)})

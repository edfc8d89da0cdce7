"""Base policies as files: our safetensors, and DPPO's published .pt."""

import json
import re
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor

from dpft.envs.files import replacing
from dpft.envs.task import DataError, first_line
from dpft.methods.interface import Spec
from dpft.methods.policy.config import PolicyConfig
from dpft.methods.policy.models import DiffusionPolicy, GaussianPolicy, make_policy


def architecture(policy: DiffusionPolicy | GaussianPolicy) -> dict[str, object]:
    """What a file must agree on with the run that loads it, beyond the shapes of its layers."""
    diffusion = isinstance(policy, DiffusionPolicy)
    facts: dict[str, object] = {
        "kind": "diffusion" if diffusion else "gaussian",
        "activation": policy.config.activation,
    }
    if diffusion:
        facts |= {"denoising_steps": policy.denoising_steps, "prediction": policy.config.prediction}
    return facts


def save_policy(
    path: Path, policy: DiffusionPolicy | GaussianPolicy, arrays: dict[str, np.ndarray], metadata: dict[str, str]
) -> None:
    """Write the weights, the normaliser's arrays and the metadata to one safetensors file, atomically."""
    tensors = {f"policy.{name}": value.detach().cpu().contiguous() for name, value in policy.state_dict().items()}
    tensors |= {f"normaliser.{name}": torch.from_numpy(np.ascontiguousarray(value)) for name, value in arrays.items()}
    with replacing(path) as temporary:
        temporary.write_bytes(save(tensors, {**metadata, "architecture": json.dumps(architecture(policy))}))


def load_policy(
    path: Path, kind: str, config: PolicyConfig, spec: Spec, denoising_steps: int, env_id: str = ""
) -> tuple[DiffusionPolicy | GaussianPolicy, dict[str, np.ndarray]]:
    """The policy in a file, and its normaliser's arrays (empty for DPPO's .pt, which holds none).

    Raises DataError where the file is missing, damaged, says that it is for another environment, or is of another
    architecture, naming each layer that differs.
    """
    policy = make_policy(kind, config, spec, denoising_steps, seed=0)
    try:
        path.open("rb").close()  # safetensors says "No such file" of what it may not read
    except (FileNotFoundError, NotADirectoryError, IsADirectoryError):
        raise DataError(f"no base policy at {path}: give a .safetensors of this suite or DPPO's .pt") from None
    except OSError as error:
        raise DataError(f"cannot read base policy {path}: {first_line(error)}") from None
    tensors, arrays, facts = _read_pt(path) if path.suffix == ".pt" else _read_safetensors(path)
    expected = architecture(policy) | ({"env_id": env_id} if env_id else {})
    wrong = [
        f"{name} is {facts[name]}, the run asks for {value}"
        for name, value in expected.items()
        if facts.get(name, value) != value
    ]
    if wrong:
        raise DataError(f"base policy {path} does not fit this run: " + "; ".join(wrong))
    _check_layers(path, tensors, policy.state_dict())
    policy.load_state_dict(tensors)
    return policy, arrays


def _read_safetensors(path: Path) -> tuple[dict[str, Tensor], dict[str, np.ndarray], dict[str, object]]:
    try:
        with safe_open(path, framework="pt") as file:
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 (not a dict)
            metadata = file.metadata() or {}
    except (SafetensorError, OSError) as error:
        raise DataError(f"cannot read base policy {path}: {error}; it is not a complete safetensors file") from None
    weights = {name.removeprefix("policy."): value for name, value in tensors.items() if name.startswith("policy.")}
    arrays = {
        name.removeprefix("normaliser."): value.numpy()
        for name, value in tensors.items()
        if name.startswith("normaliser.")
    }
    facts = json.loads(metadata.get("architecture", "{}"))
    made_from = json.loads(metadata.get("made_from", "{}"))  # of files that have no env_id yet
    env_id = metadata.get("env_id") or made_from.get("task")
    return weights, arrays, facts | ({"env_id": env_id} if env_id else {})


# DPPO's names for the layers of its DiffusionMLP and of the mean of its Gaussian_MLP, and ours
_DPPO_NAMES: list[tuple[str, str | Callable[[re.Match[str]], str]]] = [
    (r"network\.time_embedding\.1\.(.*)", r"network.time_mlp.0.\1"),
    (r"network\.time_embedding\.3\.(.*)", r"network.time_mlp.2.\1"),
    (r"network\.mlp_mean\.layers\.0\.(.*)", r"network.trunk.input.\1"),
    (r"network\.mlp_mean\.layers\.(\d+)\.l1\.(.*)", lambda m: f"network.trunk.blocks.{int(m[1]) - 1}.first.{m[2]}"),
    (r"network\.mlp_mean\.layers\.(\d+)\.l2\.(.*)", lambda m: f"network.trunk.blocks.{int(m[1]) - 1}.second.{m[2]}"),
    (r"network\.mlp_mean\.layers\.\d+\.(weight|bias)", r"network.trunk.output.\1"),
]


def rename_dppo(tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    """DPPO's state_dict (keys network.*) under our names; names without a counterpart stay as they are."""
    renamed = {}
    for name, value in tensors.items():
        for pattern, replacement in _DPPO_NAMES:
            if re.fullmatch(pattern, name):
                name = re.sub(pattern, replacement, name)
                break
        renamed[name] = value
    return renamed


def _read_pt(path: Path) -> tuple[dict[str, Tensor], dict[str, np.ndarray], dict[str, object]]:
    """DPPO's pre-training checkpoint {"epoch", "model", "ema"}: the averaged weights, as DPPO fine-tunes them."""
    try:
        checkpoint = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # torch.load raises many kinds for a damaged file
        raise DataError(f"cannot read base policy {path}: {first_line(error)}") from None
    if not isinstance(checkpoint, dict) or "ema" not in checkpoint:
        raise DataError(f'base policy {path} is not a DPPO pre-training checkpoint: it has no entry "ema"')
    return (
        rename_dppo({k: v for k, v in checkpoint["ema"].items() if k.startswith("network.")}),
        {},
        {"kind": "diffusion"},
    )


def _check_layers(path: Path, found: dict[str, Tensor], expected: dict[str, Tensor]) -> None:
    wrong = [f"{name} is missing" for name in expected if name not in found]
    wrong += [f"{name} is not part of this policy" for name in found if name not in expected]
    wrong += [
        f"{name} is {list(found[name].shape)}, expected {list(value.shape)}"
        for name, value in expected.items()
        if name in found and found[name].shape != value.shape
    ]
    if wrong:
        raise DataError(
            f"base policy {path} has another architecture (see policy.hidden, chunk, task): " + "; ".join(wrong)
        )

"""A setting that is recorded and changes nothing is a promise broken in silence: an ablation of it compares equal runs.

Each field of each method is set to another legal value; some record has to change, or a table here says why not.
"""

import shutil
from dataclasses import replace
from functools import reduce
from typing import Literal, get_args, get_origin

import numpy as np
import pytest
from leaves import leaves, nested
from safetensors.torch import load_file
from same import timeless

from dpft.envs import get_task
from dpft.envs.task import EnvOptions
from dpft.methods import METHODS, conformance, get_method
from dpft.methods.policy.config import PolicyConfig
from dpft.sweeps.base import cached_base
from dpft.sweeps.config import config_model, parse_config, resolve
from dpft.sweeps.run import train

# what a method's fields are tried in: small, with steps that are large enough to be clipped
SMALL = {
    "epochs": 2,
    "minibatches": 2,
    "learning_rate": 3e-3,
    "critic_hidden": (8, 8, 8),
    "hidden": (8,),
    "critic_steps": 2,
    "distillation_steps": 2,
}
# another value where halving, adding one or taking the next word is none, and what else has to be set for it to count
OTHER = {
    "settings.critic_hidden": ((16,), {}),
    "settings.critic_warmup": (1, {}),
    "settings.advantage_quantiles": ((0.2, 0.7), {}),
    "settings.max_grad_norm": (1e-3, {}),
    "settings.target_kl": (1e-6, {}),
    "settings.value_clip": (1e-3, {}),
    "settings.ratio_elements": (2, {}),
    "settings.clip": (1e-3, {}),
    "settings.clip_base": (1e-4, {}),
    "settings.sampler_steps": (2, {"sampler": "ddim"}),
    "settings.spacing": ("leading", {"sampler": "ddim", "sampler_steps": 3}),
    "settings.finetuned_steps": (2, {}),
    "settings.gradient_steps": (2, {}),
    "settings.log_prob_bounds": ((-0.5, 0.5), {}),
    "settings.eta": (0.5, {"sampler": "ddim"}),
    "settings.std_bounds": ((0.0999, 0.1001), {}),
    "settings.reuse": (1, {}),
    "settings.replay_size": (40, {}),
    "settings.hidden": ((16,), {}),
    "policy.hidden": ((16,), {}),
    "policy.time_dim": (8, {}),
    "policy.prediction": ("epsilon", {}),
    "policy.clip_gradient": ("straight-through", {"x0_clip": 0.1}),
    "policy.std_bounds": ((0.0999, 0.1001), {}),
    "task": ("walker2d-medium", {}),
    "method": ("dppo", {}),
    "base_seed": (1, {}),
    "env_steps": (100, {}),
    "eval_every": (50, {"env_steps": 100}),
    "base": ("{folder}/base.safetensors", {}),
    "chunk": (2, {}),
    "demos.steps": (40_000, {}),  # episodes are rolled out side by side, and whole
    "pretrain.weight_decay": (0.5, {}),  # of 1e-6 float32 sees nothing in a few steps
    "pretrain.ema_decay": (0.0, {}),
    "demos.source": ("{folder}/others", {}),
}

A_GAUSSIANS = "only a Gaussian policy has it; shared by a grid's methods"
A_DENOISERS = "only a denoiser has it; shared by a grid's methods"
MAY_CHANGE_NOTHING = {
    ("any", "device"): "execution: where it runs; bits are the same on the same kind of machine",
    ("any", "threads"): "execution: how fast it runs",
    **{("any", f"env.{name}"): "any other value is refused: locomotion has none" for name in EnvOptions.model_fields},
    ("ncdpo", "settings.checkpointing"): "execution: the same numbers in less memory",
    ("dppo", "settings.entropy_coef"): "any other value is refused: the steps' noise is not learned",
    ("find", "settings.entropy_coef"): "any other value is refused: the pull is what keeps the deviation up",
    ("find", "settings.sampler"): "one word",
    ("dsrl-na", "settings.sampler"): "one word",
    ("dsrl-sac", "settings.sampler"): "one word",
    ("find", "policy.clip_gradient"): "the decoder is frozen",
    ("dsrl-na", "policy.clip_gradient"): "the decoder is frozen",
    ("dsrl-sac", "policy.clip_gradient"): "the decoder is frozen",
    **{(method, f"policy.std_{what}"): A_GAUSSIANS for method in METHODS for what in ("init", "bounds")},
    **{
        ("gaussian-ppo", f"policy.{what}"): A_DENOISERS
        for what in ("time_dim", "prediction", "x0_clip", "clip_gradient")
    },
}
del MAY_CHANGE_NOTHING["gaussian-ppo", "policy.std_init"], MAY_CHANGE_NOTHING["gaussian-ppo", "policy.std_bounds"]


def another(annotation, value):
    """Another legal value of a field, by its type and its own."""
    for kind in get_args(annotation) or ():
        if get_origin(kind) is Literal:
            annotation = kind
    if get_origin(annotation) is Literal:
        return next(word for word in (*get_args(annotation), value) if word != value)
    if isinstance(value, bool):
        return not value
    if isinstance(value, int):
        return value // 2 or value + 1
    assert isinstance(value, float), f"OTHER has to name another value than {value!r}"
    return value / 2 or 0.1


def outcome(method: str, monkeypatch, settings: dict, policy: dict) -> list:
    """What two updates report, and what acts and is evaluated after them."""
    with monkeypatch.context() as patch:
        gamma = settings.get("gamma", conformance.SPEC.gamma)
        patch.setattr(conformance, "SPEC", replace(conformance.SPEC, gamma=gamma))
        patch.setattr(conformance, "SMALL", PolicyConfig(**{"hidden": (8, 8, 8)} | policy))
        made = conformance.build(get_method(method), settings)
        metrics = [made.update(conformance.roll_out(made, number)) for number in range(2)]
        return [metrics, conformance.roll_out(made, 2).chunk, conformance.exploit(made, conformance.observations())]


@pytest.mark.parametrize("method", METHODS)
def test_every_setting_changes_a_record(method, monkeypatch):
    small = {name: value for name, value in SMALL.items() if name in get_method(method).Config.model_fields}
    groups = {"settings": get_method(method).Config, "policy": PolicyConfig}
    plain = {group: {} for group in groups} | {"settings": small}
    usual, unchanged = outcome(method, monkeypatch, **plain), []
    for group, model in groups.items():
        for name, field in model.model_fields.items():
            if (method, f"{group}.{name}") in MAY_CHANGE_NOTHING:
                continue
            default = plain[group].get(name, field.get_default())
            value, needed = OTHER.get(f"{group}.{name}") or (another(field.annotation, default), {})
            before = plain | {group: plain[group] | needed}
            after = before | {group: before[group] | {name: value}}
            reference = outcome(method, monkeypatch, **before) if needed else usual
            if conformance.same(reference, outcome(method, monkeypatch, **after)):
                unchanged.append(f"{group}.{name}")
    assert not unchanged


def records(folder, data: dict) -> list:
    """What a run leaves, times aside."""
    assert train(parse_config(data), folder)["status"] == "done"
    names = [name for name in ("curve.csv", "metrics.csv", "episodes.csv") if (folder / name).exists()]
    arrays = dict(np.load(folder / "chains.npz")) | load_file(folder / "weights.safetensors")
    return [[timeless(folder, name) for name in names], {name: value.tolist() for name, value in arrays.items()}]


def write_demos(folder, scale: float):
    """Random demonstrations as DPPO's conversion writes them, scaled by their normaliser."""
    folder.mkdir()
    rng, sizes = np.random.default_rng(0), {"obs": 11, "action": 3}
    states, actions = (rng.uniform(-1, 1, (100, size)) for size in sizes.values())
    np.savez(folder / "train.npz", states=states, actions=actions, traj_lengths=[50, 50])
    ends = {f"{what}_min": np.full(size, -scale) for what, size in sizes.items()}
    np.savez(folder / "normalization.npz", **ends, **{name[:-3] + "max": -value for name, value in ends.items()})


OF_EXPERTS = ("task", "demos.steps", "demos.seed")  # a file's demonstrations fit one task and have neither


@pytest.mark.parametrize("experts", [False, pytest.param(True, marks=pytest.mark.slow)])
def test_every_field_of_a_run_changes_a_record(tmp_path, experts):
    for name, scale in (("demos", 1.0), ("others", 0.9)):
        write_demos(tmp_path / name, scale)
    quick = {
        "denoising_steps": 2,
        "env_steps": 0,
        "eval_episodes": 2,
        "policy": {"hidden": [8]},
        "pretrain": {"steps": 20, "batch": 8, "ema_every": 5},
        "demos": {"steps": 400} if experts else {"source": str(tmp_path / "demos")},
        "settings": {"num_envs": 2, "decisions_per_update": 10, "epochs": 1, "critic_hidden": [8]},
    }
    other = resolve(parse_config(quick | {"base_seed": 3}))
    shutil.copy(cached_base(other, get_task(other.task)), tmp_path / "base.safetensors")
    usual, unchanged = records(tmp_path / "usual", quick), []
    for name, types, _ in leaves(config_model("ncdpo")):
        elsewhere = name.startswith(("settings.", "policy.")) or ("any", name) in MAY_CHANGE_NOTHING
        if elsewhere or (name in OF_EXPERTS) != experts:
            continue
        asked = reduce(getattr, name.split("."), parse_config(quick))
        value, needed = OTHER.get(name) or (another(types, asked), {})
        value = value.format(folder=tmp_path) if isinstance(value, str) else value
        reference = records(tmp_path / f"before-{name}", quick | needed) if needed else usual
        if records(tmp_path / name, merged(quick | needed, nested(name, value))) == reference:
            unchanged.append(name)
    assert not unchanged


def merged(data: dict, change: dict) -> dict:
    (name, value), *_ = change.items()
    return data | {name: data.get(name, {}) | value if isinstance(value, dict) else value}

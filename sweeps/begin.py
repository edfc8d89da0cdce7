"""The folder of a run when it begins or continues: its config, its base, and whether it is the same run."""

from pathlib import Path
from typing import Any

from dpft.envs import DataError, TaskSpec
from dpft.envs.task import EnvOptions
from dpft.methods import get_method
from dpft.methods.policy.checkpoint import save_policy
from dpft.sweeps import records
from dpft.sweeps.base import Base, base_policy, read_base
from dpft.sweeps.config import RunConfig, no_update, resolve
from dpft.sweeps.owner import Owner

BASE = "base.safetensors"  # in a run's folder: what acting needs beside the weights; training continues from it, too
NO_SWITCHES = {"env": EnvOptions().model_dump()}  # what runs of earlier versions had


def claim_folder(config: RunConfig, owner: Owner, allow_hardware_change: bool) -> RunConfig:
    """Write config.yaml until there are records; then check that it is the same run on the same kind of machine."""
    folder = owner.folder
    path = folder / "config.yaml"
    if not path.exists() or not ((folder / "curve.csv").exists() or records.read_done(folder)):
        config = resolve(config)
        folder.mkdir(parents=True, exist_ok=True)
        owner.check()
        (folder / BASE).unlink(missing_ok=True)  # of a config that was given before
        task = config.environment()
        scores = list(task.reference_scores) if task.reference_scores else None
        kind = get_method(config.method).fine_tunes
        facts = records.provenance(
            config.device, env_id=task.env_id, reference_scores=scores, score=task.score, fine_tunes=kind
        )
        records.write_config(owner, config.model_dump(mode="json"), facts)
        return config
    recorded, facts = records.read_config(folder)
    # the machine's own choices (device) were made at the first start
    device = recorded.get("device", "auto") if config.device == "auto" else config.device
    config = resolve(config.model_copy(update={"device": device}))
    asked, recorded_flat = flatten(config.model_dump(mode="json")), flatten(NO_SWITCHES | recorded)
    different = [
        f"{k} is {recorded_flat.get(k)!r} there, {v!r} now" for k, v in asked.items() if recorded_flat.get(k) != v
    ]
    if different:
        raise DataError(f"{folder} holds another run ({different[0]}): choose another --out, or delete it")
    here, there = records.hardware(config.device), facts["hardware"]
    changed = [f"{key} was {there.get(key)}, is {here[key]}" for key in ("cpu", "gpu") if there.get(key) != here[key]]
    changed += [
        f"{name} was {facts['versions'].get(name)}, is {version}"
        for name, version in records.versions().items()
        if name != "dpft" and facts["versions"].get(name) != version
    ]
    if changed and not records.read_done(folder):
        if not allow_hardware_change:
            raise DataError(
                f"{folder} was started elsewhere ({'; '.join(changed)}): its bits cannot be continued here; "
                "dpft train and dpft resume take --allow-hardware-change to go on all the same, which marks its record"
            )
        facts.setdefault("hardware_changes", []).append({"at": records.now(), "changes": changed})
        records.write_config(owner, recorded, facts)
    return config


def plan(config: RunConfig) -> str:
    """What the steps of a run allow, in a line. Episodes that end inside a chunk make room for a little more."""
    settings, total = config.settings, config.env_steps
    if not total:
        return "0 environment steps: the base is evaluated, nothing is trained"
    if few := no_update(config):
        return few
    size = settings.decisions_per_update * settings.num_envs * config.spec().chunk
    first = settings.first_update * settings.num_envs * config.spec().chunk
    line = f"{total:,} environment steps, an update after every {size:,} or fewer: {total // size:,} of them"
    if first > size:
        line += f", the policy's first after {first:,}"
    return line + (f"; the last {total % size:,} are simulated and not learned from" if total % size else "")


def own_base(config: RunConfig, owner: Owner, task: TaskSpec) -> Base:
    """The base that the run began with, kept in its folder and noted in its config.yaml."""
    base = kept_base(config, owner.folder, task)
    if base:
        return base
    base = base_policy(config, task)
    with owner.replacing(owner.folder / BASE) as temporary:
        save_policy(temporary, base.policy, base.arrays, {"env_id": task.env_id})
    recorded, facts = records.read_config(owner.folder)
    facts |= {"base_digest": base.digest, "demo_mean_return": base.demo_mean_return}
    records.write_config(owner, recorded, facts)
    return base


def kept_base(config: RunConfig, folder: Path, task: TaskSpec) -> Base | None:
    """The base in a run's folder; None where there is none yet. Raises DataError where it is another than it was."""
    if not (folder / BASE).exists():
        return None
    base = Base.of(*read_base(folder / BASE, config, task))
    _, facts = records.read_config(folder)
    if base.digest != facts.get("base_digest", base.digest):
        raise DataError(f"{folder / BASE} is not what the run wrote (see base_digest in config.yaml): delete {folder}")
    return base


def flatten(tree: dict[str, Any], prefix: str = "") -> dict[str, Any]:
    """Nested fields under dotted names."""
    flat: dict[str, Any] = {}
    for key, value in tree.items():
        flat |= flatten(value, f"{prefix}{key}.") if isinstance(value, dict) else {f"{prefix}{key}": value}
    return flat

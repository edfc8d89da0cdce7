"""The policy of a run that exists, from what lies in the run's folder."""

import copy
import csv
import hashlib
import io
import shlex
from dataclasses import dataclass
from os import PathLike
from pathlib import Path

import numpy as np
import torch
from gymnasium.spaces import Box
from safetensors import SafetensorError
from safetensors.torch import load

from dpft.envs import DataError, TaskSpec, action_box
from dpft.envs.task import first_line
from dpft.methods.interface import Method
from dpft.sweeps.base import Base, base_policy
from dpft.sweeps.begin import kept_base
from dpft.sweeps.checkpoint import load_checkpoint
from dpft.sweeps.config import RunConfig, find_device, load_config
from dpft.sweeps.evaluate import SLOTS, Episode, Evaluator, success_rate
from dpft.sweeps.folders import expect_weights
from dpft.sweeps.process import use_cpu
from dpft.sweeps.records import read_done, write_atomically
from dpft.sweeps.run import EVALUATION, make_method, stream


@dataclass(frozen=True)
class Loaded:
    """A run, ready to act."""

    config: RunConfig  # device: where it acts now
    task: TaskSpec
    base: Base
    method: Method  # with the newest weights
    evaluator: Evaluator
    env_steps: int  # that the weights were trained for


def reload_run(folder: Path, device: str = "auto") -> Loaded:
    """The run in a folder. Raises DataError where there is none, or nothing that acts."""
    expect_weights(folder)
    config = load_config(folder / "config.yaml")
    config = config.model_copy(update={"device": find_device(device)})
    use_cpu(config.threads)
    task = config.environment()
    base = kept_base(config, folder, task) or base_policy(config, task)  # runs of earlier versions keep none
    method = make_method(config, copy.deepcopy(base.policy))
    weights = folder / "weights.safetensors"
    if weights.exists():
        done = read_done(folder) or {}
        try:
            data = weights.read_bytes()
            digest = hashlib.sha256(data).hexdigest()
            if done.get("weights_digest", digest) != digest:  # runs of earlier versions note none
                raise ValueError("it is not what the run wrote (see weights_digest in done.json)")
            method.load_weights(load(data))
        except (SafetensorError, OSError, KeyError, RuntimeError, ValueError) as error:
            raise DataError(f"cannot read {weights}: {first_line(error)}") from None
        steps = done.get("env_steps", config.env_steps)
    else:
        state = load_checkpoint(folder / "checkpoint", config.device)
        if state is None:
            raise DataError(f"{folder}: no checkpoint can be read; wait a minute, or train it")
        # a generator's state means nothing on another device, and evaluation draws from streams of its own
        own = {name: value.get_state() for name, value in vars(method).items() if isinstance(value, torch.Generator)}
        method.load_state_dict(state["method"] | own)
        steps = state["collector"]["env_steps"]
    return Loaded(
        config, task, base, method, Evaluator(task, config.spec().chunk, config.threads, base.normaliser), steps
    )


class Policy:
    """What `dpft.load` returns. policy(obs): observations in the environment's units, [O] or [n, O] -> the chunk of
    actions that evaluation executes one after the other, [H, A] or [n, H, A], inside the action box."""

    def __init__(self, folder: str | PathLike[str], device: str = "auto", seed: int = 0) -> None:
        self.run = reload_run(Path(folder), device)
        self.config, self.task = self.run.config, self.run.task
        self.run.method.rng.manual_seed(seed)

    def __call__(self, obs: np.ndarray) -> np.ndarray:
        """Raises ValueError for another number of observations, sweeps.collect.Diverged for actions not finite."""
        rows = np.asarray(obs, np.float64)
        if rows.shape[-1:] != (self.task.obs_dim,) or rows.ndim > 2:
            raise ValueError(f"expected [{self.task.obs_dim}] or [n, {self.task.obs_dim}], got {list(rows.shape)}")
        batch, box = np.atleast_2d(rows), Box(*action_box(self.task))
        blocks = [batch[first : first + SLOTS] for first in range(0, len(batch), SLOTS)]
        chunks = [self.run.evaluator.decide(self.run.method, block, box) for block in blocks]
        return np.concatenate(chunks)[0 if rows.ndim == 1 else slice(None)]


def evaluate_run(folder: Path, count: int, seed: int | None, out: Path, device: str) -> int:
    """Play episodes, print their mean with its standard error and write them to a csv file."""
    run = reload_run(folder, device)
    config = run.config
    episodes: list[Episode] = run.evaluator(
        run.method, count, config.eval_seed if seed is None else seed, stream(config.seed, EVALUATION)
    )
    totals = np.array([e.total for e in episodes])
    error = f" +- {totals.std(ddof=1) / np.sqrt(count):.1f} (standard error, {count} episodes)" if count > 1 else ""
    scaled = run.task.normalised(float(totals.mean()))
    label = "" if scaled is None else f" ({scaled:.1f} D4RL-scaled, v5 dynamics)"
    print(f"mean return {totals.mean():.1f}{error or ' (one episode)'}{label}")
    solved = success_rate(episodes)
    if solved is not None:
        error = np.sqrt(solved * (1 - solved) / count)
        print(f"success rate {solved:.1%} +- {error:.1%} (standard error)")
    buffer = io.StringIO()
    rows = [episode.row(run.env_steps) for episode in episodes]
    writer = csv.DictWriter(buffer, list(rows[0]), lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    write_atomically(out, buffer.getvalue())
    print(f"episodes in {out}; next: dpft figures {shlex.quote(str(folder))}")
    return 0

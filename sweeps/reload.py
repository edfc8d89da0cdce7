"""The method of a run that exists: rebuilt from its records."""

import csv
import io
from pathlib import Path

import numpy as np
from safetensors import SafetensorError
from safetensors.torch import load_file

from dpft.envs import DataError, get_task
from dpft.methods.interface import Method
from dpft.sweeps.base import base_policy
from dpft.sweeps.checkpoint import load_checkpoint
from dpft.sweeps.config import RunConfig, load_config
from dpft.sweeps.evaluate import Episode, Evaluator
from dpft.sweeps.folders import expect_run
from dpft.sweeps.process import use_cpu
from dpft.sweeps.records import EPISODES, write_atomically
from dpft.sweeps.run import EVALUATION, make_method, stream


def reload_run(folder: Path) -> tuple[RunConfig, Method, Evaluator, int | None]:
    """Config, method with its newest weights, evaluator and environment steps (of a checkpoint) of a run.

    Raises DataError where there is no run, or nothing to load yet.
    """
    expect_run(folder)
    config = load_config(folder / "config.yaml")
    use_cpu(config.threads)
    task = get_task(config.task)
    base = base_policy(config, task)
    method = make_method(config, base.policy)
    steps = None
    weights = folder / "weights.safetensors"
    if weights.exists():
        try:
            method.load_weights(load_file(weights))
        except (SafetensorError, OSError, KeyError, RuntimeError) as error:
            raise DataError(f"cannot read {weights}: {str(error).splitlines()[0]}") from None
    else:
        state = load_checkpoint(folder / "checkpoint", config.device)
        if state is None:
            raise DataError(
                f"{folder} has neither weights.safetensors nor a checkpoint yet: wait a minute, or train it"
            )
        method.load_state_dict(state["method"])
        steps = state["collector"]["env_steps"]
    return config, method, Evaluator(task, config.chunk, config.threads, base.normaliser), steps


def evaluate_run(folder: Path, count: int, seed: int | None, out: Path) -> int:
    """Play episodes, write them to a csv file and print their mean with its standard error."""
    config, method, evaluator, steps = reload_run(folder)
    episodes: list[Episode] = evaluator(
        method, count, config.eval_seed if seed is None else seed, stream(config.seed, EVALUATION)
    )
    buffer = io.StringIO()
    writer = csv.writer(buffer, lineterminator="\n")
    writer.writerow(EPISODES)
    writer.writerows([steps, e.seed, e.total, e.length, e.ended] for e in episodes)
    write_atomically(out, buffer.getvalue())
    totals = np.array([e.total for e in episodes])
    error = totals.std(ddof=1) / np.sqrt(len(totals)) if len(totals) > 1 else float("nan")
    task = get_task(config.task)
    scaled = task.normalised(float(totals.mean()))
    label = "" if scaled is None else f" ({scaled:.1f} D4RL-scaled, v5 dynamics)"
    print(f"mean return {totals.mean():.1f} +- {error:.1f} (standard error, {count} episodes){label}")
    print(f"episodes in {out}; next: dpft figures {folder}")
    return 0

"""What a sweep takes: its runs, core-hours by what earlier runs took, and storage by the sizes of what a run leaves."""

import json
from collections import defaultdict
from pathlib import Path
from statistics import median

from dpft.envs.task import DataError
from dpft.sweeps.attempts import last_line
from dpft.sweeps.board import duration
from dpft.sweeps.config import RunConfig, complete
from dpft.sweeps.grid import Grid
from dpft.sweeps.launch import Engine, Sweep
from dpft.sweeps.records import read_config
from dpft.sweeps.run_state import RunState, states

# what a rate, seconds of CPU time per environment step, does not depend on
FREE = ("seed", "base", "base_seed", "env_steps", "eval_every", "eval_episodes", "eval_seed", "device")
SHOWN = 100  # rows of the table
# bytes on a disk: of a row of metrics.csv and of an evaluation with their TensorBoard events, an episode, and the rest
ROW, EVALUATION, EPISODE, REST = 900, 400, 40, 6000


def estimate(grid: Grid, folder: Path, engine: Engine) -> tuple[str, int]:
    """The table of runs, a line for each kind of run that is missing (task, method, K), then the whole: core-hours,
    time on that engine, storage. Returns it and how many runs are to do.

    Rates are medians of the ended runs of the same kind in the folders beside this one and in results/: of those with
    the same settings, or of all, which is then said.
    """
    sweep = Sweep(folder, {name: config.model_dump(mode="json") for name, config in grid.runs.items()})
    found = states(sweep, guess=True)
    missing: dict[str, list[RunConfig]] = defaultdict(list)
    for name, config in grid.runs.items():
        if not found[name].ended:
            missing[kind(name)].append(complete(config))
    todo = sum(map(len, missing.values()))
    lines = [f"{grid.name}: {len(grid.runs):,} runs in {folder}, {todo:,} of them to do", *table(found)]
    seconds, longest, size, unknown = 0.0, 0.0, 0, 0
    for name, configs in missing.items():
        steps = [config.env_steps for config in configs]
        line = f"  {len(configs):>6,} x {name}, {sum(steps):,} steps: "
        rate, same = known_rate(folder, name, configs)
        size += sum(stored(alike) * count for alike, count in sizes(configs).values())
        if rate is None:
            unknown += len(configs)
            line += "no such run has ended yet"
        else:
            seconds += rate * sum(steps)
            longest = max(longest, rate * max(steps) / configs[0].threads)
            line += f"{rate * sum(steps) / 3600:,.1f} core-hours" + ", by runs of other settings" * (not same)
        lines.append(line)
    parts = [f"about {size / 1e6:,.1f} MB"]
    if seconds:
        threads = max(config.threads for configs in missing.values() for config in configs)
        workers = min(engine.at_once(todo), todo)
        wall = duration(max(longest, seconds / (workers * threads)))
        parts = [f"about {seconds / 3600:,.1f} core-hours ({wall} with {workers:,} at a time)", *parts]
    if unknown:
        parts.append(f"{unknown:,} runs of unknown duration")
    return "\n".join([*lines, ", ".join(parts)]), todo


def table(found: dict[str, RunState]) -> list[str]:
    width = max(map(len, found))
    rows = [f"  {name:<{width}}  {run.of:>13,} steps  {run.state}" for name, run in found.items()]
    return rows[:SHOWN] + ([f"  ... and {len(rows) - SHOWN:,} more"] if len(rows) > SHOWN else [])


def known_rate(folder: Path, name: str, configs: list[RunConfig]) -> tuple[float | None, bool]:
    """CPU seconds of an environment step of a kind of run, and whether of runs with the same settings."""
    records = recorded([folder.parent, Path("results")], name)
    same = [rate for key in {shape(config) for config in configs} for rate in records.get(key, [])]
    rates = same or [rate for every in records.values() for rate in every]
    return (median(rates) if rates else None), bool(same)


def sizes(configs: list[RunConfig]) -> dict[str, tuple[RunConfig, int]]:
    """One config of each that differs in more than its seed, and how many there are of it."""
    alike: dict[str, tuple[RunConfig, int]] = {}
    for config in configs:
        key = config.model_dump_json(exclude={"seed", "base", "base_seed"})
        alike[key] = (config, alike[key][1] + 1 if key in alike else 1)
    return alike


def stored(config: RunConfig) -> int:
    """Bytes that a finished run of a resolved config leaves: weights and chains, its base, the rows of its records."""
    from dpft.methods import get_method
    from dpft.methods.policy.models import make_policy
    from dpft.sweeps.run import METRICS_EVERY, make_method

    spec = config.spec()
    policy = make_policy(get_method(config.method).fine_tunes, config.policy, spec, config.denoising_steps, 0)
    base = policy.state_dict().values()
    weights = make_method(config.model_copy(update={"device": "cpu"}), policy).weights().values()
    chains = 64 * 4 * (spec.obs_dim + 2 * (config.denoising_steps + 1) * spec.chunk * spec.action_dim)
    evaluations = 1 + -(-config.env_steps // config.eval_every)
    rows = ROW * (config.env_steps // METRICS_EVERY) + evaluations * (EVALUATION + EPISODE * config.eval_episodes)
    return sum(tensor.nbytes for tensor in (*base, *weights)) + chains + rows + REST


def kind(name: str) -> str:
    """Task, method and K of a run's id."""
    return name.split("_seed")[0]


def shape(config: RunConfig) -> str:
    """All of a resolved config that its rate depends on."""
    return settled(config.model_dump(mode="json"))


def settled(config: dict) -> str:
    return json.dumps({key: value for key, value in config.items() if key not in FREE}, sort_keys=True)


def recorded(folders: list[Path], name: str) -> dict[str, list[float]]:
    """CPU seconds per environment step of each ended run of a kind, by shape."""
    found: dict[str, list[float]] = defaultdict(list)
    for run in (marker.parent for folder in folders for marker in folder.glob(f"*/runs/{name}_seed*/done.json")):
        try:
            steps, _, seconds = (float(cell) for cell in last_line(run / "curve.csv").split(",")[:3])
            config, _ = read_config(run)
            found[settled(config)].append(seconds / steps)
        except (ArithmeticError, DataError, ValueError):  # it never got anywhere, or is damaged
            continue
    return found

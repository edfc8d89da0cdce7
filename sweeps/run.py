"""One run: a function of its config, interrupted or not."""

import hashlib
import os
import shutil
import signal
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors.torch import save

from dpft.envs import DataError, TaskSpec, make_vec
from dpft.envs.files import full_disk_is_said
from dpft.methods import get_method
from dpft.methods.interface import Method
from dpft.methods.policy.models import DiffusionPolicy, GaussianPolicy
from dpft.sweeps import records
from dpft.sweeps.base import Base
from dpft.sweeps.begin import claim_folder, own_base, plan
from dpft.sweeps.checkpoint import load_checkpoint, save_checkpoint, to_numpy
from dpft.sweeps.collect import Collector, Diverged
from dpft.sweeps.config import RunConfig, nested, parse_config
from dpft.sweeps.evaluate import Evaluator, success_rate
from dpft.sweeps.owner import Owner, owning
from dpft.sweeps.process import use_cpu
from dpft.sweeps.progress import RunProgress
from dpft.sweeps.stop import ASKING, StopSignal

CHECKPOINT_EVERY = float(os.environ.get("DPFT_CHECKPOINT_SECONDS", 60.0))  # between two checkpoints, at least
CHECKPOINT_SHARE = 0.01  # of a run's time, at most, goes into checkpoints
METRICS_EVERY = 5000  # environment steps between two rows of metrics.csv, at least


def stream(seed: int, purpose: int) -> int:
    """A seed for one purpose of a run, unrelated to those of other seeds and purposes."""
    return int(np.random.SeedSequence([seed, purpose]).generate_state(1)[0])


ENVIRONMENTS, METHOD, EVALUATION, CHAINS = range(4)


class Stopped(Exception):
    """The run was asked to stop; its checkpoint is written."""


class Run:
    """The state of one run under way."""

    def __init__(self, config: RunConfig, owner: Owner, task: TaskSpec, base: Base) -> None:
        self.config, self.owner, self.folder, self.task, self.base = config, owner, owner.folder, task, base
        self.method = make_method(config, base.policy)
        env = make_vec(task, config.settings.num_envs, config.spec().chunk, config.threads)
        seeds = np.random.SeedSequence([config.seed, ENVIRONMENTS]).generate_state(env.num_envs).tolist()
        self.collector = Collector(env, self.method, base.normaliser, seeds)
        self.evaluator = Evaluator(task, config.spec().chunk, config.threads, base.normaliser)
        self.records = records.Records(owner)
        self.updates = 0
        self.next_evaluation = 0
        self.pending: dict[str, float] = {}  # sums since the last row of metrics.csv
        self.pending_updates = 0
        self.last_row = 0
        self.seconds = {"update": 0.0, "evaluate": 0.0}
        self.clock = {"wall": 0.0, "cpu": 0.0}  # of earlier processes
        self.started = time.monotonic(), time.process_time()
        self.chain_before: np.ndarray | None = None

    # -- the loop ---------------------------------------------------------------------------------------------------

    def train(self, progress: RunProgress, stop: StopSignal) -> None:
        """Raises Diverged where something is not finite, Stopped after a checkpoint when asked to, TakenOver."""
        saved, cost = time.monotonic(), 0.0
        while self.env_steps < self.config.env_steps:
            self.evaluate_if_due(progress)
            rollout = self.collector.collect(self.config.env_steps)
            if rollout:  # what does not fill an update is not learned from: compared runs end at the same count
                self.learn(rollout)
            progress.steps(self.env_steps)
            since = time.monotonic() - saved
            # 0 seconds: after every update, whatever it costs
            if stop.asked or since > (CHECKPOINT_EVERY and max(CHECKPOINT_EVERY, cost / CHECKPOINT_SHARE)):
                self.save()
                saved, cost = time.monotonic(), time.monotonic() - saved - since
            if stop.asked:
                raise Stopped
        if self.pending_updates:
            self.write_metrics()
        self.next_evaluation = self.env_steps  # the end is evaluated whenever it comes
        self.evaluate_if_due(progress)

    @property
    def env_steps(self) -> int:
        return self.collector.env_steps

    def learn(self, rollout: Any) -> None:
        started = time.perf_counter()
        metrics = self.method.update(rollout)
        self.seconds["update"] += time.perf_counter() - started
        self.updates += 1
        bad = [name for name, value in metrics.items() if not np.isfinite(value)]
        if bad:
            raise Diverged(f"{bad[0]} is {metrics[bad[0]]} at step {self.env_steps}")
        if metrics:  # a method that still warms up has none
            self.pending = {name: self.pending.get(name, 0.0) + value for name, value in metrics.items()}
            self.pending_updates += 1
        if self.pending_updates and self.env_steps - self.last_row >= METRICS_EVERY:
            self.write_metrics()

    def write_metrics(self) -> None:
        bad = next((name for name, tensor in self.method.tensors() if not torch.isfinite(tensor).all()), None)
        if bad:
            raise Diverged(f"parameter {bad} is not finite at step {self.env_steps}")
        means = {name: value / self.pending_updates for name, value in self.pending.items()}
        seconds = {**self.collector.seconds, **self.seconds}
        total = sum(seconds.values())
        self.records.metrics(
            {"env_steps": self.env_steps, "wall_seconds": self.wall(), "updates": self.updates}
            | means
            | {f"time/{name}": value for name, value in seconds.items()}
            | {"time/steps_per_second": (self.env_steps - self.last_row) / total}
        )
        self.pending, self.pending_updates, self.last_row = {}, 0, self.env_steps
        for spent in (self.collector.seconds, self.seconds):
            spent.update(dict.fromkeys(spent, 0.0))

    def evaluate_if_due(self, progress: RunProgress) -> None:
        if self.env_steps < self.next_evaluation:
            return
        started = time.perf_counter()
        config = self.config
        episodes = self.evaluator(self.method, config.eval_episodes, config.eval_seed, stream(config.seed, EVALUATION))
        mean = float(np.mean([episode.total for episode in episodes]))
        self.seconds["evaluate"] += time.perf_counter() - started
        self.records.episodes([episode.row(self.env_steps) for episode in episodes])
        solved = success_rate(episodes)
        self.records.curve(
            {
                "env_steps": self.env_steps,
                "wall_seconds": self.wall(),
                "cpu_seconds": self.clock["cpu"] + time.process_time() - self.started[1],
                "return_mean": mean,
                "return_normalised": self.task.normalised(mean),
                "episodes": len(episodes),
                "training_return": self.collector.take_training_return(),
            }
            | ({} if solved is None else {"success_rate": solved})
        )
        progress.evaluated(self.env_steps, mean, solved)
        while self.next_evaluation <= self.env_steps:
            self.next_evaluation += config.eval_every

    def wall(self) -> float:
        return self.clock["wall"] + time.monotonic() - self.started[0]

    # -- what it leaves behind --------------------------------------------------------------------------------------

    def trace(self) -> np.ndarray:
        """The chains of 64 fixed observations under fixed noise, [64, S + 1, H, A]."""
        with self.method.drawing_from(CHAINS), torch.no_grad():
            return self.method.trace(torch.from_numpy(self.base.probes).to(self.method.device)).cpu().numpy()

    def finish(self) -> dict[str, str]:
        """chains.npz and the weights, whose digest is returned; a finished run keeps no optimiser and no replay."""
        assert self.chain_before is not None, "restore() comes first"
        with self.owner.replacing(self.folder / "chains.npz") as path, path.open("wb") as file:
            np.savez(file, obs=self.base.probes, chain_before=self.chain_before, chain_after=self.trace())
        weights = save(self.method.weights())
        with self.owner.replacing(self.folder / "weights.safetensors") as path:
            path.write_bytes(weights)
        return {"weights_digest": hashlib.sha256(weights).hexdigest()}

    # -- stopping and continuing ------------------------------------------------------------------------------------

    def save(self) -> None:
        state = {
            "method": self.method.state_dict(),
            "collector": self.collector.state_dict(),
            "updates": self.updates,
            "next_evaluation": self.next_evaluation,
            "pending": self.pending,
            "pending_updates": self.pending_updates,
            "last_row": self.last_row,
            "seconds": [dict(self.collector.seconds), dict(self.seconds)],
            "clock": {"wall": self.wall(), "cpu": self.clock["cpu"] + time.process_time() - self.started[1]},
            "chain_before": self.chain_before,
            "files": self.records.states(),
        }
        save_checkpoint(self.folder / "checkpoint", state, self.owner)

    def restore(self, state: dict[str, Any] | None) -> None:
        """Continue from a checkpoint's state, or start."""
        if state is None:
            self.chain_before = self.trace()
            return
        self.records.resume(state["files"])
        self.method.load_state_dict(state["method"])
        self.collector.load_state_dict(to_numpy(state["collector"]))
        for name in ("updates", "next_evaluation", "pending", "pending_updates", "last_row", "clock"):
            setattr(self, name, state[name])
        self.collector.seconds.update(state["seconds"][0])
        self.seconds.update(state["seconds"][1])
        self.chain_before = state["chain_before"].cpu().numpy()


def make_method(config: RunConfig, policy: DiffusionPolicy | GaussianPolicy) -> Method:
    """The method of a resolved config around its own copy of the policy, on the run's device."""
    rng = torch.Generator(config.device).manual_seed(stream(config.seed, METHOD))
    return get_method(config.method)(policy.to(config.device), config.spec(), config.settings, rng)


def train(
    config: RunConfig, folder: Path, allow_hardware_change: bool = False, held: Callable[[], bool] = lambda: True
) -> dict[str, Any]:
    """Run to the end, from wherever an earlier process got; returns the contents of done.json.

    Raises DataError where the folder holds another run, Stopped on SIGTERM, SIGUSR2 or Ctrl-C, TakenOver once held()
    says that the folder has another owner.
    """
    owner = Owner(folder, held)
    owner.begin()
    done = records.read_done(folder)
    config = claim_folder(config, owner, allow_hardware_change)
    if done:
        return done
    (folder / "error.txt").unlink(missing_ok=True)  # of an earlier attempt
    use_cpu(config.threads)
    torch.use_deterministic_algorithms(True, warn_only=True)
    torch.utils.deterministic.fill_uninitialized_memory = False  # type: ignore[attr-defined]  # costs time, not bits
    # until the loop begins there is nothing to save, but a cache that is being filled has to be let go
    for number in ASKING:
        signal.signal(number, signal.default_int_handler)
    task = config.environment()
    base = own_base(config, owner, task)
    for line in (*base.remarks, plan(config)):
        print(line, flush=True)
    run = Run(config, owner, task, base)
    run.restore(load_checkpoint(folder / "checkpoint", config.device))
    progress = RunProgress(
        f"{config.task} {config.method} K={config.denoising_steps} seed {config.seed}", config.env_steps, run.env_steps
    )
    outcome: dict[str, Any] = {"status": "done", "reason": None}
    stop = StopSignal()
    try:
        try:
            run.train(progress, stop)
            outcome |= run.finish()
        except Diverged as failure:
            outcome = {"status": "failed", "reason": str(failure)}
        run.records.settle()
    finally:
        stop.restore()
        progress.close()
        run.records.close()
    outcome |= {"env_steps": run.env_steps, "wall_seconds": run.wall()}
    records.write_done(owner, **outcome)
    shutil.rmtree(folder / "checkpoint", ignore_errors=True)
    return records.read_done(folder) or outcome


def train_here(out: str | os.PathLike[str], fields: dict[str, Any], allow_hardware_change: bool) -> dict[str, Any]:
    """What dpft.train does: as the verb does, in a process that goes on with other things."""
    config, folder = parse_config(nested(fields)), Path(out)
    before = {number: signal.getsignal(number) for number in ASKING}
    try:
        with owning(folder) as claim:
            if claim is None:
                raise DataError(f"{folder} is being made by another process")
            with full_disk_is_said(folder):
                return train(config, folder, allow_hardware_change, claim.held)
    except Stopped:
        raise KeyboardInterrupt(f"stopped; the same call continues from the checkpoint in {folder}") from None
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)

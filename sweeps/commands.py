"""The verbs that make things: demos, pretrain, train, eval, publish."""

import argparse
import contextlib
import io
import os
import re
import shutil
import sys
import traceback
from pathlib import Path

import tyro
import yaml
from pydantic import ValidationError

from dpft.envs.cache import FULL, Claim, full_disk_is_said
from dpft.envs.task import DataError
from dpft.sweeps.config import RunConfig, config_model, explain, load_config
from dpft.sweeps.launch import CLAIMED, CRASHED, DIVERGED, DONE, STOPPED


def parse_run(argv: list[str], verb: str, example: str) -> RunConfig:
    """RunConfig from the command line: --config FILE first, flags win; --method decides which settings there are."""
    first = argparse.ArgumentParser(add_help=False)
    first.add_argument("--config", type=Path)
    first.add_argument("--method")
    known, rest = first.parse_known_args(argv)
    base = load_config(known.config) if known.config else None
    method = known.method or (base.method if base else RunConfig.model_fields["method"].default)
    model = config_model(method)
    if base is None or base.method != method:
        default = model(**({} if base is None else base.model_dump(exclude={"method", "settings"})))
    else:
        default = base
    about = f"dpft {verb}: --config FILE reads a YAML file first, flags win.\n\nexample: {example}"
    plain, box = (tyro.conf.AvoidSubcommands,), io.StringIO()
    try:
        with contextlib.redirect_stderr(box):
            return tyro.cli(model, prog=f"dpft {verb}", description=about, default=default, args=rest, config=plain)
    except SystemExit as ended:
        if not ended.code:  # --help
            raise
        raise DataError(one_line(ended, box.getvalue(), model)) from None


def one_line(ended: BaseException, box: str, model: type[RunConfig]) -> str:
    """What tyro says in a box: pydantic's problem behind it in our words, or its own without the frame."""
    behind, prefix = ended.__context__, ""
    while behind and not isinstance(behind, ValidationError):
        prefix = str(getattr(behind, "arg", ""))  # the group of fields it is in
        behind = behind.__context__
    if isinstance(behind, ValidationError):
        return "; ".join(explain(problem, model, prefix) for problem in behind.errors())
    words = " ".join(line.strip("│ ") for line in box.splitlines()[1:-1])
    return re.sub(r"\s*─+\s*", "; ", words)


def take(argv: list[str], *names: str) -> tuple[dict[str, str | None], list[str]]:
    """Options of the verb itself, which are not fields of a run, and what is left."""
    parser = argparse.ArgumentParser(add_help=False)
    for name in names:
        parser.add_argument(name)
    known, rest = parser.parse_known_args(argv)
    return vars(known), rest


def train(argv: list[str]) -> int:
    example = (
        "dpft train --task hopper-medium --method ncdpo --denoising-steps 10 --seed 0 --env-steps 1e6 --out runs/first"
    )
    options, rest = take([a for a in argv if a != "--allow-hardware-change"], "--out")
    config = parse_run(
        rest, "train", f"{example}\n--out DIR: the run's folder (needed); --allow-hardware-change: continue elsewhere"
    )
    if not options["out"]:
        raise DataError("train needs --out DIR, the folder for the run's records")
    folder = Path(options["out"])
    claim = Claim(folder / "run")
    if not claim.take():  # before torch is imported: of two that begin together one is told at once
        print(f"{folder} is being made by another process; next: dpft status SWEEP")
        return CLAIMED
    try:
        with full_disk_is_said(folder):
            return _train(config, folder, "--allow-hardware-change" in argv, claim)
    finally:
        claim.release()


def _train(config: RunConfig, folder: Path, allow_hardware_change: bool, claim: Claim) -> int:
    from dpft.sweeps.records import read_done, write_atomically
    from dpft.sweeps.run import Stopped, TakenOver
    from dpft.sweeps.run import train as run

    finished_before = read_done(folder) is not None
    try:
        done = run(config, folder, allow_hardware_change, claim.held)
    except Stopped:
        print(f"stopped; the same command continues from the checkpoint in {folder}")
        return STOPPED
    except TakenOver:
        print(f"{folder} was taken over by another process, as this one showed no sign of life for a minute")
        return CLAIMED
    except Exception as error:
        if isinstance(error, DataError) or getattr(error, "errno", None) in FULL:
            raise
        write_atomically(folder / "error.txt", traceback.format_exc())
        print(
            f"dpft train: {traceback.format_exc().strip().splitlines()[-1]} (details in {folder / 'error.txt'})",
            file=sys.stderr,
        )
        return CRASHED
    if done["status"] == "failed":
        print(f"failed: {done['reason']}; records in {folder}")
        return DIVERGED
    print(f"{'already done' if finished_before else 'done'}: records in {folder}; next: dpft figures {folder}")
    return DONE


def pretrain(argv: list[str]) -> int:
    config = parse_run(argv, "pretrain", "dpft pretrain --task hopper-medium --denoising-steps 20")
    from dpft.envs import get_task
    from dpft.sweeps.base import cached_base
    from dpft.sweeps.config import resolve
    from dpft.sweeps.process import use_cpu

    use_cpu(config.threads)
    path = cached_base(resolve(config), get_task(config.task))
    print(
        f"base policy in {path}; "
        f"next: dpft train --base {path} --denoising-steps {config.denoising_steps} --out runs/NAME"
    )
    return 0


def demos(argv: list[str]) -> int:
    parser = argparse.ArgumentParser(
        prog="dpft demos",
        description="Roll out the task's expert (once; kept in the cache as a Minari dataset), "
        "or check demonstrations of yours.",
        epilog="example: dpft demos hopper-medium; dpft demos hopper-medium --source ~/hopper_medium-v2.hdf5",
    )
    parser.add_argument("task")
    parser.add_argument(
        "--source",
        help="expert:NAME, Minari id or folder, D4RL .hdf5, DPPO folder, d4rl:NAME (default: the task's own)",
    )
    parser.add_argument(
        "--steps", type=lambda text: int(float(text)), default=200_000, help="environment steps of an expert"
    )
    parser.add_argument("--seed", type=int, default=0, help="of an expert's roll-out")
    parser.add_argument("--threads", type=int, default=os.cpu_count() or 1)
    options = parser.parse_args(argv)
    from dpft.envs import get_task
    from dpft.envs.demonstrations import load_demos

    task = get_task(options.task)
    data = load_demos(options.source or task.demos, task, options.steps, options.seed, options.threads)
    mean = "unknown" if data.mean_return is None else f"{data.mean_return:.0f}"
    print(
        f"{data.source}: {len(data.lengths)} episodes, {len(data.obs)} steps, mean return {mean}, "
        f"sha256 {data.digest()[:16]}"
    )
    print(f"next: dpft train --task {options.task} --demos.source {options.source or task.demos} --out runs/NAME")
    return 0


def evaluate(argv: list[str]) -> int:
    parser = argparse.ArgumentParser(
        prog="dpft eval",
        description="Evaluate a run's policy: complete episodes, the protocol of training, seeds of its own.",
        epilog="example: dpft eval runs/quickstart/runs/hopper-medium_ncdpo_K5_seed0 --episodes 200",
    )
    parser.add_argument("run", type=Path, help="a run's folder, finished or under way")
    parser.add_argument("--episodes", type=int, default=100)
    parser.add_argument("--seed", type=int, help="of the first episode (default: that of training's evaluations)")
    parser.add_argument("--out", type=Path, help="a csv file for the episodes (default: RUN/evaluation.csv)")
    options = parser.parse_args(argv)
    from dpft.sweeps.reload import evaluate_run

    return evaluate_run(options.run, options.episodes, options.seed, options.out or options.run / "evaluation.csv")


def publish(argv: list[str]) -> int:
    parser = argparse.ArgumentParser(
        prog="dpft publish",
        description="Copy a sweep's records (no checkpoints, weights or TensorBoard events) to results/NAME.",
        epilog="example: dpft publish runs/quickstart",
    )
    parser.add_argument("sweep", type=Path)
    parser.add_argument("--to", type=Path, help="default: results/NAME")
    options = parser.parse_args(argv)
    if not (options.sweep / "grid.yaml").exists():
        raise DataError(f"{options.sweep} is no sweep: it has no grid.yaml")
    target = options.to or Path("results") / options.sweep.name
    for source in sorted((options.sweep / "runs").glob("*/done.json")):
        run = target / "runs" / source.parent.name
        run.mkdir(parents=True, exist_ok=True)
        for name in ("config.yaml", "curve.csv", "metrics.csv", "episodes.csv", "chains.npz", "done.json"):
            if (source.parent / name).exists():
                shutil.copyfile(source.parent / name, run / name)
    target.mkdir(parents=True, exist_ok=True)
    shutil.copyfile(options.sweep / "grid.yaml", target / "grid.yaml")
    name = yaml.safe_load((target / "grid.yaml").read_text()).get("name", options.sweep.name)
    print(f"records of {name} in {target}; next: dpft figures {target}, and write {target / 'README.md'}")
    return 0

"""The verbs that make things: demos, pretrain, train, eval, publish."""

import contextlib
import io
import os
import re
import shlex
import shutil
import sys
import tempfile
import traceback
from pathlib import Path
from typing import Any

import tyro
from pydantic import ValidationError, create_model

from dpft.arguments import Parser, count, place, seed_number, writable_file, writable_folder
from dpft.envs.cache import Claim
from dpft.envs.files import FULL, full_disk_is_said
from dpft.envs.task import DataError, first_line
from dpft.methods import METHODS
from dpft.sweeps.config import RunConfig, config_model, explain, load_config, parse_config, resolve
from dpft.sweeps.folders import expect_run, expect_weights, holds_records, no_sweep
from dpft.sweeps.launch import CLAIMED, CRASHED, DIVERGED, DONE, STOPPED
from dpft.sweeps.owner import TakenOver, owning
from dpft.sweeps.records import read_done, write_atomically
from dpft.sweeps.wandb_log import add_flag, ask_for

PUBLISHED = ("config.yaml", "curve.csv", "metrics.csv", "episodes.csv", "chains.npz", "done.json")
# the fields of a run that shape its base policy
BASE = ("task", "method", "denoising_steps", "base_seed", "chunk", "threads", "policy", "pretrain", "demos")


def parse_run(argv: list[str], verb: str, example: str, only: tuple[str, ...] = ()) -> RunConfig:
    """RunConfig from the command line: --config FILE first, flags win; --method decides which settings there are.

    With `only`, there are flags for these fields alone.
    """
    first = Parser(prog=f"dpft {verb}", add_help=False)
    first.add_argument("--config", type=place)
    first.add_argument("--method")
    known, rest = first.parse_known_args(argv)
    base = load_config(known.config) if known.config else None
    method = base.method if base else RunConfig.model_fields["method"].default
    if known.method is not None:
        method = known.method
    model = config_model(method)
    if base is None or base.method != method:
        kept = {} if base is None else base.model_dump(exclude={"method", "settings"})
        default = parse_config(kept | {"method": method})
    else:
        default = base
    about = f"dpft {verb}: --config FILE reads a YAML file first, flags win.\n\nexample: {example}"
    if only:
        model = with_flags(model, only)
        default = model.model_construct(**dict(default))
    plain, box = (tyro.conf.AvoidSubcommands, tyro.conf.SuppressFixed), io.StringIO()
    try:
        with contextlib.redirect_stderr(box):
            return tyro.cli(model, prog=f"dpft {verb}", description=about, default=default, args=rest, config=plain)
    except SystemExit as ended:
        if not ended.code:  # --help
            raise
        raise DataError(one_line(ended, box.getvalue(), model)) from None


def with_flags(model: type[RunConfig], only: tuple[str, ...]) -> type[RunConfig]:
    """The same model, of which the command line takes these fields alone."""
    others = {name: field for name, field in model.model_fields.items() if name not in only}
    fixed: dict[str, Any] = {name: (tyro.conf.Fixed[f.annotation], f) for name, f in others.items()}  # type: ignore
    # tyro reads the comments of the class of this name in this module
    return create_model("RunConfig", __base__=model, __module__=RunConfig.__module__, **fixed)


def one_line(ended: BaseException, box: str, model: type[RunConfig]) -> str:
    """What tyro says in a box: pydantic's problem behind it in our words, or its own without the frame."""
    behind, prefix = ended.__context__, ""
    while behind and not isinstance(behind, ValidationError):
        prefix = str(getattr(behind, "arg", ""))  # the group of fields it is in
        behind = behind.__context__
    if isinstance(behind, ValidationError):
        return "; ".join(explain(problem, model, prefix) for problem in behind.errors())
    words = " ".join(line.strip("│ ") for line in box.splitlines()[1:-1])
    words = re.sub(r"\.\s*Got errors:.*?(?= ─|$)", "", words)  # of each member of a union, in Python's own words
    return re.sub(r"\s*(─+|-{9,})\s*", "; ", words.strip("- "))


def train(argv: list[str]) -> int:
    example = (
        "dpft train --task hopper-medium --method ncdpo --denoising-steps 10 --seed 0 --env-steps 1e6 --out runs/first"
    )
    own = Parser(prog="dpft train", add_help=False)  # what is no field of a run
    own.add_argument("--out", type=place)
    own.add_argument("--allow-hardware-change", action="store_true")
    add_flag(own)
    options, rest = own.parse_known_args(argv)
    ask_for(options.log)
    config = parse_run(
        rest,
        "train",
        f"{example}\n--out DIR: the run's folder (needed); --allow-hardware-change: continue elsewhere; "
        "--log wandb: log to Weights & Biases, too",
    )
    folder: Path | None = options.out
    if folder is None:
        raise DataError("train needs --out DIR, the folder for the run's records")
    resolve(config)  # what can be known to be wrong is said before there is a folder
    with owning(folder) as claim:
        if claim is None:
            print(f"{folder} is being made by another process; next: dpft status SWEEP")
            return CLAIMED
        with full_disk_is_said(folder):
            return _train(config, folder, options.allow_hardware_change, claim)


def _train(config: RunConfig, folder: Path, allow_hardware_change: bool, claim: Claim) -> int:
    from dpft.sweeps.run import Stopped
    from dpft.sweeps.run import train as run

    finished_before = read_done(folder) is not None
    try:
        done = run(config, folder, allow_hardware_change, claim.held)
    except Stopped:
        print(f"stopped; the same command continues from the checkpoint in {folder}")
        return STOPPED
    except TakenOver:
        return taken_over(folder)
    except Exception as error:
        if not claim.held():  # whatever fails then
            return taken_over(folder)
        if isinstance(error, DataError) or getattr(error, "errno", None) in FULL:
            raise
        write_atomically(folder / "error.txt", traceback.format_exc())
        words = f"dpft train: {type(error).__name__}: {first_line(error)} (details in {folder / 'error.txt'})"
        own = config.method not in METHODS
        hint = f"; dpft check-method {shlex.quote(config.method)} may say what is wrong" * own
        print(words + hint, file=sys.stderr)
        return CRASHED
    if done["status"] == "failed":
        print(f"failed: {done['reason']}; records in {folder}")
        return DIVERGED
    fate = "already done" if finished_before else "done"
    print(f"{fate}: records in {folder}; next: dpft figures {shlex.quote(str(folder))}")
    return DONE


def taken_over(folder: Path) -> int:
    print(f"{folder} was taken over by another process, as this one showed no sign of life for a minute")
    return CLAIMED


def pretrain(argv: list[str]) -> int:
    config = parse_run(argv, "pretrain", "dpft pretrain --task hopper-medium --denoising-steps 20", BASE)
    from dpft.sweeps.base import cached_base
    from dpft.sweeps.process import use_cpu

    use_cpu(config.threads)
    path = cached_base(resolve(config), config.environment())
    print(f"base policy in {path}")
    print(f"next, which finds it there: {shlex.join(['dpft', 'train', *argv])} --out runs/NAME")
    return 0


def demos(argv: list[str]) -> int:
    parser = Parser(
        prog="dpft demos",
        description="Roll out the task's expert (once; kept in the cache as a Minari dataset), "
        "or check demonstrations of yours.",
        epilog="example: dpft demos hopper-medium; dpft demos hopper-medium --source ~/hopper_medium-v2.hdf5",
    )
    parser.add_argument("task")
    parser.add_argument(
        "--source",
        help="expert:NAME, Minari id or folder, .hdf5 of D4RL or robomimic (FILE.hdf5:FILTER_KEY), DPPO folder, "
        "d4rl:NAME (default: the task's own)",
    )
    parser.add_argument(
        "--steps",
        type=count,
        help="environment steps of an expert, at least: the last episode of each of its 40 slots is completed "
        "(default: as many as the task has it)",
    )
    parser.add_argument("--seed", type=seed_number, default=0, help="of an expert's roll-out")
    parser.add_argument("--threads", type=count, default=os.cpu_count() or 1)
    options = parser.parse_args(argv)
    from dpft.envs import action_box, get_task
    from dpft.envs.demonstrations import load_demos, remarks

    task = get_task(options.task)
    source = task.demos if options.source is None else options.source
    data = load_demos(source, task, options.steps, options.seed, options.threads)
    mean = "unknown" if data.mean_return is None else f"{data.mean_return:.0f}"
    print(
        f"{data.source}: {len(data.lengths)} episodes, {len(data.obs)} steps, mean return {mean}, "
        f"sha256 {data.digest()[:16]}"
    )
    if data.success_rate is not None:
        print(f"the expert solved {data.success_rate:.0%} of its episodes; these are here, and end when it did")
    for line in remarks(data.normaliser, data.outside(*action_box(task))):
        print(line)
    words = ["dpft", "train", "--task", options.task, "--demos.source", source]
    for name in ("steps", "seed"):
        if getattr(options, name) != parser.get_default(name):
            words += [f"--demos.{name}", str(getattr(options, name))]
    print(f"next: {shlex.join(words)} --out runs/NAME")
    return 0


def evaluate(argv: list[str]) -> int:
    parser = Parser(
        prog="dpft eval",
        description="Evaluate a run's policy: complete episodes, the protocol of training, seeds of its own.",
        epilog="example: dpft eval runs/quickstart/runs/hopper-medium_ncdpo_K5_seed0 --episodes 200",
    )
    parser.add_argument("run", type=place, help="a run's folder, finished or under way")
    parser.add_argument("--episodes", type=count, default=100)
    parser.add_argument(
        "--seed", type=seed_number, help="of the first episode (default: that of training's evaluations)"
    )
    parser.add_argument("--out", type=place, help="a csv file for the episodes (default: RUN/evaluation.csv)")
    parser.add_argument("--device", default="auto", help="auto, cpu, cuda, cuda:1, … (auto: a GPU where there is one)")
    options = parser.parse_args(argv)
    expect_run(options.run)
    out: Path = options.out or options.run / "evaluation.csv"
    if out.suffix != ".csv" or out.resolve() in [(options.run / name).resolve() for name in PUBLISHED]:
        raise DataError(f"--out {out}: expected a .csv file that is no record of the run")
    writable_file(out)
    expect_weights(options.run)
    from dpft.sweeps.reload import evaluate_run

    with full_disk_is_said(out.parent):
        return evaluate_run(options.run, options.episodes, options.seed, out, options.device)


def publish(argv: list[str]) -> int:
    parser = Parser(
        prog="dpft publish",
        description="Copy a sweep's records (no checkpoints, weights or TensorBoard events) to results/NAME.",
        epilog="example: dpft publish runs/quickstart",
    )
    parser.add_argument("sweep", type=place)
    parser.add_argument("--to", type=place, help="default: results/NAME")
    options = parser.parse_args(argv)
    sweep: Path = options.sweep
    if not (sweep / "grid.yaml").is_file():
        raise DataError(f"{sweep} has no grid.yaml" if holds_records(sweep) else no_sweep(sweep))
    ended = []
    for marker in sorted((sweep / "runs").glob("*/done.json")):
        if read_done(marker.parent):
            ended.append(marker.parent)
        else:
            print(f"{marker}: damaged; that run is left out", file=sys.stderr)
    if not ended:
        raise DataError(f"no run of {sweep} has ended yet; dpft status {shlex.quote(str(sweep))}")
    search = [file for name in ("tune.md", "tune.csv", "best.yaml") if (file := sweep / name).is_file()]
    files = [
        sweep / "grid.yaml",
        *search,
        *(run / name for run in ended for name in PUBLISHED if (run / name).is_file()),
    ]
    target: Path = options.to or Path("results") / sweep.resolve().name
    writable_folder(target, "--to")
    # all are copied before the first takes its name
    with full_disk_is_said(target), tempfile.TemporaryDirectory(dir=target, prefix=".") as temporary:
        for file in files:
            copy = Path(temporary) / file.relative_to(sweep)
            copy.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(file, copy)
        for file in files:
            name = file.relative_to(sweep)
            (target / name).parent.mkdir(parents=True, exist_ok=True)
            os.replace(Path(temporary) / name, target / name)
    print(f"records of {len(ended)} runs in {target}; next: dpft figures {shlex.quote(str(target))}, ", end="")
    print(f"and write {target / 'README.md'}")
    return 0

"""The verbs that launch: sweep, resume, cancel."""

import argparse
from dataclasses import replace
from pathlib import Path
from shlex import quote
from typing import Any

from pydantic import ValidationError

from dpft.arguments import Parser, place, writable_folder
from dpft.envs.files import full_disk_is_said
from dpft.envs.task import DataError
from dpft.sweeps.attempts import forget
from dpft.sweeps.board import listing, summary
from dpft.sweeps.launch import ENGINES, Engine, Sweep, engine_class
from dpft.sweeps.run_state import states
from dpft.sweeps.status import exit_code, following
from dpft.sweeps.wandb_log import add_flag, ask_for
from dpft.sweeps.yaml_file import read_yaml


def engine_flags(parser: argparse.ArgumentParser) -> None:
    """--engine, --site and every option of every engine; --log."""
    add_flag(parser)
    parser.add_argument("--engine", choices=ENGINES, help="where runs are executed (default: local)")
    parser.add_argument("--site", type=place, help="a YAML file of the engine's options, such as slurm's; flags win")
    fields: dict[str, tuple[str, list[str]]] = {}
    for engine in ENGINES:
        for name, field in engine_class(engine).Options.model_fields.items():
            if field.description:  # those without one are for files
                fields.setdefault(name, (field.description, []))[1].append(engine)
    for name, (description, engines) in fields.items():
        parser.add_argument(f"--{name.replace('_', '-')}", help=f"{', '.join(engines)}: {description}")


def engine_options(options: argparse.Namespace, own: set[str]) -> dict[str, Any]:
    """What the command line and its --site file say, `own` being the verb's own flags. Raises DataError."""
    ask_for(options.log)
    site = read_yaml(options.site) if options.site else {}
    if not isinstance(site or {}, dict):
        raise DataError(f"{options.site} is no site file: it needs options of an engine and their values")
    flags = {name: value for name, value in vars(options).items() if name not in {*own, "engine", "site", "log"}}
    return (site or {}) | {name: value for name, value in flags.items() if value is not None}


def make_engine(sweep: Sweep, name: str | None, given: dict[str, Any]) -> Engine:
    """The engine that was asked for, or that of the last time with the options of the last time. Raises DataError."""
    before = sweep.submissions()
    name = name or (before[-1].engine if before else "local")
    kind = engine_class(name)
    last = next((submission.options for submission in reversed(before) if submission.engine == name), {})
    try:
        return kind(kind.Options.model_validate(last | given))
    except ValidationError as error:
        from dpft.sweeps.config import explain

        problems = "; ".join(explain(problem, kind.Options) for problem in error.errors())
        raise DataError(f"--engine {name}: {problems}") from None


def launch(sweep: Sweep, engine: Engine, resumes: int = 0) -> int:
    """Have everything made that has not ended, but by a sweep that resumes itself what it gave up; returns the exit
    code of `dpft status`."""
    with full_disk_is_said(sweep.folder):
        found = states(sweep)
        names = [name for name, run in found.items() if not (run.ended or (resumes and run.state == "failed"))]
        ended = sum(run.ended for run in found.values())
        print(f"{sweep.folder}: {len(names)} runs to do, {ended} done before", flush=True)
        (sweep.folder / "runs").mkdir(exist_ok=True)
        for name in names:
            if not found[name].under_way:
                forget(sweep.run(name))  # of attempts before this one
        try:
            engine.submit(sweep, names, resumes)
        except KeyboardInterrupt:
            folder = quote(str(sweep.folder))
            print(f"stopped: runs under way wrote their checkpoints; next: dpft resume {folder}")
            return 130
    found = states(sweep)
    print("\n".join([*listing(found, 20), summary(found)]))
    code = exit_code(found)
    print(f"records in {sweep.folder / 'runs'}; next: {following(sweep.folder, code)}")
    return 0 if code == 3 else code  # submitted is all that was asked for


def sweep(argv: list[str]) -> int:
    parser = Parser(
        prog="dpft sweep",
        description="Run a grid: a YAML file of run fields whose lists are axes; `overrides` changes fields of one "
        "method. The same command again does only what is missing; a grid with more runs adds them.",
        epilog="example: dpft sweep quickstart --workers 2",
    )
    parser.add_argument("grid", help="a YAML file, or a name of `dpft grids`")
    parser.add_argument("--out", type=place, help="the sweep's folder (default: runs/NAME)")
    parser.add_argument("--dry-run", action="store_true", help="say what it would take and stop")
    engine_flags(parser)
    options = parser.parse_args(argv)
    from dpft.sweeps.grid import load_grid

    given = engine_options(options, {"grid", "out", "dry_run"})
    grid = load_grid(options.grid)
    folder = options.out or Path("runs") / grid.name
    if options.dry_run:
        from dpft.sweeps.estimate import estimate

        words, todo = estimate(grid, folder, make_engine(Sweep(folder, {}), options.engine, given))
        again = f"dpft sweep {quote(options.grid)} --out {quote(str(folder))}"
        print(f"{words}\nnothing was started; next: {again if todo else following(folder, 0)}")
        return 0
    writable_folder(folder)
    with full_disk_is_said(folder):
        found = Sweep.freeze(grid, folder)
    return launch(found, make_engine(found, options.engine, given))


def resume(argv: list[str]) -> int:
    parser = Parser(
        prog="dpft resume",
        description="Make the runs of a sweep that are missing, lost or crashed, on the engine and with the options "
        "of the last time unless told otherwise.",
        epilog="example: dpft resume runs/quickstart --workers 2",
    )
    parser.add_argument("sweep", type=place)
    parser.add_argument(
        "--allow-hardware-change",
        action="store_true",
        help="continue runs that were begun on another kind of machine, too, which marks their records",
    )
    engine_flags(parser)
    options = parser.parse_args(argv)
    flags = ("--allow-hardware-change",) if options.allow_hardware_change else ()
    found = replace(Sweep.open(options.sweep), flags=flags)
    given = engine_options(options, {"sweep", "allow_hardware_change"})
    return launch(found, make_engine(found, options.engine, given))


def cancel(argv: list[str]) -> int:
    parser = Parser(
        prog="dpft cancel",
        description="Stop a sweep: its jobs in the queue, its launchers on this machine, its runs, which write their "
        "checkpoints. dpft resume continues it.",
        epilog="example: dpft cancel runs/quickstart",
    )
    parser.add_argument("sweep", type=place)
    options = parser.parse_args(argv)
    found = Sweep.open(options.sweep)
    stopped = 0
    for name in ENGINES:
        submissions = found.submissions(name)
        stopped += engine_class(name).cancel(found, submissions) if submissions else 0
    print(
        f"{stopped} jobs and processes were asked to stop; records in {found.folder}; "
        f"next: dpft status {quote(str(found.folder))}"
    )
    return 0

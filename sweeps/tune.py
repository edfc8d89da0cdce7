"""dpft tune: a search over ranges of each method's fields, the same budget for all; its trials are runs of a sweep.

The runs are all of its state: a sampler is asked again from its seed and told again what the records say, so that a
search that was stopped goes on with the trials that it would have made.
"""

import argparse
import csv
import io
import math
from dataclasses import replace
from pathlib import Path
from shlex import quote

import yaml

from dpft.arguments import Parser, place, writable_folder
from dpft.envs import get_task
from dpft.envs.files import full_disk_is_said
from dpft.envs.task import DataError
from dpft.sweeps.grid import Grid, load_grid
from dpft.sweeps.launch import INTERRUPTED, Sweep
from dpft.sweeps.records import write_atomically
from dpft.sweeps.run_state import states
from dpft.sweeps.search import Search, Tuning
from dpft.sweeps.status import exit_code, following, watch
from dpft.sweeps.sweep_commands import engine_flags, engine_options, launch, make_engine

SEEDS = 5  # of the grid of the best settings

EXAMPLE = """\
example: dpft tune search.yaml --workers 2, where search.yaml is a grid with ranges:

  task: hopper-medium
  method: [ncdpo, dppo]
  seed: [100, 101]             # a trial is all runs of the grid for its method
  env_steps: 300000
  tune:
    trials: 16                 # of each method
    batch: 4                   # of each method, proposed at once (default: 4)
    objective: mean            # of the evaluations after the first (default), or final: the last one
    sampler: tpe               # optuna's (default), or random, qmc
    seed: 0                    # of the sampler
    ranges:                    # settings, policy and pretrain: low and high, or choices
      ncdpo: {settings.learning_rate: {low: 1e-5, high: 1e-3, log: true}, settings.std_init: [0.1, 0.2]}
      dppo: {settings.learning_rate: {low: 1e-5, high: 1e-3, log: true}, settings.clip: [0.01, 0.05]}
"""


def tune(argv: list[str]) -> int:
    parser = Parser(
        prog="dpft tune",
        description="Search ranges of each method's fields. Trials are proposed in batches, run as a sweep, scored by "
        "its records.\nThe same command again goes on; dpft status, figures and publish work on its folder.",
        epilog=EXAMPLE,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("grid", help="a YAML file with a tune section")
    parser.add_argument("--out", type=place, help="the sweep's folder (default: runs/NAME)")
    engine_flags(parser)
    options = parser.parse_args(argv)
    given = engine_options(options, {"grid", "out"})
    grid = load_grid(options.grid, tuned=True)
    folder: Path = options.out or Path("runs") / grid.name
    try:
        tuning = Tuning.of(grid)
        searches = [Search(grid, tuning, method) for method in tuning.ranges]
    except ImportError:
        raise DataError('optuna is not there: pip install "dpft[tune]"') from None
    except DataError as error:
        raise DataError(f"grid {options.grid}: {error}") from None
    each, steps = len(grid.runs) // len(searches), sum(run.env_steps for run in grid.runs.values()) // len(searches)
    print(f"each of {len(searches)} methods: {tuning.trials} trials x {each} runs, {tuning.trials * steps:,} steps")
    writable_folder(folder)
    again = f"dpft tune {quote(options.grid)} --out {quote(str(folder))}"
    with full_disk_is_said(folder):
        for begin in range(0, tuning.trials, tuning.batch):
            for search in searches:
                search.propose(min(tuning.batch, tuning.trials - begin))
            sweep = frozen(grid, searches, folder)
            if sweep.missing():
                print(f"trials {begin + 1} to {len(searches[0].trials)} of {tuning.trials}", flush=True)
                if launch(sweep, make_engine(sweep, options.engine, given)) == INTERRUPTED:
                    print(f"the search goes on with {again}")
                    return INTERRUPTED
                found = watch(sweep, states(sweep), 20)  # a cluster's jobs outlive their launch
                if not all(run.ended for run in found.values()):
                    code = exit_code(found)
                    print(f"not every run has ended: {following(folder, code)}; then {again}")
                    return code
            for search in searches:
                search.tell(sweep)
        write_results(grid, searches, folder)
    return 0


def frozen(grid: Grid, searches: list[Search], folder: Path) -> Sweep:
    """The sweep of all trials so far, or of more where it was further before."""
    runs = {name: run for search in searches for trial in search.trials for name, run in trial.runs.items()}
    if (folder / "runs.json").exists():
        before = Sweep.open(folder)
        if all(before.runs.get(name) == run.model_dump(mode="json") for name, run in runs.items()):
            return before
    return Sweep.freeze(replace(grid, runs=runs), folder)


def write_results(grid: Grid, searches: list[Search], folder: Path) -> None:
    """tune.csv: every trial; tune.md: the best of each method; best.yaml: a grid of these with other seeds."""
    write_atomically(folder / "tune.csv", every_trial(searches))
    table = best_trials(grid, searches)
    write_atomically(folder / "tune.md", table)
    print(table, end="")
    best = {search.method: search.overrides | trial.values for search in searches if (trial := search.best())}
    if not best:
        print(f"{folder}: tune.md, tune.csv; next: other ranges")
        return
    used = {run.seed for run in grid.runs.values()}
    data = {key: value for key, value in grid.data.items() if key != "tune"} | {
        "name": f"{grid.name}-best",
        "caption": f"the best of {len(searches[0].trials)} settings of each method, other seeds",
        "method": list(best),
        "seed": [seed for seed in range(SEEDS + len(used)) if seed not in used][:SEEDS],
        "overrides": best,
    }
    write_atomically(folder / "best.yaml", yaml.safe_dump(data, sort_keys=False))
    print(f"{folder}: tune.md, tune.csv, best.yaml; next: dpft sweep {quote(str(folder / 'best.yaml'))}")


def every_trial(searches: list[Search]) -> str:
    """A CSV table."""
    fields = list(dict.fromkeys(field for search in searches for field in search.ranges))
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(["method", "trial", "score", *fields])
    for search in searches:
        for number, trial in enumerate(search.trials, 1):
            score = "diverged" if math.isinf(trial.score) else trial.score
            writer.writerow([search.method, number, score, *(trial.values.get(field, "") for field in fields)])
    return text.getvalue()


def best_trials(grid: Grid, searches: list[Search]) -> str:
    """A Markdown table."""
    tuning = searches[0].tuning
    scaled = all(get_task(run.task).reference_scores for run in grid.runs.values())
    unit = "D4RL-scaled return" if scaled else "return"
    when = "the last evaluation" if tuning.objective == "final" else "the evaluations after the first"
    lines = [
        f"Best of {tuning.trials} trials of each method ({tuning.sampler}, seed {tuning.seed}) by the mean {unit} of",
        f"{when}, over all runs of a trial. The best of many was lucky, too: run it again with other seeds.",
        "",
        "| method | trial | score | setting |",
        "|---|---|---|---|",
    ]
    for search in searches:
        trial = search.best()
        if trial:
            setting = ", ".join(f"{field} = {value}" for field, value in trial.values.items()).replace("|", "\\|")
            lines.append(f"| {search.method} | {search.trials.index(trial) + 1} | {trial.score:,.1f} | {setting} |")
        else:
            lines.append(f"| {search.method} | | every trial diverged | |")
    return "\n".join(lines) + "\n"

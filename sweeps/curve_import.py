"""The command `dpft import-curve`: a curve from another codebase as a run folder of ours.

The file is CSV (UTF-8, commas) with a header and one row per evaluation:

    env_steps      simulated environment steps so far, whole numbers that increase within a seed
    return         mean undiscounted evaluation return
    wall_seconds   since the start of the run; not needed
    seed           not needed; rows of several seeds may be mixed (without it: --seed)

Other columns are left out, and named. Nothing is written unless every row is sound.
"""

import argparse
import csv
import hashlib
import io
import json
import math
import os
import shlex
import tempfile
from pathlib import Path
from typing import Any

import yaml

from dpft.arguments import Parser, count, place, plain_name, seed_number, task_name, writable_folder
from dpft.envs import TASKS, DataError
from dpft.envs.files import full_disk_is_said
from dpft.methods import METHODS
from dpft.sweeps.names import segment
from dpft.sweeps.records import CURVE

DESCRIPTION = """Put a curve from another codebase beside ours: FILE.csv becomes a run folder for each of its seeds.

columns: env_steps (simulated environment steps, increasing within a seed), return (mean evaluation return,
undiscounted) and, where known, wall_seconds (since the start) and seed. One row per evaluation; other columns are left
out, and named."""
EXAMPLES = """example:
  dpft import-curve theirs.csv --method dppo-authors --task hopper-medium --eval-episodes 40 --out runs/theirs
  dpft figures runs/mine runs/theirs --out compare

The D4RL-scaled return is computed for tasks of `dpft tasks` only; any other name works and has none."""
NEEDED = ("env_steps", "return")
KNOWN = (*NEEDED, "wall_seconds", "seed")


def main(argv: list[str]) -> int:
    """Run `dpft import-curve` with these arguments. Raises DataError, one line, before anything is written."""
    parser = Parser(
        prog="dpft import-curve",
        description=DESCRIPTION,
        epilog=EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("file", type=place, metavar="FILE.csv")
    parser.add_argument(
        "--method", type=plain_name, required=True, help="its name in figures and tables, such as dppo-authors"
    )
    parser.add_argument(
        "--task", type=task_name, required=True, help="a task of ours that it was measured on, or a name of its own"
    )
    parser.add_argument("--out", type=place, required=True, help="folder; what was imported before stays in it")
    parser.add_argument("--seed", type=seed_number, help="of a file without a seed column (default: 0)")
    parser.add_argument("--denoising-steps", type=count, help="K, to be drawn among runs of that K (default: in all)")
    parser.add_argument("--eval-episodes", type=count, required=True, help="complete episodes behind each return")
    parser.add_argument("--from-scratch", action="store_true", help="its policy was not pre-trained")
    options = parser.parse_args(argv)
    if options.method in METHODS:
        method = options.method
        raise DataError(f"--method {method} is this suite's own: name theirs otherwise, such as {method}-authors")
    text = read_text(options.file)
    curves, unused = read_curves(options.file, text, options.seed)
    folders = {
        seed: options.out / "runs" / f"{segment(options.task)}_{options.method}_{_k(options)}seed{seed}"
        for seed in curves
    }
    for folder in folders.values():
        if folder.exists():
            raise DataError(f"{folder} is there already: delete it, or choose another --seed, --method or --out")
    facts = {
        "command": shlex.join(["dpft", "import-curve", *argv]),
        "imported_from": str(options.file),
        "sha256": hashlib.sha256(text.encode()).hexdigest(),
        "fine_tunes": None,
    }
    runs: Path = options.out / "runs"
    writable_folder(runs)
    # all of them are written before the first takes its name
    with full_disk_is_said(runs), tempfile.TemporaryDirectory(dir=runs, prefix=".") as temporary:
        for seed, rows in curves.items():
            write_run(Path(temporary) / folders[seed].name, _config(options, seed) | {"provenance": facts}, rows)
        for folder in folders.values():
            os.replace(Path(temporary) / folder.name, folder)
    if unused:
        print(f"columns left out: {', '.join(unused)}")
    rows_of = ", ".join(f"seed {seed}: {len(rows)} rows" for seed, rows in curves.items())
    print(f"{options.file}: {rows_of}; records in {options.out / 'runs'}")
    print(f"next: dpft figures runs/MINE {shlex.quote(str(options.out))} --out compare")
    return 0


def _k(options: argparse.Namespace) -> str:
    return "" if options.denoising_steps is None else f"K{options.denoising_steps}_"


def _config(options: argparse.Namespace, seed: int) -> dict[str, Any]:
    """What is known of such a run, by the names of our config.yaml; its base and its planned length are not."""
    return {
        "task": options.task,
        "method": options.method,
        "denoising_steps": options.denoising_steps,
        "seed": seed,
        "env_steps": None,
        "base_seed": None,
        "from_scratch": options.from_scratch,
        "eval_episodes": options.eval_episodes,
    }


def read_text(path: Path) -> str:
    """The text of a file. Raises DataError where it cannot be read as such."""
    try:
        return path.read_text("utf-8-sig")  # spreadsheets begin a file with a mark
    except OSError as error:
        raise DataError(f"cannot read {path}: {error.strerror}") from None
    except UnicodeDecodeError:
        raise DataError(f"{path}: no text; expected CSV in UTF-8 with columns {', '.join(NEEDED)}") from None


def read_curves(path: Path, text: str, seed: int | None) -> tuple[dict[int, list[dict[str, float]]], list[str]]:
    """Seed -> rows (env_steps, return, perhaps wall_seconds), and the names of columns that are not used.

    Raises DataError naming file, line and what was expected.
    """
    reader = csv.DictReader(io.StringIO(text), strict=True)
    curves: dict[int, list[dict[str, float]]] = {}
    try:
        columns = [name.strip() for name in reader.fieldnames or []]
        reader.fieldnames = columns
        missing = [name for name in NEEDED if name not in columns]
        if missing:
            found = f"has {', '.join(columns)}" if columns else "is empty"
            raise DataError(
                f"{path}, line 1: no column {' and '.join(missing)}; expected {','.join(NEEDED)}, but it {found}"
            )
        if len(set(columns)) < len(columns):
            raise DataError(f"{path}, line 1: a column is there twice; expected each name once")
        if seed is not None and "seed" in columns:
            raise DataError(f"{path} has a column seed: leave --seed out")
        for cells in reader:
            where = f"{path}, line {reader.line_num}"
            if None in cells or None in cells.values():
                raise DataError(f"{where}: not as many cells as the header; expected {len(columns)}")
            row = {name: _number(where, name, cells[name]) for name in KNOWN if name in columns}
            own = curves.setdefault(int(row.pop("seed", seed or 0)), [])
            if own and row["env_steps"] <= own[-1]["env_steps"]:
                before, now = own[-1]["env_steps"], row["env_steps"]
                raise DataError(f"{where}: env_steps {now:.0f} after {before:.0f}; expected more in each row of a seed")
            own.append(row)
    except csv.Error as error:
        raise DataError(f"{path}, line {reader.line_num}: {error}; expected CSV with commas") from None
    if not curves:
        raise DataError(f"{path}, line 2: no rows; expected one for each evaluation")
    return curves, [name for name in columns if name not in KNOWN]


def _number(where: str, name: str, cell: str) -> float:
    whole = name in ("env_steps", "seed")
    try:
        number = float(cell)
    except ValueError:
        number = math.nan
    if not math.isfinite(number) or (whole and not (number.is_integer() and 0 <= number <= 2**53)):
        raise DataError(
            f"{where}: {name} is {cell!r}; expected a {'whole number from 0' if whole else 'finite number'}"
        )
    return number


def write_run(folder: Path, config: dict[str, Any], rows: list[dict[str, float]]) -> None:
    """A finished run's config.yaml, curve.csv and done.json in a new folder."""
    task = TASKS.get(config["task"])
    buffer = io.StringIO()
    writer = csv.DictWriter(buffer, CURVE, restval="", lineterminator="\n")
    writer.writeheader()
    for row in rows:
        scaled = task.normalised(row["return"]) if task else None
        writer.writerow(
            {
                "env_steps": int(row["env_steps"]),
                "wall_seconds": row.get("wall_seconds", ""),
                "return_mean": row["return"],
                "return_normalised": "" if scaled is None else scaled,
                "episodes": config["eval_episodes"],
            }
        )
    last = rows[-1]
    done = {"status": "done", "reason": None, "env_steps": int(last["env_steps"])}
    folder.mkdir()
    (folder / "config.yaml").write_text(yaml.safe_dump(config, sort_keys=False))
    (folder / "curve.csv").write_text(buffer.getvalue())
    (folder / "done.json").write_text(json.dumps(done, indent=1) + "\n")

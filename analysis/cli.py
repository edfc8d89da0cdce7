"""The command `dpft figures`."""

import argparse
import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from analysis.load import Records

DESCRIPTION = "Draw the figures and the table of sweeps from their records alone; nothing is trained or simulated."
EXAMPLES = """examples:
  dpft figures runs/quickstart                              into runs/quickstart/figures
  dpft figures runs/mine results/quickstart --out compare   both sweeps on the same axes, into compare/
  dpft figures                                              every sweep of results/ again"""


def figures(argv: list[str]) -> int:
    """Run `dpft figures` with these arguments; returns the exit code (2 where a sweep has nothing to draw)."""
    parser = argparse.ArgumentParser(
        "dpft figures", description=DESCRIPTION, epilog=EXAMPLES, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("path", nargs="*", type=Path, help="sweep (runs/NAME, results/NAME) or run; default: results/*")
    parser.add_argument(
        "--out", type=Path, help="draw all of them together, into this folder; default: PATH/figures each"
    )
    args = parser.parse_args(argv)

    from analysis.load import RecordError, load  # here, so that help and mistyped options answer at once

    paths = args.path or sorted(path for path in Path("results").glob("*") if path.is_dir())
    if not paths:
        print("no sweep in results/: name one (dpft figures runs/NAME) or make one (make quickstart)", file=sys.stderr)
        return 2
    jobs = [(paths, args.out)] if args.out else [([path], path / "figures") for path in paths]
    code = 0
    for sources, out in jobs:
        try:
            records = load(sources)
        except RecordError as error:
            print(error, file=sys.stderr)
            code = 2
            continue
        for warning in records.warnings:
            print(f"warning: {warning}", file=sys.stderr)
        write(records, sources, out)
        counts = records.runs["status"].value_counts()
        fates = ", ".join(f"{counts[fate]} {fate}" for fate in ("done", "failed", "unfinished") if fate in counts)
        print(f"{', '.join(map(str, sources))}: runs: {fates}; drawn in {out}")
        print(f"Look next at {out / 'summary.md'} (the table) and {out / 'sample_efficiency.png'}.")
    return code


def write(records: "Records", sources: list[Path], out: Path) -> None:
    """Write every figure as PNG and SVG, and summary.md with their captions and the table."""
    from analysis.figures import FIGURES, save
    from analysis.tables import NOTE, results_table, unfinished_list

    out.mkdir(parents=True, exist_ok=True)
    text = ["# " + ", ".join(sorted(records.runs["sweep"].unique())), results_table(records), NOTE]
    for name, (draw, caption) in FIGURES.items():
        figure = draw(records)
        for suffix in (".png", ".svg"):
            save(figure, out / f"{name}{suffix}")
        text.append(f"![{name.replace('_', ' ')}]({name}.png)\n\n{caption(records)}")
    if unfinished := unfinished_list(records):
        text.append(f"## Runs without a result\n\n{unfinished}")
    if records.warnings:
        listed = "".join(f"- {warning}\n" for warning in records.warnings)
        for source in sources:  # the same text wherever the sweep lies
            listed = listed.replace(f"{source}/", "")
        text.append(f"## Records that could not be used\n\n{listed}")
    temporary = out / f".summary.md.{os.getpid()}"
    temporary.write_text("\n\n".join(part.strip() for part in text) + "\n")
    os.replace(temporary, out / "summary.md")

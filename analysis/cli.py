"""The command `dpft figures`."""

import argparse
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from dpft.arguments import Parser, place, printable

if TYPE_CHECKING:
    from dpft.analysis.load import Records

MOST = 10  # warnings that are printed
DESCRIPTION = """Draw the figures and tables of sweeps from their records alone; nothing is trained or simulated. Each
figure that the records allow is written as PNG, SVG and PDF, the table as Markdown (summary.md), CSV and LaTeX."""
EXAMPLES = """examples:
  dpft figures runs/quickstart                              into runs/quickstart/figures
  dpft figures runs/mine results/quickstart --out compare   both sweeps on the same axes, into compare/
  dpft figures runs/mine --ablate clip                      the final return against values of a config field
  dpft figures                                              every sweep of results/ again"""


def figures(argv: list[str]) -> int:
    """Run `dpft figures` with these arguments; returns the exit code (2 where a sweep has nothing to draw)."""
    parser = Parser(
        prog="dpft figures",
        description=DESCRIPTION,
        epilog=EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument(
        "path", nargs="*", type=place, help="sweep (runs/NAME, results/NAME) or run; default: results/*"
    )
    parser.add_argument(
        "--out", type=place, help="draw all of them together, into this folder; default: PATH/figures each"
    )
    parser.add_argument("--ablate", metavar="FIELD", help="a config field, dotted or by its last part")
    parser.add_argument("--style", choices=("light", "dark"), default="light", help="of the background")
    args = parser.parse_args(argv)

    from dpft.analysis.load import RecordError, load  # here, so that help and mistyped options answer at once
    from dpft.analysis.speed import FILE, write_speed

    paths = args.path or sorted(path for path in Path("results").glob("*") if path.is_dir())
    if not paths:
        print("no sweep in results/: name one (dpft figures runs/NAME) or make one (make quickstart)", file=sys.stderr)
        return 2
    jobs = [(paths, args.out)] if args.out else [([path], path / "figures") for path in paths]
    code = 0
    for sources, out in jobs:
        try:
            if [(source / FILE).exists() for source in sources] == [True]:
                write_speed(sources[0], out, args.style)
                print(f"{sources[0]}: benchmarks; drawn in {out}")
                continue
            records = load(sources, args.ablate)
        except RecordError as error:
            print(printable(f"dpft figures: {error}"), file=sys.stderr)
            code = 2
            continue
        for warning in records.warnings[:MOST]:
            print(f"warning: {warning}", file=sys.stderr)
        if len(records.warnings) > MOST:
            print(f"and {len(records.warnings) - MOST} more warnings, all in the summary", file=sys.stderr)
        names, lacking = write(records, sources, out, args.ablate, args.style)
        counts = records.runs["status"].value_counts()
        fates = ", ".join(f"{counts[fate]} {fate}" for fate in ("done", "failed", "unfinished") if fate in counts)
        print(f"{', '.join(map(str, sources))}: runs: {fates}; drawn in {out}: {', '.join(names) or 'no figure'}")
        if lacking:
            print("not drawn: " + "; ".join(f"{name} ({reason})" for name, reason in lacking.items()))
        print(f"Look next at {out / (f'ablation_{args.ablate}.md' if args.ablate else 'summary.md')}.")
    return code


def write(
    records: "Records", sources: list[Path], out: Path, ablate: str | None = None, look: str = "light"
) -> tuple[list[str], dict[str, str]]:
    """Write every figure that can be drawn, and summary.md, results.csv and results.tex.

    With ablate, the ablation alone. Returns the figures' names, and why the others were not drawn.
    """
    from dpft.analysis.captions import NothingToDraw
    from dpft.analysis.figures import FIGURES
    from dpft.analysis.scores import ablation
    from dpft.analysis.style import FORMATS, add_caption, save, style, write_atomically
    from dpft.analysis.tables import (
        ABLATION_NOTE,
        NOTE,
        ablation_table,
        results_csv,
        results_latex,
        results_table,
        unfinished_list,
    )

    out.mkdir(parents=True, exist_ok=True)
    tables = [ablation_table(records, ablate), ABLATION_NOTE] if ablate else [results_table(records), NOTE]
    text = ["# " + ", ".join(sorted(records.runs["sweep"].unique())), *tables]
    kinds = {f"ablation_{ablate}": lambda records: ablation(records, str(ablate))} if ablate else FIGURES
    names: list[str] = []
    lacking: dict[str, str] = {}
    for name, draw in kinds.items():
        with style(look):
            try:
                figure, caption = draw(records)
            except NothingToDraw as reason:
                lacking[name] = str(reason)
                continue
            add_caption(figure, caption)
            for suffix in FORMATS:
                save(figure, out / f"{name}{suffix}")
        names.append(name)
        text.append(f"## {name.replace('_', ' ').capitalize()}\n\n![{name}]({name}.png)\n\n{caption}")
    if unfinished := unfinished_list(records):
        text.append(f"## Runs without a result\n\n{unfinished}")
    if records.warnings:
        listed = "".join(f"- {warning}\n" for warning in records.warnings)
        for source in sources:  # the same text wherever the sweep lies
            listed = listed.replace(f"{source}/", "")
        text.append(f"## Records that could not be used\n\n{listed}")
    if not ablate:
        write_atomically(out / "results.csv", results_csv(records))
        write_atomically(out / "results.tex", results_latex(records))
    summary = "summary.md" if not ablate else f"ablation_{ablate}.md"
    write_atomically(out / summary, "\n\n".join(part.strip() for part in text) + "\n")
    return names, lacking

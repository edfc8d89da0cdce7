"""The command `dpft figures`."""

import argparse
import difflib
import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from dpft.arguments import Parser, place, printable

if TYPE_CHECKING:
    from dpft.analysis.captions import Draw
    from dpft.analysis.load import Records

MOST = 10  # warnings that are printed
DESCRIPTION = """Draw the figures and tables of sweeps from their records alone; nothing is trained or simulated. Each
figure that the records allow is written as PNG, SVG and PDF at the size it has in a paper (a column of 3.3 inches, a
page of 6.8); its caption and the table are in summary.md, the table as CSV and LaTeX, too."""
EXAMPLES = """examples:
  dpft figures runs/quickstart                              into runs/quickstart/figures
  dpft figures runs/mine results/quickstart --out compare   both sweeps on the same axes, into compare/
  dpft figures runs/mine --ablate clip                      the final return against values of a config field
  dpft figures runs/mine --only compute --format pdf        one figure for a paper
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
    parser.add_argument(
        "--only", nargs="+", metavar="NAME", help="these figures alone, and no tables; captions are printed"
    )
    parser.add_argument("--format", nargs="+", choices=("png", "svg", "pdf"), help="kinds of files; default: all three")
    parser.add_argument("--caption", action="store_true", help="write the caption below each figure")
    parser.add_argument("--style", choices=("light", "dark"), default="light", help="of the background")
    args = parser.parse_args(argv)

    os.environ["MPLBACKEND"] = "agg"  # a notebook's, which its child processes inherit, need not even be installed here
    from dpft.analysis.load import load  # here, so that help and mistyped options answer at once
    from dpft.analysis.reading import RecordError
    from dpft.analysis.speed import FILE, write_speed
    from dpft.analysis.style import FORMATS

    paths = args.path or sorted(path for path in Path("results").glob("*") if path.is_dir())
    if not paths:
        print(
            "dpft figures: no sweep in results/: name one (dpft figures runs/NAME) or make one (make quickstart)",
            file=sys.stderr,
        )
        return 2
    jobs = [(paths, args.out)] if args.out else [([path], path / "figures") for path in paths]
    formats = args.format or FORMATS
    code = 0
    for sources, out in jobs:
        try:
            if [os.path.exists(source / FILE) for source in sources] == [True]:
                write_speed(sources[0], out, args.style, formats, args.caption)
                print(f"{sources[0]}: benchmarks; drawn in {out}")
                continue
            kinds = _chosen(args.only, args.ablate)
            records = load(sources, args.ablate)
            for warning in records.warnings[:MOST]:
                print(f"warning: {warning}", file=sys.stderr)
            if len(records.warnings) > MOST:
                print(f"and {len(records.warnings) - MOST} more warnings, all in the summary", file=sys.stderr)
            captions, lacking = draw(records, out, kinds, args.style, formats, args.caption)
            if not args.only:
                write_tables(records, sources, out, args.ablate, captions, formats)
        except RecordError as error:
            print(printable(f"dpft figures: {error}"), file=sys.stderr)
            code = 2
            continue
        counts = records.runs["status"].value_counts()
        fates = ", ".join(f"{counts[fate]} {fate}" for fate in ("done", "failed", "unfinished") if fate in counts)
        print(f"{', '.join(map(str, sources))}: runs: {fates}; drawn in {out}: {', '.join(captions) or 'no figure'}")
        if lacking:
            print("not drawn: " + "; ".join(f"{name} ({reason})" for name, reason in lacking.items()))
        if args.only:
            print("\n".join(f"{name}: {caption}" for name, caption in captions.items()))
        else:
            print(f"Look next at {out / _summary(args.ablate)}.")
    return code


def _chosen(only: Sequence[str] | None, ablate: str | None) -> "dict[str, Draw]":
    """The figures to draw, by name. Raises RecordError for a name that is none."""
    from dpft.analysis.figures import FIGURES
    from dpft.analysis.reading import RecordError
    from dpft.analysis.scores import ablation

    if ablate:
        return {f"ablation_{ablate}": lambda records: ablation(records, ablate)}
    for name in only or ():
        if name not in FIGURES:
            near = difflib.get_close_matches(name, FIGURES, 1)
            hint = f"did you mean {near[0]}?" if near else f"there are {', '.join(FIGURES)}"
            raise RecordError(f"--only {name!r}: no such figure: {hint}")
    return {name: function for name, function in FIGURES.items() if not only or name in only}


def draw(
    records: "Records", out: Path, kinds: "dict[str, Draw]", look: str, formats: Sequence[str], captioned: bool
) -> tuple[dict[str, str], dict[str, str]]:
    """Write every figure that can be drawn; returns their captions by name, and why the others were not drawn."""
    from dpft.analysis.captions import NothingToDraw
    from dpft.analysis.style import add_caption, make_folder, picture, style, write_atomically

    make_folder(out)
    captions: dict[str, str] = {}
    lacking: dict[str, str] = {}
    for name, function in kinds.items():
        with style(look):
            try:
                figure, captions[name] = function(records)
            except NothingToDraw as reason:
                lacking[name] = str(reason)
                continue
            if captioned:
                add_caption(figure, captions[name])
            for kind in formats:
                write_atomically(out / f"{name}.{kind}", picture(figure, kind))
    return captions, lacking


def _summary(ablate: str | None) -> str:
    return f"ablation_{ablate}.md" if ablate else "summary.md"


def write_tables(
    records: "Records",
    sources: list[Path],
    out: Path,
    ablate: str | None,
    captions: dict[str, str],
    formats: Sequence[str],
) -> None:
    """Write results.csv, results.tex and the summary: the table, every figure with its caption, what is lacking.

    With ablate, the ablation's summary alone.
    """
    from dpft.analysis.escape import markdown
    from dpft.analysis.style import write_atomically
    from dpft.analysis.tables import (
        ABLATION_NOTE,
        NOTE,
        ablation_table,
        results_csv,
        results_latex,
        results_table,
        unfinished_list,
    )

    tables = [ablation_table(records, ablate), ABLATION_NOTE] if ablate else [results_table(records), NOTE]
    text = ["# " + markdown(", ".join(sorted(records.runs["sweep"].unique()))), *tables]
    shown = next((kind for kind in formats if kind != "pdf"), None)
    for name, caption in captions.items():
        link = f"![{name}]({name}.{shown})" if shown else f"[{name}]({name}.pdf)"
        text.append(f"## {name.replace('_', ' ').capitalize()}\n\n{link}\n\n{markdown(caption)}")
    if unfinished := unfinished_list(records):
        text.append(f"## Runs without a result\n\n{unfinished}")
    if records.warnings:
        listed = "".join(f"- {markdown(warning)}\n" for warning in records.warnings)
        for source in sources:  # the same text wherever the sweep lies
            listed = listed.replace(f"{markdown(str(source))}/", "")
        text.append(f"## Records that could not be used\n\n{listed}")
    if not ablate:
        write_atomically(out / "results.csv", results_csv(records))
        write_atomically(out / "results.tex", results_latex(records))
    write_atomically(out / _summary(ablate), "\n\n".join(part.strip() for part in text) + "\n")

"""The command `dpft report`: one HTML page about a sweep, which needs nothing but itself."""

import argparse
import base64
import hashlib
import html
import json
import os
import sys
from collections import Counter
from importlib.resources import files
from pathlib import Path
from string import Template
from typing import TYPE_CHECKING

from dpft.arguments import Parser, place

if TYPE_CHECKING:
    from dpft.analysis.load import Records

DESCRIPTION = """Write one HTML page about a sweep: its results, figures (hover shows values, the legend hides lines),
tables (a click sorts, words filter), every run with its records, hyperparameters, the commands that make it all
again, and what it was made with. It loads nothing from a network; links to records work where it lies beside them."""
EXAMPLES = """examples:
  dpft report runs/quickstart                    into runs/quickstart/report.html
  dpft report results/hopper --out hopper.html"""


def report(argv: list[str]) -> int:
    """Run `dpft report` with these arguments; returns the exit code (2 where there is nothing to report)."""
    parser = Parser(
        prog="dpft report",
        description=DESCRIPTION,
        epilog=EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("sweep", type=place, help="sweep (runs/NAME, results/NAME) or run")
    parser.add_argument("--out", type=place, help="an HTML file; default: SWEEP/report.html")
    options = parser.parse_args(argv)

    os.environ["MPLBACKEND"] = "agg"  # a notebook's need not be installed here
    from dpft.analysis.load import load  # here, so that help and mistyped options answer at once
    from dpft.analysis.reading import RecordError
    from dpft.analysis.style import make_folder, write_atomically

    out = options.out or options.sweep / "report.html"
    try:
        records = load([options.sweep])
        make_folder(out.parent)
        write_atomically(out, page(records, options.sweep, out))
    except RecordError as error:
        print(f"dpft report: {error}", file=sys.stderr)
        return 2
    print(f"{options.sweep}: {len(records.runs)} runs; report in {out}")
    print(f"Open it in a browser: {out.resolve().as_uri()}")
    return 0


def page(records: "Records", sweep: Path, out: Path) -> str:
    """The page, to be written to out: links are relative to it. The answer comes first, versions last."""
    from dpft.analysis import sections as parts

    drawings, points = parts.figures(records)
    found = {
        "Results": parts.results(records) + "".join(drawings[:1]),
        "Figures": "\n".join(drawings[1:]),
        "Runs": parts.runs(records, sweep, out),
        "Hyperparameters": parts.hyperparameters(records),
        "Make it again": parts.commands(records, sweep),
        "Records that could not be used": parts.faults(records),
        "What was run": parts.what_was_run(records, sweep),
    }
    sections = {title: body for title, body in found.items() if body}
    anchors = {title: title.lower().replace(" ", "-") for title in sections}
    fates = Counter(records.runs["status"])
    counts = ", ".join(f"{fates[fate]} {fate}" for fate in ("done", "failed", "unfinished") if fates[fate])
    style, script = (f"\n{(files('dpft.analysis') / f'report.{kind}').read_text()}" for kind in ("css", "js"))
    return Template((files("dpft.analysis") / "report.html").read_text()).substitute(
        policy=f"default-src 'none'; img-src data:; style-src {_hash(style)}; script-src {_hash(script)}; "
        "base-uri 'none'; form-action 'none'",
        title=html.escape(", ".join(sorted(records.runs["sweep"].unique()))),
        lead=html.escape(" ".join([*(f"{caption.rstrip('.')}." for caption in records.captions), f"Runs: {counts}."])),
        contents="".join(f'<a href="#{anchor}">{html.escape(title)}</a>' for title, anchor in anchors.items()),
        sections="\n".join(
            f'<section id="{anchors[title]}">\n<h2>{html.escape(title)}</h2>\n{body}\n</section>'
            for title, body in sections.items()
        ),
        points=json.dumps(points, allow_nan=False, separators=(",", ":")).replace("<", "\\u003c"),
        style=style,
        script=script,
    )


def _hash(text: str) -> str:
    return f"'sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}'"

"""The command `dpft report`: one HTML page about a sweep, which needs nothing but itself."""

import argparse
import base64
import hashlib
import html
import json
import os
import shlex
import sys
from collections import Counter
from collections.abc import Iterable, Sequence
from importlib.resources import files
from pathlib import Path
from string import Template
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

from dpft.arguments import Parser, place

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    from dpft.analysis.load import Records

DESCRIPTION = """Write one HTML page about a sweep: what was run, figures (hover shows values), tables (a click sorts),
every run with its records, hyperparameters, and the commands that make it all again. It loads nothing from a network;
links to records work where it lies beside them."""
EXAMPLES = """examples:
  dpft report runs/quickstart                    into runs/quickstart/report.html
  dpft report results/hopper --out hopper.html"""
PIXELS = 150  # of the page for an inch of a figure
LONG = 60  # characters; longer cells are wrapped
RECORDS = ("config.yaml", "curve.csv", "episodes.csv", "metrics.csv", "run.log", "error.txt", "video.mp4")


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
    """The page, to be written to out: links are relative to it."""
    drawings, points = figures(records)
    sections = {
        "What was run": what_was_run(records, sweep),
        "Figures": drawings,
        "Results": results(records),
        "Runs": runs(records, sweep, out),
        "Hyperparameters": hyperparameters(records),
        "Make it again": commands(records, sweep),
    }
    if records.warnings:
        listed = "".join(f"<li>{html.escape(warning)}</li>" for warning in records.warnings)
        sections["Records that could not be used"] = f"<ul>{listed}</ul>"
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


def table(head: Sequence[str], cells: Iterable[Sequence[str]], sortable: bool = True) -> str:
    """An HTML table; head is text, cells are HTML. Columns of numbers stand to the right."""
    body = list(cells)
    numbers = [
        any(row[i] for row in body) and all(row[i][:1] in "-+0123456789" for row in body) for i in range(len(head))
    ]
    kinds = [' class="number"' if number else "" for number in numbers]
    names = [f'<button type="button">{html.escape(name)}</button>' if sortable else html.escape(name) for name in head]
    first = "".join(f'<th scope="col"{kind}>{name}</th>' for kind, name in zip(kinds, names, strict=True))
    lines = (
        "".join(f"<td{_long(cell) or kind}>{cell}</td>" for kind, cell in zip(kinds, row, strict=True)) for row in body
    )
    rows = "".join(f"\n<tr>{line}</tr>" for line in lines)
    start = '<table class="sortable">' if sortable else "<table>"
    return f'<div class="wide">{start}<thead><tr>{first}</tr></thead><tbody>{rows}</tbody></table></div>'


def _long(cell: str) -> str:
    return ' class="text"' if len(cell) > LONG and "<" not in cell else ""


# -- sections ---------------------------------------------------------------------------------------------------------


def what_was_run(records: "Records", sweep: Path) -> str:
    """Axes, software, hardware and time, each value with the number of its runs where they differ; the grid itself."""
    configs = list(records.configs.values())
    facts = [config.get("provenance") or {} for config in configs]
    names = {"task": "tasks", "method": "methods", "denoising_steps": "denoising steps K", "seed": "seeds"}
    names |= {"env_steps": "planned environment steps", "eval_episodes": "episodes per evaluation"}
    rows = [(title, _values(config.get(name) for config in configs)) for name, title in names.items()]
    packages = dict.fromkeys(name for fact in facts for name in fact.get("versions") or {})
    rows += [(name, _values((fact.get("versions") or {}).get(name) for fact in facts)) for name in packages]
    machine = {"cpu": "CPU", "cores": "cores", "memory_gib": "memory, GiB", "gpu": "GPU"}
    rows += [
        (title, _values((fact.get("hardware") or {}).get(name) for fact in facts)) for name, title in machine.items()
    ]
    origin = {"git_commit": "git commit", "imported_from": "imported from"}
    rows += [(title, _values(fact.get(name) for fact in facts)) for name, title in origin.items()]
    hours = records.curves.groupby("run")["wall_seconds"].max().sum() / 3600
    started = sorted(str(fact["started"]) for fact in facts if fact.get("started"))
    rows.append(("started", f"{started[0]} to {started[-1]}" if started else ""))
    rows.append(("hours of all runs", f"{hours:.1f}"))
    text = table(("", ""), [(html.escape(title), html.escape(value)) for title, value in rows if value], sortable=False)
    if (sweep / "grid.yaml").exists():
        grid = html.escape((sweep / "grid.yaml").read_text(errors="replace"))
        text += f"\n<details><summary>The grid, grid.yaml</summary><pre>{grid}</pre></details>"
    return text


def _values(values: Iterable[Any]) -> str:
    """Distinct values in their order; with the number of runs of each where there are several long ones."""
    counts = Counter(str(value) for value in values if value is not None)
    ordered = sorted(counts, key=lambda text: (not text.isdigit(), int(text) if text.isdigit() else 0, text))
    several = len(counts) > 1 and max(map(len, counts)) > 20
    return ", ".join(f"{text} ({counts[text]} runs)" if several else text for text in ordered)


def figures(records: "Records") -> tuple[str, dict[str, Any]]:
    """Every figure as an image, light and dark, with its caption; and for each the points that hovering finds."""
    from rich.console import Console
    from rich.progress import track

    from dpft.analysis.captions import NothingToDraw
    from dpft.analysis.figures import FIGURES

    console, parts, points = Console(stderr=True), [], {}
    for name, draw in track(
        FIGURES.items(), "drawing", console=console, transient=True, disable=not console.is_terminal
    ):
        try:
            (figure, caption, light), (_, _, dark) = (drawn(draw, records, look) for look in ("light", "dark"))
        except NothingToDraw:
            continue
        points[name] = hover_points(figure, records)
        width, height = (round(PIXELS * inches) for inches in figure.get_size_inches())
        text = html.escape(caption)
        parts.append(
            f'<figure id="{name}">\n<h3>{html.escape(name.replace("_", " ").capitalize())}</h3>\n<div class="wide">'
            f'<picture><source media="(prefers-color-scheme: dark)" srcset="{dark}"><img src="{light}" '
            f'class="drawing panels-{min(3, round(width / PIXELS / 3.4))}" data-name="{name}" '
            f'width="{width}" height="{height}" alt="{text}"></picture></div>\n'
            f"<figcaption>{text}</figcaption>\n</figure>"
        )
    return "\n".join(parts), points


def drawn(draw: Any, records: "Records", look: str) -> tuple["Figure", str, str]:
    """A figure, its caption and its SVG as a data URI. Raises NothingToDraw."""
    from dpft.analysis.style import picture, style

    with style(look):
        figure, caption = draw(records)
        return figure, caption, f"data:image/svg+xml;base64,{base64.b64encode(picture(figure, 'svg')).decode()}"


def results(records: "Records") -> str:
    """The suite's table of results, sortable."""
    from dpft.analysis.tables import NOTE, results_cells

    found = results_cells(records)
    cells = found.written(html.escape, lambda cell: f"<b>{cell}</b>")
    return f'{table(found.head, cells)}\n<p class="note">{html.escape(NOTE)}</p>'


def runs(records: "Records", sweep: Path, out: Path) -> str:
    """Every run with its fate and links to its records; those of the grid that never began as well."""
    import pandas as pd

    ends = records.curves.groupby("run").last()
    rows = []
    for run in records.runs.to_dict("records"):
        folder = Path(run["run"])
        end = ends.loc[run["run"]] if run["run"] in ends.index else {}
        links = [_link(folder / name, name, out) for name in RECORDS if (folder / name).exists()]
        fate = f'<span class="{run["status"]}">{run["status"]}</span>'
        rows.append(
            [
                _link(folder, folder.name, out),
                html.escape(run["task"]),
                html.escape(str(run["method"])),
                "" if pd.isna(run["denoising_steps"]) else str(run["denoising_steps"]),
                html.escape(str(run["seed"])),
                fate,
                f"{end['env_steps']:,.0f}" if len(end) else "",
                f"{end['return_mean']:.1f}" if len(end) else "",
                f"{end['wall_seconds'] / 60:.1f}" if len(end) and end["wall_seconds"] >= 0 else "",
                html.escape(run["reason"]),
                " ".join(links),
            ]
        )
    head = ("run", "task", "method", "K", "seed", "status", "env steps", "last return", "minutes", "reason", "records")
    text = table(head, rows)
    known = {Path(run).name for run in records.runs["run"]}
    planned = json.loads((sweep / "runs.json").read_text()) if (sweep / "runs.json").exists() else {}
    missing = "".join(f"<li>{html.escape(name)}</li>" for name in planned if name not in known)
    if missing:
        text += f"\n<h3>In the grid, without records</h3>\n<ul>{missing}</ul>"
    if (sweep / "slurm").is_dir():
        text += f"\n<p>{_link(sweep / 'slurm', 'Logs of the SLURM jobs', out)}</p>"
    return text


def _link(path: Path, text: str, out: Path) -> str:
    there = quote(os.path.relpath(path.resolve(), out.parent.resolve()))
    return f'<a href="{html.escape(there)}">{html.escape(text)}</a>'


def hyperparameters(records: "Records") -> str:
    """Every field of the config: those that all experiments share, then those that differ, a column each."""
    from dpft.analysis.names import experiment_name
    from dpft.analysis.reading import flat

    columns: dict[str, dict[str, str]] = {}  # experiment -> field -> values
    for experiment, own in records.experiments():
        found: dict[str, dict[str, None]] = {}
        for run in own.runs["run"]:
            for name, value in flat(records.configs[run]):
                if not name.startswith("provenance."):
                    found.setdefault(name, {})[value] = None
        k = experiment["denoising_steps"]
        title = ", ".join(
            filter(None, [experiment["task"], experiment_name(experiment), "" if k is None else f"K = {k}"])
        )
        columns[title] = {name: ", ".join(values) for name, values in found.items()}
    fields = dict.fromkeys(name for column in columns.values() for name in column)
    same = {name for name in fields if len({column.get(name) for column in columns.values()}) == 1}
    first = next(iter(columns.values()))
    shared = table(("field", "value"), [(html.escape(n), html.escape(first[n])) for n in fields if n in same])
    differ = [
        (html.escape(name), *(html.escape(column.get(name, "")) for column in columns.values()))
        for name in fields
        if name not in same
    ]
    text = f"<h3>What differs</h3>\n{table(('field', *columns), differ)}\n" if differ else ""
    return f"{text}<details><summary>The same in all runs: {len(same)} fields</summary>{shared}</details>"


def commands(records: "Records", sweep: Path) -> str:
    """The shell commands that lead to these runs and to each figure."""
    from dpft.analysis.figures import FIGURES

    facts = [config.get("provenance") or {} for config in records.configs.values()]
    newest = max(facts, key=lambda fact: str(fact.get("started"))).get("git_commit")
    where = shlex.quote(str(sweep))
    if (sweep / "grid.yaml").exists():
        made = [f"dpft sweep {where}/grid.yaml --out runs/{shlex.quote(sweep.resolve().name)}"]
    else:
        made = list(dict.fromkeys(str(fact["command"]) for fact in facts if fact.get("command")))
    parts = {
        "The runs": [
            *([f"git checkout {str(newest).removesuffix('-modified')}"] if newest else []),
            "make setup",
            *made,
        ],
        "This page": [f"dpft report {where}"],
    }
    parts |= {f"Figure: {name.replace('_', ' ')}": [f"dpft figures {where}  # figures/{name}.png"] for name in FIGURES}
    text = [f"<h3>{title}</h3>\n<pre>{html.escape(chr(10).join(lines))}</pre>" for title, lines in parts.items()]
    if len({fact.get("git_commit") for fact in facts}) > 1:
        text.insert(1, '<p class="note">The commit is that of the newest run; all are listed under What was run.</p>')
    return "\n".join(text)


# -- hovering ---------------------------------------------------------------------------------------------------------


def hover_points(figure: "Figure", records: "Records") -> list[dict[str, Any]]:
    """What a drawn figure shows where: for each panel its title, axes and series of points.

    A point is [left, top, x, y]: its place as shares of the figure's width and height, and its values as text.
    """
    from matplotlib.colors import to_hex

    from dpft.analysis.names import experiment_name
    from dpft.analysis.style import looks

    curves = {
        _key(own["return_mean"]): f"{experiment_name(experiment)}, seed {own['seed'].iloc[0]}"
        for experiment, mine in records.experiments()
        for _, own in mine.curves.groupby("run")
    }
    colours: dict[str, str] = {}  # of lines that are no run's: means
    for name, kind in looks(records).items():
        colours.setdefault(to_hex(kind["color"]), name)
    labels = {kind: [getattr(axis, f"get_{kind}label")() for axis in figure.axes] for kind in "xy"}
    shared = {kind: next(filter(None, found), kind) for kind, found in labels.items()}  # only outer panels are labelled
    return [
        {
            "title": axis.get_title(),
            "x": x or shared["x"],
            "y": y or shared["y"],
            "series": _series(axis, curves, colours),
        }
        for axis, x, y in zip(figure.axes, labels["x"], labels["y"], strict=True)
    ]


def _series(axis: "Axes", curves: dict[tuple[float, ...], str], colours: dict[str, str]) -> list[dict[str, Any]]:
    """Lines and dots of an axis that stand at values, not at shares of the axis as its dashed levels do."""
    import numpy as np
    from matplotlib.collections import PathCollection
    from matplotlib.colors import to_hex

    drawn: list[tuple[Any, np.ndarray, Any]] = [
        (line, np.asarray(line.get_xydata(), float), line.get_color())
        for line in axis.get_lines()
        if line.get_transform().contains_branch(axis.transData)
    ]
    drawn += [
        (dots, np.asarray(dots.get_offsets(), float), dots.get_facecolor()[0])
        for dots in axis.collections
        if isinstance(dots, PathCollection) and len(dots.get_facecolor())
    ]
    found = []
    for artist, values, colour in drawn:
        values = values[np.isfinite(values).all(axis=1)]
        places = axis.transData.transform(values)
        inside = [axis.bbox.padded(1).contains(*place) for place in places]
        shares = places / axis.figure.bbox.size
        label = str(artist.get_label())
        name = artist.get_gid() or curves.get(_key(values[:, 1])) or ("" if label.startswith("_") else label)
        points = [
            [round(float(left), 5), round(float(1 - up), 5), _text(x), _text(y)]
            for (left, up), (x, y), seen in zip(shares, values, inside, strict=True)
            if seen
        ]
        if points:
            found.append({"name": name or colours.get(to_hex(colour), ""), "points": points})
    return found


def _key(values: Iterable[float]) -> tuple[float, ...]:
    return tuple(map(float, values))


def _text(value: float) -> str:
    return f"{value:,.0f}" if abs(value) >= 1000 else f"{value:.4g}"

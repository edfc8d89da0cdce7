"""The parts of a report's page, each as HTML."""

import base64
import html
import os
import re
import shlex
from collections import Counter
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pandas as pd
from matplotlib.figure import Figure
from rich.console import Console
from rich.progress import track

from dpft.analysis import escape
from dpft.analysis.captions import Draw, NothingToDraw
from dpft.analysis.figures import FIGURES
from dpft.analysis.hover import hover_points, toggles
from dpft.analysis.load import Records
from dpft.analysis.names import NAMES, experiment_name, natural, one_line, rank
from dpft.analysis.reading import flat, read_json
from dpft.analysis.style import looks, picture, style
from dpft.analysis.tables import NOTE, results_cells

PIXELS = 150  # of the page for an inch of a figure
LONG = 60  # characters; longer cells are wrapped
FILTERED = 6  # rows; a longer table can be filtered
RECORDS = ("config.yaml", "curve.csv", "episodes.csv", "metrics.csv", "run.log", "error.txt", "video.mp4")


def table(head: Sequence[str], cells: Iterable[Sequence[str]], sortable: bool = True) -> str:
    """An HTML table; head is text, cells are HTML. Columns of numbers stand to the right, the first one stays."""
    body = list(cells)
    numbers = [
        any(row[i] for row in body) and all(row[i].removeprefix("<b>")[:1] in "-+0123456789" for row in body)
        for i in range(len(head))
    ]
    kinds = [' class="number"' if number else "" for number in numbers]
    names = [f'<button type="button">{html.escape(name)}</button>' if sortable else html.escape(name) for name in head]
    first = "".join(f'<th scope="col"{kind}>{name}</th>' for kind, name in zip(kinds, names, strict=True))
    lines = (
        "".join(f"<td{_long(cell) or kind}>{cell}</td>" for kind, cell in zip(kinds, row, strict=True)) for row in body
    )
    rows = "".join(f"\n<tr>{line}</tr>" for line in lines)
    start = '<table class="sortable">' if sortable else "<table>"
    search = '<input type="search" class="filter" placeholder="filter rows" aria-label="filter rows">\n'
    box = search if sortable and len(body) > FILTERED else ""
    return f'{box}<div class="wide">{start}<thead><tr>{first}</tr></thead><tbody>{rows}</tbody></table></div>'


def _long(cell: str) -> str:
    return ' class="text"' if len(cell) > LONG and "<" not in cell else ""


def differing(head: Sequence[str], cells: Sequence[Sequence[str]], kept: Sequence[str]) -> str:
    """A table of the columns in which rows differ, or that are kept; what is the same in all is said above it."""
    columns = range(len(head))
    same = [i for i in columns if head[i] not in kept and len(cells) > 1 and len({row[i] for row in cells}) == 1]
    left = [i for i in columns if i not in same]
    said = "; ".join(f"{html.escape(head[i])} {cells[0][i]}" for i in same if cells[0][i] not in ("", "-"))
    note = f'<p class="note">The same in all rows: {said}.</p>\n' if said else ""
    return note + table([head[i] for i in left], [[row[i] for i in left] for row in cells])


def results(records: Records) -> str:
    """The suite's table of results: method and final return first, for narrow windows."""
    found = results_cells(records)
    cells = found.written(html.escape, lambda cell: f"<b>{cell}</b>")
    order = [1, 3, 0, 2, *range(4, len(found.head))]
    head = [found.head[i] for i in order]
    text = differing(head, [[row[i] for i in order] for row in cells], ("method", "final return"))
    return f'{text}\n<p class="note">{html.escape(NOTE)}</p>\n'


def figures(records: Records) -> tuple[list[str], dict[str, Any]]:
    """Every figure as an image, light and dark, with its caption; and for each what hovering finds and legends hide."""
    console, parts, points, look = Console(stderr=True), [], {}, looks(records)
    for name, draw in track(
        FIGURES.items(), "drawing", console=console, transient=True, disable=not console.is_terminal
    ):
        try:
            (figure, caption, light), (_, _, dark) = (drawn(draw, records, scheme) for scheme in ("light", "dark"))
        except NothingToDraw:
            continue
        points[name] = {"panels": hover_points(figure), "toggles": toggles(figure, look)}
        width, height = (round(PIXELS * inches) for inches in figure.get_size_inches())
        text = html.escape(caption)
        columns = figure.axes[0].get_subplotspec()
        parts.append(
            f'<figure id="{name}">\n<h3>{html.escape(name.replace("_", " ").capitalize())}</h3>\n'
            f'<div class="toggles" data-name="{name}"></div>\n<div class="wide">'
            f'<picture><source media="(prefers-color-scheme: dark)" srcset="{dark}"><img src="{light}" '
            f'class="drawing panels-{columns.get_gridspec().ncols if columns else 1}" data-name="{name}" '
            f'width="{width}" height="{height}" alt="{text}"></picture></div>\n'
            f"<figcaption>{text}</figcaption>\n</figure>"
        )
    return parts, points


def drawn(draw: Draw, records: Records, look: str) -> tuple[Figure, str, str]:
    """A figure, its caption and its SVG as a data URI. Raises NothingToDraw."""
    with style(look):
        figure, caption = draw(records)
        return figure, caption, f"data:image/svg+xml;base64,{base64.b64encode(picture(figure, 'svg')).decode()}"


def runs(records: Records, sweep: Path, out: Path) -> str:
    """Every run with its fate and links to its records; those of the grid that never began as well."""
    ends = records.curves.groupby("run").last()
    rows = []
    for experiment, own in records.experiments():
        for run in own.runs.sort_values("seed").to_dict("records"):
            folder = Path(run["run"])
            end = ends.loc[run["run"]] if run["run"] in ends.index else {}
            links = [_link(folder / name, name, out) for name in RECORDS if (folder / name).exists()]
            k = experiment["denoising_steps"]
            rows.append(
                [
                    _link(folder, folder.name, out),
                    f"{end['return_mean']:.1f}" if len(end) else "",
                    f'<span class="{run["status"]}">{run["status"]}</span>',
                    html.escape(run["task"]),
                    html.escape(NAMES.get(run["method"], run["method"])),
                    "" if pd.isna(k) else str(k),
                    str(run["seed"]),
                    f"{end['env_steps']:,.0f}" if len(end) else "",
                    f"{end['wall_seconds'] / 60:.1f}" if len(end) and end["wall_seconds"] >= 0 else "",
                    html.escape(run["reason"]),
                    " ".join(links),
                ]
            )
    head = ("run", "last return", "status", "task", "method", "K", "seed", "env steps", "minutes", "reason", "records")
    text = differing(head, rows, ("run", "last return", "status", "seed"))
    known = {Path(run).name for run in records.runs["run"]}
    planned = read_json(sweep / "runs.json", records.warnings)
    missing = "".join(f"<li>{html.escape(one_line(name))}</li>" for name in planned if name not in known)
    if missing:
        text += f"\n<h3>In the grid, without records</h3>\n<ul>{missing}</ul>"
    if (sweep / "slurm").is_dir():
        text += f"\n<p>{_link(sweep / 'slurm', 'Logs of the SLURM jobs', out)}</p>"
    return text


def _link(path: Path, text: str, out: Path) -> str:
    there = quote(os.fsencode(os.path.relpath(path.resolve(), out.parent.resolve())))
    return f'<a href="{html.escape(there)}">{html.escape(one_line(text))}</a>'


def hyperparameters(records: Records) -> str:
    """Every field of the config: those that differ, a column for each experiment, then those that all share."""
    columns: dict[str, dict[str, str]] = {}  # experiment -> field -> values
    for experiment, own in records.experiments():
        found: dict[str, dict[str, None]] = {}
        for run in own.runs["run"]:
            for name, value in flat(records.configs[run]):
                if not name.startswith("provenance."):
                    found.setdefault(name, {})[value] = None
        k = experiment["denoising_steps"]
        words = [experiment["task"], experiment_name(experiment), "" if pd.isna(k) else f"K = {k}"]
        columns[", ".join(filter(None, words))] = {name: ", ".join(values) for name, values in found.items()}
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


def commands(records: Records, sweep: Path) -> str:
    """The shell commands that lead to these runs, to the figures and to this page, each once and quoted."""
    facts = [config.get("provenance") or {} for config in records.configs.values()]
    newest = str(max(facts, key=lambda fact: str(fact.get("started"))).get("git_commit")).removesuffix("-modified")
    lines = [f"git checkout {newest}"] if re.fullmatch("[0-9a-f]{7,64}", newest) else []
    lines.append("make setup")
    if (sweep / "grid.yaml").exists():
        grid, name = str(sweep / "grid.yaml"), sweep.resolve().name
        lines.append(shlex.join(["dpft", "sweep", grid, "--out", f"runs/{name}"]))
    else:
        recorded = (one_line(fact["command"]) for fact in facts if fact.get("command"))
        lines += dict.fromkeys(map(escape.shell, recorded))
    lines += [shlex.join(["dpft", "figures", str(sweep)]), shlex.join(["dpft", "report", str(sweep)])]
    text = f"<pre>{html.escape(chr(10).join(lines))}</pre>"
    if len({str(fact.get("git_commit")) for fact in facts}) > 1:
        text += '\n<p class="note">The commit is that of the newest run; all are listed under What was run.</p>'
    return text


def faults(records: Records) -> str:
    """Records that could not be used, a line each; "" for none."""
    listed = "".join(f"<li>{html.escape(one_line(warning))}</li>" for warning in records.warnings)
    return f"<ul>{listed}</ul>" if listed else ""


def what_was_run(records: Records, sweep: Path) -> str:
    """Axes, software, hardware and time, each value with the number of its runs where they differ; the grid itself."""
    configs = list(records.configs.values())
    facts = [config.get("provenance") or {} for config in configs]
    names = {"task": "tasks", "denoising_steps": "denoising steps K", "seed": "seeds"}
    names |= {"env_steps": "planned environment steps", "eval_episodes": "episodes per evaluation"}
    methods = sorted({str(config["method"]) for config in configs}, key=rank)
    rows = [("methods", ", ".join(NAMES.get(method, method) for method in methods))]
    rows += [(title, _values(config.get(name) for config in configs)) for name, title in names.items()]
    packages = dict.fromkeys(name for fact in facts for name in fact.get("versions") or {})
    rows += [(str(name), _values((fact.get("versions") or {}).get(name) for fact in facts)) for name in packages]
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
    try:
        grid = html.escape((sweep / "grid.yaml").read_text(errors="replace"))
    except OSError:
        return text
    return f"{text}\n<details><summary>The grid, grid.yaml</summary><pre>{grid}</pre></details>"


def _values(values: Iterable[Any]) -> str:
    """Distinct values in their order; with the number of runs of each where there are several long ones."""
    counts = Counter(one_line(value) for value in values if value is not None)
    several = len(counts) > 1 and max(map(len, counts)) > 20
    return ", ".join(f"{text} ({counts[text]} runs)" if several else text for text in sorted(counts, key=natural))

"""Tables in Markdown, CSV and LaTeX: what each method reached, and which runs did not."""

import csv
import io
import math
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd

from dpft.analysis import escape
from dpft.analysis.load import Records
from dpft.analysis.names import experiment_name, one_line, ordered
from dpft.analysis.statistics import Estimate, differs, estimate, per_run, t_interval

SCORES = {  # column of per_run -> heading, digits, whether its interval is shown
    "final": ("final return", 0, True),
    "improvement": ("improvement", 0, True),
    "area": ("mean along the run", 0, False),
    "base": ("base return", 0, False),
    "normalised": ("D4RL-scaled, v5 dynamics", 1, True),
}
NOTE = (
    "Numbers are means over finished seeds, in brackets the 95 % interval over seeds: Student's t under five seeds, "
    "percentile bootstrap from there; two seeds have no interval, both are in parentheses. Base: the method's own "
    "score before its first update; final: its last evaluation, not its best; mean along the run: area under the "
    "curve divided by its steps; minutes: median wall-clock time. Bold: the best final return of a task and K where "
    "the 95 % interval of the difference to every other excludes 0 and each has five seeds. D4RL-scaled, v5 dynamics: "
    "100 x (return - random) / (expert - random) with D4RL's reference returns, on Gymnasium's v5 environments; "
    "published scores are for v2 and cannot be compared with these."
)

ABLATION_NOTE = (
    "Numbers are means over finished seeds, in brackets the 95 % interval over seeds. Differences: to the first value "
    "of the same task, method and K, in per cent of its mean, between runs of the same seed and base, with Student's "
    "paired 90 % interval: where it lies within +-x %, two one-sided tests at 5 % find the values equivalent within "
    "x % (Schuirmann 1987). Two seeds or pairs have no interval: both are in parentheses."
)
COMPARED = ("final", "area")


@dataclass(frozen=True)
class Table:
    """Headings and rows of plain text, the columns that are text and no numbers, and the cells that stand out."""

    head: list[str]
    rows: list[list[str]]
    text: tuple[int, ...]
    bold: frozenset[tuple[int, int]] = frozenset()

    def written(self, escape: Callable[[str], str], mark: Callable[[str], str]) -> list[list[str]]:
        """Rows in another language."""
        cells = [[escape(cell) if j in self.text else cell for j, cell in enumerate(row)] for row in self.rows]
        return [[mark(c) if (i, j) in self.bold else c for j, c in enumerate(row)] for i, row in enumerate(cells)]


@dataclass(frozen=True)
class Row:
    """One experiment: task, method, K and variant."""

    task: str
    name: str
    k: int | None
    finals: pd.Series  # of finished seeds
    scores: dict[str, Estimate]  # by SCORES
    env_steps: float  # median; nan for none
    minutes: float
    failed: int
    runs: int


def results(records: Records) -> list[Row]:
    """A row for each task, method, K and variant."""
    rows = []
    scores = per_run(records)
    for experiment, own in records.experiments():
        mine = scores[scores["run"].isin(own.runs["run"])].query("status == 'done'")
        k = experiment["denoising_steps"]
        rows.append(
            Row(
                experiment["task"],
                experiment_name(experiment),
                None if pd.isna(k) else int(k),
                mine["final"],
                {column: estimate(mine[column]) for column in SCORES},
                mine["env_steps"].median(),
                mine["minutes"].median(),
                int((own.runs["status"] == "failed").sum()),
                len(own.runs),
            )
        )
    return rows


def best(rows: list[Row]) -> set[int]:
    """Indices of rows that may be called the best of their task and K (no K: of all of the task)."""
    found = set()
    for i, row in enumerate(rows):
        others = [
            other
            for j, other in enumerate(rows)
            if j != i and other.task == row.task and (None in (other.k, row.k) or other.k == row.k)
        ]
        if others and all(
            row.scores["final"].mean > other.scores["final"].mean
            and differs(row.finals.to_numpy(), other.finals.to_numpy())
            for other in others
        ):
            found.add(i)
    return found


def results_cells(records: Records) -> Table:
    """The table of results: what tells experiments apart, then their scores, then what these rest on."""
    rows = results(records)
    scores = [heading for heading, _, _ in SCORES.values()]
    head = ["task", "method", "K", *scores, "seeds", "env steps", "minutes per run", "failed"]
    cells = [
        [
            row.task,
            row.name,
            "-" if row.k is None else str(row.k),
            *(_number(row.scores[column], digits, shown) for column, (_, digits, shown) in SCORES.items()),
            str(len(row.finals)),
            "-" if math.isnan(row.env_steps) else f"{row.env_steps:,.0f}",
            "-" if math.isnan(row.minutes) else f"{row.minutes:.1f}",
            f"{row.failed} of {row.runs}",
        ]
        for row in rows
    ]
    final = head.index(SCORES["final"][0])
    return Table(head, cells, (0, 1), frozenset((i, final) for i in best(rows)))


def results_table(records: Records) -> str:
    """The table of results in Markdown."""
    return markdown(results_cells(records))


def results_latex(records: Records) -> str:
    r"""The table for \usepackage{booktabs}; few columns, to fit a page."""
    table = results_cells(records)
    rows = table.written(escape.latex, lambda text: rf"\textbf{{{text}}}")
    left_out = ("mean along the run", "minutes per run", "env steps")
    kept = [i for i, name in enumerate(table.head) if name not in left_out]
    head = [escape.latex(name) for name in table.head]
    lines = [" & ".join(line[i] for i in kept) + r" \\" for line in (head, *rows)]
    columns = "ll" + "r" * (len(kept) - 2)
    body = "\n".join([lines[0], r"\midrule", *lines[1:]])
    return f"\\begin{{tabular}}{{{columns}}}\n\\toprule\n{body}\n\\bottomrule\n\\end{{tabular}}\n% {NOTE}\n"


def results_csv(records: Records) -> str:
    """The numbers themselves: mean, low, high and n of every score, unrounded; low and high empty under three seeds."""
    buffer = io.StringIO()
    parts = ("mean", "low", "high")
    writer = csv.writer(buffer, lineterminator="\n")
    scores = [f"{column}_{part}" for column in SCORES for part in parts]
    writer.writerow(["task", "method", "denoising_steps", "seeds", *scores, "env_steps", "minutes", "failed", "runs"])
    for row in results(records):
        values = [getattr(row.scores[column], part) for column in SCORES for part in parts]
        numbers = ["" if math.isnan(value) else repr(float(value)) for value in (*values, row.env_steps, row.minutes)]
        names = map(escape.spreadsheet, (row.task, row.name))
        writer.writerow([*names, "" if row.k is None else row.k, len(row.finals), *numbers, row.failed, row.runs])
    return buffer.getvalue()


def ablation_table(records: Records, field: str) -> str:
    """The Markdown table of an ablation: a row for each value, and its difference to the first, seed by seed."""
    head = ["task", "method", "K", field, "seeds"]
    head += [text for column in COMPARED for text in (SCORES[column][0], "its difference, %")]
    cells = []
    for experiment, own in records.select(records.runs[records.runs["status"] == "done"]).experiments():
        scores, k = per_run(own), experiment["denoising_steps"]
        values = ordered(scores["value"].unique())
        first = scores[scores["value"] == values[0]]
        for value in values:
            mine = scores[scores["value"] == value]
            line = [
                experiment["task"],
                experiment_name(experiment),
                "-" if pd.isna(k) else str(k),
                value,
                str(len(mine)),
            ]
            for column in COMPARED:
                line += [
                    _number(estimate(mine[column])),
                    "-" if value == values[0] else _difference(mine, first, column),
                ]
            cells.append(line)
    return markdown(Table(head, cells, (0, 1, 3)))


def _difference(own: pd.DataFrame, first: pd.DataFrame, column: str) -> str:
    """Of runs with the same seed and base, in per cent of the first's mean; "-" where there are none."""
    pairs = own.merge(first, on=["seed", "base_seed"], suffixes=("", "_first"))
    whole = first[column].mean()
    if pairs.empty or whole == 0:
        return "-"
    change = 100 * (pairs[column] - pairs[f"{column}_first"]).to_numpy(float) / whole
    return _number(estimate(change, lambda values: t_interval(values, 0.90)), 1)


def markdown(table: Table) -> str:
    """A table in Markdown; text stands to the left, numbers to the right."""
    rule = [":--" if i in table.text else "--:" for i in range(len(table.head))]
    head = [escape.markdown(name) for name in table.head]
    rows = table.written(escape.markdown, lambda cell: f"**{cell}**")
    return "\n".join(f"| {' | '.join(line)} |" for line in (head, rule, *rows)) + "\n"


def unfinished_list(records: Records) -> str:
    """A Markdown list of the runs that failed, with their reasons, and of those that have not ended; "" for none."""
    runs = records.runs[records.runs["status"] != "done"]
    return "".join(
        f"- {escape.markdown(one_line(Path(run['run']).name))}: {run['status']}"
        f"{': ' if run['reason'] else ''}{escape.markdown(run['reason'])}\n"
        for run in runs.to_dict("records")
    )


def _number(value: Estimate, digits: int = 0, interval: bool = True) -> str:
    if math.isnan(value.mean):
        return "-"
    mean, *ends = (f"{number:.{digits}f}" for number in (value.mean, value.low, value.high))
    if not interval or len(value.seeds) < 2:
        return mean
    if math.isnan(value.low):
        return f"{mean} ({', '.join(f'{seed:.{digits}f}' for seed in np.sort(value.seeds))})"
    return f"{mean} [{', '.join(ends)}]"

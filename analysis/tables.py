"""Tables in Markdown, CSV and LaTeX: what each method reached, and which runs did not."""

import csv
import io
import math
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pandas as pd

from dpft.analysis.load import Records, experiment_name, ordered
from dpft.analysis.statistics import Estimate, differs, estimate, per_run, t_interval

SCORES = {  # column of per_run -> heading, digits, whether its interval is shown
    "base": ("base return", 0, False),
    "final": ("final return", 0, True),
    "improvement": ("improvement", 0, True),
    "area": ("mean along the run", 0, False),
    "normalised": ("D4RL-scaled, v5 dynamics", 1, True),
}
NOTE = (
    "Numbers are means over finished seeds, in brackets the 95 % interval over seeds: Student's t under five seeds, "
    "percentile bootstrap from there. Base: the method's own score before its first update; final: its last "
    "evaluation, "
    "not its best; mean along the run: area under the curve divided by its steps; minutes: median wall-clock time. "
    "Bold: "
    "the best final return of a task and K where the 95 % interval of the difference to every other excludes 0 and "
    "each "
    "has five seeds. D4RL-scaled, v5 dynamics: 100 x (return - random) / (expert - random) with D4RL's reference "
    "returns, "
    "on Gymnasium's v5 environments; published scores are for v2 and cannot be compared with these."
)

ABLATION_NOTE = (
    "Numbers are means over finished seeds, in brackets the 95 % interval over seeds. Differences: to the first value "
    "of the same task, method and K, in per cent of its mean, between runs of the same seed and base, with Student's "
    "paired 90 % interval: where it lies within +-x %, two one-sided tests at 5 % find the values equivalent within "
    "x % (Schuirmann 1987)."
)
COMPARED = ("final", "area")


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


def results_table(records: Records) -> str:
    """The Markdown table."""
    rows = results(records)
    head, cells = _cells(rows, best(rows), lambda text: f"**{text}**")
    return _markdown(head, cells, left=(0, 1))


def results_latex(records: Records) -> str:
    r"""The table for \usepackage{booktabs}; few columns, to fit a page."""
    rows = results(records)
    head, cells = _cells(rows, best(rows), lambda text: rf"\textbf{{{text}}}")
    kept = [i for i, name in enumerate(head) if name not in ("mean along the run", "minutes per run", "env steps")]
    lines = [" & ".join(_escape(line[i]) for i in kept) + r" \\" for line in (head, *cells)]
    columns = "ll" + "r" * (len(kept) - 2)
    body = "\n".join([lines[0], r"\midrule", *lines[1:]])
    return f"\\begin{{tabular}}{{{columns}}}\n\\toprule\n{body}\n\\bottomrule\n\\end{{tabular}}\n% {NOTE}\n"


def _escape(text: str) -> str:
    for character in "&%#_":
        text = text.replace(character, f"\\{character}")
    return text


def results_csv(records: Records) -> str:
    """The numbers themselves: mean, low, high and n of every score, unrounded."""
    buffer = io.StringIO()
    parts = ("mean", "low", "high")
    writer = csv.writer(buffer, lineterminator="\n")
    scores = [f"{column}_{part}" for column in SCORES for part in parts]
    writer.writerow(["task", "method", "denoising_steps", "seeds", *scores, "env_steps", "minutes", "failed", "runs"])
    for row in results(records):
        values = [getattr(row.scores[column], part) for column in SCORES for part in parts]
        numbers = ["" if math.isnan(value) else repr(float(value)) for value in (*values, row.env_steps, row.minutes)]
        k = "" if row.k is None else row.k
        writer.writerow([row.task, row.name, k, len(row.finals), *numbers, row.failed, row.runs])
    return buffer.getvalue()


def _cells(rows: list[Row], marked: set[int], mark: Callable[[str], str]) -> tuple[list[str], list[list[str]]]:
    head = ["task", "method", "K", "seeds", "env steps", *(heading for heading, _, _ in SCORES.values())]
    head += ["minutes per run", "failed"]
    cells = []
    for i, row in enumerate(rows):
        numbers = [_number(row.scores[column], digits, shown) for column, (_, digits, shown) in SCORES.items()]
        if i in marked:
            numbers[1] = mark(numbers[1])
        steps = "-" if math.isnan(row.env_steps) else f"{row.env_steps:,.0f}"
        minutes = "-" if math.isnan(row.minutes) else f"{row.minutes:.1f}"
        k = "-" if row.k is None else str(row.k)
        cells.append(
            [row.task, row.name, k, str(len(row.finals)), steps, *numbers, minutes, f"{row.failed} of {row.runs}"]
        )
    return head, cells


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
    return _markdown(head, cells, left=(0, 1, 3))


def _difference(own: pd.DataFrame, first: pd.DataFrame, column: str) -> str:
    """Of runs with the same seed and base, in per cent of the first's mean; "-" where there are none."""
    pairs = own.merge(first, on=["seed", "base_seed"], suffixes=("", "_first"))
    if pairs.empty:
        return "-"
    change = 100 * (pairs[column] - pairs[f"{column}_first"]).to_numpy(float) / first[column].mean()
    low, high = t_interval(change, 0.90)
    return _number(Estimate(change.mean(), float(low), float(high), len(change)), 1)


def _markdown(head: list[str], cells: list[list[str]], left: tuple[int, ...]) -> str:
    """A Markdown table; the columns `left` are text, the others numbers."""
    rule = [":--" if i in left else "--:" for i in range(len(head))]
    return "\n".join(f"| {' | '.join(line)} |" for line in (head, rule, *cells)) + "\n"


def unfinished_list(records: Records) -> str:
    """A Markdown list of the runs that failed, with their reasons, and of those that have not ended; "" for none."""
    runs = records.runs[records.runs["status"] != "done"]
    return "".join(
        f"- `{Path(run['run']).name}`: {run['status']}{': ' if run['reason'] else ''}{run['reason']}\n"
        for run in runs.to_dict("records")
    )


def _number(value: Estimate, digits: int = 0, interval: bool = True) -> str:
    if math.isnan(value.mean):
        return "-"
    bracket = f" [{value.low:.{digits}f}, {value.high:.{digits}f}]" if interval and not math.isnan(value.low) else ""
    return f"{value.mean:.{digits}f}{bracket}"

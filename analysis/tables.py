"""Tables in Markdown: what each method reached, and which runs did not."""

import math
from pathlib import Path

import pandas as pd

from analysis.load import Records, experiment_name
from analysis.statistics import Estimate, estimate, per_run

HEADER = [
    "task",
    "method",
    "K",
    "seeds",
    "env steps",
    "base return",
    "final return",
    "improvement",
    "mean along the run",
    "D4RL-scaled, v5 dynamics",
    "minutes per run",
    "failed",
]
NOTE = (
    "Numbers are means over finished seeds, in brackets the 95 % percentile-bootstrap interval over seeds. Base: the "
    "method's own score before its first update; final: its last evaluation, not its best; mean along the run: area "
    "under the curve divided by its steps; minutes: median wall-clock time. D4RL-scaled, v5 dynamics: 100 x (return - "
    "random) / (expert - random) with D4RL's reference returns, on Gymnasium's v5 environments; published scores are "
    "for v2 and cannot be compared with these."
)


def results_table(records: Records) -> str:
    """A Markdown table with one row for each task, method, K and variant."""
    rows = []
    for experiment, own in records.experiments():
        runs = per_run(own).query("status == 'done'")
        k = experiment["denoising_steps"]
        rows.append(
            [
                experiment["task"],
                experiment_name(experiment),
                "-" if pd.isna(k) else str(k),
                str(len(runs)),
                f"{runs['env_steps'].median():,.0f}" if len(runs) else "-",
                _number(estimate(runs["base"]), interval=False),
                _number(estimate(runs["final"])),
                _number(estimate(runs["improvement"])),
                _number(estimate(runs["area"]), interval=False),
                _number(estimate(runs["normalised"]), digits=1),
                f"{runs['minutes'].median():.1f}" if len(runs) else "-",
                f"{(own.runs['status'] == 'failed').sum()} of {len(own.runs)}",
            ]
        )
    text_columns = 2
    rule = [":--" if i < text_columns else "--:" for i in range(len(HEADER))]
    return "\n".join(f"| {' | '.join(cells)} |" for cells in (HEADER, rule, *rows)) + "\n"


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

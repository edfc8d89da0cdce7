"""What figures have in common: their captions, and which runs they show."""

import textwrap
from collections.abc import Callable
from typing import Any

import pandas as pd
from matplotlib.figure import Figure

from dpft.analysis.load import Records
from dpft.analysis.names import experiment_name
from dpft.analysis.statistics import FEW_SEEDS, LEAST_SEEDS

Drawing = tuple[Figure, str]
Draw = Callable[[Records], Drawing]


class NothingToDraw(Exception):
    """Why a figure cannot be drawn of these records."""


def caption(records: Records, what: str, paper: str = "", means: bool = True, intervals: bool = True) -> str:
    """What a figure shows, then task, seeds and protocol (of means), how intervals are made, and failures, as one
    paragraph."""
    runs = records.runs
    text = [f"{title[:1].upper()}{title[1:].rstrip('.')}." for title in records.captions]
    chain = ", ".join(str(k) for k in sorted(runs["denoising_steps"].dropna().unique()))
    text.append(f"{', '.join(sorted(runs['task'].unique()))}{f', K = {chain} denoising steps' if chain else ''}.")
    text.append(what)
    if means:
        text += [seeds_and_interval(records, intervals), protocol(records, intervals)]
    if failed := int((runs["status"] == "failed").sum()):
        text.append(f"{failed} of {len(runs)} runs failed and are in no mean.")
    if unfinished := int((runs["status"] == "unfinished").sum()):
        text.append(f"{unfinished} of {len(runs)} runs are unfinished and in no mean.")
    if paper:
        text.append(f"Corresponds to {paper}.")
    return " ".join(part for part in text if part)


def protocol(records: Records, intervals: bool = True) -> str:
    runs = records.runs
    episodes = " or ".join(str(n) for n in sorted(runs["eval_episodes"].dropna().unique()))
    text = f"Evaluation: mean return of {episodes} complete episodes, whose steps are not counted."
    bases = runs[(runs["status"] == "done") & ~runs["from_scratch"]].dropna(subset="base_seed")
    if intervals and len(bases) and (bases.groupby(["task", "method", "variant"])["base_seed"].nunique() == 1).all():
        text += " Intervals cover fine-tuning only: seeds share one base policy."
    return text


def seeds_and_interval(records: Records, intervals: bool = True) -> str:
    groups = (own.runs.groupby("value")["status"] for _, own in records.experiments())
    counts = [int((status == "done").sum()) for group in groups for _, status in group]
    seeds = f"{min(counts)}" if min(counts) == max(counts) else f"{min(counts)} to {max(counts)}"
    if not intervals:
        return f"Seeds: {seeds} per setting."
    if max(counts) < LEAST_SEEDS:
        return f"Seeds: {seeds} per method, each shown; too few for an interval."
    few = f"Student's t under {FEW_SEEDS} seeds, where every seed is shown"
    many = "percentile bootstrap over seeds"
    kind = many if min(counts) >= FEW_SEEDS else few if max(counts) < FEW_SEEDS else f"{few}; {many} from there"
    none = f"; none under {LEAST_SEEDS}" if min(counts) < LEAST_SEEDS else ""
    return f"Seeds: {seeds} per method; intervals: 95 %, {kind}{none}."


def finished(records: Records) -> Records:
    return records.select(records.runs[records.runs["status"] == "done"])


def cloned(records: Records) -> Records:
    """Without the runs from scratch, which have a figure of their own; all of them where there are no others."""
    own = records.select(records.runs[~records.runs["from_scratch"]])
    return own if len(own.curves) else records


def learning(records: Records) -> Records:
    """The runs that were evaluated more than once. Raises NothingToDraw where there are none."""
    counts = records.curves["run"].value_counts()
    own = records.select(records.runs[records.runs["run"].map(counts) > 1])
    if not len(own.runs):
        raise NothingToDraw("no run was evaluated more than once")
    return own


def label(experiment: dict[str, Any], records: Records, width: int) -> str:
    """An experiment's whole name, with its K where the records have several, in lines that fit beside an axis."""
    k, several = experiment["denoising_steps"], records.runs["denoising_steps"].nunique() > 1
    return in_lines(experiment_name(experiment) + (f", K = {k}" if several and not pd.isna(k) else ""), width)


def in_lines(name: str, width: int) -> str:
    """A name in lines of that many characters, its K in one piece."""
    return textwrap.fill(name.replace(" = ", "\xa0=\xa0"), width)


def panels_of(records: Records) -> list[tuple[str, Any]]:
    """(task, K) of each panel; policies without a chain are drawn in all panels of their task."""
    pairs = records.runs[["task", "denoising_steps"]].drop_duplicates()
    chained = pairs.dropna().sort_values(["denoising_steps", "task"])
    alone = sorted(set(pairs["task"]) - set(chained["task"]))
    return [*chained.itertuples(index=False, name=None), *((task, None) for task in alone)]

"""The command `dpft compare`: is B worse than A, on runs of the same task, denoising steps and seed?"""

import argparse
import math
import shlex
import sys
from pathlib import Path

import pandas as pd
from scipy import stats

from dpft.analysis.load import Records, load
from dpft.analysis.reading import RecordError, flat
from dpft.analysis.statistics import interval, per_run
from dpft.arguments import Parser, not_negative, place

DESCRIPTION = """Compare two runs, sweeps or settings on matched seeds: for each task and method the difference B - A
with its 95 % interval, in words. Exit code 0; 1 where B is worse beyond the tolerance; 2 for no comparison."""
EXAMPLES = """examples:
  dpft compare results/hopper runs/hopper                              has anything become worse?
  dpft compare runs/mine runs/mine --a method=dppo --b method=ncdpo     two methods of one sweep
  dpft compare runs/before/runs/RUN runs/after/runs/RUN --tolerance 5  two runs, by their last episodes"""
PAIR = ["task", "denoising_steps", "from_scratch", "seed", "base_seed"]  # matched runs agree in these,
SAME = ["method", "variant"]  # and in these where that finds any: a sweep and its repetition


def compare(argv: list[str]) -> int:
    """Run `dpft compare` with these arguments; returns the exit code."""
    parser = Parser(
        prog="dpft compare",
        description=DESCRIPTION,
        epilog=EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("a", type=place, help="what B is held against: a run or a sweep")
    parser.add_argument("b", type=place, help="a run or a sweep")
    parser.add_argument(
        "--a", nargs="+", default=[], metavar="FIELD=VALUE", dest="where_a", help="only these runs of A"
    )
    parser.add_argument(
        "--b", nargs="+", default=[], metavar="FIELD=VALUE", dest="where_b", help="only these runs of B"
    )
    parser.add_argument(
        "--by", choices=("final", "area"), default="final", help="last evaluation, or mean along the run"
    )
    parser.add_argument(
        "--tolerance", type=not_negative, default=0.0, metavar="PERCENT", help="of A's mean (default: 0)"
    )
    args = parser.parse_args(argv)
    try:
        tables = scores(args.a, args.where_a), scores(args.b, args.where_b)
        pairs = matched(*tables, str(args.a), str(args.b))
        found = [(names, *verdict(own, args.by, args.tolerance)) for names, own in pairs.groupby(["task", *SAME])]
    except RecordError as error:
        print(f"dpft compare: {error}", file=sys.stderr)
        return 2
    for names, text, _ in found:
        print(f"{' '.join(str(name) for name in names if name)}: {text}")
    again = shlex.join(["dpft", "figures", str(args.a), str(args.b), "--out", "compare"])
    print(f"matched by task, denoising steps and seed; curves: {again}")
    return int(any(fell for *_, fell in found))


def scores(path: Path, where: list[str]) -> pd.DataFrame:
    """per_run() of the finished runs at a path that have these values. Raises RecordError where there are none."""
    records = load([path])
    chosen = records.runs[records.runs["status"] == "done"]
    for condition in where:
        name, equals, value = condition.partition("=")
        if not equals:
            raise RecordError(f"{condition!r}: expected FIELD=VALUE, such as method=dppo or clip=0.05")
        fields = {run: values(records, run, name) for run in chosen["run"]}
        if not any(fields.values()):
            raise RecordError(f"{path}: no config field {name!r}")
        chosen = chosen[[value in fields[run] for run in chosen["run"]]]
    if chosen.empty:
        raise RecordError(f"{path}: no finished run" + (f" with {', '.join(where)}" if where else ""))
    return per_run(records.select(chosen))


def values(records: Records, run: str, name: str) -> set[str]:
    """What a run's config has in a field, dotted or by its last part."""
    return {value for field, value in flat(records.configs[run]) if name in (field, field.rpartition(".")[2])}


def matched(a: pd.DataFrame, b: pd.DataFrame, name_a: str, name_b: str) -> pd.DataFrame:
    """Pairs of runs. Raises RecordError where there are none, or where it is open which belong together."""
    pairs = a.merge(b, on=PAIR + SAME, suffixes=("_a", "_b"))
    if pairs.empty:
        for table, name in ((a, name_a), (b, name_b)):
            twice = table[table.duplicated(PAIR, keep=False)]
            if len(twice):
                runs = " and ".join(Path(run).name for run in twice["run"].head(2))
                raise RecordError(f"{name} has several runs of one task, K and seed ({runs}): choose by --a and --b")
        pairs = a.merge(b, on=PAIR, suffixes=("_a", "_b")).assign(method="", variant="")
    if pairs.empty:
        raise RecordError(f"no run of {name_a} has the task, denoising steps and seed of one of {name_b}")
    for table, name in ((a, name_a), (b, name_b)):
        if len(table) > len(pairs):
            print(f"{name}: {len(table) - len(pairs)} of {len(table)} runs have no counterpart", file=sys.stderr)
    return pairs


def verdict(pairs: pd.DataFrame, by: str, tolerance: float) -> tuple[str, bool]:
    """One task's comparison in words, and whether B is worse than A by more than the tolerance, per cent of |A|."""
    before, after = pairs[f"{by}_a"].to_numpy(float), pairs[f"{by}_b"].to_numpy(float)
    over, note = f"{len(pairs)} seeds", ""
    if by == "final":
        last = [pd.concat([last_evaluation(Path(run)) for run in pairs[f"run_{side}"]]) for side in "ab"]
        if all("success" in episodes for episodes in last):
            return success_verdict(last[0]["success"], last[1]["success"], tolerance)
        if len(pairs) == 1 and all(map(len, last)):  # episode j of both starts from the same state
            both = last[0].merge(last[1], on="seed", suffixes=("_a", "_b"))
            before, after = both["return_a"].to_numpy(float), both["return_b"].to_numpy(float)
            over, note = f"{len(both)} evaluation episodes", "; of one seed each: nothing is said of others"
    low, high = (float(end) for end in interval(after - before))
    base, change = float(before.mean()), float((after - before).mean())
    spread = (
        f"no interval from {'one pair' if len(before) == 1 else 'two pairs'}"
        if math.isnan(low)
        else f"[{low:+,.1f}, {high:+,.1f}] over {over}"
    )
    if low <= 0 <= high:
        spread += ", which holds 0"
    return judged(f"{base:,.1f} -> {base + change:,.1f}", base, change, f"{change:+,.1f} {spread}{note}", tolerance)


def success_verdict(a: pd.Series, b: pd.Series, tolerance: float) -> tuple[str, bool]:
    """The same for success rates: Wilson's intervals, Fisher's exact test; all episodes of all pairs together."""
    rates = []
    for episodes in (a, b):
        found = stats.binomtest(int(episodes.sum()), len(episodes))
        ends = found.proportion_ci(0.95, "wilson")
        rates.append(f"{found.statistic:.1%} [{ends.low:.1%}, {ends.high:.1%}]")
    table = [[int(episodes.sum()), int(len(episodes) - episodes.sum())] for episodes in (a, b)]
    p = stats.fisher_exact(table).pvalue
    base, change = float(a.mean()), float(b.mean() - a.mean())
    detail = f"{100 * change:+.1f} points of success over {len(b)} episodes, Fisher's p = {p:.2g}"
    return judged(" -> ".join(rates), base, change, detail, tolerance)


def judged(numbers: str, base: float, change: float, detail: str, tolerance: float) -> tuple[str, bool]:
    word = "worse" if change < 0 else "better" if change > 0 else "the same"
    fell = change < -tolerance / 100 * abs(base)
    beyond = f"; beyond the tolerance of {tolerance:g} %" if fell and tolerance else ""
    return f"B is {word}: {numbers}, {detail}{beyond}", fell


def last_evaluation(run: Path) -> pd.DataFrame:
    """The episodes of a run's last evaluation; none where they were not recorded (an imported curve)."""
    try:
        episodes = pd.read_csv(run / "episodes.csv")
        return episodes[episodes["env_steps"] == episodes["env_steps"].max()]
    except FileNotFoundError:
        return pd.DataFrame()
    except (OSError, ValueError, KeyError) as error:
        raise RecordError(f"{run / 'episodes.csv'}: unreadable ({str(error).splitlines()[0]})") from None

"""What is computed from curves: means over seeds and their intervals, scores of runs, aggregates over tasks.

Aggregates follow Agarwal et al. 2021 (arXiv 2108.13264) and its library rliable: scores [n, m] of n seeds on m tasks.
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import pandas as pd
from scipy import stats

from dpft.analysis.load import EXPERIMENT, Records

RESAMPLES = 2000
LEAST_SEEDS = 3  # of fewer there is no interval, but the seeds themselves: Student's t of two is 12.7 standard errors
FEW_SEEDS = 5  # below this, each seed is shown and the interval is Student's


@dataclass(frozen=True)
class Estimate:
    """A mean over seeds, their values, and the mean's interval: nan under LEAST_SEEDS."""

    mean: float
    low: float
    high: float
    seeds: tuple[float, ...]


def t_interval(values: np.ndarray, level: float = 0.95) -> tuple[np.ndarray, np.ndarray]:
    """Student's t interval of the mean over the first axis of values [n, ...]; low and high [...], nan for n < 2.

    Exact for normal data however few seeds there are.
    """
    n = len(values)
    if n < 2:
        nothing = np.full(values.shape[1:], np.nan)
        return nothing, nothing
    half = stats.t.ppf((1 + level) / 2, n - 1) * values.std(axis=0, ddof=1) / np.sqrt(n)
    return values.mean(axis=0) - half, values.mean(axis=0) + half


def bootstrap_interval(
    values: np.ndarray, rng: np.random.Generator, level: float = 0.95
) -> tuple[np.ndarray, np.ndarray]:
    """Percentile-bootstrap interval of the mean over the first axis (Efron 1979).

    values [n, ...] holds one entry per seed; whole seeds are resampled, so that the interval of a curve is smooth.
    Returns low and high [...]; nan for n < 2. With n seeds it covers less than its level (normal data: about
    75 % for 3 seeds, 84 % for 5, 90 % for 10), which is why few seeds get t_interval.
    """
    n = len(values)
    if n < 2:
        nothing = np.full(values.shape[1:], np.nan)
        return nothing, nothing
    counts = rng.multinomial(n, np.full(n, 1 / n), size=RESAMPLES)
    means = np.tensordot(counts / n, values, axes=1)  # [RESAMPLES, ...]
    low, high = np.quantile(means, [(1 - level) / 2, (1 + level) / 2], axis=0)
    return low, high


def interval(values: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """95 % interval of the mean over the first axis, the same each time: t under FEW_SEEDS, bootstrap from there.

    nan under LEAST_SEEDS.
    """
    if len(values) < LEAST_SEEDS:
        nothing = np.full(values.shape[1:], np.nan)
        return nothing, nothing
    return t_interval(values) if len(values) < FEW_SEEDS else bootstrap_interval(values, np.random.default_rng(0))


def estimate(
    values: pd.Series | np.ndarray,
    interval: Callable[[np.ndarray], tuple[np.ndarray, np.ndarray]] = interval,
) -> Estimate:
    """Mean over seeds, one value each, with its interval."""
    known = np.asarray(values, float)
    known = known[~np.isnan(known)]
    if not len(known):
        return Estimate(np.nan, np.nan, np.nan, ())
    low, high = interval(known) if len(known) >= LEAST_SEEDS else (np.nan, np.nan)
    return Estimate(float(known.mean()), float(low), float(high), tuple(known.tolist()))


def differs(first: np.ndarray, second: np.ndarray) -> bool:
    """Whether the 95 % interval of the difference of two means (Welch's t) excludes 0; False under FEW_SEEDS."""
    if min(len(first), len(second)) < FEW_SEEDS:
        return False
    if np.ptp(first) == 0 and np.ptp(second) == 0:  # Welch's standard error is 0
        return bool(first[0] != second[0])
    ends = stats.ttest_ind(first, second, equal_var=False).confidence_interval(0.95)
    return bool(ends.low > 0 or ends.high < 0)


def on_common_steps(curves: list[tuple[np.ndarray, np.ndarray]]) -> tuple[np.ndarray, np.ndarray]:
    """Curves (steps [m_i], values [m_i]) interpolated on the union of their steps, where all of them have data.

    Returns steps [G] and values [n, G]. Nothing is extrapolated: the steps end where the shortest curve ends. The
    mean of these lines is exact, since it has no corner between the steps of the union.
    """
    first = max(steps[0] for steps, _ in curves)
    last = min(steps[-1] for steps, _ in curves)
    union = np.unique(np.concatenate([steps for steps, _ in curves]))
    common = union[(union >= first) & (union <= last)]
    return common, np.stack([np.interp(common, steps, values) for steps, values in curves])


def mean_curve(curves: list[tuple[np.ndarray, np.ndarray]]) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Steps [G], the mean over seeds [G] and the ends of its 95 % interval [G], of curves as in on_common_steps.

    The ends are nan under LEAST_SEEDS.
    """
    steps, values = on_common_steps(curves)
    return steps, values.mean(axis=0), *interval(values)


def area_under_curve(steps: np.ndarray, values: np.ndarray) -> float:
    """The mean height of a curve: its area (trapezoids) divided by the steps it spans, in the unit of values."""
    return float(np.trapezoid(values, steps) / (steps[-1] - steps[0])) if len(steps) > 1 else float(values[0])


def per_run(records: Records) -> pd.DataFrame:
    """One row per run that has a curve.

    Columns: run, seed, base_seed, status, EXPERIMENT, value (of the ablated field), planned_steps, base (return at zero
    updates, nan where unknown or from scratch), final (return of the last evaluation), improvement, area (mean return
    along the run), normalised (of the last evaluation), env_steps and minutes at the end.
    """
    columns = ["run", "base", "final", "improvement", "area", "normalised", "env_steps", "minutes"]
    rows = []
    for name, curve in records.curves.groupby("run", sort=True):
        start, end = curve.iloc[0], curve.iloc[-1]
        known = start["env_steps"] == 0 and not start["from_scratch"]
        base = start["return_mean"] if known else np.nan
        rows.append(
            {
                "run": name,
                "base": base,
                "final": end["return_mean"],
                "improvement": end["return_mean"] - base,
                "area": area_under_curve(curve["env_steps"].to_numpy(), curve["return_mean"].to_numpy()),
                "normalised": end["return_normalised"],
                "env_steps": end["env_steps"],
                "minutes": end["wall_seconds"] / 60,
            }
        )
    return records.runs[["run", "seed", "base_seed", "status", *EXPERIMENT, "value", "planned_steps"]].merge(
        pd.DataFrame(rows, columns=columns), on="run"
    )


def steps_to(threshold: float, steps: np.ndarray, values: np.ndarray) -> float:
    """The first step at which a curve (steps [m], values [m]) reaches the threshold, linear between evaluations.

    inf where it never does: such a run is censored at its last step.
    """
    above = np.flatnonzero(values >= threshold)
    if not len(above):
        return np.inf
    i = above[0]
    return float(steps[0] if i == 0 else np.interp(threshold, values[i - 1 : i + 1], steps[i - 1 : i + 1]))


# -- aggregates over tasks: scores is a list with one array per task, of one score per seed --------------------------


def iqm(scores: list[np.ndarray]) -> float:
    """Interquartile mean over all seeds and tasks: the mean of the middle half."""
    ordered = np.sort(np.concatenate(scores))
    cut = len(ordered) // 4
    return float(ordered[cut : len(ordered) - cut].mean())  # scipy's trim_mean, many times faster


def optimality_gap(scores: list[np.ndarray]) -> float:
    """By how much runs fall short of a score of 1 on average; what is above 1 counts as 1."""
    return float(1 - np.minimum(np.concatenate(scores), 1).mean())


def probability_of_improvement(first: list[np.ndarray], second: list[np.ndarray]) -> float:
    """P(a random run of the first scores higher than one of the second), mean over tasks; ties count half."""
    return float(np.mean([(np.sign(x[:, None] - y) + 1).mean() / 2 for x, y in zip(first, second, strict=True)]))


def performance_profile(scores: list[np.ndarray], at: np.ndarray) -> np.ndarray:
    """Share of runs that score more than each value of at [T]; returns [T]."""
    return (np.concatenate(scores)[:, None] > at).mean(axis=0)


def stratified_bootstrap(
    statistic: Callable[..., float | np.ndarray], *scores: list[np.ndarray], rng: np.random.Generator
) -> tuple[np.ndarray, np.ndarray]:
    """95 % percentile interval of statistic(*scores) when seeds are resampled within each task and method.

    nan where a task has fewer than LEAST_SEEDS: resampled, two seeds are three values.
    """
    if any(len(task) < LEAST_SEEDS for method in scores for task in method):
        nothing = np.full(np.shape(statistic(*scores)), np.nan)
        return nothing, nothing
    resampled = [[task[rng.integers(len(task), size=(RESAMPLES, len(task)))] for task in method] for method in scores]
    draws = [statistic(*([task[i] for task in method] for method in resampled)) for i in range(RESAMPLES)]
    low, high = np.quantile(np.array(draws), [0.025, 0.975], axis=0)
    return low, high

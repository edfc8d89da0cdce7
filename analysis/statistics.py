"""What is computed from curves: means over seeds, their intervals, and one number per run."""

from dataclasses import dataclass

import numpy as np
import pandas as pd

from analysis.load import Records

RESAMPLES = 2000
FEW_SEEDS = 5  # below this, each seed is shown beside the interval


@dataclass(frozen=True)
class Estimate:
    """A mean over seeds and its interval; the interval is nan where there is one seed or none."""

    mean: float
    low: float
    high: float


def bootstrap_interval(
    values: np.ndarray, rng: np.random.Generator, level: float = 0.95
) -> tuple[np.ndarray, np.ndarray]:
    """Percentile-bootstrap interval of the mean over the first axis (Efron 1979).

    values [n, ...] holds one entry per seed; whole seeds are resampled, so that the interval of a curve is smooth.
    Returns low and high [...]; nan for n < 2. With n seeds it covers less than its level (normal data: about
    75 % for 3 seeds, 84 % for 5, 90 % for 10), which is why few seeds are shown one by one.
    """
    n = len(values)
    if n < 2:
        nothing = np.full(values.shape[1:], np.nan)
        return nothing, nothing
    counts = rng.multinomial(n, np.full(n, 1 / n), size=RESAMPLES)
    means = np.tensordot(counts / n, values, axes=1)  # [RESAMPLES, ...]
    low, high = np.quantile(means, [(1 - level) / 2, (1 + level) / 2], axis=0)
    return low, high


def estimate(values: pd.Series) -> Estimate:
    """Mean over seeds, one value each, with its 95 % interval; the same values give the same interval."""
    known = values.dropna().to_numpy(float)
    if not len(known):
        return Estimate(np.nan, np.nan, np.nan)
    low, high = bootstrap_interval(known, np.random.default_rng(0))
    return Estimate(float(known.mean()), float(low), float(high))


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
    """Steps [G], the mean over seeds [G] and the ends of its 95 % interval [G], of curves as in on_common_steps."""
    steps, values = on_common_steps(curves)
    return steps, values.mean(axis=0), *bootstrap_interval(values, np.random.default_rng(0))


def area_under_curve(steps: np.ndarray, values: np.ndarray) -> float:
    """The mean height of a curve: its area (trapezoids) divided by the steps it spans, in the unit of values."""
    return float(np.trapezoid(values, steps) / (steps[-1] - steps[0])) if len(steps) > 1 else float(values[0])


def per_run(records: Records) -> pd.DataFrame:
    """One row per run that has a curve: run, status, base (return at zero updates, nan where unknown or from
    scratch), final (return of the last evaluation), improvement, area (mean return along the run), normalised
    (of the last evaluation), env_steps and minutes at the end, episodes per evaluation."""
    rows = []
    for name, curve in records.curves.groupby("run", sort=True):
        start, end = curve.iloc[0], curve.iloc[-1]
        known = start["env_steps"] == 0 and not start["from_scratch"]
        base = start["return_mean"] if known else np.nan
        rows.append(
            {
                "run": name,
                "status": end["status"],
                "base": base,
                "final": end["return_mean"],
                "improvement": end["return_mean"] - base,
                "area": area_under_curve(curve["env_steps"].to_numpy(), curve["return_mean"].to_numpy()),
                "normalised": end["return_normalised"],
                "env_steps": end["env_steps"],
                "minutes": end["wall_seconds"] / 60,
            }
        )
    columns = ["run", "status", "base", "final", "improvement", "area", "normalised", "env_steps", "minutes"]
    return pd.DataFrame(rows, columns=columns)

"""Numbers against values computed in another way."""

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st
from run_folders import write_run
from scipy import stats

from dpft.analysis.load import load
from dpft.analysis.statistics import (
    area_under_curve,
    bootstrap_interval,
    differs,
    estimate,
    iqm,
    mean_curve,
    on_common_steps,
    optimality_gap,
    per_run,
    performance_profile,
    probability_of_improvement,
    steps_to,
    stratified_bootstrap,
    t_interval,
)


@pytest.mark.parametrize("n", [5, 8, 20])
def test_interval_agrees_with_scipy(n):
    values = np.random.default_rng(n).gamma(2.0, size=n)
    low, high = bootstrap_interval(values, np.random.default_rng(0))
    theirs = stats.bootstrap((values,), np.mean, n_resamples=20_000, method="percentile", rng=np.random.default_rng(1))
    width = high - low
    assert low == pytest.approx(theirs.confidence_interval.low, abs=0.04 * width)
    assert high == pytest.approx(theirs.confidence_interval.high, abs=0.04 * width)


def test_interval_of_three_seeds_is_their_range():
    # all three draws are the smallest seed with probability 1/27 > 2.5 %
    low, high = bootstrap_interval(np.array([3.0, 1.0, 2.0]), np.random.default_rng(0))
    assert (low, high) == pytest.approx((1.0, 3.0))


def test_interval_of_a_curve_is_that_of_each_point_with_the_same_draws():
    values = np.random.default_rng(0).normal(size=(6, 4, 2))
    low, high = bootstrap_interval(values, np.random.default_rng(3))
    for i in np.ndindex(4, 2):
        one = bootstrap_interval(values[:, *i], np.random.default_rng(3))
        assert (low[i], high[i]) == pytest.approx(one)


def test_one_seed_has_no_interval():
    low, high = bootstrap_interval(np.ones((1, 3)), np.random.default_rng(0))
    assert np.isnan(low).all()
    assert np.isnan(high).all()
    assert estimate(pd.Series([4.0])).mean == 4.0
    assert np.isnan(estimate(pd.Series([4.0])).low)
    assert np.isnan(estimate(pd.Series([], dtype=object)).mean)


@pytest.mark.parametrize(("n", "coverage"), [(3, 0.75), (5, 0.84), (10, 0.905), (30, 0.94)])
def test_coverage_is_as_documented(n, coverage):
    """The share of 4,000 synthetic experiments (normal, mean 0) whose interval holds the true mean."""
    experiments = np.random.default_rng(n).normal(size=(n, 4000))
    low, high = bootstrap_interval(experiments, np.random.default_rng(0))
    assert np.mean((low <= 0) & (high >= 0)) == pytest.approx(coverage, abs=0.025)


def test_common_steps_are_interpolated_and_never_extrapolated():
    first = (np.array([0, 100, 200]), np.array([0.0, 10.0, 20.0]))
    second = (np.array([0, 104, 150]), np.array([0.0, 104.0, 58.0]))
    steps, values = on_common_steps([first, second])
    assert steps.tolist() == [0, 100, 104, 150]
    assert values[0].tolist() == pytest.approx([0.0, 10.0, 10.4, 15.0])
    assert values[1].tolist() == pytest.approx([0.0, 100.0, 104.0, 58.0])


def test_a_late_first_evaluation_is_not_extrapolated_either():
    steps, _ = on_common_steps([(np.array([0, 10]), np.zeros(2)), (np.array([5, 10]), np.zeros(2))])
    assert steps.tolist() == [5, 10]


def test_mean_curve_is_the_mean():
    runs = [(np.array([0, 10, 20]), np.array([0.0, 1.0, 2.0]) + shift) for shift in range(6)]
    steps, mean, low, high = mean_curve(runs)
    assert steps.tolist() == [0, 10, 20]
    assert mean.tolist() == pytest.approx([2.5, 3.5, 4.5])
    assert np.all((low < mean) & (mean < high))
    assert np.array_equal(low, mean_curve(runs)[2])  # the same numbers each time


curves = st.lists(st.tuples(st.integers(1, 50), st.floats(-1e4, 1e4)), min_size=2, max_size=20)


@given(curves)
def test_area_agrees_with_scipy(pairs):
    from scipy.integrate import trapezoid

    steps = np.cumsum([gap for gap, _ in pairs])
    values = np.array([value for _, value in pairs])
    area = area_under_curve(steps, values)
    assert area == pytest.approx(trapezoid(values, steps) / (steps[-1] - steps[0]), abs=1e-6)
    assert values.min() - 1e-6 <= area <= values.max() + 1e-6


def test_one_row_a_run(tmp_path):
    write_run(tmp_path, [(0, 100.0), (50, 300.0), (100, 200.0)], seed=0)
    write_run(tmp_path, [(0, 20.0), (100, 40.0)], seed=1, from_scratch=True)
    write_run(tmp_path, [(40, 20.0), (100, 40.0)], seed=2)
    table = per_run(load([tmp_path]))
    assert table["final"].tolist() == [200.0, 40.0, 40.0]
    assert table["improvement"].tolist() == pytest.approx([100.0, np.nan, np.nan], nan_ok=True)
    assert table["area"].tolist() == pytest.approx([225.0, 30.0, 30.0])
    assert table["normalised"].tolist() == pytest.approx([2.0, 0.4, 0.4])
    assert table["minutes"].tolist() == pytest.approx([1 / 6] * 3)


# -- small samples ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("n", [3, 4])
def test_few_seeds_get_students_interval(n):
    values = np.random.default_rng(n).normal(size=n)
    theirs = stats.ttest_1samp(values, 0.0).confidence_interval(0.95)
    assert t_interval(values) == pytest.approx((theirs.low, theirs.high))
    found = estimate(pd.Series(values))
    assert (found.low, found.high, *found.seeds) == pytest.approx((theirs.low, theirs.high, *values))


def test_two_seeds_have_no_interval():
    """Student's is [-5625, 10226] for these."""
    found = estimate(pd.Series([1850.0, 2750.0]))
    assert (found.mean, found.seeds) == (2300.0, (1850.0, 2750.0))
    assert np.isnan([found.low, found.high]).all()
    _, mean, low, high = mean_curve([(np.array([0, 10]), np.array([0.0, 900.0])) for _ in range(2)])
    assert mean.tolist() == [0.0, 900.0]
    assert np.isnan([low, high]).all()
    pair = [np.array([0.1, 0.9])]
    assert np.isnan(stratified_bootstrap(iqm, pair, rng=np.random.default_rng(0))).all()


def test_students_interval_covers_what_it_says():
    draws = np.random.default_rng(0).normal(size=(3, 20_000))
    low, high = t_interval(draws)
    assert ((low < 0) & (high > 0)).mean() == pytest.approx(0.95, abs=0.006)


def test_a_difference_needs_five_seeds_and_an_interval_without_zero():
    rng = np.random.default_rng(0)
    close, apart = rng.normal(0, 1, 5), rng.normal(9, 1, 5)
    assert differs(close, apart)
    assert not differs(close[:4], apart)
    assert not differs(close, close + 0.1)
    assert differs(np.zeros(5), np.ones(5))
    assert not differs(np.zeros(5), np.zeros(5))


# -- aggregates over tasks --------------------------------------------------------------------------------------------

SCORES = [np.array([0.1, 0.9, 0.4, 1.3]), np.array([0.2, 0.7, 0.5]), np.array([1.1, 0.3, 0.6, 0.8, 0.0])]
OTHERS = [np.array([0.4, 0.2]), np.array([0.5, 0.9, 0.1]), np.array([0.3, 0.3])]


@given(st.lists(st.floats(-2, 2), min_size=4, max_size=30))
def test_iqm_is_scipys_trimmed_mean(values):
    assert iqm([np.array(values[:2]), np.array(values[2:])]) == pytest.approx(stats.trim_mean(values, 0.25), abs=1e-12)


def test_optimality_gap_by_hand():
    assert optimality_gap(SCORES) == pytest.approx(
        1 - (0.1 + 0.9 + 0.4 + 1 + 0.2 + 0.7 + 0.5 + 1 + 0.3 + 0.6 + 0.8) / 12
    )


def test_probability_of_improvement_is_the_mann_whitney_statistic():
    theirs = [stats.mannwhitneyu(x, y).statistic / (len(x) * len(y)) for x, y in zip(SCORES, OTHERS, strict=True)]
    assert probability_of_improvement(SCORES, OTHERS) == pytest.approx(np.mean(theirs))
    assert probability_of_improvement(SCORES, SCORES) == 0.5


def test_profile_counts_runs():
    assert performance_profile(SCORES, np.array([-1.0, 0.35, 0.7, 2.0])).tolist() == [1.0, 8 / 12, 4 / 12, 0.0]


def test_the_stratified_bootstrap_resamples_within_tasks():
    """Of the mean over one task it is the plain bootstrap; tasks that do not vary add nothing."""
    values = np.random.default_rng(1).normal(size=9)
    low, high = stratified_bootstrap(lambda s: float(s[0].mean()), [values], rng=np.random.default_rng(0))
    theirs = bootstrap_interval(values, np.random.default_rng(0))
    assert (low, high) == pytest.approx(theirs, abs=0.04 * (high - low))
    fixed = [np.zeros(4), np.ones(4), np.full(4, 5.0)]
    assert stratified_bootstrap(iqm, fixed, rng=np.random.default_rng(0)) == (iqm(fixed), iqm(fixed))


def test_the_interval_of_the_iqm_agrees_with_an_independent_loop():
    rng = np.random.default_rng(5)
    draws = [
        stats.trim_mean(np.concatenate([rng.choice(task, len(task)) for task in SCORES]), 0.25) for _ in range(20_000)
    ]
    low, high = np.quantile(draws, [0.025, 0.975])
    ours = stratified_bootstrap(iqm, SCORES, rng=np.random.default_rng(0))
    assert ours == pytest.approx((low, high), abs=0.05 * (high - low))


def test_steps_to_a_threshold():
    steps, values = np.array([0.0, 100.0, 200.0]), np.array([1.0, 3.0, 2.0])
    assert steps_to(2.0, steps, values) == 50.0
    assert steps_to(0.5, steps, values) == 0.0
    assert steps_to(3.5, steps, values) == np.inf


# -- rliable -----------------------------------------------------------------------------------------------------------
# rliable 1.2.0 (pip install "pandas<3" "numpy<2" rliable; arch 7.2.0, it does not import with pandas 3) gave these for
# FIRST [6, 3] and SECOND [5, 3]: metrics.aggregate_iqm, aggregate_optimality_gap and probability_of_improvement,
# library.create_performance_profile({"a": FIRST}, AT, reps=10)[0], and library.get_interval_estimates(…, reps=50_000,
# random_state=np.random.RandomState(0))

FIRST = np.array(
    [
        [0.31, 0.62, 1.10],
        [0.45, 0.71, 0.33],
        [0.28, 0.90, 0.67],
        [0.52, 0.55, 0.85],
        [0.40, 1.20, 0.05],
        [0.36, 0.48, 0.74],
    ]
)
SECOND = np.array([[0.42, 0.40, 0.30], [0.20, 0.58, 0.33], [0.39, 0.61, 0.52], [0.47, 0.35, 0.71], [0.25, 0.66, 0.44]])
AT = np.array([0.3, 0.5, 0.71, 1.0])


def test_points_are_rliables():
    first, second = list(FIRST.T), list(SECOND.T)
    assert (iqm(first), iqm(second)) == pytest.approx((0.55, 0.43333333333333335), abs=1e-12)
    assert (optimality_gap(first), optimality_gap(second)) == pytest.approx((0.4322222222222222, 0.558), abs=1e-12)
    assert probability_of_improvement(first, second) == pytest.approx(0.6833333333333332, abs=1e-12)
    profile = [0.88888889, 0.55555556, 0.27777778, 0.11111111]
    assert performance_profile(first, AT) == pytest.approx(profile, abs=1e-8)


@pytest.mark.parametrize(
    ("statistic", "scores", "low", "high"),
    [
        (iqm, (FIRST,), 0.445, 0.675),
        (optimality_gap, (FIRST,), 0.33499999999999996, 0.5366666666666666),
        (probability_of_improvement, (FIRST, SECOND), 0.4777777777777778, 0.8666666666666667),
    ],
)
def test_intervals_are_rliables(statistic, scores, low, high):
    """Stratified percentile bootstrap, ours of 2,000 draws: within a twentieth of the width."""
    ours = stratified_bootstrap(statistic, *(list(each.T) for each in scores), rng=np.random.default_rng(0))
    assert ours == pytest.approx((low, high), abs=0.05 * (high - low))

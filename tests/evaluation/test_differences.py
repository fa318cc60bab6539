"""The interval of a difference: Student's, no narrower, honest where losses are skewed, exact where they are equal."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from baton.evaluation import bootstrap, differences, metrics
from baton.evaluation.differences import Moments

LOSSES = st.lists(st.floats(0, 1e6), min_size=2, max_size=40).map(np.array)
METRICS = ("rmse", "log_loss")


@given(LOSSES, st.sampled_from(METRICS), st.floats(1e-9, 0.2))
@settings(max_examples=60, deadline=None)
def test_equal_losses_give_exactly_nothing(losses, metric, tail):
    found = differences.paired(metric, losses, losses.copy(), tail)
    assert (found.value, found.low, found.high) == (0, 0, 0)


@given(LOSSES, st.integers(0, 99), st.sampled_from(METRICS), st.floats(1e-9, 0.2))
@settings(max_examples=60, deadline=None)
def test_the_other_way_round_is_the_mirror_image_and_less_of_a_tail_is_wider(losses, seed, metric, tail):
    other = losses * np.random.default_rng(seed).uniform(0.5, 1.5, len(losses))
    one, mirrored = differences.paired(metric, losses, other, tail), differences.paired(metric, other, losses, tail)
    assert (one.value, one.low, one.high) == pytest.approx((-mirrored.value, -mirrored.high, -mirrored.low), rel=1e-9)
    wider = differences.paired(metric, losses, other, tail / 10)
    assert wider.low <= one.low <= one.value <= one.high <= wider.high
    means = [float(metrics.of_mean_loss(metric, values.mean())) for values in (losses, other)]
    assert one.value == pytest.approx(means[0] - means[1], abs=1e-6 * max(means))


@given(LOSSES, st.integers(0, 99), st.floats(1e-6, 0.2))
@settings(max_examples=40, deadline=None)
def test_no_end_lies_inside_students(losses, seed, tail):
    other = np.random.default_rng(seed).permutation(losses)
    found = differences.paired("log_loss", losses, other, tail)
    moved = stats.sem(losses - other) * stats.t.isf(tail, len(losses) - 1)
    assert found.low <= found.value - moved * (1 - 1e-9) and found.high >= found.value + moved * (1 - 1e-9)


def test_of_rows_without_skewness_it_is_students():
    d = np.array([-2.0, -1, 0, 1, 2]) + 0.3
    found = differences.paired("log_loss", d + 5, np.full(5, 5.0), 0.025)
    assert (found.low, found.high) == pytest.approx(stats.ttest_1samp(d, 0).confidence_interval(0.95))


@pytest.mark.parametrize("metric", METRICS)
def test_of_many_rows_it_is_that_of_the_bootstrap(metric):
    rng = np.random.default_rng(5)
    first = rng.exponential(16.0, 400)
    second = first * 1.1 * rng.uniform(0.5, 1.5, 400)
    sums = bootstrap.sums((first, second), 20_000, rng)
    one, other = metrics.of_mean_loss(metric, sums / 400)
    found = differences.paired(metric, first, second, 0.025)
    ends = np.quantile(one - other, [0.025, 0.975])
    np.testing.assert_allclose((found.low, found.high), ends, atol=0.08 * (ends[1] - ends[0]))


@pytest.mark.parametrize(("rows", "most"), [(62, 0.05), (1000, 0.035)])
def test_many_small_gains_and_few_large_losses_are_seldom_called_a_gain(rows, most):
    """One row in twenty costs what the others gain; by Student's interval 16 % of tables of 62 rows were a gain."""
    rng = np.random.default_rng(0)
    count = sum(
        differences.paired("log_loss", np.where(rng.random(rows) < 0.05, 9.5, -0.5) + noise, np.zeros(rows), 0.025).high
        < 0
        for noise in 0.1 * rng.normal(size=(1500, rows))
    )
    assert count / 1500 <= most


def test_two_sets_of_rows_are_welchs():
    rng = np.random.default_rng(1)
    one, other = rng.normal(3, 2, 30), rng.normal(2, 1, 300)
    found = differences.independent(
        "log_loss", *(Moments(len(v), v.mean(), v.var(ddof=1)) for v in (one, other)), 0.025
    )
    ends = stats.ttest_ind(one, other, equal_var=False).confidence_interval(0.95)
    assert (found.low, found.high) == pytest.approx(tuple(ends))


@pytest.mark.parametrize("scale", [1.0, 0.1, 30.0])
def test_moments_are_the_textbooks(scale):
    losses = scale * np.random.default_rng(3).exponential(size=50)
    moments = Moments.of(losses)
    skewness, variance = stats.skew(losses), losses.var(ddof=1)
    assert (moments.rows, moments.mean, moments.variance, moments.skewness) == pytest.approx(
        (50, losses.mean(), variance, skewness)
    )
    assert (moments.error, moments.third) == pytest.approx((variance / 50, skewness * variance**1.5 / 50**2))
    assert Moments(1, 0.0, 4.0).error == 4
    of_sums = Moments.of_sums(50, *(float((losses**power).sum()) for power in (1, 2, 3)))
    assert vars(of_sums) == pytest.approx(vars(moments))
    assert Moments.of_sums(1, 2.0, 4.0, 8.0) == Moments.of(np.array([2.0]))


@pytest.mark.parametrize("losses", [np.full(9, 0.25), np.array([0.0, 1e-230, 3e-230]), np.array([1.0, 1.0])])
def test_of_losses_that_do_not_differ_as_far_as_numbers_tell_there_is_no_skewness(losses):
    assert Moments.of(losses).skewness == 0
    found = differences.paired("log_loss", losses, np.zeros(len(losses)), 0.025)
    assert found.low <= found.value <= found.high and found.is_finite


def test_the_interval_of_losses_whose_cubes_are_below_all_numbers_is_students():
    losses = np.array([0.0, 1e-110, 2e-110])
    found = differences.paired("log_loss", losses, np.zeros(3), 0.025)
    half = stats.t.isf(0.025, 2) * math.sqrt(losses.var(ddof=1) / 3)
    assert (found.high * 1e110, found.low * 1e110) == pytest.approx(((1e-110 + half) * 1e110, (1e-110 - half) * 1e110))


def test_two_sets_the_other_way_round_are_the_mirror_image():
    rng = np.random.default_rng(2)
    one, other = Moments.of(rng.exponential(3.0, 20)), Moments.of(rng.normal(2.0, 1.0, 40))
    found, mirrored = (differences.independent("rmse", *pair, 0.025) for pair in ((one, other), (other, one)))
    assert (found.value, found.low, found.high) == pytest.approx((-mirrored.value, -mirrored.high, -mirrored.low))
    assert found.high - found.value > found.value - found.low  # towards the long tail


def test_two_sets_that_do_not_vary_differ_by_what_they_differ():
    found = differences.independent("log_loss", Moments(5, 1.0, 0.0), Moments(2, 3.0, 0.0), 0.025)
    assert (found.value, found.low, found.high) == (-2, -2, -2)


def test_two_rows_count_in_welchs_degrees_of_freedom():
    one, other = np.array([1.0, 2.0]), np.array([3.0, 4.5, 4.0])
    found = differences.independent("log_loss", *(Moments(len(v), v.mean(), v.var(ddof=1)) for v in (one, other)), 0.1)
    ends = stats.ttest_ind(one, other, equal_var=False).confidence_interval(0.8)
    assert (found.low, found.high) == pytest.approx(tuple(ends))


@pytest.mark.parametrize("rows", [0, 1])
def test_of_too_few_rows_nothing_is_known(rows):
    found = differences.paired("rmse", np.full(rows, 1.0), np.full(rows, 9.0), 0.025)
    assert (found.low, found.high) == (-math.inf, math.inf) and not found.is_finite
    against = differences.independent("rmse", Moments.of(np.full(rows, 99.0)), Moments(600, 1.0, 1.0), 0.025)
    assert not against.low > 0


def test_tails_of_a_millionth_are_those_of_the_normal_distribution():
    d = np.random.default_rng(0).normal(size=100_000)
    found = differences.paired("log_loss", d + 9, np.full(100_000, 9.0), 1e-6)
    assert (found.high - found.value) / stats.sem(d) == pytest.approx(stats.norm.isf(1e-6), rel=0.01)
    assert math.isfinite(found.low)

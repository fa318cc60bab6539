"""Prediction intervals: they hold as many true values as they say, on made and on real rows."""

from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
from sklearn.linear_model import LinearRegression

from baton.evaluation import conformal, prediction_intervals

FLIGHTS = Path(__file__).parents[2] / "data" / "flights.parquet"


def test_the_quantile_is_the_finite_samples():
    """Of 19 residuals 1 to 19: the 18th covers 90 % of new ones, the 19th 95 %."""
    preprocessor = conformal.fit_intervals(np.arange(1.0, 20), np.zeros(19))
    assert preprocessor == {"edges": [], "half_widths": {"0.8": [16.0], "0.9": [18.0], "0.95": [19.0]}}
    assert list(conformal.fit_intervals(np.arange(1.0, 19), np.zeros(18))["half_widths"]) == ["0.8", "0.9"]
    assert conformal.fit_intervals(np.ones(3), np.zeros(3))["half_widths"] == {}


@pytest.mark.parametrize("rows", [40, 300, 2000])
def test_coverage_is_what_was_asked_for_in_the_mean_over_many_samples(rows):
    """Skewed noise whose scale grows with the prediction: no assumption of the method, and no harm."""
    rng = np.random.default_rng(rows)
    held: dict[str, list[float]] = {}
    for _ in range(60):
        predicted = rng.uniform(0, 10, rows + 2000)
        targets = predicted + (rng.exponential(size=len(predicted)) - 0.5) * (1 + predicted)
        preprocessor = conformal.fit_intervals(targets[:rows], predicted[:rows])
        for level, entry in conformal.coverage(preprocessor, targets[rows:], predicted[rows:]).items():
            held.setdefault(level, []).append(entry["coverage"])
    assert list(held) == ["0.8", "0.9", "0.95"]
    for level, coverage in held.items():
        assert -0.01 <= np.mean(coverage) - float(level) <= 0.03, level  # at least the level, and not far above


def test_groups_follow_the_prediction():
    """With noise that grows with the prediction, intervals grow too and each group is covered alike."""
    rng = np.random.default_rng(1)
    predicted = rng.uniform(1, 10, 30_000)
    targets = predicted + rng.normal(size=30_000) * predicted
    preprocessor = conformal.fit_intervals(targets[:10_000], predicted[:10_000])
    widths = preprocessor["half_widths"]["0.9"]
    assert len(widths) == len(preprocessor["edges"]) + 1 == 10 and widths == sorted(widths)
    low, high = prediction_intervals.bounds(preprocessor, predicted[10_000:], 0.9)
    inside = (low <= targets[10_000:]) & (targets[10_000:] <= high)
    for part in np.array_split(np.argsort(predicted[10_000:]), 10):
        assert inside[part].mean() == pytest.approx(0.9, abs=0.03)
    assert len(conformal.fit_intervals(targets[:150], predicted[:150])["edges"]) == 0  # too few rows for groups


def test_equal_predictions_are_one_group():
    preprocessor = conformal.fit_intervals(np.random.default_rng(2).normal(size=2000), np.full(2000, 3.0))
    low, high = prediction_intervals.bounds(preprocessor, np.full(3, 3.0), 0.8)
    assert np.isfinite(low).all() and (low < 3).all() and (high > 3).all()


def test_real_flights_are_covered():
    rows = pq.read_table(FLIGHTS, columns=["dep_delay", "distance", "arr_delay"]).slice(0, 40_000).drop_null()
    x = np.stack([rows["dep_delay"].to_numpy(), rows["distance"].to_numpy()], axis=1)
    y = rows["arr_delay"].to_numpy().astype(float)
    order = np.random.default_rng(3).permutation(len(y))
    train, held, test = np.split(order, [10_000, 20_000])
    predicted = LinearRegression().fit(x[train], y[train]).predict(x)
    for level, entry in conformal.coverage(
        conformal.fit_intervals(y[held], predicted[held]), y[test], predicted[test]
    ).items():
        assert entry["coverage"] == pytest.approx(float(level), abs=0.01)
        crossed = conformal.cross_coverage(y[held], predicted[held], seed=1)[level]
        assert crossed["coverage"] == pytest.approx(float(level), abs=0.01)
        assert crossed["mean_width"] == pytest.approx(entry["mean_width"], rel=0.05)

"""Which models' mean is chosen, with which weights, and when it counts as better than one model."""

import numpy as np
import pytest

from baton.evaluation import ensembling, metrics

ROWS = 400


def noisy(rng, scale: float) -> np.ndarray:
    return rng.normal(0, scale, (ROWS, 1)).astype(np.float32)


@pytest.fixture
def rng():
    return np.random.default_rng(5)


def test_models_of_other_errors_are_surely_better_together_and_the_better_one_weighs_more(rng):
    targets = rng.normal(size=ROWS).astype(np.float32)
    outputs = np.stack([targets[:, None] + noisy(rng, scale) for scale in (1.0, 1.4, 9.0)])
    found = ensembling.select("rmse", targets, outputs, 0.95, seed=1)
    assert found.is_better and found.best == 0 and found.difference.high < 0
    first, second, third = found.weights
    assert first > second > third and sum(found.weights) == pytest.approx(1)
    assert abs(first - 1.4**2 / (1 + 1.4**2)) < 0.1  # what is best of two independent errors
    assert found.loss < min(found.losses)


def test_a_copy_of_the_best_model_or_a_worse_one_makes_no_ensemble(rng):
    targets = rng.normal(size=ROWS).astype(np.float32)
    best = targets[:, None] + noisy(rng, 0.1)
    for other in (best, best + noisy(rng, 0.5)):
        assert not ensembling.select("rmse", targets, np.stack([best, other]), 0.95, seed=1).is_better


def test_models_as_good_as_chance_on_few_rows_are_not_surely_better(rng):
    """On the rows that weights are chosen on their mean is always better; those of other folds tell."""
    targets = rng.integers(0, 2, 30)
    wild = rng.dirichlet(np.ones(2) * 5, (6, 30))
    weights = ensembling.weights_of("log_loss", targets, wild)
    losses = [metrics.row_losses(targets, output).mean() for output in wild]
    assert metrics.row_losses(targets, np.tensordot(weights, wild, 1)).mean() < min(losses)
    assert not ensembling.select("log_loss", targets, wild, 0.95, seed=1).is_better


def test_probabilities_are_averaged_by_log_loss(rng):
    targets = rng.integers(0, 3, ROWS)
    logits = [3 * np.eye(3)[targets] + rng.normal(0, 2, (ROWS, 3)) for _ in range(2)]
    one, other = (np.exp(each) / np.exp(each).sum(axis=1, keepdims=True) for each in logits)
    found = ensembling.select("log_loss", targets, np.stack([one, other]), 0.95, seed=1)
    assert found.is_better and all(0.3 < weight < 0.7 for weight in found.weights)

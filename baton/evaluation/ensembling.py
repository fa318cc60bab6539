"""Models' answers on the same rows in, the weights of the mean that answers best out: ensemble selection.

Caruana et al., "Ensemble selection from libraries of models", ICML 2004: models are put into a bag, with replacement,
each time the one whose answers make the bag's mean best; a model's weight is its share of the bag.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from baton.evaluation import differences, metrics
from baton.evaluation.differences import Difference

BAG, FOLDS = 20, 5
MAX_ROWS = 20_000  # rows that weights are chosen on: they are multiples of 1 / BAG, which more would not move


@dataclass(frozen=True)
class EnsembleSelection:
    """The weights of all models, the best one's place, mean losses, and the ensemble's metric minus the best model's.

    `loss` and `difference` are of rows on which the weights were not chosen.
    """

    weights: list[float]
    best: int
    losses: list[float]
    loss: float
    difference: Difference

    @property
    def is_better(self) -> bool:
        """Whether the ensemble is surely better than its best member."""
        return sum(weight > 0 for weight in self.weights) > 1 and self.difference.high < 0


def select(metric: str, targets: np.ndarray, outputs: np.ndarray, confidence: float, seed: int) -> EnsembleSelection:
    """Targets [n] and models' finite outputs [models, n, k] → their ensemble, and how it compares with the best model.

    Weights are chosen on all rows; each row's loss is judged by weights that other folds' rows have chosen, and the
    best model's by all, so that the comparison favours the one model.
    """
    of_models = [metrics.row_losses(targets, output, metric) for output in outputs]
    losses = [float(each.mean()) for each in of_models]
    best = int(np.argmin(losses))
    held_out = _held_out_losses(metric, targets, outputs, seed)
    difference = differences.paired(metric, held_out, of_models[best], (1 - confidence) / 2)
    weights = weights_of(metric, targets, outputs).tolist()
    return EnsembleSelection(weights, best, losses, float(held_out.mean()), difference)


def weights_of(metric: str, targets: np.ndarray, outputs: np.ndarray) -> np.ndarray:
    """Targets [n] and models' outputs [models, n, k] → the weights [models], in sum 1, of the mean of least loss."""
    every = -(-len(targets) // MAX_ROWS)
    targets, outputs = targets[::every], outputs[:, ::every]
    bag, total = np.zeros(len(outputs)), np.zeros(outputs.shape[1:])
    best, least = bag, np.inf
    for size in range(1, BAG + 1):
        losses = [metrics.row_losses(targets, (total + output) / size, metric).mean() for output in outputs]
        added = int(np.argmin(losses))
        bag, total = bag + (np.arange(len(outputs)) == added), total + outputs[added]
        if losses[added] < least:
            best, least = bag, losses[added]
    return best / best.sum()


def _held_out_losses(metric: str, targets: np.ndarray, outputs: np.ndarray, seed: int) -> np.ndarray:
    """Each row's loss [n] by the weights that the other folds choose."""
    fold = np.random.default_rng(seed).permutation(len(targets)) % FOLDS
    losses = np.empty(len(targets))
    for held in (fold == number for number in range(min(FOLDS, len(targets)))):
        weights = weights_of(metric, targets[~held], outputs[:, ~held])
        losses[held] = metrics.row_losses(targets[held], np.tensordot(weights, outputs[:, held], 1), metric)
    return losses

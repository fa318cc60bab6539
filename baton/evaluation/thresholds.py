"""Two classes' probabilities in, the threshold above which the second is predicted out; and classes' weights."""

from __future__ import annotations

from typing import Any

import numpy as np

from baton.data import target as target_module
from baton.errors import BadInput, listed

OBJECTIVES = ("f1", "balanced_accuracy")
UNEVEN = 0.2  # the share of the rarer class below which people are told that there are thresholds


def chosen(targets: np.ndarray, probabilities: np.ndarray, rare: int) -> dict[str, float]:
    """Class indices [rows] and probabilities [rows, 2] → each objective's best threshold; none if one class occurs.

    A threshold is that of the second class's probability. `rare` is the index of the rarer class, whose
    F1 it is.
    """
    if len(np.unique(targets)) < 2:
        return {}
    return {objective: best(targets, probabilities, rare, objective) for objective in OBJECTIVES}


def evaluated(
    targets: np.ndarray, probabilities: np.ndarray, classes: list[str], rare: int, kept: dict[str, float]
) -> list[dict[str, Any]]:
    """The same, classes and what `chosen` gave on validation → each threshold with what it gives on these rows."""
    return [_entry(targets, probabilities, classes, rare, *pair) for pair in kept.items()]


def best(targets: np.ndarray, probabilities: np.ndarray, rare: int, objective: str) -> float:
    """As `chosen`, for one objective: midway between the two neighbouring probabilities."""
    order = np.argsort(-probabilities[:, 1], kind="stable")
    score, second = probabilities[order, 1].astype(np.float64), (targets[order] == 1).astype(np.float64)
    cuts = np.flatnonzero(np.diff(score))  # after these rows: rows of one probability stay together
    if not len(cuts):
        return target_module.DEFAULT_THRESHOLD
    hits, taken = np.cumsum(second)[cuts], cuts + 1.0
    value = _objective(objective, hits, taken, second.sum(), len(targets), rare)
    at = cuts[int(np.argmax(value))]
    return float((score[at] + score[at + 1]) / 2)


def weights(setting: str | dict[str, float], target: dict[str, Any]) -> np.ndarray | None:
    """`train.class_weights` and the spec's target → each class's weight [classes], 1 in the mean over rows; or None.

    `balanced` gives every class the same sum. Raises `BadInput` for a class that there is not.
    """
    if setting == "none":
        return None
    classes, shares = target["classes"], np.asarray(target["priors"], float)
    if setting == "balanced":
        given = 1 / (len(classes) * shares)
    else:
        assert isinstance(setting, dict)
        if unknown := sorted(set(setting) - set(classes)):
            raise BadInput(
                f"train.class_weights names {listed(unknown)}, which is no class of {target['name']}. "
                f"Allowed: {listed(classes)}"
            )
        given = np.array([setting.get(name, 1.0) for name in classes])
    # The mean stays 1, or the weights would change the learning rate's and the loss's meaning.
    return (given / np.sum(given * shares)).astype(np.float32)


def _objective(objective: str, hits: Any, taken: Any, positives: float, rows: int, rare: int) -> np.ndarray:
    """Rows predicted as the second class, `taken`, `hits` of them rightly → the objective's value."""
    negatives = rows - positives
    false = taken - hits
    if objective == "balanced_accuracy":
        return (hits / positives + (negatives - false) / negatives) / 2
    if rare == 1:
        return 2 * hits / (taken + positives)
    return 2 * (negatives - false) / (rows - taken + negatives)


def _entry(
    targets: np.ndarray, probabilities: np.ndarray, classes: list[str], rare: int, objective: str, threshold: float
) -> dict[str, Any]:
    decided = target_module.decide(probabilities, threshold) == rare
    hits, taken, actual = (float(np.sum(rows)) for rows in (decided & (targets == rare), decided, targets == rare))
    return {
        "class": classes[rare],
        "objective": objective,
        "threshold": threshold,
        "precision": hits / taken if taken else 0.0,
        "recall": hits / actual if actual else 0.0,
        "f1": 2 * hits / (taken + actual) if taken + actual else 0.0,
    }

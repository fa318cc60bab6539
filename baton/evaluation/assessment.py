"""A model's answers on a split in, its Assessment out: how good it is, how sure that is, and where it is worse.

And what is fitted on validation once a network is trained: temperature, threshold, intervals.
Nothing here does I/O; a feed's rows are asked for in pieces.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import numpy as np

from baton.config.schema import Config
from baton.data import target
from baton.data.preprocessing import Preprocessor
from baton.evaluation import calibration, conformal, intervals, metrics, slices, thresholds

Pieces = Iterable[dict[str, np.ndarray]]


def fit_postprocessing(
    config: Config,
    preprocessor: Preprocessor,
    targets: np.ndarray,
    predictions: np.ndarray,
    least: float | None = None,
) -> dict[str, Any]:
    """Targets and a trained network's output on validation → what the model's spec keeps with the target.

    Regression: `intervals`, of which none begins below the `least` answer of the network, and the `metric` that it was
    trained by if it isn't the usual one. Classes: `calibration` (None for too few rows); two classes: the best
    `thresholds`; a binary task: the `threshold` that the config wants.
    """
    kept: dict[str, Any]
    if not preprocessor.classes:
        kept = {"intervals": conformal.fit_intervals(targets, predictions[:, 0], least)}
        return kept if config.primary_metric == preprocessor.metric else {**kept, "metric": config.primary_metric}
    found = calibration.fit_temperature(targets, predictions, config.seed) if config.train.calibrate else None
    kept = {"calibration": None}
    if found:
        kept["calibration"] = {"temperature": found.temperature, "applied": found.applied}
        predictions = calibration.scaled(predictions, found.temperature) if found.applied else predictions
    if len(preprocessor.classes) == 2:
        kept["thresholds"] = thresholds.chosen(targets, predictions, _rare(preprocessor))
    if preprocessor.task == "binary":
        setting = config.train.threshold
        kept["threshold"] = (
            kept["thresholds"].get(setting, target.DEFAULT_THRESHOLD) if isinstance(setting, str) else setting
        )
    return kept


def assess(
    config: Config, preprocessor: Preprocessor, split: str, pieces: Pieces, targets: np.ndarray, predictions: np.ndarray
) -> dict[str, Any]:
    """A model's preprocessing, a split's encoded pieces, targets and predictions in their order → its Assessment.

    `preprocessor` is the model's own, with what `fit_postprocessing` gave. Of validation the coverage is
    cross-validated, for the intervals were made from these very rows.
    """
    settings = config.evaluation
    kept, metric = preprocessor.spec["target"], preprocessor.metric
    return {
        "rows": len(targets),
        "metrics": metrics.finite(metrics.evaluate(targets, predictions, preprocessor.threshold, metric)),
        "intervals": intervals.of_metrics(
            targets,
            predictions,
            threshold=preprocessor.threshold,
            confidence=settings.confidence,
            resamples=settings.resamples,
            seed=config.seed,
            metric=metric,
        ),
        "confidence": settings.confidence,
        "slices": slices.find(pieces, preprocessor, metrics.row_losses(targets, predictions, metric), settings),
        "calibration": calibration.before_and_after(targets, predictions, kept.get("calibration")),
        "conformal": _coverage(config, kept.get("intervals"), split, targets, predictions),
        "thresholds": _evaluated_thresholds(preprocessor, targets, predictions),
        "class_balance": _balance(targets, preprocessor.classes),
    }


def log_lines(assessment: dict[str, Any], metric: str) -> list[str]:
    """An Assessment and the primary metric → what the log says of it."""
    value, interval = assessment["metrics"][metric], assessment["intervals"][metric]
    sure = "" if interval is None else f" [{interval[0]:.4f}, {interval[1]:.4f}]"
    lines = [f"{metric} {value:.4f}{sure} of {assessment['rows']:,} rows"]
    if assessment["slices"]:
        lines.append(slices.log_line(assessment["slices"], metric, value))
    warm = assessment["calibration"]
    if warm and warm["applied"]:
        change = f"{warm['before']['log_loss']:.4f} → {warm['after']['log_loss']:.4f}"
        lines.append(f"temperature {warm['temperature']:.3f}: log_loss {change}")
    if covered := (assessment["conformal"] or {}).get("levels", {}).get("0.9"):
        lines.append(f"90 % intervals cover {covered['coverage']:.1%}, mean width {covered['mean_width']:.4g}")
    return lines


def uneven(config: Config, preprocessor: Preprocessor) -> str | None:
    """A sentence if one of two classes is rare and nothing in the config cares for it; else None."""
    if preprocessor.task != "binary" or config.train.threshold != "argmax" or config.train.class_weights != "none":
        return None
    share = min(preprocessor.spec["target"]["priors"])
    if share >= thresholds.UNEVEN:
        return None
    rarer = preprocessor.classes[_rare(preprocessor)]
    return (
        f"only {share:.1%} of the training rows are {rarer}: see the thresholds in the "
        "assessment, train.threshold and train.class_weights"
    )


def _evaluated_thresholds(
    preprocessor: Preprocessor, targets: np.ndarray, predictions: np.ndarray
) -> list[dict[str, Any]] | None:
    """What the thresholds that were chosen on validation give on these rows."""
    if len(preprocessor.classes) != 2:
        return None
    return thresholds.evaluated(
        targets,
        predictions,
        preprocessor.classes,
        _rare(preprocessor),
        preprocessor.spec["target"].get("thresholds", {}),
    )


def _coverage(
    config: Config, kept: dict[str, Any] | None, split: str, targets: np.ndarray, predictions: np.ndarray
) -> dict[str, Any] | None:
    if kept is None:
        return None
    if split == "validation":
        return {"levels": conformal.cross_coverage(targets, predictions[:, 0], config.seed)}
    return {"levels": conformal.coverage(kept, targets, predictions[:, 0])}


def _rare(preprocessor: Preprocessor) -> int:
    """The index of the rarer class in train; of equals the second."""
    first, second = preprocessor.spec["target"]["priors"]
    return int(second <= first)


def _balance(targets: np.ndarray, classes: list[str]) -> dict[str, float] | None:
    if not classes:
        return None
    shares = np.bincount(targets, minlength=len(classes)) / max(len(targets), 1)
    return {name: float(share) for name, share in zip(classes, shares, strict=True)}

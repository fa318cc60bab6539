"""A model's answers on a split in, its Assessment out: how good it is, how sure that is, and where it is worse.

And what is fitted on validation once a network is trained: temperature, threshold, intervals.
Nothing here does I/O; a feed's rows are asked for in pieces.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import Any

import numpy as np

from baton.config.schema import Config
from baton.data import target
from baton.data.preprocessing import Preprocessor
from baton.evaluation import calibration, conformal, intervals, metrics, slices, thresholds

Pieces = Iterable[dict[str, np.ndarray]]


def fit(config: Config, fitted: Preprocessor, truth: np.ndarray, output: np.ndarray) -> dict[str, Any]:
    """Truth and a trained network's output on validation → what the model's spec keeps with the target.

    Regression: `intervals`. Classes: `calibration` (None for too few rows); two classes: the best
    `thresholds`; a binary task: the `threshold` that the config asks for.
    """
    if not fitted.classes:
        return {"intervals": conformal.fit(truth, output[:, 0])}
    found = calibration.fit(truth, output, config.seed) if config.train.calibrate else None
    kept: dict[str, Any] = {"calibration": None}
    if found:
        kept["calibration"] = {"temperature": found.temperature, "applied": found.applied}
        output = calibration.scaled(output, found.temperature) if found.applied else output
    if len(fitted.classes) == 2:
        kept["thresholds"] = thresholds.chosen(truth, output, _rare(fitted))
    if fitted.task == "binary":
        setting = config.train.threshold
        kept["threshold"] = (
            kept["thresholds"].get(setting, target.DEFAULT_THRESHOLD) if isinstance(setting, str) else setting
        )
    return kept


def assess(
    config: Config, fitted: Preprocessor, split: str, pieces: Pieces, truth: np.ndarray, output: np.ndarray
) -> dict[str, Any]:
    """A model's preprocessing, and a split's encoded pieces, truth and output in the same order → its Assessment.

    `fitted` is the model's own, with what `fit` gave. Of validation the coverage is cross-validated, for
    the intervals were made from these very rows.
    """
    settings = config.evaluation
    kept = fitted.spec["target"]
    return {
        "rows": len(truth),
        "metrics": _plain(metrics.evaluate(truth, output, fitted.threshold)),
        "intervals": intervals.of_metrics(
            truth,
            output,
            threshold=fitted.threshold,
            confidence=settings.confidence,
            resamples=settings.resamples,
            seed=config.seed,
        ),
        "confidence": settings.confidence,
        "slices": slices.found(pieces, fitted, metrics.row_losses(truth, output), settings),
        "calibration": calibration.before_and_after(truth, output, kept.get("calibration")),
        "conformal": _coverage(config, kept.get("intervals"), split, truth, output),
        "thresholds": _judged(fitted, truth, output),
        "class_balance": _balance(truth, fitted.classes),
    }


def told(assessment: dict[str, Any], metric: str) -> list[str]:
    """An Assessment and the primary metric → what the log says of it."""
    value, interval = assessment["metrics"][metric], assessment["intervals"][metric]
    sure = "" if interval is None else f" [{interval[0]:.4f}, {interval[1]:.4f}]"
    lines = [f"{metric} {value:.4f}{sure} of {assessment['rows']:,} rows"]
    if assessment["slices"]:
        lines.append(slices.told(assessment["slices"], metric, value))
    warm = assessment["calibration"]
    if warm and warm["applied"]:
        change = f"{warm['before']['log_loss']:.4f} → {warm['after']['log_loss']:.4f}"
        lines.append(f"temperature {warm['temperature']:.3f}: log_loss {change}")
    if covered := (assessment["conformal"] or {}).get("levels", {}).get("0.9"):
        lines.append(f"90 % intervals cover {covered['coverage']:.1%}, mean width {covered['mean_width']:.4g}")
    return lines


def uneven(config: Config, fitted: Preprocessor) -> str | None:
    """A sentence if one of two classes is rare and nothing in the config cares for it; else None."""
    if fitted.task != "binary" or config.train.threshold != "argmax" or config.train.class_weights != "none":
        return None
    share = min(fitted.spec["target"]["priors"])
    if share >= thresholds.UNEVEN:
        return None
    return (
        f"only {share:.1%} of the training rows are {fitted.classes[_rare(fitted)]}: see the thresholds in the "
        "assessment, train.threshold and train.class_weights"
    )


def _judged(fitted: Preprocessor, truth: np.ndarray, output: np.ndarray) -> list[dict[str, Any]] | None:
    """What the thresholds that were chosen on validation give on these rows."""
    if len(fitted.classes) != 2:
        return None
    return thresholds.judged(truth, output, fitted.classes, _rare(fitted), fitted.spec["target"].get("thresholds", {}))


def _coverage(
    config: Config, kept: dict[str, Any] | None, split: str, truth: np.ndarray, output: np.ndarray
) -> dict[str, Any] | None:
    if kept is None:
        return None
    if split == "validation":
        return {"levels": conformal.cross_coverage(truth, output[:, 0], config.seed)}
    return {"levels": conformal.coverage(kept, truth, output[:, 0])}


def _rare(fitted: Preprocessor) -> int:
    """The index of the rarer class in train; of equals the second."""
    first, second = fitted.spec["target"]["priors"]
    return int(second <= first)


def _balance(truth: np.ndarray, classes: list[str]) -> dict[str, float] | None:
    if not classes:
        return None
    shares = np.bincount(truth, minlength=len(classes)) / max(len(truth), 1)
    return {name: float(share) for name, share in zip(classes, shares, strict=True)}


def _plain(values: dict[str, float]) -> dict[str, float | None]:
    """Metrics as JSON holds them: what is not a number is null."""
    return {name: value if math.isfinite(value) else None for name, value in values.items()}

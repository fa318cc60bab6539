"""Arrays in, matplotlib figures out: what a run shows of its training, its model and its search.

Only `matplotlib.figure.Figure` objects and explicit styling: pyplot and rcParams are global state,
which threads share. Text from the data goes through `_plain`, or a `$` in it would be mathematics.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from sklearn import metrics

from baton.data.preprocessing import Preprocessor
from baton.data.target import DEFAULT_THRESHOLD, decide
from baton.evaluation.calibration import Reliability, confidences, of_probabilities, reliability, scaled
from baton.reporting.figures.style import (
    BLUE,
    GREY,
    INK,
    MAX_NAMED,
    MAX_WRITTEN,
    ORANGE,
    SMALL,
    STYLES,
    add_colour_bar,
    add_legend,
    add_note,
    axis_limits,
    corner_text,
    cut_note,
    draw_density,
    figure_and_axes,
    is_outside,
    label_axes,
    name_cells,
    plain,
    quoted,
    thousands,
    wilson,
)

MAX_CURVES = 10


FIGURE_ROWS = 250_000


def draw(preprocessor: Preprocessor, targets: np.ndarray, predictions: np.ndarray) -> dict[str, Figure]:
    """Predictions against the target; of every so many-th row where there are more than a figure shows.

    `preprocessor` is the model's own, which knows its threshold and its temperature.
    """
    every = math.ceil(len(targets) / FIGURE_ROWS)
    targets, predictions = targets[::every], predictions[::every]
    if not preprocessor.classes:
        return regression(targets, predictions[:, 0], preprocessor.target)
    warm = preprocessor.spec["target"].get("calibration")
    bare = scaled(predictions, 1 / warm["temperature"]) if warm and warm["applied"] else None
    return classification(targets, predictions, preprocessor.classes, threshold=preprocessor.threshold, bare=bare)


def regression(targets: np.ndarray, predicted: np.ndarray, name: str) -> dict[str, Figure]:
    """Actual and predicted values [n] of `name` → "predicted_vs_actual" and "residuals"."""
    targets, predicted = np.asarray(targets, float).ravel(), np.asarray(predicted, float).ravel()
    finite = np.isfinite(targets) & np.isfinite(predicted)
    left_out = _left_out(int((~finite).sum()), "a finite actual and predicted value")
    targets, predicted = targets[finite], predicted[finite]
    return {
        "predicted_vs_actual": _predicted_vs_actual(targets, predicted, name, left_out),
        "residuals": _residuals(targets - predicted, predicted, name, left_out),
    }


def classification(
    targets: np.ndarray,
    probabilities: np.ndarray,
    classes: list[str],
    *,
    threshold: float = DEFAULT_THRESHOLD,
    bare: np.ndarray | None = None,
) -> dict[str, Figure]:
    """Class indices [n] and probabilities [n, k] of k classes → the four figures of a classifier.

    `threshold` is that of `data.target.decide`; `bare` are the probabilities before a temperature.

    They are "confusion_matrix", "roc", "precision_recall" and "calibration". What cannot be drawn,
    because a class does not occur, is said in the figure. Raises `ValueError` if k differs.
    """
    if probabilities.ndim != 2 or probabilities.shape[1] != len(classes):
        raise ValueError(f"Expected [n, {len(classes)}] probabilities. Received: {probabilities.shape}")
    finite = np.isfinite(probabilities).all(axis=1)
    left_out = _left_out(int((~finite).sum()), "finite probabilities")
    targets, probabilities = np.asarray(targets)[finite], probabilities[finite]
    bare = None if bare is None else bare[finite]
    predicted = decide(probabilities, threshold)
    return {
        "confusion_matrix": _confusion_matrix(targets, predicted, classes, left_out + _cut_at(threshold, classes)),
        "roc": _threshold_curves(ROC, targets, probabilities, classes, left_out),
        "precision_recall": _threshold_curves(PRECISION_RECALL, targets, probabilities, classes, left_out),
        "calibration": _calibration(targets, probabilities, classes, left_out, bare),
    }


# --- Regression


def _predicted_vs_actual(targets: np.ndarray, predicted: np.ndarray, name: str, left_out: str) -> Figure:
    _, (axis,) = figure_and_axes(f"Predicted against actual {name}", size=(5.6, 5.2))
    label_axes(axis, "", f"actual {name}", f"predicted {name}")
    if not len(targets):
        return add_note(axis, f"No rows. {left_out}")
    limits = axis_limits(np.concatenate([targets, predicted]))
    draw_density(axis, targets, predicted, limits, limits)
    axis.plot(limits, limits, color=ORANGE, linewidth=1.2, label="predicted = actual")
    axis.set_aspect("equal")
    add_legend(axis, loc="upper left")
    outside = is_outside(targets, limits) | is_outside(predicted, limits)
    return add_note(axis, f"{len(targets):,} rows. {cut_note(outside)}{left_out}")


def _residuals(residuals: np.ndarray, predicted: np.ndarray, name: str, left_out: str) -> Figure:
    _, axes = figure_and_axes(f"Residuals of {name}", 1, 2, (8.8, 4.0), width_ratios=[1.25, 1])
    label_axes(axes[0], "", f"predicted {name}", "residual: actual minus predicted")
    label_axes(axes[1], "", "residual: actual minus predicted", "rows")
    if not len(residuals):
        return add_note(axes[0], f"No rows. {left_out}")
    across, up = axis_limits(predicted), axis_limits(residuals)
    draw_density(axes[0], predicted, residuals, across, up)
    axes[0].axhline(0, color=ORANGE, linewidth=1.2)
    axes[1].hist(residuals, bins=60, range=up, color=BLUE, alpha=0.85)
    axes[1].axvline(0, color=ORANGE, linewidth=1.2)
    axes[1].set_xlim(up)
    thousands(axes[1].yaxis)
    rmse = float(np.sqrt(np.mean(residuals**2)))
    mean = 0.0 if abs(residuals.mean()) < 1e-9 * rmse else float(residuals.mean())  # not 1.7e-15
    corner_text(axes[1], f"mean {mean:.4g}\nRMSE {rmse:.4g}")
    outside = is_outside(predicted, across) | is_outside(residuals, up)
    return add_note(axes[0], f"{len(residuals):,} rows. {cut_note(outside)}{left_out}")


# --- Classification


@dataclass(frozen=True)
class _Threshold:
    """A curve over all thresholds: how it is named and how scikit-learn computes and scores it."""

    title: str
    x: str
    y: str
    score: str
    points: Callable[[np.ndarray, np.ndarray], tuple[np.ndarray, np.ndarray]]
    measure: Callable[[np.ndarray, np.ndarray], float]
    corner: str


def _roc_points(positive: np.ndarray, score: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    return metrics.roc_curve(positive, score)[:2]


def _recall_points(positive: np.ndarray, score: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    precision, recall, _ = metrics.precision_recall_curve(positive, score, drop_intermediate=True)
    return recall, precision


ROC = _Threshold(
    "ROC curve", "false positive rate", "true positive rate", "AUC", _roc_points, metrics.roc_auc_score,
    "lower right",
)  # fmt: skip
PRECISION_RECALL = _Threshold(
    "Precision and recall", "recall", "precision", "AP", _recall_points, metrics.average_precision_score,
    "lower left",
)  # fmt: skip


def _threshold_curves(
    kind: _Threshold, targets: np.ndarray, probabilities: np.ndarray, classes: list[str], left_out: str
) -> Figure:
    asked = [1] if len(classes) == 2 else list(range(len(classes)))
    counts = np.bincount(targets.astype(int), minlength=len(classes))
    # Both need a positive and a negative row: without the one or the other nothing can be told apart.
    drawable = [c for c in asked if 0 < counts[c] < len(targets)]
    scores = {c: float(kind.measure(targets == c, probabilities[:, c])) for c in drawable}
    _, (axis,) = figure_and_axes(kind.title, size=(5.4, 5.2))
    label_axes(axis, "", kind.x, kind.y)
    _unit_square(axis)
    drawn = sorted(drawable, key=lambda c: -counts[c])[:MAX_CURVES]
    for c, (colour, dash) in zip(sorted(drawn), STYLES, strict=False):
        x, y = (_thin(points) for points in kind.points(targets == c, probabilities[:, c]))
        # The score first: a label that begins with an underscore is left out of legends.
        label = f"{kind.score} {scores[c]:.3f}  {plain(classes[c], 22)}"
        axis.plot(x, y, dash, color=colour, linewidth=1.6, label=label)
    if drawn:
        _reference(axis, kind, counts, drawn, len(targets))
        add_legend(axis, loc=kind.corner)
    return add_note(axis, _curve_note(kind, scores, asked, len(drawn), counts, classes) + left_out)


def _reference(axis: Axes, kind: _Threshold, counts: np.ndarray, drawn: list[int], rows: int) -> None:
    """Draw what a model without skill reaches, where it is one line for all curves."""
    if kind is ROC:
        axis.plot([0, 1], [0, 1], color=GREY, linewidth=1, linestyle=":", label="chance")
    elif len(drawn) == 1:
        share = counts[drawn[0]] / rows
        axis.axhline(share, color=GREY, linewidth=1, linestyle=":", label=f"chance {share:.3f}")


def _curve_note(
    kind: _Threshold,
    scores: dict[int, float],
    asked: list[int],
    drawn: int,
    counts: np.ndarray,
    classes: list[str],
) -> str:
    """What was drawn → the note under the title: the average, and what could not be drawn and why."""
    if not scores:
        occurring = [name for name, count in zip(classes, counts, strict=True) if count]
        found = f"only {quoted(occurring)} occurs" if occurring else "there are no rows"
        return f"Cannot be drawn: {found}. "
    if len(classes) == 2:
        return f"{counts.sum():,} rows, {counts[1]:,} of them {plain(classes[1], 22)}. "
    average = float(np.mean(list(scores.values())))
    note = f"One against the rest, macro average {kind.score} {average:.3f} over {len(scores)} classes. "
    if drawn < len(scores):
        note += f"The {drawn} most frequent are drawn. "
    absent = [classes[c] for c in asked if not counts[c]]
    return note + (f"Cannot be drawn, for lack of rows: {quoted(absent)}. " if absent else "")


def _thin(points: np.ndarray, most: int = 2000) -> np.ndarray:
    """Points of a curve → at most 2000 of them, the ends kept: more cannot be seen and cost time."""
    return points[np.unique(np.linspace(0, len(points) - 1, most).astype(int))]


def _cut_at(threshold: float, classes: list[str]) -> str:
    """The sentence that tells a threshold other than that of the likelier class."""
    if threshold == DEFAULT_THRESHOLD or len(classes) != 2:
        return ""
    return f"{quoted(classes[1:])} is predicted above a probability of {threshold:.3g}. "


def _confusion_matrix(targets: np.ndarray, predicted: np.ndarray, classes: list[str], left_out: str) -> Figure:
    k = len(classes)
    cell = targets.astype(np.int64) * k + predicted
    counts = np.bincount(cell, minlength=k * k).reshape(k, k)
    shares = counts / np.maximum(counts.sum(axis=1, keepdims=True), 1)
    side = min(3.6 + 0.42 * k, 9.5)
    _, (axis,) = figure_and_axes("Confusion matrix", size=(side + 0.9, side + 0.3))
    cells = axis.imshow(shares, cmap="Blues", vmin=0, vmax=1, interpolation="nearest")
    index = "" if k <= MAX_NAMED else " (its index)"
    label_axes(axis, "", f"predicted class{index}", f"actual class{index}")
    add_colour_bar(axis, cells, "share of the actual class")
    name_cells(axis, classes)
    if k <= MAX_WRITTEN:
        _write_cells(axis, counts, shares)
    absent = [name for name, row in zip(classes, counts.sum(axis=1), strict=True) if not row]
    missing = f"No actual rows of {quoted(absent)}. " if absent else ""
    right = f"{np.trace(counts) / len(targets):.1%} right. " if len(targets) else ""
    return add_note(axis, f"{len(targets):,} rows, {right}{missing}{left_out}")


def _write_cells(axis: Axes, counts: np.ndarray, shares: np.ndarray) -> None:
    small = len(counts) <= 6
    for row, column in np.ndindex(*counts.shape):
        text = f"{counts[row, column]:,}"
        if small and counts[row].any():
            text += f"\n{shares[row, column]:.1%}"
        colour = "white" if shares[row, column] > 0.55 else INK if counts[row, column] else "#a8b0b8"
        size = 9.5 if small else SMALL if len(counts) <= 12 else 6
        axis.text(column, row, text, ha="center", va="center", color=colour, fontsize=size)


def _calibration(
    targets: np.ndarray, probabilities: np.ndarray, classes: list[str], left_out: str, bare: np.ndarray | None
) -> Figure:
    if len(classes) == 2:
        x, y = f"predicted probability of {plain(classes[1], 22)}", f"share of {plain(classes[1], 22)}"
    else:
        x, y = "confidence in the predicted class", "share that is right"
    confidence, hit = confidences(targets, probabilities)
    _, (upper, lower) = figure_and_axes("Calibration", 2, 1, (5.2, 6.0), height_ratios=[3.4, 1], sharex=True)
    label_axes(upper, "", "", y)
    label_axes(lower, "", x, "rows")
    _unit_square(upper)
    if not len(hit):
        return add_note(upper, f"Cannot be drawn: there are no rows. {left_out}")
    found = reliability(confidence, hit)
    before = None if bare is None else of_probabilities(targets, bare)
    _draw_reliability(upper, found, before)
    lower.hist(confidence, bins=20, range=(0, 1), color=BLUE, alpha=0.85)
    thousands(lower.yaxis)
    single = f"Only {quoted([classes[int(targets[0])]])} occurs. " if len(np.unique(targets)) == 1 else ""
    warmed = f", {before.error:.3f} before temperature scaling" if before else ""
    return add_note(
        upper, f"Expected calibration error {found.error:.3f}{warmed}, {len(hit):,} rows. {single}{left_out}"
    )


def _draw_reliability(axis: Axes, after: Reliability, before: Reliability | None) -> None:
    """Dots with Wilson's 95 % intervals: a bin of few rows shows how little it says."""
    low, high = wilson(after.hits, after.rows)
    axis.plot([0, 1], [0, 1], color=GREY, linewidth=1, linestyle=":", label="perfectly calibrated")
    if before:
        axis.plot(
            before.confidence, before.hits, "o--", color=ORANGE, markersize=4, linewidth=1.2, alpha=0.8,
            label="before temperature scaling",
        )  # fmt: skip
    axis.vlines(after.confidence, low, high, color=BLUE, linewidth=1.2, alpha=0.5)
    axis.plot(
        after.confidence, after.hits, "o-", color=BLUE, markersize=5, linewidth=1.5, label="observed, 95 % interval"
    )
    add_legend(axis, loc="upper left")


def _unit_square(axis: Axes) -> None:
    axis.set_xlim(-0.02, 1.02)
    axis.set_ylim(-0.02, 1.02)


def _left_out(rows: int, lacking: str) -> str:
    return f"{rows:,} rows without {lacking} are left out. " if rows else ""

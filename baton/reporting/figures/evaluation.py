"""Arrays in, matplotlib figures out: what a run shows of its training, its model and its search.

Only `matplotlib.figure.Figure` objects and explicit styling: pyplot and rcParams are global state,
which threads share. Text from the data goes through `_plain`, or a `$` in it would be mathematics.
"""

from __future__ import annotations

import math
import textwrap
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, MaxNLocator, NullLocator
from matplotlib.transforms import ScaledTranslation
from sklearn import metrics

from baton.data.preprocessing import Preprocessor
from baton.data.target import DEFAULT_THRESHOLD, decide
from baton.evaluation.calibration import Reliability, confidences, of_probabilities, reliability, scaled

# Okabe and Ito's colours, which colour-blind people tell apart (jfly.uni-koeln.de/color).
BLUE, ORANGE, GREEN, PINK, SKY = "#0072B2", "#D55E00", "#009E73", "#CC79A7", "#56B4E9"
STYLES = [(colour, dash) for dash in ("-", "--") for colour in (BLUE, ORANGE, GREEN, PINK, SKY)]
INK, GREY, LIGHT = "#1f2933", "#6b7580", "#e4e8ec"
DPI = 110
SMALL = 8  # points; the smallest text that stays readable in a thumbnail
LEGEND: dict[str, Any] = {"fontsize": SMALL, "framealpha": 0.85, "edgecolor": "none", "labelcolor": INK}
SLANT: dict[str, Any] = {"rotation": 30, "ha": "right", "rotation_mode": "anchor"}
TITLE: dict[str, Any] = {"fontsize": 12, "fontweight": "bold", "color": INK}
MANY = 2000  # beyond this many points single dots hide each other and density is drawn
TAILS = (0.001, 0.999)  # the quantiles at which axes are cut
WIDE = 50  # a ratio of largest to smallest beyond which an axis is logarithmic
MAX_CURVES, MAX_PANELS, MAX_WRITTEN, MAX_NAMED, MAX_BARS = 10, 6, 20, 40, 30
LARGER_IS_BETTER = ("accuracy", "auc", "precision", "recall", "f1", "r2")


def curves(history: dict[str, list[float]]) -> dict[str, Figure]:
    """{metric or val_metric: a value per epoch} → "curves": a panel a metric, best epochs marked."""
    metrics_ = list(dict.fromkeys(key.removeprefix("val_") for key in history))
    metrics_.sort(key=lambda name: name == "learning_rate")  # stable: it comes last, the rest as given
    columns = 2 if len(metrics_) == 4 else min(len(metrics_), 3) or 1
    rows = max(1, -(-len(metrics_) // columns))
    figure, axes = _figure("Training curves", rows, columns, (max(3.6 * columns, 5), 2.7 * rows + 0.4))
    for axis, metric in zip(axes, metrics_, strict=False):
        _learning_curve(axis, metric, history.get(metric, []), history.get(f"val_{metric}", []))
    for axis in axes[len(metrics_) :]:
        axis.set_axis_off()
    if not metrics_:
        _note(axes[0], "Nothing was recorded")
    return {"curves": figure}


FIGURE_ROWS = 250_000


def draw(fitted: Preprocessor, truth: np.ndarray, output: np.ndarray) -> dict[str, Figure]:
    """Predictions against the truth; of every so many-th row where there are more than a figure shows.

    `fitted` is the model's own, which knows its threshold and its temperature.
    """
    every = math.ceil(len(truth) / FIGURE_ROWS)
    truth, output = truth[::every], output[::every]
    if not fitted.classes:
        return regression(truth, output[:, 0], fitted.target)
    warm = fitted.spec["target"].get("calibration")
    bare = scaled(output, 1 / warm["temperature"]) if warm and warm["applied"] else None
    return classification(truth, output, fitted.classes, threshold=fitted.threshold, bare=bare)


def regression(truth: np.ndarray, predicted: np.ndarray, name: str) -> dict[str, Figure]:
    """Actual and predicted values [n] of `name` → "predicted_vs_actual" and "residuals"."""
    truth, predicted = np.asarray(truth, float).ravel(), np.asarray(predicted, float).ravel()
    finite = np.isfinite(truth) & np.isfinite(predicted)
    left_out = _left_out(int((~finite).sum()), "a finite actual and predicted value")
    truth, predicted = truth[finite], predicted[finite]
    return {
        "predicted_vs_actual": _predicted_vs_actual(truth, predicted, name, left_out),
        "residuals": _residuals(truth - predicted, predicted, name, left_out),
    }


def classification(
    truth: np.ndarray,
    probabilities: np.ndarray,
    classes: list[str],
    *,
    threshold: float = DEFAULT_THRESHOLD,
    bare: np.ndarray | None = None,
) -> dict[str, Figure]:
    """Class indices [n] and probabilities [n, k] of k classes → the four figures of a classifier.

    `threshold` is that of `baton.metrics.decided`; `bare` are the probabilities before a temperature.

    They are "confusion_matrix", "roc", "precision_recall" and "calibration". What cannot be drawn,
    because a class does not occur, is said in the figure. Raises `ValueError` if k differs.
    """
    if probabilities.ndim != 2 or probabilities.shape[1] != len(classes):
        raise ValueError(f"Expected [n, {len(classes)}] probabilities. Received: {probabilities.shape}")
    finite = np.isfinite(probabilities).all(axis=1)
    left_out = _left_out(int((~finite).sum()), "finite probabilities")
    truth, probabilities = np.asarray(truth)[finite], probabilities[finite]
    bare = None if bare is None else bare[finite]
    predicted = decide(probabilities, threshold)
    return {
        "confusion_matrix": _confusion_matrix(truth, predicted, classes, left_out + _cut_at(threshold, classes)),
        "roc": _threshold_curves(ROC, truth, probabilities, classes, left_out),
        "precision_recall": _threshold_curves(PRECISION_RECALL, truth, probabilities, classes, left_out),
        "calibration": _calibration(truth, probabilities, classes, left_out, bare),
    }


def search(trials: list[dict[str, Any]]) -> dict[str, Figure]:
    """Trials (number, loss, status, parameters, seconds) → "search": loss by trial and by parameter."""
    trials = sorted(trials, key=lambda trial: trial["number"])
    losses = np.array([_loss(trial) for trial in trials], float)
    parameters = _most_varied(trials)
    figure, axes = _search_axes(len(parameters))
    _loss_by_trial(axes[0], trials, losses)
    for axis, name in zip(axes[1:], parameters, strict=True):
        _loss_by_parameter(axis, name, trials, losses)
    for axis in axes:
        _limit_losses(axis, losses[np.isfinite(losses)])
    if trials:
        # Outside: within the axis it would hide the worst trials.
        figure.legend(*axes[0].get_legend_handles_labels(), loc="outside lower left", ncols=4, **LEGEND)
    return {"search": figure}


def target(values: np.ndarray | None, counts: dict[str, int] | None, name: str) -> dict[str, Figure]:
    """Numbers [n], or the rows of each class, of the target `name` → "target": their distribution."""
    if counts is not None:
        return {"target": _class_bars(counts, name)}
    numbers = np.asarray([] if values is None else values, float).ravel()
    return {"target": _histogram(numbers[np.isfinite(numbers)], name)}


# --- Training curves


def _learning_curve(axis: Axes, metric: str, train: list[float], validation: list[float]) -> None:
    _label(axis, metric.replace("_", " "), "epoch", "")
    for values, name, colour in ((train, "train", BLUE), (validation, "validation", ORANGE)):
        if len(values):
            marker = "o" if len(values) <= 15 else None
            epochs = np.arange(1, len(values) + 1)
            axis.plot(epochs, values, color=colour, label=name, marker=marker, markersize=3, linewidth=1.5)
    axis.xaxis.set_major_locator(MaxNLocator(integer=True, nbins=6))
    longest = max(len(train), len(validation))
    axis.set_xlim((0.5, 1.5) if longest == 1 else (1 - 0.02 * longest, longest * 1.02))
    _log_if_wide(axis.set_yscale, np.array([*train, *validation], float))
    if np.isfinite(validation).any():
        _mark_best(axis, metric, np.array(validation, float))
    if len(validation):
        _legend(axis)


def _mark_best(axis: Axes, metric: str, validation: np.ndarray) -> None:
    # The name's words decide, not the name: `log_loss` shall be small and `top_5_accuracy` large.
    larger = any(word in LARGER_IS_BETTER for word in metric.lower().split("_"))
    finite = np.where(np.isfinite(validation), validation, -np.inf if larger else np.inf)
    best = int(np.argmax(finite) if larger else np.argmin(finite))
    axis.axvline(best + 1, color=ORANGE, linewidth=0.8, linestyle=":", zorder=1)
    label = f"best {validation[best]:.4g}, epoch {best + 1}"
    axis.plot([best + 1], [validation[best]], "D", color=ORANGE, markersize=6, markeredgecolor="white", label=label)


# --- Regression


def _predicted_vs_actual(truth: np.ndarray, predicted: np.ndarray, name: str, left_out: str) -> Figure:
    _, (axis,) = _figure(f"Predicted against actual {name}", size=(5.6, 5.2))
    _label(axis, "", f"actual {name}", f"predicted {name}")
    if not len(truth):
        return _note(axis, f"No rows. {left_out}")
    limits = _limits(np.concatenate([truth, predicted]))
    _density(axis, truth, predicted, limits, limits)
    axis.plot(limits, limits, color=ORANGE, linewidth=1.2, label="predicted = actual")
    axis.set_aspect("equal")
    _legend(axis, loc="upper left")
    outside = _outside(truth, limits) | _outside(predicted, limits)
    return _note(axis, f"{len(truth):,} rows. {_cut(outside)}{left_out}")


def _residuals(residuals: np.ndarray, predicted: np.ndarray, name: str, left_out: str) -> Figure:
    _, axes = _figure(f"Residuals of {name}", 1, 2, (8.8, 4.0), width_ratios=[1.25, 1])
    _label(axes[0], "", f"predicted {name}", "residual: actual minus predicted")
    _label(axes[1], "", "residual: actual minus predicted", "rows")
    if not len(residuals):
        return _note(axes[0], f"No rows. {left_out}")
    across, up = _limits(predicted), _limits(residuals)
    _density(axes[0], predicted, residuals, across, up)
    axes[0].axhline(0, color=ORANGE, linewidth=1.2)
    axes[1].hist(residuals, bins=60, range=up, color=BLUE, alpha=0.85)
    axes[1].axvline(0, color=ORANGE, linewidth=1.2)
    axes[1].set_xlim(up)
    _thousands(axes[1].yaxis)
    rmse = float(np.sqrt(np.mean(residuals**2)))
    mean = 0.0 if abs(residuals.mean()) < 1e-9 * rmse else float(residuals.mean())  # not 1.7e-15
    _corner(axes[1], f"mean {mean:.4g}\nRMSE {rmse:.4g}")
    outside = _outside(predicted, across) | _outside(residuals, up)
    return _note(axes[0], f"{len(residuals):,} rows. {_cut(outside)}{left_out}")


def _density(axis: Axes, x: np.ndarray, y: np.ndarray, across: tuple[float, float], up: tuple[float, float]) -> None:
    """Draw points [n] within limits: as dots if they are few, else as hexagons with a colour bar."""
    if len(x) <= MANY:
        axis.scatter(x, y, s=14, color=BLUE, alpha=0.45, linewidths=0)
    else:
        # Rows outside the limits would stretch the grid of hexagons to where nobody looks.
        inside = ~(_outside(x, across) | _outside(y, up))
        cells = axis.hexbin(
            x[inside], y[inside], gridsize=55, extent=(*across, *up), bins="log", mincnt=1, cmap="Blues",
            linewidths=0.1,
        )  # fmt: skip
        cells.set_clim(0.5, None)  # a lone row stays visible on white
        _colour_bar(axis, cells, "rows")
    axis.set_xlim(across)
    axis.set_ylim(up)


def _limits(values: np.ndarray) -> tuple[float, float]:
    """Values [n] → the ends of an axis: their 0.1 and 99.9 % quantiles if they are many, with a margin."""
    low, high = np.quantile(values, TAILS if len(values) > MANY else (0, 1))
    margin = 0.03 * (high - low) or 0.5 * abs(high) or 0.5
    return float(low - margin), float(high + margin)


def _outside(values: np.ndarray, limits: tuple[float, float]) -> np.ndarray:
    return (values < limits[0]) | (values > limits[1])


def _cut(outside: np.ndarray) -> str:
    """Mask [n] of rows beyond the axes → the sentence that says so; empty if there are none."""
    number = int(outside.sum())
    return f"Axes span the 0.1 to 99.9 % quantiles: {number:,} rows lie outside. " if number else ""


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
    kind: _Threshold, truth: np.ndarray, probabilities: np.ndarray, classes: list[str], left_out: str
) -> Figure:
    asked = [1] if len(classes) == 2 else list(range(len(classes)))
    counts = np.bincount(truth.astype(int), minlength=len(classes))
    # Both need a positive and a negative row: without the one or the other nothing can be told apart.
    drawable = [c for c in asked if 0 < counts[c] < len(truth)]
    scores = {c: float(kind.measure(truth == c, probabilities[:, c])) for c in drawable}
    _, (axis,) = _figure(kind.title, size=(5.4, 5.2))
    _label(axis, "", kind.x, kind.y)
    _unit_square(axis)
    drawn = sorted(drawable, key=lambda c: -counts[c])[:MAX_CURVES]
    for c, (colour, dash) in zip(sorted(drawn), STYLES, strict=False):
        x, y = (_thin(points) for points in kind.points(truth == c, probabilities[:, c]))
        # The score first: a label that begins with an underscore is left out of legends.
        label = f"{kind.score} {scores[c]:.3f}  {_plain(classes[c], 22)}"
        axis.plot(x, y, dash, color=colour, linewidth=1.6, label=label)
    if drawn:
        _reference(axis, kind, counts, drawn, len(truth))
        _legend(axis, loc=kind.corner)
    return _note(axis, _said(kind, scores, asked, len(drawn), counts, classes) + left_out)


def _reference(axis: Axes, kind: _Threshold, counts: np.ndarray, drawn: list[int], rows: int) -> None:
    """Draw what a model without skill reaches, where it is one line for all curves."""
    if kind is ROC:
        axis.plot([0, 1], [0, 1], color=GREY, linewidth=1, linestyle=":", label="chance")
    elif len(drawn) == 1:
        share = counts[drawn[0]] / rows
        axis.axhline(share, color=GREY, linewidth=1, linestyle=":", label=f"chance {share:.3f}")


def _said(
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
        found = f"only {_names(occurring)} occurs" if occurring else "there are no rows"
        return f"Cannot be drawn: {found}. "
    if len(classes) == 2:
        return f"{counts.sum():,} rows, {counts[1]:,} of them {_plain(classes[1], 22)}. "
    average = float(np.mean(list(scores.values())))
    note = f"One against the rest, macro average {kind.score} {average:.3f} over {len(scores)} classes. "
    if drawn < len(scores):
        note += f"The {drawn} most frequent are drawn. "
    absent = [classes[c] for c in asked if not counts[c]]
    return note + (f"Cannot be drawn, for lack of rows: {_names(absent)}. " if absent else "")


def _thin(points: np.ndarray, most: int = 2000) -> np.ndarray:
    """Points of a curve → at most 2000 of them, the ends kept: more cannot be seen and cost time."""
    return points[np.unique(np.linspace(0, len(points) - 1, most).astype(int))]


def _cut_at(threshold: float, classes: list[str]) -> str:
    """The sentence that tells a threshold other than that of the likelier class."""
    if threshold == DEFAULT_THRESHOLD or len(classes) != 2:
        return ""
    return f"{_names(classes[1:])} is predicted above a probability of {threshold:.3g}. "


def _confusion_matrix(truth: np.ndarray, predicted: np.ndarray, classes: list[str], left_out: str) -> Figure:
    k = len(classes)
    cell = truth.astype(np.int64) * k + predicted
    counts = np.bincount(cell, minlength=k * k).reshape(k, k)
    shares = counts / np.maximum(counts.sum(axis=1, keepdims=True), 1)
    side = min(3.6 + 0.42 * k, 9.5)
    _, (axis,) = _figure("Confusion matrix", size=(side + 0.9, side + 0.3))
    cells = axis.imshow(shares, cmap="Blues", vmin=0, vmax=1, interpolation="nearest")
    index = "" if k <= MAX_NAMED else " (its index)"
    _label(axis, "", f"predicted class{index}", f"actual class{index}")
    _colour_bar(axis, cells, "share of the actual class")
    _name_cells(axis, classes)
    if k <= MAX_WRITTEN:
        _write_cells(axis, counts, shares)
    absent = [name for name, row in zip(classes, counts.sum(axis=1), strict=True) if not row]
    missing = f"No actual rows of {_names(absent)}. " if absent else ""
    right = f"{np.trace(counts) / len(truth):.1%} right. " if len(truth) else ""
    return _note(axis, f"{len(truth):,} rows, {right}{missing}{left_out}")


def _name_cells(axis: Axes, classes: list[str]) -> None:
    axis.grid(False)
    if len(classes) > MAX_NAMED:
        return
    named = [_plain(name, 16) for name in classes]
    size = SMALL if len(classes) <= MAX_WRITTEN else SMALL - 2
    slanted = len(classes) > 3 and max(map(len, named)) > 3
    axis.set_xticks(range(len(classes)), named, fontsize=size, **(SLANT if slanted else {}))
    axis.set_yticks(range(len(classes)), named, fontsize=size)


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
    truth: np.ndarray, probabilities: np.ndarray, classes: list[str], left_out: str, bare: np.ndarray | None
) -> Figure:
    if len(classes) == 2:
        x, y = f"predicted probability of {_plain(classes[1], 22)}", f"share of {_plain(classes[1], 22)}"
    else:
        x, y = "confidence in the predicted class", "share that is right"
    confidence, hit = confidences(truth, probabilities)
    _, (upper, lower) = _figure("Calibration", 2, 1, (5.2, 6.0), height_ratios=[3.4, 1], sharex=True)
    _label(upper, "", "", y)
    _label(lower, "", x, "rows")
    _unit_square(upper)
    if not len(hit):
        return _note(upper, f"Cannot be drawn: there are no rows. {left_out}")
    found = reliability(confidence, hit)
    before = None if bare is None else of_probabilities(truth, bare)
    _draw_reliability(upper, found, before)
    lower.hist(confidence, bins=20, range=(0, 1), color=BLUE, alpha=0.85)
    _thousands(lower.yaxis)
    single = f"Only {_names([classes[int(truth[0])]])} occurs. " if len(np.unique(truth)) == 1 else ""
    warmed = f", {before.error:.3f} before temperature scaling" if before else ""
    return _note(upper, f"Expected calibration error {found.error:.3f}{warmed}, {len(hit):,} rows. {single}{left_out}")


def _draw_reliability(axis: Axes, found: Reliability, before: Reliability | None) -> None:
    """Dots with Wilson's 95 % intervals: a bin of few rows shows how little it says."""
    low, high = wilson(found.hits, found.rows)
    axis.plot([0, 1], [0, 1], color=GREY, linewidth=1, linestyle=":", label="perfectly calibrated")
    if before:
        axis.plot(
            before.confidence, before.hits, "o--", color=ORANGE, markersize=4, linewidth=1.2, alpha=0.8,
            label="before temperature scaling",
        )  # fmt: skip
    axis.vlines(found.confidence, low, high, color=BLUE, linewidth=1.2, alpha=0.5)
    axis.plot(
        found.confidence, found.hits, "o-", color=BLUE, markersize=5, linewidth=1.5, label="observed, 95 % interval"
    )
    _legend(axis, loc="upper left")


def wilson(share: np.ndarray, rows: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Shares of so many rows → the ends of their 95 % intervals (Wilson, 1927)."""
    z, n, p = 1.96, rows, share
    centre = (p + z * z / (2 * n)) / (1 + z * z / n)
    half = z * np.sqrt(p * (1 - p) / n + z * z / (4 * n * n)) / (1 + z * z / n)
    return centre - half, centre + half


# --- Search


def _loss(trial: dict[str, Any]) -> float:
    """A trial → its loss; NaN unless the trial went well."""
    loss = trial.get("loss")
    return float(loss) if trial["status"] == "ok" and loss is not None and np.isfinite(loss) else np.nan


def _most_varied(trials: list[dict[str, Any]]) -> list[str]:
    """Trials → at most six parameters that took more than one value, those with the most values first."""
    distinct: dict[str, set[str]] = {}
    for trial in trials:
        for name, value in trial["parameters"].items():
            distinct.setdefault(name, set()).add(str(value))
    varied = [name for name, values in distinct.items() if len(values) > 1]
    return sorted(varied, key=lambda name: -len(distinct[name]))[:MAX_PANELS]


def _search_axes(panels: int) -> tuple[Figure, list[Axes]]:
    """Number of parameters → a figure and its axes: the trials', then one for each parameter."""
    across = 1 if panels == 1 else 2
    down = max(1, -(-panels // across))
    size = (5.2 + 2.5 * across * bool(panels), max(3.8, 2.1 * down + 0.5))
    figure = _blank("Search", size)
    grid = figure.add_gridspec(down, 1 + across * bool(panels), width_ratios=[1.9] + [1] * across * bool(panels))
    axes = [figure.add_subplot(grid[:, 0])]
    axes += [figure.add_subplot(grid[i // across, 1 + i % across]) for i in range(panels)]
    for axis in axes:
        _quiet(axis)
    return figure, axes


def _loss_by_trial(axis: Axes, trials: list[dict[str, Any]], losses: np.ndarray) -> None:
    numbers = np.array([trial["number"] for trial in trials], float)
    _label(axis, "", "trial", "loss")
    axis.xaxis.set_major_locator(MaxNLocator(integer=True) if trials else NullLocator())
    _dots(axis, numbers, losses, [trial["status"] for trial in trials])
    well = np.isfinite(losses)
    seconds = sum(trial.get("seconds") or 0 for trial in trials)
    note = f"{well.sum()} of {len(trials)} trials went well, {seconds:,.0f} s in all"
    if well.any():
        best = np.minimum.accumulate(losses[well])
        axis.step(numbers[well], best, where="post", color=ORANGE, label="best so far", zorder=2)
        note = f"Best loss {best[-1]:.4g} in trial {numbers[np.nanargmin(losses)]:.0f}. {note}"
    _note(axis, note)


def _dots(axis: Axes, x: np.ndarray, losses: np.ndarray, statuses: list[str]) -> None:
    """Draw trials: dots at their loss, a diamond for the best, crosses at the bottom for those without."""
    well = np.isfinite(losses)
    axis.scatter(x[well], losses[well], s=18, color=BLUE, alpha=0.6, linewidths=0, label="trial", zorder=3)
    if well.any():
        best = np.nanargmin(losses)
        axis.plot(x[best], losses[best], "D", color=ORANGE, markersize=6, markeredgecolor="white", zorder=4)
    for status, colour in (("failed", INK), ("diverged", PINK)):
        at = x[~well & np.array([(s == "diverged") == (status == "diverged") for s in statuses], bool)]
        if len(at):
            # x in data, y in the axis' own units: the crosses stay at the bottom on any scale.
            bottom, place = np.full(len(at), 0.035), axis.get_xaxis_transform()
            axis.plot(at, bottom, "x", color=colour, markersize=5, transform=place, label=status, zorder=3)


def _loss_by_parameter(axis: Axes, name: str, trials: list[dict[str, Any]], losses: np.ndarray) -> None:
    has = [i for i, trial in enumerate(trials) if name in trial["parameters"]]
    values = [trials[i]["parameters"][name] for i in has]
    _label(axis, _plain(name, 30), "", "")
    if all(isinstance(v, int | float) and not isinstance(v, bool) and np.isfinite(v) for v in values):
        x = np.array(values, float)
        _log_if_wide(axis.set_xscale, x)
        if axis.get_xscale() == "linear":
            axis.xaxis.set_major_locator(MaxNLocator(nbins=5))
    else:
        x = _strip(axis, [str(value) for value in values])
    _dots(axis, x, losses[has], [trials[i]["status"] for i in has])


def _strip(axis: Axes, values: list[str]) -> np.ndarray:
    """Categories [n] → their places on the x axis, which they name, spread a little to show each dot."""
    categories = sorted(set(values))
    longest = max(map(len, categories)) * len(categories)
    named = [_plain(category, 14) for category in categories]
    axis.set_xticks(range(len(categories)), named, **(SLANT if longest > 26 else {}))
    axis.set_xlim(-0.5, len(categories) - 0.5)
    spread = np.random.default_rng(0).uniform(-0.18, 0.18, len(values))
    return np.array([categories.index(value) for value in values], float) + spread


def _limit_losses(axis: Axes, losses: np.ndarray) -> None:
    """Give every panel the same y axis, with room at the bottom for the crosses."""
    if not len(losses):
        axis.set_yticks([])
        axis.set_ylim(0, 1)
        return
    _log_if_wide(axis.set_yscale, losses)
    low, high = float(losses.min()), float(losses.max())
    if axis.get_yscale() == "log":
        span = high / low
        axis.set_ylim(low / span**0.14, high * span**0.06)
    else:
        span = (high - low) or abs(high) or 1.0
        axis.set_ylim(low - 0.14 * span, high + 0.06 * span)


# --- Target


def _histogram(values: np.ndarray, name: str) -> Figure:
    _, (axis,) = _figure(f"Distribution of {name}", size=(6.4, 3.8))
    _label(axis, "", name, "rows")
    if not len(values):
        return _note(axis, "No values")
    limits = _limits(values)
    axis.hist(values, bins=60, range=limits, color=BLUE, alpha=0.85)
    mean, median = float(values.mean()), float(np.median(values))
    axis.axvline(mean, color=ORANGE, linewidth=1.4, label=f"mean {mean:.4g}")
    axis.axvline(median, color=INK, linewidth=1.4, linestyle="--", label=f"median {median:.4g}")
    axis.set_xlim(limits)
    _thousands(axis.yaxis)
    _legend(axis)
    return _note(axis, f"{len(values):,} rows. {_cut(_outside(values, limits))}")


def _class_bars(counts: dict[str, int], name: str) -> Figure:
    shown = sorted(counts.items(), key=lambda item: -item[1])[:MAX_BARS]
    total = sum(counts.values())
    _, (axis,) = _figure(f"Distribution of {name}", size=(6.4, 1.5 + 0.26 * max(len(shown), 2)))
    _label(axis, "", "rows", "")
    numbers = [number for _, number in shown]
    bars = axis.barh(range(len(shown)), numbers, color=BLUE, alpha=0.85, height=0.7)
    axis.bar_label(bars, [f"{n:,}  ({n / max(total, 1):.1%})" for n in numbers], padding=4, fontsize=SMALL, color=GREY)
    axis.set_yticks(range(len(shown)), [_plain(label, 24) for label, _ in shown])
    axis.set_ylim(len(shown) - 0.4, -0.6)
    axis.grid(False, axis="y")
    axis.set_xlim(0, max([*numbers, 1]) * 1.2)
    _thousands(axis.xaxis)
    fewer = f"The {len(shown)} most frequent of {len(counts):,} classes. " if len(shown) < len(counts) else ""
    return _note(axis, f"{total:,} rows. {fewer}")


# --- The style that all share


def _blank(title: str, size: tuple[float, float]) -> Figure:
    figure = Figure(figsize=size, dpi=DPI, layout="constrained", facecolor="white")
    figure.get_layout_engine().set(w_pad=0.08, h_pad=0.08)  # type: ignore[union-attr, call-arg]
    figure.suptitle(_plain(title, 60), x=0.02, ha="left", **TITLE)
    return figure


def _figure(
    title: str, rows: int = 1, columns: int = 1, size: tuple[float, float] = (6, 4), *,
    sharex: bool = False, **ratios: Sequence[float],
) -> tuple[Figure, list[Axes]]:  # fmt: skip
    """Title and grid → a figure in the common style and its axes in reading order."""
    figure = _blank(title, size)
    grid = figure.subplots(rows, columns, squeeze=False, sharex=sharex, gridspec_kw=dict(ratios))
    axes = list(grid.flat)
    for axis in axes:
        _quiet(axis)
    return figure, axes


def _quiet(axis: Axes) -> None:
    axis.spines[["top", "right"]].set_visible(False)
    axis.spines[["left", "bottom"]].set_color("#b8c0c8")
    axis.grid(True, color=LIGHT, linewidth=0.8)
    axis.set_axisbelow(True)
    axis.tick_params(which="both", colors=GREY, labelsize=SMALL, length=0)


def _label(axis: Axes, title: str, x: str, y: str) -> None:
    if title:
        axis.set_title(title, loc="left", fontsize=9.5, color=INK)
    axis.set_xlabel(_plain(x, 60), fontsize=9, color=GREY)
    axis.set_ylabel(_plain(y, 60), fontsize=9, color=GREY)


def _note(axis: Axes, text: str) -> Figure:
    """Write a note under the title of an axis' figure; returns the figure."""
    figure = _root(axis)
    lines = textwrap.wrap(text.strip(), int(figure.get_figwidth() * 14.5))
    title = figure.get_suptitle().split("\n")[0]
    # The layout knows of the title only: blank lines under it keep the note's place free.
    figure.suptitle(title + "\n " * -(-len(lines) * 3 // 4), x=0.02, ha="left", **TITLE)
    below = ScaledTranslation(0, -25 / 72, figure.dpi_scale_trans)
    figure.text(0.02, 1, "\n".join(lines), transform=figure.transFigure + below, va="top", fontsize=8.5, color=GREY)
    return figure


def _root(axis: Axes) -> Figure:
    figure = axis.get_figure(root=True)
    assert figure is not None
    return figure


def _legend(axis: Axes, loc: Any = "best") -> None:
    axis.legend(loc=loc, **LEGEND)


def _corner(axis: Axes, text: str) -> None:
    box = {"facecolor": "white", "alpha": 0.85, "edgecolor": "none", "pad": 3}
    axis.text(0.97, 0.96, text, transform=axis.transAxes, ha="right", va="top", fontsize=9, color=INK, bbox=box)


def _colour_bar(axis: Axes, cells: Any, label: str) -> None:
    bar = _root(axis).colorbar(cells, ax=axis, shrink=0.7, aspect=28, pad=0.02)
    bar.set_label(label, fontsize=SMALL, color=GREY)
    bar.outline.set_visible(False)  # type: ignore[operator]
    bar.ax.tick_params(which="both", colors=GREY, labelsize=SMALL, length=0)


def _unit_square(axis: Axes) -> None:
    axis.set_xlim(-0.02, 1.02)
    axis.set_ylim(-0.02, 1.02)


def _thousands(axis: Any) -> None:
    axis.set_major_locator(MaxNLocator(nbins=6, steps=[1, 2, 5, 10], integer=True))
    axis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:,.0f}"))


def _log_if_wide(set_scale: Callable[[str], None], values: np.ndarray) -> None:
    """Make an axis logarithmic if all its values are positive and they span more than a ratio of 50."""
    finite = values[np.isfinite(values)]
    if len(finite) and finite.min() > 0 and finite.max() / finite.min() > WIDE:
        set_scale("log")


def _plain(text: str, most: int = 200) -> str:
    """Text from the data → what matplotlib writes as it is: `$` escaped, one line, not too long."""
    line = " ".join(str(text).split())
    short = line if len(line) <= most else line[: most - 1] + "…"
    return short.replace("$", r"\$")


def _names(classes: Iterable[str], most: int = 4) -> str:
    """Class names → the first few, quoted, and how many more there are."""
    quoted = [f"“{_plain(name, 20)}”" for name in classes]
    more = f" and {len(quoted) - most} more" if len(quoted) > most else ""
    return ", ".join(quoted[:most]) + more


def _left_out(rows: int, lacking: str) -> str:
    return f"{rows:,} rows without {lacking} are left out. " if rows else ""

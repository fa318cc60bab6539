"""A training's curves and a search's trials, as figures."""

from __future__ import annotations

from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator, NullLocator

from baton.reporting.figures.style import (
    BLUE,
    INK,
    LEGEND,
    ORANGE,
    PINK,
    SLANT,
    add_legend,
    add_note,
    blank_figure,
    figure_and_axes,
    label_axes,
    log_if_wide,
    plain,
    quiet,
)

MAX_PANELS = 6
LARGER_IS_BETTER = ("accuracy", "auc", "precision", "recall", "f1", "r2")


def curves(history: dict[str, list[float]]) -> dict[str, Figure]:
    """{metric or val_metric: a value per epoch} → "curves": a panel a metric, best epochs marked."""
    metrics_ = list(dict.fromkeys(key.removeprefix("val_") for key in history))
    metrics_.sort(key=lambda name: name == "learning_rate")  # stable: it comes last, the rest as given
    columns = 2 if len(metrics_) == 4 else min(len(metrics_), 3) or 1
    rows = max(1, -(-len(metrics_) // columns))
    figure, axes = figure_and_axes("Training curves", rows, columns, (max(3.6 * columns, 5), 2.7 * rows + 0.4))
    for axis, metric in zip(axes, metrics_, strict=False):
        _learning_curve(axis, metric, history.get(metric, []), history.get(f"val_{metric}", []))
    for axis in axes[len(metrics_) :]:
        axis.set_axis_off()
    if not metrics_:
        add_note(axes[0], "Nothing was recorded")
    return {"curves": figure}


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


# --- Training curves


def _learning_curve(axis: Axes, metric: str, train: list[float], validation: list[float]) -> None:
    label_axes(axis, metric.replace("_", " "), "epoch", "")
    for values, name, colour in ((train, "train", BLUE), (validation, "validation", ORANGE)):
        if len(values):
            marker = "o" if len(values) <= 15 else None
            epochs = np.arange(1, len(values) + 1)
            axis.plot(epochs, values, color=colour, label=name, marker=marker, markersize=3, linewidth=1.5)
    axis.xaxis.set_major_locator(MaxNLocator(integer=True, nbins=6))
    longest = max(len(train), len(validation))
    axis.set_xlim((0.5, 1.5) if longest == 1 else (1 - 0.02 * longest, longest * 1.02))
    log_if_wide(axis.set_yscale, np.array([*train, *validation], float))
    if np.isfinite(validation).any():
        _mark_best(axis, metric, np.array(validation, float))
    if len(validation):
        add_legend(axis)


def _mark_best(axis: Axes, metric: str, validation: np.ndarray) -> None:
    # The name's words decide, not the name: `log_loss` shall be small and `top_5_accuracy` large.
    larger = any(word in LARGER_IS_BETTER for word in metric.lower().split("_"))
    finite = np.where(np.isfinite(validation), validation, -np.inf if larger else np.inf)
    best = int(np.argmax(finite) if larger else np.argmin(finite))
    axis.axvline(best + 1, color=ORANGE, linewidth=0.8, linestyle=":", zorder=1)
    label = f"best {validation[best]:.4g}, epoch {best + 1}"
    axis.plot([best + 1], [validation[best]], "D", color=ORANGE, markersize=6, markeredgecolor="white", label=label)


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
    figure = blank_figure("Search", size)
    grid = figure.add_gridspec(down, 1 + across * bool(panels), width_ratios=[1.9] + [1] * across * bool(panels))
    axes = [figure.add_subplot(grid[:, 0])]
    axes += [figure.add_subplot(grid[i // across, 1 + i % across]) for i in range(panels)]
    for axis in axes:
        quiet(axis)
    return figure, axes


def _loss_by_trial(axis: Axes, trials: list[dict[str, Any]], losses: np.ndarray) -> None:
    numbers = np.array([trial["number"] + 1 for trial in trials], float)  # as the trials' runs are named
    label_axes(axis, "", "trial", "loss")
    axis.xaxis.set_major_locator(MaxNLocator(integer=True) if trials else NullLocator())
    _dots(axis, numbers, losses, [trial["status"] for trial in trials])
    well = np.isfinite(losses)
    seconds = sum(trial.get("seconds") or 0 for trial in trials)
    note = f"{well.sum()} of {len(trials)} trials went well, {seconds:,.0f} s in all"
    if well.any():
        best = np.minimum.accumulate(losses[well])
        axis.step(numbers[well], best, where="post", color=ORANGE, label="best so far", zorder=2)
        note = f"Best loss {best[-1]:.4g} in trial {numbers[np.nanargmin(losses)]:.0f}. {note}"
    add_note(axis, note)


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
    label_axes(axis, plain(name, 30), "", "")
    if all(isinstance(v, int | float) and not isinstance(v, bool) and np.isfinite(v) for v in values):
        x = np.array(values, float)
        log_if_wide(axis.set_xscale, x)
        if axis.get_xscale() == "linear":
            axis.xaxis.set_major_locator(MaxNLocator(nbins=3))  # more would touch each other
    else:
        x = _strip(axis, [str(value) for value in values])
    _dots(axis, x, losses[has], [trials[i]["status"] for i in has])


def _strip(axis: Axes, values: list[str]) -> np.ndarray:
    """Categories [n] → their places on the x axis, which they name, spread a little to show each dot."""
    categories = sorted(set(values))
    longest = max(map(len, categories)) * len(categories)
    named = [plain(category, 14) for category in categories]
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
    log_if_wide(axis.set_yscale, losses)
    low, high = float(losses.min()), float(losses.max())
    if axis.get_yscale() == "log":
        span = high / low
        axis.set_ylim(low / span**0.14, high * span**0.06)
    else:
        span = (high - low) or abs(high) or 1.0
        axis.set_ylim(low - 0.14 * span, high + 0.06 * span)

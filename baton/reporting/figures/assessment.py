"""An Assessment in, matplotlib figures out: slices, prediction intervals, and the difference from the champion."""

from __future__ import annotations

from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from baton.formatting import confidence_text, number_text, slice_text
from baton.reporting.figures.style import (
    BLUE,
    GREEN,
    GREY,
    INK,
    ORANGE,
    PINK,
    SMALL,
    add_legend,
    add_note,
    corner_text,
    figure_and_axes,
    label_axes,
    plain,
    wilson,
)

SHOWN = 24  # slices


def drawn(assessment: dict[str, Any], target: dict[str, Any], metric: str) -> dict[str, Figure]:
    """An Assessment, the spec's target and the primary metric → "slices" and "intervals", where there are any."""
    figures: dict[str, Figure] = {}
    if assessment["slices"]:
        figures["slices"] = worst(assessment, metric)
    if assessment["conformal"] and assessment["conformal"]["levels"]:
        figures["intervals"] = covered(assessment, target)
    return figures


def comparison(compared: dict[str, Any] | None) -> dict[str, Figure]:
    """A verdict's comparison with the champion → "comparison": the interval of the difference; none without one."""
    if not compared:
        return {}
    metric, version = compared["metric"].replace("_", " "), compared["champion_version"]
    difference, ends = compared["difference"], (compared["low"], compared["high"])
    colour = GREEN if ends[1] < 0 else ORANGE if ends[0] > 0 else GREY
    _, (axis,) = figure_and_axes("Difference from the champion", size=(7.2, 2.2))
    label_axes(axis, "", f"{metric}: candidate minus champion, version {version}", "")
    axis.axvline(0, color=INK, linewidth=1.2, linestyle="--", zorder=1)
    axis.hlines(0, *ends, color=colour, linewidth=5, alpha=0.4)
    axis.scatter([difference], [0], s=70, color=colour, zorder=3)
    written = f"{number_text(difference)}  ({number_text(ends[0])} to {number_text(ends[1])})"
    axis.annotate(
        written, (difference, 0), (0, 10), textcoords="offset points", ha="center", fontsize=9, color=INK,
        bbox={"facecolor": "white", "edgecolor": "none", "pad": 1.5},
    )  # fmt: skip
    _hold_zero(axis, *ends)
    interval = f"{confidence_text(compared['confidence'])} interval of {compared['rows']:,} test rows"
    return {"comparison": add_note(axis, f"{interval}. Left of the dashed line the candidate is better.")}


def _hold_zero(axis: Axes, low: float, high: float) -> None:
    """One row without ticks, with zero and both ends inside, and room for what is written on them."""
    low, high = min(low, 0.0), max(high, 0.0)
    margin = 0.25 * (high - low) or 1.0
    axis.set_xlim(low - margin, high + margin)
    axis.set_ylim(-0.6, 1)
    axis.set_yticks([])
    axis.grid(False, axis="y")
    axis.spines["left"].set_visible(False)


def worst(assessment: dict[str, Any], metric: str) -> Figure:
    """The worst slices, a dot and an interval each, against the whole."""
    shown, whole = assessment["slices"][:SHOWN], assessment["metrics"][metric]
    _, (axis,) = figure_and_axes("The worst slices", size=(7.2, 1.7 + 0.25 * max(len(shown), 3)))
    label_axes(axis, "", f"{metric.replace('_', ' ')}, with {100 * assessment['confidence']:g} % interval", "")
    colours = [ORANGE if entry["worse"] else GREY for entry in shown]
    low, high = np.array([entry["interval"] for entry in shown]).T
    axis.hlines(range(len(shown)), low, high, color=colours, linewidth=2, alpha=0.55)
    axis.scatter([entry["value"] for entry in shown], range(len(shown)), s=26, color=colours, zorder=3)
    axis.axvline(whole, color=BLUE, linewidth=1.3, zorder=1)
    _whole_interval(axis, assessment["intervals"][metric])
    axis.set_yticks(range(len(shown)), [plain(slice_text(entry), 44) for entry in shown], fontsize=SMALL, color=INK)
    axis.set_ylim(len(shown) - 0.4, -0.6)
    axis.grid(False, axis="y")
    _write_rows(axis, shown)
    surely = sum(entry["worse"] for entry in assessment["slices"])
    note = f"{surely} surely worse (orange); the grey may be so by chance. " if surely else "None is surely worse. "
    return add_note(axis, f"{note}The line is all {assessment['rows']:,} rows: {metric} {whole:.4g}.")


def covered(assessment: dict[str, Any], target: dict[str, Any]) -> Figure:
    """How often intervals hold the target against how often they should, and how wide they are by prediction."""
    levels = assessment["conformal"]["levels"]
    asked = np.array([float(level) for level in levels])
    observed = np.array([entry["coverage"] for entry in levels.values()])
    _, axes = figure_and_axes(f"Prediction intervals of {target['name']}", 1, 2, (9.0, 3.9), width_ratios=[1, 1.35])
    _draw_coverage(axes[0], asked, observed, assessment["rows"])
    _draw_widths(axes[1], target, [str(level) for level in levels])
    told = ", ".join(f"{o:.1%} for {a:.0%}" for a, o in zip(asked, observed, strict=True))
    return add_note(axes[0], f"{assessment['rows']:,} rows. Share of true values inside: {told}.")


def _whole_interval(axis: Axes, interval: list[float] | None) -> None:
    if interval is not None:
        axis.axvspan(*interval, color=BLUE, alpha=0.12, linewidth=0, zorder=0)


def _write_rows(axis: Axes, entries: list[dict[str, Any]]) -> None:
    """Each slice's number of rows at the right edge."""
    for place, entry in enumerate(entries):
        axis.text(
            1.01, place, f"{entry['rows']:,}", transform=axis.get_yaxis_transform(), va="center", fontsize=SMALL,
            color=GREY,
        )  # fmt: skip
    axis.text(1.01, -0.9, "rows", transform=axis.get_yaxis_transform(), va="center", fontsize=SMALL, color=GREY)


def _draw_coverage(axis: Axes, asked: np.ndarray, observed: np.ndarray, rows: int) -> None:
    low, high = wilson(observed, np.full(len(observed), rows))
    label_axes(axis, "", "level", "share of true values inside")
    ends = (min(asked.min(), low.min()) - 0.03, min(1.0, max(asked.max(), high.max()) + 0.03))
    axis.plot(ends, ends, color=GREY, linewidth=1, linestyle=":", label="as stated")
    axis.vlines(asked, low, high, color=BLUE, linewidth=1.6, alpha=0.6)
    axis.plot(asked, observed, "o", color=BLUE, markersize=6, label="observed, 95 % interval")
    axis.set_xlim(ends)
    axis.set_ylim(ends)
    axis.set_xticks(asked)
    add_legend(axis, loc="upper left")


def _draw_widths(axis: Axes, target: dict[str, Any], levels: list[str]) -> None:
    """Half-widths by group of predictions, as steps; the groups are of equal size, and so are drawn."""
    label_axes(axis, "", f"predicted {plain(target['name'], 40)}", "half of the interval's width")
    edges, widths = target["intervals"]["edges"], target["intervals"]["half_widths"]
    groups = len(edges) + 1
    for level, colour in zip(levels, (GREEN, BLUE, PINK), strict=False):
        heights = [*widths[level], widths[level][-1]]
        axis.step(range(groups + 1), heights, where="post", color=colour, linewidth=1.6, label=f"{float(level):.0%}")
    axis.set_xticks(range(1, groups), [f"{edge:.3g}" for edge in edges])
    axis.set_ylim(0, None)
    if groups == 1:
        corner_text(axis, "one width: too few validation rows for groups")
    add_legend(axis)

"""The target's distribution, as a figure."""

from __future__ import annotations

import numpy as np
from matplotlib.figure import Figure

from baton.reporting.figures.style import (
    BLUE,
    GREY,
    INK,
    ORANGE,
    SMALL,
    add_legend,
    add_note,
    axis_limits,
    cut_note,
    figure_and_axes,
    is_outside,
    label_axes,
    plain,
    thousands,
)

MAX_BARS = 30


def target(
    values: np.ndarray | None, counts: dict[str, int] | None, name: str, rows: int | None = None
) -> dict[str, Figure]:
    """Numbers [n], or the rows of each class, of the target `name` → "target": their distribution.

    `rows` is how many there are, if the numbers are some of them only.
    """
    if counts is not None:
        return {"target": _class_bars(counts, name)}
    numbers = np.asarray([] if values is None else values, float).ravel()
    drawn = f" of {rows:,}" if rows is not None and len(numbers) < rows else ""
    return {"target": _histogram(numbers[np.isfinite(numbers)], name, drawn)}


# --- Target


def _histogram(values: np.ndarray, name: str, drawn: str) -> Figure:
    _, (axis,) = figure_and_axes(f"Distribution of {name}", size=(6.4, 3.8))
    label_axes(axis, "", name, "rows")
    if not len(values):
        return add_note(axis, "No values")
    limits = axis_limits(values)
    axis.hist(values, bins=60, range=limits, color=BLUE, alpha=0.85)
    mean, median = float(values.mean()), float(np.median(values))
    axis.axvline(mean, color=ORANGE, linewidth=1.4, label=f"mean {mean:.4g}")
    axis.axvline(median, color=INK, linewidth=1.4, linestyle="--", label=f"median {median:.4g}")
    axis.set_xlim(limits)
    thousands(axis.yaxis)
    add_legend(axis)
    return add_note(axis, f"{len(values):,}{drawn} rows. {cut_note(is_outside(values, limits))}")


def _class_bars(counts: dict[str, int], name: str) -> Figure:
    shown = sorted(counts.items(), key=lambda item: -item[1])[:MAX_BARS]
    total = sum(counts.values())
    _, (axis,) = figure_and_axes(f"Distribution of {name}", size=(6.4, 1.5 + 0.26 * max(len(shown), 2)))
    label_axes(axis, "", "rows", "")
    numbers = [number for _, number in shown]
    bars = axis.barh(range(len(shown)), numbers, color=BLUE, alpha=0.85, height=0.7)
    axis.bar_label(bars, [f"{n:,}  ({n / max(total, 1):.1%})" for n in numbers], padding=4, fontsize=SMALL, color=GREY)
    axis.set_yticks(range(len(shown)), [plain(label, 24) for label, _ in shown])
    axis.set_ylim(len(shown) - 0.4, -0.6)
    axis.grid(False, axis="y")
    axis.set_xlim(0, max([*numbers, 1]) * 1.2)
    thousands(axis.xaxis)
    fewer = f"The {len(shown)} most frequent of {len(counts):,} classes. " if len(shown) < len(counts) else ""
    return add_note(axis, f"{total:,} rows. {fewer}")

"""`costs.json` in, a figure out: how wrong models are by what they cost."""

from __future__ import annotations

from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from baton.formatting import confidence_text
from baton.reporting.figures.style import (
    GREY,
    SMALL,
    STYLES,
    add_legend,
    add_note,
    figure_and_axes,
    label_axes,
    plain,
)


def draw(table: dict[str, Any]) -> dict[str, Figure]:
    """`costs.json` → "costs": a line a model, its points one view of a picture and more; nothing without points."""
    costs = table["costs"]
    if not costs:
        return {}
    counted = all(cost["multiply_adds"] for cost in costs)
    figure, (axis,) = figure_and_axes("Accuracy and cost", 1, 1, (7.6, 4.2))
    label_axes(axis, "", "multiply-adds a row" if counted else "seconds a row", f"{table['metric']} on test rows")
    names = list(dict.fromkeys(cost["model"] for cost in costs))
    for name, style in zip(names, STYLES * len(names), strict=False):
        _line(axis, name, [cost for cost in costs if cost["model"] == name], counted, style)
    axis.set_xscale("log")
    axis.margins(x=0.1, y=0.15)
    if len(names) > 1:
        add_legend(axis)
    level = confidence_text(table["confidence"])
    note = f"{table['rows']:,} test rows, {level} intervals; the numbers are views of each picture, at points."
    return {"costs": add_note(axis, note)}


def _line(axis: Axes, name: str, costs: list[dict[str, Any]], counted: bool, style: tuple[str, str]) -> None:
    costs = sorted(costs, key=lambda cost: cost["views"])
    x = [cost["multiply_adds"] if counted else cost["seconds_a_row"] for cost in costs]
    y = [cost["value"] for cost in costs]
    spans = [cost["interval"] or [cost["value"]] * 2 for cost in costs]
    ends = [[max(v - low, 0), max(high - v, 0)] for v, (low, high) in zip(y, spans, strict=True)]
    colour, dash = style
    axis.errorbar(
        x,
        y,
        list(zip(*ends, strict=True)),
        color=colour,
        linestyle=dash,
        marker="o",
        markersize=5,
        linewidth=1.2,
        capsize=3,
        label=plain(name),
    )
    for place, value, cost in zip(x, y, costs, strict=True):
        axis.annotate(
            f"{cost['views']}", (place, value), xytext=(5, 5), textcoords="offset points", fontsize=SMALL, color=GREY
        )

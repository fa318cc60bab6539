"""drift.json in, matplotlib figures out: how far columns have drifted, the worst then and now, strange pictures."""

from __future__ import annotations

from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from baton import formatting
from baton.reporting.figures import style
from baton.reporting.figures.style import BLUE, GREY, INK, ORANGE, SKY

BARS, PANELS = 20, 6
ACROSS = 6  # pictures in a row
FAR = 5  # times the limit, where bars end
COLOURS = {"ok": BLUE, "warn": "#E69F00", "drift": ORANGE}


def drift(results: dict[str, Any], limit: float) -> dict[str, Figure]:
    """drift.json and the PSI that warns → "drift": bars of PSI; "drift_columns": the worst, then and now."""
    prediction = [results["prediction"]] if results["prediction"] else []
    distance = [results["pictures"]["distance"]] if results.get("pictures") else []
    measured = [column for column in [*prediction, *distance, *results["columns"]] if column["psi"] is not None]
    if not measured:
        return {}
    drawn = {"drift": _bars(measured[:BARS], limit)}
    worst = [column for column in measured if len(column["bins"]) > 1][:PANELS]
    return drawn | ({"drift_columns": _panels(worst)} if worst else {})


def strangest(pictures: dict[str, Any], pixels: dict[int, np.ndarray]) -> dict[str, Figure]:
    """`pictures` of drift.json, and {row: [h, w, c]} → "drift_pictures": the strangest, the farthest first."""
    shown = pictures["strangest"]
    down = -(-len(shown) // ACROSS)
    figure = style.blank_figure("The strangest scored pictures", (9.6, 1.0 + 1.85 * down))
    axes = list(figure.subplots(down, ACROSS, squeeze=False).flat)
    for axis in axes:
        axis.set_axis_off()
    for axis, each in zip(axes, shown, strict=False):
        style.draw_picture(axis, pixels[each["row"]], style.plain(each["prediction"], 18))
        below = f"row {each['row']:,}: {each['distance']:.2f}"
        axis.text(0, -0.04, below, transform=axis.transAxes, va="top", fontsize=style.SMALL - 1, color=GREY)
    note = (
        f"Of {pictures['rows']:,} scored pictures those that the network sees as least like the training data's, with "
        f"what they are taken for; below, how far they are from the nearest. Of {pictures['reference_rows']:,} "
        f"pictures of the training data {_farthest(shown)}."
    )
    return {"drift_pictures": style.add_note(axes[0], note)}


def _farthest(strange: list[dict[str, Any]]) -> str:
    nearer = strange[0]["farther_than"]
    return "none is as far as the first" if nearer == 1 else f"{1 - nearer:.1%} are as far as the first"


def _bars(columns: list[dict[str, Any]], limit: float) -> Figure:
    figure, (axis,) = style.figure_and_axes("Drift", 1, 1, (7, 1.2 + 0.28 * len(columns)))
    labels = [style.plain(column["name"], 40) for column in columns]
    colours = [COLOURS[column["verdict"]] for column in columns]
    most = FAR * limit  # beyond, a bar only says that it is far too much, and would flatten the others
    widths = [min(column["psi"], most) for column in columns]
    bars = axis.barh(range(len(columns)), widths, color=colours, height=0.7)
    psi = [f"{column['psi']:.3f}{' →' if column['psi'] > most else ''}" for column in columns]
    axis.bar_label(bars, psi, padding=4, fontsize=style.SMALL, color=GREY)
    axis.set_yticks(range(len(columns)), labels)
    axis.set_ylim(len(columns) - 0.4, -0.6)
    axis.grid(False, axis="y")
    axis.set_xlim(0, 1.15 * max(*widths, 1.2 * limit))
    axis.axvline(limit, color=INK, lw=1, ls="--")
    ends = f"; bars end at {most:g}" if any(column["psi"] > most for column in columns) else ""
    axis.set_xlabel(f"PSI; the line is the limit of {limit:g}{ends}", fontsize=9, color=GREY)
    return figure


def _panels(columns: list[dict[str, Any]]) -> Figure:
    across = min(len(columns), 3)
    down = -(-len(columns) // across)
    figure, axes = style.figure_and_axes("Then (training) and now", down, across, (3.5 * across, 2.6 * down + 0.4))
    for axis, column in zip(axes, columns, strict=False):
        _panel(axis, column)
    for axis in axes[len(columns) :]:
        axis.set_axis_off()
    return figure


def _panel(axis: Axes, column: dict[str, Any]) -> None:
    labels, then, now = zip(*column["bins"], strict=True)
    places = range(len(labels))
    axis.bar(places, then, width=1.0, color=SKY, alpha=0.7, label="then")
    axis.step(places, now, where="mid", color=ORANGE, lw=1.6, label="now")
    if isinstance(labels[0], str):
        axis.set_xticks(places, [style.plain(label, 12) for label in labels], rotation=60, fontsize=7)
    else:
        text = formatting.day_text if column["kind"] == "datetime" else formatting.number_text
        ends = (0, len(labels) - 1)
        axis.set_xticks(ends, [text(labels[end]) for end in ends])
        axis.grid(False, axis="x")
    axis.set_title(style.plain(column["name"], 40), fontsize=9)
    style.add_legend(axis)

"""The outcome of a label audit in, matplotlib figures out: suspected labels, and models with and without them."""

from __future__ import annotations

from typing import Any

import numpy as np
import pyarrow as pa
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from baton.reporting.figures.style import (
    BLUE,
    GREY,
    INK,
    LIGHT,
    MAX_NAMED,
    MAX_WRITTEN,
    ORANGE,
    SMALL,
    add_colour_bar,
    add_legend,
    add_note,
    axis_limits,
    blank_figure,
    draw_density,
    draw_picture,
    figure_and_axes,
    label_axes,
    log_if_wide,
    name_cells,
    plain,
)

PAIRS = 4  # in a row: a suspect, and its neighbour


def draw(
    audit: dict[str, Any],
    table: pa.Table,
    classes: list[str],
    pictures: list[np.ndarray],
    neighbours: list[np.ndarray | None],
) -> dict[str, Figure]:
    """`audit.json`, the table of suspects, pictures of its `gallery`, the neighbour of each → the figures by name."""
    drawn = {"audit_ranking": _ranking(audit)}
    if classes:
        drawn["audit_labels"] = _given_suggested(audit, table, classes)
    else:
        drawn["audit_targets"] = _targets(audit, table)
    if pictures:
        drawn["audit_suspects"] = _pictures(audit, pictures, neighbours)
    return drawn


def _summary(audit: dict[str, Any]) -> str:
    share = audit["issues"] / max(audit["rows_audited"], 1)
    return (
        f"{audit['issues']:,} of {audit['rows_audited']:,} rows ({share:.2%}) look wrong; "
        f"by estimate {audit['estimated_error_rate']:.2%} are. "
    )


def _ranking(audit: dict[str, Any]) -> Figure:
    """Each model's metric on all test rows and on those that are not suspected."""
    known = [entry for entry in audit["ranking"] if None not in (entry["original"], entry["cleaned"])]
    _, (axis,) = figure_and_axes(
        "Models with and without suspected labels", size=(6.8, 1.7 + 0.45 * max(len(known), 2))
    )
    label_axes(axis, "", f"{audit['metric']} on test rows: smaller is better", "")
    if not known:
        return add_note(axis, "No model has a finite metric.")
    before, after = (np.array([entry[which] for entry in known]) for which in ("original", "cleaned"))
    places = np.arange(len(known))
    axis.hlines(places, after, before, color=LIGHT, linewidth=3, zorder=1)
    axis.scatter(before, places, s=42, facecolors="white", edgecolors=GREY, linewidths=1.5, label="all test rows")
    axis.scatter(after, places, s=48, color=BLUE, label="without suspects", zorder=3)
    log_if_wide(axis.set_xscale, np.concatenate([before, after]))
    axis.set_yticks(places, [f"{plain(e['model'], 24)}  {e['rank_original']} → {e['rank_cleaned']}" for e in known])
    axis.tick_params(axis="y", labelcolor=INK)
    axis.set_ylim(len(known) - 0.5, -0.6)
    axis.grid(False, axis="y")
    add_legend(axis)
    moved = any(entry["rank_original"] != entry["rank_cleaned"] for entry in known)
    order = "changes the order of the models" if moved else "leaves the models in their order"
    return add_note(axis, f"Leaving out suspected test rows {order}. Beside each name: its rank before → after.")


def _given_suggested(audit: dict[str, Any], table: pa.Table, classes: list[str]) -> Figure:
    k = len(classes)
    place = {name: index for index, name in enumerate(classes)}
    pairs = zip(table["given"].to_pylist(), table["suggested"].to_pylist(), strict=True)
    counts = np.zeros((k, k), int)
    for given, suggested in pairs:
        counts[place[given], place[suggested]] += 1
    side = min(3.6 + 0.42 * k, 9.5)
    _, (axis,) = figure_and_axes("Suspected labels", size=(side + 0.9, side + 0.3))
    cells = axis.imshow(counts, cmap="Blues", vmin=0, vmax=max(counts.max(), 1), interpolation="nearest")
    index = "" if k <= MAX_NAMED else " (its index)"
    label_axes(axis, "", f"suggested class{index}", f"given class{index}")
    add_colour_bar(axis, cells, "rows")
    name_cells(axis, classes)
    for row, column in np.argwhere(counts > 0) if k <= MAX_WRITTEN else ():
        colour = "white" if counts[row, column] > 0.55 * counts.max() else INK
        axis.text(column, row, f"{counts[row, column]:,}", ha="center", va="center", color=colour, fontsize=SMALL)
    return add_note(axis, _summary(audit))


def _targets(audit: dict[str, Any], table: pa.Table) -> Figure:
    _, (axis,) = figure_and_axes("Suspected targets", size=(5.8, 5.2 if table.num_rows else 1.0))
    if not table.num_rows:
        axis.set_axis_off()
        return add_note(axis, f"None. {_summary(audit)}")
    label_axes(axis, "", "suggested: predicted without the row", "given")
    given, suggested = (np.array(table[name].to_pylist(), float) for name in ("given", "suggested"))
    limits = axis_limits(np.concatenate([given, suggested]))
    draw_density(axis, suggested, given, limits, limits)
    axis.plot(limits, limits, color=ORANGE, linewidth=1.2, label="given = suggested")
    add_legend(axis, loc="upper left")
    return add_note(axis, _summary(audit))


def _pictures(audit: dict[str, Any], pictures: list[np.ndarray], neighbours: list[np.ndarray | None]) -> Figure:
    down = -(-len(pictures) // PAIRS)
    figure = blank_figure("The most suspected labels", (9.6, 1.2 + 1.7 * down))
    axes = figure.subplots(down, 2 * PAIRS, squeeze=False)
    for axis in axes.flat:
        axis.set_axis_off()
    for index, (pixels, beside, row) in enumerate(zip(pictures, neighbours, audit["gallery"], strict=True)):
        place, column = divmod(index, PAIRS)
        _pair(axes[place, 2 * column], axes[place, 2 * column + 1], pixels, beside, row)
    return add_note(
        axes[0, 0],
        "Each class by turns, its worst first. Given, and below it suggested, with how sure; to the right the nearest "
        f"picture of the suggested class, as the network sees them. {_summary(audit)}",
    )


def _pair(axis: Axes, other: Axes, pixels: np.ndarray, beside: np.ndarray | None, row: dict[str, Any]) -> None:
    """A suspect, and the nearest picture of the suggested class, if there is one."""
    draw_picture(axis, pixels, f"{plain(row['given'], 14)}\n→ {plain(row['suggested'], 9)} {row['confidence']:.0%}")
    _below(axis, f"{row['split']} {row['row']:,}")
    if beside is not None:
        draw_picture(other, beside, f"\n{plain(row['suggested'], 14)}", BLUE)
        _below(other, f"{row['neighbour']['split']} {row['neighbour']['row']:,}")


def _below(axis: Axes, text: str) -> None:
    axis.text(0, -0.04, text, transform=axis.transAxes, va="top", fontsize=SMALL - 1, color=GREY)

"""The most frequent mix-ups of classes in, a matplotlib figure out: pictures that are mixed up, beside right ones."""

from __future__ import annotations

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from baton.inspection.confusions import MAX_MISTAKEN, MAX_RIGHT, Confusion, Picture
from baton.reporting.figures.style import GREY, SMALL, add_note, blank_figure, draw_heading, draw_picture, plain

ACROSS = MAX_MISTAKEN + 2 * MAX_RIGHT


def draw(mixed: list[Confusion]) -> dict[str, Figure]:
    """Mix-ups → "cnn_confusions", a row each; nothing where no picture is wrong."""
    if not mixed:
        return {}
    figure = blank_figure("What is mixed up most often", (9.6, 1.2 + 1.6 * len(mixed)))
    axes = figure.subplots(len(mixed), ACROSS, squeeze=False)
    height, width = mixed[0].mistaken[0].pixels.shape[:2]
    for axis in axes.flat:
        axis.set_axis_off()
        axis.set_box_aspect(height / width)  # of a place without a picture too: its heading stands where others do
    for row, confusion in zip(axes, mixed, strict=True):
        _row(list(row), confusion)
    note = (
        "A row is a mix-up: test pictures of a class that are taken for another, and right ones of both classes. "
        "Of each those that the network is surest of; below them, how sure it is."
    )
    return {"cnn_confusions": add_note(axes[0][0], note)}


def _row(axes: list[Axes], confusion: Confusion) -> None:
    parts = (confusion.mistaken, *confusion.right)
    starts = (0, MAX_MISTAKEN, MAX_MISTAKEN + MAX_RIGHT)
    share = f"{confusion.count:,} of {confusion.total:,} ({confusion.count / confusion.total:.0%})"
    actual, predicted = (plain(name, 24) for name in (confusion.actual, confusion.predicted))
    headings = (f"{actual} taken for {predicted}: {share}", f"right: {actual}", f"right: {predicted}")
    for first, heading, pictures in zip(starts, headings, parts, strict=True):
        for axis, picture in zip(axes[first:], pictures, strict=False):
            _picture(axis, picture)
        draw_heading(axes[first], heading if pictures else f"{heading}, none")


def _picture(axis: Axes, picture: Picture) -> None:
    draw_picture(axis, picture.pixels, "")
    below = f"row {picture.row:,}, {picture.probability:.0%}"
    axis.text(0, -0.04, below, transform=axis.transAxes, va="top", fontsize=SMALL - 1, color=GREY)

"""The views that a model answers by in, a figure of a picture by each of them out."""

from __future__ import annotations

from typing import Any

import numpy as np
from matplotlib.figure import Figure
from PIL import Image

from baton.reporting.figures.style import SMALL, add_note, blank_figure, draw_picture

ACROSS, MAX_VIEWS = 6, 24


def draw(selection: dict[str, Any] | None, pixels: np.ndarray) -> dict[str, Figure]:
    """evaluation.json's `views` and a picture uint8 [h, w, c] → "views"; nothing where it is seen as it is only."""
    if not selection or len(selection["views"]) < 2:
        return {}
    views = selection["views"][:MAX_VIEWS]
    down = -(-len(views) // ACROSS)
    figure = blank_figure("What the model sees of a picture", (9.6, 0.9 + 1.8 * down))
    axes = list(figure.subplots(down, ACROSS, squeeze=False).flat)
    losses = [selection.get("log_loss"), *(step["log_loss"] for step in selection["added"])]
    for index, axis in enumerate(axes):
        axis.set_axis_off()
        if index < len(views):
            draw_picture(axis, _seen(pixels, views[index]), _title(views[index]))
        if index < len(losses) and losses[index] is not None:
            text = f"log_loss {losses[index]:.4f}"
            axis.text(0, -0.04, text, transform=axis.transAxes, va="top", fontsize=SMALL - 1)
    return {"views": add_note(axes[0], _note(selection, len(views)))}


def _seen(pixels: np.ndarray, view: dict[str, Any]) -> np.ndarray:
    height, width, channels = pixels.shape
    top, left = view["top"] * height, view["left"] * width
    box = (left, top, left + view["size"] * width, top + view["size"] * height)
    image = Image.fromarray(pixels[..., 0] if channels == 1 else pixels)
    seen = np.asarray(image.resize((width, height), Image.Resampling.BILINEAR, box=box)).reshape(pixels.shape)
    return seen[:, ::-1] if view["mirror"] else seen


def _title(view: dict[str, Any]) -> str:
    mirrored = ", mirrored" if view["mirror"] else ""
    return f"{'whole' if view['size'] == 1 else format(view['size'], '.0%')}{mirrored}"


def _note(selection: dict[str, Any], drawn: int) -> str:
    count = len(selection["views"])
    some = f"the first {drawn} of {count} views" if drawn < count else f"{count} views"
    if selection["asked"] != "auto":
        return f"A validation picture by {some}, whose mean is the answer; in percent, the share of each side."
    return (
        f"A validation picture by {some}, in the order in which they were added of {selection['tried']} tried; below, "
        f"the log loss of {selection['rows']:,} validation rows by the mean of all up to it, at its best temperature."
    )

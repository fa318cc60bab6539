"""Pictures as figures: what ingest found odd, or there several times; what training makes of a few."""

from __future__ import annotations

import base64
import io
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from PIL import Image

from baton.data.picture_profile import DUPLICATES
from baton.reporting.figures.style import INK, LIGHT, SMALL, add_note, blank_figure, plain

ACROSS = 6  # pictures in a row
PAIRS = 8  # of a picture and what is made of it, in a row


def gallery(profile: dict[str, Any]) -> dict[str, Figure]:
    """`pictures.json` → "pictures": examples of each kind; nothing where nothing is odd and all is there once."""
    shown = [(_title(kind, example), example) for kind, examples in profile["examples"].items()
             for example in examples]  # fmt: skip
    if not shown:
        return {}
    down = -(-len(shown) // ACROSS)
    figure = blank_figure("Pictures that are odd, or there several times", (9.6, 0.9 + 1.8 * down))
    axes = list(figure.subplots(down, ACROSS, squeeze=False).flat)
    for axis, (title, example) in zip(axes, shown, strict=False):
        _picture(axis, np.asarray(Image.open(io.BytesIO(base64.b64decode(example["png"])))), title)
    for axis in axes[len(shown) :]:
        axis.set_axis_off()
    counts = ", ".join(f"{count:,} {kind}" for kind, count in profile["oddities"].items())
    return {"pictures": add_note(axes[0], f"Of {profile['pictures']:,} pictures: {counts or 'none is odd'}.")}


def augmented(before: np.ndarray, after: np.ndarray, operations: dict[str, Any]) -> dict[str, Figure]:
    """Pictures uint8 [n, h, w, c] and what training makes of them → "augmentation"; each below itself."""
    down = -(-len(before) // PAIRS)
    figure = blank_figure("Pictures as they are, and as they are trained on", (9.6, 0.9 + 2.3 * down))
    axes = figure.subplots(2 * down, PAIRS, squeeze=False)
    for axis in axes.flat:
        axis.set_axis_off()
    for index, pair in enumerate(zip(before, after, strict=True)):
        row, column = divmod(index, PAIRS)
        for part, pixels in enumerate(pair):
            axis = axes[2 * row + part, column]
            axis.set_axis_on()
            title = ("as it is", "trained on")[part] if column == 0 else ""
            _picture(axis, pixels[..., 0] if pixels.shape[-1] == 1 else pixels, title)
    done = ", ".join(name.replace("_", " ") + _strength(value) for name, value in operations.items())
    return {"augmentation": add_note(axes[0, 0], f"In the first epoch; another is made of each later on: {done}.")}


def _strength(value: Any) -> str:
    return "" if value is True else f" {value:g}" if isinstance(value, int | float) else f" {value}"


def _title(kind: str, example: dict[str, Any]) -> str:
    head = "same, or nearly" if kind == DUPLICATES else kind
    return f"{head}\n{plain(example['label'], 14)} {plain(example['name'], 12)}"


def _picture(axis: Axes, pixels: np.ndarray, title: str) -> None:
    axis.imshow(pixels, cmap="Greys_r" if pixels.ndim == 2 else None, vmin=0, vmax=255)
    axis.set_xticks([])
    axis.set_yticks([])
    axis.grid(False)
    axis.spines[:].set_color(LIGHT)
    axis.set_title(title, fontsize=SMALL, color=INK, loc="left")

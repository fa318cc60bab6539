"""`GradCam` in, a matplotlib figure out: where the network sees a class in pictures, right ones and wrong ones."""

from __future__ import annotations

import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import Colormap, LinearSegmentedColormap, to_rgb
from matplotlib.figure import Figure

from baton.inspection.grad_cam import Example, GradCam
from baton.reporting.figures.style import (
    BLUE,
    GREY,
    ORANGE,
    SMALL,
    add_note,
    blank_figure,
    draw_picture,
    plain,
)

ACROSS = 6  # cells in a row: three right ones with their map, or two wrong ones with both of theirs
OPAQUE = 0.85  # where a map is strongest
FADED = -128  # what would be black under a map: a colour is hardly seen on black


def _glow(colour: str) -> Colormap:
    """Nothing where a map is 0, the colour where it is strongest."""
    return LinearSegmentedColormap.from_list("glow", [(*to_rgb(colour), 0.0), (*to_rgb(colour), OPAQUE)])


PREDICTED, ACTUAL = _glow(ORANGE), _glow(BLUE)


def draw(looked: GradCam | None) -> dict[str, Figure]:
    """`GradCam` → "cnn_grad_cam"; nothing where no picture was looked at."""
    if looked is None or not (looked.right or looked.wrong):
        return {}
    above, below = (-(-cells // ACROSS) for cells in (2 * len(looked.right), 3 * len(looked.wrong)))
    figure = blank_figure("Where the network sees the class", (9.6, 1.3 + 1.9 * (above + below)))
    axes = list(figure.subplots(above + below, ACROSS, squeeze=False).flat)
    for axis in axes:
        axis.set_axis_off()
    for index, example in enumerate(looked.right):
        _right(axes[2 * index : 2 * index + 2], example)
    for index, example in enumerate(looked.wrong):
        first = ACROSS * above + 3 * index
        _wrong(axes[first : first + 3], example)
    height, width = looked.size
    return {
        "cnn_grad_cam": add_note(
            axes[0],
            "Grad-CAM: orange adds to the score of the predicted class; of wrong ones, blue adds to that of the actual "
            "class, on the same scale. Right ones first; of both those that the network is surest of. "
            f"The map has {height} × {width} cells, after {plain(looked.layer, 40)}.",
        )
    }


def _right(axes: list[Axes], example: Example) -> None:
    draw_picture(axes[0], example.pixels, f"row {example.row:,}\nright", GREY)
    _map(axes[1], example.pixels, example.predicted_map, float(example.predicted_map.max()), PREDICTED)
    _name(axes[1], "predicted", example.predicted, example.predicted_map, ORANGE)


def _wrong(axes: list[Axes], example: Example) -> None:
    assert example.actual_map is not None
    limit = float(max(example.predicted_map.max(), example.actual_map.max()))
    draw_picture(axes[0], example.pixels, f"row {example.row:,}\nwrong", GREY)
    _map(axes[1], example.pixels, example.predicted_map, limit, PREDICTED)
    _name(axes[1], "predicted", example.predicted, example.predicted_map, ORANGE)
    _map(axes[2], example.pixels, example.actual_map, limit, ACTUAL)
    _name(axes[2], "actual", example.actual, example.actual_map, BLUE)


def _map(axis: Axes, pixels: np.ndarray, values: np.ndarray, limit: float, colours: Colormap) -> None:
    """A map over its picture in grey, both across the whole axis."""
    whole = (0, 1, 1, 0)
    axis.imshow(pixels.mean(axis=2), cmap="Greys_r", vmin=FADED, vmax=255, extent=whole, interpolation="nearest")
    axis.imshow(values, cmap=colours, vmin=0, vmax=limit or 1.0, extent=whole, interpolation="bilinear")
    axis.set_aspect(pixels.shape[0] / pixels.shape[1])


def _name(axis: Axes, kind: str, answer: tuple[str, float], values: np.ndarray, colour: str) -> None:
    nothing = "" if values.max() > 0 else ", nothing adds"
    title = f"{kind} {answer[1]:.0%}{nothing}\n{plain(answer[0], 18)}"
    axis.set_title(title, fontsize=SMALL, color=colour, loc="left")

"""`FeatureMaps` in, matplotlib figures out: first filters, a picture's feature maps, and pictures changed a little."""

from __future__ import annotations

from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import LinearSegmentedColormap
from matplotlib.figure import Figure

from baton.inspection.feature_maps import MAX_MAPS, STEPS, Adversarial, FeatureMaps, Filters
from baton.reporting.figures.style import (
    BLUE,
    GREY,
    LIGHT,
    ORANGE,
    SMALL,
    add_note,
    blank_figure,
    draw_heading,
    draw_picture,
    plain,
)

ACROSS = 8  # filters in a row
PAIRS = 2  # changed pictures in a row
NEGATIVE_POSITIVE = LinearSegmentedColormap.from_list("negative-positive", [BLUE, "#ffffff", ORANGE])


def draw(learnt: FeatureMaps) -> dict[str, Figure]:
    """What a network learnt → the figures by name, those that there is something to draw of."""
    drawn = {}
    if learnt.filters:
        drawn["cnn_filters"] = _filters(learnt.filters)
    if learnt.stages:
        drawn["cnn_feature_maps"] = _stages(learnt)
    if learnt.examples:
        drawn["cnn_adversarial"] = _adversarial(learnt)
    return drawn


def _filters(filters: Filters) -> Figure:
    count = filters.kernels.shape[-1]
    down = -(-count // ACROSS)
    figure = blank_figure("Filters of the first convolution", (6.4, 1.0 + 0.75 * down))
    axes = list(figure.subplots(down, ACROSS, squeeze=False).flat)
    limit = float(np.abs(filters.kernels).max()) or 1.0
    for axis, kernel in zip(axes, np.moveaxis(filters.kernels, -1, 0), strict=False):
        _bare(axis)
        if kernel.shape[2] == 3:  # as a colour, grey where the weights are 0
            axis.imshow((kernel / limit + 1) / 2, interpolation="nearest")
        else:
            axis.imshow(kernel.mean(axis=2), cmap=NEGATIVE_POSITIVE, vmin=-limit, vmax=limit, interpolation="nearest")
    for axis in axes[count:]:
        axis.set_axis_off()
    height, width, channels, _ = filters.kernels.shape
    colours = "Grey is 0." if channels == 3 else "Orange adds, blue takes away."
    some = f"the strongest {count} of {filters.count:,}" if count < filters.count else f"all {count}"
    return add_note(axes[0], f"{plain(filters.layer, 40)}: {some}, {height} × {width} pixels. {colours}")


def _stages(learnt: FeatureMaps) -> Figure:
    """The picture, and below it a row of maps for each stage."""
    figure = blank_figure("Feature maps of a picture, stage by stage", (9.6, 1.1 + 1.35 * (len(learnt.stages) + 1)))
    axes = figure.subplots(len(learnt.stages) + 1, MAX_MAPS, squeeze=False)
    for axis in axes.flat:
        axis.set_axis_off()
    draw_picture(axes[0][0], learnt.picture, "")
    draw_heading(axes[0][0], f"predicted: {plain(learnt.classified, 40)}")
    for row, stage in zip(axes[1:], learnt.stages, strict=True):
        height, width, count = stage.maps.shape
        for axis, values in zip(row, np.moveaxis(stage.maps, -1, 0), strict=False):
            axis.imshow(values, cmap="viridis", interpolation="nearest")
        title = f"{height} × {width}, {count} of {stage.channels:,} maps, after {plain(stage.layer, 40)}"
        draw_heading(row[0], title)
    return add_note(
        axes[0][0],
        f"Test row {learnt.row:,}. Of each stage the maps that vary most over the picture, each in its own scale: "
        "bright is a large value.",
    )


def _adversarial(learnt: FeatureMaps) -> Figure:
    """Three pictures an example: as it is, the change, and both together."""
    down = -(-len(learnt.examples) // PAIRS)
    figure = blank_figure("A small change, another class", (9.6, 1.1 + 1.75 * down))
    grid = figure.subplots(down, 3 * PAIRS, squeeze=False)
    for axis in grid.flat:
        axis.set_axis_off()
    for index, example in enumerate(learnt.examples):
        first = 3 * (index % PAIRS)
        _example(grid[index // PAIRS][first : first + 3], example)
    within = ", ".join(f"{learnt.turned(step)} within ±{step}" for step in STEPS)
    return add_note(
        grid[0][0],
        f"Each pixel moves by the sign of the loss' gradient. Of {len(learnt.steps)} test pictures that are classified "
        f"rightly, those that need least. Of all of them {within} of 255 become another class.",
    )


def _example(axes: Any, example: Adversarial) -> None:
    before, change, after = axes
    draw_picture(before, example.pixels, _answer(*example.before))
    moved = example.changed.astype(int) - example.pixels.astype(int)
    change.imshow(moved.mean(axis=2), cmap=NEGATIVE_POSITIVE, vmin=-example.step, vmax=example.step)
    change.set_title(f"row {example.row:,}\n±{example.step} of 255", fontsize=SMALL, color=GREY, loc="left")
    draw_picture(after, example.changed, _answer(*example.after), ORANGE)


def _answer(name: str, probability: float) -> str:
    return f"{plain(name, 16)}\n{probability:.0%}"


def _bare(axis: Axes) -> None:
    axis.set_xticks([])
    axis.set_yticks([])
    axis.spines[:].set_color(LIGHT)

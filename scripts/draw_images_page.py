"""Draw the figures of docs/explanation/IMAGES.md: `python -m scripts.draw_images_page`, in the project's folder.

The numbers are counted by `baton.networks.costs`; the picture is the bundled sample's.
"""

from __future__ import annotations

import io
import re
from pathlib import Path
from typing import Any

import keras
import numpy as np
import pyarrow.parquet as pq
from matplotlib import colormaps
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import FancyBboxPatch, Rectangle
from PIL import Image

from baton.networks import zoo
from baton.networks.build import LAYERS
from baton.networks.costs import LayerCost, layer_costs
from baton.reporting.figures.style import (
    BLUE,
    GREY,
    INK,
    LIGHT,
    ORANGE,
    SMALL,
    add_note,
    blank_figure,
    figure_and_axes,
    label_axes,
)

ROOT = Path(__file__).parents[1]
FOLDER = ROOT / "docs" / "explanation" / "images"
DPI, COLOURS = 100, 32  # all pictures of the page together stay below 100 kB
VGG16 = ((64, 2), (128, 2), (256, 3), (512, 3), (512, 3))  # filters and convolutions of each stage
PICTURE = 9  # of the sample's rows


def main() -> None:
    """Write each figure as a PNG of few colours."""
    FOLDER.mkdir(exist_ok=True)
    figures = {"padding": padding(), "pooling": pooling(), "one_by_one": one_by_one(), "vgg16": vgg16()}
    for name, figure in {**figures, "blocks": blocks(), "zoo": accuracy_against_operations()}.items():
        held = io.BytesIO()
        figure.savefig(held, format="png", dpi=DPI)
        Image.open(held).convert("RGB").quantize(COLOURS).save(FOLDER / f"{name}.png", optimize=True)
        print(f"{name}.png: {(FOLDER / f'{name}.png').stat().st_size:,} bytes")


def accuracy_against_operations() -> Figure:
    """The zoo's networks by their multiply-adds and what was published of their top-1 accuracy."""
    figure, axes = figure_and_axes("Accuracy against multiply-adds", 1, 1, (9.6, 5.6))
    axis = axes[0]
    rows = zoo.models()
    families = sorted({_family(row.name) for row in rows})
    for family, colour in zip(families, colormaps["tab20"].colors, strict=False):
        own = [row for row in rows if _family(row.name) == family]
        axis.plot([row.multiply_adds for row in own], [row.top1 for row in own], "o-", color=colour, lw=0.8, ms=4)
        larger = [row for row in own if "21k" in row.protocol]
        marked = [row.multiply_adds for row in larger], [row.top1 for row in larger]
        axis.plot(*marked, "o", color=colour, mfc="white", ms=5)
        axis.annotate(family, (own[-1].multiply_adds, own[-1].top1), (4, 4), textcoords="offset points", fontsize=SMALL)
    axis.set_xscale("log")
    label_axes(axis, "", "multiply-adds a picture, at the network's own size", "top-1, % of ImageNet's validation")
    add_note(axis, "One model each, as published; a line joins a family. Hollow: learnt from ImageNet-21k before.")
    return figure


def _family(name: str) -> str:
    """A network's name without what tells its size."""
    version = "V2" if re.fullmatch(r"ResNet\d+V2", name) else ""
    return re.sub(r"(?<!V)\d+(V2)?$|(B\d|[SML]|Tiny|Small|Base|Large|XLarge|Mobile)$", "", name) + version


def chain(shape: tuple[int, ...], *layers: Any) -> keras.Model:
    """Layers one after the other on a map of `shape`."""
    inputs = features = keras.Input(shape)
    for layer in layers:
        features = layer(features)
    return keras.Model(inputs, features)


def padding() -> Figure:
    """The same map and kernel with and without padding, by strides of 1 and 2."""
    figure = blank_figure("Padding and strides", (9.6, 3.1))
    cases = [("valid", 1), ("valid", 2), ("same", 1), ("same", 2)]
    for axis, (kind, strides) in zip(figure.subplots(1, len(cases)), cases, strict=True):
        layer = LAYERS["conv2d"](1, 3, strides=strides, padding=kind)
        side = chain((6, 6, 1), layer).output_shape[1]
        around = max((side - 1) * strides + 3 - 6, 0) if kind == "same" else 0
        before = around // 2  # of an odd padding the smaller half comes first
        _grid(axis, 6 + around, lambda x, y, b=before: "#c9ddec" if 0 <= x - b < 6 and 0 <= y - b < 6 else "white")
        for x in range(side):
            for y in range(side):
                axis.plot(x * strides + 1.5, y * strides + 1.5, "o", color=ORANGE, markersize=5)
        axis.add_patch(Rectangle((0, 0), 3, 3, fill=False, edgecolor=ORANGE, linewidth=2))
        axis.set_title(f"{kind}, strides {strides}\n6 × 6 → {side} × {side}", fontsize=9.5, color=INK, loc="left")
    note = "A kernel of 3 × 3 on a map of 6 × 6. White cells are padding, dots the middles of the places it takes."
    return add_note(figure.axes[0], note)


def _grid(axis: Axes, side: int, colour: Any) -> None:
    for x in range(side):
        for y in range(side):
            axis.add_patch(Rectangle((x, y), 1, 1, facecolor=colour(x, y), edgecolor="#9fb3c8", linewidth=0.7))
    axis.set_xlim(-0.2, 8.2)
    axis.set_ylim(8.2, -0.2)
    axis.set_aspect("equal")
    axis.set_axis_off()


def pooling() -> Figure:
    """A picture, and what is left of it after the largest and the mean of each 2 × 2, once and twice."""
    content = pq.read_table(ROOT / "data" / "fashion.parquet").column("image")[PICTURE].as_py()
    content = content["bytes"] if isinstance(content, dict) else content
    pixels = np.asarray(Image.open(io.BytesIO(content)).convert("L"), np.float32)[None, :, :, None]
    figure = blank_figure("Max against average pooling", (9.6, 2.9))
    axes = figure.subplots(1, 5)
    _picture(axes[0], pixels, "28 × 28")
    for first, kind in ((1, "max_pooling2d"), (3, "average_pooling2d")):
        once = np.asarray(LAYERS[kind](pool_size=2)(pixels))
        twice = np.asarray(LAYERS[kind](pool_size=2)(once))
        _picture(axes[first], once, f"{kind.split('_')[0]}, 14 × 14")
        _picture(axes[first + 1], twice, f"{kind.split('_')[0]}, 7 × 7")
    note = "Of each 2 × 2 pixels the largest, or the mean. The largest keeps bright lines, the mean the brightness."
    return add_note(axes[0], note)


def _picture(axis: Axes, pixels: np.ndarray, title: str) -> None:
    axis.imshow(pixels[0, :, :, 0], cmap="Greys_r", vmin=0, vmax=255, interpolation="nearest")
    axis.set_title(title, fontsize=9.5, color=INK, loc="left")
    axis.set_axis_off()


def one_by_one() -> Figure:
    """Multiply-adds of 20 kernels of 5 × 5, with and without a 1 × 1 convolution before them."""
    conv = LAYERS["conv2d"]
    direct = layer_costs(chain((14, 14, 512), conv(20, 5, padding="same")))
    narrow = layer_costs(chain((14, 14, 512), conv(16, 1), conv(20, 5, padding="same")))
    _, (axis,) = figure_and_axes("What a 1 × 1 convolution saves", size=(7.6, 2.6))
    label_axes(axis, "", "million multiply-adds", "")
    parts = [direct[0].multiply_adds / 1e6, narrow[0].multiply_adds / 1e6, narrow[1].multiply_adds / 1e6]
    axis.barh([1, 0], [parts[0], parts[2]], left=[0, parts[1]], color=BLUE, height=0.55)
    axis.barh([0], [parts[1]], color=ORANGE, height=0.55)
    axis.set_yticks([1, 0], ["14 × 14 × 512\n→ 20 of 5 × 5", "→ 16 of 1 × 1\n→ 20 of 5 × 5"], fontsize=9, color=INK)
    axis.text(parts[0] + 0.5, 1, f"{direct[0].multiply_adds:,}", va="center", fontsize=9, color=INK)
    total = narrow[0].multiply_adds + narrow[1].multiply_adds
    told = (
        f"{narrow[0].multiply_adds:,} + {narrow[1].multiply_adds:,} = {total:,}, {total / direct[0].multiply_adds:.1%}"
    )
    axis.text(parts[1] + parts[2] + 0.5, 0, told, va="center", fontsize=9, color=INK)
    axis.set_xlim(0, 62)
    axis.set_ylim(-0.6, 1.6)
    axis.grid(False, axis="y")
    return add_note(axis, "A map of 14 × 14 with 512 channels becomes 20 channels by kernels of 5 × 5, with padding.")


def vgg16_costs() -> list[LayerCost]:
    """The layers of VGG16 that have weights."""
    layers = []
    for stage, (filters, convolutions) in enumerate(VGG16, 1):
        for number in range(1, convolutions + 1):
            options = {"padding": "same", "kernel_initializer": "zeros", "name": f"conv{stage}_{number}"}
            layers.append(LAYERS["conv2d"](filters, 3, **options))
        layers.append(LAYERS["max_pooling2d"]())
    dense = [LAYERS["dense"](units, kernel_initializer="zeros", name=f"dense{number}")
             for number, units in enumerate((4096, 4096, 1000), 1)]  # fmt: skip
    return [cost for cost in layer_costs(chain((224, 224, 3), *layers, LAYERS["flatten"](), *dense)) if cost.parameters]


def vgg16() -> Figure:
    """Parameters and multiply-adds of each of VGG16's layers."""
    costs = vgg16_costs()
    figure, axes = figure_and_axes("VGG16, layer by layer", 1, 2, size=(9.6, 4.6))
    measures = {"million parameters": "parameters", "million multiply-adds": "multiply_adds"}
    for axis, (label, attribute) in zip(axes, measures.items(), strict=True):
        values = [getattr(cost, attribute) for cost in costs]
        colours = [BLUE if cost.kind == "Conv2D" else ORANGE for cost in costs]
        bars = axis.barh(range(len(costs)), [value / 1e6 for value in values], color=colours, height=0.7)
        axis.bar_label(bars, [f"{value:,}" for value in values], padding=3, fontsize=SMALL, color=GREY)
        axis.set_yticks(range(len(costs)), [cost.name for cost in costs], fontsize=SMALL)
        axis.invert_yaxis()
        axis.set_xlim(0, max(values) / 1e6 * 1.35)
        axis.grid(False, axis="y")
        label_axes(axis, f"{sum(values):,} in all", label, "")
    note = "Convolutions (blue) do nearly all the work; dense layers (orange) have nearly all parameters."
    add_note(axes[0], note)
    return figure


# name: (width, boxes as (x, y, text), arrows as pairs of boxes), drawn from above
BLOCKS: dict[str, tuple[list[tuple[float, float, str]], list[tuple[int, int]]]] = {
    "residual": (
        [(1, 0, "input"), (0, 1, "conv 3×3"), (0, 2, "conv 3×3"), (1, 3, "add"), (2, 1.5, "1×1, if it\nmust fit")],
        [(0, 1), (1, 2), (2, 3), (0, 4), (4, 3)],
    ),
    "bottleneck": (
        [(1, 0, "input"), (0, 0.75, "conv 1×1,\n÷ 4"), (0, 1.5, "conv 3×3"), (0, 2.25, "conv 1×1"), (1, 3, "add"),
         (2, 1.5, "1×1, if it\nmust fit")],
        [(0, 1), (1, 2), (2, 3), (3, 4), (0, 5), (5, 4)],
    ),
    "inception": (
        [(1.5, 0, "input"), (0, 1.5, "1×1"), (1, 1, "1×1"), (1, 2, "3×3"), (2, 1, "1×1"), (2, 2, "5×5"),
         (3, 1, "max 3×3"), (3, 2, "1×1"), (1.5, 3, "concatenate")],
        [(0, 1), (0, 2), (2, 3), (0, 4), (4, 5), (0, 6), (6, 7), (1, 8), (3, 8), (5, 8), (7, 8)],
    ),
    "squeeze_excitation": (
        [(1, 0, "input"), (0, 0.75, "means of\nchannels"), (0, 1.5, "dense, ÷ 16"), (0, 2.25, "dense,\nsigmoid"),
         (1, 3, "multiply")],
        [(0, 1), (1, 2), (2, 3), (3, 4), (0, 4)],
    ),
}  # fmt: skip


def blocks() -> Figure:
    """The blocks as boxes and arrows."""
    figure = blank_figure("Blocks", (9.6, 3.9))
    widths = [2.7, 2.7, 4.0, 2.2]
    for axis, (name, (boxes, arrows)) in zip(
        figure.subplots(1, 4, gridspec_kw={"width_ratios": widths}), BLOCKS.items(), strict=True
    ):
        for start, end in arrows:
            (x, y, _), (other_x, other_y, _) = boxes[start], boxes[end]
            ends = {"xy": (other_x, other_y - 0.2), "xytext": (x, y + 0.2)}
            axis.annotate("", **ends, arrowprops={"arrowstyle": "-|>", "color": GREY, "shrinkA": 0, "shrinkB": 0})
        for x, y, text in boxes:
            plain = text in ("input", "add", "multiply", "concatenate")
            box = FancyBboxPatch(
                (x - 0.44, y - 0.2), 0.88, 0.4, boxstyle="round,pad=0,rounding_size=0.08",
                facecolor=LIGHT if plain else "#c9ddec", edgecolor="none", zorder=4,
            )  # fmt: skip
            axis.add_patch(box)
            axis.text(x, y, text, ha="center", va="center", fontsize=SMALL - 1, color=INK, zorder=5)
        axis.set_title(name, fontsize=9.5, color=INK, loc="left")
        across = [x for x, _, _ in boxes]
        axis.set_xlim(min(across) - 0.5, max(across) + 0.5)
        axis.set_ylim(3.35, -0.35)
        axis.set_axis_off()
    return add_note(figure.axes[0], "Each convolution is normalised and activated; after add comes the activation.")


if __name__ == "__main__":
    main()

"""The style that all figures share, by matplotlib.

Only `matplotlib.figure.Figure` objects and explicit styling: pyplot and rcParams are global state, which threads
share. Text from the data goes through `plain`, or a `$` in it would be mathematics.
"""

from __future__ import annotations

import textwrap
from collections.abc import Callable, Iterable, Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, MaxNLocator
from matplotlib.transforms import ScaledTranslation

# Okabe and Ito's colours, which colour-blind people tell apart (jfly.uni-koeln.de/color).
BLUE, ORANGE, GREEN, PINK, SKY = "#0072B2", "#D55E00", "#009E73", "#CC79A7", "#56B4E9"
STYLES = [(colour, dash) for dash in ("-", "--") for colour in (BLUE, ORANGE, GREEN, PINK, SKY)]
INK, GREY, LIGHT = "#1f2933", "#6b7580", "#e4e8ec"
DPI = 150  # sharp in a page, which shows a figure in its size in inches
SMALL = 8  # points; the smallest text that stays readable in a thumbnail
LEGEND: dict[str, Any] = {"fontsize": SMALL, "framealpha": 0.85, "edgecolor": "none", "labelcolor": INK}
SLANT: dict[str, Any] = {"rotation": 30, "ha": "right", "rotation_mode": "anchor"}
TITLE: dict[str, Any] = {"fontsize": 12, "fontweight": "bold", "color": INK}
MAX_DOTS = 2000  # beyond this many points single dots hide each other and density is drawn
TAILS = (0.001, 0.999)  # the quantiles at which axes are cut
WIDE = 50  # a ratio of largest to smallest beyond which an axis is logarithmic
MAX_WRITTEN, MAX_NAMED = 20, 40


def draw_density(
    axis: Axes, x: np.ndarray, y: np.ndarray, across: tuple[float, float], up: tuple[float, float]
) -> None:
    """Draw points [n] within limits: as dots if they are few, else as hexagons with a colour bar."""
    if len(x) <= MAX_DOTS:
        axis.scatter(x, y, s=14, color=BLUE, alpha=0.45, linewidths=0)
    else:
        # Rows outside the limits would stretch the grid of hexagons to where nobody looks.
        inside = ~(is_outside(x, across) | is_outside(y, up))
        cells = axis.hexbin(
            x[inside], y[inside], gridsize=55, extent=(*across, *up), bins="log", mincnt=1, cmap="Blues",
            linewidths=0.1,
        )  # fmt: skip
        cells.set_clim(0.5, None)  # a lone row stays visible on white
        add_colour_bar(axis, cells, "rows")
    axis.set_xlim(across)
    axis.set_ylim(up)


def axis_limits(values: np.ndarray) -> tuple[float, float]:
    """Values [n] → the ends of an axis: their 0.1 and 99.9 % quantiles if they are many, with a margin."""
    low, high = np.quantile(values, TAILS if len(values) > MAX_DOTS else (0, 1))
    margin = 0.03 * (high - low) or 0.5 * abs(high) or 0.5
    return float(low - margin), float(high + margin)


def is_outside(values: np.ndarray, limits: tuple[float, float]) -> np.ndarray:
    return (values < limits[0]) | (values > limits[1])


def cut_note(outside: np.ndarray) -> str:
    """Mask [n] of rows beyond the axes → the sentence that says so; empty if there are none."""
    number = int(outside.sum())
    return f"Axes span the 0.1 to 99.9 % quantiles: {number:,} rows lie outside. " if number else ""


def name_cells(axis: Axes, classes: list[str]) -> None:
    axis.grid(False)
    if len(classes) > MAX_NAMED:
        return
    named = [plain(name, 16) for name in classes]
    size = SMALL if len(classes) <= MAX_WRITTEN else SMALL - 2
    slanted = len(classes) > 3 and max(map(len, named)) > 3
    axis.set_xticks(range(len(classes)), named, fontsize=size, **(SLANT if slanted else {}))
    axis.set_yticks(range(len(classes)), named, fontsize=size)


def wilson(share: np.ndarray, rows: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Shares of so many rows → the ends of their 95 % intervals (Wilson, 1927)."""
    z, n, p = 1.96, rows, share
    centre = (p + z * z / (2 * n)) / (1 + z * z / n)
    half = z * np.sqrt(p * (1 - p) / n + z * z / (4 * n * n)) / (1 + z * z / n)
    return centre - half, centre + half


# --- The style that all share


def blank_figure(title: str, size: tuple[float, float]) -> Figure:
    figure = Figure(figsize=size, dpi=DPI, layout="constrained", facecolor="white")
    figure.get_layout_engine().set(w_pad=0.08, h_pad=0.08)  # type: ignore[union-attr, call-arg]
    figure.suptitle(plain(title, 60), x=0.02, ha="left", **TITLE)
    return figure


def figure_and_axes(
    title: str, rows: int = 1, columns: int = 1, size: tuple[float, float] = (6, 4), *,
    sharex: bool = False, **ratios: Sequence[float],
) -> tuple[Figure, list[Axes]]:  # fmt: skip
    """Title and grid → a figure in the common style and its axes in reading order."""
    figure = blank_figure(title, size)
    grid = figure.subplots(rows, columns, squeeze=False, sharex=sharex, gridspec_kw=dict(ratios))
    axes = list(grid.flat)
    for axis in axes:
        quiet(axis)
    return figure, axes


def quiet(axis: Axes) -> None:
    axis.spines[["top", "right"]].set_visible(False)
    axis.spines[["left", "bottom"]].set_color("#b8c0c8")
    axis.grid(True, color=LIGHT, linewidth=0.8)
    axis.set_axisbelow(True)
    axis.tick_params(which="both", colors=GREY, labelsize=SMALL, length=0)


def label_axes(axis: Axes, title: str, x: str, y: str) -> None:
    if title:
        axis.set_title(title, loc="left", fontsize=9.5, color=INK)
    axis.set_xlabel(plain(x, 60), fontsize=9, color=GREY)
    axis.set_ylabel(plain(y, 60), fontsize=9, color=GREY)


def add_note(axis: Axes, text: str) -> Figure:
    """Write a note under the title of an axis' figure; returns the figure."""
    figure = figure_of(axis)
    lines = textwrap.wrap(text.strip(), int(figure.get_figwidth() * 14.5))
    title = figure.get_suptitle().split("\n")[0]
    # The layout knows of the title only: blank lines under it keep the note's place free.
    figure.suptitle(title + "\n " * -(-len(lines) * 3 // 4), x=0.02, ha="left", **TITLE)
    below = ScaledTranslation(0, -25 / 72, figure.dpi_scale_trans)
    figure.text(0.02, 1, "\n".join(lines), transform=figure.transFigure + below, va="top", fontsize=8.5, color=GREY)
    return figure


def figure_of(axis: Axes) -> Figure:
    figure = axis.get_figure(root=True)
    assert figure is not None
    return figure


def add_legend(axis: Axes, loc: Any = "best") -> None:
    axis.legend(loc=loc, **LEGEND)


def corner_text(axis: Axes, text: str) -> None:
    box = {"facecolor": "white", "alpha": 0.85, "edgecolor": "none", "pad": 3}
    axis.text(0.97, 0.96, text, transform=axis.transAxes, ha="right", va="top", fontsize=9, color=INK, bbox=box)


def add_colour_bar(axis: Axes, cells: Any, label: str) -> None:
    bar = figure_of(axis).colorbar(cells, ax=axis, shrink=0.7, aspect=28, pad=0.02)
    bar.set_label(label, fontsize=SMALL, color=GREY)
    bar.outline.set_visible(False)  # type: ignore[operator]
    bar.ax.tick_params(which="both", colors=GREY, labelsize=SMALL, length=0)


def draw_picture(axis: Axes, pixels: np.ndarray, title: str, colour: str = INK) -> None:
    """Draw pixels from 0 to 255, [h, w, 1 or 3], with a title above them."""
    grey = pixels.shape[2] == 1
    values = np.clip(pixels / 255, 0, 1)
    axis.imshow(values[:, :, 0] if grey else values, cmap="Greys_r" if grey else None, vmin=0, vmax=1)
    axis.set_title(title, fontsize=SMALL, color=colour, loc="left")


def draw_heading(axis: Axes, text: str) -> None:
    """Write a title wider than its axis, for which the layout keeps the height but not the width."""
    axis.set_title(" ", fontsize=SMALL)
    line = axis.text(0, 1.05, text, transform=axis.transAxes, fontsize=SMALL, color=INK)
    line.set_in_layout(False)


def thousands(axis: Any) -> None:
    axis.set_major_locator(MaxNLocator(nbins=6, steps=[1, 2, 5, 10], integer=True))
    axis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:,.0f}"))


def log_if_wide(set_scale: Callable[[str], None], values: np.ndarray) -> None:
    """Make an axis logarithmic if all its values are positive and they span more than a ratio of 50."""
    finite = values[np.isfinite(values)]
    if len(finite) and finite.min() > 0 and finite.max() / finite.min() > WIDE:
        set_scale("log")


def plain(text: str, most: int = 200) -> str:
    """Text from the data → what matplotlib writes as it is: `$` escaped, one line, not too long."""
    line = " ".join(str(text).split())
    short = line if len(line) <= most else line[: most - 1] + "…"
    return short.replace("$", r"\$")


def quoted(classes: Iterable[str], most: int = 4) -> str:
    """Class names → the first few, quoted, and how many more there are."""
    quoted = [f"“{plain(name, 20)}”" for name in classes]
    more = f" and {len(quoted) - most} more" if len(quoted) > most else ""
    return ", ".join(quoted[:most]) + more

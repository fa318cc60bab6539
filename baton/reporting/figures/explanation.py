"""An `Explanation` in, matplotlib figures out: which columns matter, how, and single predictions taken apart."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from matplotlib.axes import Axes
from matplotlib.colors import LinearSegmentedColormap
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, MaxNLocator, NullLocator, SymmetricalLogLocator

from baton import formatting
from baton.data import cells as shown
from baton.data.columns import Column
from baton.inspection.explanation import Explanation, examples
from baton.reporting.figures.style import (
    BLUE,
    GREY,
    INK,
    LIGHT,
    ORANGE,
    SLANT,
    SMALL,
    STYLES,
    add_colour_bar,
    add_legend,
    add_note,
    blank_figure,
    figure_and_axes,
    label_axes,
    plain,
)

MAX_COLUMNS, MAX_DEPENDENCES, MAX_STEPS, MAX_CATEGORIES, MAX_CLASSES = 15, 4, 9, 24, 4
FAR = 8  # values that many times the 90 % quantile make a scale logarithmic
LOW_HIGH = LinearSegmentedColormap.from_list("low-high", ["#2b83ba", "#9fb3c8", "#d9b8a0", ORANGE])
AGAINST_FOR = LinearSegmentedColormap.from_list("against-for", [BLUE, "#ffffff", ORANGE])


def draw(explanation: Explanation) -> dict[str, Figure]:
    """An explanation → the figures by name, as `explanation.json` tells the same in numbers."""
    if explanation.grid:
        return {"shap_importance": _patch_importance(explanation), "shap_images": _images(explanation)}
    ranked = np.argsort(-explanation.importance(), kind="stable")
    drawn = {"shap_importance": _importance(explanation, ranked), "shap_beeswarm": _beeswarm(explanation, ranked)}
    for number, player in enumerate(ranked[:MAX_DEPENDENCES], 1):
        drawn[f"shap_dependence_{number}"] = _dependence(explanation, int(player))
    for number, (index, why) in enumerate(examples(explanation).items(), 1):
        drawn[f"shap_row_{number}"] = _waterfall(explanation, index, why)
    return drawn


def _rows_note(explanation: Explanation) -> str:
    return (
        f"{len(explanation.rows):,} test rows against {explanation.background:,} background rows. "
        "A row's SHAP values add up to its prediction minus the mean prediction. "
    )


# --- Which columns matter


def _importance(explanation: Explanation, ranked: np.ndarray) -> Figure:
    shown_ = ranked[:MAX_COLUMNS]
    values = explanation.importance()
    total = float(values.sum()) or 1.0
    _, (axis,) = figure_and_axes("Importance of the columns", size=(6.8, 1.5 + 0.27 * max(len(shown_), 2)))
    label_axes(axis, "", f"mean |SHAP value|, {explanation.label}", "")
    bars = axis.barh(range(len(shown_)), values[shown_], color=BLUE, alpha=0.85, height=0.7)
    told = [f"{value:.3g}  ({value / total:.0%})" for value in values[shown_]]
    axis.bar_label(bars, told, padding=4, fontsize=SMALL, color=GREY)
    _name_rows(axis, [explanation.names[i] for i in shown_])
    axis.set_xlim(0, (float(values.max()) or 1.0) * 1.25)
    return add_note(axis, _rows_note(explanation) + _rest(len(ranked) - len(shown_)))


def _name_rows(axis: Axes, names: list[str]) -> None:
    axis.set_yticks(range(len(names)), [plain(name, 26) for name in names])
    axis.tick_params(axis="y", labelcolor=INK)
    axis.set_ylim(len(names) - 0.4, -0.6)
    axis.grid(False, axis="y")


def _rest(number: int) -> str:
    return f"{number} columns of less importance are not drawn. " if number > 0 else ""


# --- Beeswarm


def _beeswarm(explanation: Explanation, ranked: np.ndarray) -> Figure:
    shown_ = ranked[:MAX_COLUMNS]
    outputs = _outputs(explanation)
    across = 2 if len(outputs) in (2, 4) else len(outputs)
    down = len(outputs) // across
    size = (3.4 + 3.4 * across, (1.6 + 0.34 * max(len(shown_), 2)) * down)
    figure, axes = figure_and_axes("SHAP values of each row", down, across, size)
    for place, (axis, (number, title)) in enumerate(zip(axes, outputs, strict=False)):
        label_axes(axis, title, "SHAP value" + ("" if title else f", {explanation.label}"), "")
        _swarms(axis, explanation, shown_, explanation.found.shares[:, :, number])
        _name_rows(axis, [explanation.names[i] for i in shown_] if place % across == 0 else [""] * len(shown_))
    points = axes[0].scatter([], [], c=[], cmap=LOW_HIGH, vmin=0, vmax=1)
    bar = figure.colorbar(points, ax=axes, shrink=0.6, aspect=30, pad=0.02, ticks=[0, 1])
    bar.ax.set_yticklabels(["low", "high"])
    bar.set_label("the row's value of the column", fontsize=SMALL, color=GREY)
    bar.outline.set_visible(False)  # type: ignore[operator]
    bar.ax.tick_params(colors=GREY, labelsize=SMALL, length=0)
    note = "A dot is a row; to the right, its value pushes the output up. Grey: categories and missing values. "
    note += "Beyond the bulk of the values, the scale is logarithmic. " if axes[0].get_xscale() == "symlog" else ""
    left_out = len(explanation.classes) - len(outputs)
    fewer = f"The {len(outputs)} most frequent classes of {len(explanation.classes)}. " if left_out > 0 else ""
    return add_note(axes[0], note + fewer + _rest(len(ranked) - len(shown_)))


def _outputs(explanation: Explanation) -> list[tuple[int, str]]:
    """The outputs to draw, each with its title: the only one, or the classes most often predicted."""
    if len(explanation.classes) < 2:
        return [(0, "")]
    counts = np.bincount(explanation.explained_class, minlength=len(explanation.classes))
    chosen = sorted(np.argsort(-counts, kind="stable")[:MAX_CLASSES].tolist())
    return [(number, f"probability of {plain(explanation.classes[number], 24)}") for number in chosen]


def _swarms(axis: Axes, explanation: Explanation, players: np.ndarray, values: np.ndarray) -> None:
    axis.axvline(0, color=GREY, linewidth=0.8)
    across = _across(axis, values[:, players])
    size = 8 if len(values) > 300 else 16
    for place, player in enumerate(players):
        at = values[:, player]
        colour = _ranks(explanation, explanation.preprocessor.features[player])
        up = place + _spread(across(at))
        grey = np.isnan(colour)
        axis.scatter(at[grey], up[grey], s=size, color="#98a2ad", alpha=0.6, linewidths=0)
        axis.scatter(
            at[~grey], up[~grey], s=size, c=colour[~grey], cmap=LOW_HIGH, vmin=0, vmax=1, alpha=0.75, linewidths=0
        )


def _spread(values: np.ndarray, bins: int = 80) -> np.ndarray:
    """Values of a row of the swarm → how far each dot is moved up or down, so that dots lie side by side."""
    span = float(np.ptp(values)) or 1.0
    cell = np.minimum(((values - values.min()) / span * bins).astype(int), bins - 1)
    counts = np.bincount(cell, minlength=bins)
    order = np.argsort(cell, kind="stable")
    nth = np.empty(len(values), int)
    nth[order] = np.arange(len(values)) - (np.cumsum(counts) - counts)[cell[order]]
    side = np.where(nth % 2, -1, 1) * ((nth + 1) // 2)
    return side * min(0.05, 0.76 / max(int(counts.max()), 1))


def _ranks(explanation: Explanation, column: Column) -> np.ndarray:
    """A column's values → their rank from 0, low, to 1, high; nan where there is no order."""
    if column.kind == "categorical":
        return np.full(len(explanation.rows), np.nan)
    numbers = _numbers(explanation.typed.column(column.name))
    present = np.sort(numbers[~np.isnan(numbers)])
    if not len(present):
        return numbers
    middle = (np.searchsorted(present, numbers, "left") + np.searchsorted(present, numbers, "right")) / 2
    return np.where(np.isnan(numbers), np.nan, middle / len(present))


def _numbers(values: pa.ChunkedArray) -> np.ndarray:
    """Numbers, booleans or moments (as µs) → float64 with nan for missing."""
    whole = pc.cast(values, pa.int64()) if pa.types.is_timestamp(values.type) else values
    return pc.cast(whole, pa.float64(), safe=False).to_numpy().astype(np.float64)


# --- Dependence


def _dependence(explanation: Explanation, player: int) -> Figure:
    column = explanation.preprocessor.features[player]
    several = len(explanation.classes) > 1
    _, (axis,) = figure_and_axes(f"What {plain(column.name, 30)} does", size=(6.8, 4.2))
    label_axes(axis, "", column.name, "SHAP value" if several else f"SHAP value, {explanation.label}")
    axis.axhline(0, color=GREY, linewidth=0.8)
    shares = explanation.found.shares[:, player]
    cells = explanation.typed.column(column.name)
    named = column.kind in ("categorical", "boolean")
    note = f"A dot is one of {len(explanation.rows):,} test rows. "
    note += "SHAP value for the probability of each class. " if several else ""
    if named:
        texts = shown.typed_cells(cells, column)
        categories, fewer = _category_axis(axis, texts, shares[:, explanation.explained_class[0]])
        note += fewer
    elif cells.null_count:
        note += f"{cells.null_count:,} rows without a value stand at the left. "
    for (number, _), (colour, _) in zip(_outputs(explanation), STYLES, strict=False):
        label = plain(explanation.classes[number], 22) if several else None
        style = {
            "s": 12 if len(explanation.rows) > 300 else 26,
            "color": colour,
            "alpha": 0.45,
            "linewidths": 0,
            "label": label,
        }
        mean = {"color": colour if several else ORANGE, "linewidth": 1.8, "zorder": 4}
        if named:
            _by_category(axis, texts, categories, shares[:, number], style, mean)
        else:
            _by_number(axis, _numbers(cells), shares[:, number], style, mean)
    if not named:
        _limit_values(axis, _numbers(cells), column.kind)
    if several:
        add_legend(axis)
    return add_note(axis, note + ("Lines are means. " if axis.lines[1:] or named else ""))


def _by_number(
    axis: Axes, numbers: np.ndarray, values: np.ndarray, style: dict[str, Any], mean: dict[str, Any]
) -> None:
    present = ~np.isnan(numbers)
    axis.scatter(numbers[present], values[present], **style)
    _trend(axis, numbers[present], values[present], mean)
    if present.any() and not present.all():
        low, high = _ends(numbers[present])
        left = np.full((~present).sum(), low - 0.06 * ((high - low) or 1.0))
        axis.scatter(left, values[~present], **{**style, "color": GREY, "label": None})


def _category_axis(axis: Axes, texts: list[str], values: np.ndarray) -> tuple[list[str], str]:
    """Name an axis' categories, by their mean value; → them in that order, and what to say if not all are drawn."""
    names, place, counts = np.unique(texts, return_inverse=True, return_counts=True)
    frequent = np.argsort(-counts, kind="stable")[:MAX_CATEGORIES]
    means = np.bincount(place, values) / counts
    categories = [str(names[i]) for i in frequent[np.argsort(means[frequent], kind="stable")]]
    named = [plain(name, 14) for name in categories]
    longest = max(map(len, named)) * len(named)
    axis.set_xticks(range(len(named)), named, **(SLANT if longest > 70 else {}))
    axis.set_xlim(-0.6, len(named) - 0.4)
    axis.grid(False, axis="x")
    fewer = len(names) > len(categories)
    return categories, f"The {len(categories)} most frequent of {len(names):,} categories. " if fewer else ""


def _by_category(
    axis: Axes, texts: list[str], categories: list[str], values: np.ndarray, style: dict[str, Any], mean: dict[str, Any]
) -> None:
    number = {name: index for index, name in enumerate(categories)}
    place = np.array([number.get(text, -1) for text in texts])
    drawn = place >= 0
    spread = np.random.default_rng(0).uniform(-0.28, 0.28, len(values))
    axis.scatter((place + spread)[drawn], values[drawn], **style)
    means = np.bincount(place[drawn], values[drawn]) / np.bincount(place[drawn])
    across = np.arange(len(means))
    axis.hlines(means, across - 0.36, across + 0.36, **mean)


def _trend(axis: Axes, numbers: np.ndarray, values: np.ndarray, style: dict[str, Any]) -> None:
    """The mean SHAP value in bins of equally many rows, where there are enough of both."""
    if len(numbers) < 100 or len(np.unique(numbers)) < 8:
        return
    edges = np.unique(np.quantile(numbers, np.linspace(0, 1, 16)))
    place = np.clip(np.searchsorted(edges, numbers, "right") - 1, 0, len(edges) - 2)
    counts = np.bincount(place)
    filled = counts > 0
    x, y = (np.bincount(place, of)[filled] / counts[filled] for of in (numbers, values))
    axis.plot(x, y, **style)


def _limit_values(axis: Axes, numbers: np.ndarray, kind: str) -> None:
    """Cut an x axis that a few far values would stretch; write dates as dates."""
    numbers = numbers[~np.isnan(numbers)]
    if not len(numbers):
        return
    low, high = np.quantile(numbers, (0.01, 0.99))
    ends = _ends(numbers)
    if high > low and (ends[1] - ends[0]) > 3 * (high - low):
        margin = 0.08 * (high - low)
        axis.set_xlim(low - margin, high + margin)
    if kind == "datetime":
        span = ends[1] - ends[0]
        axis.xaxis.set_major_locator(MaxNLocator(6))
        axis.xaxis.set_major_formatter(FuncFormatter(lambda moment, _: _date(moment, span)))


def _ends(numbers: np.ndarray) -> tuple[float, float]:
    return float(numbers.min()), float(numbers.max())


def _date(moment: float, span: float) -> str:
    """µs since 1970 → a date, with the time of day where all lie within a few days."""
    text = formatting.moment_text(moment)
    return text if span < 4 * 86_400e6 else text[:10]


def _across(axis: Axes, values: np.ndarray) -> Callable[[np.ndarray], np.ndarray]:
    """Make the axis logarithmic beyond the bulk of the values if some are far; → where a value stands on it."""
    bulk = float(np.quantile(np.abs(values), 0.9))
    if bulk <= 0 or np.abs(values).max() < FAR * bulk:
        return lambda at: at
    axis.set_xscale("symlog", linthresh=bulk, linscale=2.0)
    axis.xaxis.set_major_locator(SymmetricalLogLocator(base=10, linthresh=bulk, subs=(1.0, 3.0)))
    axis.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:.3g}"))
    axis.xaxis.set_minor_locator(NullLocator())
    return lambda at: axis.transScale.transform(np.column_stack([at, np.zeros(len(at))]))[:, 0]


# --- Single predictions


def _waterfall(explanation: Explanation, index: int, why: str) -> Figure:
    values, base = explanation.values[index], explanation.base(index)
    order = np.argsort(-np.abs(values), kind="stable")
    named = order[:MAX_STEPS] if len(order) > MAX_STEPS + 1 else order
    cells = explanation.cells()
    steps = [(f"{explanation.names[i]} = {cells[explanation.names[i]][index]}", float(values[i])) for i in named]
    if len(named) < len(order):
        steps.append((f"{len(order) - len(named)} other columns", float(values[order[len(named) :]].sum())))
    _, (axis,) = figure_and_axes("One prediction taken apart", size=(7.4, 1.9 + 0.32 * len(steps)))
    label_axes(axis, "", _waterfall_label(explanation, index), "")
    _bridge(axis, steps, base)
    prediction, targets = explanation.answer(index)
    told = f"Predicted {plain(prediction, 24)}, actual {plain(targets, 24)}."
    note = f"Test row {explanation.rows[index]:,}: {why}. {told}"
    return add_note(axis, note)


def _waterfall_label(explanation: Explanation, index: int) -> str:
    if len(explanation.classes) < 2:
        return explanation.label
    return f"probability of {explanation.classes[explanation.explained_class[index]]}"


def _bridge(axis: Axes, steps: list[tuple[str, float]], base: float) -> None:
    """Bars from the mean output at the top to the prediction at the bottom, the largest last."""
    steps = steps[::-1]
    ends = base + np.cumsum([value for _, value in steps])
    starts = np.concatenate([[base], ends[:-1]])
    span = float(np.ptp(np.concatenate([[base], ends]))) or 1.0
    for place, ((_, value), start) in enumerate(zip(steps, starts, strict=True)):
        axis.barh(place, value, left=start, color=ORANGE if value > 0 else BLUE, alpha=0.85, height=0.62)
        right = max(start, start + value)
        axis.text(right + 0.012 * span, place, f"{value:+.3g}", va="center", fontsize=SMALL, color=INK)
        if place:
            axis.plot([start, start], [place - 1, place], color=GREY, linewidth=0.7, zorder=1)
    last = len(steps)
    axis.plot([ends[-1], ends[-1]], [last - 1, last], color=GREY, linewidth=0.7, zorder=1)
    for place, value, name in ((-1, base, "mean"), (last, ends[-1], "prediction")):
        axis.plot([value], [place], "D", color=INK, markersize=5)
        axis.text(value + 0.02 * span, place, f"{name} {value:.4g}", va="center", fontsize=SMALL, color=INK)
    axis.set_yticks(range(len(steps)), [plain(name, 34) for name, _ in steps])
    axis.tick_params(axis="y", labelcolor=INK)
    axis.set_ylim(last + 0.5, -1.6)
    low, high = min(base, *ends), max(base, *ends)
    axis.set_xlim(low - 0.04 * span, high + 0.3 * span)
    axis.grid(False, axis="y")


# --- Images


def _patch_importance(explanation: Explanation) -> Figure:
    assert explanation.grid
    _, (axis,) = figure_and_axes("Where the network looks", size=(4.8, 4.4))
    mean = explanation.importance().reshape(explanation.grid)
    cells = axis.imshow(mean, cmap="Blues", vmin=0, interpolation="nearest")
    axis.set_xticks([])
    axis.set_yticks([])
    axis.grid(False)
    add_colour_bar(axis, cells, "mean |SHAP value|")
    return add_note(axis, _rows_note(explanation).replace("rows", "images"))


def _images(explanation: Explanation, most: int = 12) -> Figure:
    """Images in pairs of the picture and what its patches do for the predicted class; wrong ones first."""
    order = np.argsort(-explanation.error(), kind="stable")
    half = most // 2  # the worst, and others as they come
    chosen = [*order[:half], *[i for i in range(len(order)) if i not in set(order[:half].tolist())][: most - half]]
    figure = blank_figure("What each patch of an image does", (9.6, 1.0 + 2.0 * -(-len(chosen) // 4)))
    axes = list(figure.subplots(-(-len(chosen) // 4), 4, squeeze=False).flat)
    limit = float(np.abs(explanation.values[chosen]).max(initial=0)) or 1.0
    cells = None
    for axis, index in zip(axes, chosen, strict=False):
        cells = _overlaid(axis, explanation, int(index), limit)
    for axis in axes[len(chosen) :]:
        axis.set_axis_off()
    if cells is not None:
        bar = figure.colorbar(cells, ax=axes, shrink=0.6, aspect=30, pad=0.02)
        bar.set_label("SHAP value: for (+) or against (−) the predicted class", fontsize=SMALL, color=GREY)
        bar.outline.set_visible(False)  # type: ignore[operator]
        bar.ax.tick_params(colors=GREY, labelsize=SMALL, length=0)
    return add_note(axes[0], "Worst predictions first. " + _rows_note(explanation).replace("rows", "images"))


def _overlaid(axis: Axes, explanation: Explanation, index: int, limit: float) -> Any:
    assert explanation.grid and explanation.pixels is not None
    picture = explanation.pixels[index] / 255
    axis.imshow(picture.mean(axis=2), cmap="Greys_r", vmin=0, vmax=1, extent=(0, 1, 1, 0), interpolation="nearest")
    heat = explanation.values[index].reshape(explanation.grid)
    strength = np.clip(np.abs(heat) / limit * 1.6, 0, 0.8)
    cells = axis.imshow(
        heat, cmap=AGAINST_FOR, vmin=-limit, vmax=limit, alpha=strength, extent=(0, 1, 1, 0), interpolation="nearest"
    )
    axis.set_xticks([])
    axis.set_yticks([])
    axis.grid(False)
    axis.spines[:].set_color(LIGHT)
    prediction, targets = explanation.answer(index)
    wrong = prediction != targets
    told = f"{plain(prediction, 16)} {explanation.prediction(index):.0%}"
    title = f"{told}\nactual {plain(targets, 16)}" if wrong else f"{told}\nright"
    axis.set_title(title, fontsize=SMALL, color=ORANGE if wrong else INK, loc="left")
    return cells

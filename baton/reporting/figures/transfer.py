"""What each depth of a frozen base knows of the classes, and what came of it, as a figure."""

from __future__ import annotations

from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from baton.reporting.figures.style import BLUE, GREY, INK, ORANGE, SMALL, add_note, figure_and_axes, label_axes, plain


def depths(result: dict[str, Any]) -> dict[str, Figure]:
    """evaluation.json's `transfer` → "transfer": the probes' accuracy by depth, and the contest on validation.

    Nothing where no base was put to use.
    """
    if not result:
        return {}
    figure, (left, right) = figure_and_axes("Transfer", 1, 2, (9.6, 3.6), width_ratios=[1.3, 1])
    _accuracies(left, result)
    _contest(right, result)
    add_note(left, f"{_sentence(result['reason'])} Cut at block {result['depth']}; kept: {_words(result['chosen'])}.")
    return {"transfer": figure}


def _accuracies(axis: Axes, result: dict[str, Any]) -> None:
    numbers = [probe["depth"] for probe in result["depths"]]
    accuracies = [probe["accuracy"] for probe in result["depths"]]
    label_axes(axis, "A linear probe of the frozen base", "block that the probe is put on", "accuracy on validation")
    axis.plot(numbers, accuracies, color=BLUE, marker="o", markersize=4, linewidth=1.5)
    at = numbers.index(result["depth"])
    axis.plot([numbers[at]], [accuracies[at]], "D", color=ORANGE, markersize=7, markeredgecolor="white")
    axis.annotate(
        f"{accuracies[at]:.3f}", (numbers[at], accuracies[at]), xytext=(0, -14), textcoords="offset points",
        ha="center", fontsize=SMALL, color=INK,
    )  # fmt: skip
    axis.xaxis.set_major_locator(MaxNLocator(integer=True, nbins=8))
    axis.margins(x=0.08, y=0.2)


def _contest(axis: Axes, result: dict[str, Any]) -> None:
    named = list(result["contest"].items())[::-1]
    label_axes(axis, "What was trained", "log loss on validation, at its best temperature", "")
    bars = axis.barh(
        [_words(name) for name, _ in named],
        [loss for _, loss in named],
        color=[ORANGE if name == result["chosen"] else GREY for name, _ in named],
        height=0.5,
    )
    axis.bar_label(bars, fmt="%.3f", padding=3, fontsize=SMALL, color=INK)
    axis.margins(x=0.2)


def _sentence(text: str) -> str:
    return f"{text[:1].upper()}{plain(text[1:])}."


def _words(name: str) -> str:
    return {"all": "all blocks", "scratch": "CNN from scratch"}.get(name, name.replace("_", " "))

"""Numbers in, places on a page out: percentages that a template writes into SVG and CSS, so that any width is sharp."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from baton.formatting import date_text, number_text, percent_text

COLOURS = 6  # series that have a colour of their own


@dataclass(frozen=True)
class Axis:
    """From `low` to `high`, maybe in powers of ten; `ticks` are (place in percent, text)."""

    low: float
    high: float
    log: bool = False
    ticks: tuple[tuple[float, str], ...] = ()

    def at(self, value: float) -> float:
        """A value → its place in percent, within the axis."""
        low, high, value = (self._scaled(v) for v in (self.low, self.high, value))
        return 100 * min(max((value - low) / (high - low), 0.0), 1.0) if high > low else 50.0

    def _scaled(self, value: float) -> float:
        return math.log10(max(value, 1e-300)) if self.log else value


def axis(values: Sequence[float], zero: bool = False, ticks: int = 4, log: bool | None = None) -> Axis:
    """Finite numbers → an axis that holds them, with about so many round ticks.

    Logarithmic by default where positive numbers span more than a ratio of 50.
    """
    values = [v for v in values if v is not None and math.isfinite(v)] or [0.0, 1.0]
    low, high = min(values), max(values)
    if log is None:
        log = not zero and low > 0 and high / low > 50
    if log:
        powers = range(math.floor(math.log10(low)), math.ceil(math.log10(high)) + 1)
        found = Axis(low, high, log=True)
        kept = [10.0**p for p in powers if low <= 10.0**p <= high]
        return Axis(low, high, True, tuple((found.at(v), number_text(v)) for v in kept))
    if zero:
        low, high = min(low, 0.0), max(high, 0.0)
    if low == high:
        low, high = (low - 1, high + 1) if not zero else (min(low, 0.0), max(high, 1.0))
    step = _round_step((high - low) / ticks)
    low, high = math.floor(low / step + 1e-9) * step, math.ceil(high / step - 1e-9) * step
    found = Axis(low, high)
    marks = [low + i * step for i in range(round((high - low) / step) + 1)]
    return Axis(low, high, False, tuple((found.at(v), number_text(round(v, 12))) for v in marks))


def lines(
    series: Mapping[str, tuple[Sequence[float], Sequence[float | None]]],
    x: str,
    y: str,
    dots: bool = True,
    best: int | None = None,
) -> dict[str, Any]:
    """{name: (xs, ys)} → a chart of lines; a dot each where there are few; `best` is the x of a mark."""
    known = {
        name: [(a, b) for a, b in zip(xs, ys, strict=False) if b is not None and math.isfinite(b)]
        for name, (xs, ys) in series.items()
    }
    points = [point for part in known.values() for point in part]
    across = axis([a for a, _ in points], log=False)
    across = Axis(min((a for a, _ in points), default=0), max((a for a, _ in points), default=1), False)
    up = axis([b for _, b in points])
    ticks = sorted({across.low, round((across.low + across.high) / 2), across.high})
    across = Axis(across.low, across.high, False, tuple((across.at(v), number_text(v)) for v in ticks))
    return {
        "x": across, "y": up, "x_name": x, "y_name": y,
        "best": None if best is None else across.at(best),
        "series": [
            {
                "name": name,
                "points": " ".join(f"{across.at(a):.2f},{100 - up.at(b):.2f}" for a, b in part),
                "dots": [(across.at(a), up.at(b), f"{number_text(a)}: {number_text(b)}") for a, b in part]
                if dots and len(part) <= 60
                else [],
                "colour": number % COLOURS,
            }
            for number, (name, part) in enumerate(known.items())
        ],
    }  # fmt: skip


def ranges(rows: Sequence[dict[str, Any]], reference: float | None = None, zero: bool = False) -> dict[str, Any]:
    """[{label, value, interval, …}] → dots with their intervals on one axis, and a line where `reference` is."""
    shown = [row for row in rows if row.get("value") is not None]
    ends = [v for row in shown for v in (row["value"], *(row.get("interval") or ())) if v is not None]
    across = axis([*ends, *([reference] if reference is not None else [])], zero=zero, log=False)

    def placed(row: dict[str, Any]) -> dict[str, Any]:
        ends = [across.at(v) for v in row.get("interval") or () if v is not None]
        known = len(ends) == 2
        return {
            **row,
            "at": across.at(row["value"]),
            "from": ends[0] if known else None,
            "width": ends[1] - ends[0] if known else None,
            "text": number_text(row["value"]),
            "range": span_text(row.get("interval")),
        }

    return {
        "rows": [placed(row) for row in shown],
        "axis": across,
        "reference": None if reference is None else across.at(reference),
        "reference_text": "" if reference is None else number_text(reference),
    }


def span_text(interval: Sequence[float | None] | None) -> str:
    """An interval → "low to high"; empty if it is not known."""
    ends = [value for value in interval or () if value is not None]
    return " to ".join(number_text(value) for value in ends) if len(ends) == 2 else ""


def bars(values: dict[str, float], most: float | None = None) -> list[dict[str, Any]]:
    """{label: number} → bars whose widths are percentages of the largest absolute one."""
    top = most or max((abs(v) for v in values.values()), default=0.0) or 1.0
    return [
        {"label": label, "value": v, "text": number_text(v), "width": min(100 * abs(v) / top, 100), "negative": v < 0}
        for label, v in values.items()
    ]


def columns(bins: Sequence[Sequence[Any]], dates: bool = False) -> dict[str, Any]:
    """[(label or left edge, share then, share now)] → two overlaid histograms, as SVG points from 0 to 100."""
    top = max((v for _, a, b in bins for v in (a, b)), default=0.0) or 1.0
    width = 100 / max(len(bins), 1)
    rects = [
        {
            "x": i * width,
            "width": width,
            "then": 100 * a / top,
            "now": 100 * b / top,
            "title": f"{_edge(label, dates)}: {percent_text(a)} then, {percent_text(b)} now",
        }
        for i, (label, a, b) in enumerate(bins)
    ]
    steps = [f"{r['x'] + dx:.2f},{100 - r['now']:.2f}" for r in rects for dx in (0, r["width"])]
    named = bool(bins) and isinstance(bins[0][0], str)
    ends = [] if not bins else [_edge(bins[0][0], dates), _edge(bins[-1][0], dates)]
    return {"rects": rects, "line": " ".join(steps), "named": named, "ends": ends}


def _edge(label: Any, dates: bool) -> str:
    if isinstance(label, str):
        return label
    return date_text(label).split(" ")[0] if dates else number_text(label)


def _round_step(rough: float) -> float:
    """The next of 1, 2, 2.5 and 5 times a power of ten."""
    if rough <= 0 or not math.isfinite(rough):
        return 1.0
    power = 10.0 ** math.floor(math.log10(rough))
    return next(step * power for step in (1, 2, 2.5, 5, 10) if step * power >= rough * (1 - 1e-9))

"""Numbers and moments in, the text that people read out."""

from __future__ import annotations

import math
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

import numpy as np

EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


def moment_text(moment: float) -> str:
    """µs since 1970 → the date, and the time of day unless it is midnight."""
    stamp = np.datetime64(round(moment), "us")
    text = str(stamp.astype("datetime64[m]")).replace("T", " ")
    return text.removesuffix(" 00:00")


def exact_text(value: float) -> str:
    """A number to six digits, whole ones with all of theirs."""
    value += 0.0  # of -0, 0
    return f"{value:.0f}" if value == round(value) and abs(value) < 1e15 else f"{value:.6g}"


def number_text(value: float) -> str:
    """A number → text of about four digits: thousands set apart, powers of ten where it is needed."""
    if not math.isfinite(value):
        return str(value)
    size = abs(value)
    if size >= 1e9 or 0 < size < 1e-3:
        return f"{value:.3g}"
    if value == int(value) or size >= 1000:
        return f"{value:,.0f}"
    return f"{value:.4g}"


def span_text(interval: Sequence[float | None] | None) -> str:
    """An interval → "low to high"; empty if it is not known."""
    ends = [value for value in interval or () if value is not None]
    return " to ".join(number_text(value) for value in ends) if len(ends) == 2 else ""


def date_text(microseconds: float) -> str:
    """Microseconds since 1970 → an ISO date, with the time of day unless it is midnight."""
    try:
        moment = EPOCH + timedelta(microseconds=round(microseconds))
    except (OverflowError, ValueError):
        return number_text(microseconds)
    return f"{moment:%Y-%m-%d}" if moment.time() == EPOCH.time() else f"{moment:%Y-%m-%d %H:%M}"


def day_text(microseconds: float) -> str:
    """The same without the time of day, where there is no room for it."""
    return date_text(microseconds).split(" ")[0]


def percent_text(share: float) -> str:
    """A share of 0 to 1 → a percentage that is never rounded to nothing or to everything."""
    if share in (0, 1):
        return f"{share:.0%}".replace("%", " %")
    return "<0.1 %" if share < 0.001 else ">99.9 %" if share > 0.999 else f"{100 * share:.1f} %"


def confidence_text(level: float) -> str:
    """A level of confidence below 1 → its percentage, with as many digits as tell it from certainty."""
    places = max(0, math.ceil(-math.log10(100 * (1 - level))) + 1)
    return f"{round(100 * level, places):.12g} %"


def counts_text(counts: dict[str, int], most: int | None = None) -> str:
    """{what: how often} → `10 x is missing, 2 y is infinite`; of more than `most` the others together."""
    kept = list(counts.items())[:most]
    rest = sum(counts.values()) - sum(count for _, count in kept)
    parts = [f"{count:,} {name}" for name, count in kept]
    return ", ".join([*parts, f"{rest:,} for other reasons"] if rest else parts)


def slice_text(entry: dict[str, Any]) -> str:
    """A slice of an Assessment as people call it: the column and its part."""
    between = " is " if entry["kind"] == "missing" else ": "
    return f"{entry['column']}{between}{entry['slice']}"

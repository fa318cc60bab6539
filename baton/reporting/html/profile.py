"""A dataset's manifest, profile and quarantine in, the page of the data profile out."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from baton.formatting import date_text, day_text, number_text
from baton.reporting.html.pages import data_uri, render

PARTS = ("train", "validation", "test", "quarantined")
TOP = 5  # categories shown of each column
DAY = 86_400_000_000  # µs


def profile_page(
    name: str,
    manifest: dict[str, Any],
    profile: dict[str, dict[str, Any]],
    table: dict[str, Any],
    quarantine: dict[str, int],
    figures: dict[str, str],
) -> str:
    """Manifest, data profile, columns.json, reasons → rows, and figures (SVG or data URI) → an HTML page."""
    values = profile_values(manifest, profile, table, quarantine)
    images = {title: _image(content) for title, content in figures.items()}
    return render("profile.html.j2", name=name, v=values, figures=images)


def profile_values(
    manifest: dict[str, Any],
    profile: dict[str, dict[str, Any]],
    table: dict[str, Any],
    quarantine: dict[str, int],
) -> dict[str, Any]:
    """Manifest, data profile, columns.json and reasons → rows → what templates show of the data."""
    lines = {line["name"]: line for line in table["columns"]}
    shown = {**lines, **profile}  # the columns' order, then what else was profiled
    return {
        "rows": manifest["rows"],
        "parts": _shares({part: manifest["rows"].get(part, 0) for part in PARTS}),
        "fingerprint": manifest["fingerprint"],
        "files": manifest["files"],
        "encoded": len(manifest["schema"]),
        "columns": [_column(key, lines.get(key, {}), profile.get(key, {})) for key in shown],
        "warnings": table["warnings"],
        "quarantine": _bars(dict(sorted(quarantine.items(), key=lambda item: -item[1]))),
    }


@dataclass(frozen=True)
class _Bar:
    """A labelled count and its share (0 to 1) of a whole, and its width relative to the largest."""

    label: str
    count: int
    share: float
    width: float


@dataclass(frozen=True)
class _Strip:
    """Where quantiles lie between the 1 % and the 99 % quantile (0 to 100), and how the ends read."""

    low: float
    first: float
    median: float
    third: float
    high: float
    left: str
    middle: str
    right: str
    text: str


@dataclass(frozen=True)
class _Row:
    """What the table shows of one column; a text is empty where the profile has no such value."""

    name: str
    kind: str
    why: str
    example: str
    unknown: float | None  # share of a category's new cells that the model will not know
    missing: int
    missing_share: float
    typical: str
    spread: str
    low: str
    high: str
    strip: _Strip | None
    top: list[_Bar]
    more: int


def _column(name: str, line: dict[str, Any], entry: dict[str, Any]) -> _Row:
    """A column's line of columns.json and its profile → its row of the table."""
    kind = line.get("kind", "")
    rows, missing = entry.get("rows", 0), entry.get("missing", 0)
    if kind == "boolean" and "mean" in entry:
        true = round(entry["mean"] * (rows - missing))
        entry = {
            "distinct": 2 - (true in (0, rows - missing)),
            "top": {"true": true, "false": rows - missing - true},
        }
    typical, spread, low, high = _numbers(entry, kind == "datetime")
    top = dict(list(entry.get("top", {}).items())[:TOP])
    return _Row(
        name, kind, line.get("why", ""), line.get("example", ""), line.get("unknown"),
        missing, missing / rows if rows else 0.0, typical, spread, low, high,
        _strip(entry.get("quantiles"), kind == "datetime"),
        _bars(top, rows - missing),
        max(entry.get("distinct", 0) - len(top), 0),
    )  # fmt: skip


def _numbers(entry: dict[str, Any], dates: bool) -> tuple[str, str, str, str]:
    """A profile entry → texts: what is typical, how it spreads, the least and the largest value."""
    if "distinct" in entry:
        return f"{entry['distinct']:,} distinct", "", "", ""
    if "mean" not in entry:
        return "", "", "", ""
    say = date_text if dates else number_text
    spread = f"{number_text(entry['std'] / DAY)} days" if dates else number_text(entry["std"])
    mean = day_text(entry["mean"]) if dates and entry["std"] > DAY else say(entry["mean"])
    return mean, spread, say(entry["min"]), say(entry["max"])


def _strip(quantiles: dict[str, float] | None, dates: bool) -> _Strip | None:
    if not quantiles:
        return None
    start, width = quantiles["0.01"], quantiles["0.99"] - quantiles["0.01"]
    say = (day_text if width > 3 * DAY else date_text) if dates else number_text
    text = ", ".join(f"{100 * float(q):g} %: {say(value)}" for q, value in quantiles.items())

    def at(level: str) -> float:
        return 100 * (quantiles[level] - start) / width if width > 0 else 50.0

    return _Strip(
        *(at("0.05"), at("0.25"), at("0.5"), at("0.75"), at("0.95")),
        *(say(quantiles["0.01"]), say(quantiles["0.5"]), say(quantiles["0.99"])),
        text,
    )


def _bars(counts: dict[str, int], whole: int | None = None) -> list[_Bar]:
    """{label: count} → bars, their shares of `whole` (by default of the sum)."""
    whole, most = sum(counts.values()) if whole is None else whole, max(counts.values(), default=0)
    return [_Bar(label, n, n / whole if whole else 0.0, n / most if most else 0.0) for label, n in counts.items()]


def _shares(counts: dict[str, int]) -> list[_Bar]:
    """{label: count} → bars whose widths, unlike `_bars`', add up to 1."""
    return [_Bar(bar.label, bar.count, bar.share, bar.share) for bar in _bars(counts)]


def _image(content: str) -> str:
    """SVG text or an image's data URI → a data URI; raises `ValueError` for anything else."""
    if content.startswith("data:image/"):
        return content
    if content.lstrip().startswith(("<svg", "<?xml")):
        return data_uri("image/svg+xml", content.encode())
    raise ValueError(f"A figure must be SVG or an image's data URI. Received: {content[:60]!r}")

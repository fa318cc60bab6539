"""Plain values in, self-contained HTML pages out: no page loads anything from anywhere.

Column names, categories and reasons come from strangers: Jinja escapes all of them, and images are
embedded as data URIs in `<img>`, where no script in an SVG can run. The one script is Baton's own, and
the page's policy names its hash, so that no other runs.
"""

from __future__ import annotations

import base64
import hashlib
import io
import math
import os
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import cache
from typing import TYPE_CHECKING, Any

from jinja2 import Environment, FileSystemBytecodeCache, FileSystemLoader, StrictUndefined, Template
from markupsafe import Markup

from baton.runtime.paths import TEMPLATES

if TYPE_CHECKING:
    from matplotlib.figure import Figure


COMPILED = TEMPLATES.parent / "__pycache__"  # where Python keeps compiled modules, if it may write there
PARTS = ("train", "validation", "test", "quarantined")
TOP = 5  # categories shown of each column
DAY = 86_400_000_000  # µs
# MLflow shows a page in a sandbox of its own, where a link to a place of the page leads nowhere.
SCRIPT = """document.addEventListener("click", (event) => {
  const link = event.target.closest('a[href^="#"]');
  const place = link && document.getElementById(link.getAttribute("href").slice(1));
  if (place) { event.preventDefault(); place.scrollIntoView(); }
});"""
EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


def profile_page(
    name: str,
    manifest: dict[str, Any],
    profile: dict[str, dict[str, Any]],
    columns: list[dict[str, str]],
    quarantine: dict[str, int],
    figures: dict[str, str],
) -> str:
    """Manifest, data profile, columns, reasons → rows, and figures (SVG or data URI) → an HTML page."""
    values = profile_values(manifest, profile, columns, quarantine)
    images = {title: _image(content) for title, content in figures.items()}
    return render("profile.html.j2", name=name, v=values, figures=images)


def profile_values(
    manifest: dict[str, Any],
    profile: dict[str, dict[str, Any]],
    columns: list[dict[str, str]],
    quarantine: dict[str, int],
) -> dict[str, Any]:
    """Manifest, data profile, columns and reasons → rows → what templates show of the data."""
    kinds = {column["name"]: column["kind"] for column in columns}
    shown = {**dict.fromkeys(kinds, ""), **profile}  # the columns' order, then what else was profiled
    return {
        "rows": manifest["rows"],
        "parts": _shares({part: manifest["rows"].get(part, 0) for part in PARTS}),
        "fingerprint": manifest["fingerprint"],
        "files": manifest["files"],
        "encoded": len(manifest["schema"]),
        "columns": [_column(key, kinds.get(key, ""), profile.get(key, {})) for key in shown],
        "quarantine": _bars(dict(sorted(quarantine.items(), key=lambda item: -item[1]))),
    }


def render(template: str, **values: Any) -> str:
    """A template and its values → a page."""
    digest = base64.b64encode(hashlib.sha256(SCRIPT.encode()).digest()).decode()
    return _template(template).render(**values, script=Markup(SCRIPT), script_hash=f"sha256-{digest}")


def figure_uri(figure: Figure) -> str:
    """A matplotlib figure → a PNG data URI, at twice the pixels so that it is sharp on dense screens."""
    out = io.BytesIO()
    figure.savefig(out, format="png", dpi=2 * figure.dpi)
    return _data_uri("image/png", out.getvalue())


@cache
def _template(name: str) -> Template:
    environment = Environment(
        autoescape=True,
        loader=FileSystemLoader(TEMPLATES),
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        bytecode_cache=FileSystemBytecodeCache(str(COMPILED)) if os.access(COMPILED, os.W_OK) else None,
    )
    environment.filters |= {"percent": percent_text, "number": number_text}
    return environment.get_template(name)


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
    missing: int
    missing_share: float
    typical: str
    spread: str
    low: str
    high: str
    strip: _Strip | None
    top: list[_Bar]
    more: int


def _column(name: str, kind: str, entry: dict[str, Any]) -> _Row:
    """A column's profile → its row of the table."""
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
        name, kind, missing, missing / rows if rows else 0.0, typical, spread, low, high,
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
    mean = _day_text(entry["mean"]) if dates and entry["std"] > DAY else say(entry["mean"])
    return mean, spread, say(entry["min"]), say(entry["max"])


def _strip(quantiles: dict[str, float] | None, dates: bool) -> _Strip | None:
    if not quantiles:
        return None
    start, width = quantiles["0.01"], quantiles["0.99"] - quantiles["0.01"]
    say = (_day_text if width > 3 * DAY else date_text) if dates else number_text
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


def date_text(microseconds: float) -> str:
    """Microseconds since 1970 → an ISO date, with the time of day unless it is midnight."""
    try:
        moment = EPOCH + timedelta(microseconds=round(microseconds))
    except (OverflowError, ValueError):
        return number_text(microseconds)
    return f"{moment:%Y-%m-%d}" if moment.time() == EPOCH.time() else f"{moment:%Y-%m-%d %H:%M}"


def _day_text(microseconds: float) -> str:
    """The same without the time of day, where there is no room for it."""
    return date_text(microseconds).split(" ")[0]


def percent_text(share: float) -> str:
    """A share of 0 to 1 → a percentage that is never rounded to nothing or to everything."""
    if share in (0, 1):
        return f"{share:.0%}".replace("%", " %")
    return "<0.1 %" if share < 0.001 else ">99.9 %" if share > 0.999 else f"{100 * share:.1f} %"


def _image(content: str) -> str:
    """SVG text or an image's data URI → a data URI; raises `ValueError` for anything else."""
    if content.startswith("data:image/"):
        return content
    if content.lstrip().startswith(("<svg", "<?xml")):
        return _data_uri("image/svg+xml", content.encode())
    raise ValueError(f"A figure must be SVG or an image's data URI. Received: {content[:60]!r}")


def _data_uri(kind: str, content: bytes) -> str:
    return f"data:{kind};base64,{base64.b64encode(content).decode()}"

"""Numbers as people write them in text: which marks they use, and text in Arrow's own way of writing out.

Nothing is decided cell by cell: `baton.data.recognition` looks at the whole column, and the style that it takes travels
with the column, so that training, scoring and serving read a cell alike.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cache

import pyarrow as pa
import pyarrow.compute as pc

NUMBER = r"^[+-]?(\d+(\.\d*)?|\.\d+)([eE][+-]?\d+)?$|^[+-]?(?i:inf|infinity)$"
INTEGER = r"^[+-]?\d{1,18}$"
LEADING_ZERO = r"^[+-]?0\d+$|^\+\d{7,}$"  # a zip code, an account: 00501; a telephone with its country
MANY_DIGITS = r"^[+-]?\d{16,}$"  # float64 keeps 15 of them
SPACES = "[ \u00a0\u2009\u202f]"
MINUS = "\u2212"
APOSTROPHES = "['\u2019]"
CURRENCIES = ("$", "€", "£", "¥", "₹", "₩", "₽", "₺", "zł", "kr", "R$", "CHF", "USD", "EUR", "GBP", "JPY", "CAD", "AUD",
              "CNY", "INR", "SEK", "NOK", "DKK", "PLN", "CZK", "BRL", "Rs", "Rs.", "Fr.")  # fmt: skip
PERCENT = "%"
_MARKS = {",": ",", ".": r"\.", " ": SPACES, "'": APOSTROPHES}
_UNITS = "|".join(re.escape(unit) for unit in sorted((*CURRENCIES, PERCENT), key=len, reverse=True))
# A number, perhaps, with a unit before or after it, or in the brackets that accountants put round what is negative.
_DIGITS = rf"[+\-{MINUS}]?(?:\d|[.,]|{SPACES}|{APOSTROPHES})*\d[.,]?"
_BEFORE = rf"[+\-{MINUS}]?{SPACES}?(?:{_UNITS}){SPACES}?{_DIGITS}"
_AFTER = rf"[+\-{MINUS}]?{SPACES}?{_DIGITS}(?:{SPACES}?(?:{_UNITS}))?"
NUMBER_LIKE = rf"^\(?(?:{_BEFORE}|{_AFTER})\)?$"
UNIT = rf"(?P<unit>{_UNITS})"
# One comma, or one point, with three digits after it: thousands, or decimals?
MANY_GROUPS = r"^[+-]?[1-9]\d{0,2}(?:\.\d{3}){2,}(?:,\d*)?$"  # points of thousands, beyond doubt
BRACKETS = r"^\(.+\)$"
THREE_DIGITS = {",": r"^[+-]?[1-9]\d{0,2},\d{3}$", ".": r"^[+-]?[1-9]\d{0,2}\.\d{3}$"}


@dataclass(frozen=True)
class NumberStyle:
    """How the numbers of a column are written: marks of decimals and thousands, and the unit beside them."""

    decimal: str = "."
    thousands: str = ""
    unit: str = ""

    @property
    def plain(self) -> bool:
        return self == NumberStyle()

    def words(self) -> str:
        """The style as a phrase: "numbers with ',' between thousands"."""
        parts = []
        if self.thousands:
            parts.append(f"{self.thousands!r} between thousands")
        if self.decimal != ".":
            parts.append(f"{self.decimal!r} before decimals")
        if self.unit:
            parts.append(f"the unit {self.unit}")
        return f"numbers with {' and '.join(parts)}" if parts else "numbers"


# In the order of preference among those that read a column alike.
STYLES = (
    *(NumberStyle(".", ""), NumberStyle(",", ""), NumberStyle(".", ","), NumberStyle(",", ".")),
    *(NumberStyle(".", " "), NumberStyle(",", " "), NumberStyle(".", "'"), NumberStyle(",", "'")),
)


def bare(text: pa.Array, unit: str | None = None) -> pa.Array:
    """Cells without that unit, or without any; brackets and the typographic minus become a plain one."""
    unit = _UNITS if unit is None else re.escape(unit)
    if unit:
        text = pc.replace_substring_regex(text, rf"{SPACES}?(?:{unit}){SPACES}?", "")
    text = pc.replace_substring_regex(text, r"^\((.+)\)$", r"-\1")
    return pc.replace_substring_regex(text, rf"^{MINUS}{SPACES}?|^-{SPACES}", "-")


def units(text: pa.Array) -> pa.Array:
    """The unit of each cell; null where there is none."""
    return pc.struct_field(pc.extract_regex(text, UNIT), "unit") if len(text) else pa.array([], pa.string())


def matches(text: pa.Array, style: NumberStyle) -> pa.Array:
    """Which cells, bare of units, are numbers of that style."""
    return pc.match_substring_regex(text, _pattern(style.decimal, style.thousands))


def parsed(text: pa.Array, style: NumberStyle) -> pa.Array:
    """Cleaned cells → float64; null where they are no number of that style."""
    if style.unit == PERCENT:  # 0.12 beside 12 % may be a share
        signed = pc.or_(pc.match_substring(text, PERCENT), pc.match_substring_regex(text, "^0+$"))
        text = pc.if_else(signed, text, None)
    good = matches(text, style)
    if not style.plain or pc.sum(good).as_py() != len(text) - text.null_count:
        text = bare(text, style.unit)
        good = matches(text, style)
    text = pc.if_else(good, text, None)
    if style.thousands:
        text = pc.replace_substring_regex(text, _MARKS[style.thousands], "")
    if style.decimal != ".":
        text = pc.replace_substring(text, style.decimal, ".")
    return pc.cast(unsigned(text), pa.float64())


def unsigned(text: pa.Array) -> pa.Array:
    """Numbers as text without a leading +, which Arrow does not parse."""
    return pc.replace_substring_regex(text, r"^\+", "")


def allowed(decimal: str | None, thousands: str | None) -> Iterable[NumberStyle]:
    """The styles that the config's marks leave."""
    if decimal is not None and thousands is not None:
        return (NumberStyle(decimal, thousands),)
    return tuple(style for style in STYLES if decimal in (None, style.decimal) and thousands in (None, style.thousands))


@cache
def _pattern(decimal: str, thousands: str) -> str:
    if not thousands and decimal == ".":
        return NUMBER
    point, power = _MARKS[decimal], r"(?:[eE][+-]?\d+)?"
    plain = rf"^[+-]?(?:\d+(?:{point}\d*)?|{point}\d+){power}$|^[+-]?(?i:inf|infinity)$"
    if not thousands:
        return plain
    # A group after a leading zero is none: 0,123 is no number of thousands.
    return rf"^[+-]?[1-9]\d{{0,2}}(?:{_MARKS[thousands]}\d{{3}})+(?:{point}\d*)?$|{plain}"

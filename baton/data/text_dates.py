"""Dates and times as people write them in text: their formats, and text as moments out.

A format is one of `FORMATS`, or a pattern as of strptime that the config names. `baton.data.recognition` takes one for
a whole column; day and month are never told apart cell by cell.
"""

from __future__ import annotations

from datetime import UTC, datetime

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

ISO = r"^\d{4}-\d{2}-\d{2}([ T]\d{2}:\d{2}(:\d{2}(\.\d+)?)?(Z|[+-]\d{2}(:?\d{2})?)?)?$"
ZONE = r":\d{2}(\.\d+)?(Z|[+-]\d{2}(:?\d{2})?)$"
TIME_WITHOUT_ZONE = r"([ T]\d{2}:\d{2}(:\d{2}(\.\d+)?)?)$"
FIRST_MOMENT, NO_MOMENT = (int(np.datetime64(year, "us").astype(int)) for year in ("0001", "10000"))  # µs
_DAY, _MONTH, _YEAR = (
    r"(?P<day>0?[1-9]|[12]\d|3[01])", r"(?P<month>0?[1-9]|1[0-2])", r"(?P<year>\d{4})",
)  # fmt: skip
_NAME = (
    r"(?P<name>(?i:jan(?:uary)?|feb(?:ruary)?|mar(?:ch)?|apr(?:il)?|may|june?|july?|aug(?:ust)?|sept?(?:ember)?"
    r"|oct(?:ober)?|nov(?:ember)?|dec(?:ember)?))\.?"
)
_MONTHS = ("jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec")
_TIME = (
    r"(?:(?:,? +|[Tt])(?P<hour>[01]?\d|2[0-4]):(?P<minute>[0-5]\d)"
    r"(?::(?P<second>[0-5]\d)(?:[.,](?P<fraction>\d{1,9}))?)?"
    r"(?: ?(?P<half>[AaPp])\.?[Mm]\.?)?(?: ?(?P<zone>[Zz]|UTC|GMT|[+-]\d{2}(?::?\d{2})?))?)?"
)
_SEPARATORS = (r"\.", "/", "-")


def _with_separators(first: str, second: str, third: str) -> tuple[str, ...]:
    return tuple(f"^{first}{mark}{second}{mark}{third}{_TIME}$" for mark in _SEPARATORS)


# Format → the patterns of its cells.
FORMATS: dict[str, tuple[str, ...]] = {
    "iso": _with_separators(_YEAR, _MONTH, _DAY),
    "dmy": (*_with_separators(_DAY, _MONTH, _YEAR), rf"^{_DAY}[ .\-]+{_NAME}[ ,\-]+{_YEAR}{_TIME}$"),
    "mdy": (*_with_separators(_MONTH, _DAY, _YEAR), rf"^{_NAME} +{_DAY},? +{_YEAR}{_TIME}$"),
    "ymd": (rf"^(?P<year>19\d{{2}}|20\d{{2}}|9999)(?P<month>0[1-9]|1[0-2])(?P<day>0[1-9]|[12]\d|3[01]){_TIME}$",),
}
EPOCHS = {"epoch_s": 1_000_000, "epoch_ms": 1000, "epoch_us": 1, "epoch_ns": 0.001}  # µs in a unit
# Whole numbers between 2001 and 2033; seconds and their parts since 1970 cannot be taken for one another.
EPOCH_LIKE = {"epoch_s": r"^1\d{9}$", "epoch_ms": r"^1\d{12}$", "epoch_us": r"^1\d{15}$", "epoch_ns": r"^1\d{18}$"}
# What looks like a date, though of a form that is not read: 03/04/05, Fri, 31 May 2024, 31.12.2022 10.30
DATED = (
    r"^\d{1,4}[./\-]\d{1,2}[./\-]\d{1,4}(?:[ Tt\-,].*)?$|^\d{8}T\d{4,6}Z?$"
    rf"|(?i:^(?:[a-z]{{2,9}},? )?\d{{1,2}}[ .\-](?:{'|'.join(_MONTHS)})[a-z]{{0,6}}[ .,\-]+\d{{2,4}}\b)"
)


def matches(text: pa.Array, format_: str) -> pa.Array:
    """Which cells are dates of one of `FORMATS`, as far as their digits tell."""
    found = pc.match_substring_regex(text, ISO) if format_ == "iso" else pa.repeat(pa.scalar(False), len(text))
    for pattern in FORMATS[format_]:
        found = pc.or_(found, pc.match_substring_regex(text, pattern))
    return found


def parsed(text: pa.Array, format_: str) -> pa.Array:
    """Cleaned cells → timestamps in µs, UTC where there is a zone; null where they are no date of that format."""
    if format_ == "ymd" or format_ in EPOCHS:  # pandas writes whole numbers with gaps so
        text = pc.replace_substring_regex(text, r"^(\d+)\.0+$", r"\1")
    if format_ in EPOCHS:
        return epochs(pc.cast(pc.if_else(pc.match_substring_regex(text, r"^-?\d+(\.\d+)?$"), text, None),
                              pa.float64()), format_)  # fmt: skip
    if format_ not in FORMATS:
        return _by_pattern(text, format_)
    if format_ != "iso":
        return _moments(_as_iso(text, FORMATS[format_]))
    plain = pc.fill_null(pc.match_substring_regex(text, ISO), False)
    if pc.sum(plain).as_py() == len(text) - text.null_count:
        return _moments(text)
    return _moments(pc.if_else(plain, text, _as_iso(text, FORMATS["iso"])))


def epochs(numbers: pa.Array, format_: str) -> pa.Array:
    """Seconds or milliseconds since 1970, whole or not → timestamps in µs, null beyond the years 1 to 9999."""
    micro = EPOCHS[format_]
    moments = pc.multiply(pc.cast(numbers, pa.float64(), safe=False), float(micro))
    inside = pc.and_(pc.greater_equal(moments, float(FIRST_MOMENT)), pc.less(moments, float(NO_MOMENT)))
    return pc.cast(pc.cast(pc.round(pc.if_else(inside, moments, None)), pa.int64()), pa.timestamp("us"))


def in_range(values: pa.Array) -> pa.Array:
    """Dates or timestamps, null where they are not in the years 1 to 9999: in µs they could overflow."""
    unit = "day" if pa.types.is_date32(values.type) else getattr(values.type, "unit", "ms")  # date64 is in ms
    if unit == "ns":
        return values
    micro = {"day": 86_400_000_000, "s": 1_000_000, "ms": 1000, "us": 1}[unit]
    number = pc.cast(values, pa.int32() if unit == "day" else pa.int64())
    first, end = FIRST_MOMENT // micro, NO_MOMENT // micro
    return pc.if_else(pc.and_(pc.greater_equal(number, first), pc.less(number, end)), values, None)


def _as_iso(text: pa.Array, patterns: tuple[str, ...]) -> pa.Array:
    """Cells of one of the patterns → ISO 8601; null where they are of none."""
    result = pa.nulls(len(text), pa.string())
    for pattern in patterns:
        result = pc.coalesce(result, _joined(pc.extract_regex(text, pattern)))
    return result


def _joined(parts: pa.StructArray) -> pa.Array:
    """The parts of dates, as a pattern's groups → ISO 8601."""
    names = {field.name for field in parts.type}
    gone = parts.is_null()

    def part(name: str, default: str = "") -> pa.Array:
        values = parts.field(name) if name in names else pa.repeat(default, len(parts))
        return pc.if_else(pc.equal(values, ""), default, values)

    month = part("month")
    if "name" in names:
        place = pc.index_in(pc.utf8_lower(pc.utf8_slice_codeunits(part("name"), 0, 3)), pa.array(_MONTHS))
        month = pc.cast(pc.add(place, 1), pa.string())
    hour = pc.cast(pc.if_else(gone, "0", part("hour", "0")), pa.int64())
    half = pc.utf8_lower(part("half"))
    late = pc.if_else(pc.equal(half, "p"), 12, 0)
    twelve = pc.if_else(pc.equal(hour, 12), 0, hour)
    # 13 pm is no time: it stays beyond 23, and is refused by what parses it
    hour = pc.if_else(pc.equal(half, ""), hour, pc.add(pc.if_else(pc.greater(hour, 12), 99, twelve), late))
    zone = part("zone")
    zone = pc.if_else(pc.is_in(zone, pa.array(["UTC", "GMT", "Z", "z"])), "+00:00", zone)
    two = [pc.utf8_lpad(value, 2, "0") for value in (month, part("day"), pc.cast(hour, pa.string()))]
    date = pc.binary_join_element_wise(part("year"), two[0], two[1], "-")
    time = pc.binary_join_element_wise(two[2], part("minute", "00"), part("second", "00"), ":")
    moment = pc.binary_join_element_wise(date, time, "T")
    whole = pc.binary_join_element_wise(moment, pc.utf8_rpad(part("fraction", "0"), 6, "0"), ".")
    return pc.if_else(gone, None, pc.binary_join_element_wise(whole, zone, ""))


def _moments(iso: pa.Array) -> pa.Array:
    """ISO 8601 text → timestamps in µs, UTC where there is a zone; null where it is none."""
    import pandas as pd

    good = pc.fill_null(pc.match_substring_regex(iso, ISO), False)
    iso = pc.if_else(good, iso, None)
    if pc.any(pc.match_substring_regex(iso, ZONE)).as_py():  # pandas would give a cell without a zone the one before's
        iso = pc.replace_substring_regex(iso, TIME_WITHOUT_ZONE, r"\1Z")
    parsed = pd.to_datetime(iso.to_pandas(), errors="coerce", utc=True, format="ISO8601").dt.tz_localize(None)
    stamps = in_range(pa.array(parsed.to_numpy("datetime64[us]"), pa.timestamp("us"), from_pandas=True))
    return _filled(stamps, pc.and_(good, pc.is_null(stamps)), iso, datetime.fromisoformat)


def _by_pattern(text: pa.Array, pattern: str) -> pa.Array:
    """Cells → moments by a pattern of strptime."""
    import pandas as pd

    parsed = pd.to_datetime(text.to_pandas(), errors="coerce", utc=True, format=pattern).dt.tz_localize(None)
    stamps = in_range(pa.array(parsed.to_numpy("datetime64[us]"), pa.timestamp("us"), from_pandas=True))
    left = pc.and_(pc.is_valid(text), pc.is_null(stamps))
    return _filled(stamps, left, text, lambda cell: datetime.strptime(cell, pattern))


def _filled(stamps: pa.Array, left: pa.Array, text: pa.Array, parse: object) -> pa.Array:
    """Moments with those that pandas left out, whose nanoseconds end in 1677 and 2262, parsed one by one."""
    places = np.flatnonzero(pc.fill_null(left, False).to_numpy(zero_copy_only=False))
    if not len(places):
        return stamps
    moments = [_moment(cell, parse) for cell in text.take(pa.array(places)).to_pylist()]
    return pc.replace_with_mask(stamps, pc.fill_null(left, False), pa.array(moments, pa.timestamp("us")))


def _moment(text: str, parse: object) -> datetime | None:
    try:
        moment = parse(text)  # type: ignore[operator]
        return moment.astimezone(UTC).replace(tzinfo=None) if moment.tzinfo else moment
    except (ValueError, OverflowError):
        return None

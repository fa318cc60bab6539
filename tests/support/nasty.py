"""Nasty inputs for property-based tests: CSV and Parquet files as bytes, from harmless to hopeless."""

from __future__ import annotations

import csv
import datetime as dt
import decimal
import io
import random
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
from hypothesis import strategies as st

CELLS = [
    "", " ", "NA", "nan", "None", "inf", "-Infinity", "1e999", "4e38", "-3.5e38", "1e-320", "0", "-0", "7", "7.5",
    "7.0", "x", "é", "𝔘", "1,5", "0x1f", "1_000", "٣", "--1", "+4", " 3 ", "9" * 25, "9007199254740993", "true",
    "FALSE", "no", "2024-02-29", "2024-02-30", "9999-12-31", "0001-01-01T00:00:00+05:00", "1500-01-01 10:00",
    "0000-00-00", '"', 'a"b', "line\nbreak", "'; DROP", "\u202e", "\x1b[31m", "=1+1", "a" * 300, "\ufeff",
]  # fmt: skip
ODD_NAMES = ["", " ", "X1", "x1 ", "a,b", "a\nb", 'quo"te', "é", "class", "prediction", "Reason", "probability_z",
             "__baton_hash", "0", "x.y", "n" * 200, "\x1b[0m", "Y", "__proto__"]  # fmt: skip
EXTREME_DAYS = [-(2**31), -719163, -1, 0, 19000, 2932896, 2**31 - 1]
EXTREME_TIMES = [-(2**63) + 1, -(10**17), 0, 10**15, 10**18, 2**63 - 1]


@dataclass(frozen=True)
class Nasty:
    """A file's bytes; `rows` is how many it was made of, None once its bytes were spoilt."""

    content: bytes
    suffix: str
    names: list[str]
    rows: int | None


def _number(rng: random.Random) -> str:
    return f"{rng.gauss(0, 3):.4f}"


TEXT_FLAVOURS: dict[str, Callable[[random.Random, int], str]] = {
    "number": lambda rng, i: _number(rng),
    "whole": lambda rng, i: str(rng.randrange(100)),
    "category": lambda rng, i: rng.choice("abc"),
    "unique": lambda rng, i: f"key{i}",
    "date": lambda rng, i: f"20{rng.randrange(10, 30)}-0{rng.randrange(1, 10)}-1{rng.randrange(10)}",
    "truth": lambda rng, i: rng.choice(["true", "false"]),
    "constant": lambda rng, i: "5",
    "missing": lambda rng, i: "",
    "nasty": lambda rng, i: rng.choice(CELLS),
    "mostly": lambda rng, i: rng.choice(CELLS) if rng.random() < 0.008 else _number(rng),
}


def _times(unit: str, zone: str | None = None) -> Callable[[random.Random, int], pa.Array]:
    # Parquet has no seconds: they are written as milliseconds, into which they must fit.
    times = [time for time in EXTREME_TIMES if unit != "s" or abs(time) < 2**63 // 1000]
    return lambda rng, n: pa.array([rng.choice(times) for _ in range(n)], pa.timestamp(unit, zone))


def _some(values: list[Any], type_: pa.DataType) -> Callable[[random.Random, int], pa.Array]:
    return lambda rng, n: pa.array([rng.choice(values) for _ in range(n)], type_)


ARROW_FLAVOURS: dict[str, Callable[[random.Random, int], pa.Array]] = {
    "double": _some([1.5, -2.0, 0.25, 1e300, None], pa.float64()),
    "floats": _some([1.0, float("nan"), float("inf"), -0.0, None, 3.3e38], pa.float32()),
    "long": _some([1, 2, 3, -(2**63), 2**63 - 1, None], pa.int64()),
    "small": _some([1, 2, None], pa.int8()),
    "unsigned": _some([0, 2**64 - 1], pa.uint64()),
    "decimal": _some([decimal.Decimal("1.25"), decimal.Decimal("-3.00"), None], pa.decimal128(9, 2)),
    "truth": _some([True, False, None], pa.bool_()),
    "text": _some(CELLS, pa.string()),
    "category": _some(["a", "b", "c"], pa.large_string()),
    "dictionary": lambda rng, n: _some(["p", "q", None], pa.string())(rng, n).dictionary_encode(),
    "null": lambda rng, n: pa.nulls(n),
    "bytes": _some([b"", b"\xff\xfe", b"abc", None], pa.binary()),
    "not_utf8": lambda rng, n: _not_utf8(n),
    "day": _some(EXTREME_DAYS, pa.int32()),
    "date32": lambda rng, n: _some(EXTREME_DAYS, pa.int32())(rng, n).cast(pa.date32()),
    "seconds": _times("s"),
    "millis": _times("ms", "Europe/Berlin"),
    "micros": _times("us"),
    "nanos": _times("ns", "UTC"),
    "clock": _some([dt.time(1, 2)], pa.time64("us")),
    "span": _some([dt.timedelta(1)], pa.duration("us")),
    "list": _some([[1], [], None], pa.list_(pa.int64())),
    "struct": _some([{"p": 1}], pa.struct([("p", pa.int64())])),
}


def _not_utf8(rows: int) -> pa.Array:
    offsets = pa.array(range(rows + 1), pa.int32()).buffers()[1]
    return pa.Array.from_buffers(pa.string(), rows, [None, offsets, pa.py_buffer(b"\xff" * rows)])


TARGETS = {
    "regression": ["number", "whole", "mostly", "nasty"],
    "binary": ["truth"],
    "multiclass": ["category", "nasty"],
}
ARROW_TARGETS = {"regression": ["double", "long", "floats"], "binary": ["truth"], "multiclass": ["category", "text"]}
# Spoil bytes: (content, where from 0 to 1) → content
SPOILERS: dict[str, Callable[[bytes, float], bytes]] = {
    "nul": lambda b, at: _put(b, at, b"\0"),
    "quote": lambda b, at: _put(b, at, b'"'),
    "open quote": lambda b, at: _put(b, at, b',"'),
    "newline": lambda b, at: _put(b, at, b"\n"),
    "return": lambda b, at: _put(b, at, b"\r"),
    "latin-1": lambda b, at: _put(b, at, b"\xe9"),
    "bom": lambda b, at: b"\xef\xbb\xbf" + b,
    "utf-16": lambda b, at: b.decode("utf-8", "replace").encode("utf-16"),
    "utf-16-le": lambda b, at: b.decode("utf-8", "replace").encode("utf-16-le"),
    "truncated": lambda b, at: b[: int(len(b) * at)],
    "more cells": lambda b, at: _put(b, at, b",1,2"),
    "twice": lambda b, at: b + b,
    "flip": lambda b, at: _flip(b, at),
    "empty": lambda b, at: b"",
}
PARQUET_SPOILERS = ("flip", "flip", "flip", "truncated", "empty", "twice")


def _put(content: bytes, at: float, what: bytes) -> bytes:
    place = int(len(content) * at)
    return content[:place] + what + content[place:]


def _flip(content: bytes, at: float) -> bytes:
    place = min(int(len(content) * at), len(content) - 1)
    bit = 1 << int(at * 8_000_000) % 8
    return content[:place] + bytes([content[place] ^ bit]) + content[place + 1 :] if content else content


def spoilt(content: bytes, spoilers: list[tuple[str, float]]) -> bytes:
    for name, at in spoilers:
        content = SPOILERS[name](content, at)
    return content


@st.composite
def columns(draw: Any, flavours: list[str], targets: list[str], target: str = "y") -> dict[str, str]:
    """Column names with a flavour each; the target among them, almost always."""
    found = {name: draw(st.sampled_from(flavours)) for name in draw(st.sampled_from([["x1"], ["x1", "x2"]]))}
    if draw(st.integers(0, 7)) == 0:
        found |= {draw(st.sampled_from(ODD_NAMES)): draw(st.sampled_from(flavours))}
    if draw(st.integers(0, 19)):
        found[target] = draw(st.sampled_from(targets))
    return found


@st.composite
def csv_files(draw: Any, task: str = "regression", fixed: dict[str, str] | None = None) -> Nasty:
    """A CSV file with a target y for the task; `fixed` columns instead, if given, some of them changed."""
    chosen = dict(fixed) if fixed else draw(columns(list(TEXT_FLAVOURS), TARGETS[task]))
    if fixed and draw(st.booleans()):
        chosen[draw(st.sampled_from(list(fixed)))] = draw(st.sampled_from(list(TEXT_FLAVOURS)))
    names = list(chosen)
    if draw(st.integers(0, 11)) == 0:
        names[0] = draw(st.sampled_from([names[-1], *ODD_NAMES]))
    rows, rng = draw(st.sampled_from([0, 1, 5, 60, 90, 90, 120, 120, 120])), random.Random(draw(st.integers(0, 2**32)))
    out = io.StringIO()
    quoting, end = draw(st.sampled_from([csv.QUOTE_MINIMAL, csv.QUOTE_ALL])), draw(st.sampled_from(["\n", "\r\n"]))
    writer = csv.writer(out, quoting=quoting, lineterminator=end)
    writer.writerows([names, *([TEXT_FLAVOURS[f](rng, i) for f in chosen.values()] for i in range(rows))])
    spoilers = draw(st.lists(st.tuples(st.sampled_from(list(SPOILERS)), st.floats(0, 1)), max_size=2))
    return Nasty(spoilt(out.getvalue().encode(), spoilers), ".csv", names, None if spoilers else rows)


@st.composite
def parquet_files(draw: Any, task: str = "regression", fixed: dict[str, str] | None = None) -> Nasty:
    """A Parquet file with a target y for the task; `fixed` columns instead, if given, some of them changed."""
    chosen = dict(fixed) if fixed else draw(columns(list(ARROW_FLAVOURS), ARROW_TARGETS[task]))
    if fixed and draw(st.booleans()):
        chosen[draw(st.sampled_from(list(fixed)))] = draw(st.sampled_from(list(ARROW_FLAVOURS)))
    names = list(chosen)
    if draw(st.integers(0, 11)) == 0:
        names[0] = draw(st.sampled_from([names[-1], *ODD_NAMES]))
    rows, rng = draw(st.sampled_from([0, 1, 60, 90, 90, 120, 120, 120])), random.Random(draw(st.integers(0, 2**32)))
    arrays = [ARROW_FLAVOURS[flavour](rng, rows) for flavour in chosen.values()]
    out = io.BytesIO()
    compression, group = draw(st.sampled_from(["none", "snappy", "zstd"])), draw(st.sampled_from([7, 1000]))
    pq.write_table(pa.table(arrays, names=names), out, compression=compression, row_group_size=group)
    chance = st.lists(st.tuples(st.sampled_from(PARQUET_SPOILERS), st.floats(0, 1)), max_size=1)
    spoilers = draw(chance) if draw(st.booleans()) else []
    return Nasty(spoilt(out.getvalue(), spoilers), ".parquet", names, None if spoilers else rows)

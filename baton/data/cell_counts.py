"""A table's cells in, counts of what they could be out: as whole columns, for `baton.data.recognition` to decide by.

Counts of parts add up to those of the whole, so that both engines decide alike.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from baton.data import columns as cols
from baton.data import images, text_dates, text_numbers
from baton.data.text_numbers import NumberStyle
from baton.runtime.threads import mapped

if TYPE_CHECKING:
    from baton.config.schema import Data

MOST_HELD = 1 << 20  # distinct cells of parts that are gathered
# What people write for a missing number or date; that it is missing shows in the rest of the column.
MARKS = ("-", "--", "?", ".", "n.a.", "N.A.", "n/a", "#DIV/0!", "#VALUE!", "#REF!", "#NUM!", "#NAME?")


@dataclass
class CellCounts:
    """A column's rows, its cells that are not missing, how many of these are of which sort, and the longest of them.

    Counts of parts add up.
    """

    rows: int = 0
    cells: int = 0
    sorts: Counter[str] = field(default_factory=Counter)
    example: str = ""
    odd: str = ""  # the longest cell that is no plain number

    def __add__(self, other: CellCounts) -> CellCounts:
        example, odd = (max(pair, key=_by_length) for pair in ((self.example, other.example), (self.odd, other.odd)))
        return CellCounts(self.rows + other.rows, self.cells + other.cells, self.sorts + other.sorts, example, odd)

    def to_dict(self) -> dict[str, Any]:
        return {**vars(self), "sorts": dict(self.sorts)}

    @staticmethod
    def of(kept: dict[str, Any]) -> CellCounts:
        """The counts that `to_dict` made plain."""
        return CellCounts(**{**kept, "sorts": Counter(kept["sorts"])})


def counts(table: pa.Table, data: Data) -> dict[str, CellCounts]:
    """Table → the counts of each column; the sorts only of those whose type alone does not say what they mean."""
    columns = table.column_names
    return dict(zip(columns, mapped(lambda name: _counted(table.column(name), name, data), columns), strict=True))


def merge(parts: list[dict[str, CellCounts]]) -> dict[str, CellCounts]:
    """Add up the `counts` of several tables of the same columns."""
    total: dict[str, CellCounts] = {}
    for part in parts:
        for name, counted in part.items():
            total[name] = total.get(name, CellCounts()) + counted
    return total


@dataclass
class Cells:
    """What a part holds: the distinct cells of text with their rows, `cell` and `rows`; the counts of other columns."""

    texts: dict[str, pa.Table]
    counts: dict[str, CellCounts]


def cells_of(table: pa.Table, data: Data) -> Cells:
    """Table → its cells."""
    text = [name for name in table.column_names if cols.is_text(table.column(name).type)]
    others = [name for name in table.column_names if name not in set(text)]
    texts = mapped(lambda name: _distinct(table.column(name).combine_chunks()), text)
    return Cells(dict(zip(text, texts, strict=True)), counts(table.select(others), data))


class Counting:
    """Cells of parts, gathered: text is looked at once a distinct cell of many parts, not of each."""

    def __init__(self, data: Data):
        self.data, self.total = data, dict[str, CellCounts]()
        self.texts: dict[str, list[pa.Table]] = {}
        self.held = 0

    def add(self, part: Cells) -> None:
        self.total = merge([self.total, part.counts])
        for name, cells in part.texts.items():
            self.texts.setdefault(name, []).append(cells)
            self.held += cells.num_rows
        if self.held > MOST_HELD:
            self._shrink()

    def counts(self) -> dict[str, CellCounts]:
        """The counts of each column, as `counts` of the whole table would give them."""
        self._look()
        return self.total

    def _shrink(self) -> None:
        """Add up what several parts hold; let go of it if that does not help."""
        self.texts = {name: [_added(held)] for name, held in self.texts.items()}
        self.held = sum(held[0].num_rows for held in self.texts.values())
        if self.held > MOST_HELD // 2:
            self._look()

    def _look(self) -> None:
        def counted(name: str) -> CellCounts:
            held = _added(self.texts[name])
            rows = held.column("rows").to_numpy()
            cells = held.column("cell").combine_chunks()
            return _cell_counts(cells, rows, cols.missing_texts(name, self.data))

        found = mapped(counted, self.texts)
        self.total = merge([self.total, dict(zip(self.texts, found, strict=True))])
        self.texts, self.held = {}, 0


def _distinct(text: pa.Array) -> pa.Table:
    cells, place = cols.distinct(text)
    rows = np.bincount(place.drop_null().to_numpy(), minlength=len(cells))
    return pa.table({"cell": cells, "rows": rows})


def _added(held: list[pa.Table]) -> pa.Table:
    if len(held) == 1:
        return held[0]
    summed = pa.concat_tables(held).group_by("cell").aggregate([("rows", "sum")])
    return summed.rename_columns({"rows_sum": "rows"})


def _counted(values: pa.ChunkedArray, name: str, data: Data) -> CellCounts:
    values = values.combine_chunks()
    if cols.is_text(values.type):
        return _text_counts(values, cols.missing_texts(name, data))
    missing = cols.missing_numbers(cols.missing_texts(name, data))
    if pa.types.is_floating(values.type) and not pa.types.is_float16(values.type):
        return _float_counts(values, missing)
    if cols.is_whole(values.type):
        return _whole_counts(values, missing)
    result = CellCounts(len(values), len(values) - _total(pc.is_null(values, nan_is_null=True), None))
    if cols.is_binary(values.type):
        starts = pc.binary_slice(pc.cast(values, pa.binary()), 0, 4) if len(values) else values
        found = sum(bytes(start.as_py() or b"").startswith(images.STARTS) for start in starts)
        result.sorts = +Counter({"image": found})
    return result


def _float_counts(values: pa.Array, missing: list[float]) -> CellCounts:
    """Floats → the counts of those that are whole, as pandas holds whole numbers with gaps; `fraction` are others."""
    values = pc.if_else(pc.is_nan(values), None, values)
    inside = pc.less(pc.abs(values), 2.0**63)
    whole = pc.if_else(pc.and_(inside, pc.equal(pc.floor(values), values)), values, None)
    fractions = whole.null_count - values.null_count
    result = _whole_counts(pc.cast(whole, pa.int64()), missing, digits=False)
    result.cells += fractions
    result.sorts = +(result.sorts + Counter(fraction=fractions))
    return result


def _whole_counts(values: pa.Array, missing: list[float], digits: bool = True) -> CellCounts:
    """Whole numbers → how many could be dates; with `digits`, how many have more of them than a float64 keeps."""
    if missing:
        values = pc.if_else(pc.is_in(pc.cast(values, pa.float64(), safe=False), pa.array(missing)), None, values)
    result = CellCounts(len(values), len(values) - values.null_count)
    edges = pc.min_max(values).as_py()
    if edges["max"] is None or max(abs(edges["min"]), abs(edges["max"])) < 10_000_000:
        return result
    text = pc.cast(values.drop_null(), pa.string())
    result.sorts = _coded_dates(text, None)
    if digits:
        result.sorts += _counter(text, None, many_digits=text_numbers.MANY_DIGITS)
        result.sorts["beyond"] = int(edges["max"] >= 2**63)
    result.sorts = +result.sorts
    return result


def _text_counts(text: pa.Array, missing: tuple[str, ...]) -> CellCounts:
    """Text → its counts; all is looked for in its distinct cells, and only while something is unexplained."""
    cells, place = cols.distinct(text)
    rows = np.bincount(place.drop_null().to_numpy(), minlength=len(cells))
    return _cell_counts(cells, rows, missing, len(text))


def _cell_counts(cells: pa.Array, rows: np.ndarray, missing: tuple[str, ...], total: int | None = None) -> CellCounts:
    """Distinct cells with their rows → their counts; `total` are the rows if some are in no cell."""
    cells = cols.clean(cells, missing)
    weight = rows[pc.is_valid(cells).to_numpy(zero_copy_only=False)]
    cells = cells.drop_null()
    result = CellCounts(int(rows.sum()) if total is None else total, int(weight.sum()), example=_longest(cells))
    plain = pc.match_substring_regex(cells, text_numbers.NUMBER)
    sorts = Counter(numeric=_total(plain, weight))
    if sorts["numeric"]:
        sorts += _plain_sorts(cells, weight)
    if sorts["numeric"] < result.cells:
        sorts += _other_sorts(cells, weight, pc.invert(plain))
        result.odd = _longest(cells.filter(pc.invert(plain)))
    result.sorts = +sorts
    return result


def _plain_sorts(cells: pa.Array, weight: np.ndarray) -> Counter[str]:
    """Cells → how many are whole numbers, and what else bears on how numbers are read."""
    integer, lengths = pc.match_substring_regex(cells, text_numbers.INTEGER), pc.utf8_length(cells)
    sorts = Counter(integer=_total(integer, weight))
    if sorts["integer"]:
        sorts["small"] = _total(pc.and_(integer, pc.less_equal(lengths, 3)), weight)
        sorts += _counter(cells, weight, leading_zero=text_numbers.LEADING_ZERO)
    if pc.max(lengths).as_py() > 15:
        sorts += _counter(cells, weight, many_digits=text_numbers.MANY_DIGITS)
    if points := _total(pc.match_substring(cells, "."), weight):
        sorts += Counter(points=points) + _counter(cells, weight, three_points=text_numbers.THREE_DIGITS["."])
    return sorts + _coded_dates(cells, weight)


def _other_sorts(cells: pa.Array, weight: np.ndarray, unexplained: pa.Array) -> Counter[str]:
    """Cells, and which are no plain numbers → how many are marks, booleans, dates, numbers of another style."""
    sorts = Counter[str]()
    for mark in MARKS:
        sorts[f"mark {mark}"] = _total(pc.equal(cells, mark), weight)
    sorts["boolean"] = _total(pc.is_in(pc.utf8_lower(cells), pa.array(list(cols.BOOLEAN_TEXT))), weight)
    if _total(pc.match_substring_regex(cells, r"^\d{1,4}[./ \-]|^[A-Za-z]{3,9}[.,]? +\d|^\d{8}[ Tt]"), weight):
        sorts += _date_sorts(cells, weight, unexplained)
    like = pc.and_(unexplained, pc.match_substring_regex(cells, text_numbers.NUMBER_LIKE))
    held = like.to_numpy(zero_copy_only=False)
    return sorts + _styled(cells.filter(like), weight[held]) if held.any() else sorts


def _date_sorts(cells: pa.Array, weight: np.ndarray, unexplained: pa.Array) -> Counter[str]:
    """Cells → how many are dates of each format, of the day or the month first in one of the two ways, and alike."""
    found = {format_: text_dates.matches(cells, format_) for format_ in text_dates.FORMATS}
    found["ymd"] = pc.and_(found["ymd"], unexplained)  # plain numbers are counted by themselves
    sorts = Counter({f"date {format_}": _total(mask, weight) for format_, mask in found.items()})
    sorts["day_month"] = _total(pc.or_(found["dmy"], found["mdy"]), weight)
    return sorts + _counter(cells, weight, dated=text_dates.DATED)


def _styled(cells: pa.Array, weight: np.ndarray) -> Counter[str]:
    """Cells that look like numbers but are no plain ones → how many each style reads, and their units."""
    units, bare = text_numbers.units(cells), text_numbers.bare(cells)
    sorts = _counter(
        bare, weight, three=text_numbers.THREE_DIGITS[","], groups=text_numbers.MANY_GROUPS,
        bare_three_points=text_numbers.THREE_DIGITS["."], bare_points=r"\.", bare_integer=text_numbers.INTEGER,
        bare_small=r"^[+-]?\d{1,3}$",
    )  # fmt: skip
    sorts += _counter(cells, weight, brackets=text_numbers.BRACKETS)
    for unit in units.unique().drop_null().to_pylist():
        sorts[f"unit {unit}"] = _total(pc.equal(units, unit), weight)
    for style in text_numbers.STYLES:
        sorts[style_key(style)] = _total(text_numbers.matches(bare, style), weight)
    return sorts


def style_key(style: NumberStyle) -> str:
    return f"style {style.decimal}{style.thousands}"


def _coded_dates(cells: pa.Array, weight: np.ndarray | None) -> Counter[str]:
    """Whole numbers that are dates of eight digits, or seconds or parts of them since 1970."""
    cells = pc.replace_substring_regex(cells, r"^(\d{8,})\.0+$", r"\1")
    lengths = pc.utf8_length(cells)
    held = set(lengths.unique().to_pylist())
    wanted = {} if held.isdisjoint((10, 13, 16, 19)) else text_dates.EPOCH_LIKE
    sorts = _counter(cells, weight, **wanted)
    if 8 in held:
        sorts["date ymd"] = _total(pc.and_(text_dates.matches(cells, "ymd"), pc.equal(lengths, 8)), weight)
    return sorts


def _counter(cells: pa.Array, weight: np.ndarray | None, **patterns: str) -> Counter[str]:
    return Counter(
        {name: _total(pc.match_substring_regex(cells, pattern), weight) for name, pattern in patterns.items()}
    )


def _total(mask: pa.Array, weight: np.ndarray | None) -> int:
    """A mask of distinct cells → their rows."""
    held = pc.fill_null(mask, False).to_numpy(zero_copy_only=False)
    return int(held.sum() if weight is None else weight[held].sum())


def _longest(cells: pa.Array) -> str:
    """The longest cell, the last in order of those: the same however a table is cut."""
    lengths = pc.utf8_length(cells)
    most = pc.max(lengths).as_py()
    return "" if most is None else pc.max(cells.filter(pc.equal(lengths, most))).as_py()


def _by_length(text: str) -> tuple[int, str]:
    return len(text), text

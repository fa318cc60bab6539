"""CSV text in, the types that print it back cell for cell out: what a column of a source is in the predictions.

Text becomes a number, a truth, a date or a time only if every cell of the whole source comes back as it was: `00501` is
no number then, nor is `3.50`. What holds for a table is a `Types`; those of several merge, whatever their order.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator
from functools import reduce

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from baton.data.columns import Column, is_text
from baton.data.sources.files import Source
from baton.errors import BadInput
from baton.runtime.threads import mapped

ARROW_TYPE = {
    "long": pa.int64(),
    "double": pa.float64(),
    "boolean": pa.bool_(),
    "datetime": pa.timestamp("us"),
    "date": pa.date32(),
}
OF_KIND = {"numeric": ("long", "double"), "boolean": ("boolean",), "datetime": ("datetime", "date")}
LONG = r"^-?(0|[1-9]\d*)$"
SHORT_LONG = r"^(0|-?[1-9]\d{0,17})$"  # fits int64, however it reads
DECIMAL = r"^-?(0\.(0|0{0,3}[1-9](\d*[1-9])?)|[1-9]\d{0,14}\.(0|\d*[1-9]))$"  # as repr writes it: no exponent
SHORT_DECIMAL = 16  # characters; a decimal of at most 15 digits is the shortest one of its float64
DATE = r"^\d{4}-\d\d-\d\d$"
TIME = r"^\d{4}-\d\d-\d\d ([01]\d|2[0-3]):[0-5]\d:[0-5]\d(\.\d{6})?$"
MONTH_DAYS = np.array([0, 31, 28, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31])

# {column: the types of which every cell prints back as it came}
Types = dict[str, frozenset[str]]


def candidates(schema: pa.Schema, features: list[Column]) -> Types:
    """What the text columns that the model reads as numbers, truths or times may be, before a cell was seen."""
    text = [c for c in features if c.name in schema.names and is_text(schema.field(c.name).type)]
    return {column.name: frozenset(OF_KIND[column.kind]) for column in text if column.kind in OF_KIND}


def holding(table: pa.Table, types: Types) -> Types:
    """Text columns → which of their `types` hold for every cell; empty cells are null in any."""
    of_columns = mapped(lambda name: _holding(table.column(name), types[name]), types)
    return dict(zip(types, of_columns, strict=True))


def merge(parts: Iterable[Types], types: Types) -> Types:
    """What holds in all parts, of `types`."""
    return reduce(lambda one, other: {name: one[name] & other[name] for name in one}, parts, types)


def of_source(source: Source, types: Types) -> Types:
    """CSV files → which of the `types` hold for every cell, in one pass over these columns alone.

    Nothing is typed where a file cannot be read: the pass that scores says what is wrong with it.
    """
    tables = source.text_columns(list(types))
    try:
        while any(types.values()) and (table := next(tables, None)) is not None:
            types = holding(table, types)
    except (pa.ArrowException, OSError, ValueError, BadInput):
        return {}
    return types


def chosen(types: Types, features: list[Column]) -> dict[str, pa.DataType]:
    """What holds → each column's one type; where several do, no cell holds a value, and the declared one is taken."""
    declared = {column.name: column.type for column in features}
    one_each = {name: [t for t in ARROW_TYPE if t in held] for name, held in types.items() if held}
    return {n: ARROW_TYPE[declared[n] if declared[n] in held else held[0]] for n, held in one_each.items()}


def with_types(table: pa.Table, types: dict[str, pa.DataType]) -> pa.Table:
    """A table with these columns of text in these types; raises `BadInput` if a cell is none of it."""
    for name, type_ in types.items():
        index = table.column_names.index(name)
        try:
            table = table.set_column(index, name, pc.cast(table.column(index), type_))
        except pa.ArrowInvalid:
            raise BadInput(f"Column {name} changed while it was read: run again when the source is whole.") from None
    return table


def _holding(values: pa.ChunkedArray, types: frozenset[str]) -> frozenset[str]:
    if not types:
        return types
    cells = values.combine_chunks().dictionary_encode().dictionary.drop_null()
    return frozenset(type_ for type_ in types if _PRINTS_BACK[type_](cells))


def _is_long(cells: pa.Array) -> bool:
    rest = _without(cells, pc.match_substring_regex(cells, SHORT_LONG))
    return all(cell != "-0" and re.match(LONG, cell) and -(2**63) <= int(cell) < 2**63 for cell in _texts(rest))


def _is_double(cells: pa.Array) -> bool:
    plain = pc.match_substring_regex(cells, DECIMAL)
    rest = _without(cells, pc.and_(plain, pc.less_equal(pc.utf8_length(cells), SHORT_DECIMAL)))
    long = rest.filter(pc.match_substring_regex(rest, DECIMAL))
    same = pc.equal(pc.cast(pc.cast(long, pa.float64()), pa.string()), long)  # Arrow prints the shortest, as repr
    odd = _without(rest, pc.is_in(rest, long.filter(same)))
    return all(_is_repr(cell) for cell in _texts(odd))


def _is_repr(cell: str) -> bool:
    try:
        return repr(float(cell)) == cell != "nan"
    except ValueError:
        return False


def _is_boolean(cells: pa.Array) -> bool:
    return bool(pc.all(pc.is_in(cells, pa.array(["True", "False"], pa.string())), min_count=0).as_py())


def _is_date(cells: pa.Array) -> bool:
    return _all_match(cells, DATE) and _are_days(cells)


def _is_datetime(cells: pa.Array) -> bool:
    """str(datetime) writes microseconds only where there are any."""
    if not _all_match(cells, TIME) or pc.any(pc.ends_with(cells, ".000000"), min_count=0).as_py():
        return False
    return _are_days(pc.utf8_slice_codeunits(cells, 0, 10))


def _are_days(cells: pa.Array) -> bool:
    """Whether texts of that form are days of the years 1 to 9999."""
    year, month, day = (_integers(cells, *part) for part in ((0, 4), (5, 7), (8, 10)))
    leap = (month == 2) & (year % 4 == 0) & ((year % 100 != 0) | (year % 400 == 0))
    real = (month >= 1) & (month <= 12)
    return bool((real & (year >= 1) & (day >= 1) & (day <= MONTH_DAYS[np.where(real, month, 0)] + leap)).all())


def _integers(cells: pa.Array, start: int, stop: int) -> np.ndarray:
    return pc.cast(pc.utf8_slice_codeunits(cells, start, stop), pa.int32()).to_numpy(zero_copy_only=False)


def _all_match(cells: pa.Array, pattern: str) -> bool:
    return bool(pc.all(pc.match_substring_regex(cells, pattern), min_count=0).as_py())


def _without(cells: pa.Array, mask: pa.Array) -> pa.Array:
    return cells.filter(pc.invert(mask))


def _texts(cells: pa.Array) -> Iterator[str]:
    """One after the other: the first that is odd ends the search."""
    return (cell.as_py() for cell in cells)


_PRINTS_BACK: dict[str, Callable[[pa.Array], bool]] = {
    "long": _is_long,
    "double": _is_double,
    "boolean": _is_boolean,
    "datetime": _is_datetime,
    "date": _is_date,
}

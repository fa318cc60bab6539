"""Columns of several files in, those of the whole source out: types that hold every file's values, and casts to them.

A cast changes no value: what the common type cannot hold is refused.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc

from baton.data.sources import csv_text
from baton.errors import BadInput, listed

FAULTY_FILES = 5  # that one error describes
DIGITS = {8: 3, 16: 5, 32: 10, 64: 19}  # of whole numbers of so many bits
DECIMAL_DIGITS = 76  # the most that a decimal can have


def decoded(type_: pa.DataType) -> pa.DataType:
    """What a dictionary stands for; pyarrow cannot write every dictionary that it reads."""
    return type_.value_type if pa.types.is_dictionary(type_) else type_


def conformed(table: pa.Table, schema: pa.Schema, file: Path | str) -> pa.Table:
    """A file's columns in the order and types of the whole source; raises `BadInput` for what does not fit."""
    return pa.table([_cast(table.column(field.name), field, file) for field in schema], schema)


def united(schemas: Mapping[Path, pa.Schema]) -> pa.Schema:
    """Each file's columns → those of all; raises one `BadInput` that names everything that does not go together."""
    first = next(iter(schemas.values()))
    faults = [fault for file, schema in schemas.items() if (fault := _name_faults(file, schema.names, first.names))]
    types: dict[str, pa.DataType] = {}
    for file, schema in schemas.items():
        if len(set(schema.names)) == len(schema):
            faults += _unite(types, file, schema)
    if faults:
        more = f" And {len(faults) - FAULTY_FILES} more faults." if len(faults) > FAULTY_FILES else ""
        raise BadInput(" ".join(faults[:FAULTY_FILES]) + more)
    return pa.schema([(name, types[name]) for name in first.names])


def _name_faults(file: Path, names: list[str], first: list[str]) -> str:
    """What is wrong with the names of a file's columns, as sentences; empty if nothing is."""
    faults = []
    if repeated := sorted(name for name, number in Counter(names).items() if number > 1):
        faults.append(f"{file} has columns of the same name: {listed(repeated)}.")
    if blank := [number for number, name in enumerate(names, 1) if not name.strip()]:
        faults.append(f"{file} has columns without a name: number {listed([str(number) for number in blank])}.")
        if blank[-1] == len(names) > 1:
            faults.append("Its header ends with a delimiter.")
        if blank[0] == 1:
            faults.append("The first may be the index of pandas: write it with index=False.")
    if faults and csv_text.looks_like_data(names):
        faults.append(csv_text.header_hint(names).strip())
    folded = Counter(name.casefold() for name in set(names))
    if alike := sorted(name for name in set(names) if folded[name.casefold()] > 1):
        faults.append(f"{file} has columns whose names differ in case only: {listed(alike)}.")
    if set(first) != set(names):
        missing, extra = sorted(set(first) - set(names)), sorted(set(names) - set(first))
        faults.append(f"{file} has other columns than the files before it: missing {missing}, extra {extra}.")
    return " ".join(faults)


def _unite(types: dict[str, pa.DataType], file: Path, schema: pa.Schema) -> list[str]:
    """Add a file's types to those of the files before it; the columns whose types do not go together, as sentences."""
    faults = []
    for column in schema:
        before = types.setdefault(column.name, column.type)
        try:
            types[column.name] = _common(before, column.type)
        except (pa.ArrowInvalid, pa.ArrowTypeError):
            faults.append(
                f"{file}: the type of column {column.name} does not go together with that in the files before it: "
                f"{column.type} and {before}."
            )
    return faults


def _common(one: pa.DataType, other: pa.DataType) -> pa.DataType:
    """A type for the values of two; raises pyarrow's error if there is none.

    Times go together in microseconds, which hold all years, and not in nanoseconds, which end in 2262.
    """
    if one == other:
        return one
    if _is_moment(one) and _is_moment(other) and _zone(one) == _zone(other):
        days = pa.types.is_date(one) and pa.types.is_date(other)
        return pa.date32() if days else pa.timestamp("us", _zone(one))
    decimal, number = (one, other) if pa.types.is_decimal(one) else (other, one)
    if pa.types.is_decimal(decimal) and pa.types.is_floating(number):
        return pa.float64()
    if pa.types.is_decimal(decimal) and pa.types.is_integer(number):
        return _decimal_for(decimal, number)
    pair = [pa.schema([("x", type_)]) for type_ in (one, other)]
    return pa.unify_schemas(pair, promote_options="permissive").field(0).type


def _is_moment(type_: pa.DataType) -> bool:
    return pa.types.is_timestamp(type_) or pa.types.is_date(type_)


def _zone(type_: pa.DataType) -> str | None:
    return type_.tz if pa.types.is_timestamp(type_) else None


def _decimal_for(decimal: pa.DataType, whole: pa.DataType) -> pa.DataType:
    """The decimal that holds any number of both types: pyarrow's own choice is too narrow to be cast to."""
    unsigned = pa.types.is_unsigned_integer(whole) and whole.bit_width == 64
    digits = max(decimal.precision, DIGITS[whole.bit_width] + unsigned + decimal.scale)
    if digits > DECIMAL_DIGITS:
        raise pa.ArrowInvalid("no decimal is so wide")
    if digits > 38 or pa.types.is_decimal256(decimal):
        return pa.decimal256(digits, decimal.scale)
    return pa.decimal128(digits, decimal.scale)


def _cast(values: pa.ChunkedArray, field: pa.Field, file: Path | str) -> pa.ChunkedArray:
    """One column in the type of the whole source, without a change of any value."""
    if pa.types.is_dictionary(values.type):
        values = pa.chunked_array([chunk.dictionary_decode() for chunk in values.chunks], values.type.value_type)
    if values.type == field.type:
        return values
    try:
        cells = _cast_exactly(values, field.type)
    except (pa.ArrowInvalid, pa.ArrowNotImplementedError) as error:
        raise _not_held(values, field, file, f" ({error})") from None
    if cells is None:
        raise _not_held(values, field, file)
    return cells


def _cast_exactly(values: pa.ChunkedArray, type_: pa.DataType) -> pa.ChunkedArray | None:
    """The values in another type; None if one is another value there, which pyarrow does not always notice."""
    if pa.types.is_integer(values.type) and pa.types.is_float64(type_):
        return pc.cast(values, type_, safe=False) if _are_doubles(values) else None
    cells = pc.cast(values, type_)
    if pa.types.is_decimal(values.type) or pa.types.is_date(values.type):
        same = pc.all(pc.equal(pc.cast(cells, values.type, safe=False), values)).as_py()
        return None if same is False else cells
    return cells


def _are_doubles(whole: pa.ChunkedArray) -> bool:
    """Whether a double holds each of these whole numbers; beyond 2**53 not every one is a double."""
    largest = pc.min_max(whole)
    if all(number is None or abs(number) <= 2**53 for number in largest.as_py().values()):
        return True
    return all(int(float(number)) == number for number in whole.unique().to_pylist() if number is not None)


def _not_held(values: pa.ChunkedArray, field: pa.Field, file: Path | str, why: str = "") -> BadInput:
    return BadInput(
        f"{file}: column {field.name} holds values of type {values.type} that {field.type}, the type for all files, "
        f"cannot hold exactly{why}. Write the column in one type in all files."
    )

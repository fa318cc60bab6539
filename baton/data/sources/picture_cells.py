"""A table whose pictures lie elsewhere in, the same with their bytes as a column out.

A column of paths names files below the folder of the table; one of Hugging Face's structs holds bytes beside a path.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc

BYTES = "_bytes"  # hangs on the name of a column of paths: the column of what lies there
PICTURES_AT_ONCE, BYTES_AT_ONCE = 1024, 256 << 20  # of one table
OUTSIDE, ABSENT, NONE = "names a file outside the table's folder", "names no file", "names no picture"


def batched(sizes: Iterable[int]) -> Iterator[tuple[int, int]]:
    """Bytes of each picture → (first, end) of those that go together: few, and not too large."""
    start = total = end = 0
    for end, size in enumerate(sizes, 1):
        if end - 1 > start and (end - start > PICTURES_AT_ONCE or total + size > BYTES_AT_ONCE):
            yield start, end - 1
            start, total = end - 1, 0
        total += size
    if end > start:
        yield start, end


def is_struct(type_: pa.DataType) -> bool:
    """Whether cells are Hugging Face's: a struct of bytes and path."""
    if not pa.types.is_struct(type_) or {field.name for field in type_} != {"bytes", "path"}:
        return False
    return pa.types.is_binary(type_.field("bytes").type) or pa.types.is_large_binary(type_.field("bytes").type)


def is_paths(type_: pa.DataType) -> bool:
    type_ = type_.value_type if pa.types.is_dictionary(type_) else type_
    return pa.types.is_string(type_) or pa.types.is_large_string(type_)


def schema(own: pa.Schema, column: str) -> pa.Schema:
    """A file's columns, `column` that of pictures (empty: not named) → those with bytes for structs and paths."""
    fields = [pa.field(f.name, pa.binary()) if is_struct(f.type) else f for f in own]
    if column in own.names and is_paths(own.field(column).type):
        fields.append(pa.field(column + BYTES, pa.binary()))
    return pa.schema(fields)


def tables(table: pa.Table, column: str, file: Path, broken: list[dict[str, str]]) -> Iterator[pa.Table]:
    """A file's rows → the same with bytes for structs and paths; rows that name no picture go to `broken`."""
    for number, arrow_field in enumerate(table.schema):
        if is_struct(arrow_field.type):
            cells = [pc.struct_field(chunk, "bytes") for chunk in table.column(number).chunks]
            table = table.set_column(number, arrow_field.name, pc.cast(pa.chunked_array(cells), pa.binary()))
    if column not in table.column_names or not is_paths(table.schema.field(column).type):
        yield table
        return
    found = named(table, column, file)
    for cell, place in zip(table.column(column).to_pylist(), found, strict=True):
        if isinstance(place, str):
            broken.append({"text": f"{file.name}: {cell or ''}", "reason": f"row: {column} {place}"})
    there = [isinstance(place, Path) for place in found]
    places = [place for place in found if isinstance(place, Path)]
    rows = table.filter(pa.array(there, pa.bool_()))
    for first, end in batched(place.stat().st_size for place in places):
        cells = pa.array([place.read_bytes() for place in places[first:end]], pa.binary())
        yield rows.slice(first, end - first).append_column(column + BYTES, cells)


def named(table: pa.Table, column: str, file: Path) -> list[Path | str]:
    """A file's rows → the picture that each names, or what is wrong with it."""
    return [_place_of(file.parent, cell) for cell in pc.cast(table.column(column), pa.string()).to_pylist()]


def _place_of(folder: Path, cell: str | None) -> Path | str:
    """A cell → the file that it names below a folder, or what is wrong with it; links lead outside, wherever to."""
    text = (cell or "").strip()
    if not text:
        return NONE
    place = _normal(folder, str(cell))
    if not _is_file(place) and "\\" in text:  # as Windows writes it; elsewhere a name may hold one
        place = _normal(folder, text.replace("\\", "/"))
    home = Path(os.path.abspath(folder))  # noqa: PTH100 - links are looked at below
    if not place.is_relative_to(home):
        return OUTSIDE
    if not _is_file(place):
        return ABSENT
    return place if Path(os.path.realpath(place)) == Path(os.path.realpath(home)) / place.relative_to(home) else OUTSIDE


def _normal(folder: Path, cell: str) -> Path:
    return Path(os.path.abspath(folder / cell))  # noqa: PTH100


def _is_file(place: Path) -> bool:
    try:
        return place.is_file()
    except (OSError, ValueError):  # a name too long, a NUL in it
        return False

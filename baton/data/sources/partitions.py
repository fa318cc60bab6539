"""Folders called `key=value` below a source in, columns of these names out, as Hive and Spark lay tables out."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from urllib.parse import unquote

import pyarrow as pa

from baton.errors import BadInput

NULL = "__HIVE_DEFAULT_PARTITION__"
WHOLE_NUMBER = re.compile(r"0|-?[1-9][0-9]*")
INT64 = range(-(2**63), 2**63)

Values = dict[str, str | None]  # of one file: {key: value}


def is_partition(folder: str) -> bool:
    """Whether a folder's name is `key=value`; the value may be empty, the key may not."""
    return folder.find("=") > 0


def of_files(files: list[Path], root: Path) -> dict[Path, Values]:
    """Each file's partition values, by the folders between `root` and it; raises `BadInput` if the keys differ."""
    found = {file: _values(file, root) for file in files}
    first = list(found[files[0]])
    for file, values in found.items():
        if sorted(values) != sorted(first):
            raise BadInput(
                f"{file} lies in other partitions than the files before it: all must have the same folders key=value. "
                f"Received: {_keys(values)} and {_keys(first)}"
            )
    return found


def types(partitions: Mapping[Path, Values], numbers: bool) -> dict[str, pa.DataType]:
    """The type of each partition column: int64 if `numbers` are wanted and every value is one, else text."""
    keys = next(iter(partitions.values()), {})
    return {key: _type([values[key] for values in partitions.values()], numbers) for key in keys}


def with_columns(table: pa.Table, values: Values, types: Mapping[str, pa.DataType]) -> pa.Table:
    """A file's rows with its partition values behind them; a column of the file itself counts before the folder's."""
    for key, type_ in types.items():
        if key not in table.column_names:
            value = values[key]
            cell = pa.scalar(int(value) if value is not None and pa.types.is_integer(type_) else value, type_)
            table = table.append_column(pa.field(key, type_), pa.repeat(cell, table.num_rows))
    return table


def _values(file: Path, root: Path) -> Values:
    values: Values = {}
    for folder in file.relative_to(root).parts[:-1]:
        if is_partition(folder):
            key, _, value = (_decoded(part, file) for part in folder.partition("="))
            if key in values:
                raise BadInput(f"A partition is named twice on the way to a file: {key}. Received: {file}")
            values[key] = None if value in ("", NULL) else value
    return values


def _decoded(text: str, file: Path) -> str:
    try:
        return unquote(text, errors="strict").encode().decode()
    except UnicodeError:
        raise BadInput(f"The name of a folder is not UTF-8: rename it. Received: {file}") from None


def _type(values: list[str | None], numbers: bool) -> pa.DataType:
    present = [value for value in values if value is not None]
    whole = numbers and present and all(WHOLE_NUMBER.fullmatch(value) for value in present)
    return pa.int64() if whole and all(len(v) < 21 and int(v) in INT64 for v in present) else pa.string()


def _keys(values: Values | list[str]) -> str:
    return ", ".join(values) or "none"

"""Raw Arrow columns in, typed columns and a reason for every row that cannot be used out.

Pure functions over Arrow tables: both engines, training and scoring call the same ones.
"""

from __future__ import annotations

import re
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from baton.config import Data
from baton.errors import BadInput

NUMBER = r"^[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?$|^[+-]?(?i:inf|infinity)$"
INTEGER = r"^[+-]?\d{1,18}$"
MOSTLY = 0.99  # the share of a text column's cells that must parse for it to be numeric
BOOLEAN_TEXT = {"true": True, "false": False}
DATETIME = r"^\d{4}-\d{2}-\d{2}([ T]\d{2}:\d{2}(:\d{2}(\.\d+)?)?(Z|[+-]\d{2}:?\d{2})?)?$"
ARROW_TYPE = {
    "numeric": pa.float64(),
    "boolean": pa.bool_(),
    "categorical": pa.string(),
    "datetime": pa.timestamp("us"),
    "image": pa.binary(),
}


@dataclass(frozen=True)
class Column:
    """A source column: `kind` is what it means, `type` how it is declared in a model's signature."""

    name: str
    kind: str  # numeric | boolean | categorical | datetime | image
    type: str  # long | double | boolean | string | datetime | binary

    def to_dict(self) -> dict[str, str]:
        return asdict(self)


def counts(table: pa.Table) -> dict[str, dict[str, int]]:
    """Per text column, how many cells are not missing and parse as each kind; counts add up."""
    result = {}
    for name, column in zip(table.column_names, table.columns, strict=True):
        if _is_text(column.type):
            text = _clean(column)
            result[name] = {
                "rows": len(text),
                "cells": len(text) - text.null_count,
                "integer": _true(pc.match_substring_regex(text, INTEGER)),
                "numeric": _true(pc.match_substring_regex(text, NUMBER)),
                "boolean": _true(pc.is_in(pc.utf8_lower(text), pa.array(list(BOOLEAN_TEXT)))),
                "datetime": _true(pc.match_substring_regex(text, DATETIME)),
            }
    return result


def merge_counts(parts: list[dict[str, dict[str, int]]]) -> dict[str, dict[str, int]]:
    """Add up the `counts` of several tables of the same columns."""
    total: dict[str, dict[str, int]] = {}
    for part in parts:
        for name, kinds in part.items():
            sums = total.setdefault(name, dict.fromkeys(kinds, 0))
            for kind, number in kinds.items():
                sums[kind] += number
    return total


def infer(schema: pa.Schema, text_counts: dict[str, dict[str, int]], data: Data) -> list[Column]:
    """The columns a pipeline uses, with their kinds; raises `BadInput` for what cannot be used."""
    wanted = [data.target, *data.id, *data.drop, *data.kinds]
    wanted += [name for name in (data.group, data.time, data.image_column) if name]
    absent = sorted(set(wanted) - set(schema.names))
    if absent:
        raise BadInput(f"The source has no column {', '.join(absent)}. Its columns: {', '.join(schema.names)}.")
    if data.task == "image":
        return _image_columns(schema, data)
    used = [name for name in schema.names if name not in data.drop or name in (data.target, data.group)]
    columns = [_column(schema.field(name), text_counts.get(name), data) for name in used]
    if len(feature_columns(columns, data)) == 0:
        raise BadInput("No column is left to learn from: data.id, data.group and data.drop name them all.")
    return columns


def feature_columns(columns: list[Column], data: Data) -> list[Column]:
    """The columns a model reads: all but the target and those that name a row or a group."""
    aside = {data.target, data.group, *data.id, *data.drop}
    if data.task == "image":
        return [column for column in columns if column.kind == "image"]
    return [column for column in columns if column.name not in aside]


def typed(table: pa.Table, columns: list[Column], target: str | None) -> tuple[pa.Table, pa.Array]:
    """Raw table → (typed table, reasons): a row with a reason (not null) must be quarantined.

    A missing or infinite `target` is a reason; pass None when scoring. Raises `BadInput` if a
    column is missing or has a type that cannot hold its kind.
    """
    absent = sorted({column.name for column in columns} - set(table.column_names))
    if absent:
        raise BadInput(f"The data lacks {', '.join(absent)}. Received columns: {', '.join(table.column_names)}.")
    out, reasons = {}, []
    for column in columns:
        values, stray, message = _convert(table.column(column.name), column)
        out[column.name] = values
        if stray is not None:
            reasons.append((stray, f"{column.name} {message}"))
        if column.name == target:
            missing = pc.is_null(values, nan_is_null=True)
            reasons.append((missing, f"{target} (the target) is missing"))
        if column.kind == "numeric":
            reasons.append((pc.fill_null(pc.is_inf(values), False), f"{column.name} is infinite"))
    typed_table = pa.table(out)
    return typed_table, _first_reasons(reasons, table.num_rows)


def class_names(values: set[str]) -> list[str]:
    """Distinct target values in their natural order: as numbers if all are, else as text."""
    if all(re.match(NUMBER, value) for value in values):
        return sorted(values, key=lambda value: (float(value), value))
    return sorted(values)


def as_text(values: pa.ChunkedArray | pa.Array) -> pa.ChunkedArray | pa.Array:
    """Any scalar column → canonical text: 3, 3.0 and "3" are the same category."""
    if pa.types.is_decimal(values.type):
        values = pc.cast(values, pa.float64())
    if pa.types.is_floating(values.type):
        whole = pc.and_(pc.equal(pc.floor(values), values), pc.less(pc.abs(values), 2.0**53))
        integers = pc.cast(pc.if_else(whole, values, None), pa.int64())
        values = pc.if_else(pc.is_nan(values), None, values)
        return pc.coalesce(pc.cast(integers, pa.string()), pc.cast(values, pa.string()))
    return pc.cast(values, pa.string())


def _column(field: pa.Field, text: dict[str, int] | None, data: Data) -> Column:
    declared = _declared_type(field)
    kind = data.kinds.get(field.name) or _natural_kind(declared, text)
    if field.name == data.target:
        kind = "numeric" if data.task == "regression" else "categorical"
        if kind == "numeric" and declared in ("datetime", "binary"):
            raise BadInput(f"The target {field.name} must be a number for regression. Received: {field.type}")
    if declared == "string" and kind != "categorical":
        # stray cells don't count: their rows are quarantined
        whole = text is not None and text["integer"] == text["numeric"] > 0 and text["cells"] == text["rows"]
        declared = {"numeric": "long" if whole else "double"}.get(kind, kind)
    return Column(field.name, kind, declared)


def _natural_kind(declared: str, text: dict[str, int] | None) -> str:
    if declared == "binary":
        return "image"
    if declared != "string":
        return {"long": "numeric", "double": "numeric"}.get(declared, declared)
    if text and text["cells"]:
        for kind in ("boolean", "numeric", "datetime"):
            share = 1.0 if kind == "boolean" else MOSTLY
            if text[kind] >= share * text["cells"]:
                return kind
    return "categorical"


def _declared_type(field: pa.Field) -> str:
    type_ = field.type.value_type if pa.types.is_dictionary(field.type) else field.type
    if pa.types.is_boolean(type_):
        return "boolean"
    if pa.types.is_integer(type_):
        return "long"
    if pa.types.is_floating(type_) or pa.types.is_decimal(type_):
        return "double"
    if _is_text(type_) or pa.types.is_null(type_):
        return "string"
    if pa.types.is_timestamp(type_) or pa.types.is_date(type_):
        return "datetime"
    if pa.types.is_binary(type_) or pa.types.is_large_binary(type_):
        return "binary"
    raise BadInput(f"Column {field.name} has a type that is not supported; name it in data.drop. Received: {type_}")


def _image_columns(schema: pa.Schema, data: Data) -> list[Column]:
    fields = [field for field in schema if field.name not in data.drop]
    binary = [field.name for field in fields if _declared_type(field) == "binary"]
    name = data.image_column or (binary[0] if len(binary) == 1 else None)
    if name is None:
        raise BadInput(f"Name the column of image bytes in data.image_column. Received: {binary or schema.names}")
    keep = [n for n in (*data.id, data.group, data.time) if n]
    columns = [Column(name, "image", "binary"), Column(data.target, "categorical", "string")]
    return columns + [_column(schema.field(n), None, data) for n in dict.fromkeys(keep)]


def _convert(values: Any, column: Column) -> tuple[Any, Any, str]:
    """One raw column → (typed column, mask of stray cells or None, what is wrong with them)."""
    if isinstance(values, pa.ChunkedArray):
        values = values.combine_chunks()
    if pa.types.is_dictionary(values.type):
        values = values.dictionary_decode()
    if pa.types.is_null(values.type):
        return pa.nulls(len(values), ARROW_TYPE[column.kind]), None, ""
    try:
        return _CONVERTERS[column.kind](values)
    except (pa.ArrowInvalid, pa.ArrowNotImplementedError):
        raise BadInput(f"Column {column.name} must be {column.kind}. Received: {values.type}") from None


def _numeric(values: pa.Array) -> tuple[pa.Array, Any, str]:
    if not _is_text(values.type):
        number = pc.cast(values, pa.float64(), safe=False)
        return pc.if_else(pc.is_nan(number), None, number), None, ""
    text = _clean(values)
    good = pc.match_substring_regex(text, NUMBER)
    digits = pc.replace_substring_regex(pc.if_else(good, text, None), r"^\+", "")
    stray = pc.and_(pc.is_valid(text), pc.invert(pc.fill_null(good, False)))
    return pc.cast(digits, pa.float64()), stray, "is not a number"


def _boolean(values: pa.Array) -> tuple[pa.Array, Any, str]:
    if not _is_text(values.type):
        return pc.cast(values, pa.bool_()), None, ""
    lower = pc.utf8_lower(_clean(values))
    good = pc.is_in(lower, pa.array(list(BOOLEAN_TEXT)))
    stray = pc.and_(pc.is_valid(lower), pc.invert(good))
    return pc.if_else(good, pc.equal(lower, "true"), None), stray, "is not true or false"


def _categorical(values: pa.Array) -> tuple[pa.Array, Any, str]:
    if _is_text(values.type):
        return _clean(values), None, ""
    return as_text(values), None, ""


def _datetime(values: pa.Array) -> tuple[pa.Array, Any, str]:
    if not _is_text(values.type):
        if pa.types.is_timestamp(values.type) and values.type.tz:
            values = pc.cast(values, pa.timestamp("us", "UTC"), safe=False)
        return pc.cast(values, pa.timestamp("us"), safe=False), None, ""
    import pandas as pd

    text = _clean(values)
    good = pc.fill_null(pc.match_substring_regex(text, DATETIME), False)
    parsed = pd.to_datetime(
        pc.if_else(good, text, None).to_pandas(), errors="coerce", utc=True, format="ISO8601"
    ).dt.tz_localize(None)
    stamps = pa.array(parsed.to_numpy("datetime64[us]"), pa.timestamp("us"), from_pandas=True)
    stray = pc.and_(pc.is_valid(text), pc.is_null(stamps))
    return stamps, stray, "is not a date or time"


def _image(values: pa.Array) -> tuple[pa.Array, Any, str]:
    values = pc.cast(values, pa.binary())
    size = images_size(values)
    return values, pa.array([s is None for s in size]), "cannot be decoded as an image"


def images_size(values: pa.Array) -> list[tuple[int, int, int] | None]:
    """Image bytes → (height, width, channels) each, or None where Pillow cannot decode them."""
    import io

    from PIL import Image

    sizes: list[tuple[int, int, int] | None] = []
    for value in values:
        try:
            with Image.open(io.BytesIO(value.as_py() or b"")) as image:
                image.load()
                channels = 1 if image.mode in ("1", "L", "I", "I;16", "F") else 3
                sizes.append((image.height, image.width, channels))
        except Exception:  # noqa: BLE001 - Pillow raises many kinds for bytes made by strangers
            sizes.append(None)
    return sizes


_CONVERTERS = {
    "numeric": _numeric,
    "boolean": _boolean,
    "categorical": _categorical,
    "datetime": _datetime,
    "image": _image,
}


def _first_reasons(reasons: list[tuple[Any, str]], rows: int) -> pa.Array:
    """Masks with their sentences → the first sentence that applies to each row, or null."""
    result = np.full(rows, None, dtype=object)
    for mask, sentence in reversed(reasons):
        result[np.asarray(pc.fill_null(mask, False).to_numpy(zero_copy_only=False), bool)] = sentence
    return pa.array(result, pa.string())


def _clean(values: pa.Array | pa.ChunkedArray) -> pa.Array:
    """Text without surrounding blanks; what is empty then is missing."""
    text = pc.utf8_trim_whitespace(pc.cast(values, pa.string()))
    return pc.if_else(pc.equal(text, ""), None, text)


def _is_text(type_: pa.DataType) -> bool:
    type_ = type_.value_type if pa.types.is_dictionary(type_) else type_
    return pa.types.is_string(type_) or pa.types.is_large_string(type_)


def _true(mask: pa.Array) -> int:
    return pc.sum(mask).as_py() or 0

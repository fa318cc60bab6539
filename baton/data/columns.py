"""Raw Arrow columns in, typed columns and a reason for every row that cannot be used out.

Pure functions over Arrow tables: both engines, training and scoring call the same ones.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from baton.errors import BadInput, listed, refuse
from baton.runtime.threads import mapped

if TYPE_CHECKING:
    from baton.config.schema import Data


NUMBER = r"^[+-]?(\d+(\.\d*)?|\.\d+)([eE][+-]?\d+)?$|^[+-]?(?i:inf|infinity)$"
INTEGER = r"^[+-]?\d{1,18}$"
MISSING_TEXTS = ("NA", "N/A", "NaN", "nan", "null", "NULL", "None", "<NA>", "#N/A", "NaT", "\\N")
MIN_NUMERIC_SHARE = 0.99  # the share of a text column's cells that must parse for it to be numeric
BOOLEAN_TEXT = {"true": True, "false": False}
DATETIME = r"^\d{4}-\d{2}-\d{2}([ T]\d{2}:\d{2}(:\d{2}(\.\d+)?)?(Z|[+-]\d{2}:?\d{2})?)?$"
FIRST_MOMENT, NO_MOMENT = (int(np.datetime64(year, "us").astype(int)) for year in ("0001", "10000"))  # µs
IMAGE_FORMATS = ("PNG", "JPEG", "GIF", "BMP")  # TensorFlow's; Pillow has more, and runs Ghostscript for one of them
TOO_LARGE = (0, 0, 0)  # in place of an image's size
FLOAT32_MAX = float(np.finfo(np.float32).max)
ARROW_TYPE = {
    "numeric": pa.float64(),
    "boolean": pa.bool_(),
    "categorical": pa.string(),
    "datetime": pa.timestamp("us"),
    "image": pa.binary(),
}
HELD_BY = {  # kind → the declared types that can hold it; a categorical column's own type can too
    "numeric": ("long", "double", "boolean", "string"),
    "boolean": ("boolean", "long", "double", "string"),
    "categorical": ("string", "boolean", "long", "double"),
    "datetime": ("datetime", "string"),
    "image": ("binary",),
}


@dataclass(frozen=True)
class Column:
    """A source column: `kind` is what it means, `type` how it is declared in a model's signature.

    Cells of text that are blank, or one of `missing`, hold no value, whatever the source's format.
    `max_pixels` is that of an image; a larger one is not decoded.
    """

    name: str
    kind: str  # numeric | boolean | categorical | datetime | image
    type: str  # long | double | boolean | string | datetime | binary
    missing: tuple[str, ...] = ()
    max_pixels: int | None = None

    def to_dict(self) -> dict[str, Any]:
        kept = {key: value for key, value in asdict(self).items() if value is not None}
        return {**kept, "missing": list(self.missing)}

    @staticmethod
    def of(kept: dict[str, Any]) -> Column:
        """The column that `to_dict` made plain."""
        return Column(**{**kept, "missing": tuple(kept.get("missing", ()))})  # an earlier Baton kept none


def missing_texts(name: str, data: Data) -> tuple[str, ...]:
    """The texts of a column's cells that hold no value; a class to be predicted may be called anything."""
    if isinstance(data.missing, dict) and name in data.missing:
        return tuple(data.missing[name])
    if isinstance(data.missing, list):
        return tuple(data.missing)
    return () if name == data.target and data.task != "regression" else MISSING_TEXTS


def counts(table: pa.Table, data: Data) -> dict[str, dict[str, int]]:
    """Per text column, how many cells are not missing and parse as each kind; counts add up."""
    text = [name for name in table.column_names if is_text(table.schema.field(name).type)]
    found = mapped(lambda name: _text_counts(table.column(name), missing_texts(name, data)), text)
    return dict(zip(text, found, strict=True))


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
    faults = []
    if absent := sorted(set(wanted) - set(schema.names)):
        faults = [f"The source has no column {listed(_alike(absent, schema.names))}."]
        faults.append(f"Its columns: {listed(schema.names)}.")
    if data.task == "image":
        refuse(faults)
        return _image_columns(schema, data)
    used = [name for name in schema.names if name not in data.drop or name in (data.target, data.group)]
    columns, more = _gathered([(schema.field(name), text_counts.get(name)) for name in used], data)
    refuse([*faults, *more, *type_faults(schema, columns)])
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

    A missing or infinite `target` is a reason; pass None when scoring. Raises one `BadInput` that
    names every column that is missing or has a type that cannot hold its kind.
    """
    check_types(table.schema, columns)
    out, reasons = {}, []
    converted = mapped(lambda column: _convert(table.column(column.name), column), columns)
    for column, (values, faults) in zip(columns, converted, strict=True):
        out[column.name] = values
        reasons += [(mask, f"{column.name} {fault}") for mask, fault in faults]
        if column.name == target:
            reasons += _target_faults(out[column.name], column)
        if column.kind == "numeric":
            reasons.append((pc.is_inf(out[column.name]), f"{column.name} is infinite"))
    return pa.table(out), _first_reasons(reasons, table.num_rows)


def check_types(schema: pa.Schema, columns: list[Column]) -> None:
    """Raise one `BadInput` that names every column that is missing, or has a type that cannot hold its kind."""
    refuse(type_faults(schema, columns))


def type_faults(schema: pa.Schema, columns: list[Column]) -> list[str]:
    """A sentence for each column whose type cannot hold its kind, and one for all that are missing."""
    faults = []
    for column in columns:
        if column.name in schema.names and not _holds(schema.field(column.name), column):
            faults.append(f"Column {column.name} must be {column.kind}. Received: {schema.field(column.name).type}.")
    if absent := sorted({column.name for column in columns} - set(schema.names)):
        faults.append(f"The data lacks {listed(_alike(absent, schema.names))}.")
        faults.append(f"Received columns: {listed(schema.names)}.")
    return faults


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


def is_text(type_: pa.DataType) -> bool:
    """Whether cells of that type are text, be it a dictionary's."""
    type_ = type_.value_type if pa.types.is_dictionary(type_) else type_
    return pa.types.is_string(type_) or pa.types.is_large_string(type_)


def whole_numbers(text: pa.Array | pa.ChunkedArray, missing: Sequence[str]) -> pa.Array:
    """Text that holds whole numbers, as 3, +3, 3.0 or 3e2 → int64, exact up to 18 digits; null where it does not."""
    text = _unsigned(_clean(text, missing))
    exact = pc.cast(pc.if_else(pc.match_substring_regex(text, INTEGER), text, None), pa.int64())
    if exact.null_count == text.null_count:
        return exact
    number = pc.cast(pc.if_else(pc.match_substring_regex(text, NUMBER), text, None), pa.float64())
    return pc.coalesce(exact, pc.cast(pc.if_else(_whole(number), number, None), pa.int64(), safe=False))


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
    return Column(field.name, kind, declared, missing_texts(field.name, data))


def _gathered(fields: list[tuple[pa.Field, dict[str, int] | None]], data: Data) -> tuple[list[Column], list[str]]:
    """Fields with their text counts → their columns, and a sentence for each that cannot be one."""
    columns, faults = [], []
    for field, text in fields:
        try:
            columns.append(_column(field, text, data))
        except BadInput as error:
            faults.append(f"{error}.")
    return columns, faults


def _holds(field: pa.Field, column: Column) -> bool:
    """Whether a column of this type can hold the kind, cell by cell."""
    if pa.types.is_null(field.type):
        return True
    try:
        declared = _declared_type(field)
    except BadInput:
        return False
    return declared in HELD_BY[column.kind] or (column.kind == "categorical" and declared == column.type)


def _alike(absent: list[str], names: list[str]) -> list[str]:
    """Absent columns, each with the column of the data whose name differs in case or blanks only, if there is one."""
    near = {name.strip().casefold(): name for name in names}
    found = {name: near.get(name.strip().casefold()) for name in absent}
    return [f"{name} (it has {other!r})" if other else name for name, other in found.items()]


def _target_faults(values: pa.Array, column: Column) -> list[tuple[Any, str]]:
    """Masks of the targets that cannot be learnt, with what is wrong: missing, or no float32."""
    faults = [(pc.is_null(values, nan_is_null=True), f"{column.name} (the target) is missing")]
    if column.kind == "numeric":
        beyond = pc.and_(pc.greater(pc.abs(values), FLOAT32_MAX), pc.is_finite(values))
        faults.append((beyond, f"{column.name} (the target) is beyond {FLOAT32_MAX:.3g}"))
    return faults


def _natural_kind(declared: str, text: dict[str, int] | None) -> str:
    if declared == "binary":
        return "image"
    if declared != "string":
        return {"long": "numeric", "double": "numeric"}.get(declared, declared)
    if text and text["cells"]:
        for kind in ("boolean", "numeric", "datetime"):
            share = 1.0 if kind == "boolean" else MIN_NUMERIC_SHARE
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
    if is_text(type_) or pa.types.is_null(type_):
        return "string"
    if pa.types.is_timestamp(type_) or pa.types.is_date(type_):
        return "datetime"
    if pa.types.is_binary(type_) or pa.types.is_large_binary(type_):
        return "binary"
    # What a list calls its values differs between Arrow and Spark.
    shown = f"list<{type_.value_type}>" if pa.types.is_list(type_) else type_
    raise BadInput(f"Column {field.name} has a type that is not supported; name it in data.drop. Received: {shown}")


def _image_columns(schema: pa.Schema, data: Data) -> list[Column]:
    fields = [field for field in schema if field.name not in data.drop]
    binary = [field.name for field in fields if _declared_type(field) == "binary"]
    name = data.image_column or (binary[0] if len(binary) == 1 else None)
    if name is None:
        raise BadInput(f"Name the column of image bytes in data.image_column. Received: {binary or schema.names}")
    keep = [n for n in (*data.id, data.group, data.time) if n]
    columns = [
        Column(name, "image", "binary", max_pixels=data.max_image_pixels),
        Column(data.target, "categorical", "string", missing_texts(data.target, data)),
    ]
    return columns + [_column(schema.field(n), None, data) for n in dict.fromkeys(keep)]


def _convert(values: Any, column: Column) -> tuple[Any, list[tuple[Any, str]]]:
    """One raw column → (typed column, masks of the cells that cannot be used and what is wrong with them)."""
    if isinstance(values, pa.ChunkedArray):
        values = values.combine_chunks()
    if pa.types.is_null(values.type):
        return pa.nulls(len(values), ARROW_TYPE[column.kind]), []
    convert = _CONVERTERS[column.kind]
    try:
        if not is_text(values.type):
            return convert(_decoded(values), column)
        cells, place = _distinct(values)
        typed, faults = convert(cells, column)
        return typed.take(place), [(mask.take(place), fault) for mask, fault in faults]
    except (pa.ArrowInvalid, pa.ArrowNotImplementedError):
        raise BadInput(f"Column {column.name} must be {column.kind}. Received: {values.type}") from None


def _distinct(text: pa.Array) -> tuple[pa.Array, pa.Array]:
    """Text → (its distinct cells, missing included, the place of each row's among them).

    Text is parsed by regular expressions, some 60 ns a cell each: a look at each row's would be most of ingest.
    """
    encoded = _decoded(text).dictionary_encode("encode")
    return encoded.dictionary, encoded.indices


def _decoded(values: pa.Array) -> pa.Array:
    """What a dictionary stands for; anything else as it is."""
    return values.dictionary_decode() if pa.types.is_dictionary(values.type) else values


def _text_counts(text: pa.ChunkedArray, missing: Sequence[str]) -> dict[str, int]:
    """A text column → its rows, its cells that are not missing, and how many of them parse as each kind."""
    cells, place = _distinct(text.combine_chunks())
    cells = _clean(cells, missing)
    rows = np.bincount(place.to_numpy(), minlength=len(cells))

    def total(mask: pa.Array) -> int:
        return int(rows[pc.fill_null(mask, False).to_numpy(zero_copy_only=False)].sum())

    return {
        "rows": len(text),
        "cells": total(cells.is_valid()),
        "integer": total(pc.match_substring_regex(cells, INTEGER)),
        "numeric": total(pc.match_substring_regex(cells, NUMBER)),
        "boolean": total(pc.is_in(pc.utf8_lower(cells), pa.array(list(BOOLEAN_TEXT)))),
        "datetime": total(pc.match_substring_regex(cells, DATETIME)),
    }


def _numeric(values: pa.Array, column: Column) -> tuple[pa.Array, list[tuple[Any, str]]]:
    if not is_text(values.type):
        number = pc.cast(values, pa.float64(), safe=False)
        return pc.if_else(pc.is_nan(number), None, number), []
    text = _clean(values, column.missing)
    good = pc.match_substring_regex(text, NUMBER)
    stray = pc.and_(pc.is_valid(text), pc.invert(pc.fill_null(good, False)))
    number = pc.cast(_unsigned(pc.if_else(good, text, None)), pa.float64())
    faults = [(stray, "is not a number")]
    if column.type == "long":  # text has no type of its own, so the declared one holds
        faults.append((pc.and_(pc.is_finite(number), pc.invert(_whole(number))), "is not a whole number"))
    return number, faults


def _whole(number: pa.Array) -> pa.Array:
    """Which float64 are whole numbers of 18 digits at most."""
    return pc.and_(pc.equal(pc.floor(number), number), pc.less_equal(pc.abs(number), 1e18))


def _boolean(values: pa.Array, column: Column) -> tuple[pa.Array, list[tuple[Any, str]]]:
    if pa.types.is_boolean(values.type):
        return values, []
    if is_text(values.type):
        clean = pc.utf8_lower(_clean(values, column.missing))
        good, true = pc.is_in(clean, pa.array(list(BOOLEAN_TEXT))), pc.equal(clean, "true")
    else:
        clean, _ = _numeric(values, column)
        good, true = pc.is_in(clean, pa.array([0.0, 1.0])), pc.equal(clean, 1.0)
    stray = pc.and_(pc.is_valid(clean), pc.invert(good))
    return pc.if_else(good, true, None), [(stray, "is not true or false")]


def _categorical(values: pa.Array, column: Column) -> tuple[pa.Array, list[tuple[Any, str]]]:
    return _clean(values, column.missing) if is_text(values.type) else as_text(values), []


def _datetime(values: pa.Array, column: Column) -> tuple[pa.Array, list[tuple[Any, str]]]:
    if is_text(values.type):
        text = _clean(values, column.missing)
        stamps = _moments(text)
        return stamps, [(pc.and_(pc.is_valid(text), pc.is_null(stamps)), "is not a date or time")]
    stamps = _in_range(values)
    if pa.types.is_timestamp(values.type) and values.type.tz:
        stamps = pc.cast(stamps, pa.timestamp("us", "UTC"), safe=False)
    stamps = pc.cast(stamps, pa.timestamp("us"), safe=False)
    beyond = pc.and_(pc.is_valid(values), pc.is_null(stamps))
    return stamps, [(beyond, "is not in the years 1 to 9999")]


def _in_range(values: pa.Array) -> pa.Array:
    """Dates or timestamps, null where they are not in the years 1 to 9999: in µs they could overflow."""
    unit = "day" if pa.types.is_date32(values.type) else getattr(values.type, "unit", "ms")  # date64 is in ms
    if unit == "ns":
        return values
    micro = {"day": 86_400_000_000, "s": 1_000_000, "ms": 1000, "us": 1}[unit]
    number = pc.cast(values, pa.int32() if unit == "day" else pa.int64())
    first, end = FIRST_MOMENT // micro, NO_MOMENT // micro
    return pc.if_else(pc.and_(pc.greater_equal(number, first), pc.less(number, end)), values, None)


def _moments(text: pa.Array) -> pa.Array:
    """ISO 8601 text → timestamps in µs, UTC where there is a zone; null where it is none."""
    import pandas as pd

    good = pc.fill_null(pc.match_substring_regex(text, DATETIME), False)
    iso = pc.if_else(good, text, None)
    parsed = pd.to_datetime(iso.to_pandas(), errors="coerce", utc=True, format="ISO8601").dt.tz_localize(None)
    stamps = _in_range(pa.array(parsed.to_numpy("datetime64[us]"), pa.timestamp("us"), from_pandas=True))
    left = pc.and_(good, pc.is_null(stamps))  # in nanoseconds pandas' dates end in 1677 and 2262
    if not _true(left):
        return stamps
    places = np.flatnonzero(left.to_numpy(zero_copy_only=False))
    moments = [_moment(cell) for cell in iso.take(pa.array(places)).to_pylist()]
    return pc.replace_with_mask(stamps, left, pa.array(moments, pa.timestamp("us")))


def _moment(text: str) -> datetime | None:
    try:
        moment = datetime.fromisoformat(text)
        return moment.astimezone(UTC).replace(tzinfo=None) if moment.tzinfo else moment
    except (ValueError, OverflowError):
        return None


def _image(values: pa.Array, column: Column) -> tuple[pa.Array, list[tuple[Any, str]]]:
    values = pc.cast(values, pa.binary())
    sizes = images_size(values, column.max_pixels)
    bombs, broken = (pa.array([size == fault for size in sizes], pa.bool_()) for fault in (TOO_LARGE, None))
    return values, [(bombs, "has more pixels than data.max_image_pixels"), (broken, "cannot be decoded as an image")]


def images_size(values: pa.Array, max_pixels: int | None = None) -> list[tuple[int, int, int] | None]:
    """Image bytes → (height, width, channels) each; None where they cannot be decoded.

    One whose header announces more than `max_pixels` is `TOO_LARGE`, and is not decoded.
    """
    return [_image_size(value.as_py() or b"", max_pixels) for value in values]


def _image_size(content: bytes, max_pixels: int | None) -> tuple[int, int, int] | None:
    import io
    import warnings

    from PIL import Image

    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error", Image.DecompressionBombWarning)
            with Image.open(io.BytesIO(content), formats=IMAGE_FORMATS) as image:
                if max_pixels and image.height * image.width > max_pixels:
                    return TOO_LARGE
                image.load()
                channels = 1 if image.mode in ("1", "L", "I", "I;16", "F") else 3
                return image.height, image.width, channels
    except (Image.DecompressionBombError, Image.DecompressionBombWarning):
        return TOO_LARGE
    except Exception:  # noqa: BLE001 - Pillow raises many kinds for bytes made by strangers
        return None


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


def _clean(values: pa.Array | pa.ChunkedArray, missing: Sequence[str]) -> pa.Array:
    """Text without surrounding blanks; null where nothing is left, or one of `missing`."""
    text = pc.utf8_trim_whitespace(pc.cast(values, pa.string()))
    return pc.if_else(pc.is_in(text, pa.array(["", *missing])), None, text)


def _unsigned(text: pa.Array) -> pa.Array:
    """Numbers as text without a leading +, which Arrow does not parse."""
    return pc.replace_substring_regex(text, r"^\+", "")


def _true(mask: pa.Array) -> int:
    return pc.sum(mask).as_py() or 0

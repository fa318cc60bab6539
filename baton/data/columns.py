"""Raw Arrow columns in, typed columns and a reason for every row that cannot be used out.

Pure functions over Arrow tables: both engines, training and scoring call the same ones.
"""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from dataclasses import asdict, dataclass, fields, replace
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from baton import names
from baton.data import images, pictures, text_dates, text_numbers
from baton.data.sources import csv_text
from baton.data.text_numbers import NumberStyle
from baton.errors import BadInput, listed, refuse
from baton.runtime.threads import mapped

if TYPE_CHECKING:
    from baton.config.schema import Data


MISSING_TEXTS = ("NA", "N/A", "NaN", "nan", "null", "NULL", "None", "<NA>", "#N/A", "NaT", "\\N")
BOOLEAN_TEXT = {"true": True, "false": False}
WHOLE_AS_DECIMAL = r"^(-?(?:0|[1-9]\d*))\.0+$"
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

    Cells of text that are blank, or one of `missing`, hold no value, whatever the source's format. Numbers in text are
    written with these marks, and the `unit`; dates in text or whole numbers in this `format`, of `text_dates`.
    A picture of more than `max_pixels` is not decoded; one that is transparent lies over a grey of `background`. Where
    `shape` says what the network sees, typed cells are pixels of that shape, else the picture's own bytes.
    """

    name: str
    kind: str  # numeric | boolean | categorical | datetime | image
    type: str  # long | double | boolean | string | datetime | binary
    missing: tuple[str, ...] = ()
    max_pixels: int | None = None
    background: int = names.IMAGE_BACKGROUND
    shape: images.Shape | None = None  # of the dataset, not of the column: `to_dict` leaves it out
    decimal: str = "."
    thousands: str = ""
    unit: str = ""
    format: str = "iso"

    @property
    def style(self) -> NumberStyle:
        return NumberStyle(self.decimal, self.thousands, self.unit)

    @property
    def coded(self) -> bool:
        """Whether its cells are of another type than what they mean: 1,163.74 is text, a picture bytes."""
        return (self.kind, self.type) in (("numeric", "string"), ("datetime", "string"), ("datetime", "long"),
                                          ("datetime", "double"), ("image", "binary"))  # fmt: skip

    @property
    def arrow_type(self) -> pa.DataType:
        """The type of its typed cells."""
        return ARROW_TYPE[self.kind] if self.shape is None else pa.binary(math.prod(self.shape))

    @property
    def undecoded(self) -> Column:
        """The same, but that typed cells are a picture's own bytes."""
        return replace(self, shape=None)

    @property
    def decoder(self) -> images.Decoder | None:
        """How its pictures become pixels; None of a column that is no network's."""
        return None if self.shape is None else images.Decoder(self.shape, self.background, self.max_pixels)

    def to_dict(self) -> dict[str, Any]:
        ordinary = {field.name: field.default for field in fields(self)}
        kept = {key: value for key, value in asdict(self).items() if value != ordinary[key] and key != "shape"}
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


def feature_columns(columns: list[Column], data: Data) -> list[Column]:
    """The columns a model reads: all but the target and those that name a row or a group."""
    aside = {data.target, data.group, data.split_column, *data.id, *data.drop}
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
        faults.append(f"The data lacks {listed(alike(absent, schema.names))}.")
        faults.append(f"Received columns: {listed(schema.names)}.{csv_text.header_hint(schema.names)}")
    return faults


def class_names(values: set[str]) -> list[str]:
    """Distinct target values in their natural order: as numbers if all are, else as text."""
    if all(re.match(text_numbers.NUMBER, value) for value in values):
        return sorted(values, key=lambda value: (float(value), value))
    return sorted(values)


def as_text(values: pa.ChunkedArray | pa.Array) -> pa.ChunkedArray | pa.Array:
    """Any scalar column → canonical text: 3, 3.0 and "3" are one category; bytes that are no text: hex digits."""
    if is_binary(values.type):
        return pa.array([None if cell is None else _bytes_text(cell) for cell in values.to_pylist()], pa.string())
    if pa.types.is_decimal(values.type) and not is_whole(values.type):
        values = pc.cast(values, pa.float64())
    if pa.types.is_floating(values.type):
        values = pc.cast(values, pa.float32()) if pa.types.is_float16(values.type) else values
        whole = pc.and_(pc.equal(pc.floor(values), values), pc.less(pc.abs(values), 2.0**53))
        integers = pc.cast(pc.if_else(whole, values, None), pa.int64())
        values = pc.if_else(pc.is_nan(values), None, values)
        return pc.coalesce(pc.cast(integers, pa.string()), pc.cast(values, pa.string()))
    return pc.cast(values, pa.string())


def is_text(type_: pa.DataType) -> bool:
    """Whether cells of that type are text, be it a dictionary's."""
    type_ = type_.value_type if pa.types.is_dictionary(type_) else type_
    return pa.types.is_string(type_) or pa.types.is_large_string(type_)


def is_whole(type_: pa.DataType) -> bool:
    """Whether cells of that type are whole numbers; as Spark has no unsigned ones, decimals without places are too."""
    return pa.types.is_integer(type_) or (pa.types.is_decimal(type_) and type_.scale == 0)


def is_binary(type_: pa.DataType) -> bool:
    """Whether cells of that type are bytes."""
    tests = (pa.types.is_binary, pa.types.is_large_binary, pa.types.is_fixed_size_binary)
    return any(test(type_) for test in tests)


def _bytes_text(cell: bytes) -> str:
    try:
        text = cell.decode()
    except UnicodeDecodeError:
        return cell.hex()
    return text if text.isprintable() else cell.hex()


def _holds(field: pa.Field, column: Column) -> bool:
    """Whether a column of this type can hold the kind, cell by cell."""
    if pa.types.is_null(field.type):
        return True
    try:
        declared = declared_type(field)
    except BadInput:
        return False
    if column.kind == "datetime" and column.format != "iso" and declared in ("long", "double"):
        return True
    return declared in HELD_BY[column.kind] or (column.kind == "categorical" and declared == column.type)


def alike(absent: list[str], names: list[str]) -> list[str]:
    """Absent columns, each with the column of the data whose name differs in case or blanks only, if there is one."""
    near = {name.strip().casefold(): name for name in names}
    found = {name: near.get(name.strip().casefold()) for name in absent}
    return [f"{name} (it has {other!r})" if other else name for name, other in found.items()]


def missing_target(name: str) -> str:
    """The reason of a row without a target."""
    return f"{name} (the target) is missing"


def _target_faults(values: pa.Array, column: Column) -> list[tuple[Any, str]]:
    """Masks of the targets that cannot be learnt, with what is wrong: missing, or no float32."""
    faults = [(pc.is_null(values, nan_is_null=True), missing_target(column.name))]
    if column.kind == "numeric":
        beyond = pc.and_(pc.greater(pc.abs(values), FLOAT32_MAX), pc.is_finite(values))
        faults.append((beyond, f"{column.name} (the target) is beyond {FLOAT32_MAX:.3g}"))
    return faults


def declared_type(field: pa.Field) -> str:
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
    if is_binary(type_):
        return "binary"
    raise _unsupported(field)


def _unsupported(field: pa.Field) -> BadInput:
    # What a list calls its values differs between Arrow and Spark.
    type_ = f"list<{field.type.value_type}>" if pa.types.is_list(field.type) else field.type
    return BadInput(f"Column {field.name} has a type that is not supported; name it in data.drop. Received: {type_}")


def _convert(values: Any, column: Column) -> tuple[Any, list[tuple[Any, str]]]:
    """One raw column → (typed column, masks of the cells that cannot be used and what is wrong with them)."""
    if column.kind == "image":
        return _image(values, column)
    if isinstance(values, pa.ChunkedArray):
        values = values.combine_chunks()
    if pa.types.is_null(values.type):
        return pa.nulls(len(values), ARROW_TYPE[column.kind]), []
    convert = _CONVERTERS[column.kind]
    try:
        if not is_text(values.type):
            return convert(_decoded(values), column)
        cells, place = distinct(values)
        typed, faults = convert(cells, column)
        return typed.take(place), [(mask.take(place), fault) for mask, fault in faults]
    except (pa.ArrowInvalid, pa.ArrowNotImplementedError):
        raise BadInput(f"Column {column.name} must be {column.kind}. Received: {values.type}") from None


def distinct(text: pa.Array) -> tuple[pa.Array, pa.Array]:
    """Text → (its distinct cells, missing included, the place of each row's among them).

    Text is parsed by regular expressions, some 60 ns a cell each: a look at each row's would be most of ingest.
    Of cells that are numbered already, a place may be missing too.
    """
    if pa.types.is_dictionary(text.type) and len(text.dictionary) <= len(text):
        return text.dictionary, text.indices
    encoded = _decoded(text).dictionary_encode("encode")
    return encoded.dictionary, encoded.indices


def _decoded(values: pa.Array) -> pa.Array:
    """What a dictionary stands for; anything else as it is."""
    return values.dictionary_decode() if pa.types.is_dictionary(values.type) else values


def _numeric(values: pa.Array, column: Column) -> tuple[pa.Array, list[tuple[Any, str]]]:
    if not is_text(values.type):
        number = pc.cast(values, pa.float64(), safe=False)
        number = pc.if_else(pc.is_nan(number), None, number)
        number = _without_missing(number, column)
        if column.unit == text_numbers.PERCENT:  # 0.12 may be 12 %
            return pc.if_else(True, None, number), [(pc.is_valid(number), "is written without %")]
        return number, []
    text = clean(values, column.missing)
    number = text_numbers.parsed(text, column.style)
    stray = pc.and_(pc.is_valid(text), pc.is_null(number))
    return _without_missing(number, column), [(stray, "is not a number")]


def missing_numbers(texts: Sequence[str]) -> list[float]:
    """The numbers among the texts that mean a cell holds no value."""
    return [float(text) for text in texts if re.match(text_numbers.NUMBER, text)]


def _without_missing(number: pa.Array, column: Column) -> pa.Array:
    gone = missing_numbers(column.missing)
    return pc.if_else(pc.is_in(number, pa.array(gone)), None, number) if gone else number


def _boolean(values: pa.Array, column: Column) -> tuple[pa.Array, list[tuple[Any, str]]]:
    if pa.types.is_boolean(values.type):
        return values, []
    if is_text(values.type):
        cells = pc.utf8_lower(clean(values, column.missing))
        true = pc.is_in(cells, pa.array(["true", "1"]))
        good = pc.or_(true, pc.is_in(cells, pa.array(["false", "0"])))
    else:
        cells, _ = _numeric(values, column)
        good, true = pc.is_in(cells, pa.array([0.0, 1.0])), pc.equal(cells, 1.0)
    stray = pc.and_(pc.is_valid(cells), pc.invert(good))
    return pc.if_else(good, true, None), [(stray, "is not true or false")]


def _categorical(values: pa.Array, column: Column) -> tuple[pa.Array, list[tuple[Any, str]]]:
    text = values if is_text(values.type) else as_text(values)
    return canonical(clean(text, column.missing)), []


def canonical(text: pa.Array) -> pa.Array:
    """Categories, a whole number without its decimals: 1.0 and 1 are the same one."""
    return pc.replace_substring_regex(text, WHOLE_AS_DECIMAL, r"\1")


def _datetime(values: pa.Array, column: Column) -> tuple[pa.Array, list[tuple[Any, str]]]:
    if is_text(values.type):
        text = clean(values, column.missing)
        stamps = text_dates.parsed(text, column.format)
        return stamps, [(pc.and_(pc.is_valid(text), pc.is_null(stamps)), "is not a date or time")]
    if not (pa.types.is_timestamp(values.type) or pa.types.is_date(values.type)):
        if column.format == "iso":
            raise pa.ArrowInvalid("numbers are no dates")
        number, _ = _numeric(values, column)
        stamps = _coded(number, column.format)
        return stamps, [(pc.and_(pc.is_valid(number), pc.is_null(stamps)), "is not a date or time")]
    stamps = text_dates.in_range(values)
    if pa.types.is_timestamp(values.type) and values.type.tz:
        stamps = pc.cast(stamps, pa.timestamp("us", "UTC"), safe=False)
    stamps = pc.cast(stamps, pa.timestamp("us"), safe=False)
    beyond = pc.and_(pc.is_valid(values), pc.is_null(stamps))
    gone = text_dates.parsed(pa.array(column.missing, pa.string()), "iso").drop_null()
    stamps = pc.if_else(pc.is_in(stamps, gone), None, stamps) if len(gone) else stamps
    return stamps, [(beyond, "is not in the years 1 to 9999")]


def _coded(number: pa.Array, format_: str) -> pa.Array:
    """Numbers that are dates: since 1970, or of eight digits."""
    if format_ in text_dates.EPOCHS:
        return text_dates.epochs(number, format_)
    whole = pc.if_else(pc.equal(pc.floor(number), number), number, None)
    text = pc.cast(pc.cast(whole, pa.int64()), pa.string())
    width = {"%d%m%Y": 8, "%m%d%Y": 8, "%d%m%y": 6, "%m%d%y": 6, "%y%m%d": 6}.get(format_, 0)
    return text_dates.parsed(pc.utf8_lpad(text, width, "0"), format_)  # a number has lost the zeros before it


def _image(values: Any, column: Column) -> tuple[Any, list[tuple[Any, str]]]:
    """Pictures, chunk by chunk, for together they may be more than one array of bytes holds."""
    chunks = values.chunks if isinstance(values, pa.ChunkedArray) else [values]
    parts = [_pictures(pc.cast(chunk, pa.binary()), column) for chunk in chunks]
    faults = pa.array([fault for _, found in parts for fault in found], pa.string())
    masks = [(pc.equal(faults, fault), fault) for fault in (images.TOO_LARGE, images.TOO_MANY, images.BROKEN)]
    return pa.chunked_array([typed for typed, _ in parts], column.arrow_type), masks


def _pictures(values: pa.Array, column: Column) -> tuple[pa.Array, list[str | None]]:
    """Pictures → (their pixels where the column has a shape, else they themselves; what is wrong with each)."""
    cells = [cell.as_buffer() or b"" for cell in values]
    if column.decoder is not None:
        pixels, faults = column.decoder.decode_all(cells)
        return images.as_arrow(pixels), faults
    looks = pictures.look_at_all(cells, column.max_pixels, column.background)
    return values, [seen if isinstance(seen, str) else None for seen in looks]


_CONVERTERS = {
    "numeric": _numeric,
    "boolean": _boolean,
    "categorical": _categorical,
    "datetime": _datetime,
}


def _first_reasons(reasons: list[tuple[Any, str]], rows: int) -> pa.Array:
    """Masks with their sentences → the first sentence that applies to each row, or null."""
    result = np.full(rows, None, dtype=object)
    for mask, sentence in reversed(reasons):
        result[np.asarray(pc.fill_null(mask, False).to_numpy(zero_copy_only=False), bool)] = sentence
    return pa.array(result, pa.string())


def clean(values: pa.Array | pa.ChunkedArray, missing: Sequence[str]) -> pa.Array:
    """Text without surrounding blanks; null where nothing is left, or one of `missing`."""
    text = pc.utf8_trim_whitespace(pc.cast(values, pa.string()))
    return pc.if_else(pc.is_in(text, pa.array(["", *missing])), None, text)

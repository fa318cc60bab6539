"""What MLflow hands to a model in, typed rows and reasons out; predictions in, what MLflow can pass on whole out.

MLflow passes cells on as they came, for the signature declares no types: a column may hold several. They are judged by
`columns.typed`, as batch_infer's are.
"""

from __future__ import annotations

import base64
import csv
import io
import re
from collections.abc import Callable
from contextlib import nullcontext
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc

from baton import names
from baton.data.columns import Column, is_text, typed
from baton.errors import BadInput

DATA_URL = re.compile(r"^\s*data:[^,]*;base64,", re.IGNORECASE)
URL_SAFE = str.maketrans("-_", "+/")
BOM = "\ufeff"
CELL_FAULTS = (pa.ArrowException, OverflowError, TypeError, ValueError)


def typed_frame(frame: pd.DataFrame, columns: list[Column]) -> tuple[pa.Table, pa.Array]:
    """pandas columns → (typed table, reasons), as `columns.typed`, for cells of any types.

    Where a column's cells are of several types, those that cannot hold its kind are the reasons of their rows. Raises
    one `BadInput` that names every column that is missing, or none of whose cells can hold its kind.
    """
    parts = {c.name: _of_one_type(frame[c.name], c) for c in columns if c.name in frame}
    whole = {name: cells[0][1] if len(cells) == 1 else pa.nulls(len(frame)) for name, cells in parts.items()}
    rows, reasons = typed(pa.table(whole), [c for c in columns if len(parts.get(c.name, ())) < 2], target=None)
    cells = {name: rows.column(name) for name in rows.column_names}
    for column in columns:
        if column.name not in cells:
            cells[column.name], faults = _typed_parts(parts[column.name], column)
            reasons = pc.coalesce(reasons, faults)
    return pa.table([cells[column.name] for column in columns], [column.name for column in columns]), reasons


def _of_one_type(values: pd.Series, column: Column) -> list[tuple[np.ndarray, pa.Array]]:
    """A column → its cells by their type, each with the rows they are of; missing ones among the first."""
    rows = np.arange(len(values))
    if values.dtype != object:
        return [(rows, _array(values, column))]
    codes: dict[type, int] = {}
    gone = values.isna()
    of_row = np.array([0 if no else codes.setdefault(type(v), len(codes)) for v, no in zip(values, gone, strict=True)])
    places = [rows[of_row == code] for code in range(max(len(codes), 1))]
    return [(place, _array(values.iloc[place], column)) for place in places]


def _array(cells: pd.Series, column: Column) -> pa.Array:
    """Cells of one type → Arrow's; those of a type that Arrow has not are text. Text in place of bytes is base64."""
    try:
        array = pa.array(cells, from_pandas=True)
    except CELL_FAULTS:
        array = pa.array([None if gone else str(cell) for cell, gone in zip(cells, cells.isna(), strict=True)])
    if isinstance(array, pa.ChunkedArray):
        array = array.combine_chunks()
    if column.type == "binary" and pa.types.is_struct(array.type) and array.type.get_field_index("bytes") >= 0:
        array = pc.struct_field(array, "bytes")  # as pandas has Hugging Face's pictures
    if array.null_count == len(array):
        return pa.nulls(len(array))
    if column.type == "binary" and is_text(array.type):
        return pa.array([None if text is None else _bytes(text) for text in array.to_pylist()], pa.binary())
    return array


def _bytes(text: str) -> bytes:
    """What base64 stands for, in either alphabet, or a browser's data URL; any other text stands for itself."""
    plain = "".join(DATA_URL.sub("", text, count=1).split()).translate(URL_SAFE)
    try:
        return base64.b64decode(plain + "=" * (-len(plain) % 4), validate=True)
    except ValueError:
        return text.encode()


def _typed_parts(parts: list[tuple[np.ndarray, pa.Array]], column: Column) -> tuple[pa.Array, pa.Array]:
    """The cells of a column by their type → (typed cells, reasons) in the order of the rows."""
    order = pa.array(np.argsort(np.concatenate([place for place, _ in parts])))
    judged = [_typed_cells(cells, column) for _, cells in parts]
    return tuple(pa.concat_arrays(arrays).take(order) for arrays in zip(*judged, strict=True))


def _typed_cells(cells: pa.Array, column: Column) -> tuple[pa.Array, pa.Array]:
    try:
        rows, reasons = typed(pa.table({column.name: cells}), [column], target=None)
    except BadInput as error:
        reasons = pc.if_else(pc.is_valid(cells), str(error), None)
        return pa.nulls(len(cells), column.arrow_type), reasons
    return rows.column(0).combine_chunks(), reasons


class Predictions(pd.DataFrame):
    """Predictions whose JSON, which MLflow writes of what `to_dict` gives, has null where pandas has NaN."""

    def to_dict(self, *args: Any, **options: Any) -> Any:
        """As pandas does it, with None for every missing cell."""
        plain = {name: values.astype(object).where(values.notna(), None) for name, values in self.items()}
        return pd.DataFrame(plain).to_dict(*args, **options)


def predictions(columns: dict[str, pa.Array], reasons: pa.Array, index: pd.Index) -> Predictions:
    """Prediction columns and reasons → the frame that a request is answered with, its rows as they were numbered."""
    held = {**columns, names.REASON: reasons}
    return Predictions({name: pd.Series(_for_pandas(values), index) for name, values in held.items()})


def _for_pandas(values: pa.Array) -> Any:
    nan_is_null = values.null_count == 0 or pa.types.is_floating(values.type)
    return values.to_numpy(zero_copy_only=False) if nan_is_null else _WithNulls(values)


class _WithNulls(pd.arrays.ArrowExtensionArray):
    """Truths, whole numbers or texts, some missing: they stay so in Spark.

    MLflow's UDF casts to NumPy's types, in which a missing truth is false, a missing text "None", and a missing whole
    number ends the job.
    """

    def astype(self, dtype: Any, copy: bool = True) -> Any:
        if isinstance(dtype, np.dtype) and dtype.kind in "biuU":
            return self.copy() if copy else self
        return super().astype(dtype, copy)


def replace_readers() -> None:
    """Have MLflow's server and `mlflow models predict` read CSV and Parquet by the functions below.

    A server asks the signature for pandas' types of CSV, and fails where it declares none; `mlflow models predict` lets
    pandas guess, which takes 007 for 7.
    """
    from mlflow.pyfunc import scoring_server

    for name, reader in (("parse_csv_input", _read_csv), ("parse_parquet_input", _read_parquet)):
        present = getattr(scoring_server, name)
        if getattr(present, "func", None) is not reader:
            setattr(scoring_server, name, partial(reader, present))


def _read_csv(mlflows: Callable[..., pd.DataFrame], csv_input: Any, schema: Any = None) -> pd.DataFrame:
    """CSV → a frame of text; by MLflow's own reader where a signature, of another model, declares types.

    pandas would take a line of too few values for one that ends with missing ones, and where the first line has too
    many, the first column for an index: every value would be another column's.
    """
    from mlflow.exceptions import MlflowException
    from mlflow.types.schema import AnyType

    if schema is not None and not all(isinstance(type_, AnyType) for type_ in schema.input_types()):
        return mlflows(csv_input, schema)
    try:
        return _frame_of_text(csv_input)
    except (csv.Error, ValueError) as error:
        raise MlflowException.invalid_parameter_value(f"The request is no CSV with a header: {error}") from None


def _frame_of_text(place: Any) -> pd.DataFrame:
    """The path of a CSV file, or an open one → its cells as text; raises `ValueError` for lines of other lengths."""
    named = isinstance(place, str | Path)
    with Path(place).open(newline="", encoding="utf-8") if named else nullcontext(place) as stream:
        text = stream.read().removeprefix(BOM)
    csv.field_size_limit(max(csv.field_size_limit(), len(text)))  # a cell may be a picture
    reader = csv.reader(io.StringIO(text, newline=""), strict=True)
    header = next(reader, [])
    rows = []
    for row in reader:
        if row and len(row) != len(header):
            raise ValueError(f"line {reader.line_num} has {len(row)} values, and the header {len(header)}")
        rows += [row] if row else []
    if not header:
        raise ValueError("it is empty")
    return pd.DataFrame(rows, columns=header, dtype=str)


def _read_parquet(mlflows: Callable[..., pd.DataFrame], parquet_input: Any) -> pd.DataFrame:
    """Parquet → a frame whose moments with a zone are UTC's: pandas crashes as MLflow walks over those before 1678."""
    frame = mlflows(parquet_input)
    for name, values in frame.select_dtypes("datetimetz").items():
        frame[name] = values.dt.tz_convert(None)
    return frame

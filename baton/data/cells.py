"""Cells in, what a person reads out: of typed columns, and of encoded ones, decoded back."""

from __future__ import annotations

from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from baton.data.columns import Column
from baton.data.preprocessing import FIRST, MISSING, UNKNOWN, Preprocessor, unscaled
from baton.formatting import exact_text, moment_text

GONE, RARE, IMAGE = "missing", "rare or unseen", "image"
MINUTE = 60_000_000  # µs


def typed_cells(values: pa.ChunkedArray | pa.Array, column: Column) -> list[str]:
    """A typed column's cells → a text each."""
    if column.kind == "image":
        return [IMAGE] * len(values)
    if column.kind == "datetime":
        moments = pc.cast(values, pa.int64()).to_pylist()
        return [GONE if moment is None else moment_text(moment) for moment in moments]
    return [GONE if value is None else _text(value, column) for value in values.to_pylist()]


def encoded_cells(encoded: dict[str, np.ndarray], preprocessor: Preprocessor) -> dict[str, list[str]]:
    """Encoded columns → {raw feature: a text each row}; numbers to six digits, dates to the minute."""
    return {column.name: _decoded(encoded, preprocessor, column) for column in preprocessor.features}


def unblocked(blocks: dict[str, np.ndarray], preprocessor: Preprocessor) -> dict[str, np.ndarray]:
    """The network's inputs → {encoded column: values [rows]}: what `Preprocessor.blocks` had put together."""
    columns: dict[str, np.ndarray] = {}
    for kind, block in (("number", "numbers"), ("category", "categories")):
        for index, name in enumerate(preprocessor.names(kind)):
            columns[name] = blocks[block][:, index]
    for name in preprocessor.names("image"):
        columns[name] = blocks["image"]
    return columns


def _text(value: Any, column: Column) -> str:
    if column.kind == "boolean":
        return "true" if value else "false"
    return exact_text(float(value)) if column.kind == "numeric" else str(value)


def _decoded(encoded: dict[str, np.ndarray], preprocessor: Preprocessor, column: Column) -> list[str]:
    feature = preprocessor.spec["features"][column.name]
    if column.kind == "image":
        return [IMAGE] * len(encoded[feature["encoded"]])
    if column.kind == "categorical":
        named = {UNKNOWN: RARE, MISSING: GONE}
        return [named.get(c) or feature["vocabulary"][c - FIRST] for c in encoded[feature["encoded"]].tolist()]
    whole = feature["parts"][0]  # the value itself, or the time elapsed
    numbers = unscaled(encoded[whole["encoded"]], whole)
    gone = encoded[feature["missing"]] > 0 if "missing" in feature else np.zeros(len(numbers), bool)
    return [GONE if missing else _number_cell(number, column) for number, missing in zip(numbers, gone, strict=True)]


def _number_cell(number: float, column: Column) -> str:
    if column.kind == "datetime":
        return moment_text(round(number / MINUTE) * MINUTE)
    if column.kind == "boolean":
        return "true" if number > 0.5 else "false"
    return exact_text(round(number) if column.type == "long" else float(f"{number:.6g}"))

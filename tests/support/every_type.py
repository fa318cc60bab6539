"""A table of every type that ingest takes, and rows to be scored: each with one cell missing, or odd."""

from __future__ import annotations

from datetime import UTC, date, datetime, timedelta

import numpy as np
import pyarrow as pa

START = datetime(2024, 1, 1, 8, 30)


def table(rows: int = 200, seed: int = 7) -> pa.Table:
    """Classes 3 and 7, and features of every type, in which cells are missing here and there."""
    rng = np.random.default_rng(seed)

    def numbers(most: int, type_: pa.DataType) -> pa.Array:
        return pa.array(rng.integers(0, most, rows)).cast(type_)

    def moments(type_: pa.DataType) -> pa.Array:
        zone = UTC if getattr(type_, "tz", None) else None
        return pa.array(
            [START.replace(tzinfo=zone) + timedelta(hours=int(h)) for h in rng.integers(0, 9000, rows)], type_
        )

    def texts(*choices: str) -> pa.Array:
        return pa.array(rng.choice(choices, rows), pa.string())

    days = [date(2024, 1, 1) + timedelta(days=int(day)) for day in rng.integers(0, 365, rows)]
    columns = {
        **{f"int{bits}": numbers(100, getattr(pa, f"int{bits}")()) for bits in (8, 16, 32, 64)},
        **{f"uint{bits}": numbers(200, getattr(pa, f"uint{bits}")()) for bits in (8, 16, 32, 64)},
        **{f"float{bits}": pa.array(rng.normal(size=rows).astype(f"float{bits}")) for bits in (16, 32, 64)},
        "decimal": texts("1.25", "-3.10", "700.00", "12345.67").cast(pa.decimal128(7, 2)),
        "truth": pa.array(rng.random(rows) < 0.5),
        "text": texts("a", "b", "ü"),
        "large": texts("a", "b").cast(pa.large_string()),
        "code": texts("007", "07", "7"),
        "category": texts("a", "b").dictionary_encode(),
        "comma": pa.array([f"{value:,.2f}".translate({44: 46, 46: 44}) for value in rng.normal(5000, 900, rows)]),
        "german": pa.array([day.strftime("%d.%m.%Y") for day in days]),
        "number of a day": pa.array([int(day.strftime("%Y%m%d")) for day in days]),
        "date32": pa.array(days, pa.date32()),
        "date64": pa.array(days, pa.date64()),
        **{unit: moments(pa.timestamp(unit)) for unit in ("s", "ms", "us", "ns")},
        **{f"{unit} Berlin": moments(pa.timestamp(unit, "Europe/Berlin")) for unit in ("s", "ms", "us", "ns")},
    }  # fmt: skip
    gaps = {name: without(values, rng.random(rows) < 0.05) for name, values in columns.items()}
    return pa.table({**gaps, "y": pa.array(np.where(rng.random(rows) < 0.5, 3, 7))})


def without(values: pa.Array, gone: np.ndarray) -> pa.Array:
    """An array, null where `gone`."""
    return values.take(pa.array(np.arange(len(values)), mask=gone))


def asked() -> pa.Table:
    """Rows to be scored: row i has no cell in column i; two more are of no use, and one is as it should be."""
    features = table().drop(["y"])
    count = features.num_columns
    rows = table(count + 3, seed=8).drop(["y"])
    full = {name: _filled(rows[name].combine_chunks()) for name in rows.column_names}
    for index, name in enumerate(full):
        full[name] = without(full[name], np.arange(count + 3) == index)
    for name, cell, row in (("float64", np.inf, count), ("comma", "much", count + 1)):
        cells = full[name].to_pylist()
        cells[row] = cell
        full[name] = pa.array(cells, full[name].type)
    return pa.table(full)


def _filled(values: pa.Array) -> pa.Array:
    """An array, the first value in place of the missing ones."""
    first = next(index for index, valid in enumerate(values.is_valid().to_pylist()) if valid)
    places = np.where(values.is_valid().to_numpy(zero_copy_only=False), np.arange(len(values)), first)
    return values.take(pa.array(places))

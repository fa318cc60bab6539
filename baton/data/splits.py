"""Typed rows in, their split out: by a hash of the row's content, of an id or a group, or by time.

The answer depends on a row's typed values alone, so neither the order of rows, nor the cutting of
files, nor the format they came in, nor the engine can move a row to another split.
"""

from __future__ import annotations

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc

from baton import names
from baton.config.schema import Data
from baton.runtime.threads import mapped

_ODD = np.uint64(0x9E3779B97F4A7C15)
_MISSING = np.uint64(0xD6E8FEB86659FD93)


def row_hash(table: pa.Table, columns: list[str] | None = None) -> np.ndarray:
    """Typed table → one uint64 a row over the named columns (default: all), whatever their order."""
    total = np.zeros(table.num_rows, np.uint64)
    named = sorted(columns or table.column_names)
    for hashes in mapped(_column_hash, [table.column(name) for name in named]):
        total = _mix(total * _ODD + hashes)
    return total


def by_hash(table: pa.Table, data: Data, hashes: np.ndarray | None = None) -> np.ndarray:
    """Typed table → split index a row (0 train, 1 validation, 2 test), by the config's shares.

    `hashes` are the rows' over all columns, if known.
    """
    columns = [data.group] if data.group else data.id
    if columns or hashes is None:
        hashes = row_hash(table, columns or None)
    return _split_index(hashes.astype(np.float64) / 2.0**64, data)


def by_time(times: pa.ChunkedArray, limits: tuple[int, int]) -> np.ndarray:
    """Timestamps → split index a row, given the last moment (µs) of train and of validation."""
    moments = pc.cast(times, pa.int64()).to_numpy()
    return (moments > limits[0]).astype(np.int8) + (moments > limits[1])


def time_limits(moments: np.ndarray, counts: np.ndarray, data: Data) -> tuple[int, int]:
    """Distinct moments (µs, sorted) and their row counts → the last moment of train and validation."""
    done = np.cumsum(counts) / counts.sum()
    last_train = int(np.searchsorted(done, data.split.train - 1e-12))
    last_validation = int(np.searchsorted(done, data.split.train + data.split.validation - 1e-12))
    last = len(moments) - 1
    return int(moments[min(last_train, last)]), int(moments[min(last_validation, last)])


def _split_index(share: np.ndarray, data: Data) -> np.ndarray:
    first, second = data.split.train, data.split.train + data.split.validation
    return (share >= first).astype(np.int8) + (share >= second) * (data.split.test > 0)


def _column_hash(column: pa.ChunkedArray) -> np.ndarray:
    """Pandas' documented, platform-independent hash of the values; missing ones get a constant."""
    column = column.combine_chunks() if isinstance(column, pa.ChunkedArray) else column
    missing = column.is_null().to_numpy(zero_copy_only=False)
    if pa.types.is_string(column.type) or pa.types.is_binary(column.type):
        encoded = column.dictionary_encode()
        texts = encoded.dictionary.to_numpy(zero_copy_only=False)
        texts = np.array([t.hex() if isinstance(t, bytes) else t for t in texts], dtype=object)
        hashes = pd.util.hash_array(texts, categorize=False) if len(texts) else np.zeros(1, np.uint64)
        values = hashes[encoded.indices.fill_null(0).to_numpy()]
    elif pa.types.is_timestamp(column.type):
        values = pd.util.hash_array(column.cast(pa.int64()).fill_null(0).to_numpy())
    else:
        numbers = column.cast(pa.float64()).fill_null(0.0).to_numpy() + 0.0  # -0.0 becomes 0.0
        values = pd.util.hash_array(numbers)
    return np.where(missing, _MISSING, values)


def _mix(x: np.ndarray) -> np.ndarray:
    """The finaliser of SplitMix64: every input bit moves every output bit."""
    x = (x ^ (x >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    x = (x ^ (x >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return x ^ (x >> np.uint64(31))


SPLIT_INDEX = {name: index for index, name in enumerate(names.SPLITS)}

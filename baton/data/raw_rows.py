"""Rows with the source's own columns in Parquet files, read in parts of bounded size.

What judges a model on all test rows asks for them part by part and keeps numbers; what draws examples takes some rows.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from baton.data import row_parts

PART_BYTES = 64 << 20
ALIGNED = 1 << 13  # a part ends at a multiple of these rows: networks see the same batches whatever its size
BUFFER = 1 << 20  # bytes of a file that are read at once


@dataclass(frozen=True)
class RawRows:
    """The rows of Parquet files of one schema, in their order."""

    files: tuple[Path, ...]

    @cached_property
    def num_rows(self) -> int:
        return sum(pq.read_metadata(path).num_rows for path in self.files)

    @cached_property
    def schema(self) -> pa.Schema:
        return pq.read_schema(self.files[0])

    def parts(self, rows: int | None = None) -> Iterator[pa.Table]:
        """All rows in order, so many at a time; fewer where these hold more than `PART_BYTES`. One part at least.

        Args:
            rows: of a part, at most; by default `row_parts.PART_ROWS`.

        Example:
            >>> [part.num_rows for part in dataset.raw_rows().parts(50)]
            [50, 10]
        """
        rows = rows or row_parts.PART_ROWS
        held, count, size, empty = list[pa.Table](), 0, 0, True
        for _, table in self._read(rows):
            held.append(table)
            count, size = count + table.num_rows, size + table.nbytes
            if count < rows and size < PART_BYTES:
                continue
            *whole, rest = _cut(pa.concat_tables(held), rows)
            yield from whole
            held, count, size, empty = [rest], rest.num_rows, rest.nbytes, False
        if count or empty:
            yield pa.concat_tables([self.schema.empty_table(), *held])

    def take(self, numbers: np.ndarray | pa.Array) -> pa.Table:
        """Numbers of rows → these rows, in this order, one as often as it is named; row groups of others are not read.

        Args:
            numbers: from 0 on, of few rows: they are held in memory.

        Raises:
            IndexError: for a number that no row has.

        Example:
            >>> dataset.raw_rows().take(np.array([3, 0, 3])).num_rows
            3
        """
        ordered, back = np.unique(np.asarray(numbers, np.int64), return_inverse=True)
        if len(ordered) and not 0 <= ordered[0] <= ordered[-1] < self.num_rows:
            raise IndexError(f"There are {self.num_rows:,} rows. Received: {ordered[0]:,} to {ordered[-1]:,}")
        taken = [self.schema.empty_table()]
        for start, table in self._read(ALIGNED, ordered):
            first, last = np.searchsorted(ordered, [start, start + table.num_rows])
            taken += [table.take(pa.array(ordered[first:last] - start))] if first < last else []
        return pa.concat_tables(taken).take(pa.array(back))

    def _read(self, rows: int, wanted: np.ndarray | None = None) -> Iterator[tuple[int, pa.Table]]:
        """Pieces of row groups, each with its first row's number; of groups that hold a `wanted` row, if that is given.

        `wanted` is sorted.
        """
        start = 0
        for path in self.files:
            with pq.ParquetFile(path, buffer_size=BUFFER) as file:
                for group in range(file.metadata.num_row_groups):
                    size = file.metadata.row_group(group).num_rows
                    if wanted is None or np.diff(np.searchsorted(wanted, [start, start + size]))[0]:
                        yield from _pieces(file, group, rows, start)
                    start += size


def _pieces(file: pq.ParquetFile, group: int, rows: int, start: int) -> Iterator[tuple[int, pa.Table]]:
    """A row group in pieces of at most `rows`, of pictures fewer: a piece is held beside the part that it goes into."""
    metadata = file.metadata.row_group(group)
    each = max(1, metadata.total_byte_size // max(metadata.num_rows, 1))
    at_once = max(1, min(rows, ALIGNED, PART_BYTES // each))
    for batch in file.iter_batches(at_once, row_groups=[group]):
        yield start, pa.Table.from_batches([batch])
        start += batch.num_rows


def _cut(held: pa.Table, rows: int) -> list[pa.Table]:
    """The rows held, at least so many or of at least `PART_BYTES` → parts of them, and what is left, maybe no row."""
    size = min(rows, held.num_rows - held.num_rows % ALIGNED or held.num_rows)
    starts = range(0, held.num_rows - size + 1, size)
    return [held.slice(start, size) for start in starts] + [held.slice(size * len(starts))]

"""Tables of any sizes in, tables of wanted sizes out, in the same order: row groups that no cutting of parts moves."""

from __future__ import annotations

from collections.abc import Callable, Iterable

import pyarrow as pa


class RowGroups:
    """Gathers rows and hands on so many at once as `sizes` say, one after the other; the rest at the end."""

    def __init__(self, write: Callable[[pa.Table], None], sizes: Iterable[int]):
        self.write, self.sizes = write, iter(sizes)
        self.size = next(self.sizes, 0)
        self.held: list[pa.Table] = []
        self.rows = 0

    def add(self, table: pa.Table) -> None:
        self.held.append(table)
        self.rows += table.num_rows
        while 0 < self.size <= self.rows:
            self._hand_on(self.size)
            self.size = next(self.sizes, 0)

    def close(self) -> None:
        if self.rows:
            self._hand_on(self.rows)

    def _hand_on(self, size: int) -> None:
        """The first rows as one table of whole columns: how they came in pieces must not show in a file."""
        whole = pa.concat_tables(self.held)
        self.held, self.rows = [whole.slice(size)], self.rows - size
        self.write(whole.slice(0, size).combine_chunks())

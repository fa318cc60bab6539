"""What becomes of a source's rows in, part by part, a dataset's Parquet files out: in row groups that no part moves."""

from __future__ import annotations

from itertools import repeat
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from baton import names
from baton.data import dataset, splits
from baton.data.ingestion import stages
from baton.data.ingestion.building import Plan
from baton.data.row_groups import RowGroups
from baton.data.sources.files import Source
from baton.data.sources.schemas import decoded

TEST_FILE = f"{names.RAW_FOLDER}/test.parquet"
ASIDE_FILE = f"{names.QUARANTINE_FOLDER}/rows.parquet"
RAW_ROWS, RAW_BYTES = 1 << 17, 32 << 20  # of a row group of rows as they came


class RawFile:
    """A Parquet file of rows as they came, in row groups of so many rows; with one that is empty if there are none."""

    def __init__(self, path: Path, schema: pa.Schema, size: int):
        self.schema, self.writer, self.written = schema, pq.ParquetWriter(path, schema), False
        self.groups = RowGroups(self._write, repeat(size))

    def add(self, table: pa.Table) -> None:
        self.groups.add(table)

    def close(self) -> None:
        self.groups.close()
        if not self.written:
            self._write(self.schema.empty_table())
        self.writer.close()

    def _write(self, table: pa.Table) -> None:
        self.written = True
        self.writer.write_table(table)


class Outputs:
    """The files of a dataset: `add` outcomes in the order of the rows, then `close`."""

    def __init__(self, folder: Path, plan: Plan, raw_rows: int):
        encoded, sizes = dataset.encoded_schema(plan.encoder.preprocessor), group_sizes(plan)
        self.splits = [dataset.SplitFiles(folder / name, encoded, sizes[name]) for name in splits.SPLIT_INDEX]
        for file in (TEST_FILE, ASIDE_FILE):
            (folder / file).parent.mkdir()
        self.test = RawFile(folder / TEST_FILE, plan.schema, raw_rows)
        self.aside = RawFile(folder / ASIDE_FILE, aside_schema(plan.schema), raw_rows)

    def add(self, outcomes: list[stages.Outcome]) -> None:
        """Outcomes of a part, whose raw rows are `plain`."""
        for outcome in outcomes:
            if outcome.encoded is not None:
                self.splits[outcome.place].add(outcome.encoded)
            if outcome.place == stages.TEST:
                self.test.add(outcome.raw)
            elif outcome.raw is not None:
                self.aside.add(outcome.raw.append_column(names.REASON, outcome.reasons))

    def close(self) -> None:
        for split in self.splits:
            split.close()
        self.test.close()
        self.aside.close()


def group_sizes(plan: Plan) -> dict[str, list[int]]:
    """The rows of each row group of each split."""
    config = plan.encoder.config
    workers, most = config.distributed_train.workers, config.data.row_group_size
    return {
        name: dataset.group_sizes(plan.counts[name], name, workers, most, plan.pictures[name])
        for name in splits.SPLIT_INDEX
    }


def held_bytes(plan: Plan, source: Source) -> int:
    """What the rows of a source hold, about."""
    return max(source.bytes, sum(int(sizes.sum()) for sizes in plan.pictures.values()))


def raw_rows(rows: int, held: int) -> int:
    """So many rows of so many bytes in all → those of a row group of raw ones."""
    return max(1, min(RAW_ROWS, RAW_BYTES * rows // max(1, held)))


def aside_schema(schema: pa.Schema) -> pa.Schema:
    """The columns of rows that are set aside."""
    return schema.append(pa.field(names.REASON, pa.string()))


def plain(table: pa.Table) -> pa.Table:
    """Rows whose text is numbered → with the text itself."""
    columns = [c.cast(decoded(c.type)) for c in table.columns]
    return pa.table(columns, table.column_names)

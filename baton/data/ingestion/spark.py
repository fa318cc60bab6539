"""A source in, a dataset folder out, on Spark: the `spark` engine of ingest.

Tasks look at parts and encode them by the code that the `local` engine calls, so both engines give the same rows in the
same files; nothing is interpreted by Spark, and no row goes to it or comes from it. Files are read by executors with
the same readers, a file or row group a task, so the folders of the source and of the output must be seen by all of them
under the same path. Only a table of Spark's comes from it.
"""

from __future__ import annotations

import json
import shutil
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from functools import partial
from itertools import islice
from pathlib import Path
from typing import Any

import pyarrow as pa

from baton import names
from baton.config.schema import Config
from baton.data import dataset, splits
from baton.data.ingestion import building, outputs, stages
from baton.data.ingestion.building import Encoder, Plan
from baton.data.ingestion.looks import Gathering, Look
from baton.data.ingestion.outputs import RawFile
from baton.data.ingestion.part_files import Aside, PartFiles
from baton.data.ingestion.parts import may_keep
from baton.data.ingestion.rows import laid_out
from baton.data.ingestion.survey import GUESS_ROWS
from baton.data.ingestion.task_parts import Kept, Piece, TaskParts
from baton.data.sources import files as sources
from baton.data.sources.files import SourcePart
from baton.data.sources.spark_rows import PARTIAL, SparkRows, Tables, encode_json, mapped, opened, partial_results
from baton.errors import BatonError
from baton.runtime.spark import own_errors

MERGED = 16  # the driver gets the partial results of at most so many tasks
TASKS_A_SLOT = 4  # of tasks whose answers are small: a slow one keeps the others waiting less

Stage = Callable[..., Iterator[pa.Table]]


def build(config: Config, source: sources.Source, folder: Path) -> Counter[str]:
    """Read, check, split, fit, encode and write a dataset into `folder`; return quarantine reasons."""
    config = laid_out(config, source)
    with own_errors(), opened(config, source) as rows:
        parts = SparkParts(rows, source, folder.absolute() / building.PARTS_FOLDER)
        try:
            return building.build(config, parts, lambda plan: _write(parts, plan, folder.absolute()), folder)
        finally:
            parts.close()


class SparkParts:
    """The parts of a source, worked on by Spark's tasks: what `Parts` is on one machine."""

    def __init__(self, rows: SparkRows, source: sources.Source, folder: Path):
        self.rows, self.source, self.folder, self.schema = rows, source, folder, rows.schema
        folder.mkdir()
        self.kept = Kept(folder, may_keep(source, folder))

    def peek(self) -> tuple[pa.Table | None, bool]:
        """The first part's raw rows, None if there are none; and whether there are more parts."""
        if self.rows.frame is not None:
            first = self.rows.frame.limit(GUESS_ROWS).toArrow().rename_columns(self.schema.names)
            return (first.cast(self.schema) if first.num_rows else None), True
        first = [part.table for part in islice(self.source.parts(self.schema), 2)]
        return (first[0] if first else None), len(first) > 1

    def gather(self, look: Look) -> Gathering:
        """What is seen of all parts."""
        tasks, first = self.rows.slots, self.kept.plan == 0
        self.kept = replace(self.kept, plan=self.kept.plan + 1)
        frame = self._over(_gather, tasks, look)
        if tasks > MERGED:
            frame = mapped(frame.repartition(MERGED), partial(_merge, look.config), PARTIAL)
        answers = ((row["key"], bytes(row["data"])) for row in frame.collect())
        gathering = Gathering(look.config).merge(answers)
        self.source.check_unchanged()
        if first:  # from then on what is kept may be read, which tells no broken lines
            self.source.broken[:] = [line for _, lines in sorted(gathering.broken.items()) for line in lines]
        return gathering

    def recurring(self, look: Look, frequent: set[int]) -> dict[str, Counter[int]]:
        """How often frequent rows occur in each part, by its number."""
        found = dict[str, Counter[int]]()
        for row in self._over(_recur, self.rows.slots * TASKS_A_SLOT, look, frequent).collect():
            found[row["key"]] = Counter({int(value): rows for value, rows in json.loads(bytes(row["data"])).items()})
        return found

    def encode(self, encoder: Encoder) -> list[Staged]:
        """Encode all parts; what lies in the folder then, in the order of the rows."""
        frame = self._over(_encode, self.rows.slots * TASKS_A_SLOT, encoder)
        staged = [Staged(*entry) for row in frame.collect() for entry in json.loads(bytes(row["data"]))]
        self.source.check_unchanged()
        return sorted(staged, key=lambda one: one.part)

    def forget_rows(self) -> None:
        self.kept = replace(self.kept, columns=self.kept.columns + 1)

    def close(self) -> None:
        shutil.rmtree(self.folder, ignore_errors=True)

    def _over(self, stage: Stage, tasks: int, *arguments: object) -> Any:
        """The DataFrame of a stage's answers: it takes the parts of a task, and more arguments."""
        schema, pieces, kept = self.schema, self.rows.pieces, self.kept
        location = self.source.location if self.rows.frame is not None else None

        def staged(tables: Tables) -> Iterator[pa.Table]:
            mine: Iterator[Piece] = (Piece(n, partial(pieces[n].parts, schema), pieces[n]) for n in tables.numbers)
            if location is not None:
                mine = iter([Piece(int(tables.part), partial(_of_partition, tables, location))])
            return stage(TaskParts(mine, kept), *arguments)

        return self.rows.over(staged, PARTIAL, tasks=0 if location else tasks)


def _of_partition(tables: Tables, location: str) -> Iterator[SourcePart]:
    """A partition of a table of Spark's as parts."""
    first = 0
    for number, table in enumerate(tables):
        place = Path(f"partition {tables.part} (counted from 0) of {location}")
        yield SourcePart(number, place, first, table.num_rows, 0, table)
        first += table.num_rows


# Stages, run on executors


def _gather(parts: TaskParts, look: Look) -> Iterator[pa.Table]:
    """What is seen of a task's parts."""
    gathering = Gathering(look.config)
    for seen in parts.each(lambda work: look.seen(work, gathering.below())):
        gathering.add(seen)
    gathering.broken = parts.broken
    yield partial_results(gathering.serialise())


def _merge(config: Config, batches: Iterator[pa.RecordBatch]) -> Iterator[pa.Table]:
    """Answers of `_gather` → one of them all."""
    answers = ((row["key"], row["data"]) for batch in batches for row in batch.to_pylist())
    yield partial_results(Gathering(config).merge(answers).serialise())


def _recur(parts: TaskParts, look: Look, frequent: set[int]) -> Iterator[pa.Table]:
    """How often frequent rows occur in each part."""
    for number, found in parts.each(lambda work: (work.part.number, look.recurring(work, frequent))):
        yield partial_results({str(number): encode_json({str(value): rows for value, rows in found.items()})})


@dataclass(frozen=True)
class Staged:
    """Rows of a part that go to one place, as they lie on disk: encoded ones, or raw ones."""

    part: int
    place: int
    kind: str
    rows: int


def _encode(parts: TaskParts, encoder: Encoder) -> Iterator[pa.Table]:
    """Write what becomes of each part's rows beside the dataset; answer with how many there are."""
    staged = list[tuple[int, int, str, int]]()
    for number, found in parts.each(lambda work: (work.part.number, encoder.outcomes(work))):
        for outcome in found:
            for kind, table in _tables(outcome).items():
                parts.files.write(number, f"{kind}{outcome.place}", table)
                staged.append((number, outcome.place, kind, table.num_rows))
    yield partial_results({"staged": encode_json(staged)})


def _tables(outcome: stages.Outcome) -> dict[str, pa.Table]:
    """What is written of an outcome."""
    found = {}
    if outcome.encoded is not None:
        found["encoded"] = outcome.encoded
    if outcome.raw is not None:
        raw = outputs.plain(outcome.raw)
        found["kept"] = raw if outcome.encoded is not None else raw.append_column(names.REASON, outcome.reasons)
    return found


# The files of a dataset, each by a task


@dataclass(frozen=True)
class OutputFile:
    """A file of a dataset: rows from number `first` on of those that are staged for a place, in row groups."""

    path: str
    place: int
    kind: str
    first: int
    sizes: list[int]  # of its row groups; of raw rows, of each but the last
    schema: pa.Schema


def _write(parts: SparkParts, plan: Plan, folder: Path) -> None:
    """Encode the rows, then write the rows of each split, the raw test rows and the quarantine."""
    staged = parts.encode(plan.encoder)
    wanted = _files(plan, outputs.raw_rows(plan.rows, outputs.held_bytes(plan, parts.source)), folder)
    for file in wanted:
        Path(file.path).parent.mkdir(exist_ok=True)
    parts.rows.each(len(wanted), partial(_assemble, wanted, staged, parts.folder))


def _files(plan: Plan, raw_rows: int, folder: Path) -> list[OutputFile]:
    schema = dataset.encoded_schema(plan.encoder.preprocessor)
    files = list[OutputFile]()
    for split, sizes in outputs.group_sizes(plan).items():
        first = 0
        for number, start in enumerate(range(0, len(sizes), dataset.GROUPS_PER_FILE)):
            mine = sizes[start : start + dataset.GROUPS_PER_FILE]
            path = str(folder / split / dataset.file_name(number))
            files.append(OutputFile(path, splits.SPLIT_INDEX[split], "encoded", first, mine, schema))
            first += sum(mine)
    test, aside = str(folder / outputs.TEST_FILE), str(folder / outputs.ASIDE_FILE)
    files.append(OutputFile(test, stages.TEST, "kept", 0, [raw_rows], plan.schema))
    files.append(OutputFile(aside, splits.UNPLACED, "kept", 0, [raw_rows], outputs.aside_schema(plan.schema)))
    return files


def _assemble(files: list[OutputFile], staged: list[Staged], folder: Path, number: int) -> None:
    """Write a file of what is staged, whole or not at all; what a dead task leaves goes with the folder."""
    file = files[number]
    with Aside(Path(file.path), folder) as aside:
        writer: dataset.SplitFile | RawFile
        if file.kind == "encoded":
            writer = dataset.SplitFile(aside.path, file.schema, file.sizes)
        else:
            writer = RawFile(aside.path, file.schema, file.sizes[0])
        for table in _rows(file, staged, PartFiles(folder)):
            writer.add(table)
        writer.close()


def _rows(file: OutputFile, staged: list[Staged], parts: PartFiles) -> Iterator[pa.Table]:
    """The rows of a file, part by part."""
    start, end = file.first, file.first + sum(file.sizes)
    at = 0
    for one in staged:
        if (one.place, one.kind) != (file.place, file.kind):
            continue
        first, at = at, at + one.rows
        if file.kind == "encoded" and (at <= start or first >= end):
            continue
        table = parts.table(one.part, f"{one.kind}{one.place}")
        if table is None:
            raise BatonError(
                f"{parts.folder} is not the same folder to all of Spark's workers: one has written there what another "
                "does not find. Set warehouse to a folder that all of them see under the same path."
            )
        yield table if file.kind == "kept" else table.slice(max(0, start - first), min(at, end) - max(first, start))

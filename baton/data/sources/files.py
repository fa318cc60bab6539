"""A source (CSV or Parquet file, folder or glob; image folder) in, Arrow tables out.

Nothing here interprets values: CSV cells come out as text, and `data.columns` types them.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.csv as csv
import pyarrow.parquet as pq

from baton.config.schema import Config
from baton.data import images
from baton.data.sources import csv_text, locations, partitions, picture_cells, picture_folders, plain_text
from baton.data.sources.csv_text import Text
from baton.data.sources.picture_folders import PictureFolder
from baton.data.sources.reading import Reading
from baton.data.sources.schemas import conformed, decoded, united
from baton.errors import BadInput, listed

TABLE_PREFIX = "table:"
CSV_BLOCK_BYTES = 8 << 20
GROUP_BYTES = 1 << 30
SPLIT = "split"  # the column of what a folder of pictures says of splits
PACKED_TIMES = 8  # how much larger a packed file is held to be when it is unpacked
AS_CONFIGURED = Reading()  # by the config's defaults
ReadError = (pa.ArrowException, OSError, ValueError, MemoryError)  # all that pyarrow raises for broken files

PART_ROWS, PART_BYTES = 1 << 17, 32 << 20  # of a part, at most: what one core works on at a time

Stamp = tuple[int, int, int]  # a file's size, times of the last change of content and inode in ns


@dataclass(frozen=True)
class SourcePart:
    """Rows of a source that lie together, and where: the first's number in its file, of images in the source."""

    number: int
    file: Path
    first: int
    rows: int
    read: int  # bytes of the source up to its end, about
    table: pa.Table | None  # None once it is kept elsewhere

    @property
    def words(self) -> str:
        """Which rows they are, as a sentence names them."""
        return f"{self.file}, rows {self.first + 1:,} to {self.first + self.rows:,}"


@dataclass
class Source:
    """Files of one format, in a fixed order; `broken` collects CSV lines that are not rows."""

    location: str
    format: str  # csv | parquet | images | table
    files: list[Path]
    reading: Reading = AS_CONFIGURED
    broken: list[dict[str, str]] = field(default_factory=list)
    group: int | None = None  # the one row group of a single Parquet file that is read; None: all
    share: tuple[int, int] = (0, 1)  # which of how many even shares of that row group's batches
    stamps: dict[Path, Stamp] = field(default_factory=dict)  # each file when it was found
    partitions: dict[Path, partitions.Values] = field(default_factory=dict)  # what each file's folders say
    partition_types: dict[str, pa.DataType] = field(default_factory=dict)  # of the whole source
    folder: PictureFolder | None = None  # of images
    read: int = 0  # bytes of the files up to where the reader is, about
    first: int = 0  # which row of a Parquet file was the first that was read

    @property
    def bytes(self) -> int:
        """Size of all files on disk; of packed ones, about what they hold."""
        return sum(size * (PACKED_TIMES if plain_text.is_packed(f) else 1) for f, (size, *_) in self.stamps.items())

    def batches(self, rows: int = 1 << 18) -> Iterator[pa.Table]:
        """Tables of about `rows` rows, in file order; refills `broken`. Raises `BadInput`.

        A file that is not what it was when it was found is refused, at the latest at the end.
        """
        yield from (table for _, table in self._batches(rows))

    def tables(self, schema: pa.Schema, rows: int = 1 << 18) -> Iterator[pa.Table]:
        """The same in the columns of a `schema`, which is that of this source or of one that this is a piece of.

        Raises `BadInput` that names file and column if a cell has no equal there.
        """
        for file, table in self._batches(rows):
            yield conformed(table, schema, file)

    def table(self) -> pa.Table:
        """All rows in one table."""
        schema = self.schema()
        return pa.concat_tables([schema.empty_table(), *self.tables(schema)])

    def parts(self, schema: pa.Schema) -> Iterator[SourcePart]:
        """The same as parts of at most `PART_ROWS` rows and about `PART_BYTES`, the same ones at every reading."""
        first, at, number = 0, None, 0
        for file, table in self._batches(PART_ROWS):
            whole = conformed(table, schema, file)
            if file != at and self.format != "images":
                first, at = self.first, file
            size = _part_rows(whole)
            for start in range(0, whole.num_rows, size):
                table = whole.slice(start, size)
                yield SourcePart(number, file, first, table.num_rows, self.read, table)
                first, number = first + table.num_rows, number + 1

    def schema(self) -> pa.Schema:
        """The columns of all files together, from their headers; raises `BadInput` as reading would."""
        if self.folder is not None:
            splits = [(SPLIT, pa.string())] if self.folder.split else []
            label = (self.reading.label, pa.string())
            return pa.schema([("path", pa.string()), ("image", pa.binary()), label, *splits])
        return united({file: self._file_schema(file) for file in self.files})

    def text_columns(self, names: list[str]) -> Iterator[pa.Table]:
        """These columns of CSV files alone, by a quick pass; lines that are no rows are passed over."""
        for file in self.files:
            with self._text(file) as text:
                header = csv_text.header(text)
                wanted = [name for name in names if name in header] or header[:1]  # others are of its folders
                for batch in _csv_batches(text, header, lambda row: "skip", wanted):
                    yield self._whole(file, pa.Table.from_batches([batch])).select(names)

    def names(self) -> dict[Path, str]:
        """What each file's name says of its rows: an image's path is its ID and class, others' folders are columns."""
        if self.format == "images":
            return {file: picture_folders.printable(file.relative_to(self.location)) for file in self.files}
        return {file: json.dumps(sorted(values.items())) if values else "" for file, values in self.partitions.items()}

    def pieces(self, wanted: int) -> list[Source]:
        """This source cut up: together the pieces hold every row once, and are `wanted` or more if they can.

        CSV is cut by file, Parquet by row group and, if those are few, within; images by number.
        """
        if self.format == "csv":
            return [self._of([file]) for file in self.files]
        if self.format == "images":
            size = math.ceil(len(self.files) / wanted)
            return [
                self._of(files[start : start + size])
                for files in self._batches_of_images()
                for start in range(0, len(files), size)
            ]
        groups = [(f, g) for f in self.files for g in range(self._opened(f).metadata.num_row_groups)]
        shares = math.ceil(wanted / max(len(groups), 1))
        cut = [(file, group, (share, shares)) for file, group in groups for share in range(shares)]
        return [replace(self._of([file]), group=group, share=share) for file, group, share in cut]

    def _of(self, files: list[Path]) -> Source:
        stamps = {file: self.stamps[file] for file in files if file in self.stamps}
        values = {file: self.partitions[file] for file in files if file in self.partitions}
        return replace(self, files=files, broken=[], stamps=stamps, partitions=values)

    def _batches(self, rows: int) -> Iterator[tuple[Path, pa.Table]]:
        """Each table with its file, or with the first of its images."""
        self.broken.clear()
        self.read = 0
        reader = {"csv": self._csv, "parquet": self._parquet, "images": self._images}[self.format]
        column = self.reading.pictures
        for file, table in reader(rows):
            if column is None or self.format == "images":
                yield file, self._whole(file, table)
                continue
            with self._reading(file):
                for part in picture_cells.tables(table, column, file, self.broken):
                    yield file, self._whole(file, part)
        self.check_unchanged()

    def check_unchanged(self) -> None:
        """Raise `BadInput` if a file has changed since it was found."""
        for file in self.files:
            self._check_unchanged(file)

    def _whole(self, file: Path, table: pa.Table) -> pa.Table:
        """A file's columns without those that are not read, and with those that its folders give."""
        kept = [number for number, name in enumerate(table.column_names) if name not in self.reading.without]
        if len(kept) < table.num_columns:
            table = table.select(kept)
        types = {key: type_ for key, type_ in self.partition_types.items() if key not in self.reading.without}
        return partitions.with_columns(table, self.partitions.get(file, {}), types)

    @contextmanager
    def _reading(self, file: Path) -> Iterator[None]:
        """What goes wrong with a file comes out as a sentence that names it."""
        try:
            yield
        except BadInput:
            raise
        except ReadError as error:
            self._check_unchanged(file)
            kind = {"csv": "CSV", "parquet": "Parquet"}.get(self.format, "an image")
            raise BadInput(f"{file} is not {kind} that can be read: {error or type(error).__name__}") from None

    @contextmanager
    def _text(self, file: Path, head: int | None = None) -> Iterator[Text]:
        """A CSV file's text; what goes wrong with it comes out as a sentence that names file and line where it can."""
        reading = self.reading
        with self._reading(file), plain_text.opened(file, reading.encoding, head) as path:
            text = Text(path, file, reading.delimiter, reading.escape)
            try:
                yield text
            except ReadError as error:
                self._check_unchanged(file)
                if not isinstance(error, OSError):
                    csv_text.check(text, CSV_BLOCK_BYTES)
                raise

    def _check_unchanged(self, file: Path) -> None:
        before = self.stamps.get(file)
        if before is None:
            return
        now = _stamp(file)
        if now != before:
            how = "is gone" if now is None else f"had {before[0]:,} bytes, has {now[0]:,}"
            raise BadInput(f"{file} changed while it was read ({how}): run again when it is whole.")

    def _file_schema(self, file: Path) -> pa.Schema:
        own = self._own_schema(file)
        if self.reading.pictures is not None:
            own = picture_cells.schema(own, self.reading.pictures)
        return self._whole(file, own.empty_table()).schema

    def _own_schema(self, file: Path) -> pa.Schema:
        if self.format == "csv":
            with self._text(file, CSV_BLOCK_BYTES) as text:
                return pa.schema([(name, pa.string()) for name in csv_text.header(text)])
        with self._reading(file):
            schema = self._opened(file).schema_arrow
            return pa.schema([(name, decoded(t)) for name, t in zip(schema.names, schema.types, strict=True)])

    def _csv(self, rows: int) -> Iterator[tuple[Path, pa.Table]]:
        for file in self.files:
            done = self.read
            with self._text(file) as text:
                for table, share in self._csv_file(text):
                    self.read = done + int(share * self._size(file))
                    yield file, table
            self.read = done + self._size(file)

    def _size(self, file: Path) -> int:
        """As `bytes` counts it."""
        size = self.stamps[file][0] if file in self.stamps else 0
        return size * (PACKED_TIMES if plain_text.is_packed(file) else 1)

    def _csv_file(self, text: Text) -> Iterator[tuple[pa.Table, float]]:
        """Tables, and which share of the text has been read with them."""
        names = csv_text.header(text)
        broken: list[csv.InvalidRow] = []
        read = 0

        def keep(row: csv.InvalidRow) -> str:
            broken.append(row)
            return "skip"

        with ThreadPoolExecutor(1) as pool:
            found = pool.submit(csv_text.scan, text)  # while Arrow reads
            with pa.OSFile(str(text.path)) as stream:
                for batch in _csv_batches(text, names, keep, stream=stream):
                    read += batch.num_rows
                    yield pa.Table.from_batches([batch]), stream.tell() / max(1, stream.size())
        plain = found.result().explains(1 + read + len(broken), text.escape)
        if not plain:
            csv_text.check_quotes(text)
        lines = csv_text.record_lines(text) if broken and not plain else None
        for row in broken:
            line = lines[row.number - 1] if lines else row.number
            reason = f"line {line}: {_why_broken(row, text)}"
            self.broken.append({"text": f"{text.file.name}: {row.text}", "reason": reason})

    def _parquet(self, rows: int) -> Iterator[tuple[Path, pa.Table]]:
        for file in self.files:
            done = self.read
            with self._reading(file):
                for table, share in self._parquet_file(file, rows):
                    self.read = done + int(share * self._size(file))
                    yield file, table

    def _parquet_file(self, file: Path, rows: int) -> Iterator[tuple[pa.Table, float]]:
        """Tables, and which share of the rows has been read with them."""
        parquet = self._opened(file)
        mine, shares = self.share
        sizes = [parquet.metadata.row_group(group).num_rows for group in range(parquet.metadata.num_row_groups)]
        groups = list(range(len(sizes))) if self.group is None else [self.group]
        promised, before = sum(sizes[group] for group in groups), sum(sizes[: self.group or 0])
        if shares > 1:
            rows = min(rows, math.ceil(promised / shares) or 1)
        read, self.first = 0, -1
        for batch in _parquet_batches(parquet, groups, rows):
            whose = read * shares // max(1, promised)  # a share's rows lie together, as those of the whole do
            read += batch.num_rows
            if whose == mine:
                self.first = before + read - batch.num_rows if self.first < 0 else self.first
                _check_cells(batch, file)
                yield batch.replace_schema_metadata(None), read / max(1, promised)
        if read != promised:
            raise BadInput(f"{file} is damaged: it holds {read:,} rows and should hold {promised:,}.")

    def _opened(self, file: Path) -> pq.ParquetFile:
        with self._reading(file):
            return pq.ParquetFile(file, page_checksum_verification=True)

    def _images(self, rows: int) -> Iterator[tuple[Path, pa.Table]]:
        folder = self.folder
        assert folder is not None
        for chunk in self._batches_of_images():
            columns = {
                "path": [picture_folders.printable(file.relative_to(folder.root)) for file in chunk],
                "image": pa.array([self._content(file) for file in chunk], pa.binary()),
                self.reading.label: pa.array([folder.label(file) for file in chunk], pa.string()),
            }
            if folder.split:
                columns[SPLIT] = [folder.split_of(file) for file in chunk]
            self.read += sum(map(self._size, chunk))
            yield chunk[0], pa.table(columns)

    def _batches_of_images(self) -> Iterator[list[Path]]:
        sizes = [self.stamps[file][0] if file in self.stamps else 0 for file in self.files]
        yield from (self.files[first:end] for first, end in picture_cells.batched(sizes))

    def _content(self, file: Path) -> Any:
        """A file's bytes; only the first of one that is no picture."""
        with self._reading(file), file.open("rb") as content:
            start = content.read(8)
            return start + content.read() if images.is_image(start) else start

    def pictures(self) -> list[Path | str]:
        """What the rows of a table of paths name: a file, or what is wrong with it; of a folder, its files."""
        if self.format == "images":
            return list(self.files)
        column = self.reading.pictures
        if not column or self.format == "table" or column + picture_cells.BYTES not in self.schema().names:
            return []
        reader = {"csv": self._csv, "parquet": self._parquet}[self.format]
        return [place for file, table in reader(1 << 18) for place in picture_cells.named(table, column, file)]

    def notes(self) -> list[str]:
        """What a person should know of how the source was read, as sentences."""
        return self.folder.notes() if self.folder else []


def resolve(location: str, reading: Reading = AS_CONFIGURED) -> Source:
    """What `data.source` or `batch_infer.source` names → a `Source`; raises `BadInput`."""
    if location.startswith(TABLE_PREFIX):
        return Source(location, "table", [], reading)
    files = locations.matching(location)
    source = Source(location, locations.format_of(files, location), files, reading)
    if source.format == "images":
        source.folder = picture_folders.opened(location)
        files = source.files = source.folder.files
    source.stamps = {file: stamp for file in files if (stamp := _stamp(file))}
    if source.format != "images":
        source.partitions = partitions.of_files(files, locations.fixed_part(location))
        source.partition_types = partitions.types(source.partitions, numbers=source.format == "parquet")
    return source


def engine(config: Config, source: Source) -> str:
    """`local` or `spark` for reading a source: what the config says, or by `auto` what it needs."""
    if source.format == "table":
        if config.engine == "local":
            raise BadInput(f"A Spark table needs engine spark or auto. Received: {config.engine}")
        return "spark"
    if config.engine == "auto" and source.bytes > config.data.spark_above_mb << 20:
        return "spark"
    return engine_for(config)


def engine_for(config: Config) -> str:
    """`local` or `spark` for work that has no source: by `auto`, Spark where a cluster is configured."""
    if config.engine == "auto":
        return "spark" if config.spark.master else "local"
    return config.engine


def _stamp(file: Path) -> Stamp | None:
    """A file now, or None if it is gone. Nobody sets the time of the last change of an inode: not who copies a
    file's times with it, nor who moves another file to its place and back. Its number does not count: behind FUSE
    and CIFS the same file may have another one later, and on another host."""
    try:
        stat = file.stat()
    except OSError:
        return None
    return stat.st_size, stat.st_mtime_ns, stat.st_ctime_ns


def _part_rows(table: pa.Table) -> int:
    """How many rows of a table make a part, at most."""
    return max(1, min(PART_ROWS, PART_BYTES * table.num_rows // max(1, table.nbytes)))


def _why_broken(row: csv.InvalidRow, text: Text) -> str:
    """What is wrong with a line that is no row, without its number."""
    surplus = row.actual_columns - row.expected_columns
    hint = " (it ends with a delimiter)" if csv_text.ends_with_delimiter(row.text or "", text, surplus) else ""
    return f"expected {row.expected_columns} values, got {row.actual_columns}{hint}"


def _csv_batches(
    text: Text,
    names: list[str],
    on_broken: Callable[[csv.InvalidRow], str],
    wanted: list[str] | None = None,
    stream: pa.NativeFile | None = None,
) -> Any:
    """A file's rows as text, by one thread, so that a line has a number; by all only the `wanted` columns."""
    try:
        reader = csv.open_csv(
            text.path if stream is None else stream,
            csv.ReadOptions(block_size=CSV_BLOCK_BYTES, use_threads=wanted is not None),
            csv.ParseOptions(
                delimiter=text.delimiter,
                escape_char=text.escape or False,
                newlines_in_values=True,
                invalid_row_handler=on_broken,
            ),
            csv.ConvertOptions(
                include_columns=wanted,
                column_types={name: pa.string() for name in names},
                null_values=[""],  # what else means missing is for `data.columns` to say
                strings_can_be_null=True,
                quoted_strings_can_be_null=True,
            ),
        )
    except pa.ArrowInvalid as error:
        if "Empty CSV file" in str(error):  # a header that no line end follows
            return iter(())
        raise
    if wanted is None and reader.schema.names != names:
        raise BadInput(f"{text.file} has a header that can be read in two ways: {listed(names)}. Mend its quotes.")
    return reader


def _parquet_batches(parquet: pq.ParquetFile, groups: list[int], rows: int) -> Iterator[pa.Table]:
    """Tables of at most `rows` rows; a row group is read whole, on all cores, unless it would fill the memory."""
    for group in groups:
        held = parquet.metadata.row_group(group)
        if held.total_byte_size > GROUP_BYTES:
            size = max(1, min(rows, held.num_rows * picture_cells.BYTES_AT_ONCE // held.total_byte_size))
            for batch in parquet.iter_batches(batch_size=size, row_groups=[group]):
                yield pa.Table.from_batches([batch])
        else:
            table = parquet.read_row_group(group)
            yield from (table.slice(start, rows) for start in range(0, table.num_rows, rows))


def _check_cells(batch: pa.Table, file: Path) -> None:
    """Raise `BadInput` for what pyarrow reads without a look: text that is not UTF-8, bounds out of bounds."""
    for name, column in zip(batch.column_names, batch.columns, strict=True):
        try:
            column.validate(full=True)
        except pa.ArrowInvalid as error:
            raise BadInput(f"{file} is damaged in column {name}: {error}") from None

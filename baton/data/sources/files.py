"""A source (CSV or Parquet file, folder or glob; image folder) in, Arrow tables out.

Nothing here interprets values: CSV cells come out as text, and `data.columns` types them.
"""

from __future__ import annotations

import glob
import math
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv as csv
import pyarrow.parquet as pq

from baton.config.schema import Config
from baton.data.sources import csv_text
from baton.errors import BadInput, listed

TABLE_PREFIX = "table:"
IMAGE_SUFFIXES = (".png", ".jpg", ".jpeg", ".gif", ".bmp")
ARCHIVE_SUFFIXES = (".zip", ".tar", ".tgz", ".gz", ".bz2", ".xz", ".zst", ".7z", ".rar")
CSV_BLOCK_BYTES = 8 << 20
GROUP_BYTES = 1 << 30
IMAGES_AT_ONCE = 1024
FAULTY_FILES = 5  # that one error describes
ReadError = (pa.ArrowException, OSError, ValueError, MemoryError)  # all that pyarrow raises for broken files


@dataclass
class Source:
    """Files of one format, in a fixed order; `broken` collects CSV lines that are not rows."""

    location: str
    format: str  # csv | parquet | images | table
    files: list[Path]
    delimiter: str = ","
    label: str = "label"
    broken: list[dict[str, str]] = field(default_factory=list)
    group: int | None = None  # the one row group of a single Parquet file that is read; None: all
    share: tuple[int, int] = (0, 1)  # which of how many even shares of that row group's batches
    stamps: dict[Path, tuple[int, int]] = field(default_factory=dict)  # size and time of each file when it was found

    @property
    def bytes(self) -> int:
        """Size of all files on disk."""
        return sum(size for size, _ in self.stamps.values())

    def batches(self, rows: int = 1 << 18) -> Iterator[pa.Table]:
        """Tables of about `rows` rows, in file order; refills `broken`. Raises `BadInput`.

        A file that is not what it was when it was found is refused, at the latest at the end.
        """
        self.broken.clear()
        reader = {"csv": self._csv, "parquet": self._parquet, "images": self._images}[self.format]
        yield from reader(rows)
        for file in self.files:
            self._check_unchanged(file)

    def table(self) -> pa.Table:
        """All rows in one table."""
        schema = self.schema()
        tables = [conformed(table, schema) for table in self.batches()]
        if not tables:
            raise BadInput(f"{self.location} holds no rows that can be read.")
        return pa.concat_tables(tables)

    def schema(self) -> pa.Schema:
        """The columns of all files together, from their headers; raises `BadInput` as reading would."""
        if self.format == "images":
            return pa.schema([("path", pa.string()), ("image", pa.binary()), (self.label, pa.string())])
        return _united({file: self._file_schema(file) for file in self.files})

    def pieces(self, wanted: int) -> list[Source]:
        """This source cut up: together the pieces hold every row once, and are `wanted` or more if they can.

        CSV is cut by file, Parquet by row group and, if those are few, within; images by number.
        """
        if self.format == "csv":
            return [self._of([file]) for file in self.files]
        if self.format == "images":
            size = min(IMAGES_AT_ONCE, math.ceil(len(self.files) / wanted))
            starts = range(0, len(self.files), size)
            return [self._of(self.files[start : start + size]) for start in starts]
        groups = [(f, g) for f in self.files for g in range(self._opened(f).metadata.num_row_groups)]
        shares = math.ceil(wanted / max(len(groups), 1))
        cut = [(file, group, (share, shares)) for file, group in groups for share in range(shares)]
        return [replace(self._of([file]), group=group, share=share) for file, group, share in cut]

    def _of(self, files: list[Path]) -> Source:
        stamps = {file: self.stamps[file] for file in files if file in self.stamps}
        return replace(self, files=files, broken=[], stamps=stamps)

    @contextmanager
    def _reading(self, file: Path) -> Iterator[None]:
        """What goes wrong with a file comes out as a sentence that names it, and its line where it can."""
        try:
            yield
        except BadInput:
            raise
        except ReadError as error:
            self._check_unchanged(file)
            if self.format == "csv" and not isinstance(error, OSError):
                csv_text.check(file, self.delimiter, CSV_BLOCK_BYTES)
            kind = {"csv": "CSV", "parquet": "Parquet"}.get(self.format, "an image")
            raise BadInput(f"{file} is not {kind} that can be read: {error or type(error).__name__}") from None

    def _check_unchanged(self, file: Path) -> None:
        """Raise `BadInput` if the file has changed since it was found."""
        before = self.stamps.get(file)
        if before is None:
            return
        now = _stamp(file)
        if now != before:
            how = "is gone" if now is None else f"had {before[0]:,} bytes, has {now[0]:,}"
            raise BadInput(f"{file} changed while it was read ({how}): run again when it is whole.")

    def _file_schema(self, file: Path) -> pa.Schema:
        with self._reading(file):
            if self.format == "csv":
                return pa.schema([(name, pa.string()) for name in csv_text.header(file, self.delimiter)])
            schema = self._opened(file).schema_arrow
            return pa.schema([(name, _decoded(t)) for name, t in zip(schema.names, schema.types, strict=True)])

    def _csv(self, rows: int) -> Iterator[pa.Table]:
        for file in self.files:
            with self._reading(file):
                yield from self._csv_file(file)

    def _csv_file(self, file: Path) -> Iterator[pa.Table]:
        names = csv_text.header(file, self.delimiter)
        broken: list[csv.InvalidRow] = []
        read = 0
        with ThreadPoolExecutor(1) as pool:
            found = pool.submit(csv_text.scan, file)  # while Arrow reads
            for batch in _csv_batches(file, self.delimiter, names, broken):
                read += batch.num_rows
                yield pa.Table.from_batches([batch])
        plain = found.result().explains(1 + read + len(broken))
        if not plain:
            csv_text.check_quotes(file, self.delimiter)
        lines = csv_text.record_lines(file, self.delimiter) if broken and not plain else None
        for row in broken:
            line = lines[row.number - 1] if lines else row.number
            reason = f"line {line}: expected {row.expected_columns} values, got {row.actual_columns}"
            self.broken.append({"text": f"{file.name}: {row.text}", "reason": reason})

    def _parquet(self, rows: int) -> Iterator[pa.Table]:
        for file in self.files:
            with self._reading(file):
                yield from self._parquet_file(file, rows)

    def _parquet_file(self, file: Path, rows: int) -> Iterator[pa.Table]:
        parquet = self._opened(file)
        mine, shares = self.share
        groups = list(range(parquet.metadata.num_row_groups)) if self.group is None else [self.group]
        promised = sum(parquet.metadata.row_group(group).num_rows for group in groups)
        if shares > 1:
            rows = min(rows, math.ceil(promised / shares) or 1)
        read = 0
        for number, batch in enumerate(_parquet_batches(parquet, groups, rows)):
            read += batch.num_rows
            if number % shares == mine:
                _check_cells(batch, file)
                yield batch.replace_schema_metadata(None)
        if read != promised:
            raise BadInput(f"{file} is damaged: it holds {read:,} rows and should hold {promised:,}.")

    def _opened(self, file: Path) -> pq.ParquetFile:
        with self._reading(file):
            return pq.ParquetFile(file, page_checksum_verification=True)

    def _images(self, rows: int) -> Iterator[pa.Table]:
        root = Path(self.location)
        for start in range(0, len(self.files), IMAGES_AT_ONCE):
            chunk = self.files[start : start + IMAGES_AT_ONCE]
            relative = [file.relative_to(root) for file in chunk]
            labels = [path.parts[0] if len(path.parts) > 1 else None for path in relative]
            columns = {
                "path": pa.array([path.as_posix() for path in relative], pa.string()),
                "image": pa.array([self._content(file) for file in chunk], pa.binary()),
                self.label: pa.array(labels, pa.string()),
            }
            yield pa.table(columns)

    def _content(self, file: Path) -> Any:
        with self._reading(file):
            return file.read_bytes()


def conformed(table: pa.Table, schema: pa.Schema) -> pa.Table:
    """A file's columns in the order and types of the whole source; raises `BadInput` for what does not fit."""
    return pa.table([_cast(table.column(field.name), field) for field in schema], schema)


def resolve(location: str, delimiter: str = ",", label: str = "label") -> Source:
    """What `data.source` or `batch_infer.source` names → a `Source`; raises `BadInput`."""
    if location.startswith(TABLE_PREFIX):
        return Source(location, "table", [])
    found = _matching_files(location)
    if not found:
        raise BadInput(f"There is no file at the source. Received: {location}")
    if packed := next((file for file in found if file.suffix.lower() in ARCHIVE_SUFFIXES), None):
        raise BadInput(f"Archives are not read: unpack it, and name the folder. Received: {packed}")
    formats = {_format(file) for file in found}
    if len(formats) != 1 or None in formats:
        kinds = ", ".join(sorted({file.suffix or file.name for file in found}))
        raise BadInput(f"{location} must hold only CSV, only Parquet or only image files. Received: {kinds}")
    if formats == {"images"} and not Path(location).is_dir():
        raise BadInput(f"Images are read from a folder with a folder for each class. Received: {location}")
    if formats == {"images"} and (link := next((file for file in found if file.is_symlink()), None)):
        raise BadInput(f"A folder of images must hold no links: put the file in its place. Received: {link}")
    stamps = {file: stamp for file in found if (stamp := _stamp(file))}
    return Source(location, str(formats.pop()), found, delimiter, label, stamps=stamps)


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


def _matching_files(location: str) -> list[Path]:
    """The files at a file, folder or glob, in order; raises `BadInput` if that is no path at all."""
    try:
        path = Path(location)
        if path.is_dir():
            inside = sorted(p for p in path.rglob("*") if not _hidden(p, path))
            if dead := next((p for p in inside if p.is_symlink() and not p.is_file()), None):
                raise BadInput(f"A link to a folder or to nothing is not followed: remove it. Received: {dead}")
            return [p for p in inside if p.is_file()]
        if path.is_file():
            return [path]
        matches = sorted(Path(p) for p in glob.glob(location, recursive=True))  # noqa: PTH207 - absolute patterns too
        return [p for p in matches if p.is_file() and not _hidden(p, p.parent)]
    except (OSError, ValueError) as error:  # a name too long, a NUL in it, a folder that may not be entered
        raise BadInput(f"The source cannot be read: {error}. Received: {location[:200]}") from None


def _stamp(file: Path) -> tuple[int, int] | None:
    """(size, time of the last change in ns), or None if the file is gone."""
    try:
        stat = file.stat()
    except OSError:
        return None
    return stat.st_size, stat.st_mtime_ns


def _format(file: Path) -> str | None:
    suffix = file.suffix.lower()
    if suffix in IMAGE_SUFFIXES:
        return "images"
    return {".csv": "csv", ".tsv": "csv", ".parquet": "parquet", ".pq": "parquet"}.get(suffix)


def _hidden(path: Path, root: Path) -> bool:
    """Spark's and Petastorm's own files (`_SUCCESS`, `_common_metadata`, `.crc`) are no data."""
    return any(part.startswith(("_", ".")) for part in path.relative_to(root).parts)


def _csv_batches(file: Path, delimiter: str, names: list[str], broken: list[csv.InvalidRow]) -> Any:
    """A file's rows as text; lines that are no rows go to `broken`."""

    def on_broken(row: csv.InvalidRow) -> str:
        broken.append(row)
        return "skip"

    try:
        reader = csv.open_csv(
            file,
            csv.ReadOptions(block_size=CSV_BLOCK_BYTES, use_threads=False),  # else a line has no number
            csv.ParseOptions(delimiter=delimiter, newlines_in_values=True, invalid_row_handler=on_broken),
            csv.ConvertOptions(
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
    if reader.schema.names != names:
        raise BadInput(f"{file} has a header that can be read in two ways: {listed(names)}. Mend its quotes.")
    return reader


def _parquet_batches(parquet: pq.ParquetFile, groups: list[int], rows: int) -> Iterator[pa.Table]:
    """Tables of at most `rows` rows; a row group is read whole, on all cores, unless it would fill the memory."""
    for group in groups:
        if parquet.metadata.row_group(group).total_byte_size > GROUP_BYTES:
            for batch in parquet.iter_batches(batch_size=rows, row_groups=[group]):
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


def _decoded(type_: pa.DataType) -> pa.DataType:
    """What a dictionary stands for; pyarrow cannot write every dictionary that it reads."""
    return type_.value_type if pa.types.is_dictionary(type_) else type_


def _cast(values: pa.ChunkedArray, field: pa.Field) -> pa.ChunkedArray:
    if pa.types.is_dictionary(values.type):
        values = pa.chunked_array([chunk.dictionary_decode() for chunk in values.chunks], values.type.value_type)
    if values.type == field.type:
        return values
    try:  # nanoseconds may lose their last digits, but no number may change its meaning
        return pc.cast(values, field.type, safe=pa.types.is_unsigned_integer(values.type))
    except pa.ArrowInvalid as error:
        raise BadInput(f"Column {field.name} holds values that are no {field.type}: {error}") from None


def _united(schemas: dict[Path, pa.Schema]) -> pa.Schema:
    """Each file's columns → those of all; raises one `BadInput` that names everything that does not go together."""
    first = next(iter(schemas.values()))
    faults = [fault for file, schema in schemas.items() if (fault := _name_faults(file, schema.names, first.names))]
    types: dict[str, pa.DataType] = {}
    for file, schema in schemas.items():
        if len(set(schema.names)) == len(schema):
            faults += _unite(types, file, schema)
    if faults:
        more = f" And {len(faults) - FAULTY_FILES} more faults." if len(faults) > FAULTY_FILES else ""
        raise BadInput(" ".join(faults[:FAULTY_FILES]) + more)
    return pa.schema([(name, types[name]) for name in first.names])


def _name_faults(file: Path, names: list[str], first: list[str]) -> str:
    """What is wrong with the names of a file's columns, as sentences; empty if nothing is."""
    faults = []
    if repeated := sorted(name for name, number in Counter(names).items() if number > 1):
        faults.append(f"{file} has columns of the same name: {listed(repeated)}.")
    if blank := [str(number) for number, name in enumerate(names, 1) if not name.strip()]:
        faults.append(f"{file} has columns without a name: number {listed(blank)}.")
    folded = Counter(name.casefold() for name in set(names))
    if alike := sorted(name for name in set(names) if folded[name.casefold()] > 1):
        faults.append(f"{file} has columns whose names differ in case only: {listed(alike)}.")
    if set(first) != set(names):
        missing, extra = sorted(set(first) - set(names)), sorted(set(names) - set(first))
        faults.append(f"{file} has other columns than the files before it: missing {missing}, extra {extra}.")
    return " ".join(faults)


def _unite(types: dict[str, pa.DataType], file: Path, schema: pa.Schema) -> list[str]:
    """Add a file's types to those of the files before it; the columns whose types do not go together, as sentences."""
    faults = []
    for column in schema:
        before = types.setdefault(column.name, column.type)
        if before == column.type:
            continue
        pair = [pa.schema([(column.name, type_)]) for type_ in (before, column.type)]
        try:
            types[column.name] = pa.unify_schemas(pair, promote_options="permissive").field(0).type
        except (pa.ArrowInvalid, pa.ArrowTypeError):
            faults.append(
                f"{file}: the type of column {column.name} does not go together with that in the files before it: "
                f"{column.type} and {before}."
            )
    return faults

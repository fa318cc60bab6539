"""A source (CSV or Parquet file, folder or glob; image folder) in, Arrow tables out.

Nothing here interprets values: CSV cells come out as text, and `baton.columns` types them.
"""

from __future__ import annotations

import glob
import math
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv as csv
import pyarrow.parquet as pq

from baton.config import Config
from baton.errors import BadInput

TABLE_PREFIX = "table:"
IMAGE_SUFFIXES = (".png", ".jpg", ".jpeg", ".gif", ".bmp")
MISSING_TEXT = ["", "NA", "N/A", "NaN", "nan", "null", "NULL", "None"]
IMAGE_FOLDER_COLUMNS = ("path", "image")
CSV_BLOCK_BYTES = 8 << 20
IMAGES_AT_ONCE = 1024


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

    @property
    def bytes(self) -> int:
        """Size of all files on disk."""
        return sum(file.stat().st_size for file in self.files)

    def batches(self, rows: int = 1 << 18) -> Iterator[pa.Table]:
        """Tables of about `rows` rows, in file order; refills `broken`. Raises `BadInput`."""
        self.broken.clear()
        reader = {"csv": self._csv, "parquet": self._parquet, "images": self._images}[self.format]
        first: pa.Schema | None = None
        for file, table in reader(rows):
            first = first or table.schema
            _check_columns(first.names, table.schema.names, file)
            yield table

    def table(self) -> pa.Table:
        """All rows in one table."""
        schema = self.schema()
        tables = [conformed(table, schema) for table in self.batches()]
        if not tables:
            raise BadInput(f"{self.location} holds no rows.")
        return pa.concat_tables(tables)

    def schema(self) -> pa.Schema:
        """The columns of all files together, from their headers; raises `BadInput` as reading would."""
        if self.format == "images":
            return pa.schema([("path", pa.string()), ("image", pa.binary()), (self.label, pa.string())])
        schemas = [self._file_schema(file) for file in self.files]
        for file, schema in zip(self.files, schemas, strict=True):
            _check_columns(schemas[0].names, schema.names, file)
        try:
            return pa.unify_schemas(schemas, promote_options="permissive")
        except (pa.ArrowInvalid, pa.ArrowTypeError) as error:
            raise BadInput(f"The files of {self.location} have types that do not go together: {error}") from None

    def pieces(self, wanted: int) -> list[Source]:
        """This source cut up: together the pieces hold every row once, and are `wanted` or more if they can.

        CSV is cut by file, Parquet by row group and, if those are few, within; images by number.
        """
        if self.format == "csv":
            return [replace(self, files=[file], broken=[]) for file in self.files]
        if self.format == "images":
            size = min(IMAGES_AT_ONCE, math.ceil(len(self.files) / wanted))
            starts = range(0, len(self.files), size)
            return [replace(self, files=self.files[start : start + size]) for start in starts]
        groups = [(f, g) for f in self.files for g in range(_opened(f).metadata.num_row_groups)]
        shares = math.ceil(wanted / max(len(groups), 1))
        cut = [(file, group, (share, shares)) for file, group in groups for share in range(shares)]
        return [replace(self, files=[file], group=group, share=share) for file, group, share in cut]

    def _file_schema(self, file: Path) -> pa.Schema:
        if self.format == "csv":
            return pa.schema([(name, pa.string()) for name in _csv_header(file, self.delimiter)])
        return _opened(file).schema_arrow.remove_metadata()

    def _csv(self, rows: int) -> Iterator[tuple[Path, pa.Table]]:
        for file in self.files:
            names = _csv_header(file, self.delimiter)

            def on_broken(row: csv.InvalidRow, file: Path = file) -> str:
                line = f"line {row.number}" if row.number else "a line"
                reason = f"{line}: expected {row.expected_columns} values, got {row.actual_columns}"
                self.broken.append({"text": f"{file.name}: {row.text}", "reason": reason})
                return "skip"

            try:
                reader = csv.open_csv(
                    file,
                    csv.ReadOptions(block_size=CSV_BLOCK_BYTES, use_threads=False),  # else a line has no number
                    csv.ParseOptions(
                        delimiter=self.delimiter,
                        newlines_in_values=True,
                        invalid_row_handler=on_broken,
                    ),
                    csv.ConvertOptions(
                        column_types={name: pa.string() for name in names},
                        null_values=MISSING_TEXT,
                        strings_can_be_null=True,
                        quoted_strings_can_be_null=True,
                    ),
                )
                for batch in reader:
                    yield file, pa.Table.from_batches([batch])
            except pa.ArrowInvalid as error:
                raise BadInput(f"{file} is not CSV that can be read: {error}") from None

    def _parquet(self, rows: int) -> Iterator[tuple[Path, pa.Table]]:
        for file in self.files:
            parquet = _opened(file)
            mine, shares = self.share
            groups = None if self.group is None else [self.group]
            if groups and shares > 1:
                rows = min(rows, math.ceil(parquet.metadata.row_group(groups[0]).num_rows / shares) or 1)
            try:
                for number, batch in enumerate(parquet.iter_batches(batch_size=rows, row_groups=groups)):
                    if number % shares == mine:
                        yield file, pa.Table.from_batches([batch]).replace_schema_metadata(None)
            except (pa.ArrowInvalid, OSError) as error:
                raise BadInput(f"{file} is not Parquet that can be read: {error}") from None

    def _images(self, rows: int) -> Iterator[tuple[Path, pa.Table]]:
        root = Path(self.location)
        for start in range(0, len(self.files), IMAGES_AT_ONCE):
            chunk = self.files[start : start + IMAGES_AT_ONCE]
            relative = [file.relative_to(root) for file in chunk]
            labels = [path.parts[0] if len(path.parts) > 1 else None for path in relative]
            columns = {
                "path": pa.array([path.as_posix() for path in relative], pa.string()),
                "image": pa.array([file.read_bytes() for file in chunk], pa.binary()),
                self.label: pa.array(labels, pa.string()),
            }
            yield root, pa.table(columns)


def conformed(table: pa.Table, schema: pa.Schema) -> pa.Table:
    """A file's columns in the order and types of the whole source; raises `BadInput` for what does not fit."""
    return pa.table([_cast(table.column(field.name), field) for field in schema], schema)


def resolve(location: str, delimiter: str = ",", label: str = "label") -> Source:
    """What `data.source` or `batch_infer.source` names → a `Source`; raises `BadInput`."""
    if location.startswith(TABLE_PREFIX):
        return Source(location, "table", [])
    path = Path(location)
    if path.is_dir():
        found = sorted(p for p in path.rglob("*") if p.is_file() and not _hidden(p, path))
    elif path.is_file():
        found = [path]
    else:
        matches = sorted(Path(p) for p in glob.glob(location, recursive=True))  # noqa: PTH207 - absolute patterns too
        found = [p for p in matches if p.is_file() and not _hidden(p, p.parent)]
    if not found:
        raise BadInput(f"There is no file at the source. Received: {location}")
    formats = {_format(file) for file in found}
    if len(formats) != 1 or None in formats:
        kinds = ", ".join(sorted({file.suffix or file.name for file in found}))
        raise BadInput(f"{location} must hold only CSV, only Parquet or only image files. Received: {kinds}")
    if formats == {"images"} and not path.is_dir():
        raise BadInput(f"Images are read from a folder with a folder for each class. Received: {location}")
    return Source(location, str(formats.pop()), found, delimiter, label)


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


def _format(file: Path) -> str | None:
    suffix = file.suffix.lower()
    if suffix in IMAGE_SUFFIXES:
        return "images"
    return {".csv": "csv", ".tsv": "csv", ".parquet": "parquet", ".pq": "parquet"}.get(suffix)


def _hidden(path: Path, root: Path) -> bool:
    """Spark's and Petastorm's own files (`_SUCCESS`, `_common_metadata`, `.crc`) are no data."""
    return any(part.startswith(("_", ".")) for part in path.relative_to(root).parts)


def _csv_header(file: Path, delimiter: str) -> list[str]:
    try:
        options = csv.ParseOptions(delimiter=delimiter, invalid_row_handler=lambda row: "skip")
        return csv.open_csv(file, parse_options=options).schema.names
    except pa.ArrowInvalid as error:
        raise BadInput(f"{file} is not CSV that can be read: {error}") from None


def _opened(file: Path) -> pq.ParquetFile:
    try:
        return pq.ParquetFile(file)
    except (pa.ArrowInvalid, OSError) as error:
        raise BadInput(f"{file} is not Parquet that can be read: {error}") from None


def _cast(values: pa.ChunkedArray, field: pa.Field) -> pa.ChunkedArray:
    if values.type == field.type:
        return values
    try:  # nanoseconds may lose their last digits, but no number may change its meaning
        return pc.cast(values, field.type, safe=pa.types.is_unsigned_integer(values.type))
    except pa.ArrowInvalid as error:
        raise BadInput(f"Column {field.name} holds values that are no {field.type}: {error}") from None


def _check_columns(first: list[str], now: list[str], file: Path) -> None:
    repeated = sorted({name for name in now if now.count(name) > 1})
    if repeated:
        raise BadInput(f"{file} has columns of the same name: {', '.join(repeated)}.")
    if set(first) != set(now):
        missing, extra = sorted(set(first) - set(now)), sorted(set(now) - set(first))
        raise BadInput(f"{file} has other columns than the files before it: missing {missing}, extra {extra}.")

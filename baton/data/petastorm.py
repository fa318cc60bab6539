"""The only module that imports Petastorm: dataset metadata out, blocks of encoded rows in.

Readers get an explicit list of files from a manifest, never a directory: with a directory Petastorm
unpickles its `_common_metadata`, and a missing part is silently fewer rows (uber/petastorm#741).
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.request import url2pathname

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from baton.errors import BatonError


def unischema(kinds: dict[str, str]) -> Any:
    """{column: float32 | int32 | binary} → the Petastorm Unischema of an encoded split."""
    from petastorm.codecs import ScalarCodec
    from petastorm.unischema import Unischema, UnischemaField
    from pyspark.sql.types import BinaryType, FloatType, IntegerType

    types = {
        "float32": (np.float32, FloatType()),
        "int32": (np.int32, IntegerType()),
        "binary": (np.bytes_, BinaryType()),
    }
    fields = [
        UnischemaField(name, types[kind][0], (), ScalarCodec(types[kind][1]), False) for name, kind in kinds.items()
    ]
    return Unischema("Encoded", fields)


def write_metadata(folder: Path, kinds: dict[str, str]) -> None:
    """Give a folder of Parquet files the metadata that makes it a Petastorm dataset, without Spark.

    The two calls are what `materialize_dataset` makes at its end; it wants a Spark session only to
    count row groups on executors.
    """
    from petastorm.etl import dataset_metadata
    from petastorm.legacy_arrow import ParquetDataset
    from petastorm.utils import add_to_dataset_metadata

    dataset = ParquetDataset(str(folder.absolute()))
    dataset_metadata._generate_unischema_metadata(dataset, unischema(kinds))
    parts = sorted(folder.glob("*.parquet"))
    groups = {part.name: pq.read_metadata(part).num_row_groups for part in parts}
    key = dataset_metadata.ROW_GROUPS_PER_FILE_KEY
    add_to_dataset_metadata(dataset, key, json.dumps(groups))


class UrlPaths:
    """This machine's files by the paths of their URLs, which Petastorm does not decode: `/a%20b` is the file `/a b`.

    What Petastorm asks of a file system, and no more; Arrow itself reads and writes.
    """

    def open(self, path: str, mode: str = "rb", **_: Any) -> pa.OSFile:
        return pa.OSFile(url2pathname(path), mode=mode)

    def isfile(self, path: str) -> bool:
        return Path(url2pathname(path)).is_file()

    def isdir(self, path: str) -> bool:
        return Path(url2pathname(path)).is_dir()

    def exists(self, path: str) -> bool:
        return Path(url2pathname(path)).exists()

    def find(self, path: str) -> list[str]:
        files = (file for file in Path(url2pathname(path)).rglob("*") if file.is_file())
        return [file.as_uri().removeprefix("file://") for file in files]

    def _strip_protocol(self, path: str) -> str:
        return path


@contextmanager
def materialize(spark: Any | None, folder: Path, kinds: dict[str, str]) -> Iterator[None]:
    """Petastorm's own `materialize_dataset` around a Spark write to `folder`; without Spark, `write_metadata` after it.

    Petastorm's wants a SparkContext, which sessions of Spark Connect lack.
    """
    if spark is None:
        yield
        write_metadata(folder, kinds)
        return
    from petastorm.etl.dataset_metadata import materialize_dataset

    with materialize_dataset(spark, folder.absolute().as_uri(), unischema(kinds), filesystem_factory=UrlPaths):
        yield


def read_blocks(
    files: list[Path],
    columns: list[str],
    stack: Callable[[dict[str, np.ndarray]], dict[str, Any]],
    *,
    seed: int | None = None,
    shard: tuple[int, int] = (0, 1),
) -> Iterator[dict[str, Any]]:
    """One pass over a shard's row groups: a dict of stacked arrays a row group.

    `seed` shuffles the order of row groups (None: in order); `shard` is (rank, size). One reading
    thread, so that the order is a function of the seed. Raises `BatonError` if a file is missing.
    """
    from petastorm import make_batch_reader

    missing = [file.name for file in files if not file.is_file()]
    if missing:
        raise BatonError(f"The dataset is not whole: {', '.join(missing)} is missing.")
    rank, size = shard
    with make_batch_reader(
        [file.absolute().as_uri() for file in files],
        schema_fields=columns,
        workers_count=1,
        num_epochs=1,
        shuffle_row_groups=seed is not None,
        seed=seed,
        cur_shard=rank if size > 1 else None,
        shard_count=size if size > 1 else None,
        filesystem=UrlPaths(),
    ) as reader:
        for group in reader:
            yield stack(group._asdict())

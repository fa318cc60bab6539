"""The benchmarks' inputs, made once: the flights as dataset, CSV and many copies; a small network for them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pyarrow.csv as csv
import pyarrow.parquet as pq

from baton.config.schema import Config, validate
from baton.data.dataset import Dataset
from baton.data.ingestion import local
from baton.data.sources import files
from bench.harness import build_once, kept

FLIGHTS = "data/flights.parquet"
BATCH = 256
ROWS = 308_641  # of the flights
# What a network of nothing but dense layers does not read: the alternatives have it easy then.
NOT_NUMBERS = ["carrier", "tailnum", "origin", "dest", "time_hour"]


def config(source: str = FLIGHTS, **sections: Any) -> Config:
    """The flights pipeline with batches of 256, a small MLP and one epoch; `sections` are merged into it."""
    tree: dict[str, Any] = {
        "name": "bench",
        "data": {"source": source, "target": "arr_delay", "task": "regression", "rows_per_value": 0},
        "model": {
            "hidden": [128, 64],
            "numbers": "plain",
            "dropout": 0.0,
            "cross_rank": 0,
            "members": 1,
            "networks": 1,
        },
        "train": {"batch_size": BATCH, "epochs": 1},
    }
    for name, values in sections.items():
        tree[name] = {**tree.get(name, {}), **values} if isinstance(values, dict) else values
    return validate(tree, {}, "bench")


def dataset(name: str = "all-columns", **sections: Any) -> Dataset:
    """The dataset of the flights, as ingest builds it."""

    def make(folder: Path) -> None:
        folder.mkdir()
        local.build(config(**sections), files.resolve(FLIGHTS), folder)

    return Dataset.load(build_once(f"datasets/{name}", make))


def numbers() -> Dataset:
    """The dataset of the flights' numbers alone."""
    return dataset("numbers", data={"drop": NOT_NUMBERS})


def flights_csv() -> Path:
    """The flights as a CSV file."""
    return kept("flights.csv", lambda path: csv.write_csv(pq.read_table(FLIGHTS), path))


def tiled(rows: int) -> Path:
    """The flights over and over, without the target, as one Parquet file of `rows` rows."""

    def make(path: Path) -> None:
        table = pq.read_table(FLIGHTS).drop_columns(["arr_delay"])
        with pq.ParquetWriter(path, table.schema, compression="zstd") as writer:
            for start in range(0, rows, table.num_rows):
                writer.write_table(table.slice(0, rows - start), row_group_size=1 << 17)

    return kept(f"flights-{rows}.parquet", make)

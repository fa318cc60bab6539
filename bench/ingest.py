"""The flights as CSV to a dataset: read, checked, split, preprocessing fitted, encoded, hashed, with manifest.

Baton: `building.build`, what ingest runs, into a new folder. The alternatives run on Spark, which is up and
warm, on all cores: `spark.read.csv` with an inferred schema, written as Parquet, without checks or splits; and
petastorm's documented way, `dict_to_spark_row` within `materialize_dataset` (on fewer rows, as it is slow), of
all columns too, numbers as float32 and the others as text.
"""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

from bench import inputs
from bench.harness import KEPT, Comparison, alternate, rate
from bench.spark import spark_session

RUNS = 5
DICT_ROWS = 40_000


def measure(runs: int = RUNS, dict_rows: int = DICT_ROWS) -> list[Comparison]:
    source, out = inputs.flights_csv(), KEPT / "ingested"
    with spark_session() as spark:
        sides = {
            "baton": lambda rows: baton(source, out),
            "csv": lambda rows: spark_csv(spark, source, out),
            "dict_to_spark_row": lambda rows: dict_to_spark_row(spark, source, rows, out),
        }
        for side in sides.values():
            side(100)
        lines = count(source)
        sizes = {"baton": lines, "csv": lines, "dict_to_spark_row": dict_rows}
        medians = alternate({name: rate(side, sizes[name]) for name, side in sides.items()}, runs)
    shutil.rmtree(out, ignore_errors=True)
    return [
        Comparison(against, medians["baton"], medians[name], goal, "higher", "rows/s")
        for name, against, goal in [
            ("csv", "Spark CSV, inferred schema, to Parquet", 3.0),
            ("dict_to_spark_row", "petastorm dict_to_spark_row", 25.0),
        ]
    ]


def count(source: Path) -> int:
    """The rows of a CSV file of one line a row, the header apart."""
    with source.open("rb") as lines:
        return sum(1 for _ in lines) - 1


def baton(source: Path, out: Path) -> dict[str, int]:
    """Build the dataset with Baton → its manifest's rows."""
    from baton import building, sources
    from baton.dataset import Dataset

    config = inputs.config(str(source))
    shutil.rmtree(out, ignore_errors=True)
    out.mkdir()
    building.build(config, sources.resolve(config.data.source), out)
    return Dataset.load(out).rows


def spark_csv(spark: Any, source: Path, out: Path) -> None:
    """What a notebook does first: let Spark guess the types, and keep the table as Parquet."""
    frame = spark.read.csv(str(source), header=True, inferSchema=True, nullValue="")
    frame.write.mode("overwrite").parquet(str(out))


def dict_to_spark_row(spark: Any, source: Path, rows: int, out: Path) -> None:
    """Petastorm's documented way from rows as dicts."""
    import csv

    import numpy as np
    from petastorm.codecs import ScalarCodec
    from petastorm.etl.dataset_metadata import materialize_dataset
    from petastorm.unischema import Unischema, UnischemaField, dict_to_spark_row
    from pyspark.sql.types import FloatType, StringType

    header = source.open().readline().strip().replace('"', "").split(",")
    text = set(inputs.NOT_NUMBERS)
    number, word = (np.float32, (), ScalarCodec(FloatType()), False), (np.str_, (), ScalarCodec(StringType()), False)
    schema = Unischema("Flights", [UnischemaField(name, *(word if name in text else number)) for name in header])

    def cells(line: str) -> dict[str, Any]:
        values = zip(header, next(csv.reader([line])), strict=True)
        return {name: value if name in text else np.float32(value or 0) for name, value in values}

    shutil.rmtree(out, ignore_errors=True)
    url = out.absolute().as_uri()
    with source.open() as lines:
        taken = [line for line, _ in zip(lines, range(rows + 1), strict=False)][1:]
    with materialize_dataset(spark, url, schema):
        made = spark.sparkContext.parallelize(taken).map(cells).map(lambda row: dict_to_spark_row(schema, row))
        spark.createDataFrame(made, schema.as_spark_schema()).write.mode("overwrite").parquet(url)

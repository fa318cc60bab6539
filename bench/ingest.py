"""The flights as CSV to a dataset: read, checked, split, preprocessing fitted, encoded, hashed, with manifest.

Baton: `ingestion.local.build`, what ingest runs, into a new folder. The alternatives run on Spark, on all cores:
`spark.read.csv` with an inferred schema, written as Parquet, without checks or splits; and petastorm's documented
way, `dict_to_spark_row` within `materialize_dataset` (on fewer rows, as it is slow), of all columns too, numbers as
float32 and the others as text. Each is measured as a job meets it: as the first work of a process, whose imports and
start of Spark do not count. In the lines "again" one process has done the same before, and Java has compiled Spark.
"""

from __future__ import annotations

import functools
import importlib
import shutil
from collections.abc import Callable
from contextlib import nullcontext
from pathlib import Path
from typing import Any

from bench import inputs
from bench.harness import KEPT, Comparison, alternate, fresh, rate
from bench.spark import spark_session

RUNS = 5
DICT_ROWS = 40_000
GOALS = {
    "csv": ("Spark CSV, inferred schema, to Parquet", 3.0),
    "dict_to_spark_row": ("petastorm dict_to_spark_row", 25.0),
}


def measure(runs: int = RUNS, dict_rows: int = DICT_ROWS) -> list[Comparison]:
    source, out = inputs.flights_csv().absolute(), (KEPT / "ingested").absolute()
    lines = count(source)
    rows = {"baton": lines, "csv": lines, "dict_to_spark_row": dict_rows}
    alone = {side: functools.partial(fresh, first, side, str(source), rows[side], str(out)) for side in rows}
    medians = alternate(alone, runs)
    with spark_session() as spark:
        warm = {side: rate(functools.partial(WORK[side], spark, source, out), rows[side]) for side in rows}
        alternate(warm, 1)
        again = alternate(warm, runs)
    shutil.rmtree(out, ignore_errors=True)
    return [
        *(_compared(medians, side, told, goal) for side, (told, goal) in GOALS.items()),
        *(_compared(again, side, f"{told}, again", 1.0) for side, (told, _) in GOALS.items()),
    ]


def first(side: str, source: str, rows: int, out: str) -> float:
    """A side's rows a second in this process, which has not worked before."""
    for module in (
        "baton.data.ingestion.local",
        "pandas",
        "petastorm.etl.dataset_metadata",
    ):  # as ingest has before it begins
        importlib.import_module(module)
    with nullcontext() if side == "baton" else spark_session() as spark:
        return rate(functools.partial(WORK[side], spark, Path(source), Path(out)), rows)()


def _compared(rates: dict[str, float], side: str, label: str, goal: float) -> Comparison:
    return Comparison(label, rates["baton"], rates[side], goal, "higher", "rows/s")


def count(source: Path) -> int:
    """The rows of a CSV file of one line a row, the header apart."""
    with source.open("rb") as lines:
        return sum(1 for _ in lines) - 1


def baton(spark: Any, source: Path, out: Path, rows: int) -> dict[str, int]:
    """Build the dataset with Baton → its manifest's rows. All rows are taken, and Spark is not."""
    from baton.data.dataset import Dataset
    from baton.data.ingestion import local
    from baton.data.sources import files

    config = inputs.config(str(source))
    shutil.rmtree(out, ignore_errors=True)
    out.mkdir()
    local.build(config, files.resolve(config.data.source), out)
    return Dataset.load(out).rows


def spark_csv(spark: Any, source: Path, out: Path, rows: int) -> None:
    """What a notebook does first: let Spark guess the types, and keep the table, all of it, as Parquet."""
    frame = spark.read.csv(str(source), header=True, inferSchema=True, nullValue="")
    frame.write.mode("overwrite").parquet(str(out))


def dict_to_spark_row(spark: Any, source: Path, out: Path, rows: int) -> None:
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


# Each takes the Spark session, the source, the folder to write and how many rows.
WORK: dict[str, Callable[..., Any]] = {"baton": baton, "csv": spark_csv, "dict_to_spark_row": dict_to_spark_row}

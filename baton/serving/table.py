"""Predictions that lie in a folder in, a Spark table of the same rows out, with their lineage as its properties.

Replaced is only what bears Baton's mark, the property `baton.pipeline`, of the same pipeline.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from baton import names
from baton.config.schema import TABLE, BatchInfer, Config
from baton.errors import BadInput
from baton.runtime.spark import session

PIPELINE = "pipeline"
KEPT = (PIPELINE, "source", *names.LINEAGE, "rows_in", "rows_scored", "rows_quarantined")


def check(config: Config, settings: BatchInfer) -> None:
    """Raise `BadInput` if the table of predictions has nowhere to be, is a source or could be somebody else's."""
    spark, table = session(config), str(settings.table)
    if _forgets(spark, table):
        raise BadInput(
            "batch_infer.output is a table, and this Spark forgets its tables with the step's end: give it a folder or "
            f"a catalog that lasts, as spark.sql.catalogImplementation: hive in spark.config. Received: {TABLE}{table}"
        )
    schema = table.rpartition(".")[0]
    if schema and not spark.catalog.databaseExists(_quoted(schema)):
        raise BadInput(f"batch_infer.output names a table in a schema that there is not. Received: {TABLE}{table}")
    if f"{TABLE}{table}".casefold() in (settings.source.casefold(), config.data.source.casefold()):
        raise BadInput(f"batch_infer.output must not be a source: name another table. Received: {TABLE}{table}")
    for name in (table, _quarantine(table)):
        if spark.catalog.tableExists(_quoted(name)) and (owner := _owner(spark, name)) != config.name.casefold():
            raise BadInput(
                "batch_infer.output is replaced whole, with its quarantine, and is a table that holds no predictions "
                f"of {config.name}: name a new one, or drop what is there. "
                f"Received: {name}, which is {f'of {owner}' if owner else 'no table of predictions'}"
            )


def replace(config: Config, settings: BatchInfer, folder: Path, summary: dict[str, Any]) -> None:
    """Replace a table, and `<table>_quarantine`, by what lies in a folder of predictions; raises as `check` does.

    `summary` is what batch_infer keeps of them. In Delta each replacement is one transaction, for readers too.
    """
    check(config, settings)  # again: something else may have come there meanwhile
    spark, table = session(config), str(settings.table)
    delta = spark.conf.get("spark.sql.sources.default") == "delta"
    for name, place in ((_quarantine(table), folder / names.QUARANTINE_OUTPUT), (table, folder)):
        files = [_address(str(path.absolute())) for path in sorted(place.glob("*.parquet"))]
        if not files or not delta:  # no row was set aside, so none is left of an earlier time; or nothing can exchange
            spark.sql(f"DROP TABLE IF EXISTS {_quoted(name)}")
        if files:
            writer = spark.read.option("mergeSchema", "true").parquet(*files).writeTo(_quoted(name))
            for key in KEPT:  # with the rows, so that no table is ever there without its mark
                writer = writer.tableProperty(f"baton.{key}", str(summary[key]))
            writer.createOrReplace() if delta else writer.create()


def _forgets(spark: Any, table: str) -> bool:
    """Whether the catalog of a table lies in the memory of this Spark."""
    catalog = table.split(".")[0] if table.count(".") == 2 else "spark_catalog"
    kept = spark.conf.get(f"spark.sql.catalog.{catalog}", None)
    return not kept and spark.conf.get("spark.sql.catalogImplementation") == "in-memory"


def _owner(spark: Any, name: str) -> str:
    """The pipeline whose predictions a table holds, case-folded; empty if it holds none."""
    from pyspark.errors import PySparkException

    try:
        properties = spark.sql(f"SHOW TBLPROPERTIES {_quoted(name)}").collect()
    except PySparkException:  # a view, of which nobody told that it is Baton's
        return ""
    return next((row.value.casefold() for row in properties if row.key == f"baton.{PIPELINE}"), "")


def _quarantine(table: str) -> str:
    return f"{table}_quarantine"


def _quoted(name: str) -> str:
    return ".".join(f"`{part}`" for part in name.split("."))


def _address(file: str) -> str:
    """A file as Spark finds it: of a volume by its path, of other disks as a URL."""
    return file if file.startswith("/Volumes/") else Path(file).as_uri()

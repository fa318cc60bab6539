"""Predictions that lie in a folder in, a Spark table of the same rows out, with their lineage as its properties."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from baton import names
from baton.config.schema import Config
from baton.runtime.spark import session

KEPT = ("pipeline", "source", *names.LINEAGE, "rows_in", "rows_scored", "rows_quarantined")


def replace(config: Config, table: str, folder: Path, summary: dict[str, Any]) -> None:
    """Replace a table, and `<table>_quarantine`, by what lies in a folder of predictions.

    `summary` is what batch_infer keeps of them. In Delta each replacement is one transaction, for readers too.
    """
    spark = session(config)
    properties = ", ".join(f"{_text(f'baton.{key}')} = {_text(str(summary[key]))}" for key in KEPT)
    for name, place in ((f"{table}_quarantine", folder / names.QUARANTINE_OUTPUT), (table, folder)):
        files = [str(path.absolute()) for path in sorted(place.glob("*.parquet"))]
        quoted = ".".join(f"`{part}`" for part in name.split("."))
        if not files:  # no row was set aside: none is left of an earlier time
            spark.sql(f"DROP TABLE IF EXISTS {quoted}")
            continue
        rows = spark.read.option("mergeSchema", "true").parquet(*(_address(file) for file in files))
        rows.write.mode("overwrite").option("overwriteSchema", "true").saveAsTable(quoted)
        spark.sql(f"ALTER TABLE {quoted} SET TBLPROPERTIES ({properties})")


def _address(file: str) -> str:
    """A file as Spark finds it: of a volume by its path, of other disks as a URL."""
    return file if file.startswith("/Volumes/") else Path(file).as_uri()


def _text(value: str) -> str:
    """A text as a literal of Spark's SQL."""
    escaped = value.replace("\\", "\\\\").replace("'", "\\'")
    return f"'{escaped}'"

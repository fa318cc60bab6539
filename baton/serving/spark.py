"""A model and a source in, scored Parquet with lineage and a quarantine out, on Spark, by the same `score_tables`."""

from __future__ import annotations

import json
import shutil
import uuid
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa

from baton import names
from baton.config.schema import Config
from baton.data.columns import Column
from baton.data.preprocessing import Preprocessor
from baton.data.sources import files as sources
from baton.data.sources.spark_rows import TABLE_ROWS, SparkRows, Tables, encode_json, opened, partial_results
from baton.runtime.spark import is_local, own_errors, ship_archive
from baton.serving import printed_types, scoring
from baton.serving.raw_columns import RawColumnModel, demand_interval

_models: dict[tuple[str, float | None], RawColumnModel] = {}  # of this Python worker


def score(
    config: Config, model: Path, source: sources.Source, lineage: scoring.Lineage, folder: Path
) -> scoring.Scored:
    """Score a source by the model in a folder into `folder`: each task writes files of its own, the driver keeps
    the files of the tasks that ended well. A CSV source is read once before, for its columns' types."""
    (folder / names.QUARANTINE_OUTPUT).mkdir()
    settings = config.batch_infer
    batch, interval = (settings.batch_rows, settings.interval) if settings else (TABLE_ROWS, None)
    preprocessor = Preprocessor.load(model / names.PREPROCESSOR)
    demand_interval(preprocessor, interval)
    with own_errors(), opened(config, source) as rows:
        scoring.check_columns(rows.schema, preprocessor.features, interval)
        place = _shipped(rows.spark, model)
        types = _types(rows, preprocessor.features) if source.format == "csv" else {}
        given = (place, lineage, types, str(folder.absolute()), batch, interval)
        parts = rows.collect(_score, *given, tasks=0).get("scored", [])
        answers = [json.loads(part) for part in parts]
        if not any(a["file"] for a in answers):  # a source without rows gives an empty table
            loaded = RawColumnModel.load(model, interval)
            answers.append(_scored(loaded, [rows.schema.empty_table()], lineage, types, folder))
    done = sum((scoring.Scored(**a["scored"]) for a in answers), scoring.Scored())
    done += scoring.broken_lines([line for a in answers for line in a["broken"]], folder / names.QUARANTINE_OUTPUT)
    _keep(folder, {a["file"]: a["scored"]["rows_scored"] for a in answers if a["file"]})
    _keep(folder / names.QUARANTINE_OUTPUT, {a["file"]: a["scored"]["rows_quarantined"] for a in answers if a["file"]})
    done.check()
    return done


def _types(rows: SparkRows, features: list[Column]) -> dict[str, pa.DataType]:
    """What the columns of a CSV source are in the predictions, of all its cells."""
    candidates = printed_types.candidates(rows.schema, features)
    if not candidates:
        return {}
    parts = [json.loads(part) for part in rows.collect(_count_types, candidates).get("types", [])]
    held = [{name: frozenset(types) for name, types in part.items()} for part in parts]
    return printed_types.chosen(printed_types.merge(held, candidates), features)


def _count_types(tables: Tables, candidates: printed_types.Types) -> Iterator[pa.Table]:
    """Which types hold for all cells of a task."""
    for table in tables:
        candidates = printed_types.holding(table, candidates)
    yield partial_results({"types": encode_json({name: sorted(types) for name, types in candidates.items()})})


def _score(
    tables: Tables,
    place: str,
    lineage: scoring.Lineage,
    types: dict[str, pa.DataType],
    folder: str,
    batch_rows: int,
    interval: float | None,
) -> Iterator[pa.Table]:
    """Score into two files of this task's own; answer with their name and counts."""
    pieces = (table.slice(start, batch_rows) for table in tables for start in range(0, table.num_rows, batch_rows))
    answer = _scored(_model(place, interval), pieces, lineage, types, Path(folder))
    yield partial_results({"scored": encode_json({**answer, "broken": tables.broken})})


def _scored(
    model: RawColumnModel,
    tables: Iterable[pa.Table],
    lineage: scoring.Lineage,
    types: dict[str, pa.DataType],
    folder: Path,
) -> dict[str, Any]:
    """Score tables into two new files; their name (None if there was no table) and the counts."""
    name = f".{uuid.uuid4().hex}.parquet"
    good, bad = folder / name, folder / names.QUARANTINE_OUTPUT / name
    done = scoring.score_tables(model, tables, lineage, types, good, bad)
    return {"scored": vars(done), "broken": [], "file": name if good.is_file() else None}


def _model(place: str, interval: float | None) -> RawColumnModel:
    """The model at a path, or of a name that was sent to all executors; loaded once a Python worker."""
    if (place, interval) not in _models:
        from pyspark import SparkFiles

        found = place if Path(place).is_absolute() else SparkFiles.get(place)
        _models[place, interval] = RawColumnModel.load(found, interval)
    return _models[place, interval]


def _keep(folder: Path, rows: dict[str, int]) -> None:
    """Give the named files that have rows (one, if none has) their place; remove the rest."""
    kept = [name for name, count in rows.items() if count] or list(rows)[:1]
    for number, name in enumerate(kept):
        (folder / name).rename(folder / f"part-{number:05d}.parquet")
    for path in folder.glob(".*.parquet"):
        path.unlink()


def _shipped(spark: Any, folder: Path) -> str:
    """The model's place for `_model`: its path, or on a cluster the name under which all executors have it."""
    if is_local(spark):
        return str(folder.absolute())
    name = f"model-{uuid.uuid4().hex}"
    archive = shutil.make_archive(str(folder.parent / name), "zip", folder)
    ship_archive(spark, Path(archive), name)
    return name

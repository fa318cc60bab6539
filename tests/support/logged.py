"""Models logged into stores of their own, what batch_infer answers by them, and processes that know no project."""

from __future__ import annotations

import csv
import io
import json
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import date, datetime
from decimal import Decimal
from pathlib import Path
from typing import Any

import keras
import mlflow
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from baton import names
from baton.networks import build
from baton.serving import export, scoring
from baton.serving.raw_columns import RawColumnModel


def untrained(config: Any, dataset: Any) -> RawColumnModel:
    """A model of weights by chance, the same in every process."""
    keras.utils.set_random_seed(1)
    return RawColumnModel(dataset.preprocessor, build.build(dataset.preprocessor, config.model))


@contextmanager
def tracked(folder: Path, afterwards: str | None = None) -> Iterator[pytest.MonkeyPatch]:
    """The tracking store in `folder`, for this process and those that it starts; `afterwards` that of this URI."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{folder}/mlflow.db")
        mlflow.set_tracking_uri(f"sqlite:///{folder}/mlflow.db")
        yield patch
        mlflow.set_tracking_uri(afterwards)


@contextmanager
def store(folder: Path) -> Iterator[str]:
    """A tracking store of its own in `folder`; gives the experiment to log into."""
    with tracked(folder, mlflow.get_tracking_uri()):
        yield mlflow.create_experiment("tiny", artifact_location=(folder / "artifacts").as_uri())


def log(model: RawColumnModel, raw: pa.Table, folder: Path) -> Path:
    """Log a model into a store in `folder` → the folder it was downloaded into."""
    with store(folder) as experiment:
        path = list(sys.path)
        with mlflow.start_run(experiment_id=experiment):
            uri = export.log_model(model.preprocessor, model.network, raw, {"fingerprint": "f"})
        assert sys.path == path, "a process started later would import the model's copy of the package"
        return Path(mlflow.artifacts.download_artifacts(uri, dst_path=str(folder / "downloaded")))


def loaded(model: Path) -> Any:
    """A logged model as MLflow loads it, without the model's copy of the package, which it puts first on the path."""
    path = list(sys.path)
    try:
        return mlflow.pyfunc.load_model(str(model))
    finally:
        sys.path[:] = path


def elsewhere(tmp_path: Path) -> dict:
    """Options of a subprocess that knows nothing of this project's folder."""
    env = {k: v for k, v in os.environ.items() if k not in ("PYTHONPATH", "MLFLOW_RUN_ID", "MLFLOW_EXPERIMENT_ID")}
    env |= {
        "MLFLOW_ALLOW_PICKLE_DESERIALIZATION": "false",
        "MLFLOW_TRACKING_URI": f"sqlite:///{tmp_path}/none.db",
        "MLFLOW_DISABLE_TELEMETRY": "true",
        "PATH": f"{Path(sys.executable).parent}{os.pathsep}{env['PATH']}",
    }
    return {"cwd": tmp_path, "env": env, "capture_output": True, "text": True, "timeout": 240}


def batch(model: RawColumnModel, raw: pa.Table) -> list[dict]:
    """What batch_infer gives: predictions and null reasons, or reasons and null predictions; a dict a row."""
    numbered = raw.append_column("row", pa.array(range(raw.num_rows)))
    scored, quarantined = scoring.score_rows(model, numbered, scoring.Lineage("m", "1", "r", "f", "s"))
    predicted = [n for n in scored.column_names if n.startswith((names.PREDICTION, names.PROBABILITY))]
    good = [{**row, "reason": None} for row in scored.select(["row", *predicted]).to_pylist()]
    bad = [{**dict.fromkeys(predicted), **row} for row in quarantined.select(["row", "reason"]).to_pylist()]
    rows = sorted(good + bad, key=lambda row: row["row"])
    return [{name: value for name, value in row.items() if name != "row"} for row in rows]


def assert_alike(rows: list[dict], expected: list[dict]) -> None:
    """Fail unless the answers are the same: numbers to five digits."""
    assert len(rows) == len(expected)
    for number, (row, other) in enumerate(zip(rows, expected, strict=True)):
        near = {k: pytest.approx(v, rel=1e-5, abs=1e-5) for k, v in other.items() if isinstance(v, float)}
        assert row == {**other, **near}, number


def answers(text: str) -> list[dict]:
    """The rows of a server's answer, which must be JSON as the standard has it."""
    return json.loads(text, parse_constant=lambda name: pytest.fail(f"{name} is no JSON"))["predictions"]


def plain(cell: Any) -> Any:
    """A cell as JSON has it."""
    if isinstance(cell, date | datetime):
        return cell.isoformat()
    return str(cell) if isinstance(cell, Decimal) else cell


def cells(raw: pa.Table) -> list[list]:
    return [[plain(cell) for cell in row.values()] for row in raw.to_pylist()]


def split(raw: pa.Table) -> bytes:
    return json.dumps({"dataframe_split": {"columns": raw.column_names, "data": cells(raw)}}).encode()


def records(raw: pa.Table) -> bytes:
    """Records in which a missing cell has no key."""
    rows = [dict(zip(raw.column_names, row, strict=True)) for row in cells(raw)]
    return json.dumps({"dataframe_records": [{k: v for k, v in row.items() if v is not None} for row in rows]}).encode()


def csv_text(raw: pa.Table) -> bytes:
    held = io.StringIO()
    csv.writer(held).writerows([raw.column_names, *cells(raw)])
    return held.getvalue().encode()


def parquet(raw: pa.Table) -> bytes:
    held = io.BytesIO()
    pq.write_table(raw, held)
    return held.getvalue()


JSON = "application/json"
BODIES = {
    "split": (split, JSON),
    "records": (records, JSON),
    "csv": (csv_text, "text/csv"),
    "parquet": (parquet, "application/vnd.apache.parquet"),
}

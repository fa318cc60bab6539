"""Models logged into stores of their own, and processes that know nothing of this project's folder."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Any

import mlflow
import pyarrow as pa
import pytest

from baton.networks import build
from baton.serving import export
from baton.serving.raw_columns import RawColumnModel


def untrained(config: Any, dataset: Any) -> RawColumnModel:
    return RawColumnModel(dataset.preprocessor, build.build(dataset.preprocessor, config.model))


def log(model: RawColumnModel, raw: pa.Table, folder: Path) -> Path:
    """Log a model into a store in `folder` → the folder it was downloaded into."""
    before = mlflow.get_tracking_uri()
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{folder}/mlflow.db")
        mlflow.set_tracking_uri(f"sqlite:///{folder}/mlflow.db")
        experiment = mlflow.create_experiment("tiny", artifact_location=(folder / "artifacts").as_uri())
        path = list(sys.path)
        with mlflow.start_run(experiment_id=experiment):
            uri = export.log_model(model.preprocessor, model.network, raw, {"fingerprint": "f"})
        assert sys.path == path, "a process started later would import the model's copy of the package"
        downloaded = mlflow.artifacts.download_artifacts(uri, dst_path=str(folder / "downloaded"))
        mlflow.set_tracking_uri(before)
    return Path(downloaded)


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

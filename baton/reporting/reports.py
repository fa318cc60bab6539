"""What a step logs for people to look at: pages, figures and MLflow dataset inputs."""

from __future__ import annotations

import json
import math
from collections import Counter
from typing import Any

import numpy as np

from baton import names
from baton.config.schema import Config
from baton.data.dataset import Dataset
from baton.data.preprocessing import Preprocessor
from baton.evaluation import calibration
from baton.reporting.figures import evaluation as figures
from baton.tracking import runs
from baton.tracking.runs import Run

FIGURE_ROWS = 250_000


def profile(config: Config, run: Run, dataset: Dataset, reasons: Counter[str]) -> None:
    """The data profile as a page and a figure of the target."""
    from baton.reporting.html import pages

    columns = json.loads((dataset.folder / names.PROFILE).read_text())
    fitted = dataset.preprocessor
    entry = columns[fitted.target]
    if fitted.classes:
        drawn = figures.target(None, entry["top"], fitted.target)
    else:
        drawn = figures.target(_target(dataset), None, fitted.target)
    uris = {name: pages.figure_uri(figure) for name, figure in drawn.items()}
    page = pages.profile_page(
        config.name, dataset.manifest, columns, [c.to_dict() for c in fitted.columns], dict(reasons), uris
    )
    run.text(page, "profile.html")
    run.figures(drawn)


def log_inputs(run: Run, dataset: Dataset, splits: tuple[str, ...]) -> None:
    """The dataset as an MLflow input of the run; its digest is the fingerprint, cut to MLflow's 36."""
    from mlflow.data.filesystem_dataset_source import FileSystemDatasetSource  # noqa: F401
    from mlflow.data.meta_dataset import MetaDataset
    from mlflow.data.sources import LocalArtifactDatasetSource
    from mlflow.entities import DatasetInput, InputTag
    from mlflow.types.schema import ColSpec, Schema

    types = {"number": "float", "category": "integer", "image": "binary"}
    schema = Schema([ColSpec(types[e.kind], e.name) for e in dataset.preprocessor.encoded])
    inputs = []
    for split in splits:
        source = LocalArtifactDatasetSource(str((dataset.folder / split).absolute()))
        meta = MetaDataset(source, name=split, digest=dataset.fingerprint[:36], schema=schema)
        inputs.append(DatasetInput(meta._to_mlflow_entity(), [InputTag("mlflow.data.context", split)]))
    runs.log_inputs(run, inputs)


def evaluation(run: Run, fitted: Preprocessor, truth: np.ndarray, output: np.ndarray) -> None:
    """Figures of predictions against the truth; of every so many-th row where there are more than a figure shows.

    `fitted` is the model's own, which knows its threshold and its temperature.
    """
    every = math.ceil(len(truth) / FIGURE_ROWS)
    truth, output = truth[::every], output[::every]
    if not fitted.classes:
        run.figures(figures.regression(truth, output[:, 0], fitted.target))
        return
    warm = fitted.spec["target"].get("calibration")
    bare = calibration.scaled(output, 1 / warm["temperature"]) if warm and warm["applied"] else None
    run.figures(figures.classification(truth, output, fitted.classes, threshold=fitted.threshold, bare=bare))


def _target(dataset: Dataset) -> Any:
    import pyarrow.parquet as pq

    column = dataset.preprocessor.target_encoded
    return np.concatenate([pq.read_table(f, columns=[column])[column].to_numpy() for f in dataset.files("train")])

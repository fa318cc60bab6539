"""A dataset as the input of an MLflow run."""

from __future__ import annotations

from baton.data.dataset import Dataset
from baton.tracking import runs
from baton.tracking.runs import Run


def log_dataset(run: Run, dataset: Dataset, splits: tuple[str, ...]) -> None:
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

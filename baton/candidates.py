"""A trained `Result` in, a candidate run out: evaluation, figures, model, inputs; and back again."""

from __future__ import annotations

import hashlib
import logging
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

from baton import figures, fit, metrics, names, reports, runs, serving, trained_on
from baton.config import Config
from baton.dataset import Dataset
from baton.feed import Feed
from baton.runs import Run

log = logging.getLogger("baton")


@contextmanager
def autologging(run: Run) -> Iterator[None]:
    """MLflow's TensorFlow autologging: epoch metrics, fit parameters, model summary, TensorBoard logs."""
    import mlflow

    mlflow.tensorflow.autolog(log_models=False, log_datasets=False, log_every_epoch=True, silent=True)
    try:
        yield
    finally:
        mlflow.tensorflow.autolog(disable=True, silent=True)


def log_candidate(config: Config, run: Run, dataset: Dataset, result: fit.Result) -> None:
    """Evaluate on validation and log everything that register and people need of a candidate."""
    fitted = dataset.preprocessor
    truth, output = fit.answers(result.model, Feed(dataset, "validation", fit.PREDICT_ROWS))
    validation = metrics.evaluate(truth, output)
    log.info("validation: %s", "  ".join(f"{k} {v:.4f}" for k, v in validation.items()))
    run.metrics({f"validation_{name}": value for name, value in validation.items()})
    run.params(_params(config))
    run.figures(figures.curves(result.history))
    reports.evaluation(run, fitted.task, fitted.classes, truth, output, fitted.target)
    reports.log_inputs(run, dataset, ("train", "validation"))
    example = dataset.raw_example(100)
    metadata = {"fingerprint": dataset.fingerprint, "run_id": run.id}
    known = trained_on.load(dataset.folder)
    known = known and known.predicting(fitted.decode_prediction(output)[names.PREDICTION])
    uri = serving.log_model(fitted, result.model, example, metadata, known)
    _log_network(run, result.model)
    run.tag(names.TAG_MODEL_URI, uri)
    run.tag(names.TAG_FINGERPRINT, dataset.fingerprint)
    run.tag(names.TAG_OUTPUT, _content(dataset, result.model))
    run.tag(names.TAG_DATASET, str(dataset.folder))
    evaluation = {
        "validation": validation,
        "best_epoch": result.best_epoch,
        "history": result.history,
        "seconds": result.seconds,
        "restarts": result.restarts,
        "parameters": result.model.count_params(),
        "files": runs.model_files(uri),
    }
    run.json(evaluation, names.EVALUATION)


def test_output(model: serving.RawColumnModel, dataset: Dataset) -> np.ndarray:
    """A candidate's output on the encoded test rows, the way training sees them."""
    return fit.answers(model.network, Feed(dataset, "test", fit.PREDICT_ROWS))[1]


def _content(dataset: Dataset, network: Any) -> str:
    """A candidate's content: its dataset, its network and every weight, as a hash."""
    content = hashlib.sha256(f"{dataset.fingerprint}{network.to_json()}".encode())
    for weight in network.get_weights():
        content.update(weight.tobytes())
    return content.hexdigest()


def _params(config: Config) -> dict[str, Any]:
    """The model and train sections, flat, as MLflow parameters."""
    dump = config.dump()
    return {f"{section}.{key}": value for section in ("model", "train") for key, value in dump[section].items()}


def _log_network(run: Run, network: Any) -> None:
    """The Keras model of encoded columns, beside the raw-column model, for people who go on with it."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / serving.KERAS_FILE
        network.save(path)
        run.file(path, "keras")

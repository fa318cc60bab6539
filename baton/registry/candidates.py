"""A trained `Result` in, a candidate run out: evaluation, figures, model, inputs; and back again."""

from __future__ import annotations

import hashlib
import json
import logging
import tempfile
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import yaml

from baton import names
from baton.config.schema import RENAMED, Config, validate, with_new_names
from baton.data import reference
from baton.data.dataset import Dataset
from baton.data.feed import Feed
from baton.data.preprocessing import Preprocessor
from baton.evaluation import assessment, calibration, metrics
from baton.monitoring import picture_drift
from baton.networks import ensemble, layers, prediction
from baton.registry import pretrained, view_selection
from baton.reporting.figures import assessment as figures_assessment
from baton.reporting.figures import evaluation as figures
from baton.reporting.figures import pictures, training, transfer, views
from baton.serving import export, layout, raw_columns
from baton.tracking import inputs, runs
from baton.tracking.runs import Run
from baton.training import callbacks, objective_race

log = logging.getLogger("baton")


def config_of(candidate: Any) -> Config:
    """The config that a candidate's run was given, with the hyperparameters that its tune run found."""
    tree = with_new_names(runs.artifact(candidate, names.CONFIG, yaml.safe_load))
    config = validate(tree, {}, f"run {candidate.info.run_id}")
    if not (tune := runs.parameters(candidate).get("tune_run_id")):
        return pretrained.local(config)
    best = runs.artifact(runs.of_step(tune, "tune", "tune_run_id"), names.BEST_PARAMETERS)
    return pretrained.local(config.overridden({RENAMED.get(key, key): value for key, value in best.items()}))


@contextmanager
def autologging(run: Run) -> Iterator[None]:
    """MLflow's TensorFlow autologging: epoch metrics, fit parameters, model summary, TensorBoard logs."""
    import mlflow

    mlflow.tensorflow.autolog(log_models=False, log_datasets=False, log_every_epoch=True, silent=True)
    try:
        yield
    finally:
        mlflow.tensorflow.autolog(disable=True, silent=True)


def unlogged() -> AbstractContextManager[None]:
    """Within it, what `autologging` would log is not: epochs of a network that only races another."""
    from mlflow.utils.autologging_utils import disable_autologging

    return disable_autologging()


def log_candidate(config: Config, run: Run, dataset: Dataset, result: callbacks.Result) -> None:
    """Choose views, calibrate, evaluate on validation; log everything that register and people need of a candidate."""
    config = objective_race.settled(config, result.objective)
    network, selection = view_selection.select(config, dataset, result.model)
    model, rows = finished(config, dataset, network)
    evaluation = log_finished(config, run, dataset, model, rows)
    run.params(_params(config))
    contest = result.objective.get("contest", {})
    run.metrics({f"objective_{name}_{config.primary_metric}": value for name, value in contest.items()})
    run.figures(training.curves(result.history))
    if result.pictures:
        run.figures(pictures.augmented(*result.pictures, result.augmentation))
    run.figures(transfer.depths(result.transfer))
    if selection:
        run.figures(views.draw(selection.to_dict(), next(rows.feed.in_order())["image"][0]))
    evaluation |= {
        "best_epoch": result.best_epoch,
        "history": result.history,
        "seconds": result.seconds,
        "restarts": result.restarts,
        "augmentation": result.augmentation,
        "transfer": result.transfer,
        "objective": result.objective,
        "views": selection and selection.to_dict(),
    }
    run.json(evaluation, names.EVALUATION)


def log_finished(
    config: Config, run: Run, dataset: Dataset, model: raw_columns.RawColumnModel, rows: EvaluatedSplit
) -> dict[str, Any]:
    """A finished model and its answers on validation → what evaluation.json says of any candidate; its model, tags and
    figures are logged."""
    preprocessor = model.preprocessor
    validation = rows.metrics(preprocessor)
    log.info("validation: %s", "  ".join(f"{k} {v:.4f}" for k, v in validation.items()))
    run.metrics({f"validation_{name}": value for name, value in validation.items()})
    assessed = assess(config, run, preprocessor, rows)
    if sentence := assessment.uneven(config, preprocessor):
        log.info("%s", sentence)
    run.figures(figures.draw(preprocessor, rows.targets, rows.output))
    inputs.log_dataset(run, dataset, ("train", "validation"))
    uri = _log_model(run, dataset, model, rows)
    return {
        "validation": validation,
        "metric": config.primary_metric,
        "assessment": assessed,
        "parameters": model.network.count_params(),
        "files": runs.model_files(uri),
    }


def _log_model(run: Run, dataset: Dataset, model: raw_columns.RawColumnModel, rows: EvaluatedSplit) -> str:
    """Log a finished model with what travels with it, and tag its run with what register asks for; its URI."""
    preprocessor = model.preprocessor
    known = what_travels(dataset, model, rows)
    travels = known is not None and known.rows.num_rows > 0
    example = dataset.raw_example(100) if travels else None
    metadata = {"fingerprint": dataset.fingerprint, "run_id": run.id}
    uri = export.log_model(preprocessor, model.network, example, metadata, known)
    _log_network(run, model.network)
    run.tag(names.TAG_MODEL_URI, uri)
    run.tag(names.TAG_FINGERPRINT, dataset.fingerprint)
    run.tag(names.TAG_NETWORK, _network(dataset, model))
    run.tag(names.TAG_OUTPUT, _handed_on(dataset, run))
    run.tag(names.TAG_DATASET, str(dataset.folder))
    return uri


@dataclass(frozen=True)
class EvaluatedSplit:
    """A split's encoded rows, the way training sees them, with a model's output on them [rows, k]."""

    feed: Feed
    targets: np.ndarray
    output: np.ndarray

    @staticmethod
    def of(network: Any, dataset: Dataset, split: str, held_bytes: int | None = None) -> EvaluatedSplit:
        """A network's answers; where the split takes more bytes than are given, it is read a row group at a time."""
        feed = Feed(dataset, split, prediction.PREDICT_ROWS)
        if held_bytes is not None:
            feed.shuffle_rows = min(feed.shuffle_rows, held_bytes // dataset.preprocessor.row_bytes)
        return EvaluatedSplit(feed, *prediction.predict_all(network, feed))

    def metrics(self, preprocessor: Preprocessor) -> dict[str, float]:
        """All metrics, of what the model decides."""
        return metrics.evaluate(self.targets, self.output, preprocessor.threshold, preprocessor.metric)


def finished(config: Config, dataset: Dataset, network: Any) -> tuple[raw_columns.RawColumnModel, EvaluatedSplit]:
    """A trained network → the model with all that is fitted on validation, and its answers there."""
    preprocessor = dataset.preprocessor
    rows = EvaluatedSplit.of(network, dataset, "validation")
    least = 0.0 if ensemble.is_above_zero(network) else None
    kept = assessment.fit_postprocessing(config, preprocessor, rows.targets, rows.output, least)
    warm = kept.get("calibration")
    if warm and warm["applied"]:
        network = layers.calibrated(network, warm["temperature"])
        rows = replace(rows, output=calibration.scaled(rows.output, warm["temperature"]))
    return raw_columns.RawColumnModel(preprocessor.with_target(kept), network), rows


def what_travels(
    dataset: Dataset, model: raw_columns.RawColumnModel, rows: EvaluatedSplit
) -> reference.ReferenceData | None:
    """A finished model and its answers on validation → what new rows will be compared with; None of an old dataset."""
    known = reference.load(dataset.folder)
    if known is None:
        return None
    known = known.predicting(model.preprocessor.decode_prediction(rows.output)[names.PREDICTION])
    if not known.pictures:
        return known
    return replace(known, picture_features=picture_drift.to_travel(model.network, rows.feed, known.pictures))


def assess(config: Config, run: Run, preprocessor: Preprocessor, rows: EvaluatedSplit) -> dict[str, Any]:
    """A model's answers on a split → its Assessment, logged in a few lines and as figures."""
    split = rows.feed.split
    assessed = assessment.assess(config, preprocessor, split, rows.feed.in_order(), rows.targets, rows.output)
    for line in assessment.log_lines(assessed, config.primary_metric):
        log.info("%s: %s", split, line)
    run.figures(figures_assessment.drawn(assessed, preprocessor.spec["target"], config.primary_metric))
    return assessed


def _network(dataset: Dataset, model: raw_columns.RawColumnModel) -> str:
    """What a candidate answers by: the encoded rows it learnt from, its network with every weight, and how it answers,
    as a hash. Models that carry other data beside these have the same."""
    answers = json.dumps(model.preprocessor.spec["target"], sort_keys=True)
    return export.weights_hash(model.network, dataset.fingerprint, answers)


def _handed_on(dataset: Dataset, run: Run) -> str:
    """All that register reads of a candidate: its dataset with the test rows as they came, and its model, as a hash."""
    raw = [file["sha256"] for file in dataset.manifest["raw_test"]]
    model = runs.client().get_run(run.id).data.tags[names.TAG_MODEL_CONTENT]
    return hashlib.sha256(json.dumps([dataset.content, raw, model]).encode()).hexdigest()


def _params(config: Config) -> dict[str, Any]:
    """The model and train sections, flat, as MLflow parameters."""
    dump = config.dump()
    return {f"{section}.{key}": value for section in ("model", "train") for key, value in dump[section].items()}


def _log_network(run: Run, network: Any) -> None:
    """The Keras model of encoded columns, beside the raw-column model, for people who go on with it."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / layout.KERAS_FILE
        network.save(path)
        run.file(path, "keras")

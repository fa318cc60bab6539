"""A candidate, its dataset and the champion in, the `Evidence` for the gate out: every model on the same test rows."""

from __future__ import annotations

import logging
from typing import Any

import numpy as np
import pyarrow as pa

from baton import names
from baton.config.schema import Config
from baton.data.dataset import Dataset
from baton.evaluation import metrics
from baton.registry import gate, versions
from baton.registry.gate import Champion, Evidence
from baton.serving.raw_columns import RawColumnModel
from baton.tracking import runs

log = logging.getLogger("baton")


CHAMPION, TRIVIAL = "champion", "trivial"
MAX_REASON = 500  # characters of an error, as a reason


def gather(
    config: Config, chosen: Any, dataset: Dataset, model: RawColumnModel, champion: Any, encoded: np.ndarray
) -> tuple[Evidence, np.ndarray, np.ndarray]:
    """A candidate's run, dataset and model, and the champion or None → (evidence, targets, the candidate's output).

    `encoded` is the candidate's output on the encoded test rows.
    """
    raw = dataset.raw_test()
    targets, output = model.evaluate(raw)
    evidence = Evidence(
        metrics=measured(targets, output, model.preprocessor.threshold),
        trivial=metrics.evaluate(targets, metrics.trivial(model.preprocessor.spec["target"], len(targets))),
        losses=losses(targets, output),
        skew=gate.skew(encoded, output),
        fingerprints={
            "dataset": dataset.fingerprint,
            "run": chosen.data.tags.get(names.TAG_FINGERPRINT, ""),
            "model": versions.fingerprint(chosen.data.tags[names.TAG_MODEL_URI]),
        },
        champion=None if champion is None else champion_losses(config, champion, model, raw, targets),
        rolled_back=versions.rolled_back(config.name, chosen.data.tags[names.TAG_OUTPUT]),
    )
    return evidence, targets, output


def measured(targets: np.ndarray, predictions: np.ndarray, threshold: float) -> dict[str, float]:
    """Targets and predictions as in `metrics.evaluate` → all metrics; none if an output is not finite."""
    return metrics.evaluate(targets, predictions, threshold) if np.isfinite(predictions).all() else {}


def losses(targets: np.ndarray, predictions: np.ndarray) -> np.ndarray:
    """Targets [rows] and predictions [rows, k] → each row's loss, nan where an output is not finite."""
    return np.where(np.isfinite(predictions).all(axis=1), metrics.row_losses(targets, predictions), np.nan)


def losses_by_model(
    dataset: Dataset, chosen: Any, candidate_ids: list[str], gathered: Evidence, targets: np.ndarray
) -> dict[str, np.ndarray]:
    """Each candidate's, the champion's and the trivial predictor's loss on every test row."""
    raw = dataset.raw_test()
    by_name: dict[str, np.ndarray] = {}
    for run_id in candidate_ids:
        candidate = runs.of_steps(run_id, ("train", "distributed_train"), "candidate_run_ids")
        name = str(candidate.data.tags[names.TAG_STEP])
        name = f"{name} {run_id[:8]}" if name in by_name else name
        if run_id == chosen.info.run_id:
            by_name[name] = gathered.losses
            continue
        other = versions.load(candidate.data.tags[names.TAG_MODEL_URI], candidate.data.tags)
        by_name[name] = losses(*other.evaluate(raw))
    champion = None if gathered.champion is None else gathered.champion.losses
    if champion is not None and len(champion) == len(gathered.losses):
        by_name[CHAMPION] = champion
    by_name[TRIVIAL] = metrics.row_losses(targets, metrics.trivial(dataset.preprocessor.spec["target"], len(targets)))
    return by_name


def champion_losses(
    config: Config, champion: Any, model: RawColumnModel, raw: pa.Table, targets: np.ndarray
) -> Champion:
    """The champion's version on the candidate's raw test rows → `Champion`, with the error if it fails in any way."""
    number = str(champion.version)
    try:
        output = versions.load(f"models:/{config.name}/{number}", champion.tags).answers(raw, model.preprocessor)
        return Champion(number, losses(targets, output))
    except Exception as error:  # whatever it is: the gate refuses, and says it
        log.exception("the champion cannot be scored")
        return Champion(number, error=runs.sentence(error)[:MAX_REASON])

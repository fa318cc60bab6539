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
from baton.registry.gate import Evidence, Rival
from baton.serving.raw_columns import RawColumnModel
from baton.tracking import runs

log = logging.getLogger("baton")


CHAMPION, TRIVIAL = "champion", "trivial"
LONGEST = 500  # characters of an error, as a reason


def gather(
    config: Config, chosen: Any, dataset: Dataset, model: RawColumnModel, champion: Any, encoded: np.ndarray
) -> tuple[Evidence, np.ndarray, np.ndarray]:
    """A candidate's run, dataset and model, and the champion or None → (evidence, truth, the candidate's output).

    `encoded` is the candidate's output on the encoded test rows.
    """
    raw = dataset.raw_test()
    truth, output = model.evaluate(raw)
    evidence = Evidence(
        metrics=measured(truth, output, model.fitted.threshold),
        trivial=metrics.evaluate(truth, metrics.trivial(model.fitted.spec["target"], len(truth))),
        losses=losses(truth, output),
        skew=gate.skew(encoded, output),
        fingerprints={
            "dataset": dataset.fingerprint,
            "run": chosen.data.tags.get(names.TAG_FINGERPRINT, ""),
            "model": versions.fingerprint(chosen.data.tags[names.TAG_MODEL_URI]),
        },
        rival=None if champion is None else rival(config, champion, model, raw, truth),
        rolled_back=versions.rolled_back(config.name, chosen.data.tags[names.TAG_OUTPUT]),
    )
    return evidence, truth, output


def measured(truth: np.ndarray, output: np.ndarray, threshold: float) -> dict[str, float]:
    """Truth and output as in `metrics.evaluate` → all metrics; none if an output is not finite."""
    return metrics.evaluate(truth, output, threshold) if np.isfinite(output).all() else {}


def losses(truth: np.ndarray, output: np.ndarray) -> np.ndarray:
    """Truth [rows] and output [rows, k] → each row's loss, nan where an output is not finite."""
    return np.where(np.isfinite(output).all(axis=1), metrics.row_losses(truth, output), np.nan)


def losses_by_model(
    dataset: Dataset, chosen: Any, candidate_ids: list[str], found: Evidence, truth: np.ndarray
) -> dict[str, np.ndarray]:
    """Each candidate's, the champion's and the trivial predictor's loss on every test row."""
    raw = dataset.raw_test()
    by_name: dict[str, np.ndarray] = {}
    for run_id in candidate_ids:
        candidate = runs.of_steps(run_id, ("train", "distributed_train"), "candidate_run_ids")
        name = str(candidate.data.tags[names.TAG_STEP])
        name = f"{name} {run_id[:8]}" if name in by_name else name
        if run_id == chosen.info.run_id:
            by_name[name] = found.losses
            continue
        other = versions.load(candidate.data.tags[names.TAG_MODEL_URI], candidate.data.tags)
        by_name[name] = losses(*other.evaluate(raw))
    if found.rival is not None and found.rival.losses is not None and len(found.rival.losses) == len(found.losses):
        by_name[CHAMPION] = found.rival.losses
    by_name[TRIVIAL] = metrics.row_losses(truth, metrics.trivial(dataset.preprocessor.spec["target"], len(truth)))
    return by_name


def rival(config: Config, champion: Any, model: RawColumnModel, raw: pa.Table, truth: np.ndarray) -> Rival:
    """The champion's version on the candidate's raw test rows → `Rival`, with the error if it fails in any way."""
    number = str(champion.version)
    try:
        output = versions.load(f"models:/{config.name}/{number}", champion.tags).answers(raw, model.fitted)
        return Rival(number, losses(truth, output))
    except Exception as error:  # whatever it is: the gate refuses, and says it
        log.exception("the champion cannot be scored")
        return Rival(number, error=runs.sentence(error)[:LONGEST])

"""A candidate, its dataset and the champion in, the `Evidence` for the gate out: every model on the same test rows."""

from __future__ import annotations

import json
import logging
from collections.abc import Sequence
from dataclasses import asdict, replace
from typing import Any

import numpy as np

from baton import names
from baton.config.schema import Config
from baton.data import overlap as overlaps
from baton.data.dataset import Dataset
from baton.data.preprocessing import Preprocessor
from baton.data.raw_rows import RawRows
from baton.errors import BadInput
from baton.evaluation import intervals, metrics
from baton.evaluation.differences import Moments
from baton.registry import gate, looks, versions
from baton.registry.gate import Champion, Evidence, NewClasses, Overlap
from baton.serving.raw_columns import RawColumnModel
from baton.tracking import runs

log = logging.getLogger("baton")


CHAMPION, TRIVIAL = "champion", "trivial"
MAX_REASON = 500  # characters of an error, as a reason


def gather(
    config: Config,
    models: Sequence[str],
    chosen: Any,
    dataset: Dataset,
    model: RawColumnModel,
    champion: Any,
    encoded: np.ndarray,
) -> tuple[Evidence, np.ndarray, np.ndarray]:
    """A candidate's run, dataset and model, and the champion or None → (evidence, targets, the candidate's output).

    `models` are the registered model that it is judged for and others whose versions were asked about the same rows;
    `encoded` is the candidate's output on the encoded test rows.
    """
    raw = dataset.raw_rows()
    targets, output = model.evaluate(raw)
    network, classes = versions.network_of(chosen.data.tags), model.preprocessor.classes
    sketch = looks.sketch(raw, model.preprocessor)
    asked = [version for name in models for version in versions.versions(name)]
    incumbent = None if champion is None else champion_losses(config, champion, model, raw, targets, output)
    evidence = Evidence(
        metrics=measured(targets, output, model.preprocessor.threshold, config.primary_metric),
        trivial=trivial_losses(config, model.preprocessor, targets),
        losses=losses(targets, output, config.primary_metric),
        skew=gate.skew(encoded, output),
        fingerprints={
            "dataset": dataset.fingerprint,
            "run": chosen.data.tags.get(names.TAG_FINGERPRINT, ""),
            "model": versions.fingerprint(chosen.data.tags[names.TAG_MODEL_URI]),
        },
        champion=incumbent and related(incumbent, chosen.data.tags, champion.tags),
        rolled_back=versions.rolled_back(models[0], network),
        looks=looks.count(asked, network, dataset.fingerprint, sketch),
        sketch=sketch,
        classes={name: int(np.count_nonzero(targets == index)) for index, name in enumerate(classes)},
        auc=auc_interval(config, targets, output),
    )
    return evidence, targets, output


def related(incumbent: Champion, candidate: dict[str, str], champion: dict[str, str]) -> Champion:
    """A champion, and the tags of the candidate and of it → the champion with whether it is the candidate itself."""
    same = versions.network_of(candidate) == versions.network_of(champion) != ""
    return replace(
        incumbent, same_network=same, other_data=versions.content_of(candidate) != versions.content_of(champion)
    )


def auc_interval(config: Config, targets: np.ndarray, predictions: np.ndarray) -> list[float] | None:
    """Targets and predictions as in `metrics.evaluate` → the interval of roc_auc; None where there is none."""
    if predictions.shape[1] != 2 or not np.isfinite(predictions).all():
        return None
    settings = config.register_
    return intervals.of_auc(targets, predictions[:, 1], settings.confidence, settings.resamples, config.seed)


def measured(targets: np.ndarray, predictions: np.ndarray, threshold: float, metric: str) -> dict[str, float]:
    """Targets and predictions as in `metrics.evaluate` → all metrics; none if an output is not finite."""
    return metrics.evaluate(targets, predictions, threshold, metric) if np.isfinite(predictions).all() else {}


def losses(targets: np.ndarray, predictions: np.ndarray, metric: str | None = None) -> np.ndarray:
    """Targets [rows] and predictions [rows, k] → each row's loss, nan where an output is not finite."""
    return np.where(np.isfinite(predictions).all(axis=1), metrics.row_losses(targets, predictions, metric), np.nan)


def trivial_losses(config: Config, preprocessor: Preprocessor, targets: np.ndarray) -> np.ndarray:
    """Targets [rows] → the trivial predictor's loss on each row."""
    trivial = metrics.trivial(preprocessor.spec["target"], len(targets))
    return metrics.row_losses(targets, trivial, config.primary_metric)


def losses_by_model(
    config: Config,
    dataset: Dataset,
    chosen: Any,
    candidate_ids: list[str],
    gathered: Evidence,
    targets: np.ndarray,
) -> dict[str, np.ndarray]:
    """Each candidate's, an ensemble's, the champion's and the trivial predictor's loss on every test row."""
    raw = dataset.raw_rows()
    judged = {str(chosen.data.tags[names.TAG_STEP]): gathered.losses}  # an ensemble is none of the candidates
    by_name: dict[str, np.ndarray] = {} if chosen.info.run_id in candidate_ids else judged
    for name, candidate in candidates_by_name(candidate_ids).items():
        if candidate.info.run_id == chosen.info.run_id:
            by_name[name] = gathered.losses
            continue
        other = versions.load(candidate.data.tags[names.TAG_MODEL_URI], candidate.data.tags)
        by_name[name] = losses(*other.evaluate(raw), config.primary_metric)
    if (champion := champion_on_all_rows(gathered)) is not None:
        by_name[CHAMPION] = champion
    by_name[TRIVIAL] = trivial_losses(config, dataset.preprocessor, targets)
    return by_name


def champion_on_all_rows(gathered: Evidence) -> np.ndarray | None:
    """The champion's losses, if it was compared on every test row."""
    held = None if gathered.champion is None else gathered.champion.losses
    return held if held is not None and len(held) == len(gathered.losses) else None


def candidates_by_name(candidate_ids: list[str]) -> dict[str, Any]:
    """The candidates' runs, each called by its step; a second one of a step by its run, too."""
    by_name: dict[str, Any] = {}
    for run_id in candidate_ids:
        candidate = runs.of_steps(run_id, ("train", "distributed_train"), "candidate_run_ids")
        name = str(candidate.data.tags[names.TAG_STEP])
        by_name[f"{name} {run_id[:8]}" if name in by_name else name] = candidate
    return by_name


def models_by_name(chosen: Any, model: RawColumnModel, candidate_ids: list[str], champion: Any) -> dict[str, Any]:
    """The candidates' models, that of what was chosen, which is at hand, and that of a champion, if there is one."""
    found = {
        name: model
        if candidate.info.run_id == chosen.info.run_id
        else versions.load(candidate.data.tags[names.TAG_MODEL_URI], candidate.data.tags)
        for name, candidate in candidates_by_name(candidate_ids).items()
    }
    found.setdefault(str(chosen.data.tags[names.TAG_STEP]), model)  # none of the candidates, but made of them
    if champion is not None:
        found[CHAMPION] = versions.load(f"models:/{champion.name}/{champion.version}", champion.tags)
    return found


def champion_losses(
    config: Config, champion: Any, model: RawColumnModel, raw: RawRows, targets: np.ndarray, predictions: np.ndarray
) -> Champion:
    """The champion's version on the candidate's raw test rows → `Champion`, with the error if it fails in any way.

    `model` is the candidate's, and `predictions` are its output on these rows.
    """
    number = str(champion.version)
    try:
        held = versions.load(f"models:/{champion.name}/{number}", champion.tags)
        answers = held.answers(raw, model.preprocessor)
        overlap, rows = shared_rows(config, raw, held.preprocessor)
        targets, predictions, answers = targets[rows], predictions[rows], answers[rows]
        mine, theirs = model.preprocessor.classes, held.preprocessor.classes
        if set(mine) != set(theirs):
            found = of_shared_classes(number, mine, theirs, targets, predictions, answers)
        else:
            candidate = None if rows.all() else losses(targets, predictions, config.primary_metric)
            found = Champion(number, losses(targets, answers, config.primary_metric), candidate=candidate)
        return replace(found, overlap=overlap)
    except Exception as error:  # whatever it is: the gate refuses, and says it
        log.exception("the champion cannot be scored")
        return Champion(number, error=runs.sentence(error)[:MAX_REASON])


def shared_rows(config: Config, raw: RawRows, champion: Preprocessor) -> tuple[Overlap | None, np.ndarray]:
    """Test rows → where the champion's own splits have them, and which are test rows there too [rows].

    All of them where that cannot be known. Raises `BadInput` if too few are.
    """
    places = overlaps.places(raw, champion)
    if places is None:
        return None, np.ones(raw.num_rows, bool)
    found = Overlap(*np.bincount(places, minlength=3).tolist())
    least = config.register_.min_test_rows
    if found.test < min(least, found.rows):
        raise BadInput(
            f"it was split otherwise: of {found.rows:,} test rows {found.train:,} would be its train rows, and only "
            f"{found.test:,} are test rows of both (register.min_test_rows {least:,}). Name what identifies a row in "
            f"data.id, so that rows keep their split, or give the model another name"
        )
    return found, places == overlaps.TEST


def of_shared_classes(
    number: str, mine: list[str], theirs: list[str], targets: np.ndarray, predictions: np.ndarray, answers: np.ndarray
) -> Champion:
    """A candidate's and the champion's classes, targets, and the output of both [rows, classes of the candidate] →
    `Champion` of the rows whose class both know, each asked which of these classes it is; and what is new."""
    shared = np.isin(mine, theirs)
    rows = shared[targets]
    place = np.cumsum(shared) - 1  # of a class among the shared ones
    held, other = (losses(place[targets[rows]], _among(values[rows][:, shared])) for values in (predictions, answers))
    return Champion(number, other, candidate=held, new=_new_classes(mine, shared, targets, predictions))


def _among(probabilities: np.ndarray) -> np.ndarray:
    """Probabilities of some of the classes → those given that it is one of them; equal where all are 0."""
    total = probabilities.sum(axis=1, keepdims=True, dtype=np.float64)
    return np.divide(
        probabilities, total, out=np.full(probabilities.shape, 1 / max(probabilities.shape[1], 1)), where=total != 0
    )


def _new_classes(
    mine: list[str], shared: np.ndarray, targets: np.ndarray, predictions: np.ndarray
) -> NewClasses | None:
    """What the candidate says of the test rows whose class the champion does not know; None if there are none."""
    rows = ~shared[targets]
    if not rows.any():
        return None
    there = tuple(name for index, name in enumerate(mine) if not shared[index] and (targets == index).any())
    hits = int(np.count_nonzero(predictions[rows].argmax(axis=1) == targets[rows]))
    return NewClasses(there, int(rows.sum()), float(losses(targets[rows], predictions[rows]).mean()), hits)


def tags(evidence: Evidence) -> dict[str, str]:
    """What a version keeps of the test rows: to know them again, how often they were asked, and its loss on them.

    None of a model whose output is not finite: nothing was seen of it.
    """
    if not evidence.metrics:
        return {}
    moments = json.dumps(asdict(Moments.of(evidence.losses)))
    kept = {names.TAG_TEST_LOSS: moments, names.TAG_TEST_LOOKS: str(evidence.looks)}
    return kept | ({names.TAG_TEST_ROWS: evidence.sketch.to_tag()} if evidence.sketch else {})

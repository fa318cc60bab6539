"""Candidates and registered versions in, an ensemble of them as a candidate of its own out, if it is surely better.

Members answer by the same encoded columns and were trained on the same rows, so validation is new to all of them, and
their networks go into one, which is logged, checked, judged, served and scored like any candidate's.
"""

from __future__ import annotations

import json
import logging
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from baton import names
from baton.config.schema import Config
from baton.data.dataset import Dataset
from baton.data.preprocessing import Preprocessor
from baton.errors import BadInput
from baton.evaluation import ensembling, metrics
from baton.evaluation.ensembling import EnsembleSelection
from baton.formatting import confidence_text
from baton.networks import ensemble
from baton.registry import candidates, versions
from baton.registry.candidates import EvaluatedSplit
from baton.serving.raw_columns import RawColumnModel
from baton.tracking import runs
from baton.tracking.runs import Run

log = logging.getLogger("baton")

STEP = "ensemble"  # what its run is called


@dataclass(frozen=True)
class Member:
    """A model that may be a member: what it is called, the run that trained it, and what it answers by, as a hash."""

    name: str
    run_id: str
    tag: str
    model: RawColumnModel


def add(config: Config, run: Run, dataset: Dataset, candidate_ids: list[str]) -> Any | None:
    """Log `ensemble.json`, and the ensemble in a run of its own where it is surely better than its best member.

    Returns that run; None where there is none. Raises `BadInput` for a version that can be no member.
    """
    if config.register_.ensemble == "none":
        return None
    members = _members(config, dataset, candidate_ids)
    splits = [EvaluatedSplit.of(member.model.network, dataset, "validation") for member in members]
    finite = [index for index, split in enumerate(splits) if np.isfinite(split.output).all()]
    members, splits = [members[i] for i in finite], [splits[i] for i in finite]
    if len(members) < 2:
        log.info("an ensemble needs two different models whose answers are finite: there is none")
        return None
    outputs = np.stack([split.output for split in splits])
    level = config.register_.confidence
    selection = ensembling.select(config.primary_metric, splits[0].targets, outputs, level, config.seed)
    log.info("%s", _sentence(config, members, selection))
    described = to_dict(config, members, selection)
    logged = _logged(config, run, dataset, members, selection) if selection.is_better else None
    wanted = (names.TAG_MODEL_URI, names.TAG_MODEL_DIGEST, names.TAG_OUTPUT)
    run.json(described | {"tags": {tag: logged.data.tags[tag] for tag in wanted if logged}}, names.ENSEMBLE)
    return logged


def to_dict(config: Config, members: list[Member], selection: EnsembleSelection) -> dict[str, Any]:
    """ensemble.json: the members with their weights and metrics, and how their mean compares with the best of them."""
    metric = config.primary_metric
    listed = [
        {"name": member.name, "run_id": member.run_id, "weight": weight, metric: metrics.of_mean_loss(metric, loss)}
        for member, weight, loss in zip(members, selection.weights, selection.losses, strict=True)
    ]
    return {
        "metric": metric,
        "members": [{key: float(v) if key == metric else v for key, v in each.items()} for each in listed],
        "best": members[selection.best].name,
        metric: float(metrics.of_mean_loss(metric, selection.loss)),
        "difference": asdict(selection.difference),
        "confidence": config.register_.confidence,
        "kept": selection.is_better,
        "sentence": _sentence(config, members, selection),
    }


def _members(config: Config, dataset: Dataset, candidate_ids: list[str]) -> list[Member]:
    """The candidates and the versions that the config names, each network once."""
    asked = config.register_.ensemble
    found = [_of_candidate(run_id) for run_id in candidate_ids]
    found += [_of_version(place, dataset) for place in (asked if isinstance(asked, list) else ())]
    return list({member.tag: member for member in reversed(found)}.values())[::-1]


def _of_candidate(run_id: str) -> Member:
    run = runs.of_steps(run_id, ("train", "distributed_train"), "candidate_run_ids")
    tags = run.data.tags
    name = f"{tags[names.TAG_STEP]} {run_id[:8]}"
    return Member(name, run_id, versions.network_of(tags), versions.load(tags[names.TAG_MODEL_URI], tags))


def _of_version(place: str, dataset: Dataset) -> Member:
    version = versions.at(place, "register.ensemble")
    if why := version.tags.get(names.TAG_ROLLED_BACK):
        raise BadInput(f"register.ensemble names a version that was rolled back: take it out. Received: {place}, {why}")
    model = versions.load(place, version.tags)
    if version.tags.get(names.TAG_FINGERPRINT) != dataset.fingerprint or not _alike(model.preprocessor, dataset):
        raise BadInput(
            "register.ensemble names a version that was trained on other rows or on rows encoded otherwise: it may "
            "have learnt from the rows that weights are chosen and judged on. Name versions of this dataset. "
            f"Received: {place}, of the dataset {version.tags.get(names.TAG_FINGERPRINT, 'unknown')[:12]}, here it is "
            f"{dataset.fingerprint[:12]}"
        )
    run_id = version.tags.get(names.TAG_CANDIDATE_RUN) or version.run_id
    return Member(place, run_id, versions.network_of(version.tags), model)


def _alike(preprocessor: Preprocessor, dataset: Dataset) -> bool:
    """Whether a model sees raw columns as the dataset's own preprocessing has encoded them."""
    mine, theirs = ({**p.spec, "target": p.classes, "split": None} for p in (preprocessor, dataset.preprocessor))
    return json.dumps(mine, sort_keys=True) == json.dumps(theirs, sort_keys=True)


def _logged(config: Config, run: Run, dataset: Dataset, members: list[Member], selection: EnsembleSelection) -> Any:
    """The members of some weight as one network, finished on validation and logged below register's run; its run."""
    used = [(member, weight) for member, weight in zip(members, selection.weights, strict=True) if weight]
    network = ensemble.combined([member.model.network for member, _ in used], [weight for _, weight in used])
    origins = {"candidate_run_ids": ",".join(dict.fromkeys(member.run_id for member, _ in used))}
    with runs.nested(run, STEP, config, origins) as child:
        child.tag("mlflow.project.entryPoint", "register")  # which makes it anew
        child.tag(names.TAG_MEMBERS, ", ".join(f"{weight:.2f} {member.name}" for member, weight in used))
        model, rows = candidates.finished(config, dataset, network)
        child.json(candidates.log_finished(config, child, dataset, model, rows), names.EVALUATION)
    return runs.client().get_run(child.id)


def _sentence(config: Config, members: list[Member], selection: EnsembleSelection) -> str:
    metric, change = config.primary_metric, selection.difference
    ends = f"{confidence_text(config.register_.confidence)} interval [{change.low:+.4g}, {change.high:+.4g}]"
    verb = "is surely better than" if selection.is_better else "is not surely better than"
    used = [(member.name, weight) for member, weight in zip(members, selection.weights, strict=True) if weight]
    mean = " + ".join(f"{weight:.2f} {name}" for name, weight in used)
    value = metrics.of_mean_loss(metric, selection.loss)
    return (
        f"the ensemble {mean} {verb} the best model alone, {members[selection.best].name}: validation {metric} "
        f"{value:.6g}, difference {change.value:+.4g}, {ends}"
    )

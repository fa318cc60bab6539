"""A judged candidate in, a model version with its verdict and aliases out."""

from __future__ import annotations

import json
import logging
import math
from dataclasses import asdict
from typing import Any

from baton import names
from baton.config.schema import Config
from baton.data.dataset import Dataset
from baton.errors import BadInput
from baton.formatting import day_text
from baton.registry import champions, store, versions
from baton.registry.gate import GateDecision
from baton.tracking import runs
from baton.tracking.runs import Run

log = logging.getLogger("baton")


def choose(config: Config, candidate_run_ids: str) -> tuple[Any, dict[str, float]]:
    """Comma-separated run IDs → the run with the best validation metric, and its metrics."""
    ids = candidate_ids(candidate_run_ids)
    if not ids:
        raise BadInput("candidate_run_ids is missing: give it runs of train or distributed_train.")
    candidates = []
    for run_id in ids:
        candidate = runs.of_steps(run_id, ("train", "distributed_train"), "candidate_run_ids")
        evaluation = runs.artifact(candidate, names.EVALUATION)
        _demand_metric(config, run_id, evaluation)
        validation = evaluation["validation"]
        value = validation[config.primary_metric]
        log.info("candidate %s (%s): %s %.6g", candidate.info.run_name, run_id, config.primary_metric, value)
        candidates.append((value if math.isfinite(value) else math.inf, candidate, validation))
    _demand_one_dataset([candidate for _, candidate, _ in candidates])
    _, chosen, validation = min(candidates, key=lambda c: c[0])
    return chosen, validation


def candidate_ids(candidate_run_ids: str) -> list[str]:
    return [part.strip() for part in candidate_run_ids.split(",") if part.strip()]


def _demand_metric(config: Config, run_id: str, evaluation: dict[str, Any]) -> None:
    """Raise `BadInput` for a candidate that learnt by another metric; those of earlier versions name none."""
    own = evaluation.get("metric", names.PRIMARY_METRIC[config.data.task])
    if own != config.primary_metric:
        raise BadInput(
            f"evaluation.primary_metric is {config.primary_metric}, and the candidate {run_id} was trained by another: "
            f"train it anew. Received: a run that was trained by {own}"
        )


def _demand_one_dataset(candidates: list[Any]) -> None:
    found = {candidate.data.tags.get(names.TAG_FINGERPRINT, "")[:12] for candidate in candidates}
    if len(found) > 1:
        raise BadInput(
            "candidate_run_ids must be runs on one dataset: on different rows they cannot be compared. "
            f"Received: the fingerprints {', '.join(sorted(found))}"
        )


def champion_before(interrupted: Any) -> Any | None:
    """The champion that a version has to beat which an interrupted register began: it may be champion itself by now."""
    present = versions.champion(interrupted.name)
    if present is None or present.version != interrupted.version:
        return present
    compared = json.loads(interrupted.tags.get(names.TAG_INTERVAL, "{}"))
    return versions.version(interrupted.name, compared["champion_version"]) if compared else None


def publish(
    config: Config,
    run: Run,
    chosen: Any,
    dataset: Dataset,
    decision: GateDecision,
    judged_against: str | None,
    measured: dict[str, dict[str, float]],
    asked: dict[str, str],
    interrupted: Any | None = None,
) -> dict[str, Any]:
    """Register a version with its tags, or go on with one that was begun; set the aliases, return the verdict.

    `asked` are the tags that tell of the test rows.
    """
    model = config.registered_model
    with champions.locked(config):
        # Whatever happens from here on, the version tells what it is; it is called promoted when it is champion.
        sofar = names.CHALLENGER if decision.passed else names.REFUSED
        tags = version_tags(run, chosen, dataset, decision, measured) | asked | verdict_tags(sofar, decision.reasons)
        uri = chosen.data.tags[names.TAG_MODEL_URI]
        version = versions.retagged(interrupted, tags) if interrupted else versions.register(model, uri, tags)
        number = str(version.version)
        verdict, reasons = settle(config, run, decision, number, judged_against)
        versions.retagged(version, verdict_tags(verdict, reasons))
        run.tag(names.TAG_REGISTRY, json.dumps(versions.state(model)))
    return {
        "name": model,
        "version": number,
        "alias": {names.PROMOTED: names.CHAMPION, names.CHALLENGER: names.CHALLENGER}.get(verdict),
        "verdict": verdict,
        "reasons": reasons,
        "candidate_run_id": chosen.info.run_id,
        "candidate_step": chosen.data.tags[names.TAG_STEP],
        "metrics": measured,
        "champion_before": judged_against,
        "comparison": decision.to_dict()["comparison"],
        "test_set": decision.look.to_dict(),
    }


def settle(
    config: Config, run: Run, decision: GateDecision, number: str, judged_against: str | None
) -> tuple[str, list[str]]:
    """Move the aliases as far as judgement, config and the present champion allow → (verdict, reasons)."""
    if not decision.passed:
        return names.REFUSED, decision.reasons
    versions.set_alias(config.registered_model, names.CHALLENGER, number)
    if config.register_.promote == "manual":
        return names.CHALLENGER, decision.reasons
    obstacle = champions.promote(config, number, judged_against, run.id, "; ".join(decision.reasons))
    if obstacle:
        return names.CHALLENGER, [*decision.reasons, obstacle]
    return names.PROMOTED, decision.reasons


def verdict_tags(verdict: str, reasons: list[str]) -> dict[str, str]:
    return {names.TAG_VERDICT: verdict, names.TAG_REASONS: "; ".join(reasons)}


def rival_tags(model: str, champion: Any | None) -> dict[str, str]:
    """Which registered model's champion a verdict was given against: a copy of the version keeps the verdict."""
    network = names.NOBODY if champion is None else versions.network_of(champion.tags)
    return {names.TAG_JUDGED_FOR: model, names.TAG_JUDGED_AGAINST: network}


def version_tags(
    run: Run, chosen: Any, dataset: Dataset, decision: GateDecision, measured: dict[str, dict[str, float]]
) -> dict[str, str]:
    """What a model version tells of itself: lineage, content, metrics and the comparison."""
    tags = {
        names.TAG_FINGERPRINT: dataset.fingerprint,
        names.TAG_DATA: data_text(dataset, chosen),
        names.TAG_OUTPUT: chosen.data.tags[names.TAG_OUTPUT],
        names.TAG_NETWORK: versions.network_of(chosen.data.tags),
        names.TAG_MODEL_CONTENT: versions.content_of(chosen.data.tags),
        names.TAG_CANDIDATE_RUN: chosen.info.run_id,
        names.TAG_REGISTER_RUN: run.id,
        names.TAG_COMMIT: runs.git_commit() or "unknown",
        **decision_tags(decision),
        **{f"{split}_{k}": f"{v:.6g}" for split, values in measured.items() for k, v in values.items()},
    }
    if digest := chosen.data.tags.get(names.TAG_MODEL_DIGEST):
        tags[names.TAG_MODEL_DIGEST] = digest
    if members := chosen.data.tags.get(names.TAG_MEMBERS):
        tags[names.TAG_MEMBERS] = members
    return tags


def data_text(dataset: Dataset, chosen: Any) -> str:
    """A dataset and the run that was trained on it → how many rows of which days, and when."""
    profile = json.loads((dataset.folder / names.PROFILE).read_text(encoding="utf-8"))
    dates = [column.name for column in dataset.preprocessor.columns if column.kind == "datetime"]
    spans = [
        f"{name} from {day_text(profile[name]['min'])} to {day_text(profile[name]['max'])}"
        for name in dates
        if "min" in profile.get(name, {})
    ]
    rows = sum(dataset.rows[split] for split in names.SPLITS)
    return "; ".join([f"{rows:,} rows", *spans, f"trained on {day_text(chosen.info.start_time * 1000)}"])


def decision_tags(decision: GateDecision) -> dict[str, str]:
    """What a version tells of the gate's look at it."""
    tags = {names.TAG_TEST_LEFT: f"{decision.look.left:.6g}"}
    return tags | ({names.TAG_INTERVAL: json.dumps(asdict(decision.comparison))} if decision.comparison else {})


def rejudge(version: Any, decision: GateDecision, tags: dict[str, str]) -> None:
    """Give a version that was copied the tags of the gate's decision for the model that it is in."""
    versions.retagged(version, decision_tags(decision) | tags)
    if decision.comparison is None and names.TAG_INTERVAL in version.tags:
        store.untag(version, names.TAG_INTERVAL)

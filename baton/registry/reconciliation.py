"""The alias and the predictions in, the version that is to score out: what became of the alias, and who may score.

An alias is moved in the registry's UI, by nobody's record. A version that was copied into another registered model
("Promote model") has kept the tags of a verdict that may have been given against another champion: then it is judged.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from baton import names
from baton.config.schema import BatchInfer, Config
from baton.data.dataset import Dataset
from baton.errors import BadInput
from baton.registry import candidates, champions, evidence, gate, registration, store, versions
from baton.registry.gate import GateDecision
from baton.runtime import locks
from baton.serving import destination
from baton.tracking import runs
from baton.tracking.runs import Run

log = logging.getLogger("baton")

ALLOW = "set batch_infer.allow_unvalidated: true to score with it all the same"


@contextmanager
def alone(config: Config) -> Iterator[None]:
    """Meanwhile no other reconcile of this pipeline works on this machine."""
    home = Path(config.warehouse) / config.name
    home.mkdir(parents=True, exist_ok=True)
    with locks.exclusive(home / "reconcile.lock"):
        yield


def idle(config: Config) -> str:
    """Why there is nothing to do, as a sentence; empty if a version is to score.

    Raises `BadInput` as `due` does. Then, and where there is nothing to do, no run will record what was changed by
    hand: it is recorded here.
    """
    try:
        version = due(config)
    except BadInput:
        champions.record_by_hand(config, "")
        raise
    if version is not None:
        return ""
    champions.record_by_hand(config, "")
    return f"the version with the alias {config.to_score().alias} of {config.scoring_model} scored last: nothing to do"


def due(config: Config) -> Any | None:
    """The version that the alias names, if another one scored last; None if it is that one.

    Raises `BadInput`, with the way out, if no version bears the alias or the one that does may not score; the version
    keeps that sentence as a tag.
    """
    store.check_names(config)
    settings = config.to_score()
    scored = destination.last_scoring(Path(settings.output).resolve())
    version = versions.champion(config.scoring_model, settings.alias)
    if version is None:
        raise BadInput(_lost(config, settings, scored))
    if scored is not None and _is(scored, version):
        return None
    if not settings.allow_unvalidated and not _is_foreign(version):
        with noted(version):
            versions.demand_verdict(version, settings.alias)
    return version


def settle(config: Config, run: Run, version: Any) -> GateDecision | None:
    """Give a copy a verdict of the model that it is in, if the one it bears is another's; the decision, if it took one.

    Raises `BadInput` if the copy does not pass, or what it is judged by is gone.
    """
    settings = config.to_score()
    if settings.allow_unvalidated or not _is_foreign(version):
        return None
    champion = _champion_before(config.scoring_model, version)
    tags = registration.rival_tags(version.name, champion)
    if version.tags.get(names.TAG_JUDGED_AGAINST) == tags[names.TAG_JUDGED_AGAINST] != "":
        versions.demand_verdict(version, settings.alias)
        versions.retagged(version, tags)
        return None
    decision, asked = _judge(config, version, champion)
    passed = names.PROMOTED if settings.alias == names.CHAMPION else names.CHALLENGER
    verdict = passed if decision.passed else names.REFUSED
    registration.rejudge(version, decision, tags | asked | registration.verdict_tags(verdict, decision.reasons))
    run.json({"name": version.name, "version": str(version.version), "verdict": verdict, **decision.to_dict()},
             names.VERDICT)  # fmt: skip
    if not decision.passed:
        raise BadInput(
            f"Version {version.version} of {version.name} is a copy and did not pass the gate of this model: take the "
            f"alias {settings.alias} back by rollback, or {ALLOW}. Received: {'; '.join(decision.reasons)}"
        )
    return decision


@contextmanager
def noted(version: Any) -> Iterator[None]:
    """Around what scores with a version: if it may not, or cannot, the version tells why where people look for it."""
    try:
        yield
    except BadInput as error:
        if version.tags.get(names.TAG_NOT_SCORED) != (sentence := runs.sentence(error)):
            versions.retagged(version, {names.TAG_NOT_SCORED: sentence})
        raise
    if names.TAG_NOT_SCORED in version.tags:
        store.untag(version, names.TAG_NOT_SCORED)


def _is(scored: dict[str, Any], version: Any) -> bool:
    """Whether predictions are of this version, and not of one that bore its number before."""
    if "model" in scored:
        return bool(scored["model"] == versions.identity(version))
    return (scored["model_name"], scored["model_version"]) == (version.name, str(version.version))


def _is_foreign(version: Any) -> bool:
    """Whether a version is a copy with a verdict that was given for another registered model."""
    return names.TAG_CANDIDATE_RUN in version.tags and versions.judged_for(version) != version.name


def _lost(config: Config, settings: BatchInfer, scored: dict[str, Any] | None) -> str:
    """Why no version bears the alias, as far as the predictions and the registry tell, and the way out."""
    model, alias = config.scoring_model, settings.alias
    if scored is None or scored["model_name"] != model:
        return f"Model {model} has no version with the alias {alias}: run main first, or give a version the alias."
    number, stays = scored["model_version"], f"The predictions of version {scored['model_version']} stay as they are."
    if not versions.exists(model):
        called = versions.model_of(scored["run_id"])
        return (
            f"Model {model}, which scored last, is in the registry no more, so it was deleted or renamed: name it "
            f"{model} again, or set batch_infer.model to the model that is to score. {stays} "
            f"Received: {f'the model {called} with that version' if called else 'no model of that name'}"
        )
    if versions.find(model, number) is None:
        return (
            f"Version {number} of {model}, which scored last, was deleted, and no version bears the alias {alias}: "
            f"give it to another one, or run rollback. {stays} Received: {_left(model)}"
        )
    return (
        f"The alias {alias} was taken from version {number} of {model}, which scored last, and no version bears it: "
        f"give it to a version, or run rollback. {stays} Received: {_left(model)}"
    )


def _left(model: str) -> str:
    numbers = sorted(int(version.version) for version in versions.versions(model))
    return f"the versions {', '.join(map(str, numbers))}" if numbers else "no version"


def _champion_before(model: str, version: Any) -> Any | None:
    """The latest champion of a model before this version that had passed its gate and is still there."""
    present = versions.champion(model)
    numbers = [change.version for change in reversed(champions.history(model))]
    for number in dict.fromkeys([None if present is None else str(present.version), *numbers]):
        found = None if number in (None, str(version.version)) else versions.find(model, str(number))
        if found is not None and found.tags.get(names.TAG_VERDICT) in names.PASSED and not _is_foreign(found):
            return found
    return None


def _judge(config: Config, version: Any, champion: Any | None) -> tuple[GateDecision, dict[str, str]]:
    """A copied version and the champion it is to replace → what the gate says of it on its own test rows, and the tags
    that tell of these."""
    chosen, dataset = _candidate(version)
    model = versions.load(f"models:/{version.name}/{version.version}", version.tags)
    test = candidates.EvaluatedSplit.of(model.network, dataset, "test")
    models = [version.name, versions.judged_for(version)]
    found, _, _ = evidence.gather(config, models, chosen, dataset, model, champion, test.output)
    return gate.judge(config, found), evidence.tags(found)


def _candidate(version: Any) -> tuple[Any, Dataset]:
    """The run that trained a version and the dataset that it was trained on; raises `BadInput` if either is gone."""
    run_id = version.tags[names.TAG_CANDIDATE_RUN]
    chosen = runs.find(run_id)
    try:
        if chosen is None:
            raise BadInput(f"The run {run_id} that trained it is not in this tracking store.")
        return chosen, Dataset.open(chosen.data.tags.get(names.TAG_DATASET, ""))
    except BadInput as error:
        raise BadInput(
            f"Version {version.version} of {version.name} is a copy whose verdict was given for the model "
            f"{versions.judged_for(version)}, and what it would be judged by here is gone: run main and promote what "
            f"that registers, or {ALLOW}. Received: {error}"
        ) from None

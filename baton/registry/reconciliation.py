"""The alias and the predictions in, the version that is to score out: what became of the alias, and who may score.

An alias is moved in the registry's UI, by nobody's record. Most times there is nothing to do, so asking is cheap.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import Any

from baton import names
from baton.config.schema import BatchInfer, Config
from baton.errors import BadInput
from baton.registry import champions, store, versions
from baton.serving import destination
from baton.tracking import runs

log = logging.getLogger("baton")


def alone(config: Config) -> AbstractContextManager[None]:
    """Meanwhile no other reconcile of this pipeline works on this machine."""
    return champions.locked(config, "reconcile")


def idle(config: Config) -> str:
    """Why there is nothing to do, as a sentence; empty if a version is to score.

    Raises `BadInput` as `due` does. Then, and where there is nothing to do, no run will record what was changed by
    hand: it is recorded here. What a killed reconcile left open is closed, so that its predictions are known for what
    they are.
    """
    _close_abandoned(config)
    try:
        version = due(config)
    except BadInput:
        champions.record_by_hand(config, "")
        raise
    if version is not None:
        return ""
    champions.record_by_hand(config, "")
    return f"the version with the alias {config.to_score().alias} of {config.scoring_model} scored last: nothing to do"


def _close_abandoned(config: Config) -> None:
    experiment = runs.client().get_experiment_by_name(config.experiment_name)
    if experiment is not None and (closed := runs.close_abandoned(experiment.experiment_id)):
        log.warning("marked KILLED %d runs that a killed step had left open", len(closed))


def due(config: Config) -> Any | None:
    """The version that the alias names, if another one scored last, or its scoring broke off; None if it is that one.

    Raises `BadInput`, with the way out, if no version bears the alias or the one that does may not score; the version
    keeps that sentence as a tag.
    """
    store.check_names(config)
    settings = config.to_score()
    scored = destination.last_scoring(Path(settings.output).resolve())
    version = versions.champion(config.scoring_model, settings.alias)
    if version is None:
        raise BadInput(_lost(config, settings, scored))
    if scored is not None and _is(scored, version) and not _broke_off(scored):
        return None
    if not settings.allow_unvalidated and not versions.is_copy(version):
        with noted(version):
            versions.demand_verdict(version, settings.alias)
    return version


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


def _broke_off(scored: dict[str, Any]) -> bool:
    """Whether the run that left these predictions was ended before it had told of them."""
    run = runs.find(scored["scoring_run_id"])
    return run is not None and run.info.status in ("FAILED", "KILLED")


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

"""The changes of a registered model's champion: who was it, since when, why, by which run.

They are tags of a run of the pipeline's experiment, one a change and numbered: to set one is atomic and overwrites no
other, and a run has room where a registry's limits have none. A tag of the registered model names the run. What an
earlier Baton kept as tags of the model is carried over with the next change.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from typing import Any

from baton import names
from baton.config.schema import Config
from baton.registry import store, versions
from baton.tracking import runs

log = logging.getLogger("baton")

PROMOTED, ROLLED_BACK, BY_HAND = "promoted", "rolled back", "set by hand"
KEPT = 500  # changes; older ones are forgotten
BATCH = 100  # tags that a run takes at once


@dataclass(frozen=True)
class Change:
    """One change of the champion: to which version (None: nobody), how, when, by which run, why.

    `network` is what that version answers by: it is known when the version is deleted, too.
    """

    number: int
    version: str | None
    previous: str | None
    how: str
    at: str
    by: str
    why: str
    network: str = ""


def recorded(model: str) -> list[Change]:
    """The changes that steps recorded, oldest first; none if there is no such model.

    Without the run that keeps them, and without an earlier Baton's tags, they are what the versions tell.
    """
    tags = versions.model_tags(model)
    run = _run(tags)
    return _parsed((tags if run is None else run.data.tags).items()) or _of_versions(model)


def append(config: Config, model: str, change: Change) -> Change:
    """Keep a change, and forget those that are too old."""
    run_id = _demand_run(config, model)
    runs.client().set_tag(run_id, _key(change), _text(change))
    for old in recorded(model)[:-KEPT]:
        runs.client().delete_tag(run_id, _key(old))
    return change


def run_id(model: str) -> str:
    """The run that keeps the changes of a model; empty if there is none."""
    return versions.model_tags(model).get(names.TAG_HISTORY_RUN, "")


def _demand_run(config: Config, model: str) -> str:
    """The run that keeps the changes of a model: a new one, with what is known so far, if there is none that can."""
    tags = versions.model_tags(model)
    run = _run(tags)
    if run is not None and run.info.lifecycle_stage == "active":
        return str(run.info.run_id)
    changes = recorded(model)
    experiment = runs.client().get_experiment(runs.experiment_of(config.experiment_name))
    # As old as the experiment: who looks for the newest run means another one.
    made = runs.client().create_run(
        experiment.experiment_id, experiment.creation_time, runs.owner_tags(config), f"champions of {model}"
    )
    for start in range(0, len(changes), BATCH):
        runs.tag(made.info.run_id, {_key(change): _text(change) for change in changes[start : start + BATCH]})
    runs.client().set_terminated(made.info.run_id, "FINISHED")
    store.tag_model(model, {names.TAG_HISTORY_RUN: made.info.run_id})  # from here on the model's own tags don't count
    for key in tags:
        if key.startswith(names.TAG_HISTORY):
            store.untag_model(model, key)
    return str(made.info.run_id)


def _run(tags: dict[str, str]) -> Any | None:
    """A model's tags → the run that keeps its changes, deleted as it may be; None if there is none."""
    from mlflow.exceptions import MlflowException

    if names.TAG_HISTORY_RUN not in tags:
        return None
    try:
        return runs.client().get_run(tags[names.TAG_HISTORY_RUN])
    except MlflowException as error:
        if error.error_code == "RESOURCE_DOES_NOT_EXIST":
            return None
        raise


def _of_versions(model: str) -> list[Change]:
    """What is left without a record: each version that was champion, and not taken back, tells of its latest time."""
    there = [found for found in versions.versions(model) if names.TAG_CHAMPION_SINCE in found.tags]
    there = [found for found in there if names.TAG_ROLLED_BACK not in found.tags]
    ordered = sorted(there, key=lambda found: found.tags[names.TAG_CHAMPION_SINCE])
    return [
        Change(
            number,
            found.version,
            found.tags.get(names.TAG_PREVIOUS_CHAMPION) or None,
            PROMOTED,
            found.tags[names.TAG_CHAMPION_SINCE],
            found.tags.get(names.TAG_CHAMPION_BY, ""),
            found.tags.get(names.TAG_CHAMPION_WHY, ""),
            versions.network_of(found.tags),
        )
        for number, found in enumerate(ordered, 1)
    ]


def _text(change: Change) -> str:
    return json.dumps(asdict(change), ensure_ascii=False)


def _key(change: Change) -> str:
    """The run's ID in it keeps two machines from writing the same tag."""
    return f"{names.TAG_HISTORY}{change.number:06d}.{change.by[:8] or 'found'}"


def _parsed(tags: Iterable[tuple[str, str]]) -> list[Change]:
    """Tags → the changes among them, oldest first."""
    changes = [_change(key, value) for key, value in tags if key.startswith(names.TAG_HISTORY)]
    return sorted((change for change in changes if change is not None), key=lambda change: (change.number, change.at))


def _change(key: str, value: str) -> Change | None:
    try:
        return Change(**json.loads(value))
    except (ValueError, TypeError):
        log.warning("the tag %s is no record of a champion: it is passed over", key)
        return None

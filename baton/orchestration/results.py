"""A step and what it is given in, the run that has its result already out; or why it has to run."""

from __future__ import annotations

from typing import Any

from baton import names
from baton.config.schema import Config
from baton.errors import BadInput, BatonError
from baton.orchestration import cache, outputs
from baton.tracking import runs


def look_up(
    step: str, config: Config, inputs: dict[str, str], run: Any, forced: bool, finished_runs: dict[str, Any]
) -> tuple[str | None, str]:
    """The ID of the run that has this step's result, or None; and `hit` or `miss: why`, as the step's `run` is tagged.

    `finished_runs` are finished MLflow runs by their IDs, those that need not be asked for again; one that is found
    is added.
    """
    key = outputs.key(step, config, inputs, finished_runs)
    runs.client().log_dict(run.info.run_id, key.masked_parts(), names.CACHE_PARTS)
    source, told = _find(step, config, run.info.experiment_id, key, forced)
    tags = {names.TAG_CACHE_KEY: key.digest, names.TAG_CACHE: told}
    if source is not None:
        finished_runs[source.info.run_id] = source
        tags[names.TAG_SOURCE_RUN] = source.info.run_id
    runs.tag(run.info.run_id, tags)
    return source and source.info.run_id, told


def forced(force: str) -> set[str]:
    """A list of steps, or `all` → the steps that are to run though nothing changed; raises `BadInput`."""
    chosen = {part.strip() for part in force.split(",") if part.strip()}
    unknown = chosen - {*names.STEPS, "all"}
    if unknown:
        raise BadInput(f"force takes steps or all: {', '.join(names.STEPS)}. Received: {', '.join(sorted(unknown))}")
    return set(names.STEPS) if "all" in chosen else chosen


def _find(step: str, config: Config, experiment_id: str, key: cache.Key, forced: bool) -> tuple[Any | None, str]:
    if forced:
        return None, f"{names.MISS}: forced"
    why = ""
    for run in runs.cached(experiment_id, step, key.digest):
        damage = outputs.broken(step, run, config, key)
        if damage is None:
            return run, names.HIT
        why = why or damage
    return None, f"{names.MISS}: {why or changed(step, experiment_id, key)}"


def changed(step: str, experiment_id: str, key: cache.Key) -> str:
    """What sets a step's key apart from that of its newest run."""
    last = runs.latest(experiment_id, step)
    if last is None:
        return "first run"
    try:
        return key.difference(cache.Key(runs.artifact(last, names.CACHE_PARTS)))
    except (BatonError, ValueError):
        return f"{names.CACHE_PARTS} of the last run is gone"

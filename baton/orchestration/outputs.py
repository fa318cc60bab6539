"""What a step reads and what a finished run of it gave: as content, and whether that is still whole."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from baton import names
from baton.config.schema import Config
from baton.data.dataset import Dataset
from baton.data.sources import content, files
from baton.errors import BatonError
from baton.orchestration import cache
from baton.registry import pretrained, versions
from baton.runtime.files import folder_hashes
from baton.tracking import runs

NO_KEY = cache.Key({})


def key(step: str, config: Config, inputs: dict[str, str], finished_runs: Mapping[str, Any]) -> cache.Key:
    """The cache key of a step that is given `inputs` (run IDs as its options name them).

    `finished_runs` are finished MLflow runs by their IDs: those that need not be asked for again.
    """
    named = pretrained.local(config) if "model" in cache.CONFIG_READ[step] else config
    return cache.key(step, named, _contents(step, config), _upstream(step, config, inputs, finished_runs))


def broken(step: str, run: Any, config: Config, key: cache.Key = NO_KEY) -> str | None:
    """Why the outputs of a finished run can't be used again, or None if they are whole.

    `key` is the step's key now: what the run has read, and which model it has scored with, must be what that says.
    """
    try:
        if moved := _other_source(run, key):
            return moved
        if step == "ingest":
            damage = Dataset.load(run.data.tags[names.TAG_DATASET]).damage()
            return damage and f"output {' '.join(damage)}"
        if step in ("train", "distributed_train"):
            expected = runs.artifact(run, names.EVALUATION)["files"]
            return _first_difference(expected, runs.model_files(run.data.tags[names.TAG_MODEL_URI]))
        if step == "tune":
            runs.artifact(run, names.BEST_PARAMETERS)
        elif step == "register":
            runs.artifact(run, names.VERDICT)
            return _registry_moved(run, config)
        elif step == "batch_infer":
            if config.batch_infer is not None and config.batch_infer.table:
                return "a table is written anew every time"
            return _predictions_changed(runs.artifact(run, names.SCORING), key)
    except (BatonError, KeyError, ValueError, OSError) as error:
        return f"output: {runs.sentence(error)}"
    return None


def _contents(step: str, config: Config) -> dict[str, str]:
    """The sources a step reads, by name, as hashes of their content."""
    if step == "ingest":
        return {config.data.source: _source(config.data.source, config)}
    if step == "batch_infer" and config.batch_infer is not None:
        return {config.batch_infer.source: _source(config.batch_infer.source, config)}
    return {}


def _source(location: str, config: Config) -> str:
    if location.startswith(files.TABLE_PREFIX):
        return f"{location} at {runs.now()}"  # a table has no content hash: it is read anew every time
    return content.of_source(files.resolve(location, files.Reading.of(config.data)))


def _upstream(step: str, config: Config, inputs: dict[str, str], finished_runs: Mapping[str, Any]) -> dict[str, str]:
    """What earlier steps gave, as content: run IDs differ from run to run, so they don't count."""
    if step == "batch_infer":
        return _model_parts(versions.identity(versions.to_score_with(config, inputs.get("register_run_id", ""))))
    given = {cache.REGISTRY: versions.address()} if step == "register" else {}
    for option, value in inputs.items():
        for run_id in filter(None, value.split(",")):
            run = finished_runs.get(run_id) or runs.client().get_run(run_id)
            label = f"the output of {run.data.tags.get(names.TAG_STEP, option)}"
            given[label] = run.data.tags.get(names.TAG_OUTPUT, run_id)
    return given


def _model_parts(identity: dict[str, str]) -> dict[str, str]:
    """What `versions.identity` gave, as parts of a key."""
    return {f"model {name}": value for name, value in identity.items()}


def _other_source(run: Any, key: cache.Key) -> str | None:
    """What a run has read, if the source was another one by then than the key tells of."""
    read = run.data.tags.get(names.TAG_SOURCE_CONTENT)
    for part, digest in key.parts.items():
        if part.endswith(cache.CONTENT) and read != digest:
            return f"{part} was another one when it was read"
    return None


def _registry_moved(run: Any, config: Config) -> str | None:
    """How the registry differs from what register has left; raises `BatonError` if who bears an alias lacks a file."""
    before, now = json.loads(run.data.tags[names.TAG_REGISTRY]), versions.state(config.registered_model)
    if changed := next((name for name in now if before.get(name) != now[name]), None):
        return f"registry changed: {changed} {_bearer(before.get(changed))} → {_bearer(now[changed])}"
    for alias in (names.CHAMPION, names.CHALLENGER):
        if (bearer := versions.champion(config.registered_model, alias)) is not None:
            versions.demand_version(bearer)
    return None


def _bearer(value: Any) -> str:
    if isinstance(value, dict):
        return f"version {value['version']} of run {value['run'][:8]}"
    return "nobody" if value is None else str(value)


def _predictions_changed(scoring: dict[str, Any], key: cache.Key) -> str | None:
    scored_with = _model_parts(scoring["model"])
    if changed := next((part for part in scored_with if key.parts.get(part) != scored_with[part]), None):
        # the alias moved after main had looked, and the step looked again
        return f"{changed} {scored_with[changed]} → {key.parts.get(changed)}"
    folder = Path(scoring["path"])
    if not folder.is_dir():
        return f"output {folder} missing"
    actual = folder_hashes(folder)
    if more := sorted(
        name for name in actual.keys() - scoring["files"].keys() if not Path(name).name.startswith((".", "_"))
    ):
        return f"output {more[0]} is new"  # a reader of the folder would take it for predictions
    return _first_difference(scoring["files"], actual)


def _first_difference(expected: dict[str, Any], actual: dict[str, Any]) -> str | None:
    """What a run gave, as {path: hash or size}, against what is there → the first file that is not as it was."""
    for name in sorted(expected):
        if name not in actual:
            return f"output {name} missing"
        if expected[name] != actual[name]:
            return f"output {name} changed"
    return None

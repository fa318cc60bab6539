"""What a step reads and what a finished run of it gave: as content, and whether that is still whole."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from baton import names
from baton.config.schema import Config
from baton.data.dataset import Dataset
from baton.data.sources import files
from baton.errors import BatonError
from baton.orchestration import cache
from baton.registry import versions
from baton.runtime.files import folder_hashes
from baton.tracking import runs


def key(step: str, config: Config, inputs: dict[str, str], finished_runs: Mapping[str, Any]) -> cache.Key:
    """The cache key of a step that is given `inputs` (run IDs as its options name them).

    `finished_runs` are finished MLflow runs by their IDs: those that need not be asked for again.
    """
    return cache.key(step, config, _contents(step, config), _upstream(step, config, inputs, finished_runs))


def broken(step: str, run: Any, config: Config, version: str = "") -> str | None:
    """Why the outputs of a finished run can't be used again, or None if they are whole.

    `version` is the one that batch_infer would score with now (`name number`).
    """
    try:
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
            return _predictions_changed(runs.artifact(run, names.SCORING), version)
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
    source = files.resolve(location, files.Reading.of(config.data))
    pictures = {place for place in source.pictures() if isinstance(place, Path)}
    return cache.content([*source.files, *sorted(pictures - set(source.files))], source.names())


def _upstream(step: str, config: Config, inputs: dict[str, str], finished_runs: Mapping[str, Any]) -> dict[str, str]:
    """What earlier steps gave, as content: run IDs differ from run to run, so they don't count."""
    if step == "batch_infer":
        return {cache.VERSION: _scoring_version(config, inputs.get("register_run_id", ""))}
    given = {}
    for option, value in inputs.items():
        for run_id in filter(None, value.split(",")):
            run = finished_runs.get(run_id) or runs.client().get_run(run_id)
            label = f"the output of {run.data.tags.get(names.TAG_STEP, option)}"
            given[label] = run.data.tags.get(names.TAG_OUTPUT, run_id)
    return given


def _scoring_version(config: Config, register_run_id: str) -> str:
    version = versions.to_score_with(config, register_run_id)
    return f"{version.name} {version.version}"


def _registry_moved(run: Any, config: Config) -> str | None:
    before, now = run.data.tags.get(names.TAG_REGISTRY), versions.state(config.name)
    return None if before == now else f"registry changed: {before} → {now}"


def _predictions_changed(scoring: dict[str, Any], version: str) -> str | None:
    scored_with = f"{scoring['model_name']} {scoring['model_version']}"
    if scored_with != version:  # the alias moved after main had looked, and the step looked again
        return f"{cache.VERSION} {scored_with} → {version}"
    folder = Path(scoring["path"])
    if not folder.is_dir():
        return f"output {folder} missing"
    return _first_difference(scoring["files"], folder_hashes(folder))


def _first_difference(expected: dict[str, Any], actual: dict[str, Any]) -> str | None:
    """What a run gave, as {path: hash or size}, against what is there → the first file that is not as it was."""
    for name in sorted(expected):
        if name not in actual:
            return f"output {name} missing"
        if expected[name] != actual[name]:
            return f"output {name} changed"
    return None

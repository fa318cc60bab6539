"""What MLflow records of a pipeline in, the runs that something still refers to out."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from baton import names
from baton.config.schema import Config
from baton.registry import champions, history, store, versions
from baton.tracking import runs

# The tags of a version that hold run IDs.
MADE_BY = (names.TAG_CANDIDATE_RUN, names.TAG_REGISTER_RUN)
# The options of entry points that hold run IDs.
INPUTS = ("ingest_run_id", "tune_run_id", "candidate_run_ids", "register_run_id")


@dataclass(frozen=True)
class Records:
    """A pipeline's runs by their ID, and which runs the registry names."""

    runs: dict[str, Any]  # not the deleted ones
    needed: dict[str, Any]  # those behind versions with an alias, or that a rollback may return to, also deleted ones
    named: set[str]  # those behind any version, or that changed the champion


def collect(config: Config) -> Records:
    """Ask the tracking store and the registry about a pipeline."""
    found = {run.info.run_id: run for run in runs.of_pipeline(config.name)}
    models = {config.registered_model, config.scoring_model}
    changes = {model: champions.history(model) for model in models}
    wanted = {(m, n) for m in models for n in (*versions.aliases(m).values(), *champions.returns(changes[m]))}
    needed: set[str] = set()
    named = {change.by for each in changes.values() for change in each} | {history.run_id(model) for model in models}
    for version in store.all_versions():
        behind = {
            version.run_id,
            *(version.tags.get(tag, "") for tag in (names.TAG_CANDIDATE_RUN, names.TAG_REGISTER_RUN)),
        }
        named |= behind
        if version.name not in models:
            needed |= behind & set(found)  # what other models are for is not known here
        elif (version.name, version.version) in wanted:
            needed |= behind
    known = {run_id: found.get(run_id) or elsewhere(run_id) for run_id in needed if run_id}
    return Records(found, known, named & set(found))


def needed(records: Records, cutoff_ms: int) -> set[str]:
    """The runs to keep with all that they were made from, and the runs that made those.

    Runs at work, runs younger than `cutoff_ms`, the newest pipeline and the newest result of every
    step, and those behind model versions that score or may score again.
    """
    found = records.runs.values()
    start = {run.info.run_id for run in found if runs.is_working(run) or ended_ms(run) > cutoff_ms}
    return _with_origins(records, start | set(records.needed) | _newest(found))


def kept(records: Records, needed: set[str]) -> set[str]:
    """The runs to keep: those needed, those that the registry names, and the runs that these are nested under."""
    result = needed | records.named
    waiting = list(result)
    while waiting:
        run = records.runs.get(waiting.pop())
        parent = run.data.tags.get("mlflow.parentRunId") if run else None
        if parent and parent not in result:
            result.add(parent)
            waiting.append(parent)
    return result


def ended_ms(run: Any) -> int:
    """When a run ended, or began where that is all one knows."""
    return run.info.end_time or run.info.start_time or 0


def _newest(pipeline_runs: Iterable[Any]) -> set[str]:
    """In each experiment the last finished main with its steps, and every step's last result."""
    newest: dict[tuple[str, str], str] = {}
    finished = [
        run for run in pipeline_runs if run.info.status == "FINISHED" and names.TAG_SOURCE_RUN not in run.data.tags
    ]
    for run in sorted(finished, key=lambda run: run.info.start_time):
        newest[run.info.experiment_id, run.data.tags.get(names.TAG_STEP, "")] = run.info.run_id
    mains = {run_id for (_, step), run_id in newest.items() if step == "main"}
    steps = {run.info.run_id for run in pipeline_runs if run.data.tags.get("mlflow.parentRunId") in mains}
    return {*newest.values(), *steps}


def _with_origins(records: Records, start: set[str]) -> set[str]:
    """Run IDs → those and all that they were made from, step by step; a dataset's folder is called as its run."""
    result, waiting = set(start), list(start)
    while waiting:
        run_id = waiting.pop()
        run = records.runs.get(run_id) or records.needed.get(run_id)
        origins = _origins(run) - result if run else set()
        result |= origins
        waiting += origins
    return result


def elsewhere(run_id: str) -> Any | None:
    """A run that is not among the pipeline's, deleted as it may be; None if the store does not know it."""
    from mlflow.exceptions import MlflowException

    try:
        return runs.client().get_run(run_id)
    except MlflowException as error:
        if error.error_code == "RESOURCE_DOES_NOT_EXIST":
            return None
        raise


def _origins(run: Any) -> set[str]:
    tags, options = run.data.tags, runs.parameters(run)
    texts = (*(options.get(name, "") for name in INPUTS), tags.get(names.TAG_INPUTS, ""))
    given = {part.strip() for text in texts for part in text.split(",")}
    return {*given, tags.get(names.TAG_SOURCE_RUN, ""), Path(tags.get(names.TAG_DATASET, "")).name} - {""}

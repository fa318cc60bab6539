"""A job run that a scheduler drives, task by task: its key in, main's run of that key and the runs of its steps out.

Nobody hands run IDs on there. main's run is tagged with the key and made by whichever task comes first; a task finds
what it needs below it: the newest finished run of a step, whichever attempt that was.
"""

from __future__ import annotations

import logging
import re
import time
from dataclasses import dataclass
from typing import Any

from baton import names
from baton.config.schema import Config
from baton.errors import BadInput, StepFailed
from baton.orchestration import results, summary
from baton.registry import versions
from baton.tracking import runs
from baton.tracking.runs import Run
from baton.tracking.servers import exclusive

log = logging.getLogger("baton")

# As schedulers make them: a number, a date, scheduled__2026-11-28T03:00:00+00:00
KEY = re.compile(r"[\w.:+@/=-]{1,200}")
# Longer than a task takes from its first look for main's run to having made one: see `_made_once`.
SETTLE_S = 2.0
# The options of steps that hold run IDs → the steps that these are of.
SOURCES = {
    "ingest_run_id": ("ingest",),
    "tune_run_id": ("tune",),
    "candidate_run_ids": ("train", "distributed_train"),
    "register_run_id": ("register",),
}
MAY_BE_MISSING = ("tune_run_id", "register_run_id")


@dataclass(frozen=True)
class Task:
    """A step's run in a job run, and what the step is given."""

    run_id: str
    inputs: dict[str, str]


def check_key(key: str) -> None:
    """Raise `BadInput` if a key cannot name one job run."""
    if "{{" in key:
        raise BadInput(
            "pipeline holds a reference that the scheduler has not replaced, so that all its runs would share it: "
            f"spell it as the scheduler does, such as {{{{job.run_id}}}} or {{{{ run_id }}}}. Received: {key}"
        )
    if key and not KEY.fullmatch(key):
        raise BadInput(
            "pipeline is the key of a job run, of letters, digits and . : + @ / = _ - only, 200 at most. "
            f"Received: {key}"
        )


def check_inputs(inputs: dict[str, str]) -> None:
    """Raise `BadInput` if a step is told of neither a run that it needs nor a job run to look for one in."""
    for option, given in inputs.items():
        if option in SOURCES and option not in MAY_BE_MISSING and not given:
            steps = " or ".join(SOURCES[option])
            raise BadInput(
                f"{option} is missing: give it the run ID of a finished {steps} run, or give pipeline the key of a job "
                "run that has one."
            )


def begin(
    step: str, config: Config, options: dict[str, str], inputs: dict[str, str], handed_over: str, force: str
) -> Task | None:
    """A task's run, made below main's run of the key `options["pipeline"]`, or put there if it was `handed_over`.

    None if the task has nothing to do, or its result is there already. Raises `BadInput` if a run that it needs is not.
    """
    forced = step in results.forced(force)
    if step == "batch_infer" and not versions.can_score(config):
        log.info("there is nothing to score or no champion to score it with: skipped")
        return None
    main = main_run(config, options, handed_over)
    inputs = {name: given or _newest(main, name) for name, given in inputs.items()}
    attempt = len(runs.of_job(main, step)) + 1
    run_id = handed_over or runs.create_child(main, step, {**options, **inputs})
    with runs.closed_on_failure(run_id):
        sources = {name: value for name, value in inputs.items() if name in SOURCES}
        tags = {names.TAG_INPUTS: ",".join(filter(None, sources.values())), names.TAG_ATTEMPT: str(attempt)}
        runs.adopt(run_id, main, step, tags)
        if step in names.STEPS and _is_there(step, config, sources, run_id, forced):
            runs.close(run_id, "FINISHED")
            return None
    return Task(run_id, inputs)


def main_run(config: Config, options: dict[str, str], handed_over: str = "") -> Run:
    """main's run of the key `options["pipeline"]`, which is made if it is not there, and opened again if it has ended.

    It is in the experiment of the run that was `handed_over`, else in the config's.
    """
    experiment_id = (
        runs.client().get_run(handed_over).info.experiment_id
        if handed_over
        else runs.experiment_of(config.experiment_name)
    )
    run = _made_once(config, options, experiment_id)
    if run.info.status not in runs.OPEN:
        runs.client().update_run(run.info.run_id, status="RUNNING")
    own = {name: value for name, value in runs.parameters(run).items() if name in ("config", "set")}
    return Run(run.info.run_id, experiment_id, "main", own, run.data.tags)


def mains(config: Config, key: str, experiment_id: str) -> list[Any]:
    """main's runs of a key, the oldest first."""
    query = (
        f"tags.`{names.TAG_PIPELINE}` = '{key}' AND tags.`{names.TAG_STEP}` = 'main' "
        f"AND tags.`{names.TAG_NAME}` = '{config.name}'"
    )
    found = runs.client().search_runs([experiment_id], query, max_results=100)
    return sorted(found, key=lambda run: (run.info.start_time, run.info.run_id))


def _made_once(config: Config, options: dict[str, str], experiment_id: str) -> Any:
    """The oldest of main's runs of a key. One is made if there is none, then looked for again.

    Two tasks that look at once and find none both make one. Each then waits for longer than it takes from such a look
    to a run, so that both see both, whatever their clocks say: the oldest stays, and who made the other removes it.
    SQLite's file is locked meanwhile.
    """
    import mlflow

    key = options["pipeline"]
    uri = mlflow.get_tracking_uri()
    with exclusive(uri) as locked:
        if found := mains(config, key, experiment_id):
            return found[0]
        own = runs.create_main(config, experiment_id, key, options)
        if not locked:
            time.sleep(SETTLE_S)
        oldest = mains(config, key, experiment_id)[0]
    if oldest.info.run_id != own:
        runs.client().delete_run(own)
    return oldest


def _newest(main: Run, option: str) -> str:
    """What an option stands for: of each of its steps the newest finished run in the job run, comma-separated.

    Empty if there has been none and the step can do without. Raises `BadInput` if it cannot, or none has finished.
    """
    found = [_finished(main, step) for step in SOURCES.get(option, ())]
    if not any(found) and option in SOURCES and option not in MAY_BE_MISSING:
        raise BadInput(
            f"The job run has no run of {' or '.join(SOURCES[option])} yet: that has to come before, with the same "
            f"config and pipeline. Received: {main.tags.get(names.TAG_PIPELINE)}"
        )
    return ",".join(filter(None, found))


def _finished(main: Run, step: str) -> str:
    """The run that has a step's result in a job run; empty if the step was never begun there."""
    attempts = runs.of_job(main, step)
    for run in attempts:
        if run.info.status == "FINISHED":
            return run.data.tags.get(names.TAG_SOURCE_RUN, run.info.run_id)
    if attempts:
        raise BadInput(
            f"No run of {step} in this job run has finished: run it again. "
            f"Received: {attempts[0].info.run_id}, which is {attempts[0].info.status}"
        )
    return ""


def _is_there(step: str, config: Config, inputs: dict[str, str], run_id: str, forced: bool) -> bool:
    """Whether a run has a step's result already; printed and tagged."""
    source, told = results.look_up(step, config, inputs, runs.client().get_run(run_id), forced, {})
    log.info("%s", told)
    return source is not None


def tag_main(config: Config, run: Run, key: str) -> None:
    """Give a main that drives its steps itself the key; raises `BadInput` if it is another job run's."""
    if mains(config, key, run.experiment_id):
        raise BadInput(f"pipeline is the key of an earlier job run: give main one of its own. Received: {key}")
    run.tag(names.TAG_PIPELINE, key)


def close(config: Config, run: Run) -> None:
    """Sum up what a job run's steps have left, on main's run, and end that; `run` is the report's own, below it.

    Raises `StepFailed` if a step has not ended well: a scheduler that asks the last task alone would take the job run
    for a success.
    """
    if names.TAG_PIPELINE_RUN not in run.tags:
        raise BadInput("pipeline is missing: give it the key of the job run that is to be summed up.")
    found = runs.client().get_run(run.tags[names.TAG_PIPELINE_RUN])
    main = Run(found.info.run_id, run.experiment_id, "main", runs.parameters(found), found.data.tags)
    last = {step: next(iter(runs.of_job(main, step)), None) for step in names.STEPS}
    ran = [each for each in last.values() if each is not None]
    runs.close_below(main, set(), but=(run.id,))
    steps = summary.skipped_steps()
    for step, each in last.items():
        if each is not None:
            steps[step] |= _entry(each)
    failed, why = _failure(config, steps, last)
    ended = max((each.info.end_time or 0 for each in ran), default=0)
    seconds = round(max(0, ended - found.info.start_time) / 1000, 2)
    error = f"{failed}: {why}" if failed else ""
    status = "FAILED"
    try:
        summary.log(config, main, steps, seconds, error, {})
        main.tag(names.TAG_ERROR, error)
        status = "FAILED" if failed else "FINISHED"
    finally:
        runs.client().set_terminated(main.id, status)
    if failed:
        raise StepFailed(failed, why, 1)


def _entry(run: Any) -> dict[str, Any]:
    """A step's last run in a job run → its entry in summary.json."""
    source = run.data.tags.get(names.TAG_SOURCE_RUN)
    finished = run.info.status == "FINISHED"
    spent = (run.info.end_time or run.info.start_time) - run.info.start_time
    return {
        "run_id": source if finished and source else run.info.run_id,
        "status": ("cached" if source else "finished") if finished else "failed",
        "cache": run.data.tags.get(names.TAG_CACHE),
        "seconds": round(spent / 1000, 2),
    }


def _failure(config: Config, steps: summary.Steps, last: dict[str, Any]) -> tuple[str, str]:
    """The first step that has not ended well, and why; two empty texts if the job run went through."""
    for step, entry in steps.items():
        if entry["status"] == "failed":
            return step, last[step].data.tags.get(names.TAG_ERROR) or "it was killed, and had no time to say why"
    for step in ("register", *(("batch_infer",) if versions.can_score(config) else ())):
        if steps[step]["status"] == "skipped":
            begun = [name for name, entry in steps.items() if entry["status"] != "skipped"]
            missing = next(name for name in names.STEPS if name not in begun) if step == "register" else step
            return missing, "it has not begun: its task's own log says why"
    return "", ""

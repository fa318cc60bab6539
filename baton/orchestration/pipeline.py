"""What main does with each step: start it as a process, keep its end, and sum all of it up."""

from __future__ import annotations

import logging
import time
from types import TracebackType
from typing import Any

from baton import names
from baton.config.schema import Config
from baton.errors import BadInput, BatonError, StepFailed
from baton.orchestration import cache, outputs
from baton.orchestration.warm_process import WarmProcess
from baton.redaction import masked_values
from baton.registry import versions
from baton.tracking import runs
from baton.tracking.runs import Run

log = logging.getLogger("baton")


LAST_WORDS_S = 15.0  # a process that a killed step has left behind may hold its standard error open


class Pipeline:
    """Runs steps one after another under main's run; writes summary.json however it ends."""

    def __init__(self, config: Config, run: Run, force: str):
        self.config, self.main = config, run
        self.force = _forced(force)
        self.steps: dict[str, dict[str, Any]] = {
            name: {"run_id": None, "status": "skipped", "cache": None, "seconds": 0.0} for name in names.STEPS
        }
        self.known: dict[str, Any] = {}  # finished MLflow runs by ID: what is in them will not change
        self.next: WarmProcess | None = None
        self.started = time.monotonic()

    def __enter__(self) -> Pipeline:
        # All code is hashed now, before any process has imported it: what is edited meanwhile, and run or not
        # run by a process that was started ahead, must not stand under the hash of the edited file.
        for step in names.STEPS:
            cache.code(f"steps/{step}.py")
        closed = runs.close_abandoned(self.main.experiment_id)
        if closed:
            log.warning("marked KILLED %d runs that a killed main had left open", len(closed))
        return self

    def __exit__(self, kind: type | None, error: BaseException | None, trace: TracebackType | None) -> None:
        try:
            self._close("" if error is None else runs.sentence(error))
        except Exception as second:
            if error is None:
                raise
            log.warning("main's summary could not be logged: %s", second)  # the first error is the one to tell

    def _close(self, error: str) -> None:
        """End what is left of the steps, log the summary and the report; `error` is what ended main, if it failed."""
        from baton.reporting import console
        from baton.reporting.html import report

        self._dismiss()
        runs.close_below(self.main, {entry["run_id"] for entry in self.steps.values() if entry["run_id"]})
        summary = masked_values(self.summary())
        self.main.json(summary, names.SUMMARY)
        self.main.metrics(
            {f"{split}_{k}": v for split, values in summary["metrics"].items() for k, v in values.items()}
            | {f"seconds_{name}": entry["seconds"] for name, entry in self.steps.items()}
        )
        self.main.tag("mlflow.note.content", "  \n".join(console.sentences(summary)))
        if self.steps["ingest"]["status"] in ("finished", "cached"):
            runs.copy_inputs(self.steps["ingest"]["run_id"], self.main)
        report.log_report(self.config, self.main, summary, error, self.known)
        console.table(self.config, summary)

    def run(self, step: str, **inputs: str) -> str:
        """Run one step to its end, or find its result; return the run that has it. Raises `StepFailed`."""
        parameters = {"config": self.main.options["config"], "set": self.main.options["set"], **inputs}
        started = time.monotonic()
        run_id = runs.create_child(self.main, step, parameters)
        entry = self.steps[step]
        entry |= {"run_id": run_id, "status": "failed"}
        try:
            source, entry["cache"] = self._look_up(step, inputs, run_id)
            log.info("%s: %s", step, entry["cache"])
            if source is None:
                self._process(step, inputs, run_id)
            else:
                self._dismiss()
            entry |= {"status": "cached", "run_id": source} if source else {"status": "finished"}
        except KeyboardInterrupt:
            runs.close(run_id, "KILLED")
            raise
        finally:
            entry["seconds"] = round(time.monotonic() - started, 2)
            if entry["status"] == "cached":  # by a run that nobody else could have closed
                runs.client().set_terminated(run_id, "FINISHED")
            else:
                runs.close(run_id, "FAILED" if entry["status"] == "failed" else "FINISHED")
        return source or run_id

    def _look_up(self, step: str, inputs: dict[str, str], run_id: str) -> tuple[str | None, str]:
        """The run that has this step's result already, or None; and `hit` or `miss: why`, as it was tagged."""
        key = outputs.key(step, self.config, inputs, self.known)
        runs.client().log_dict(run_id, key.masked_parts(), names.CACHE_PARTS)
        source, told = self._find_result(step, key)
        tags = {names.TAG_CACHE_KEY: key.digest, names.TAG_CACHE: told}
        runs.tag(run_id, tags | ({names.TAG_SOURCE_RUN: source} if source else {}))
        return source, told

    def _find_result(self, step: str, key: cache.Key) -> tuple[str | None, str]:
        if step in self.force:
            return None, f"{names.MISS}: forced"
        why = ""
        for run in runs.cached(self.main.experiment_id, step, key.digest):
            damage = outputs.broken(step, run, self.config, key)
            if damage is None:
                self.known[run.info.run_id] = run
                return run.info.run_id, names.HIT
            why = why or damage
        return None, f"{names.MISS}: {why or self._changed(step, key)}"

    def _changed(self, step: str, key: cache.Key) -> str:
        """What sets a step's key apart from that of its newest run."""
        last = runs.latest(self.main.experiment_id, step)
        if last is None:
            return "first run"
        try:
            return key.difference(cache.Key(runs.artifact(last, names.CACHE_PARTS)))
        except (BatonError, ValueError):
            return f"{names.CACHE_PARTS} of the last run is gone"

    def can_score(self) -> bool:
        """Whether there is something to score and a champion to score it with."""
        if self.config.batch_infer is None:
            return False
        return versions.champion(self.config.scoring_model, self.config.batch_infer.alias) is not None

    def summary(self) -> dict[str, Any]:
        """What outside checks read, from what the steps have logged."""
        training = self._artifact("distributed_train", names.EVALUATION)
        if training and self.steps["distributed_train"]["status"] == "finished":
            self.steps["distributed_train"]["restarts"] = training["restarts"]
        verdict = self._artifact("register", names.VERDICT)
        scoring = self._artifact("batch_infer", names.SCORING)
        keys = ("name", "version", "alias", "verdict", "reasons")
        counts = ("path", "rows_in", "rows_scored", "rows_quarantined")
        return {
            "steps": self.steps,
            "model": {key: verdict[key] for key in keys} if verdict else None,
            "metrics": verdict["metrics"] if verdict else {},
            "predictions": {key: scoring[key] for key in counts} if scoring else None,
            "data": self._data(),
            "wall_seconds": round(time.monotonic() - self.started, 2),
        }

    def _data(self) -> dict[str, Any] | None:
        """How many rows came in and were set aside, why, and what to look at; None if ingest gave nothing."""
        manifest, table = (self._artifact("ingest", name) for name in (names.MANIFEST, names.COLUMNS))
        if manifest is None:
            return None
        rows = manifest["rows"]
        return {
            "rows_in": rows["input"],
            "rows_quarantined": rows["quarantined"],
            "reasons": self._artifact("ingest", names.REASONS),
            "warnings": table["warnings"],
        }

    def _process(self, step: str, inputs: dict[str, str], run_id: str) -> None:
        """Let the step's process work in its run, and start the next one's meanwhile."""
        process, self.next = self._warm_process(step), None
        try:
            last = process.work(run_id, inputs, self.config)
            self._prepare_next(step)
            status = process.process.wait()
        except BaseException:
            self._dismiss()
            process.end()
            raise
        last.join(LAST_WORDS_S)
        if status != 0:
            raise StepFailed(step, last.line, status)

    def _warm_process(self, step: str) -> WarmProcess:
        """The process of that step which waits already, or a new one."""
        import mlflow

        if self.next is not None and self.next.step == step:
            return self.next
        options = {name: self.main.options[name] for name in ("config", "set")}
        environment = {
            "MLFLOW_EXPERIMENT_ID": self.main.experiment_id,
            "MLFLOW_TRACKING_URI": mlflow.get_tracking_uri(),
        }
        return WarmProcess(step, options, environment)

    def _prepare_next(self, step: str) -> None:
        """Start the process of the step after this one, if there will be one."""
        later = names.STEPS[names.STEPS.index(step) + 1 :]
        if later and (later[0] != "batch_infer" or self.config.batch_infer is not None):
            self.next = self._warm_process(later[0])

    def _dismiss(self) -> None:
        """End the process that waits, if there is one: nobody needs it."""
        if self.next is not None:
            self.next.end()
            self.next = None

    def _artifact(self, step: str, name: str) -> Any:
        """An artifact of a step that has ended well, or None if it has not."""
        entry = self.steps[step]
        if entry["status"] not in ("finished", "cached"):
            return None
        return runs.artifact(self.known.get(entry["run_id"]) or runs.client().get_run(entry["run_id"]), name)


def _forced(force: str) -> set[str]:
    chosen = {part.strip() for part in force.split(",") if part.strip()}
    unknown = chosen - {*names.STEPS, "all"}
    if unknown:
        raise BadInput(f"force takes steps or all: {', '.join(names.STEPS)}. Received: {', '.join(sorted(unknown))}")
    return set(names.STEPS) if "all" in chosen else chosen

"""What became of a pipeline's steps in, summary.json and the report on main's run out."""

from __future__ import annotations

from typing import Any

from baton import names
from baton.config.schema import Config
from baton.redaction import masked_values
from baton.tracking import runs
from baton.tracking.runs import Run

Steps = dict[str, dict[str, Any]]  # {step: its entry in summary.json}
ENDED_WELL = ("finished", "cached")


def skipped_steps() -> Steps:
    """The entries of steps of which none has begun."""
    return {name: {"run_id": None, "status": "skipped", "cache": None, "seconds": 0.0} for name in names.STEPS}


def log(
    config: Config, main: Run, steps: Steps, seconds: float, error: str, finished_runs: dict[str, Any]
) -> dict[str, Any]:
    """Log summary.json, metrics, a note and the report on main's run, print the table; the summary.

    `error` is what ended the pipeline, if it failed; `finished_runs` as of `results.look_up`.
    """
    from baton.reporting import console
    from baton.reporting.html import report

    summary = masked_values(of(steps, seconds, finished_runs))
    main.json(summary, names.SUMMARY)
    main.metrics(
        {f"{split}_{k}": v for split, values in summary["metrics"].items() for k, v in values.items()}
        | {f"seconds_{name}": entry["seconds"] for name, entry in steps.items()}
    )
    main.tag("mlflow.note.content", "  \n".join(console.sentences(summary)))
    if steps["ingest"]["status"] in ENDED_WELL:
        runs.copy_inputs(steps["ingest"]["run_id"], main)
    report.log_report(config, main, summary, error, finished_runs)
    console.table(config, summary)
    return summary


def of(steps: Steps, seconds: float, finished_runs: dict[str, Any]) -> dict[str, Any]:
    """What outside checks read, from what the steps have logged."""

    def artifact(step: str, name: str) -> Any:
        """An artifact of a step that has ended well, or None if it has not."""
        entry = steps[step]
        if entry["status"] not in ENDED_WELL:
            return None
        return runs.artifact(finished_runs.get(entry["run_id"]) or runs.client().get_run(entry["run_id"]), name)

    training = artifact("distributed_train", names.EVALUATION)
    if training and steps["distributed_train"]["status"] == "finished":
        steps["distributed_train"]["restarts"] = training["restarts"]
    verdict = artifact("register", names.VERDICT)
    scoring = artifact("batch_infer", names.SCORING)
    manifest = artifact("ingest", names.MANIFEST)
    keys = ("name", "version", "alias", "verdict", "reasons")
    counts = ("path", "rows_in", "rows_scored", "rows_quarantined")
    return {
        "steps": steps,
        "model": {key: verdict[key] for key in keys} if verdict else None,
        "metrics": verdict["metrics"] if verdict else {},
        "predictions": {key: scoring[key] for key in counts} if scoring else None,
        "data": manifest and {
            "rows_in": manifest["rows"]["input"],
            "rows_quarantined": manifest["rows"]["quarantined"],
            "reasons": artifact("ingest", names.REASONS),
            "warnings": artifact("ingest", names.COLUMNS)["warnings"],
        },
        "wall_seconds": seconds,
    }  # fmt: skip

"""The runs of a pipeline in, its report and the steps' cards out: one self-contained HTML page each.

Pages are made from artifacts alone, so also of steps that were found in the cache, and of a run that failed:
what is not there is said in a sentence. A page that cannot be made fails no run.
"""

from __future__ import annotations

import logging
import platform
import shlex
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

from baton import names
from baton.config.schema import Config
from baton.formatting import number_text, percent_text, span_text
from baton.reporting.html import artifacts, pages, sections
from baton.reporting.html.artifacts import StepArtifacts
from baton.tracking import runs
from baton.tracking.runs import Run

log = logging.getLogger("baton")


REPORT = (
    *("data", "search", "training", "candidates", "gate", "costs", "slices", "calibration", "explanation", "audit"),
    *("scoring", "drift"),
)
CARDS = {
    "train": ("training", "candidates", "slices", "calibration"),
    "tune": ("search",),
    "distributed_train": ("training", "candidates", "slices", "calibration"),
    "register": ("gate", "costs", "slices", "calibration", "explanation", "audit"),
    "batch_infer": ("scoring", "drift"),
}
TITLES = {"train": "Baseline candidate", "tune": "Search", "distributed_train": "Tuned candidate",
          "register": "Gate and registry", "batch_infer": "Scoring"}  # fmt: skip
WHAT = {"mlflow.source.git.commit": "Commit", "mlflow.source.git.branch": "Branch", "mlflow.user": "User",
        names.TAG_HOST: "Machine"}  # fmt: skip


def log_report(config: Config, run: Run, summary: dict[str, Any], error: str, finished_runs: Mapping[str, Any]) -> None:
    """Make the page of a pipeline run from summary.json and its runs' artifacts, and log it on main's run.

    `error` is what ended main, if it failed; `finished_runs` as of `outputs.key`.
    """
    try:
        steps = artifacts.of_steps(summary["steps"], finished_runs)
        run.text(page(config, runs.client().get_run(run.id), summary, steps, error), names.REPORT)
    except Exception as fault:
        log.exception("the report could not be made: %s", fault)


def log_card(config: Config, run: Run) -> None:
    """Make the page of one step's run from what it has logged, and log it there; not all steps have one."""
    if run.step not in CARDS:
        return
    try:
        found = artifacts.of_run(run.id, run.step)
        drawn = sections.build(CARDS[run.step], {run.step: found})
        known = [section for section in drawn if section.values is not None]
        html = pages.render("card.html.j2", name=config.name, title=TITLES[run.step], sections=known)
        run.text(html, names.CARD)
    except Exception as fault:
        log.exception("the card of %s could not be made: %s", run.step, fault)


def page(config: Config, main: Any, summary: dict[str, Any], steps: dict[str, StepArtifacts], error: str) -> str:
    """Main's run, its summary, what its steps left and the error that ended it, if one did → the HTML page."""
    drawn = sections.build(REPORT, steps)
    return pages.render(
        "report.html.j2",
        name=config.name,
        task=config.data.task,
        target=config.data.target,
        error=error,
        started=_moment(main.info.start_time),
        hero=hero(config, summary, steps),
        run=what_ran(main, summary, steps),
        sections=drawn,
        lineage=lineage(main, summary, steps),
        reproduce=command(main),
    )


def hero(config: Config, summary: dict[str, Any], steps: dict[str, StepArtifacts]) -> dict[str, Any]:
    """The verdict, and the few numbers to know first."""
    metric, model = config.primary_metric, summary["model"]
    judged = _json(steps, "register", names.ASSESSMENT)
    drift = _json(steps, "batch_infer", names.DRIFT)
    audit = _json(steps, "register", names.AUDIT)
    tiles = []
    for split in ("test", "validation"):
        value = (summary["metrics"].get(split) or {}).get(metric)
        if value is not None:
            span = ((judged.get(split) or {}).get("intervals") or {}).get(metric)
            tiles.append((f"{split} {metric}", number_text(value), span_text(span)))
    live = drift.get("live") or {}
    if (live.get("metrics") or {}).get(metric) is not None:
        span = (live.get("intervals") or {}).get(metric)
        tiles.append((f"live {metric}", number_text(live["metrics"][metric]), span_text(span)))
    if summary["predictions"]:
        counted = summary["predictions"]
        aside = f"{counted['rows_quarantined']:,} quarantined" if counted["rows_quarantined"] else "none quarantined"
        tiles.append(("rows scored", f"{counted['rows_scored']:,}", aside))
    if audit.get("issues") is not None:
        tiles.append(("labels suspected", f"{audit['issues']:,}", f"of {audit.get('rows_audited', 0):,}"))
    data = summary.get("data") or {"rows_quarantined": 0, "warnings": []}
    if data["rows_quarantined"]:
        share = percent_text(data["rows_quarantined"] / data["rows_in"])
        tiles.append(("rows set aside by ingest", f"{data['rows_quarantined']:,}", f"{share} of {data['rows_in']:,}"))
    return {
        "model": model,
        "tiles": tiles,
        "warnings": [("drift", drift.get("warnings") or []), ("data", data["warnings"])],
    }


def what_ran(main: Any, summary: dict[str, Any], steps: dict[str, StepArtifacts]) -> dict[str, Any]:
    """The steps with their times, and the config."""
    longest = max((entry["seconds"] for entry in summary["steps"].values()), default=0.0) or 1.0
    own = StepArtifacts("main", "finished", main)
    return {
        "steps": [
            {"name": name, **entry, "width": 100 * entry["seconds"] / longest, "error": steps[name].error}
            for name, entry in summary["steps"].items()
        ],
        "seconds": summary["wall_seconds"],
        "options": {key: value for key, value in runs.parameters(main).items() if value},
        "config": own.text(names.CONFIG),
        "run_id": main.info.run_id,
    }


def lineage(
    main: Any, summary: dict[str, Any], steps: dict[str, StepArtifacts]
) -> list[tuple[str, list[tuple[str, str]]]]:
    """Code, environment, data and model by their hashes and versions: (heading, [(what, value)])."""
    parts = _json(steps, "ingest", names.CACHE_PARTS)
    scoring = _json(steps, "batch_infer", names.CACHE_PARTS)
    sources = {k: v for given in (parts, scoring) for k, v in given.items() if k.endswith(" content")}
    code = [(told, main.data.tags[tag]) for tag, told in WHAT.items() if tag in main.data.tags]
    data = [(f"SHA-256 of {name.removesuffix(' content')}", value) for name, value in sources.items()]
    manifest = _json(steps, "ingest", names.MANIFEST)
    if manifest:
        data.append(("Fingerprint of the dataset", manifest["fingerprint"]))
    model = []
    if summary["model"]:
        model.append(("Version", f"{summary['model']['name']} {summary['model']['version']}"))
    verdict = _json(steps, "register", names.VERDICT)
    candidate = steps.get(verdict.get("candidate_step", ""), StepArtifacts(""))
    wanted = {names.TAG_MODEL_URI: "Logged model", names.TAG_MODEL_DIGEST: "SHA-256 of its files",
              names.TAG_OUTPUT: "SHA-256 of its weights and data"}  # fmt: skip
    model += [(told, candidate.tags[tag]) for tag, told in wanted.items() if tag in candidate.tags]
    environment = [(f"SHA-256 of {k.removeprefix('environment ')}", v) for k, v in parts.items()
                   if k.startswith("environment ")]  # fmt: skip
    environment = [("Python", platform.python_version()), ("System", platform.platform()), *environment]
    ids = [(name, f.run.info.run_id) for name, f in steps.items() if f.run is not None]
    groups = {"Code": code, "Environment": environment, "Data": data, "Model": model, "Runs": ids}
    return [(heading, rows) for heading, rows in groups.items() if rows]


def command(main: Any) -> str:
    """The one command that runs the same again, from a clone of the project."""
    words = ["mlflow", "run", ".", "-e", "main", "--env-manager", "local"]
    words += ["--experiment-name", main.data.tags.get(names.TAG_NAME, "Default")]
    given = runs.parameters(main)
    for key in ("config", "set"):
        if given.get(key):
            words += ["-P", f"{key}={given[key]}"]
    commit = main.data.tags.get("mlflow.source.git.commit")
    again = shlex.join([*words, "-P", "force=all"])
    return f"git checkout {shlex.quote(commit)} && {again}" if commit else again


def _json(steps: dict[str, StepArtifacts], step: str, name: str) -> dict[str, Any]:
    return (steps[step].json(name) if step in steps else None) or {}


def _moment(milliseconds: int | None) -> str:
    return "" if milliseconds is None else f"{datetime.fromtimestamp(milliseconds / 1000, UTC):%Y-%m-%d %H:%M} UTC"

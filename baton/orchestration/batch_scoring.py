"""A model version and new data in, predictions with lineage and a quarantine out: what batch_infer and reconcile do."""

from __future__ import annotations

import json
import logging
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np

from baton import names
from baton.config.schema import BatchInfer, Config
from baton.data import reference
from baton.data.preprocessing import Preprocessor
from baton.data.reference import ReferenceData
from baton.data.sources import content, files
from baton.formatting import counts_text, percent_text
from baton.monitoring import drift, picture_drift
from baton.redaction import masked
from baton.registry import champions, descriptions, store, versions
from baton.reporting.figures import drift as drift_figures
from baton.runtime import files as files_module
from baton.serving import destination, scoring, table
from baton.serving.raw_columns import RawColumnModel
from baton.serving.scoring import Lineage, Scored
from baton.tracking import runs
from baton.tracking.runs import Run

log = logging.getLogger("baton")

TOP_REASONS = 3  # of quarantined rows that are named, of others the number
MOSTLY = 0.5  # share of a column's cells beyond which categories that the model does not know are a warning
# What is imported late, by whoever is about to score.
IMPORTS = ("baton.networks.prediction", "mlflow.pyfunc", "sklearn.ensemble", "sklearn.model_selection")


def predict(config: Config, run: Run, version: Any) -> None:
    """Score the new data with one model version, replace the output whole and log it on a run of batch_infer."""
    settings = config.to_score()
    place = destination.check(config, settings)
    if settings.table:
        table.check(config, settings)
    lineage = Lineage(
        version.name, str(version.version), version.run_id, version.tags.get(names.TAG_FINGERPRINT, ""), run.id
    )
    with destination.replaced(place, config.name) as folder:
        source = files.resolve(settings.source, files.Reading.of(config.data))
        done, preprocessor, known, network = score(config, settings, version, source, lineage, folder)
        run.tag(names.TAG_SOURCE_CONTENT, content.of_what_was_read(source))
        summary = summarise(config, settings, done, lineage) | {
            "model": versions.identity(version),
            "champion": (change := champions.change_to(version)) and asdict(change),
        }
        (folder / destination.MARK).write_text(json.dumps(summary, indent=1))
        summary["files"] = files_module.folder_hashes(folder)
        versions.demand_still_scores(version)
        if settings.table:  # before the folder: where this fails, nothing tells of predictions that are not there
            table.replace(config, settings, folder, summary)
    report(run, summary)
    if settings.drift.measure:
        report_drift(run, settings, version, preprocessor, known, network)
    descriptions.refresh(config, version.name, str(version.version))


def score(
    config: Config, settings: BatchInfer, version: Any, source: files.Source, lineage: Lineage, folder: Path
) -> tuple[Scored, Preprocessor, ReferenceData | None, Any]:
    """Score on the engine that the config, or the size of the source, asks for; with what the model was trained on.

    The network comes too where it is asked again, of what drifts in pictures.
    """
    for sentence in source.notes():
        log.info("%s", sentence)
    uri = f"models:/{version.name}/{version.version}"
    with versions.downloaded(uri, version.tags) as model:
        known, loaded = reference.load(model), None
        if files.engine(config, source) == "spark":
            from baton.serving import spark

            done = spark.score(config, model, source, lineage, folder)
        else:
            loaded = RawColumnModel.load(model, settings.interval)
            done = scoring.score(loaded, source, lineage, folder, settings.batch_rows)
        if known is None or known.picture_features is None or not settings.drift.measure:
            return done, Preprocessor.load(model / names.PREPROCESSOR), known, None
        loaded = loaded or RawColumnModel.load(model)
        return done, loaded.preprocessor, known, loaded.network


def report_drift(
    run: Run,
    settings: BatchInfer,
    version: Any,
    preprocessor: Preprocessor,
    reference: ReferenceData | None,
    network: Any = None,
) -> None:
    """Log how far what was scored lies from what the model was trained on. Predictions that are there do not fail.

    With a `network`, pictures are asked about by what it sees of them.
    """
    try:
        output = Path(settings.output)
        rows = drift.sampled(output, preprocessor, settings.drift.rows)
        before = drift.ReferenceScores(versions.test_metrics(version), versions.test_loss(version))
        pictures = picture_drift.of_scored(reference, network, preprocessor, output, settings.drift)
        found = drift.measure(reference, preprocessor, rows, settings.drift, before, pictures)
        run.json(found, names.DRIFT)
        run.figures(drift_figures.drift(found, settings.drift.psi))
        if pictures:
            strangest = np.array([each["row"] for each in pictures["strangest"]])
            pixels = picture_drift.pixels_of(preprocessor, output, strangest)
            run.figures(drift_figures.strangest(pictures, pixels))
        live = found["live"]["metrics"] if found["live"] else {}
        run.metrics({f"live_{name}": value for name, value in live.items() if value is not None})
        summary = "; ".join(found["warnings"]) or "none beyond the limits"
        store.tag(version, {names.TAG_DRIFT: f"{runs.now()[:10]}: {summary}"})
    except Exception as error:
        log.exception("drift could not be measured: %s", error)
        return
    for sentence in found["warnings"]:
        log.warning("drift: %s", sentence)
    for sentence in drift.live_sentences(found["live"]):
        log.info("%s", sentence)


def summarise(config: Config, settings: BatchInfer, done: Scored, lineage: Lineage) -> dict[str, Any]:
    """What was scored, by which model, with what result."""
    return {
        "pipeline": config.name,
        "path": settings.output,
        "source": masked(settings.source),
        "rows_in": done.rows_in,
        "rows_scored": done.rows_scored,
        "rows_quarantined": done.rows_quarantined,
        "reasons": dict(done.reasons.most_common()),
        "unseen_categories": dict(done.unseen.most_common()),
        **{name: str(getattr(lineage, name)) for name in names.LINEAGE},
    }


def report(run: Run, summary: dict[str, Any]) -> None:
    """Log the counts and the lineage, and say what was quarantined and what is new to the model."""
    run.json(summary, names.SCORING)
    run.metrics({key: summary[key] for key in ("rows_in", "rows_scored", "rows_quarantined")})
    run.params({key: summary[key] for key in ("model_name", "model_version")})
    counts, place = (f"{summary['rows_scored']:,}", f"{summary['rows_in']:,}"), Path(summary["path"]).absolute()
    log.info("scored %s of %s rows into %s", *counts, place)
    if summary["rows_quarantined"]:
        reasons = counts_text(summary["reasons"], TOP_REASONS)
        log.info(
            "quarantined %s of %s rows: %s", f"{summary['rows_quarantined']:,}", f"{summary['rows_in']:,}", reasons
        )
    for column, count in summary["unseen_categories"].items():
        share = count / summary["rows_scored"]
        level = logging.WARNING if share > MOSTLY else logging.INFO
        log.log(level, "%s of the cells of %s (%s) are categories that the model does not know",
                percent_text(share), column, f"{count:,}")  # fmt: skip

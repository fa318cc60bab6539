"""A source in, a dataset folder out, on this machine: the `local` engine of ingest.

It goes through the source in parts, on all cores, in an amount of memory that does not grow with the rows: first to
learn kinds, splits and summaries (`survey`), then to encode and write. `data.ingestion.spark` builds the same dataset
on Spark from the same `stages`.
"""

from __future__ import annotations

import logging
from collections import Counter
from dataclasses import replace
from pathlib import Path

from baton import names
from baton.config.schema import Config
from baton.data import dataset
from baton.data.ingestion import outputs, quarantine, stages
from baton.data.ingestion.outputs import Outputs
from baton.data.ingestion.parts import Parts, Work
from baton.data.ingestion.rows import check_reserved, fit_and_profile, laid_out, typed_rows
from baton.data.ingestion.survey import Survey
from baton.data.preprocessing import Preprocessor
from baton.data.sources import files
from baton.data.statistics import Summary

log = logging.getLogger("baton")

PARTS_FOLDER = ".parts"  # of a dataset that is being built; removed before it is complete


def build(config: Config, source: files.Source, folder: Path) -> Counter[str]:
    """Read, check, split, fit, encode and write a dataset into `folder`; return quarantine reasons."""
    config = laid_out(config, source)
    parts = Parts(source, folder / PARTS_FOLDER)
    try:
        check_reserved(parts.schema.names)
        return _built(config, source, parts, folder)
    finally:
        parts.close()


def _built(config: Config, source: files.Source, parts: Parts, folder: Path) -> Counter[str]:
    survey = Survey(config, parts)
    survey.look()
    log.info("read %s rows from %s", f"{survey.total:,}", source.location)
    summaries = survey.summaries()
    notes = source.notes() + survey.notes()
    pictured = survey.pictured if config.data.task == "image" else None
    preprocessor = fit_and_profile(config, survey.recognised, survey.counted, summaries, parts.schema.names,
                                   survey.plan, folder, pictured, notes)  # fmt: skip
    counts, reasons = _counts(config, survey, summaries, preprocessor, source.broken)
    _write(config, survey, parts, preprocessor, counts, folder)
    quarantine.write_lines(source.broken, folder / names.QUARANTINE_FOLDER)
    dataset.write_metadata(folder, preprocessor)
    preprocessor.save(folder / names.PREPROCESSOR)
    parts.close()
    dataset.complete(folder, counts, preprocessor)
    return reasons


def _counts(
    config: Config,
    survey: Survey,
    summaries: dict[str, Summary],
    preprocessor: Preprocessor,
    broken: list[dict[str, str]],
) -> tuple[dict[str, int], Counter[str]]:
    """(the manifest's rows, quarantine reasons), with the rows of classes that train lacks set aside too."""
    unseen = {name: _unseen(summary, preprocessor) for name, summary in summaries.items()}
    lines, total = quarantine.of_lines(broken), survey.total + len(broken)
    reasons = survey.bad.reasons + +Counter({quarantine.unseen_class(preprocessor.target): sum(unseen.values())})
    reasons += lines.reasons
    quarantine.check(config, replace(survey.bad + lines, reasons=reasons), total)
    used = {name: summary.rows - unseen[name] for name, summary in summaries.items()}
    return {"input": total, **used, "quarantined": reasons.total()}, reasons


def _unseen(summary: Summary, preprocessor: Preprocessor) -> int:
    """How many rows of a split are of a class that does not occur in train."""
    if not preprocessor.classes:
        return 0
    counts = summary.columns[preprocessor.target].counts
    return sum(rows for name, rows in counts.items() if name not in preprocessor.classes)


def _write(
    config: Config, survey: Survey, parts: Parts, preprocessor: Preprocessor, counts: dict[str, int], folder: Path
) -> None:
    """Encode and write the rows of each split, the raw test rows and the quarantine."""
    columns = survey.columns or []
    pictures = survey.picture_bytes(preprocessor.classes)
    held = max(parts.source.bytes, sum(int(sizes.sum()) for sizes in pictures.values()))

    def outcomes(work: Work) -> list[stages.Outcome]:
        rows = work.rows
        typed, reasons = (rows.typed, rows.reasons) if rows else typed_rows(work.raw, columns, config)
        assert work.places is not None
        found = stages.outcomes(work.raw, typed, reasons, work.places, preprocessor)
        return [o if o.raw is None else replace(o, raw=outputs.plain(o.raw)) for o in found]

    size = outputs.raw_rows(survey.total, held)
    written = Outputs(folder, config, preprocessor, parts.schema, counts, pictures, size)
    for found in parts.each(outcomes, "wrote"):
        written.add(found)
    written.close()

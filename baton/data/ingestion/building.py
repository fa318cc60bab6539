"""The parts of a source in, a dataset out: the order of the work, whoever goes through the parts."""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pyarrow as pa

from baton import names
from baton.config.schema import Config
from baton.data import columns as cols
from baton.data import dataset
from baton.data.ingestion import quarantine, stages
from baton.data.ingestion.parts import Work
from baton.data.ingestion.rows import check_reserved, checked, fit_and_profile, typed_rows
from baton.data.ingestion.survey import Passes, Survey
from baton.data.preprocessing import Preprocessor
from baton.data.statistics import Summary

log = logging.getLogger("baton")

PARTS_FOLDER = ".parts"  # of a dataset that is being built; removed before it is complete


@dataclass(frozen=True)
class Encoder:
    """How a part's rows become what is written of them."""

    config: Config
    columns: list[cols.Column]
    layout: stages.Layout
    preprocessor: Preprocessor

    def outcomes(self, work: Work) -> list[stages.Outcome]:
        """What is written of a part."""
        rows, places = work.rows, work.places
        if places is None:
            rows = rows or checked(work.raw, self.columns, self.config)
            places = self.layout.places(rows, str(work.part.number), self.config.data)
        typed, reasons = (rows.typed, rows.reasons) if rows else typed_rows(work.raw, self.columns, self.config)
        return list(stages.outcomes(work.raw, typed, reasons, places, self.preprocessor))


@dataclass(frozen=True)
class Plan:
    """All that is known before rows are written: how, how many go where, and the bytes of each split's pictures."""

    encoder: Encoder
    counts: dict[str, int]
    rows: int
    pictures: dict[str, np.ndarray]
    schema: pa.Schema


def build(config: Config, parts: Passes, write: Callable[[Plan], None], folder: Path) -> Counter[str]:
    """Learn, fit, write by `write` and complete the dataset in `folder`; return quarantine reasons."""
    source = parts.source
    check_reserved(parts.schema.names)
    survey = Survey(config, parts)
    survey.look()
    log.info("read %s rows from %s", f"{survey.total:,}", source.location)
    summaries = survey.summaries()
    notes = source.notes() + survey.notes()
    pictured = survey.seen.pictured if config.data.task == "image" else None
    preprocessor = fit_and_profile(config, survey.recognised, survey.counted, summaries, parts.schema.names,
                                   survey.plan, folder, pictured, notes)  # fmt: skip
    counts, reasons = _counts(config, survey, summaries, preprocessor, source.broken)
    assert survey.layout is not None
    encoder = Encoder(config, survey.columns or [], survey.layout, preprocessor)
    pictures = survey.seen.picture_bytes(preprocessor.classes)
    write(Plan(encoder, counts, survey.total, pictures, parts.schema))
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
    reasons = survey.seen.bad.reasons + +Counter({quarantine.unseen_class(preprocessor.target): sum(unseen.values())})
    reasons += lines.reasons
    quarantine.check(config, replace(survey.seen.bad + lines, reasons=reasons), total)
    used = {name: summary.rows - unseen[name] for name, summary in summaries.items()}
    return {"input": total, **used, "quarantined": reasons.total()}, reasons


def _unseen(summary: Summary, preprocessor: Preprocessor) -> int:
    """How many rows of a split are of a class that does not occur in train."""
    if not preprocessor.classes:
        return 0
    counts = summary.columns[preprocessor.target].counts
    return sum(rows for name, rows in counts.items() if name not in preprocessor.classes)

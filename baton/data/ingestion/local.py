"""A source in, a dataset folder out, on this machine: the `local` engine of ingest.

It goes through the source in parts, on all cores, in an amount of memory that does not grow with the rows.
`data.ingestion.spark` builds the same dataset, byte for byte, of files on Spark.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from pathlib import Path

from baton.config.schema import Config
from baton.data.ingestion import building, outputs, stages
from baton.data.ingestion.building import Plan
from baton.data.ingestion.outputs import Outputs
from baton.data.ingestion.parts import Parts, Work
from baton.data.ingestion.rows import laid_out
from baton.data.sources import files


def build(config: Config, source: files.Source, folder: Path) -> Counter[str]:
    """Read, check, split, fit, encode and write a dataset into `folder`; return quarantine reasons."""
    config = laid_out(config, source)
    parts = Parts(source, folder / building.PARTS_FOLDER)
    try:
        return building.build(config, parts, lambda plan: _write(parts, plan, folder), folder)
    finally:
        parts.close()


def _write(parts: Parts, plan: Plan, folder: Path) -> None:
    """Encode and write the rows of each split, the raw test rows and the quarantine."""

    def outcomes(work: Work) -> list[stages.Outcome]:
        found = plan.encoder.outcomes(work)
        return [o if o.raw is None else replace(o, raw=outputs.plain(o.raw)) for o in found]

    written = Outputs(folder, plan, outputs.raw_rows(plan.rows, outputs.held_bytes(plan, parts.source)))
    for found in parts.each(outcomes, "wrote"):
        written.add(found)
    written.close()

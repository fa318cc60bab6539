"""ingest: raw data in, a split, encoded, hashed Petastorm dataset out, with quarantine and profile."""

import json
import logging
import shutil
from collections import Counter
from pathlib import Path

from baton import names
from baton.config.schema import Config
from baton.data.dataset import Dataset, publish
from baton.data.ingestion import local
from baton.data.sources import content, files
from baton.errors import writing
from baton.orchestration.step import step
from baton.reporting import console, profile
from baton.runtime import locks
from baton.runtime.files import new_folder
from baton.tracking import inputs
from baton.tracking.runs import Run

log = logging.getLogger("baton")


@step("ingest", imports=("petastorm.etl.dataset_metadata", "baton.reporting.html.pages"))
def ingest(config: Config, run: Run) -> None:
    """Read the source, quarantine what can't be used, split, fit preprocessing, write the dataset."""
    home = Path(config.warehouse) / config.name / "datasets"
    with writing(home):
        home.mkdir(parents=True, exist_ok=True)
        aside = new_folder(home, ".aside-")
        try:
            with locks.held(aside):
                source = files.resolve(config.data.source, files.Reading.of(config.data))
                reasons = build(config, source, aside)
                run.tag(names.TAG_SOURCE_CONTENT, content.of_what_was_read(source))
                dataset = publish(aside, home / run.id)
        finally:
            shutil.rmtree(aside, ignore_errors=True)
    report(config, run, dataset, reasons)
    log.info("dataset %s: %s", dataset.fingerprint[:12], dataset.rows)


def build(config: Config, source: files.Source, folder: Path) -> Counter[str]:
    """Build the dataset on the engine that the config, or the size of the source, asks for."""
    if files.engine(config, source) == "spark":
        from baton.data.ingestion import spark

        return spark.build(config, source, folder)
    return local.build(config, source, folder)


def report(config: Config, run: Run, dataset: Dataset, reasons: Counter[str]) -> None:
    """Log the manifest, profile, quarantine and the dataset itself as the run's input."""
    run.tag(names.TAG_DATASET, str(dataset.folder))
    run.tag(names.TAG_FINGERPRINT, dataset.fingerprint)
    run.tag(names.TAG_OUTPUT, dataset.content)
    run.metrics({f"rows_{key}": value for key, value in dataset.rows.items()})
    for name in (names.MANIFEST, names.PREPROCESSOR, names.PROFILE, names.COLUMNS, names.PICTURES):
        if (dataset.folder / name).is_file():  # of tables there are no pictures
            run.file(dataset.folder / name)
    run.file(dataset.folder / names.QUARANTINE_FOLDER)
    run.json(dict(reasons.most_common()), names.REASONS)
    for reason, count in reasons.most_common(10):
        log.info("quarantined %s rows: %s", f"{count:,}", reason)
    table = json.loads((dataset.folder / names.COLUMNS).read_text())
    console.columns(table)
    for warning in table["warnings"]:
        log.warning("%s", warning)
    page, figures = profile.of_dataset(config, dataset, reasons)
    run.text(page, names.PROFILE_PAGE)
    run.figures(figures)
    inputs.log_dataset(run, dataset, names.SPLITS)


if __name__ == "__main__":
    ingest()

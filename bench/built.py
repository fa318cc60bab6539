"""A source in, what building its dataset took out: `python built.py SOURCE FOLDER`, of the checkout in PYTHONPATH.

Run as a file, so that it measures an earlier commit's Baton as it measures this one.
"""

from __future__ import annotations

import importlib
import json
import resource
import shutil
import sys
import time
from dataclasses import asdict, dataclass
from pathlib import Path


@dataclass(frozen=True)
class Built:
    """Rows, seconds, processor seconds, and the most memory that the process has held, in MiB."""

    rows: int
    seconds: float
    processor_seconds: float
    peak: float


def built(source: str, folder: Path) -> Built:
    """Build the dataset and remove it."""
    from baton.config.schema import validate
    from baton.data.dataset import Dataset
    from baton.data.ingestion import local
    from baton.data.sources import files

    for module in ("pandas", "petastorm.etl.dataset_metadata"):  # as ingest has before it begins
        importlib.import_module(module)
    data = {"source": source, "target": "arr_delay", "task": "regression", "rows_per_value": 0}
    config = validate({"name": "bench", "data": data}, {}, "bench")
    folder.mkdir()
    started, used = time.perf_counter(), time.process_time()
    local.build(config, files.resolve(source), folder)
    seconds, processor = time.perf_counter() - started, time.process_time() - used
    rows = Dataset.load(folder).rows["input"]
    shutil.rmtree(folder)
    return Built(rows, seconds, processor, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024)


if __name__ == "__main__":
    print(json.dumps(asdict(built(sys.argv[1], Path(sys.argv[2])))))

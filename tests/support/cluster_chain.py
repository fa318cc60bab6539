"""Steps one after another in one process, as a driver of a cluster: `python cluster_chain.py CONFIG STEP,STEP,…`.

Prints a line of JSON: the run of each step, what the executors say of themselves, and the sentence about a worker that
dies on the same part of the source whenever it is tried.
"""

from __future__ import annotations

import importlib
import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[2]))

import mlflow
import pyarrow as pa

from baton.config import loading
from baton.data.sources import files, spark_rows
from baton.data.sources.spark_rows import Tables
from baton.errors import BatonError
from baton.runtime import spark
from faults import cluster

INPUTS = cluster.INPUTS | {"train": {"ingest_run_id": "ingest"}}


def run(step: str, config: str, before: dict[str, str]) -> str:
    """Run an entry point → its run's ID; ends this process where it fails."""
    inputs = [f"--{option}={before.get(of) or before['train']}" for option, of in INPUTS[step].items()]
    command = getattr(importlib.import_module(f"steps.{step}"), step)
    try:
        command([f"--config={config}", *inputs])
    except SystemExit as ended:
        if ended.code:
            raise
    run_id = mlflow.last_active_run().info.run_id
    assert run_id not in before.values()
    return run_id


def seen_by_executors(config: str) -> list[dict[str, Any]]:
    """Of each task: where its `baton` comes from, its working folder and what it could import from there."""

    def told(batches: Iterator[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        import importlib.util
        import os
        import sys
        from pathlib import Path

        import baton

        for _ in batches:
            steps = importlib.util.find_spec("steps")
            answer = {"baton": str(Path(baton.__file__).absolute()), "folder": str(Path.cwd()), "steps": str(steps)}
            answer |= {"path": sys.path, "environment": sorted(os.environ)}
            yield pa.RecordBatch.from_pydict({"answer": [json.dumps(answer)]})

    session = spark.session(loading.load(config, ""))
    rows = session.range(0, 4, 1, 4).mapInArrow(told, "answer string").collect()
    return [json.loads(row["answer"]) for row in rows]


def about_a_death(config: str, part: str) -> str:
    """The sentence, where a worker is killed as it reads the part of that number."""

    def dying(tables: Tables) -> Iterator[pa.Table]:
        import os
        import signal

        for _ in tables:
            if tables.part == part:
                os.kill(os.getpid(), signal.SIGKILL)
        yield pa.table({"key": ["done"], "data": [b""]})

    settings = loading.load(config, "")
    source = files.resolve(settings.data.source, files.Reading.of(settings.data))
    try:
        with spark_rows.opened(settings, source) as rows:
            rows.collect(dying, tasks=0)
    except BatonError as error:
        return str(error)
    return ""


if __name__ == "__main__":
    file, steps = sys.argv[1:]
    ids: dict[str, str] = {}
    for name in steps.split(","):
        ids[name] = run(name, file, ids)
    answer = {"runs": ids, "seen": seen_by_executors(file), "death": about_a_death(file, "4")}
    print("\n" + json.dumps(answer), flush=True)

"""Everything that takes Spark, on Spark Connect, with the folder of test_connect.py: `python connect_chain.py FOLDER`.

SPARK_REMOTE asks for a server in this process.
Prints a line of JSON with what each part gave; the rows lie in the folder.
"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[2]))

import cluster_chain
import psutil
import pyarrow.parquet as pq
from pyspark.sql import SparkSession

from baton.config import loading
from baton.config.schema import Config
from baton.data.dataset import Dataset
from baton.data.ingestion import local as building
from baton.data.ingestion import spark as spark_ingestion
from baton.data.sources import files
from baton.errors import BatonError
from baton.networks import build as networks
from baton.runtime import spark
from baton.serving import scoring
from baton.serving import spark as spark_scoring
from baton.serving.raw_columns import RawColumnModel
from baton.training import distributed
from baton.tuning import connect
from baton.tuning.hyperopt import Trial


def sentence(work: Callable[[], Any]) -> str:
    """How work is refused; empty if it is not."""
    try:
        work()
    except BatonError as error:
        return f"{type(error).__name__}: {error}"
    return ""


def sessions(server: Any, config: Config) -> dict[str, Any]:
    """Whose session is taken, and what becomes of it."""
    first, again = spark.session(config), spark.session(config)
    first.client.release_session()  # as a server does with one that rests for an hour
    later = spark.session(config)
    there = config.overridden({"spark.master": f"sc://{server.client._builder.endpoint}"})
    named = spark.session(there)
    return {
        "kept": first is again and first is not server,
        "anew": later is not first and later.range(3).count() == 3,
        "named": named not in (server, later) and named is spark.session(there) and named.range(2).count() == 2,
        "zones": [one.conf.get("spark.sql.session.timeZone") for one in (server, later, named)],
        "slots": spark.parallelism(later),
        "silent": sentence(lambda: spark.session(config.overridden({"spark.master": "sc://localhost:1"}))),
        "no address": sentence(lambda: spark.session(config.overridden({"spark.master": "sc://localhost:1/a"}))),
    }


def built(build: Callable[..., Any], config: Config, folder: Path) -> None:
    """A dataset and the reasons of its quarantine."""
    folder.mkdir()
    reasons = build(config, files.resolve(config.data.source, files.Reading.of(config.data)), folder)
    (folder / "reasons.json").write_text(json.dumps(reasons, sort_keys=True))


def scored(config: Config, dataset: Dataset, folder: Path) -> list[dict[str, Any]]:
    """The predictions of each engine → their counts."""
    RawColumnModel(dataset.preprocessor, networks.build(dataset.preprocessor, config.model)).save(folder / "raw")
    source, lineage = files.resolve(config.data.source), scoring.Lineage("m", "1", "r", "f", "s")
    for name in ("local", "spark"):
        (folder / name).mkdir()
    one = scoring.score(RawColumnModel.load(folder / "raw"), source, lineage, folder / "local", 500)
    other = spark_scoring.score(config, folder / "raw", source, lineage, folder / "spark")
    return [vars(one), vars(other)]


def trials(config: Config) -> dict[str, Any]:
    """Trials that end well, fail, lose their process, or are frozen until the time is over."""

    def objective(parameters: dict[str, Any]) -> dict[str, Any]:
        import os
        import signal

        if parameters["how"] == "dies":
            os._exit(1)
        if parameters["how"] == "hangs":
            os.kill(os.getpid(), signal.SIGSTOP)
        good = parameters["how"] == "good"
        return {"status": "ok" if good else "failed", "loss": 1.0 if good else None, "error": "" if good else "broke"}

    tasks = connect.Tasks(config)

    def ended(seconds: float, *how: str) -> dict[int, list[str]]:
        batch = [Trial(number, {"how": each}) for number, each in enumerate(how)]
        done = tasks.evaluate(objective, batch, time.monotonic() + seconds)
        return {trial.number: [trial.status, trial.error] for trial in done}

    answer = {
        "ended": ended(300, "good", "fails", "dies", "good"),
        "late": ended(-1, "good"),
        "frozen": ended(3, "hangs"),
    }
    deadline = time.monotonic() + 60
    while any(p.status() == psutil.STATUS_STOPPED for p in psutil.Process().children(recursive=True)):
        assert time.monotonic() < deadline
        time.sleep(0.1)
    return answer


def listening() -> list[str]:
    """The addresses that this process and its children listen on."""
    family = [psutil.Process(), *psutil.Process().children(recursive=True)]
    found = [connection for process in family for connection in process.net_connections()]
    return sorted({connection.laddr.ip for connection in found if connection.status == psutil.CONN_LISTEN})


def main(folder: Path) -> dict[str, Any]:
    file = str(folder / "config.yaml")
    config = loading.load(file, "")
    spark.session(config)
    server = SparkSession.active()  # which PySpark has made of SPARK_REMOTE
    before = server.conf.getAll
    runs: dict[str, str] = {}
    for step in ("ingest", "tune"):
        runs[step] = cluster_chain.run(step, file, runs)
    built(building.build, config, folder / "local")
    server.createDataFrame(pq.read_table(folder / "rows.parquet")).write.saveAsTable("rows")
    built(spark_ingestion.build, config.overridden({"data.source": "table:rows"}), folder / "table")
    dataset = Dataset.load(folder / "local")
    latin = config.overridden({"data.source": str(folder / "latin")})
    answer = {
        "runs": runs,
        "scored": scored(config, dataset, folder / "scored"),
        "trials": trials(config),
        "horovod": sentence(lambda: distributed.train(config, dataset, folder, lambda epoch, logs: None)),
        "latin": sentence(lambda: built(spark_ingestion.build, latin, folder / "refused")),
        "death": cluster_chain.about_a_death(file, "1"),
        "seen": cluster_chain.seen_by_executors(file),
        "sessions": sessions(server, config),
        "listening": listening(),
        "left alone": server.conf.getAll == before,
    }
    server.stop()
    return answer


if __name__ == "__main__":
    print("\n" + json.dumps(main(Path(sys.argv[1]))), flush=True)

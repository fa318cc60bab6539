"""The process in which the stand-in's tasks run: it calls a wheel's entry point as Databricks does.

A line on standard input is a task, its words parted by NUL: a log, `kill` or nothing, package, entry point, options.
With `--forks` each task is a fork of this process, which has imported what steps need; with `--once` it is this one.
"""

import os
import signal
import sys
import threading
import time
import traceback
from importlib import import_module, metadata
from pathlib import Path

AHEAD = (
    *("baton.steps.ingest", "baton.steps.train", "baton.steps.tune", "baton.steps.distributed_train"),
    *("baton.steps.register", "baton.steps.batch_infer", "baton.steps.report", "mlflow.tensorflow", "mlflow.pyfunc"),
    *("baton.orchestration.job", "baton.reporting.html.pages", "petastorm.etl.dataset_metadata", "keras", "hyperopt"),
)


def prepare() -> None:
    """Let MLflow find the registry with Unity Catalog's limits, and no driver's Spark: there is none to be asked."""
    from mlflow.utils import databricks_utils

    databricks_utils.get_repl_id = lambda: None
    sys.path.append(os.environ["STAND_IN"])
    import unity_catalog

    unity_catalog.install()
    sys.path.remove(os.environ["STAND_IN"])


def call(package: str, name: str, words: list[str]) -> int:
    """Call an entry point in this interpreter: 0 if it comes back, 1 for any exception, `SystemExit` among them."""
    sys.argv = [name, *words]
    try:
        points = [point for point in metadata.distribution(package).entry_points if point.name == name]
        points[0].load()()
        return 0
    except BaseException:  # noqa: BLE001 - as a notebook's cell does
        traceback.print_exc()
        return 1


def kill_once_it_works(log: str) -> None:
    """End this process, as a lost machine does, as soon as its log says that the step has no result yet."""

    def watch() -> None:
        while " miss: " not in Path(log).read_text():
            time.sleep(0.01)
        os.kill(os.getpid(), signal.SIGKILL)

    threading.Thread(target=watch, daemon=True).start()


def work(line: str) -> int:
    log, kill, package, name, *words = line.split("\0")
    output = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
    os.dup2(output, 1)
    os.dup2(output, 2)
    if kill:
        kill_once_it_works(log)
    status = call(package, name, words)
    sys.stdout.flush()
    sys.stderr.flush()
    return status


def main() -> None:
    prepare()
    if "--once" in sys.argv:
        from pyspark.sql import SparkSession

        driver = SparkSession.builder.master("local[2]").config("spark.ui.enabled", "false").getOrCreate()
        before = dict(driver.conf.getAll)
        status = work(sys.stdin.read())
        if driver._jsc.sc().isStopped() or dict(driver.conf.getAll) != before:
            sys.exit("the driver's Spark is not as it was")
        sys.exit(status)
    for module in AHEAD:
        import_module(module)
    for line in sys.stdin:
        child = os.fork()
        if not child:
            os._exit(work(line.rstrip("\n")))
        _, status = os.waitpid(child, 0)
        print(os.waitstatus_to_exitcode(status), flush=True)


if __name__ == "__main__":
    main()

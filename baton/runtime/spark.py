"""The Spark session, made here alone, with the settings that Baton relies on."""

from __future__ import annotations

import os
import re
import shlex
import shutil
import signal
import sys
import tempfile
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from baton.config.schema import Config
from baton.errors import BadInput, BatonError
from baton.runtime import paths

GROUP = "spark.jobGroup.id"
LOOK_S = 1.0  # between two looks whether jobs are to be cancelled
ARROW_BYTES = 256 << 20  # of a batch that Spark hands to Python
LOCAL = re.compile(r"local(\[.*\])?")
# What goes wrong in a task comes back as an exception; the log need not tell it too.
QUIET = """
rootLogger.level = error
rootLogger.appenderRef.console.ref = console
appender.console.type = Console
appender.console.name = console
appender.console.target = SYSTEM_ERR
appender.console.layout.type = PatternLayout
appender.console.layout.pattern = %d{HH:mm:ss} %p %c{1}: %m%n%ex
logger.executor.name = org.apache.spark.executor.Executor
logger.executor.level = off
logger.tasks.name = org.apache.spark.scheduler.TaskSetManager
logger.tasks.level = off
"""


def session(config: Config) -> Any:
    """A Spark session with the settings that Baton relies on, in the Spark that runs, or a new one as the config says.

    A session that somebody else has made keeps its settings: Baton's is another one of the same Spark, which is
    nobody's here to stop. Raises `BadInput` for Spark Connect.
    """
    from pyspark.sql import SparkSession

    os.environ.setdefault("PYSPARK_PYTHON", sys.executable)
    active = SparkSession.getActiveSession()
    _demand_classic(config, active)
    foreign = active is not None and active.sparkContext is not _own
    spark = _beside(active) if foreign else active or _start(config)
    for key, value in {**_sql_settings(config), **config.spark.config}.items():
        if spark.conf.isModifiable(key):
            spark.conf.set(key, value)
    return spark


# The session

_own: Any = None  # the context of the Spark that this process has started
_others: dict[str, Any] = {}  # {application: Baton's session in a Spark that somebody else has started}


def _demand_classic(config: Config, active: Any) -> None:
    """Raise `BadInput` where there is no Spark of this process: Spark Connect, or a child process on Databricks."""
    from pyspark.sql.utils import is_remote

    if is_remote() or (config.spark.master or "").startswith("sc:") or not (active is None or _has_context(active)):
        raise BadInput(
            "Spark Connect is not supported yet: take a cluster with dedicated access (not standard access, nor "
            f"serverless), or set engine: local. Received: {config.spark.master or type(active).__module__}"
        )
    if active is None and "DATABRICKS_RUNTIME_VERSION" in os.environ:
        raise BadInput(
            "On Databricks Spark is the task's own, and this process has none, maybe because another one started it: "
            "run the step as a task's entry point, or set engine: local."
        )


def _has_context(active: Any) -> bool:
    try:
        return active.sparkContext is not None
    except Exception:  # noqa: BLE001 - PySpark's kinds of it differ from version to version
        return False


def _beside(active: Any) -> Any:
    """A session of Baton's own in the Spark of another one, whose executors get Baton's code; one for each Spark."""
    application = active.sparkContext.applicationId
    if application not in _others:
        _others[application] = active.newSession()
        _ship_code(active)
    return _others[application]


def _start(config: Config) -> Any:
    from pyspark import SparkContext
    from pyspark.errors import PySparkRuntimeError
    from pyspark.sql import SparkSession

    with tempfile.NamedTemporaryFile("w", suffix=".properties") as log_settings:
        log_settings.write(QUIET)
        log_settings.flush()
        quiet = {"spark.driver.extraJavaOptions": f"-Dlog4j2.configurationFile={log_settings.name}"}
        settings = {**quiet, **_settings(config), **_sql_settings(config), **config.spark.config}
        builder = SparkSession.builder.appName(f"baton {config.name}")
        for key, value in settings.items():
            builder = builder.config(key, value)
        try:
            with _off_the_command_line(settings):
                SparkContext._ensure_initialized()
            with _same_interrupts():
                spark = builder.getOrCreate()
        except PySparkRuntimeError as error:
            raise BatonError(f"Spark needs Java 17: install it, or set JAVA_HOME. Received: {error}") from None
    if not is_local(spark):
        _ship_code(spark)
    global _own
    _own = spark.sparkContext
    return spark


@contextmanager
def _same_interrupts() -> Iterator[None]:
    """What SIGINT does is as before: PySpark's handler would leave a transaction, and stop the stopping."""
    before = signal.getsignal(signal.SIGINT)
    yield
    if threading.current_thread() is threading.main_thread():
        signal.signal(signal.SIGINT, before)


@contextmanager
def _off_the_command_line(settings: dict[str, str]) -> Iterator[None]:
    """Java started meanwhile reads its settings in a file of this user's alone.

    The builder would start it with `--conf key=value` of each, which everybody on the machine can read.
    """
    before = os.environ.get("PYSPARK_SUBMIT_ARGS")
    with tempfile.NamedTemporaryFile("w", suffix=".properties") as file:
        file.writelines(f"{_property(key)}={_property(value)}\n" for key, value in settings.items())
        file.flush()
        options = f"--properties-file {shlex.quote(file.name)} --load-spark-defaults"
        os.environ["PYSPARK_SUBMIT_ARGS"] = f"{options} {before or 'pyspark-shell'}"
        try:
            yield
        finally:
            del os.environ["PYSPARK_SUBMIT_ARGS"]
            if before is not None:
                os.environ["PYSPARK_SUBMIT_ARGS"] = before


def _property(text: str) -> str:
    """A text as Java's property files take any: the numbers of its UTF-16 units."""
    return "".join(f"\\u{unit}" for unit in text.encode("utf-16-be").hex(" ", 2).split())


def _settings(config: Config) -> dict[str, str]:
    """What is fixed when Spark starts."""
    cores = len(os.sched_getaffinity(0))
    slots = max(cores, config.distributed_train.workers, config.tune.parallelism, 2)
    master = config.spark.master or f"local[{slots}]"
    settings = {
        "spark.master": master,
        "spark.ui.enabled": "false",
        "spark.ui.showConsoleProgress": "false",
        "spark.executorEnv.OMP_NUM_THREADS": "1",  # a task has one core
        "spark.executorEnv.TF_NUM_INTRAOP_THREADS": "1",
        "spark.executorEnv.TF_NUM_INTEROP_THREADS": "1",
        "spark.executorEnv.TF_CPP_MIN_LOG_LEVEL": "2",
    }
    if not LOCAL.fullmatch(master):
        return settings
    os.environ.setdefault("SPARK_LOCAL_IP", "127.0.0.1")
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") >> 20
    return settings | {
        "spark.authenticate": "true",  # Spark draws a secret, which other users' messages to its ports lack
        "spark.driver.bindAddress": "127.0.0.1",
        "spark.driver.host": "127.0.0.1",
        "spark.driver.memory": f"{max(1024, memory // 4)}m",
        "spark.executorEnv.PYTHONPATH": str(paths.CODE),
        "spark.sql.shuffle.partitions": str(slots),
    }


def _sql_settings(config: Config) -> dict[str, str]:
    """What makes Spark keep names, moments and numbers as Arrow does."""
    return {
        "spark.sql.session.timeZone": "UTC",
        "spark.sql.caseSensitive": "true",
        "spark.sql.parquet.outputTimestampType": "TIMESTAMP_MICROS",
        "spark.sql.parquet.datetimeRebaseModeInWrite": "CORRECTED",
        "spark.sql.execution.arrow.pyspark.enabled": "true",
        # Spark 4.0 bounds batches by rows alone.
        "spark.sql.execution.arrow.maxRecordsPerBatch": "256" if config.data.task == "image" else "65536",
        "spark.sql.execution.arrow.maxBytesPerBatch": str(ARROW_BYTES),
    }


@contextmanager
def cancelled_when(context: Any, group: str, over: Callable[[], bool]) -> Iterator[None]:
    """Meanwhile the jobs that this thread has run bear the group's name; once it is `over`, they are cancelled.

    Again and again, for one that is about to begin is no job yet.
    """
    done = threading.Event()

    def look() -> None:
        while not done.wait(LOOK_S):
            if over():
                context.cancelJobGroup(group)

    watcher, before = threading.Thread(target=look, daemon=True), context.getLocalProperty(GROUP)
    context.setJobGroup(group, group)
    watcher.start()
    try:
        yield
    finally:
        done.set()
        watcher.join()
        context.setLocalProperty(GROUP, before)


def is_local(spark: Any) -> bool:
    return LOCAL.fullmatch(spark.sparkContext.master) is not None


def _ship_code(spark: Any) -> None:
    """Send the `baton` package to all executors."""
    home = Path(tempfile.mkdtemp(prefix="baton-code-"))
    package = paths.PACKAGE
    skip = shutil.ignore_patterns("__pycache__")
    shutil.copytree(package, home / "code" / package.name, ignore=skip)
    spark.sparkContext.addPyFile(shutil.make_archive(str(home / "baton"), "zip", home / "code"))


@contextmanager
def own_errors() -> Iterator[None]:
    """Baton's own errors inside a Spark task come out as what they are, not as a stack trace of Java's."""
    from py4j.protocol import Py4JJavaError
    from pyspark.errors import PySparkException

    try:
        yield
    except (PySparkException, Py4JJavaError) as error:
        kinds = {kind.__name__: kind for kind in (BadInput, BatonError)}
        found = re.search(rf"baton\.errors\.({'|'.join(kinds)}): (.*)", str(error))
        if found is None:
            raise
        raise kinds[found[1]](found[2]) from None

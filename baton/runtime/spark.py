"""The Spark session, made here alone, with the settings that Baton relies on."""

from __future__ import annotations

import atexit
import os
import re
import secrets
import shlex
import shutil
import signal
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from baton.config.schema import Config
from baton.errors import BadInput, BatonError
from baton.runtime import paths, spark_connect
from baton.runtime.spark_connect import is_connect

GROUP = "spark.jobGroup.id"
LOOK_S = 1.0  # between two looks whether jobs are to be cancelled
ARROW_BYTES = 256 << 20  # of a batch that Spark hands to Python
LOCAL = re.compile(r"local(\[.*\])?")
LOCAL_CLUSTER = re.compile(r"local-cluster\[.*\]")  # executors of their own, all on this machine
# How Spark says that it has given up on a task, what it was, and that the process died: no error of its code's own.
GIVEN_UP = re.compile(r"Task (\d+) in stage (\d+)\.\d+ failed (\d+) times, most recent failure: (.*)", re.DOTALL)
DIED = re.compile(r"ExecutorLostFailure \(.*|Python worker exited unexpectedly.*")
LOOPBACK = ("127.0.0.1", "localhost", "::1")
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
    nobody's here to stop. It is one of Spark Connect where `connects`.
    """
    from pyspark.sql import SparkSession

    os.environ.setdefault("PYSPARK_PYTHON", sys.executable)
    settings = {**_sql_settings(config), **config.spark.config}
    if connects(config):
        return spark_connect.session(config, settings, packed_code)
    active = SparkSession.getActiveSession()
    _demand_own_process(active)
    foreign = active is not None and active.sparkContext is not _own
    spark = _beside(active) if foreign else active or _start(config)
    for key, value in settings.items():
        if spark.conf.isModifiable(key):
            spark.conf.set(key, value)
    return spark


def connects(config: Config) -> bool:
    """Whether the session is one of Spark Connect: by `spark.master`, SPARK_REMOTE or the session that runs."""
    return spark_connect.asked_for(config)


def demand_context(config: Config, purpose: str) -> None:
    """Raise `BadInput` where Spark Connect has no SparkContext, which `purpose` needs."""
    if connects(config):
        raise BadInput(
            f"{purpose} needs a SparkContext, and Spark Connect has none (nor has Databricks' standard access mode, or "
            "serverless): set launcher: horovodrun, or take a cluster with dedicated access. "
            f"Received: {config.spark.master or 'a session of Spark Connect'}"
        )


# The session

_own: Any = None  # the context of the Spark that this process has started
_others: dict[str, Any] = {}  # {application: Baton's session in a Spark that somebody else has started}


def _demand_own_process(active: Any) -> None:
    """Raise `BadInput` where Spark is another process's: in a child process on Databricks."""
    if active is None and "DATABRICKS_RUNTIME_VERSION" in os.environ:
        raise BadInput(
            "On Databricks Spark is the task's own, and this process has none, maybe because another one started it: "
            "run the step as a task's entry point, or set engine: local."
        )


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
    if not (LOCAL.fullmatch(master) or LOCAL_CLUSTER.fullmatch(master)):
        return settings
    os.environ.setdefault("SPARK_LOCAL_IP", "127.0.0.1")
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") >> 20
    own = {"spark.executorEnv.PYTHONPATH": str(paths.CODE), "spark.sql.shuffle.partitions": str(slots)}
    return settings | {
        "spark.authenticate": "true",  # with a secret, which other users' messages to its ports lack
        "spark.driver.bindAddress": "127.0.0.1",
        "spark.driver.host": "127.0.0.1",
        "spark.driver.memory": f"{max(1024, memory // 4)}m",
        # For local Spark alone it draws one itself; its executors are this process's own threads.
        **(own if LOCAL.fullmatch(master) else {"spark.authenticate.secret": secrets.token_hex(32)}),
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
    return not is_connect(spark) and LOCAL.fullmatch(spark.sparkContext.master) is not None


def parallelism(spark: Any) -> int:
    """How many tasks of a session run at once."""
    return spark_connect.slots(spark) if is_connect(spark) else spark.sparkContext.defaultParallelism


def ship_archive(spark: Any, archive: Path, name: str) -> None:
    """Send an archive to all executors, unpacked under that name."""
    if is_connect(spark):
        spark_connect.ship_archive(spark, archive, name)
    else:
        spark.sparkContext.addArchive(f"{archive}#{name}")


def on_loopback(context: Any) -> bool:
    """Whether all executors are on this machine: they reach the driver by an address that no other machine has."""
    return LOCAL.fullmatch(context.master) is not None or context.getConf().get("spark.driver.host") in LOOPBACK


def slots(context: Any, wanted: int, seconds: float) -> int:
    """How many tasks run at once; of a cluster once they are as many as `wanted`, or so many seconds are over.

    Executors register after the session has begun, one after another.
    """
    deadline = time.monotonic() + seconds
    while context.defaultParallelism < wanted and not LOCAL.fullmatch(context.master) and time.monotonic() < deadline:
        time.sleep(0.2)
    return context.defaultParallelism


def packed_code() -> Path:
    """A new archive of the `baton` package, and of nothing else; in a folder that ends with this process."""
    home = Path(tempfile.mkdtemp(prefix="baton-code-"))
    atexit.register(shutil.rmtree, home, ignore_errors=True)
    package = paths.PACKAGE
    skip = shutil.ignore_patterns("__pycache__")
    shutil.copytree(package, home / "code" / package.name, ignore=skip)
    return Path(shutil.make_archive(str(home / "baton"), "zip", home / "code"))


def _ship_code(spark: Any) -> None:
    """Send the `baton` package to all executors."""
    spark.sparkContext.addPyFile(str(packed_code()))


@dataclass(frozen=True)
class Death:
    """A task whose process died each of `times` that Spark tried it: its number, of how many, and how Spark says so."""

    task: int
    tasks: int
    times: int
    reason: str


def death(spark: Any, error: Exception) -> Death | None:
    """What task of a failed job died, if that is why the job failed; of Spark Connect's of 0 tasks: nothing says."""
    given_up = GIVEN_UP.search(str(error))
    died = DIED.search(given_up[4]) if given_up else None
    if given_up is None or died is None:
        return None
    stage = None if is_connect(spark) else spark.sparkContext.statusTracker().getStageInfo(int(given_up[2]))
    return Death(int(given_up[1]), stage.numTasks if stage else 0, int(given_up[3]), died[0])


@contextmanager
def own_errors() -> Iterator[None]:
    """Baton's own errors inside a Spark task come out as what they are, not as a stack trace of Java's.

    So do those of its machine, such as a disk that is full.
    """
    from py4j.protocol import Py4JJavaError
    from pyspark.errors import PySparkException

    try:
        yield
    except (PySparkException, Py4JJavaError) as error:
        kinds = {kind.__name__: kind for kind in (BadInput, BatonError)}
        if own := re.search(rf"baton\.errors\.({'|'.join(kinds)}): (.*)", str(error)):
            raise kinds[own[1]](own[2]) from None
        if system := re.search(r"^\w*Error: (\[Errno \d+\] .*)", str(error), re.MULTILINE):
            raise BatonError(f"A task of Spark's could not go on: {system[1]}") from error
        raise

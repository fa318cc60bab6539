"""Sessions of Spark Connect, whose Spark is a server's: no SparkContext, no Java in this process."""

from __future__ import annotations

import atexit
import logging
import os
import socket
import sys
import urllib.request
import warnings
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

from baton.config.schema import Config
from baton.errors import BadInput, BatonError

log = logging.getLogger("baton")

SCHEME = "sc:"
REACH_S = 10.0  # by then a server that is there has answered; gRPC itself would try for ten minutes
PROBE = 1 << 16  # rows of a range that Spark divides into as many tasks as it runs at once
ENDED = "INVALID_HANDLE"  # how a server says that it has closed a session, as it does with one that rests for an hour

_sessions: dict[str, Any] = {}  # {address, or the ID of somebody else's session: Baton's own}
_slots: dict[str, int] = {}  # {session's ID: how many tasks run at once}


def asked_for(config: Config) -> bool:
    """Whether Spark is a server's: by the config, the environment or the session that runs.

    Raises `BadInput` where the environment and the config contradict each other, or no server is named.
    """
    master, remote = config.spark.master or "", os.environ.get("SPARK_REMOTE", "")
    if master.startswith(SCHEME) or _active() is not None:
        return True
    if remote and master:
        raise BadInput(
            "SPARK_REMOTE names a server of Spark Connect, and spark.master another Spark: set one of them. "
            f"Received: {remote} and {master}"
        )
    if not remote and "SPARK_CONNECT_MODE_ENABLED" in os.environ and "DATABRICKS_RUNTIME_VERSION" not in os.environ:
        raise BadInput(
            "This environment is set for Spark Connect and no server is named: set spark.master: sc://host:port, or "
            "unset SPARK_CONNECT_MODE_ENABLED. Received: spark.master "
            f"{master or 'null'}"
        )
    return bool(remote)


def session(config: Config, settings: dict[str, str], code: Callable[[], Path]) -> Any:
    """Baton's own session of the server, with the settings that may be set there and the `code` archive shipped.

    Beside a session of somebody else's, which keeps its settings, if it can make another (PySpark 4.3); else that.
    One that the server has closed meanwhile is made anew. Raises `BatonError` where no server answers.
    """
    address, active = _place_of(config)
    key = address or next((key for key, own in _sessions.items() if own is active), active.session_id)
    if key in _sessions and _ended(_sessions[key]):
        _end(_sessions.pop(key))
    if key not in _sessions:
        own = _opened(address) if address else _beside(active)
        if own is not active:
            atexit.register(_end, own)
        own.addArtifacts(str(code()), pyfile=True)
        _set(own, settings)
        _sessions[key] = own
    return _sessions[key]


def is_connect(spark: Any) -> bool:
    """Whether a session, or a DataFrame, is one of Spark Connect."""
    return type(spark).__module__.startswith("pyspark.sql.connect")


def slots(spark: Any) -> int:
    """How many tasks run at once, as far as Spark says: into how many it divides a range by itself.

    `spark.sql.leafNodeDefaultParallelism` in `spark.config` sets it.
    """
    if spark.session_id not in _slots:
        _slots[spark.session_id] = partitions(spark.range(PROBE))
    return _slots[spark.session_id]


def partitions(frame: Any) -> int:
    """How many partitions a DataFrame has, but for empty ones behind the last that holds a row; a job counts them."""
    from pyspark.sql.functions import spark_partition_id

    last = frame.select(spark_partition_id().alias("number")).agg({"number": "max"}).collect()[0][0]
    return 1 if last is None else last + 1


def held(frame: Any, level: Any) -> Any:
    """The DataFrame, persisted where the server can do so; serverless ones compute it anew whenever it is read."""
    from pyspark.errors import PySparkException

    try:
        return frame.persist(level)
    except PySparkException as error:
        if not (error.getCondition() or "").startswith("NOT_SUPPORTED"):
            raise
        log.warning("This Spark holds no rows between jobs: what is read more than once is computed anew each time.")
        return frame


def ship_archive(spark: Any, archive: Path, name: str) -> None:
    """Send an archive to all executors, unpacked under that name."""
    spark.addArtifacts(f"{archive}#{name}", archive=True)


def _active() -> Any:
    """The Connect session that runs in this process, if there is one."""
    module = sys.modules.get("pyspark.sql.connect.session")
    if module is None:
        return None
    from pyspark.errors import PySparkException

    with suppress(PySparkException):
        return module.SparkSession.active()
    return None


def _place_of(config: Config) -> tuple[str, Any]:
    """The address of a server, or the session that runs; `SPARK_REMOTE=local[…]` starts one."""
    if (config.spark.master or "").startswith(SCHEME):
        return str(config.spark.master), None
    if (active := _active()) is not None:
        return "", active
    remote = os.environ["SPARK_REMOTE"]
    return (remote, None) if remote.startswith(SCHEME) else ("", _started(remote))


def _opened(address: str) -> Any:
    """A new session of the server at that address."""
    _demand_packages()
    from pyspark.sql.connect.session import SparkSession

    os.environ["SPARK_CONNECT_MODE_ENABLED"] = "1"  # functions of columns go by it
    _demand_server(address)
    return SparkSession.builder.remote(address).create()


def _started(master: str) -> Any:
    """PySpark's own session of a server that it starts in this process: on loopback, and with a token."""
    _demand_packages()
    from pyspark.sql import SparkSession

    static = {"spark.connect.grpc.binding.address": "127.0.0.1", "spark.ui.enabled": "false"}
    os.environ.setdefault("SPARK_LOCAL_IP", "127.0.0.1")
    with warnings.catch_warnings(action="ignore"):  # PySpark sets them again, where they can no longer be set
        return SparkSession.builder.remote(master).config(map=static).getOrCreate()


def _demand_packages() -> None:
    try:
        import pyspark.sql.connect.session  # noqa: F401
    except ImportError as error:
        sentence = " ".join(str(error).split())
        raise BatonError(f"Spark Connect needs more packages: install pyspark[connect]. Received: {sentence}") from None


def _beside(active: Any) -> Any:
    """Another session of the same server, whose settings and views are Baton's; the same one where none can be made."""
    os.environ.setdefault("SPARK_CONNECT_MODE_ENABLED", "1")
    return active.newSession() if hasattr(active, "newSession") else active


def _demand_server(address: str) -> None:
    """Raise `BadInput` for an address that is none, `BatonError` where nothing answers; behind a proxy gRPC tells."""
    from pyspark.errors import PySparkException
    from pyspark.sql.connect.client import DefaultChannelBuilder

    try:
        host, _, port = DefaultChannelBuilder(address).endpoint.rpartition(":")
        number = int(port)
    except (PySparkException, ValueError) as error:
        raise BadInput(
            f"spark.master is no address of Spark Connect, such as sc://host:15002 ({error}). Received: {address}"
        ) from None
    if urllib.request.getproxies():
        return
    try:
        socket.create_connection((host.strip("[]"), number), REACH_S).close()
    except OSError as error:
        raise BatonError(
            f"No server of Spark Connect answers there ({error}): start it, or set engine: local. Received: {address}"
        ) from None


def _ended(spark: Any) -> bool:
    """Whether the server has closed a session, or is another one by now."""
    from pyspark.errors import PySparkException

    try:
        spark.conf.get("spark.sql.session.timeZone")
    except PySparkException as error:
        if ENDED not in str(error):
            raise
        return True
    return bool(spark.is_stopped)


def _end(spark: Any) -> None:
    """Let go of a session at once: where its server is gone, PySpark's own end would try for ten minutes."""
    with suppress(Exception), warnings.catch_warnings(action="ignore"):  # PySpark warns of tries that it spares
        from pyspark.sql.connect.client.retries import DefaultPolicy

        spark.client.set_retry_policies([DefaultPolicy(max_retries=0)])
        spark.client.release_session()
    with suppress(Exception):
        spark.client.close()


def _set(spark: Any, settings: dict[str, str]) -> None:
    """Set what a session may; tell which keys of them keep other values."""
    from pyspark.errors import PySparkException

    kept = []
    for key, value in settings.items():
        try:
            if spark.conf.isModifiable(key):
                spark.conf.set(key, value)
            elif spark.conf.get(key, "") != value:
                kept.append(key)
        except PySparkException:  # Databricks says so of keys that it guards
            kept.append(key)
    if kept:
        log.warning("Spark's server lets no session set %s: its own values hold.", ", ".join(kept))

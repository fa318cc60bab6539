"""Whether the tracking store and the registry answer: asked once, at the start, where MLflow would try for minutes."""

from __future__ import annotations

import os
import re
import socket
import sqlite3
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from urllib.parse import unquote, urlsplit
from urllib.request import url2pathname

from baton.errors import BadInput
from baton.redaction import masked
from baton.runtime import locks

WAIT_S = 4.0
DRIVERS = {
    "psycopg": "psycopg[binary]",
    "psycopg2": "psycopg2-binary",
    "MySQLdb": "mysqlclient",
}  # module → the package that has it
PORTS = {"postgresql": 5432, "mysql": 3306, "mssql": 1433}


def uris() -> tuple[str, str]:
    """The URIs of tracking store and registry as MLflow will find them in the environment, without importing it."""
    store = os.environ.get("MLFLOW_TRACKING_URI") or "sqlite:///mlflow.db"
    registry = re.sub(r"^databricks(?=$|:)", "databricks-uc", store)
    return store, os.environ.get("MLFLOW_REGISTRY_URI") or registry


def address(uri: str) -> str:
    """A store's URI → where it is, the same however it is written, without a user, a password or options."""
    parts = urlsplit(uri)
    if (file := sqlite_file(uri)) is not None:
        return f"sqlite:///{file.resolve()}"
    if parts.scheme == "file" or (not parts.scheme and Path(uri).exists()):
        return Path(unquote(parts.path)).resolve().as_uri()
    plain = parts._replace(netloc=parts.netloc.rpartition("@")[2], query="", fragment="")
    return masked(plain.geturl().rstrip("/"))


def check_servers(*uris: str) -> None:
    """Raise `BadInput` that names the first URI behind which nothing answers; those of other kinds are not asked."""
    for uri in dict.fromkeys(uris):
        parts = urlsplit(uri)
        kind = parts.scheme.split("+")[0]
        fault = None
        if kind in ("http", "https"):
            fault = _http_fault(uri)
        elif kind in PORTS and parts.hostname:
            fault = _port_fault(parts.hostname, parts.port or PORTS[kind])
            if fault is None:
                _check_driver(uri)
        elif (file := sqlite_file(uri)) is not None:
            fault = _sqlite_fault(file)
        if fault:
            raise BadInput(
                f"The tracking server {masked(uri)} does not answer: {fault}. Start it, or set MLFLOW_TRACKING_URI."
            )


@contextmanager
def exclusive(uri: str) -> Iterator[bool]:
    """Meanwhile no other process may do so with this SQLite store: two that make its tables at once both fail.

    Yields whether that holds: other stores cannot be locked.
    """
    file = sqlite_file(uri)
    if file is None or not file.parent.is_dir():
        yield False
        return
    with locks.exclusive(file.with_name(f".{file.name}.lock")):
        yield True


def sqlite_file(uri: str) -> Path | None:
    """Where an SQLite store lies, as SQLAlchemy reads the URI; None if it is another store, or none of a file."""
    scheme, _, place = uri.partition(":///")
    place = unquote(place.partition("?")[0])
    return Path(place) if scheme.split("+")[0] == "sqlite" and place not in ("", ":memory:") else None


def local_place(uri: str) -> Path | None:
    """The SQLite file or the folder of a store on this machine; None for one that a server keeps."""
    parts = urlsplit(uri)
    if parts.scheme == "file":
        return Path(url2pathname(parts.path))
    return Path(uri) if not parts.scheme else sqlite_file(uri)


def _http_fault(uri: str) -> str | None:
    """Why a server does not answer over HTTP, or None; any answer is one, and proxies are heeded."""
    import requests

    try:
        with requests.get(uri, timeout=WAIT_S, stream=True, allow_redirects=False):
            return None
    except requests.exceptions.SSLError:
        return None  # it is there; MLflow has settings of its own for certificates
    except requests.exceptions.Timeout:
        return f"no answer within {WAIT_S:.0f} seconds"
    except requests.exceptions.ConnectionError:
        return "no connection"
    except (requests.exceptions.RequestException, ValueError):
        return "it is no address"


def _port_fault(host: str, port: int) -> str | None:
    try:
        with socket.create_connection((host, port), WAIT_S):
            return None
    except OSError as error:
        return str(error)


def _check_driver(uri: str) -> None:
    """Raise `BadInput` if what speaks to a database of this kind is not installed."""
    from sqlalchemy.engine import make_url
    from sqlalchemy.exc import ArgumentError

    try:
        make_url(uri).get_dialect().import_dbapi()
    except (ImportError, ArgumentError) as error:
        what = DRIVERS.get(getattr(error, "name", ""), getattr(error, "name", "") or "its driver")
        raise BadInput(
            f"The tracking server {masked(uri)} cannot be spoken to: {error}. Install {what} into this environment, "
            "or set MLFLOW_TRACKING_URI."
        ) from None


def _sqlite_fault(path: Path) -> str | None:
    """Why an SQLite file cannot be used, or None; a file that is not there is made by MLflow."""
    home = next(parent for parent in (path, *path.absolute().parents) if parent.exists())
    if home.is_dir():
        return None if path != home and os.access(home, os.W_OK) else f"{home} is not a place for a file"
    try:
        with closing(sqlite3.connect(path)) as database:
            database.execute("PRAGMA schema_version")
    except sqlite3.Error as error:
        return None if "locked" in str(error) else str(error)  # by another run, for a moment
    return None

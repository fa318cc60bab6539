"""An experiment as its store tells it, asked without MLflow's import: is it deleted, can its artifacts be written."""

from __future__ import annotations

import os
import sqlite3
from contextlib import closing
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit
from urllib.request import url2pathname

from baton.errors import BadInput
from baton.redaction import masked
from baton.tracking import servers

LOOPBACK = ("localhost", "127.0.0.1", "::1")
UNSEEN = "not looked at: this store tells it to MLflow alone"
# Where artifacts lie, by the scheme of the address → the module that MLflow writes there with.
CLIENTS = {"s3": "boto3", "gs": "google.cloud.storage", "wasbs": "azure.storage.blob", "hdfs": "pyarrow"}


@dataclass(frozen=True)
class Experiment:
    """What a store has on record of an experiment; the default's place of artifacts for one that is not there yet."""

    id: str
    artifacts: str
    deleted: bool = False


def check_artifacts(store: str, name: str) -> str:
    """Where an experiment's artifacts go, in words; raises `BadInput` if this machine cannot write there."""
    kind = urlsplit(store).scheme.split("+")[0]
    read = {"http": _of_server, "https": _of_server, "sqlite": _of_file}.get(kind)
    experiment = read(store, name) if read else None
    if experiment is None:
        return UNSEEN
    if experiment.deleted:
        raise deleted(name, experiment.id)
    if experiment.id:  # one that is not there yet is given a URL
        check_location(experiment.artifacts)
    if fault := _fault(experiment.artifacts, store):
        raise BadInput(f"Artifacts of {name} are to be written to {masked(experiment.artifacts)}: {fault}")
    return masked(experiment.artifacts)


def deleted(name: str, experiment_id: str) -> BadInput:
    """What to do about an experiment that nothing can be logged in."""
    return BadInput(
        f"The experiment {name} was deleted: bring it back by `mlflow experiments restore "
        f"--experiment-id={experiment_id}`, or give the config another name."
    )


def check_location(artifacts: str) -> None:
    """Raise `BadInput` if MLflow would not find again what is logged there."""
    if is_misread(artifacts):
        raise BadInput(
            "MLflow does not find artifacts again whose plain path holds #, ? or %: delete the experiment, and a step "
            f"that MLflow itself did not start makes it anew. Received: {artifacts}"
        )


def is_misread(place: str) -> bool:
    """Whether MLflow, which reads a plain path as a URL, would take it for another place."""
    return not urlsplit(place).scheme and any(mark in place for mark in "#?%")


def _fault(artifacts: str, store: str) -> str | None:
    """Why this machine cannot write artifacts there, or None."""
    place = urlsplit(artifacts)
    if place.scheme in CLIENTS:
        module = CLIENTS[place.scheme]
        return None if _is_installed(module) else f"install {module} into this environment."
    if place.scheme not in ("", "file"):
        return None  # through the server, or by a plugin
    path = Path(url2pathname(place.path if place.scheme else artifacts))
    home = next(parent for parent in (path, *path.absolute().parents) if parent.exists())
    server, root = urlsplit(store), Path(home.anchor)
    far = server.hostname not in LOOPBACK or home == root  # such as in a container
    shared = home == path or (home == path.parent != root)  # an experiment that has no run yet has no folder
    if server.scheme.startswith("http") and far and not shared:
        return (
            "that is a folder of the server's machine, and not of this one. Start the server with --serve-artifacts "
            "and --artifacts-destination, and make the experiment anew: it keeps its place."
        )
    good = home.is_dir() and os.access(home, os.W_OK | os.X_OK)
    return None if good else f"{home} is no folder that can be written into. Change that, or name the experiment anew."


def _is_installed(module: str) -> bool:
    try:
        return find_spec(module) is not None
    except ModuleNotFoundError:  # its parent is not
        return False


def _of_server(store: str, name: str) -> Experiment | None:
    """What an MLflow server answers; None if it does not let us ask."""
    found = _asked(store, "get-by-name", experiment_name=name) or _asked(store, "get", experiment_id="0")
    if found is None:
        return None
    gone = found["name"] == name and found.get("lifecycle_stage") == "deleted"
    return Experiment(found["experiment_id"], found["artifact_location"], gone)


def _asked(store: str, method: str, **query: str) -> dict[str, Any] | None:
    import requests

    token, user = (os.environ.get(f"MLFLOW_TRACKING_{key}") for key in ("TOKEN", "USERNAME"))
    try:
        answer = requests.get(
            f"{store.rstrip('/')}/api/2.0/mlflow/experiments/{method}",
            query,
            headers={"Authorization": f"Bearer {token}"} if token else {},
            auth=(user, os.environ.get("MLFLOW_TRACKING_PASSWORD", "")) if user else None,
            timeout=servers.WAIT_S,
        )
        return answer.json()["experiment"] if answer.ok else None
    except (requests.exceptions.RequestException, KeyError, ValueError):
        return None  # whether it answers at all is asked by `servers`


def _of_file(store: str, name: str) -> Experiment | None:
    """What an SQLite store has on record; MLflow's default where it has nothing."""
    if (path := servers.sqlite_file(store)) is None:
        return None
    query = "SELECT experiment_id, artifact_location, lifecycle_stage FROM experiments WHERE name = ?"
    try:
        with closing(sqlite3.connect(f"{path.absolute().as_uri()}?mode=ro", uri=True)) as database:
            row = database.execute(query, (name,)).fetchone()
    except sqlite3.Error:
        row = None  # it is not there yet
    return (
        Experiment(str(row[0]), row[1], row[2] == "deleted") if row else Experiment("", str(Path("mlruns").absolute()))
    )

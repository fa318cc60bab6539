"""A state in, what its readers see out: as plain values, so that two of them can be compared."""

from __future__ import annotations

import hashlib
import io
import json
import re
import zipfile
from pathlib import Path
from typing import Any

import h5py
import mlflow
import pyarrow.parquet as pq

from baton import names
from baton.config.loading import load
from baton.data.dataset import Dataset
from baton.errors import BatonError
from baton.orchestration import outputs
from baton.registry import champions
from baton.registry import versions as registry
from faults.compare import NAME

# What differs between two undisturbed runs too: times, IDs, hosts.
OWN_TAGS = (
    names.TAG_PROCESS,
    names.TAG_HOST,
    names.TAG_RESUMED,
    names.TAG_PIPELINE_RUN,
    names.TAG_CACHE,
    names.TAG_RESTARTS,
)
OWN_PARAMETERS = ("initial_epoch",)  # where a resumed training began
OWN_ARTIFACTS = "tensorboard_logs/"  # the epochs that a training ran itself
VOLATILE = {"scoring_run_id", "scored_at", "seconds", "files", "restarts", "at"}
ID = re.compile(r"(m-)?[0-9a-f]{32}")


def prepare(home: str) -> None:
    """Make the tracking store, and an experiment whose artifacts lie beside it."""
    mlflow.create_experiment(NAME, artifact_location=f"file://{home}/artifacts")


def promote_by_hand() -> None:
    """Give `champion` to the version that bore it before, as somebody does in the registry's UI."""
    before = champions.returns(champions.history(NAME))[0]
    mlflow.MlflowClient().set_registered_model_alias(NAME, names.CHAMPION, before)


def outcome(home: str, step: str) -> dict[str, Any]:
    """What the last main handed on for a step, or reconcile for the output; and what the whole state looks like."""
    client = mlflow.MlflowClient()
    everything = client.search_runs(["1"], max_results=5000)
    run, status = _scored(client, home) if step == "reconcile" else _handed_on(client, everything, step)
    return {
        "status": status,
        "open runs": [f"{r.info.run_name} {r.info.status}" for r in everything if not r.info.end_time],
        **record(client, run),
        **content(client, run, step),
        **{f"registry {name}": value for name, value in registered().items()},
        "predictions": predictions(Path(home) / "predictions"),
        **damage(home),
    }


def _handed_on(client: Any, everything: list[Any], step: str) -> tuple[Any, str]:
    """The run of a step that the last main went on with, and what became of it there."""
    last = max((r for r in everything if r.data.tags.get(names.TAG_STEP) == "main"), key=lambda r: r.info.start_time)
    entry = _artifact(client, last.info.run_id, names.SUMMARY)["steps"][step]
    return client.get_run(entry["run_id"]), "finished" if entry["status"] == "cached" else entry["status"]


def _scored(client: Any, home: str) -> tuple[Any, str]:
    """The run that left the predictions: what reconcile is for."""
    mark = json.loads((Path(home) / "predictions" / f"_{names.SCORING}").read_text())
    return client.get_run(mark["scoring_run_id"]), "finished"


def record(client: Any, run: Any) -> dict[str, Any]:
    """A run's parameters, metrics with the length of their history, tags of Baton's, artifacts and children."""
    tags = {k: v for k, v in run.data.tags.items() if k.startswith("baton.") and k not in OWN_TAGS}
    run_id = run.info.run_id
    children = client.search_runs(["1"], f"tags.`mlflow.parentRunId` = '{run_id}'")
    return {
        "run status": run.info.status,
        "parameters": {k: v for k, v in run.data.params.items() if k not in OWN_PARAMETERS},
        "metrics": {k: v for k, v in run.data.metrics.items() if "time" not in k and "seconds" not in k},
        "histories": {k: sorted({m.step for m in client.get_metric_history(run_id, k)}) for k in run.data.metrics},
        "tags": {k: ID.sub("*", v) for k, v in tags.items()},
        "artifacts": sorted(path for path in _artifacts(client, run_id) if not path.startswith(OWN_ARTIFACTS)),
        "inputs": sorted(f"{i.dataset.name} {i.dataset.digest}" for i in run.inputs.dataset_inputs),
        "children": sorted(f"{c.info.run_name} {c.info.status} {sorted(c.data.metrics.items())}" for c in children),
    }


def content(client: Any, run: Any, step: str) -> dict[str, Any]:
    """What a step gives: a manifest, weights, trials, a verdict, or counts."""
    run_id = run.info.run_id
    if step == "ingest":
        folder = Path(run.data.tags[names.TAG_DATASET])
        return {"manifest": json.loads((folder / names.MANIFEST).read_text())}
    if step in ("train", "distributed_train"):
        evaluation = _artifact(client, run_id, names.EVALUATION)
        network = Path(client.download_artifacts(run_id, "keras/network.keras"))
        model = Path(mlflow.artifacts.download_artifacts(run.data.tags[names.TAG_MODEL_URI]))
        (packed,) = model.rglob("*.keras")
        return {
            "evaluation": _steady(evaluation), "weights": weights(network), "weights of the model": weights(packed)
        }  # fmt: skip
    if step == "tune":
        trials = [_steady(trial) for trial in _artifact(client, run_id, names.TRIALS)]
        return {"best": _artifact(client, run_id, names.BEST_PARAMETERS), "trials": trials}
    if step == "register":
        return {"verdict": _steady(_artifact(client, run_id, names.VERDICT))}
    return {"scoring": _steady(_artifact(client, run_id, names.SCORING))}


def registered() -> dict[str, Any]:
    """The registry: versions with their tags and descriptions, aliases, and the record of champions."""
    client = mlflow.MlflowClient()
    versions = {
        f"version {v.version}": {k: ID.sub("*", t) for k, t in v.tags.items() if k != names.TAG_CHAMPION_SINCE}
        | {"description": ID.sub("*", client.get_model_version(NAME, v.version).description or "")}
        for v in registry.versions(NAME)
    }
    aliases = {alias: registry.champion(NAME, alias) for alias in (names.CHAMPION, names.CHALLENGER)}
    changes = [(c.number, c.version, c.previous, c.how, c.why) for c in champions.history(NAME)]
    return {**versions, "aliases": {a: v and str(v.version) for a, v in aliases.items()}, "champions": changes}


def predictions(folder: Path) -> dict[str, Any] | None:
    """The scored rows without what names the run and the moment, the quarantined ones, and the counts."""
    if not folder.is_dir():
        return None
    scored = pq.read_table(folder / "part-00000.parquet")
    bad = pq.read_table(folder / names.QUARANTINE_OUTPUT / "part-00000.parquet")
    steady = scored.drop([c for c in scored.column_names if c in VOLATILE or c == "run_id"])
    return {
        "rows": [scored.num_rows, bad.num_rows],
        "one run": len(set(scored["scoring_run_id"].to_pylist())) == 1,
        "content": hashlib.sha256(str(steady.to_pylist() + bad.to_pylist()).encode()).hexdigest(),
        "counts": _steady(json.loads((folder / f"_{names.SCORING}").read_text())),
    }


def damage(home: str) -> dict[str, Any]:
    """What no reader may ever see: half a dataset, a finished run without its output, a champion without a verdict."""
    found = []
    for folder in Path(home).glob(f"warehouse/{NAME}/datasets/[!.]*"):
        try:
            Dataset.open(folder)
        except BatonError as error:
            found.append(str(error))
    config = load(f"{home}/{NAME}.yaml", "")
    query = "attributes.status = 'FINISHED'"
    for run in mlflow.MlflowClient().search_runs(["1"], query, max_results=5000):
        step = run.data.tags.get(names.TAG_STEP)
        whole = ("ingest", "train", "tune", "distributed_train")
        if step in whole and names.TAG_SOURCE_RUN not in run.data.tags and (why := outputs.broken(step, run, config)):
            found.append(f"{step}: {why}")
    champion = registry.champion(NAME)
    if champion is not None and champion.tags.get(names.TAG_VERDICT) not in names.PASSED:
        found.append(f"version {champion.version} is champion without a passed verdict")
    return {"damage": found}


def seen(home: str) -> dict[str, Any]:
    """What readers see in the middle of things: the output, and damage."""
    return {"predictions": predictions(Path(home) / "predictions"), **damage(home)}


def weights(path: Path) -> str:
    """A Keras file → a hash over all that its weights file holds."""
    digest = hashlib.sha256()

    def add(name: str, item: Any) -> None:
        if isinstance(item, h5py.Dataset):
            digest.update(f"{name} {item.shape} {item.dtype}".encode() + item[()].tobytes())

    with zipfile.ZipFile(path) as held, h5py.File(io.BytesIO(held.read("model.weights.h5"))) as file:
        file.visititems(add)
    return digest.hexdigest()


def _steady(value: Any) -> Any:
    """A value without what differs from run to run."""
    if isinstance(value, dict):
        return {k: _steady(v) for k, v in value.items() if k not in VOLATILE}
    if isinstance(value, list):
        return [_steady(v) for v in value]
    return ID.sub("*", value) if isinstance(value, str) else value


def _artifact(client: Any, run_id: str, name: str) -> Any:
    return json.loads(Path(client.download_artifacts(run_id, name)).read_text())


def _artifacts(client: Any, run_id: str, folder: str | None = None) -> list[str]:
    found: list[str] = []
    for entry in client.list_artifacts(run_id, folder):
        found += _artifacts(client, run_id, entry.path) if entry.is_dir else [entry.path]
    return found

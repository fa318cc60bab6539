"""The Model Registry: find, register and promote versions. Aliases are resolved once, to a version."""

from __future__ import annotations

import json
import logging
import re
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from statistics import NormalDist
from typing import Any

from baton import names
from baton.config.schema import Config
from baton.errors import BadInput, BatonError
from baton.evaluation.differences import Moments
from baton.registry import store
from baton.runtime.files import folder_hashes
from baton.serving import integrity
from baton.serving.layout import KERAS_FILE
from baton.serving.raw_columns import RawColumnModel
from baton.tracking import runs, servers
from baton.tracking.runs import client

log = logging.getLogger("baton")


def champion(name: str, alias: str = names.CHAMPION) -> Any | None:
    """The model version that bears the alias, or None."""
    from mlflow.exceptions import MlflowException

    try:
        return store.by_alias(name, alias)
    except MlflowException as error:
        if error.error_code in ("RESOURCE_DOES_NOT_EXIST", "INVALID_PARAMETER_VALUE"):
            return None
        raise


def version(name: str, number: str) -> Any:
    """The model version of that number; raises `BadInput` if there is none."""
    from mlflow.exceptions import MlflowException

    try:
        return store.version(name, number)
    except MlflowException as error:
        if error.error_code not in ("RESOURCE_DOES_NOT_EXIST", "INVALID_PARAMETER_VALUE"):
            raise
        raise BadInput(f"Model {name} has no version {number} in the registry.") from None


def at(place: str, key: str) -> Any:
    """The version of models:/name/number, which a config's key names; raises `BadInput` if there is none."""
    name, _, number = place.removeprefix(names.REGISTERED).rpartition("/")
    if (found := find(name, number)) is None:
        raise BadInput(f"{key} names a version that is not in the registry. Received: {place}")
    return found


def find(name: str, number: str) -> Any | None:
    """The model version of that number, or None."""
    try:
        return version(name, number)
    except BadInput:
        return None


def exists(name: str) -> bool:
    """Whether there is a registered model of that name."""
    from mlflow.exceptions import MlflowException

    try:
        return client().get_registered_model(name) is not None
    except MlflowException as error:
        if error.error_code == "RESOURCE_DOES_NOT_EXIST":
            return False
        raise


def model_of(run_id: str) -> str:
    """The registered model that has a version of the model which this run has trained; empty if none has."""
    if store.is_limited():
        return ""
    found = client().search_model_versions(f"run_id='{run_id}'")
    return str(found[0].name) if found else ""


def register(name: str, uri: str, tags: dict[str, str]) -> Any:
    """Register the logged model at `uri` as a new version of `name`."""
    return store.create(name, uri, tags)


def find_interrupted(name: str, network: str, run: runs.Run) -> Any | None:
    """The version of this network that an earlier run of the same work began before it was killed or failed; or None.

    An ensemble is made anew, in another run, from the same members.
    """
    key = client().get_run(run.id).data.tags.get(names.TAG_CACHE_KEY)
    for found in versions(name) if key else ():
        if network_of(found.tags) == network:
            earlier = runs.find(found.tags.get(names.TAG_REGISTER_RUN, ""))
            if earlier is None or earlier.info.status not in ("FAILED", "KILLED"):
                continue
            if earlier.data.tags.get(names.TAG_CACHE_KEY) == key:
                return found
    return None


def retagged(version: Any, tags: dict[str, str]) -> Any:
    """A version with these tags set anew."""
    store.tag(version, tags)
    return version


def versions(name: str) -> list[Any]:
    """All versions of the registered model; none if there is no such model."""
    return store.versions(name)


def count(name: str) -> int:
    """How many versions the registered model has."""
    return len(versions(name))


def state(name: str) -> dict[str, Any]:
    """Which model bears which alias in which registry, and how many versions there are."""
    bearers = {alias: champion(name, alias) for alias in (names.CHAMPION, names.CHALLENGER)}
    found = {alias: None if v is None else _traits(v) for alias, v in bearers.items()}
    return {"registry": address(), **found, "versions": count(name)}


def _traits(version: Any) -> dict[str, str]:
    """A version's number, and what tells it from another one that bore its number before."""
    digest = version.tags.get(names.TAG_MODEL_DIGEST, "")
    return {"version": str(version.version), "run": version.run_id or "", "files": digest}


def address() -> str:
    """Where the registry is."""
    import mlflow

    return servers.address(mlflow.get_registry_uri())


def identity(version: Any) -> dict[str, str]:
    """Which model a version is: its name and number, and of what bears them now the run and the files' hash; where.

    Raises `BadInput` if the files are to be hashed and are not there.
    """
    found = _traits(version)
    digest = found["files"] or _files_digest(f"models:/{version.name}/{version.version}")
    return {**found, "version": f"{version.name} {version.version}", "files": digest, "registry": address()}


def _files_digest(uri: str) -> str:
    with tempfile.TemporaryDirectory(prefix="baton-model-") as home:
        return integrity.hashed(folder_hashes(_fetched(uri, home)))


def model_tags(name: str) -> dict[str, str]:
    """The tags of the registered model; none if there is no such model."""
    from mlflow.exceptions import MlflowException

    try:
        return store.tags(name)
    except MlflowException as error:
        if error.error_code == "RESOURCE_DOES_NOT_EXIST":
            return {}
        raise


def aliases(name: str) -> dict[str, str]:
    """{alias: version number} of the registered model; none if there is no such model."""
    from mlflow.exceptions import MlflowException

    try:
        return {alias: str(number) for alias, number in client().get_registered_model(name).aliases.items()}
    except MlflowException as error:
        if error.error_code == "RESOURCE_DOES_NOT_EXIST":
            return {}
        raise


def test_metrics(version: Any) -> dict[str, float]:
    """What a model version's tags tell of its metrics on test data."""
    return {key.removeprefix("test_"): float(v) for key, v in version.tags.items() if key.startswith("test_")}


def test_loss(version: Any) -> Moments | None:
    """What a version's loss on test rows was like; without a tag of it, as its register run tells, or None."""
    with suppress(ValueError, TypeError):
        return Moments(**json.loads(version.tags.get(names.TAG_TEST_LOSS, "")))
    register_run_id = version.tags.get(names.TAG_REGISTER_RUN)
    run = runs.find(register_run_id) if register_run_id else None
    with suppress(BatonError, KeyError, TypeError, ValueError):
        return _loss_of_interval(runs.artifact(run, names.ASSESSMENT)["test"]) if run else None
    return None


def _loss_of_interval(assessed: dict[str, Any]) -> Moments:
    """A test split's assessment → the loss's moments, by the width of the metric's interval; skewness unknown."""
    metric = "rmse" if "rmse" in assessed["metrics"] else "log_loss"
    power = 2 if metric == "rmse" else 1
    low, high = (end**power for end in assessed["intervals"][metric])
    error = (high - low) / (2 * NormalDist().inv_cdf((1 + assessed["confidence"]) / 2))
    return Moments(assessed["rows"], assessed["metrics"][metric] ** power, error**2 * assessed["rows"])


def demand_model(uri: str) -> None:
    """Raise `BatonError` if the files of the model at `uri` are not there."""
    _demand_files(uri, {"MLmodel"})


def demand_version(version: Any) -> None:
    """Raise `BatonError` that names the first file without which a version cannot score, if one is not there."""
    uri = f"models:/{version.name}/{version.version}"
    demand_model(uri)
    _demand_files(f"{uri}/{integrity.LOADER['artifacts']}", {KERAS_FILE, names.PREPROCESSOR})


def _demand_files(uri: str, needed: set[str]) -> None:
    from mlflow.artifacts import list_artifacts
    from mlflow.exceptions import MlflowException

    try:
        found = {Path(artifact.path).name for artifact in list_artifacts(artifact_uri=uri)}
    except (MlflowException, OSError) as error:
        raise BatonError(f"the model {uri} cannot be read: {error}") from None
    if lacking := sorted(needed - found):
        raise BatonError(f"the model {uri} is missing" if not found else f"{lacking[0]} of {uri} is missing")


def fingerprint(uri: str) -> str:
    """The fingerprint of the dataset that the model at `uri` says it was trained on; empty if it says none."""
    import mlflow

    return (mlflow.models.get_model_info(uri).metadata or {}).get("fingerprint", "")


def network_of(tags: dict[str, str]) -> str:
    """A version's or a candidate's tags → the hash of what it answers by; one from before has no other hash."""
    return tags.get(names.TAG_NETWORK) or tags.get(names.TAG_OUTPUT, "")


def content_of(tags: dict[str, str]) -> str:
    """A version's or a candidate's tags → the hash of all data of its model; as `network_of`."""
    return tags.get(names.TAG_MODEL_CONTENT) or tags.get(names.TAG_OUTPUT, "")


def rolled_back(name: str, network: str) -> str:
    """Why a version with this network is champion no more, as a sentence; empty if none was rolled back."""
    for found in versions(name):
        if network_of(found.tags) == network and names.TAG_ROLLED_BACK in found.tags:
            why = found.tags[names.TAG_ROLLED_BACK]
            return f"the same model was champion as version {found.version} and was rolled back: {why}"
    return ""


def can_score(config: Config) -> bool:
    """Whether there is something to score and a champion to score it with."""
    return config.batch_infer is not None and champion(config.scoring_model, config.batch_infer.alias) is not None


def to_score_with(config: Config, register_run_id: str) -> Any:
    """The version that scores: what the register run promoted, else the alias's, resolved once.

    What was promoted and rolled back since does not score: then the alias decides. Raises `BadInput` if there is
    none, or if the gate has not passed it and the config does not allow that.
    """
    store.check_names(config)
    alias = config.batch_infer.alias if config.batch_infer else names.CHAMPION
    model = config.scoring_model
    if model == config.registered_model and (promoted := _promoted_by(register_run_id)) is not None:
        if names.TAG_ROLLED_BACK not in promoted.tags:
            return promoted
        log.warning("version %s, which register promoted, was rolled back (%s): the alias %s decides who scores",
                    promoted.version, promoted.tags[names.TAG_ROLLED_BACK], alias)  # fmt: skip
    found = champion(model, alias)
    if found is None:
        raise BadInput(f"Model {model} has no version with the alias {alias}: run main first.")
    if not (config.batch_infer and config.batch_infer.allow_unvalidated):
        demand_verdict(found, alias)
        _demand_own_verdict(found)
    return found


def demand_still_scores(version: Any) -> None:
    """Raise `BatonError` if a version was rolled back since it was resolved."""
    now = store.version(version.name, version.version).tags
    if names.TAG_ROLLED_BACK in now and names.TAG_ROLLED_BACK not in version.tags:
        raise BatonError(
            f"version {version.version} of {version.name} was rolled back while it scored "
            f"({now[names.TAG_ROLLED_BACK]}): its predictions are thrown away. Run batch_infer again"
        )


def _promoted_by(register_run_id: str) -> Any | None:
    """The version that a register run promoted; None without a run, or if it promoted none."""
    if not register_run_id:
        return None
    run = runs.of_step(register_run_id, "register", "register_run_id")
    verdict = runs.artifact(run, names.VERDICT)
    return version(verdict["name"], verdict["version"]) if verdict["verdict"] == names.PROMOTED else None


def judged_for(version: Any) -> str:
    """The registered model whose champion a version's verdict was given against: a copy in another has kept its tags.

    A version from before that was kept is known for a copy by where its files come from.
    """
    if model := version.tags.get(names.TAG_JUDGED_FOR):
        return model
    copied = re.fullmatch(r"models:/(?P<model>.+)/\d+", version.source or "")
    return copied["model"] if copied else version.name


def is_copy(version: Any) -> bool:
    """Whether a version is a copy with a verdict that was given for another registered model."""
    return names.TAG_CANDIDATE_RUN in version.tags and judged_for(version) != version.name


def _demand_own_verdict(version: Any) -> None:
    """Raise `BadInput` if the verdict that a version bears was given for another registered model."""
    if (other := judged_for(version)) != version.name:
        raise BadInput(
            f"Version {version.version} of {version.name} is a copy whose verdict was given for the model {other}: run "
            f"reconcile, which judges it against the champion of {version.name}, or set "
            f"batch_infer.allow_unvalidated: true. Received: {version.tags.get(names.TAG_VERDICT)} verdict"
        )


def demand_verdict(version: Any, alias: str) -> None:
    """Raise `BadInput` if a version has not passed the gate: somebody gave it the alias by hand."""
    verdict = version.tags.get(names.TAG_VERDICT)
    if verdict is None and names.TAG_REGISTER_RUN not in version.tags:
        raise BadInput(
            f"Version {version.version} of {version.name} bears the alias {alias} and was not registered by the step "
            f"register, so no gate has judged it: give the alias to a version that it has registered, or "
            f"set batch_infer.allow_unvalidated: true to score with it. Received: no verdict"
        )
    if verdict not in names.PASSED:
        raise BadInput(
            f"Version {version.version} of {version.name} bears the alias {alias} without having passed the gate; "
            f"set batch_infer.allow_unvalidated: true to score with it. Received: {verdict or 'no'} verdict"
        )
    if names.TAG_ROLLED_BACK in version.tags:
        raise BadInput(
            f"Version {version.version} of {version.name} bears the alias {alias} and was rolled back: give the alias "
            f"to another version or run rollback; if it is wanted again delete its tag "
            f"{store.key(names.TAG_ROLLED_BACK)}, or set batch_infer.allow_unvalidated: true to score with it. "
            f"Received: rolled back because {version.tags[names.TAG_ROLLED_BACK]}"
        )


def set_alias(name: str, alias: str, number: str) -> None:
    client().set_registered_model_alias(name, alias, number)


@contextmanager
def downloaded(uri: str, tags: dict[str, str]) -> Iterator[Path]:
    """The data folder of the model behind a URI, on this machine, for `RawColumnModel.load`.

    `tags` are those of its version or run. Raises `BadInput` if it is gone, or not a model that Baton logged.
    """
    with tempfile.TemporaryDirectory(prefix="baton-model-") as home:
        yield integrity.checked(_fetched(uri, home), tags.get(names.TAG_MODEL_DIGEST, ""), uri)


def _fetched(uri: str, home: str) -> Path:
    """The files of the model behind a URI, copied below `home`; raises `BadInput` if they are gone."""
    from mlflow.artifacts import download_artifacts
    from mlflow.exceptions import MlflowException

    with suppress(FileNotFoundError):
        try:
            model = Path(download_artifacts(artifact_uri=uri, dst_path=home))
        except MlflowException as error:
            if error.error_code != "RESOURCE_DOES_NOT_EXIST":
                raise
        else:
            if (model / "MLmodel").is_file():
                return model
    raise BadInput(
        "The files of a model are gone, maybe by `mlflow gc`: run main, which trains it anew, or rollback, which goes "
        f"back to a version that has its files. Received: {uri}"
    )


def load(uri: str, tags: dict[str, str]) -> RawColumnModel:
    """The raw-column model behind a URI, as `downloaded`; no code that was logged with it is run."""
    with downloaded(uri, tags) as folder:
        return RawColumnModel.load(folder)

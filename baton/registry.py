"""The Model Registry: find, register and promote versions. Aliases are resolved once, to a version."""

from __future__ import annotations

from typing import Any

from baton import names, runs
from baton.config import Config
from baton.errors import BadInput, BatonError
from baton.runs import client
from baton.serving import RawColumnModel


def champion(name: str, alias: str = names.CHAMPION) -> Any | None:
    """The model version that bears the alias, or None."""
    from mlflow.exceptions import MlflowException

    try:
        return client().get_model_version_by_alias(name, alias)
    except MlflowException as error:
        if error.error_code in ("RESOURCE_DOES_NOT_EXIST", "INVALID_PARAMETER_VALUE"):
            return None
        raise


def version(name: str, number: str) -> Any:
    """The model version of that number; raises `BadInput` if there is none."""
    from mlflow.exceptions import MlflowException

    try:
        return client().get_model_version(name, number)
    except MlflowException:
        raise BadInput(f"Model {name} has no version {number} in the registry.") from None


def register(name: str, uri: str, tags: dict[str, str]) -> Any:
    """Register the logged model at `uri` as a new version of `name`."""
    import mlflow

    return mlflow.register_model(uri, name, tags=tags, await_registration_for=60)


def count(name: str) -> int:
    """How many versions the registered model has."""
    quoted = name.replace("'", "''")
    return len(client().search_model_versions(f"name='{quoted}'", max_results=10_000))


def to_score_with(config: Config, register_run_id: str) -> Any:
    """The version that scores: what the register run promoted, else the alias's, resolved once.

    Raises `BadInput` if there is none.
    """
    alias = config.batch_infer.alias if config.batch_infer else names.CHAMPION
    if register_run_id:
        run = runs.of_step(register_run_id, "register", "register_run_id")
        verdict = runs.artifact(run.info.run_id, names.VERDICT)
        if verdict["verdict"] == "promoted":
            return version(verdict["name"], verdict["version"])
    found = champion(config.name, alias)
    if found is None:
        raise BadInput(f"Model {config.name} has no version with the alias {alias}: run main first.")
    return found


def set_alias(name: str, alias: str, number: str) -> None:
    client().set_registered_model_alias(name, alias, number)


def load(uri: str) -> RawColumnModel:
    """The raw-column model behind a model URI; raises `BatonError` if it is not one of Baton's."""
    import mlflow

    model = mlflow.pyfunc.load_model(uri).unwrap_python_model()
    if not isinstance(getattr(model, "model", None), RawColumnModel):
        raise BatonError(f"{uri} is not a model that Baton logged.")
    return model.model

"""The Model Registry: find, register and promote versions. Aliases are resolved once, to a version."""

from __future__ import annotations

from typing import Any

from baton import names
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


def set_alias(name: str, alias: str, number: str) -> None:
    client().set_registered_model_alias(name, alias, number)


def load(uri: str) -> RawColumnModel:
    """The raw-column model behind a model URI; raises `BatonError` if it is not one of Baton's."""
    import mlflow

    model = mlflow.pyfunc.load_model(uri).unwrap_python_model()
    if not isinstance(getattr(model, "model", None), RawColumnModel):
        raise BatonError(f"{uri} is not a model that Baton logged.")
    return model.model

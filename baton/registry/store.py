"""The registry as MLflow's client speaks to it, within the limits of the strictest: what others know of them is here.

Unity Catalog's registry refuses tags whose key has one of `. , - = / :` and values of more than 1,000 characters, knows
models by three names in lower case, and searches by a model's name alone; what it finds comes in pages and without
tags. There a tag `baton.verdict` is called `baton_verdict`; everywhere both are read, as `baton.verdict`.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from functools import partial
from typing import Any

from baton.config.schema import Config
from baton.errors import BadInput
from baton.redaction import masked
from baton.tracking import runs
from baton.tracking.runs import client

LIMITED = re.compile(r"(databricks-)?uc\b")  # how the URIs of such registries begin
THREE_LEVELS = re.compile(r"[^.\s/:A-Z]+(\.[^.\s/:A-Z]+){2}")
PREFIX, LIMITED_PREFIX = "baton.", "baton_"
MAX_VALUE, LIMITED_MAX_VALUE = 5000, 1000


@dataclass(frozen=True)
class Version:
    """A model version as any registry gives it: its tags by Baton's own names."""

    name: str
    version: str
    run_id: str = ""
    source: str = ""
    tags: dict[str, str] = field(default_factory=dict)


def is_limited(uri: str = "") -> bool:
    """Whether a registry, or else the one that MLflow uses, is of Unity Catalog's kind."""
    if not uri:
        import mlflow

        uri = mlflow.get_registry_uri()
    return LIMITED.match(uri) is not None


def check_names(config: Config, uri: str = "") -> str:
    """The names of the registered models; raises `BadInput` with the config's key if the registry takes none such."""
    scoring = "register.model" if config.scoring_model == config.registered_model else "batch_infer.model"
    models = {"register.model": config.registered_model, scoring: config.scoring_model}
    for key, name in models.items() if is_limited(uri) else ():
        if not THREE_LEVELS.fullmatch(name):
            raise BadInput(
                f"In Unity Catalog a model is called catalog.schema.model, in lower case: set {key} to such a name. "
                f"Received: {name}"
            )
    return " and ".join(models.values())


def version(name: str, number: str) -> Version:
    """The model version of that number; raises `MlflowException` if there is none."""
    return _read(client().get_model_version(name, number))


def by_alias(name: str, alias: str) -> Version:
    """The model version that bears the alias; raises `MlflowException` if there is none."""
    return _read(client().get_model_version_by_alias(name, alias))


def versions(name: str) -> list[Version]:
    """All versions of a registered model, in any order; none if there is no such model."""
    quoted = name.replace("'", "''")
    found = runs.paged(partial(client().search_model_versions, f"name='{quoted}'", max_results=200))
    if not is_limited():
        return [_read(each) for each in found]
    return [version(name, str(number)) for number in [each.version for each in found]]


def all_versions() -> Iterator[Version]:
    """The versions of all registered models."""
    if not is_limited():
        yield from map(_read, runs.paged(client().search_model_versions))
        return
    for model in runs.pages(client().search_registered_models):
        yield from versions(model.name)


def tags(name: str) -> dict[str, str]:
    """The tags of a registered model; raises `MlflowException` if there is no such model."""
    return _with_own_names(client().get_registered_model(name).tags)


def tag_model(name: str, values: dict[str, str]) -> None:
    for tag_name, value in values.items():
        client().set_registered_model_tag(name, *written(tag_name, value))


def untag_model(name: str, tag_name: str) -> None:
    client().delete_registered_model_tag(name, key(tag_name))


def tag(version: Any, values: dict[str, str]) -> None:
    """Set tags of a model version; of a value that is too long the end is lost."""
    for name, value in values.items():
        client().set_model_version_tag(version.name, version.version, *written(name, value))


def untag(version: Any, name: str) -> None:
    client().delete_model_version_tag(version.name, version.version, key(name))


def describe(version: Any, change: Callable[[str], str]) -> None:
    """Give a model version the description that `change` makes of the present one, if that is another."""
    before = client().get_model_version(version.name, version.version).description or ""
    if (after := masked(change(before))) != before:
        client().update_model_version(version.name, version.version, after)


def describe_model(name: str, change: Callable[[str], str]) -> None:
    """As `describe`, of a registered model."""
    before = client().get_registered_model(name).description or ""
    if (after := masked(change(before))) != before:
        client().update_registered_model(name, after)


def create(name: str, uri: str, tags: dict[str, str]) -> Version:
    """Register the logged model at `uri` as a new version of `name`."""
    import mlflow

    taken = dict(written(key, value) for key, value in tags.items())
    return _read(mlflow.register_model(uri, name, tags=taken, await_registration_for=60))


def _read(given: Any) -> Version:
    return Version(
        given.name, str(given.version), given.run_id or "", given.source or "", _with_own_names(given.tags or {})
    )


def _with_own_names(tags: dict[str, str]) -> dict[str, str]:
    """A registry's tags → the same under Baton's names."""
    own = {key: value for key, value in tags.items() if not key.startswith(LIMITED_PREFIX)}
    return own | {
        PREFIX + key.removeprefix(LIMITED_PREFIX): value
        for key, value in tags.items()
        if key.startswith(LIMITED_PREFIX)
    }


def written(name: str, value: str) -> tuple[str, str]:
    """A tag by Baton's name → key and value as the registry takes them, without secrets that the value may quote."""
    return key(name), masked(value)[: LIMITED_MAX_VALUE if is_limited() else MAX_VALUE]


def key(name: str) -> str:
    """A tag's key as the registry takes it."""
    return LIMITED_PREFIX + name.removeprefix(PREFIX) if name.startswith(PREFIX) and is_limited() else name

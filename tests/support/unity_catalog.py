"""A registry over SQLite that refuses what Unity Catalog's does: what works here needs nothing that is not there.

A plugin of MLflow's (`mlflow.model_registry_store`), of the scheme `uc-sqlite`. What it cannot show: permissions, the
copy of a model's files that Unity Catalog makes, and its own errors' wording.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import yaml
from mlflow.artifacts import download_artifacts
from mlflow.entities.model_registry.model_version_search import ModelVersionSearch
from mlflow.exceptions import MlflowException
from mlflow.prompt.registry_utils import add_prompt_filter_string
from mlflow.protos.databricks_pb2 import INVALID_PARAMETER_VALUE
from mlflow.store.entities import PagedList
from mlflow.store.model_registry.sqlalchemy_store import SqlAlchemyStore
from mlflow.tracking._model_registry import utils

SCHEME = "uc-sqlite"
MAX_TAGS, MAX_VALUE, PAGE = 50, 1000, 2
NAME = re.compile(r"[^.\s/:A-Z]+\.[^.\s/:A-Z]+\.[^.\s/:A-Z]+")
BY_NAME = re.compile(r"name\s*=\s*'[^']+'")
NO_PROMPTS = add_prompt_filter_string(None)
REFUSED = (
    *("get_latest_versions", "transition_model_version_stage", "create_webhook", "get_webhook", "list_webhooks"),
    *("list_webhooks_by_event", "update_webhook", "delete_webhook"),
)


def demand(good: Any, rule: str) -> None:
    if not good:
        raise MlflowException(f"Unity Catalog: {rule}", INVALID_PARAMETER_VALUE)


def check_tag(tag: Any) -> None:
    demand(not re.search(r"[.,\-=/:]", tag.key), f"no . , - = / : in the tag key {tag.key}")
    demand(len(str(tag.value)) <= MAX_VALUE, f"the value of {tag.key} has {len(str(tag.value))} characters")


class UnityCatalogStore(SqlAlchemyStore):
    """SQLite's registry with another one's limits."""

    def __init__(self, store_uri: str):
        super().__init__(store_uri.removeprefix("uc-"))

    def __getattribute__(self, name: str) -> Any:
        demand(name not in REFUSED, f"there is no {name}")
        return super().__getattribute__(name)

    def create_registered_model(self, name, tags=None, description=None, deployment_job_id=None):
        demand(NAME.fullmatch(name), f"a name has three levels in lower case, and {name} has not")
        for tag in tags or []:
            check_tag(tag)
        return super().create_registered_model(name, tags, description, deployment_job_id)

    def create_model_version(self, name, source, run_id=None, tags=None, *args, **kwargs):
        for tag in tags or []:
            check_tag(tag)
        demand(len(tags or []) <= MAX_TAGS, f"{len(tags or [])} tags")
        described = yaml.safe_load((Path(download_artifacts(source)) / "MLmodel").read_text())
        signature = described.get("signature") or {}
        demand(signature.get("inputs") and signature.get("outputs"), "a signature has inputs and outputs")
        return super().create_model_version(name, source, run_id, tags, *args, **kwargs)

    def set_registered_model_tag(self, name, tag):
        check_tag(tag)
        super().set_registered_model_tag(name, tag)
        demand(len(self.get_registered_model(name).tags) <= MAX_TAGS, "too many tags")

    def set_model_version_tag(self, name, version, tag):
        check_tag(tag)
        super().set_model_version_tag(name, version, tag)
        demand(len(self.get_model_version(name, version).tags) <= MAX_TAGS, "too many tags")

    def search_model_versions(self, filter_string=None, max_results=None, order_by=None, page_token=None):
        demand(BY_NAME.fullmatch(filter_string or ""), f"versions are searched by name alone, not by {filter_string}")
        demand(not order_by, "no order")
        found = super().search_model_versions(filter_string, PAGE, ["version_number ASC"], page_token)
        return PagedList([bare(each) for each in found], found.token)

    def search_registered_models(self, filter_string=None, max_results=None, order_by=None, page_token=None):
        # MLflow's client leaves prompts out by a filter, unless the registry is called databricks-uc.
        demand(filter_string in (None, NO_PROMPTS) and not order_by, "models are listed, not searched")
        return super().search_registered_models(None, PAGE, None, page_token)


def bare(found: Any) -> ModelVersionSearch:
    """A version as a search gives it: its tags and aliases are to be asked for one by one."""
    return ModelVersionSearch(found.name, found.version, found.creation_timestamp, run_id=found.run_id)


def install() -> None:
    """Let MLflow find the registry by its scheme, in this process."""
    utils._get_store_registry().register(SCHEME, UnityCatalogStore)


def distribution(folder: Path) -> Path:
    """A folder that, on a process's path, is an installed distribution with the registry's entry point."""
    described = folder / "unity_catalog-1.0.dist-info"
    described.mkdir(parents=True)
    (described / "METADATA").write_text("Metadata-Version: 2.1\nName: unity-catalog\nVersion: 1.0\n")
    entry = f"{SCHEME} = {__name__}:{UnityCatalogStore.__name__}"
    (described / "entry_points.txt").write_text(f"[mlflow.model_registry_store]\n{entry}\n")
    return folder

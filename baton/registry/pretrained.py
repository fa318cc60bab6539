"""A config whose backbone lies in a file or in the registry in, one that names it by its content out.

What lies under a path or an alias may be another network tomorrow: a step reads a copy in the warehouse whose name is
its hash, so that what is trained on, resumed with and recognised by the cache is one and the same.
"""

from __future__ import annotations

import re
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from baton.config.schema import Config, Model
from baton.errors import BadInput
from baton.networks import zoo
from baton.registry import versions
from baton.runtime.files import sha256, whole
from baton.serving.layout import KERAS_FILE

KEYS = ("backbone", "weights")
REGISTERED = re.compile(r"models:/(?P<name>[^@/]+)(@(?P<alias>[^@/]+)|/(?P<number>\d+))")
FILES = (".keras", ".h5")


def local(config: Config) -> Config:
    """The config with copies of what its backbone and weights name; raises `BadInput` for what is not there."""
    _demand(config.model)
    places = {f"model.{key}": getattr(config.model, key) for key in KEYS}
    copies = {key: str(_copied(place, key, config)) for key, place in places.items() if _is_place(place)}
    return config.overridden(copies) if copies else config


def _demand(model: Model) -> None:
    if model.backbone and not _is_place(model.backbone):
        zoo.demand(model.backbone)
    if not _is_place(model.weights) and model.weights not in ("none", "imagenet"):
        raise BadInput(
            f"model.weights is none, imagenet, a .keras or .h5 file, or models:/…. Received: {model.weights}"
        )
    if not model.backbone and model.weights.endswith(("imagenet", ".h5")):
        raise BadInput(f"model.weights {model.weights} are of a network that model.backbone has to name.")


def _is_place(place: str | None) -> bool:
    return place is not None and place.endswith(FILES) | place.startswith("models:/")


def _copied(place: str, key: str, config: Config) -> Path:
    home = Path(config.warehouse) / config.name / "pretrained"
    with _file(place, key) as file:
        copy = home / f"{sha256(file)}{_ending(file)}"
        if not copy.exists():
            home.mkdir(parents=True, exist_ok=True)
            with whole(copy) as aside:
                shutil.copyfile(file, aside)
    return copy


def _ending(file: Path) -> str:
    return ".weights.h5" if file.name.endswith(".weights.h5") else file.suffix


@contextmanager
def _file(place: str, key: str) -> Iterator[Path]:
    if not place.startswith("models:/"):
        if not Path(place).is_file():
            raise BadInput(f"{key} names a file that is not there. Received: {place}")
        yield Path(place)
        return
    version = _version(place, key)
    with versions.downloaded(f"models:/{version.name}/{version.version}", version.tags) as folder:
        yield folder / KERAS_FILE


def _version(place: str, key: str) -> Any:
    parts = REGISTERED.fullmatch(place)
    if parts is None:
        raise BadInput(f"{key} names a model as models:/name@alias or models:/name/version. Received: {place}")
    if parts["number"]:
        return versions.version(parts["name"], parts["number"])
    if (bearer := versions.champion(parts["name"], parts["alias"])) is None:
        raise BadInput(f"{key} names an alias that no version bears. Received: {place}")
    return bearer

"""A logged model's folder in, the folder of its data out, if all of it is what Baton logged.

MLflow loads a model by running code that lies beside it. Baton runs none of it: it reads the data (a
JSON file, a Keras file) by its own code. The code must be Baton's own all the same, for the model is
served by MLflow to others.
"""

from __future__ import annotations

import hashlib
import json
from functools import cache
from pathlib import Path

import yaml

from baton import names
from baton.errors import BadInput, listed
from baton.runtime.files import folder_hashes, sha256
from baton.runtime.imports import reached
from baton.runtime.paths import CODE
from baton.serving.layout import DATA, ENTRY, ENTRY_FILE, KERAS_FILE

LOADER = {
    "loader_module": "mlflow.pyfunc.loaders.code_model",
    "model_code_path": ENTRY,
    "code": "code",
    "artifacts": f"artifacts/{DATA}",
}
# What MLflow writes beside code and data. Nothing of it is used: Baton installs no model's requirements.
DESCRIBED = ("MLmodel", "conda.yaml", "python_env.yaml", "requirements.txt")
DESCRIPTIONS = {
    *(*DESCRIBED, "registered_model_meta", "input_example.json", "serving_input_example.json"),
    *(f"metadata/{name}" for name in DESCRIBED),  # a copy that is made on Databricks only
}


def digest(data: Path) -> str:
    """The hash of a model that this checkout logs with the data in that folder; kept by the tracking server."""
    return hashed({**code(), **_hashes(data, f"artifacts/{DATA}/")})


@cache
def code() -> dict[str, str]:
    """{path in a model: SHA-256} of the code that this checkout bundles with it."""
    return {ENTRY: sha256(CODE / ENTRY_FILE)} | {f"code/{path}": sha256(CODE / path) for path in bundled()}


@cache
def bundled() -> tuple[str, ...]:
    """The files of the package that serving a model runs, relative to the project: those that its entry reaches."""
    return tuple(path for path in reached(ENTRY_FILE, CODE) if path != ENTRY_FILE)


def checked(model: Path, recorded: str, name: str) -> Path:
    """The data folder of the model called `name` at `model`; raises `BadInput` that names what is not Baton's.

    `recorded` is the digest from when it was logged, maybe by an earlier Baton. Without one the code must
    be this checkout's.
    """
    _check_loader(model, name)
    files = _hashes(model)
    data = {f"{LOADER['artifacts']}/{file}" for file in (KERAS_FILE, names.PREPROCESSOR)}
    if lacking := sorted((data | {ENTRY}) - set(files)):
        raise BadInput(f"{lacking[0]} of the model {name} is missing: it is not a model that Baton logged.")
    data |= {f"{LOADER['artifacts']}/{file}" for file in (names.TRAINED_ON, names.PICTURE_FEATURES)}  # some have none
    held = {path: found for path, found in files.items() if path not in DESCRIPTIONS}
    if not recorded or hashed(held) != recorded:
        others = sorted(path for path in {**held, **code()} if path not in data and held.get(path) != code().get(path))
        if others or recorded:
            _refuse(name, others or sorted(data & set(held)))
    return model / LOADER["artifacts"]


def _refuse(name: str, files: list[str]) -> None:
    raise BadInput(
        f"The model {name} is refused, and nothing of it was run: it is not as Baton logged it. "
        f"Not this Baton's: {listed(files, most=5)}"
    )


def _check_loader(model: Path, name: str) -> None:
    """Raise `BadInput` unless MLmodel has MLflow run what Baton bundles, and nothing else."""
    try:
        flavors = yaml.safe_load((model / "MLmodel").read_text(encoding="utf-8"))["flavors"]
        flavor = flavors.get("python_function", {})
        found = {
            **{key: flavor.get(key) for key in LOADER},
            "model_code_path": Path(flavor.get("model_code_path", "")).name,
            "artifacts": ", ".join(artifact["path"] for artifact in flavor.get("artifacts", {}).values()),
        }
    except (OSError, ValueError, yaml.YAMLError, LookupError, TypeError, AttributeError) as error:
        raise BadInput(f"MLmodel of the model {name} cannot be read: {error}") from None
    found |= {f"flavor {other}": "" for other in set(flavors) - {"python_function"}}
    if other := [f"{key} {value}".strip() for key, value in found.items() if value != LOADER.get(key)]:
        raise BadInput(
            f"The model {name} is refused, and nothing of it was run: "
            f"MLmodel names another loader than Baton's. Received: {listed(other)}"
        )


def _hashes(folder: Path, prefix: str = "") -> dict[str, str]:
    """As `folder_hashes`; raises `BadInput` for a link, or anything else that is no file."""
    for path in sorted(folder.rglob("*")):
        if path.is_symlink() or not (path.is_dir() or path.is_file()):
            raise BadInput(f"{path.name} is a link or no file, and no part of a model.")
    return folder_hashes(folder, prefix)


def hashed(files: dict[str, str]) -> str:
    """{path: hash} of files → one hash of all."""
    return hashlib.sha256(json.dumps(files, sort_keys=True).encode()).hexdigest()

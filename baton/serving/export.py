"""A trained network and its preprocessing in, a logged MLflow model out."""

from __future__ import annotations

import hashlib
import shutil
import sys
import tempfile
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pyarrow as pa
import pyarrow.compute as pc

from baton import names
from baton.data.columns import typed
from baton.data.preprocessing import Preprocessor
from baton.data.reference import ReferenceData
from baton.runtime.files import folder_hashes
from baton.runtime.paths import CODE, PACKAGE
from baton.serving import integrity
from baton.serving.layout import DATA, ENTRY_FILE, KERAS_FILE, PACKAGES
from baton.serving.raw_columns import RawColumnModel

if TYPE_CHECKING:
    import pandas as pd

COLUMNS = "columns"  # the key of a logged model's metadata that tells what kind each column is


def log_model(
    preprocessor: Preprocessor,
    network: Any,
    example: pa.Table | None,
    metadata: dict[str, str],
    reference: ReferenceData | None = None,
) -> str:
    """Log the raw-column model (pyfunc, models from code) into the active run; return its URI.

    `reference` is what it was trained on: it travels with it, and is what drift is measured against. The first rows
    of `example` travel too; with None none does.
    """
    import mlflow

    with tempfile.TemporaryDirectory() as home, warnings.catch_warnings(), _own_modules():
        folder = Path(home) / DATA
        warnings.filterwarnings("ignore", "(?s).*input example was not provided", UserWarning)
        RawColumnModel(preprocessor, network).save(folder)
        if reference is not None:
            reference.save(folder)
        logged = mlflow.pyfunc.log_model(
            name="model",
            python_model=str(CODE / ENTRY_FILE),
            artifacts={DATA: str(folder)},
            code_paths=[str(_code(Path(home)))],
            signature=signature(preprocessor),
            input_example=None if example is None else input_example(example, preprocessor),
            pip_requirements=requirements(),
            metadata={**metadata, COLUMNS: {column.name: column.kind for column in preprocessor.features}},
        )
        digests = {names.TAG_MODEL_DIGEST: integrity.digest(folder), names.TAG_MODEL_CONTENT: content(folder, network)}
        mlflow.set_tags(digests)
    return logged.model_uri


def content(folder: Path, network: Any) -> str:
    """A model's folder and its network → a hash of all its data; the network's file holds times, its weights do not."""
    others = {file: digest for file, digest in folder_hashes(folder).items() if file != KERAS_FILE}
    return integrity.hashed({**others, KERAS_FILE: weights_hash(network)})


def weights_hash(network: Any, before: str = "", after: str = "") -> str:
    """A network → a hash of its layers, with texts before and after them, and of every weight."""
    digest = hashlib.sha256(f"{before}{network.to_json()}{after}".encode())
    for weight in network.get_weights():
        digest.update(weight.tobytes())
    return digest.hexdigest()


@contextmanager
def _own_modules() -> Iterator[None]:
    """Keep MLflow, which tries the model out, from leaving its copy of the package first on the path.

    A process started later would look there, and the copy holds no more than serving needs.
    """
    before = list(sys.path)
    try:
        yield
    finally:
        sys.path[:] = before


def _code(home: Path) -> Path:
    """Copy what serving runs of the package below `home` → the package's folder there."""
    for path in integrity.bundled():
        (home / path).parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(CODE / path, home / path)
    return home / PACKAGE.name


def signature(preprocessor: Preprocessor) -> Any:
    """The model's signature: raw columns, whose cells MLflow leaves as they are; prediction and class probabilities.

    The reason of a row that cannot be used is declared beside classes only: the Spark UDF of a regression gives a
    number, not a struct.
    """
    from mlflow.models import ModelSignature
    from mlflow.types import ColSpec, Schema
    from mlflow.types.schema import AnyType

    target = preprocessor.target_column.type if preprocessor.classes else "double"
    outputs = [ColSpec(target, names.PREDICTION)]
    outputs += [ColSpec("double", f"{names.PROBABILITY}{name}") for name in preprocessor.classes]
    outputs += [ColSpec("string", names.REASON)] if preprocessor.classes else []
    return ModelSignature(Schema([ColSpec(AnyType(), c.name) for c in preprocessor.features]), Schema(outputs))


def as_declared(raw: pa.Table, preprocessor: Preprocessor) -> pa.Table:
    """Raw rows → the feature columns of those that can be used, in the types that their columns declare."""
    rows, reasons = typed(raw, preprocessor.features, target=None)
    casts = {"long": pa.int64(), "double": pa.float64(), "string": pa.string()}
    columns = {}
    for column in preprocessor.features:
        values = (raw if column.coded else rows).column(column.name).filter(reasons.is_null())
        columns[column.name] = pc.cast(values, casts.get(column.type, values.type))
    return pa.table(columns)


def input_example(raw: pa.Table, preprocessor: Preprocessor, rows: int = 5) -> pd.DataFrame:
    """Raw rows → the first that can be used, as pandas holds them."""
    return as_declared(raw, preprocessor).slice(0, rows).to_pandas()


def requirements() -> list[str]:
    """What serving needs, at the versions installed here (those of the lock)."""
    from importlib.metadata import version

    return [f"{package}=={version(package)}" for package in PACKAGES]

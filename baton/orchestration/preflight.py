"""Whether a pipeline could run here: config, data, disk, servers and environment, looked at in seconds.

Nothing is run, written or logged, and TensorFlow is not imported.
"""

from __future__ import annotations

import itertools
import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Callable
from contextlib import suppress
from importlib.metadata import PackageNotFoundError, version
from importlib.util import find_spec
from pathlib import Path

import pyarrow as pa

from baton.config.schema import BatchInfer, Config
from baton.data import cell_counts, overview, recognition
from baton.data import columns as cols
from baton.data.ingestion import rows
from baton.data.ingestion.pictured import header_words
from baton.data.sources import files
from baton.errors import BadInput, explained, listed, printable
from baton.orchestration.step import Load
from baton.redaction import masked
from baton.registry import pretrained, store, versions
from baton.reporting import console
from baton.runtime import file_systems, spark
from baton.runtime.paths import HOROVOD, LOCK, PETASTORM
from baton.serving import destination
from baton.tracking import experiments, servers

PINNED = ("mlflow", "tensorflow-cpu", "keras", "petastorm", "pyspark", "hyperopt", "horovod", "numpy", "pyarrow")
INSTALL = "make run installs what is pinned, into .venv"
JAVA = ("17", "21")
# Rough needs of disk: flights' dataset takes 2.1 times its source's bytes, fashion's 1.1 times.
DATASET_SHARE, PREDICTIONS_SHARE, SPARE = 4, 3, 256 << 20
SAMPLE_ROWS = 20_000  # of which the columns are recognised before a run
SPARK_TABLE = "a table of Spark's: what it holds is seen when it is read"

Check = tuple[str, Callable[[], str]]  # what is looked at; what finds it well, in words, or raises


def validate(load: Load) -> None:
    """Print a line a check; at the end raise one `BadInput` that names the checks that failed."""
    configs: list[Config] = []

    def config() -> str:
        configs.append(load())
        return f"{configs[0].name}, {configs[0].data.task}"

    good = [_passes(check) for check in [("config", config), *_of_environment()]]
    good += [_passes(check) for found in configs for check in _of_config(found)]
    for found in configs:
        _print_columns(found)
    print(flush=True)
    if not all(good):
        raise BadInput(f"{good.count(False)} of {len(good)} checks failed: see the lines above.")
    print(f"All {len(good)} checks passed.", file=sys.stderr)


def _of_environment() -> list[Check]:
    return [("packages", _packages), ("horovod", _horovod), ("tracking", _tracking)]


def _of_config(config: Config) -> list[Check]:
    checks: list[Check] = [
        ("source", lambda: _source(config)),
        ("warehouse", lambda: _room("warehouse", config.warehouse, DATASET_SHARE, config.data.source, config)),
        ("artifacts", lambda: experiments.check_artifacts(servers.uris()[0], config.experiment_name)),
        ("java", lambda: _java(config)),
    ]
    if config.model.backbone or config.model.weights != "none":
        checks.append(("backbone", lambda: _backbone(config)))
    if isinstance(members := config.register_.ensemble, list):
        checks.append(("ensemble", lambda: _members(members)))
    if store.is_limited(servers.uris()[1]):
        checks.append(("model", lambda: store.check_names(config, servers.uris()[1])))
    if (settings := config.batch_infer) is not None:
        checks += [("scoring", lambda: _scoring(config, settings)), ("output", lambda: _check_output(config, settings))]
    return checks


def _backbone(config: Config) -> str:
    """The files, or the registered model, that training begins with are there."""
    model = pretrained.local(config).model
    return ", ".join(filter(None, (model.backbone, model.weights)))


def _members(places: list[str]) -> str:
    """The versions that an ensemble may be of are there."""
    return ", ".join(f"{place} of {versions.at(place, 'register.ensemble').run_id}" for place in places)


def _passes(check: Check) -> bool:
    """Do one check and print what came of it."""
    name, look = check
    try:
        print(f"ok     {name:<10} {masked(printable(look()))}", flush=True)
    except (BadInput, OSError) as error:
        print(f"WRONG  {name:<10} {masked(str(explained(error) or error))}", flush=True)
        return False
    return True


def _packages() -> str:
    """The packages that must be the pinned ones are."""
    pins = dict(re.findall(r"^([\w.\-]+)==([\w.]+)", LOCK.read_text(encoding="utf-8"), re.MULTILINE))
    (petastorm, number, change), (horovod, other, _) = PETASTORM.name.split("-"), HOROVOD.name.split("-")
    pins |= {petastorm: f"{number}+{change}", horovod: other}
    found = {name: _version(name) for name in PINNED}
    if wrong := [f"{name} is {found[name]}, pinned is {pins[name]}" for name in PINNED if found[name] != pins[name]]:
        raise BadInput(f"{'; '.join(wrong)}. {INSTALL}.")
    return ", ".join(f"{name} {number}" for name, number in found.items())


def _version(package: str) -> str:
    try:
        return version(package)
    except PackageNotFoundError:
        return "missing"


def _horovod() -> str:
    """Horovod's library is there, and was compiled against the TensorFlow that is installed."""
    spec, installed = find_spec("horovod"), _version("tensorflow-cpu")
    home = Path(spec.origin).parent if spec and spec.origin else None
    if home is None or not list(home.glob("tensorflow/mpi_lib*.so")):
        raise BadInput(f"Horovod is not there, or was built without TensorFlow. {INSTALL}, and compiles it.")
    built = json.loads((home / "metadata.json").read_text(encoding="utf-8")).get("tensorflow")
    if built != installed:
        raise BadInput(f"Horovod was built for TensorFlow {built}, and {installed} is installed. {INSTALL}.")
    return f"built for TensorFlow {built}"


def _tracking() -> str:
    """The tracking store and the registry answer."""
    uris = servers.uris()
    servers.check_servers(*uris)
    return " and ".join(dict.fromkeys(uris))


def _source(config: Config) -> str:
    """The source is there and has the columns that the config names."""
    source = _resolved(config, config.data.source)
    if source.format == "table":
        return SPARK_TABLE
    schema = source.schema()
    rows.check_reserved(schema.names)
    config = rows.laid_out(config, source)
    recognised, _ = _recognised(source, schema, config)
    features = cols.feature_columns([r.column for r in recognised], config.data)
    return f"{len(source.files)} files, {source.bytes / 1e6:,.1f} MB, {len(features)} features"


def _recognised(
    source: files.Source, schema: pa.Schema, config: Config
) -> tuple[list[recognition.Recognised], dict[str, cell_counts.CellCounts]]:
    """The columns as a sample of the source's cells tells them, and the counts of that sample."""
    batches = itertools.islice(source.batches(SAMPLE_ROWS), 0 if source.format == "images" else 1)
    counted = cell_counts.merge([cell_counts.counts(batch.slice(0, SAMPLE_ROWS), config.data) for batch in batches])
    return recognition.recognise(schema, counted, config.data), counted


def _print_columns(config: Config) -> None:
    """The table of columns, as far as a sample tells, with what is doubtful; nothing of a source that is none."""
    with suppress(BadInput, OSError):
        source = _resolved(config, config.data.source)
        if source.format == "table":
            return
        if config.data.task == "image":
            for sentence in header_words(source, config):
                print(f"note   {'pictures':<10} {masked(printable(sentence))}", flush=True)
        if source.format == "images":
            return
        schema = source.schema()
        table = overview.of_sample(*_recognised(source, schema, config), schema.names)
        console.columns(table)
        for warning in table["warnings"]:
            print(f"note   {'columns':<10} {masked(printable(warning))}", flush=True)


def _scoring(config: Config, settings: BatchInfer) -> str:
    """What is to be scored is there and has the features of the training data."""
    training, source = _resolved(config, config.data.source), _resolved(config, settings.source)
    if "table" in (training.format, source.format):
        return SPARK_TABLE
    schema, trained_on = source.schema(), training.schema()
    rows.check_reserved(schema.names, settings.interval)
    recognised, _ = _recognised(training, trained_on, config)
    features = cols.feature_columns([r.column for r in recognised], config.data)
    if absent := [column.name for column in features if column.name not in schema.names]:
        raise BadInput(f"{settings.source} lacks the features {listed(absent)}.")
    # What a column of text means is known when its cells are read.
    cols.check_types(schema, [column for column in features if str(trained_on.field(column.name).type) != "string"])
    return f"{len(source.files)} files, {source.bytes / 1e6:,.1f} MB, all {len(features)} features"


def _check_output(config: Config, settings: BatchInfer) -> str:
    """The folder of predictions can be replaced: by another one, which is made beside it."""
    parent = destination.check(config, settings).parent
    return _room("batch_infer.output", str(parent), PREDICTIONS_SHARE, settings.source, config)


def _room(key: str, place: str, share: int, location: str, config: Config) -> str:
    """A folder can be made or written at `place`, and its disk has room for `share` times the bytes at `location`."""
    target = Path(place).resolve()
    home = next(path for path in (target, *target.parents) if path.exists())
    if not home.is_dir():
        raise BadInput(f"{home} is a file where a folder should be: move it, or set {key}.")
    if not os.access(home, os.W_OK | os.X_OK):
        raise BadInput(f"{home} cannot be written into: change its permissions, or set {key}.")
    free, need = shutil.disk_usage(home).free, share * _resolved(config, location).bytes + SPARE
    if free < need:
        raise BadInput(
            f"{home} has {free >> 20:,} MB left and about {need >> 20:,} are needed: make room, or set {key}."
        )
    sentences = [f"{Path(place).absolute()} can be written, {free >> 30:,} GB left", *file_systems.fallbacks(home)]
    return "; ".join(sentences)


def _java(config: Config) -> str:
    """Java is there, of a version that Spark takes, if Spark is needed."""
    if not _needs_spark(config):
        return "not needed: nothing runs on Spark"
    if config.distributed_train.launcher == "spark":
        spark.demand_context(config, "distributed_train.launcher: spark")
    if spark.connects(config) and not os.environ.get("SPARK_REMOTE", "").startswith("local"):
        return "not needed: Spark is a server's, by Spark Connect"
    home = os.environ.get("JAVA_HOME")
    java = shutil.which("java", path=str(Path(home) / "bin") if home else None)
    told = subprocess.run([java, "-version"], capture_output=True, text=True, check=False).stderr if java else ""
    found = re.search(r'version "(\d+)[^"]*"', told)
    if found is None or found[1] not in JAVA:
        raise BadInput(
            f"Spark needs Java {' or '.join(JAVA)}: install openjdk-17-jre-headless, or set JAVA_HOME. "
            f"Received: {found[0] if found else java or 'no java'}"
        )
    return found[0]


def _needs_spark(config: Config) -> bool:
    if config.distributed_train.launcher == "spark" or files.engine_for(config) == "spark":
        return True
    for location in [config.data.source, *([config.batch_infer.source] if config.batch_infer else [])]:
        with suppress(BadInput):  # a source that is not there is told by a check of its own
            if files.engine(config, _resolved(config, location)) == "spark":
                return True
    return False


def _resolved(config: Config, location: str) -> files.Source:
    """The source at `location`, which the config's engine can read; raises `BadInput`."""
    source = files.resolve(location, files.Reading.of(config.data))
    files.engine(config, source)
    return source

"""docs/explanation/SECURITY.md holds: strangers' models, images and parameters run nothing; servers stay local."""

import contextlib
import io
import json
import os
import pickle
import re
import shutil
import socket
import struct
import subprocess
import sys
import tarfile
import time
import zipfile
import zlib
from pathlib import Path
from types import SimpleNamespace

import keras
import mlflow
import psutil
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import tiny
import yaml
from click.testing import CliRunner
from PIL import ImageFile

from baton import names
from baton.data import columns, images, recognition
from baton.data.dataset import Dataset
from baton.data.feed import Feed
from baton.data.ingestion import local
from baton.data.sources import files as sources
from baton.errors import BadInput
from baton.networks import build
from baton.registry import candidates, versions
from baton.runtime import spark
from baton.serving import integrity, layout
from baton.serving.raw_columns import RawColumnModel
from baton.tracking import runs
from baton.training import callbacks, fit, horovod
from steps.batch_infer import batch_infer
from steps.register import register

ROOT = Path(__file__).parents[2]


# Models: a registry whose champion strangers can write to


@pytest.fixture(scope="module")
def shop(regression, tmp_path_factory):
    """A real registry with a promoted champion, the folder of its files, and the steps run on it in this process."""
    home = tmp_path_factory.mktemp("shop")
    config, dataset = regression
    pq.write_table(tiny.regression_table(50, seed=4).drop(["y"]), home / "new.parquet")
    settings = {"source": str(home / "new.parquet"), "output": str(home / "predictions")}
    tree = {**config.dump(), "name": "shop", "warehouse": str(home / "warehouse"), "batch_infer": settings}
    (home / "shop.yaml").write_text(yaml.safe_dump(tree))
    mlflow.set_tracking_uri(f"sqlite:///{home}/mlflow.db")
    mlflow.create_experiment("shop", artifact_location=(home / "artifacts").as_uri())

    def do(step, *options: str, overrides: str = ""):
        return CliRunner().invoke(step, [f"--config={home / 'shop.yaml'}", f"--set={overrides}", *options])

    shop_config = config.overridden({"name": "shop", "warehouse": str(home / "warehouse"), "train.epochs": 4})
    with runs.start("train", shop_config, {}) as run:
        candidates.log_candidate(shop_config, run, dataset, fit.train(shop_config, dataset))
    done = do(register, f"--candidate_run_ids={run.id}")
    assert done.exit_code == 0 and str(versions.champion("shop").version) == "1", done.output
    client = mlflow.MlflowClient()
    (files,) = (path.parent for path in (home / "artifacts").rglob("MLmodel"))
    yield SimpleNamespace(home=home, do=do, run=run.id, files=files, client=client, config=shop_config)
    mlflow.set_tracking_uri(None)


@pytest.fixture
def canary(shop):
    """A file that any code of a stranger's would make; the model's files and tags come back after the test."""
    canary, kept = shop.home / "canary", shop.home / "kept"
    shutil.copytree(shop.files, kept)
    tags = dict(shop.client.get_model_version("shop", "1").tags)
    yield canary
    shutil.rmtree(shop.files)
    kept.rename(shop.files)
    for key, value in tags.items():
        shop.client.set_model_version_tag("shop", "1", key, value)
    canary.unlink(missing_ok=True)


def infect(path: Path, canary: Path) -> None:
    """Code that makes the canary, behind what there is."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("a") as file:
        file.write(f"\nopen({str(canary)!r}, 'w').close()\n")


class Bomb:
    """Unpickling one makes the canary."""

    def __init__(self, canary: Path):
        self.canary = canary

    def __reduce__(self):
        return eval, (f"open({str(self.canary)!r}, 'w')",)


def mlmodel(files: Path, **changes: object) -> None:
    """Change the flavor that MLflow loads the model by; a flavor of its own is added as `flavors`."""
    described = yaml.safe_load((files / "MLmodel").read_text())
    described["flavors"] |= changes.pop("flavors", {})
    described["flavors"]["python_function"] |= changes
    (files / "MLmodel").write_text(yaml.safe_dump(described))


def edited(files, canary):
    infect(files / "code" / "baton" / "serving" / "raw_columns.py", canary)
    return "code/baton/serving/raw_columns.py"


def entry(files, canary):
    infect(files / "raw_model.py", canary)
    return "raw_model.py"


def extra(files, canary):
    infect(files / "code" / "keras.py", canary)
    return "code/keras.py"


def compiled(files, canary):
    infect(files / "code" / "baton" / "serving" / "__pycache__" / "raw_columns.cpython-311.pyc", canary)
    return "code/baton/serving/__pycache__/raw_columns.cpython-311.pyc"


def pickled(files, canary):
    (files / "artifacts" / "model" / "scaler.pkl").write_bytes(pickle.dumps(Bomb(canary)))
    return "artifacts/model/scaler.pkl"


def other_rows(files, canary):
    (files / "artifacts" / "model" / names.TRAINED_ON).write_bytes(b"other rows")
    return names.TRAINED_ON


def lacking(files, canary):
    (files / "code" / "baton" / "networks" / "layers.py").unlink()
    return "code/baton/networks/layers.py"


def loader(files, canary):
    infect(files / "code" / "evil.py", canary)
    mlmodel(files, loader_module="evil")
    return "loader_module evil"


def another_entry(files, canary):
    infect(files / "other.py", canary)
    mlmodel(files, model_code_path="other.py")
    return "model_code_path other.py"


def elsewhere(files, canary):
    mlmodel(files, artifacts={"model": {"path": "../../elsewhere", "uri": "x"}})
    return "artifacts ../../elsewhere"


def flavor(files, canary):
    (files / "model.pkl").write_bytes(pickle.dumps(Bomb(canary)))
    mlmodel(files, flavors={"sklearn": {"pickled_model": "model.pkl"}})
    return "flavor sklearn"


def no_description(files, canary):
    infect(files / "code" / "evil.py", canary)
    (files / "MLmodel").write_text("!!python/object/apply:evil.run []")
    return "MLmodel of the model"


def with_lambda(files, canary):
    """A network whose Lambda layer makes the canary when it is called."""
    target = str(canary)
    inputs = keras.Input([1])
    outputs = keras.layers.Lambda(lambda x: [Path(target).touch(), x][1])(inputs)
    keras.Model(inputs, outputs).save(files / "artifacts" / "model" / layout.KERAS_FILE)
    canary.unlink()  # building it called it
    return "artifacts/model/network.keras"


TAMPERINGS = [edited, entry, extra, compiled, pickled, other_rows, lacking, loader, another_entry, elsewhere, flavor,
              no_description, with_lambda]  # fmt: skip


@pytest.mark.parametrize("tamper", TAMPERINGS, ids=lambda function: function.__name__)
def test_a_tampered_model_is_refused_before_anything_of_it_runs(shop, canary, tamper):
    named = tamper(shop.files, canary)
    before = sorted(shop.home.glob("predictions/*"))
    asked = {
        "local": (batch_infer, "--register_run_id=", "engine=local"),
        "spark": (batch_infer, "--register_run_id=", "engine=spark"),
        "register": (register, f"--candidate_run_ids={shop.run}", ""),
    }
    for step, option, overrides in asked.values() if tamper is edited else [asked["local"], asked["register"]]:
        done = shop.do(step, option, overrides=overrides)
        last = done.output.strip().splitlines()[-1]
        assert (done.exit_code, named in last) == (2, True), done.output
    assert not canary.exists() and sorted(shop.home.glob("predictions/*")) == before
    assert len(versions.versions("shop")) == 1


def test_a_champion_of_an_earlier_baton_scores_by_the_present_code(shop, canary):
    """Its code is not this checkout's, but what Baton logged then: the tracking server remembers the hash."""
    edited(shop.files, canary)
    held = integrity._hashes(shop.files)
    earlier = integrity.hashed({path: h for path, h in held.items() if path not in integrity.DESCRIPTIONS})
    shop.client.set_model_version_tag("shop", "1", names.TAG_MODEL_DIGEST, earlier)
    done = shop.do(batch_infer, "--register_run_id=")
    assert done.exit_code == 0, done.output
    assert pq.read_table(shop.home / "predictions").num_rows == 50
    assert not canary.exists()


@pytest.mark.parametrize("tamper", [None, edited, with_lambda], ids=["as logged", "edited", "lambda"])
def test_a_version_without_a_recorded_hash_must_have_this_checkouts_code(shop, canary, tamper):
    named = tamper(shop.files, canary) if tamper else ""
    shop.client.delete_model_version_tag("shop", "1", names.TAG_MODEL_DIGEST)
    done = shop.do(batch_infer, "--register_run_id=")
    assert done.exit_code == (2 if tamper else 0), done.output
    if tamper is with_lambda:
        named = (
            "network.keras of the model is damaged, or refused by Keras' safe mode: Requested the deserialization of"
        )
    assert named in done.output
    assert not canary.exists()


def test_a_tampered_champion_makes_the_gate_refuse(shop, canary):
    """The candidate is whole, the champion is not: nothing is promoted past a champion that cannot be compared."""
    with runs.start("train", shop.config, {}) as run:
        dataset = Dataset.open(shop.client.get_run(shop.run).data.tags[names.TAG_DATASET])
        network = build.build(dataset.preprocessor, shop.config.model)
        candidates.log_candidate(
            shop.config, run, dataset, callbacks.Result(network, {"loss": [1.0], "val_rmse": [1.0]})
        )
    edited(shop.files, canary)
    done = shop.do(register, f"--candidate_run_ids={run.id}")
    assert done.exit_code == 0, done.output
    refused = shop.client.get_model_version("shop", "2").tags
    shop.client.delete_model_version("shop", "2")
    assert refused[names.TAG_VERDICT] == names.REFUSED
    assert re.search(
        r"champion, version 1, cannot be compared .*code/baton/serving/raw_columns\.py", refused[names.TAG_REASONS]
    )
    assert str(versions.champion("shop").version) == "1" and not canary.exists()


def test_a_strangers_model_under_the_alias_is_refused(shop, canary):
    """Logged by MLflow alone, given all tags of a promoted version."""
    source = shop.home / "stranger.py"
    source.write_text(
        "import mlflow\n\nclass M(mlflow.pyfunc.PythonModel):\n    def predict(self, context, model_input):\n"
        "        return model_input\n\nmlflow.models.set_model(M())\n"
    )
    with mlflow.start_run(experiment_id=mlflow.get_experiment_by_name("shop").experiment_id):
        uri = mlflow.pyfunc.log_model(name="model", python_model=str(source), pip_requirements=[]).model_uri
    (logged,) = (path for path in (shop.home / "artifacts").rglob("stranger.py"))
    infect(logged, canary)
    version = str(versions.register("shop", uri, dict(shop.client.get_model_version("shop", "1").tags)).version)
    versions.set_alias("shop", names.CHAMPION, version)
    try:
        done = shop.do(batch_infer, "--register_run_id=")
    finally:
        versions.set_alias("shop", names.CHAMPION, "1")
        shop.client.delete_model_version("shop", version)
    assert done.exit_code == 2 and "nothing of it was run" in done.output.strip().splitlines()[-1]
    assert not canary.exists()


@pytest.mark.parametrize(
    "layer",
    [
        {"module": "os", "class_name": "system", "config": {"command": "touch {canary}"}, "registered_name": None},
        {"module": "builtins", "class_name": "eval", "config": "open('{canary}', 'w')", "registered_name": None},
        {
            "module": "keras.layers",
            "class_name": "TFSMLayer",
            "config": {"filepath": "{canary}", "name": "x"},
            "registered_name": None,
        },
    ],
    ids=["os.system", "eval", "TFSMLayer"],
)
def test_a_network_that_names_other_code_is_refused(regression, tmp_path, layer):
    """A `.keras` file is a zip with a JSON description: one that describes what is no layer of Keras or Baton."""
    _, dataset = regression
    canary = tmp_path / "canary"
    network = build.build(dataset.preprocessor, tiny.config().model)
    RawColumnModel(dataset.preprocessor, network).save(tmp_path / "model")
    path = tmp_path / "model" / layout.KERAS_FILE
    with zipfile.ZipFile(path) as held:
        parts = {name: held.read(name) for name in held.namelist()}
    described = json.loads(parts["config.json"])
    described["config"]["layers"][-1] |= json.loads(json.dumps(layer).replace("{canary}", str(canary)))
    parts["config.json"] = json.dumps(described).encode()
    with zipfile.ZipFile(path, "w") as held:
        for name, content in parts.items():
            held.writestr(name, content)
    with pytest.raises(BadInput, match="network.keras of the model is damaged, or refused by Keras' safe mode"):
        RawColumnModel.load(tmp_path / "model")
    assert not canary.exists()


# Images


def picture_folder(folder: Path, pictures: int = 60) -> Path:
    """An image folder of two classes."""
    table = tiny.image_table(pictures)
    for index, image in enumerate(table["image"].to_pylist()):
        path = folder / "pictures" / ("cat", "dog")[index % 2] / f"{index}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(image)
    return folder / "pictures"


def announced(width: int, height: int) -> bytes:
    """A PNG of a few bytes whose header announces so many pixels."""
    parts = [(b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0)), (b"IDAT", zlib.compress(b"\0" * 99))]
    chunks = [
        struct.pack(">I", len(d)) + t + d + struct.pack(">I", zlib.crc32(t + d)) for t, d in [*parts, (b"IEND", b"")]
    ]
    return b"\x89PNG\r\n\x1a\n" + b"".join(chunks)


def test_bombs_and_what_is_no_image_are_quarantined_and_bombs_are_not_decoded(tmp_path, monkeypatch):
    folder = picture_folder(tmp_path)
    eps = b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n%%EndComments\n(canary) (w) file\n%%EOF\n"
    strange = {
        "bomb.png": announced(60_000, 60_000),  # beyond Pillow's own limit
        "large.png": announced(10_000, 9_000),  # beyond Pillow's warning
        "big.png": announced(8_000, 7_000),  # beyond Baton's default only
        "ghost.png": eps,
        "zip.png": b"PK\x03\x04" + bytes(40),
        "half.png": next(folder.rglob("*.png")).read_bytes()[:30],
        "empty.png": b"",
    }
    for name, content in strange.items():
        (folder / "cat" / name).write_bytes(content)
    decoded = []
    load = ImageFile.ImageFile.load
    monkeypatch.setattr(ImageFile.ImageFile, "load", lambda image: [decoded.append(image.size), load(image)][1])
    (tmp_path / "dataset").mkdir()
    config = tiny.config("image", str(folder))
    reasons = local.build(config, sources.resolve(str(folder)), tmp_path / "dataset")
    too_large, broken = "image has more pixels than data.max_image_pixels", "image cannot be decoded as an image"
    assert reasons == {too_large: 3, broken: 4}
    assert decoded and max(width * height for width, height in decoded) <= 100
    dataset = Dataset.open(tmp_path / "dataset")
    assert dataset.rows["input"] == 67 and dataset.rows["quarantined"] == 7
    held = pq.read_table(tmp_path / "dataset" / names.QUARANTINE_FOLDER)
    assert set(held["path"].to_pylist()) == {f"cat/{name}" for name in strange}
    model = RawColumnModel(dataset.preprocessor, build.build(dataset.preprocessor, config.model))
    _, told = model.score(pa.table({"image": [strange["big.png"], strange["ghost.png"]]}))  # the limit travels along
    assert told.to_pylist() == [too_large, broken]


def test_the_limit_is_the_configs():
    image = tiny.image_table(1)["image"].combine_chunks()
    assert images.size(image[0].as_py(), 60) == (10, 6)
    with pytest.raises(images.Unusable, match="has more pixels than"):
        images.size(image[0].as_py(), 59)
    found = recognition.infer(pa.schema([("image", pa.binary()), ("label", pa.string())]), {},
                          tiny.config("image", data={"max_image_pixels": 59}).data)  # fmt: skip
    _, reasons = columns.typed(pa.table({"image": image, "label": ["a"]}), found, "label")
    assert reasons.to_pylist() == ["image has more pixels than data.max_image_pixels"]
    with pytest.raises(BadInput, match="max_image_pixels"):
        tiny.config("image", data={"max_image_pixels": 90_000_000})


@pytest.mark.parametrize(
    ("name", "target", "answer"),
    [
        ("cat/passwd.png", "secret.png", r"must hold no links.*passwd\.png"),
        ("cat/up.png", "../../secret.png", r"must hold no links.*up\.png"),
        ("cat/near.png", "0.png", r"must hold no links.*near\.png"),
        ("cat/gone.png", "nowhere.png", r"A link to a folder or to nothing is not followed.*gone\.png"),
        ("bird", "dog", r"A link to a folder or to nothing is not followed.*bird"),
        ("out", "/", r"A link to a folder or to nothing is not followed.*out"),
    ],
)
def test_links_in_an_image_folder_are_refused(tmp_path, name, target, answer):
    folder = picture_folder(tmp_path, 2)
    (tmp_path / "secret.png").write_bytes((folder / "cat" / "0.png").read_bytes())
    (folder / name).symlink_to(tmp_path / target if target == "secret.png" else target)
    with pytest.raises(BadInput, match=answer):
        sources.resolve(str(folder))


def test_a_folder_of_tables_follows_links_to_files_and_skips_no_linked_folder(tmp_path):
    (tmp_path / "data").mkdir()
    pq.write_table(pa.table({"a": [1]}), tmp_path / "far.parquet")
    (tmp_path / "data" / "near.parquet").symlink_to(tmp_path / "far.parquet")
    assert sources.resolve(str(tmp_path / "data")).table().num_rows == 1
    (tmp_path / "data" / "more").symlink_to(tmp_path)
    with pytest.raises(BadInput, match=r"A link to a folder or to nothing is not followed: remove it.*more"):
        sources.resolve(str(tmp_path / "data"))


def hostile_zip(path: Path, png: bytes) -> None:
    with zipfile.ZipFile(path, "w") as held:
        held.writestr("../escaped.png", png)
        held.writestr(f"{path.parent}/absolute.png", png)


def hostile_tar(path: Path, png: bytes) -> None:
    with tarfile.open(path, "w:gz") as held:
        for name in ("../escaped.png", f"{path.parent}/absolute.png"):
            info = tarfile.TarInfo(name)
            info.size = len(png)
            held.addfile(info, io.BytesIO(png))
        link = tarfile.TarInfo("cat")
        link.type, link.linkname = tarfile.SYMTYPE, "/etc"
        held.addfile(link)


@pytest.mark.parametrize(("name", "pack"), [("a.zip", hostile_zip), ("a.tar.gz", hostile_tar), ("a.tgz", hostile_tar)])
@pytest.mark.parametrize("place", ["alone", "among images", "glob"])
def test_archives_are_refused_and_never_unpacked(tmp_path, name, pack, place):
    folder = picture_folder(tmp_path, 4)
    archive = (folder / "cat" if place == "among images" else tmp_path) / name
    pack(archive, (folder / "cat" / "0.png").read_bytes())
    before = sorted(tmp_path.rglob("*"))
    asked = {"alone": archive, "among images": folder, "glob": tmp_path / "a.*"}[place]
    with pytest.raises(BadInput, match=rf"Archives are not read: unpack it, and name the folder\. Received: .*{name}"):
        sources.resolve(str(asked))
    assert sorted(tmp_path.rglob("*")) == before


def test_nothing_unpacks_archives_or_starts_a_shell():
    forbidden = re.compile(
        r"ZipFile\(|tarfile|unpack_archive|extractall|shell=True|os\.system|os\.popen|getoutput|\bsh\"|\bbash\""
    )
    sources = {path: path.read_text() for room in ("baton", "steps") for path in (ROOT / room).rglob("*.py")}
    assert len(sources) > 50
    assert {path for path, text in sources.items() if forbidden.search(text)} == set()


# Datasets


def test_a_datasets_pickled_schema_is_never_read(regression, tmp_path):
    """Petastorm would run it, given the folder, and its filter lets `eval` pass."""
    import petastorm

    canary = tmp_path / "canary"
    shutil.copytree(regression[1].folder, tmp_path / "dataset")
    dataset = Dataset.open(tmp_path / "dataset")
    key = b"dataset-toolkit.unischema.v1"
    bait = pickle.dumps(Bomb(canary))
    for part in names.SPLITS:
        schema = pq.read_schema(dataset.files(part)[0]).with_metadata({key: bait})
        pq.write_metadata(schema, dataset.folder / part / "_common_metadata")
    with contextlib.suppress(Exception):
        petastorm.make_reader((dataset.folder / "train").as_uri(), reader_pool_type="dummy")
    canary.unlink()  # it was there: the bait is alive
    for part in names.SPLITS:
        assert len(Feed(Dataset.open(dataset.folder), part, 64).arrays()["target"]) == dataset.rows[part]
    assert not canary.exists()


# Parameters, through the whole of `mlflow run`


NASTY = "-x --y=1; touch owned $(touch owned) `touch owned`\n\"double\" 'single' {config} {} $HOME * \\ | & > owned é"


@pytest.mark.parametrize(
    ("entry_point", "parameter", "sentence"),
    [("ingest", "config", "There is no config file of that name"), ("main", "force", "force takes steps or all")],
)
def test_nasty_parameters_arrive_through_mlflow_run(tmp_path, entry_point, parameter, sentence):
    """The step's sentence tells what it received: the very text; nothing was started by it. MLflow keeps it quoted."""
    store = f"sqlite:///{tmp_path}/mlflow.db"
    environ = {k: v for k, v in os.environ.items() if not k.startswith("MLFLOW_")}
    environ |= {"MLFLOW_TRACKING_URI": store, "MLFLOW_DISABLE_TELEMETRY": "true"}
    environ["PATH"] = f"{Path(sys.executable).parent}{os.pathsep}{environ['PATH']}"
    client = mlflow.MlflowClient(store)
    experiment = client.create_experiment("nasty", artifact_location=(tmp_path / "artifacts").as_uri())
    command = [
        *(str(Path(sys.executable).with_name("mlflow")), "run", str(ROOT), "-e", entry_point, "--env-manager", "local"),
        *("--experiment-name", "nasty", "-P", f"{parameter}={NASTY}"),
    ]
    done = subprocess.run(command, cwd=tmp_path, env=environ, capture_output=True, text=True, timeout=240)
    told = next(line for line in (done.stdout + done.stderr).splitlines() if sentence in line)
    assert done.returncode != 0 and told.endswith(f"Received: {' '.join(NASTY.split())}")
    (run,) = client.search_runs([experiment])
    assert runs.parameters(run)[parameter] == NASTY and runs.parameters(run)["set"] == ""
    assert not list(ROOT.glob("owned*")) and not list(tmp_path.glob("owned*"))


# Servers


def listening(process: psutil.Process) -> set[tuple[str, str, int]]:
    """(command, address, port) of every TCP socket that a process or a descendant listens on."""
    found = set()
    for member in [process, *process.children(recursive=True)]:
        with contextlib.suppress(psutil.Error):
            what = " ".join(member.cmdline())
            sockets = [s for s in member.net_connections("inet") if s.status == psutil.CONN_LISTEN]
            found |= {(what, s.laddr.ip, s.laddr.port) for s in sockets}
    return found


def loopback(address: str) -> bool:
    return address in ("::1", "::ffff:127.0.0.1") or address.startswith("127.")


def test_a_spark_session_listens_on_loopback_only():
    already = listening(psutil.Process())  # of earlier tests in this process, such as Horovod's services on Spark
    session = spark.session(tiny.config())
    try:
        before = session.range(4, numPartitions=2)
        assert before.repartition(2).mapInArrow(lambda batches: batches, before.schema).count() == 4
        found = listening(psutil.Process()) - already
        answers = [answer(port) for what, _, port in found if "java" in what]
    finally:
        session.stop()
    assert any("java" in what for what, _, _ in found)
    assert {address for _, address, _ in found if not loopback(address)} == set()
    # Py4J's says nothing to strangers; the driver's and the block manager's want the session's secret first.
    spoken = [text for text in answers if text]
    assert len(spoken) >= 2 and all(b"Expected SaslMessage" in text for text in spoken)


def answer(port: int) -> bytes:
    """What a port of Spark's says to a message of a stranger's, without a secret."""
    message = bytes([3]) + struct.pack(">qi", 1, 4) + b"\x09who"  # a request, its number and length
    with socket.create_connection(("127.0.0.1", port), 5) as connection:
        connection.settimeout(1)
        connection.sendall(struct.pack(">q", 8 + len(message)) + message)
        with contextlib.suppress(TimeoutError):
            return connection.recv(4096)
    return b""


def test_of_horovod_only_the_rendezvous_of_its_launcher_listens_beyond_loopback(tmp_path):
    """Which docs/explanation/SECURITY.md says what to do about; the workers end at a dataset that is not there."""
    config = tiny.config(distributed_train={"workers": 2})
    job = horovod.Job(config.dump(), str(tmp_path / "nothing"), str(tmp_path))
    worker_group = horovod.WorkerGroup(config)
    worker_group.work(job)
    process = worker_group.process
    found: set[tuple[str, str, int]] = set()
    try:
        with contextlib.suppress(psutil.NoSuchProcess):
            while process.poll() is None:
                found |= listening(psutil.Process(process.pid))
                time.sleep(0.05)
    finally:
        worker_group.end()
    assert "There is no dataset" in (tmp_path / horovod.ERROR).read_text()
    beyond = {what for what, address, _ in found if not loopback(address)}
    assert len(beyond) == 1 and "baton.training.horovod --gloo --network-interfaces lo" in beyond.pop()


# Terminals


def test_names_from_the_data_reach_no_terminal_raw(tmp_path):
    """In the log, what a terminal obeys stands as text: colours, titles, text turned round."""
    column, target, label = "price\x1b[31m\u202e", "is\x1b]0;owned\x07 it", "yes\x1b[2J"
    rows = [f'"{n},163.74",{label if n % 2 else "no"}' for n in range(1, 80)]
    (tmp_path / "in.csv").write_text("\n".join([f"{column},{target}", *rows]) + "\n")
    data = {"source": str(tmp_path / "in.csv"), "target": target, "task": "binary"}
    (tmp_path / "c.yaml").write_text(yaml.safe_dump({"name": "x", "warehouse": str(tmp_path / "w"), "data": data}))
    environ = {**os.environ, "MLFLOW_TRACKING_URI": f"sqlite:///{tmp_path}/mlflow.db", "PYTHONPATH": str(ROOT)}
    command = [sys.executable, "-m", "steps.ingest", "--config=c.yaml", "--set="]
    done = subprocess.run(command, cwd=tmp_path, env=environ, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    printed = done.stdout + done.stderr
    assert not [c for c in printed if not c.isprintable() and c not in "\n\t"]
    assert r"price\x1b[31m\u202e: read as numbers" in printed

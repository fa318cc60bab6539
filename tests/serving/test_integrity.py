"""What is no model of Baton's is refused, whatever of it is strange; function by function, without a registry."""

import shutil
from pathlib import Path

import pytest
import yaml

from baton import names
from baton.errors import BadInput
from baton.runtime.paths import ROOT
from baton.serving import integrity
from baton.serving.layout import ENTRY, ENTRY_FILE, KERAS_FILE

DATA = integrity.LOADER["artifacts"]
FLAVOR = {key: value for key, value in integrity.LOADER.items() if key != "artifacts"}


@pytest.fixture
def model(tmp_path) -> Path:
    """A logged model's folder, as Baton and MLflow write it."""
    home = tmp_path / "logged"
    (home / DATA).mkdir(parents=True)
    for name in (KERAS_FILE, names.PREPROCESSOR, names.TRAINED_ON):
        (home / DATA / name).write_text(name)
    shutil.copyfile(ROOT / ENTRY_FILE, home / ENTRY)
    for path in integrity.bundled():
        (home / "code" / path).parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(ROOT / path, home / "code" / path)
    for name in integrity.DESCRIPTIONS:
        (home / name).parent.mkdir(exist_ok=True)
        (home / name).write_text("")
    write_flavor(home)
    return home


def write_flavor(home: Path, **changes: object) -> None:
    flavor = {**FLAVOR, "model_code_path": f"/elsewhere/{ENTRY}", "artifacts": {"model": {"path": DATA}}, **changes}
    flavors = {"python_function": {key: value for key, value in flavor.items() if value is not None}}
    (home / "MLmodel").write_text(yaml.safe_dump({"flavors": flavors}))


def recorded(home: Path) -> str:
    return integrity.digest(home / DATA)


def test_a_model_as_logged_passes_with_and_without_its_hash(model):
    assert integrity.checked(model, recorded(model), "m") == model / DATA
    assert integrity.checked(model, "", "m") == model / DATA
    (model / DATA / names.TRAINED_ON).unlink()  # a model from before
    assert integrity.checked(model, recorded(model), "m") == integrity.checked(model, "", "m") == model / DATA


@pytest.mark.parametrize("name", [KERAS_FILE, names.PREPROCESSOR])
def test_other_data_is_refused_by_its_hash_alone(model, name):
    before = recorded(model)
    (model / DATA / name).write_text("edited")
    with pytest.raises(BadInput, match=rf"not as Baton logged it\. Not this Baton's: .*{name}"):
        integrity.checked(model, before, "m")
    assert integrity.checked(model, "", "m") == model / DATA  # nothing to compare it with
    (model / DATA / names.TRAINED_ON).unlink()
    with pytest.raises(BadInput, match=rf"Baton's: {DATA}/{KERAS_FILE}, {DATA}/{names.PREPROCESSOR}$"):
        integrity.checked(model, before, "m")  # only what is there


@pytest.mark.parametrize("kept", [True, False], ids=["with a hash", "without one"])
@pytest.mark.parametrize(
    "strange", [ENTRY, f"code/{integrity.bundled()[0]}", "code/more.py", f"{DATA}/more.pkl", "more.pkl"]
)
def test_strange_code_and_files_are_refused_and_named(model, strange, kept):
    before = recorded(model)
    (model / strange).write_text("strange")
    with pytest.raises(BadInput, match=rf"Not this Baton's: {strange}$"):
        integrity.checked(model, before if kept else "", "m")


def test_code_of_an_earlier_baton_passes_by_its_hash_and_not_without(model):
    place = model / "code" / integrity.bundled()[0]
    place.write_text("earlier")
    held = {
        path: digest for path, digest in integrity.folder_hashes(model).items() if path not in integrity.DESCRIPTIONS
    }
    assert integrity.checked(model, integrity.hashed(held), "m") == model / DATA
    with pytest.raises(BadInput, match="Not this Baton's"):
        integrity.checked(model, "", "m")


@pytest.mark.parametrize("name", [ENTRY, f"{DATA}/{KERAS_FILE}", f"{DATA}/{names.PREPROCESSOR}"])
def test_a_model_without_what_every_model_has_is_none(model, name):
    (model / name).unlink()
    with pytest.raises(BadInput, match=rf"^{name} of the model m is missing"):
        integrity.checked(model, "", "m")


@pytest.mark.parametrize(
    ("changes", "received"),
    [
        ({"loader_module": "mlflow.sklearn"}, "loader_module mlflow.sklearn"),
        ({"model_code_path": "other.py"}, "model_code_path other.py"),
        ({"code": "elsewhere"}, "code elsewhere"),
        ({"artifacts": {"model": {"path": "../other"}}}, r"artifacts \.\./other"),
        ({"artifacts": {"model": {"path": DATA}, "more": {"path": "x"}}}, f"artifacts {DATA}, x"),
        ({"loader_module": None}, "loader_module None"),
    ],
)
def test_another_loader_is_refused(model, changes, received):
    write_flavor(model, **changes)
    with pytest.raises(BadInput, match=rf"another loader than Baton's\. Received: {received}$"):
        integrity.checked(model, recorded(model), "m")


def test_another_flavor_beside_it_is_refused(model):
    tree = yaml.safe_load((model / "MLmodel").read_text())
    tree["flavors"]["sklearn"] = {}
    (model / "MLmodel").write_text(yaml.safe_dump(tree))
    with pytest.raises(BadInput, match="Received: flavor sklearn$"):
        integrity.checked(model, recorded(model), "m")


@pytest.mark.parametrize("text", ["", "flavors: [", "flavors: 7", "other: {}"])
def test_an_mlmodel_that_cannot_be_read_is_refused(model, text):
    (model / "MLmodel").write_text(text)
    with pytest.raises(BadInput, match="MLmodel of the model m cannot be read"):
        integrity.checked(model, recorded(model), "m")


def test_a_link_is_no_part_of_a_model(model, tmp_path):
    (tmp_path / "elsewhere").write_text(KERAS_FILE)
    (model / DATA / KERAS_FILE).unlink()
    (model / DATA / KERAS_FILE).symlink_to(tmp_path / "elsewhere")
    with pytest.raises(BadInput, match=f"{KERAS_FILE} is a link or no file"):
        integrity.checked(model, "", "m")

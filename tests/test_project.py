"""What must not drift apart: MLproject and the steps, conda.yaml and the lock, imports and their rules."""

import ast
import importlib
import json
import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
import yaml

from baton import config, names

ROOT = Path(__file__).parent.parent
PROJECT = yaml.safe_load((ROOT / "MLproject").read_text())
ENTRY_POINTS = PROJECT["entry_points"]
LOCK = dict(re.findall(r"^([a-z0-9._-]+)==(\S+)", (ROOT / "requirements.txt").read_text(), re.MULTILINE))
COMMAND_LINE_ONLY = {"main": {"--validate"}, "rollback": {"--history"}}  # they print, and are no parameters
HOROVOD = ROOT / "horovod-0.28.1-tf2.21"


def test_every_step_is_an_entry_point_and_a_file():
    assert set(names.STEPS) <= set(ENTRY_POINTS)
    assert set(ENTRY_POINTS) == {p.stem for p in (ROOT / "steps").glob("*.py") if p.stem != "__init__"}


@pytest.mark.parametrize("name", ENTRY_POINTS)
def test_parameters_are_the_steps_options(name):
    command = getattr(importlib.import_module(f"steps.{name}"), name)
    flags = {option.opts[0] for option in command.params if option.is_flag}
    assert flags == COMMAND_LINE_ONLY.get(name, set())
    options = {option.opts[0].removeprefix("--"): option for option in command.params if not option.is_flag}
    assert set(ENTRY_POINTS[name]["parameters"]) == set(options)
    assert all(option.required for option in options.values()), "defaults live in MLproject alone"


@pytest.mark.parametrize("name", ENTRY_POINTS)
def test_command_passes_each_parameter_unquoted(name):
    parameters = ENTRY_POINTS[name]["parameters"]
    expected = " ".join([f"python -m steps.{name}", *(f"--{p}={{{p}}}" for p in parameters)])
    assert ENTRY_POINTS[name]["command"] == expected
    assert not re.search(r"['\"]", ENTRY_POINTS[name]["command"])


def test_default_configs_are_valid():
    default = {entry["parameters"]["config"]["default"] for entry in ENTRY_POINTS.values()}
    assert default == {"conf/flights.yaml"}
    for path in (ROOT / "conf").glob("*.yaml"):
        loaded = config.load(str(path))
        assert loaded.name == path.stem


def test_schema_in_docs_is_the_configs():
    published = json.loads((ROOT / "docs" / "config.schema.json").read_text())
    assert published == json.loads(json.dumps(config.json_schema())), "run `make schema`"


def test_direct_dependencies_are_pinned_as_locked():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())
    direct = [*project["project"]["dependencies"], *project["dependency-groups"]["test"]]
    for requirement in direct:
        name, version = requirement.split("==")
        assert LOCK[name] == version


def test_conda_pins_are_the_locks():
    dependencies = yaml.safe_load((ROOT / "conda.yaml").read_text())["dependencies"]
    pip = next(d["pip"] for d in dependencies if isinstance(d, dict))
    pins = dict(line.split("==") for line in pip if "==" in line)
    assert {name: LOCK[name] for name in pins} == pins
    assert [line for line in pip if "==" not in line] == [f"./{HOROVOD.name}"]
    wanted = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["dependencies"]
    assert {requirement.split("==")[0] for requirement in wanted} <= set(pins)
    assert "python=3.11.7" in dependencies


def test_horovod_is_built_against_the_locked_packages():
    requires = tomllib.loads((HOROVOD / "pyproject.toml").read_text())["build-system"]["requires"]
    pins = dict(requirement.split("==") for requirement in requires)
    shared = set(pins) & set(LOCK)
    assert "tensorflow-cpu" in shared
    assert {name: pins[name] for name in shared} == {name: LOCK[name] for name in shared}


def test_every_locked_package_has_hashes_and_no_file_names_a_host():
    text = (ROOT / "requirements.txt").read_text()
    blocks = re.split(r"\n(?=\S)", text.strip())
    assert all("--hash=sha256:" in block for block in blocks)
    for path in [ROOT / "requirements.txt", ROOT / "conda.yaml", ROOT / "pyproject.toml", HOROVOD / "pyproject.toml"]:
        assert not re.search(r"https?://|index-url|find-links", path.read_text())


def imports(path: Path) -> set[str]:
    """Every module that a file imports, late ones too."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            found |= {node.module} | {f"{node.module}.{alias.name}" for alias in node.names}
    return found


def test_arrows_point_one_way():
    for path in (ROOT / "baton").glob("*.py"):
        assert not any(name.split(".")[0] == "steps" for name in imports(path)), path
    for path in (ROOT / "steps").glob("*.py"):
        assert not any(name.split(".")[0] == "steps" for name in imports(path)), path


@pytest.mark.parametrize(
    ("package", "module"), [("petastorm", "petastorm_io"), ("horovod", "horovod"), ("hyperopt", "search")]
)
def test_one_module_imports(package, module):
    importers = {
        path.stem
        for folder in ("baton", "steps")
        for path in (ROOT / folder).glob("*.py")
        if any(name.split(".")[0] == package for name in imports(path))
    }
    assert importers == {module}


def test_nothing_is_unpickled():
    for folder in ("baton", "steps"):
        for path in (ROOT / folder).glob("*.py"):
            assert not {"pickle", "cloudpickle", "dill", "joblib"} & {name.split(".")[0] for name in imports(path)}
            assert "allow_pickle=True" not in path.read_text()


NASTY = [
    *("$(touch owned)", "`touch owned`", "a; touch owned", "a\ntouch owned", "&& touch owned", "| touch owned"),
    *("a\r\nb", "\t", "\n", "a #b", "!!", "a=b=c", "<(touch owned)", "> owned", "~", "--set=x", "'; touch owned; '"),
    *('it\'s "quoted"', "-rf", "--help", "{config}", "a{b}c", "$HOME", "*", "a\\b", "é ü"),
]


@pytest.mark.parametrize("name", ENTRY_POINTS)
def test_nasty_parameters_arrive_as_plain_text(name, tmp_path):
    """MLflow's own command line, run by bash as MLflow does it, with the step replaced by an echo."""
    from mlflow.projects._project_spec import load_project

    entry = load_project(str(ROOT)).get_entry_point(name)
    echo = f"{sys.executable} -c 'import json, sys; print(json.dumps(sys.argv[1:]))'"
    for text in NASTY:
        given = dict.fromkeys(entry.parameters, text)
        command = entry.compute_command(given, str(tmp_path)).replace(f"python -m steps.{name}", echo)
        done = subprocess.run(["bash", "-c", command], cwd=tmp_path, capture_output=True, text=True, check=True)
        assert json.loads(done.stdout) == [f"--{key}={text}" for key in entry.parameters]
        assert not list(tmp_path.iterdir())

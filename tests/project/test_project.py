"""What must not drift apart: MLproject and the steps, conda.yaml and the lock, imports and their rules."""

import ast
import importlib
import json
import os
import re
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
import yaml

from baton import names
from baton.config import loading, schema

ROOT = Path(__file__).parents[2]
PAGES = [
    ROOT / "README.md",
    ROOT / "CONTRIBUTING.md",
    ROOT / "CHANGELOG.md",
    ROOT / "data" / "README.md",
    *sorted((ROOT / "docs").rglob("*.md")),
]
WRITTEN_BY_BENCH = ROOT / "docs" / "BENCHMARKS.md"  # not there before the first `make bench`
PROJECT = yaml.safe_load((ROOT / "MLproject").read_text())
ENTRY_POINTS = PROJECT["entry_points"]
HOROVOD, PETASTORM = ROOT / "horovod-0.28.1-tf2.21", ROOT / "petastorm-0.12.1-arrow"


def pins(path: Path) -> dict[str, set[str]]:
    """A list of requirements → {package: its versions}, several where Pythons differ."""
    found: dict[str, set[str]] = {}
    for name, version in re.findall(r"^([a-z0-9._-]+)==(\S+)", path.read_text(), re.MULTILINE):
        found.setdefault(name, set()).add(version)
    return found


LOCK = pins(ROOT / "requirements.txt")
# They print or serve, and are no parameters.
COMMAND_LINE_ONLY = {
    "main": {"--validate"},
    "train": {"--list-models"},
    "rollback": {"--history"},
    "reconcile": {"--listen"},
}


def test_every_step_is_an_entry_point_and_a_file():
    assert set(names.STEPS) <= set(ENTRY_POINTS)
    assert set(ENTRY_POINTS) == {p.stem for p in (ROOT / "steps").glob("*.py") if p.stem != "__init__"}


@pytest.mark.parametrize("name", ENTRY_POINTS)
def test_parameters_are_the_steps_options(name):
    command = getattr(importlib.import_module(f"steps.{name}"), name)
    optional = {option.opts[0] for option in command.params if not option.required}
    assert optional == COMMAND_LINE_ONLY.get(name, set())
    options = {option.opts[0].removeprefix("--"): option for option in command.params if option.required}
    assert set(ENTRY_POINTS[name]["parameters"]) == set(options), "defaults live in MLproject alone"


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
        loaded = loading.load(str(path))
        assert loaded.name == path.stem


def test_schema_in_docs_is_the_configs():
    published = json.loads((ROOT / "docs" / "config.schema.json").read_text())
    assert published == json.loads(json.dumps(loading.json_schema())), "run `make schema`"


def flat(values: dict, place: str = "") -> dict[str, object]:
    """The config as plain values → dotted key: value, as deep as sections go."""
    found: dict[str, object] = {}
    for key, value in values.items():
        section = not place and isinstance(value, dict)
        found |= flat(value, f"{key}.") if section else {place + key: value}
    return found


def test_the_table_of_the_config_has_every_key_and_default():
    text = (ROOT / "docs" / "reference" / "CONFIG.md").read_text()
    rows = re.findall(r"^\| `([\w.]+)` \| (required|-|`.+?`) \|", text, re.MULTILINE)
    assert len(dict(rows)) == len(rows) == text.count("\n| `")
    told = {key: yaml.safe_load(default.strip("`")) for key, default in rows if default not in ("required", "-")}
    told |= {key: None for key, default in rows if default == "-"}
    required = {key for key, default in rows if default == "required"}
    assert told.pop("batch_infer", "") is None
    needed = {"name": "x", "data": {"source": "x", "task": "binary"}, "batch_infer": {"source": "x", "output": "x"}}
    assert required == set(flat(needed))
    defaults = flat(schema.validate(needed, {}, "").dump())
    assert told == {key: value for key, value in defaults.items() if key not in required}


def prose(page: Path) -> str:
    """A page's Markdown without its code."""
    return re.sub(r"`[^`\n]*`", "", re.sub(r"^ *```.*?^ *```", "", page.read_text(), flags=re.MULTILINE | re.DOTALL))


def anchors(page: Path) -> list[str]:
    """What `#…` may be in a link to the page: its headings as GitHub spells them."""
    text = re.sub(r"^ *```.*?^ *```", "", page.read_text(), flags=re.MULTILINE | re.DOTALL)
    headings = re.findall(r"^#+ (.+)$", text, re.MULTILINE)
    return [re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings]


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_links_lead_somewhere(page):
    assert len(set(anchors(page))) == len(anchors(page)), "two headings of one name: a link reaches the first only"
    for link in re.findall(r"\]\(([^)\s]+)\)", prose(page)):
        if re.match(r"https?://", link):
            continue
        path, _, anchor = link.partition("#")
        target = (page.parent / path).resolve() if path else page
        assert target.is_relative_to(ROOT), link
        assert target.exists() or target == WRITTEN_BY_BENCH, link
        assert not anchor or anchor in anchors(target), link


def test_documents_that_the_code_names_are_there():
    for folder in ("baton", "bench", "faults", "mutants", "peers", "scripts", "steps", "tests"):
        for path in (ROOT / folder).rglob("*.py"):
            for name in re.findall(r"\bdocs/[\w./-]+\.(?:md|json)\b", path.read_text()):
                assert (ROOT / name).exists() or ROOT / name == WRITTEN_BY_BENCH, f"{path}: {name}"


def test_no_file_of_the_project_is_a_link_to_elsewhere():
    kept = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, text=True)
    if kept.returncode:
        pytest.skip("no checkout of git")
    assert not [name for name in kept.stdout.split("\0") if name and (ROOT / name).is_symlink()]


def test_direct_dependencies_are_pinned_as_locked():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())
    direct = [*project["project"]["dependencies"], *project["dependency-groups"]["test"]]
    direct.remove(f"petastorm=={PETASTORM.name.split('-')[1]}")  # its own folder builds it
    for requirement in direct:
        name, version = requirement.split("==")
        assert LOCK[name] == {version}


def test_what_peers_shares_with_the_lock_has_its_versions():
    shared = pins(ROOT / "peers" / "requirements.txt")
    assert {name: LOCK[name] for name in shared if name in LOCK} == {
        name: versions for name, versions in shared.items() if name in LOCK
    }


def test_conda_pins_are_the_locks():
    dependencies = yaml.safe_load((ROOT / "conda.yaml").read_text())["dependencies"]
    pip = next(d["pip"] for d in dependencies if isinstance(d, dict))
    listed = dict(line.split("==") for line in pip if "==" in line)
    assert all(version in LOCK[name] for name, version in listed.items())
    assert [line for line in pip if "==" not in line] == [f"./{PETASTORM.name}", f"./{HOROVOD.name}"]
    wanted = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["dependencies"]
    assert {requirement.split("==")[0] for requirement in wanted} <= {*listed, "petastorm"}
    assert "python=3.12" in dependencies


def test_horovod_is_built_against_the_locked_packages():
    requires = tomllib.loads((HOROVOD / "pyproject.toml").read_text())["build-system"]["requires"]
    wanted = {name: {version} for name, version in (requirement.split("==") for requirement in requires)}
    shared = set(wanted) & set(LOCK)
    assert "tensorflow-cpu" in shared
    assert {name: wanted[name] for name in shared} == {name: LOCK[name] for name in shared}


def test_every_locked_package_has_hashes_and_no_file_names_a_host():
    hashed = [
        ROOT / name
        for name in ("requirements.txt", "peers/requirements.txt", "scripts/weights.txt", "bench/long_tails.txt")
    ]
    for path in hashed:
        blocks = re.split(r"\n(?=\S)", path.read_text().strip())
        assert all("--hash=sha256:" in block for block in blocks)
    built = [folder / "pyproject.toml" for folder in (HOROVOD, PETASTORM)]
    for path in [*hashed, ROOT / "conda.yaml", ROOT / "pyproject.toml", *built]:
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


def linted(folder: Path) -> subprocess.CompletedProcess[str]:
    """The contracts of the rooms, held against the code in a folder."""
    command = [
        str(Path(sys.executable).with_name("lint-imports")),
        "--config",
        str(ROOT / "pyproject.toml"),
        "--no-cache",
    ]
    environment = {**os.environ, "PYTHONPATH": str(folder)}
    return subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, check=False)


PLANTED = [
    (
        "baton/data/columns.py",
        "from baton.orchestration import cache",
        "baton.data.columns -> baton.orchestration.cache",
    ),
    ("baton/serving/scoring.py", "from baton.training import fit", "baton.serving.scoring -> baton.training.fit"),
    ("steps/train.py", "from steps import ingest", "steps.train -> steps.ingest"),
    ("baton/config/space.py", "def late():\n    import tensorflow", "baton.config.space -> tensorflow"),
]


@pytest.fixture(scope="module")
def rooms(tmp_path_factory) -> Path:
    """A copy of the code that violations may be planted in."""
    home = tmp_path_factory.mktemp("rooms")
    for folder in ("baton", "steps", "bench", "faults", "mutants", "peers"):
        shutil.copytree(ROOT / folder, home / folder, ignore=shutil.ignore_patterns("__pycache__"))
    return home


def test_imports_go_down_through_the_rooms_and_a_planted_violation_is_named(rooms):
    assert linted(rooms).returncode == 0
    for path, statement, _ in PLANTED:
        (rooms / path).write_text(f"{(rooms / path).read_text()}\n\n{statement}\n")
    done = linted(rooms)
    assert done.returncode != 0
    for _, _, named in PLANTED:
        assert named in done.stdout, done.stdout


def code(*folders: str) -> list[Path]:
    """The Python files below folders of the project: never none, so that no test of them checks nothing."""
    found = [path for folder in folders for path in sorted((ROOT / folder).rglob("*.py"))]
    assert len(found) > 80, "the code has moved: these tests look for it elsewhere"
    return found


@pytest.mark.parametrize("package", ["petastorm", "horovod", "hyperopt"])
def test_one_module_imports(package):
    """The one that bears the package's name."""
    importers = {path.stem for path in code("baton", "steps") if package in {n.split(".")[0] for n in imports(path)}}
    assert importers == {package}


def unpickles(path: Path) -> bool:
    packages = {name.split(".")[0] for name in imports(path)}
    return bool({"pickle", "cloudpickle", "dill", "joblib"} & packages) or "allow_pickle=True" in path.read_text()


def test_nothing_is_unpickled():
    assert [path for path in code("baton", "steps") if unpickles(path)] == []


@pytest.mark.parametrize(
    "text", ["import joblib", "def f():\n    from pickle import loads", "load(x, allow_pickle=True)"]
)
def test_what_unpickles_is_noticed(tmp_path, text):
    (tmp_path / "new.py").write_text(text)
    assert unpickles(tmp_path / "new.py")


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

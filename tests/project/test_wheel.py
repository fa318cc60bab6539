"""The wheel that jobs run, unpacked where no checkout is: what the steps read travels in it, and they give the same."""

import json
import os
import subprocess
import sys
import zipfile
from pathlib import Path

import pyarrow.parquet as pq
import pytest
import tiny
import yaml

from baton import names
from baton.orchestration import cache

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def wheel(tmp_path_factory) -> Path:
    home = tmp_path_factory.mktemp("wheel")
    done = subprocess.run(
        [sys.executable, str(ROOT / "scripts" / "wheel.py"), str(home)], capture_output=True, text=True, check=True
    )
    return Path(done.stdout.strip())


@pytest.fixture(scope="module")
def unpacked(wheel) -> Path:
    folder = wheel.parent / "site"
    zipfile.ZipFile(wheel).extractall(folder)
    return folder


def python(unpacked: Path, place: Path, *words: str, **more: str) -> subprocess.CompletedProcess:
    """Python in a folder, with the wheel's packages before those of this environment, and no checkout."""
    environment = {**os.environ, "PYTHONPATH": str(unpacked), "MLFLOW_DISABLE_TELEMETRY": "true", **more}
    environment["MLFLOW_TRACKING_URI"] = f"sqlite:///{place}/mlflow.db"
    return subprocess.run(
        [sys.executable, *words], cwd=place, env=environment, capture_output=True, text=True, check=False, timeout=300
    )


CALLED = """
import sys
from importlib import metadata
sys.argv = sys.argv[1:]
point, = [point for point in metadata.distribution("baton").entry_points if point.name == sys.argv[0]]
point.load()()
print("it came back")
"""
KEYS = """
import json
from baton.orchestration import cache
print(json.dumps([[cache.code(f"steps/{step}.py") for step in %s], cache.environment()]))
"""


def test_it_has_one_package_and_the_same_bytes_each_time(wheel, tmp_path):
    tops = {name.split("/")[0] for name in zipfile.ZipFile(wheel).namelist()}
    assert tops == {"baton", f"{wheel.name.removesuffix('-py3-none-any.whl')}.dist-info"}
    command = [sys.executable, str(ROOT / "scripts" / "wheel.py"), str(tmp_path)]
    again = Path(subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip())
    assert again.read_bytes() == wheel.read_bytes()
    assert "Requires-Dist" not in next(zipfile.Path(wheel).glob("*.dist-info/METADATA")).read_text()


def test_pip_takes_it(wheel, tmp_path):
    command = [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--target", str(tmp_path), str(wheel)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert {path.name for path in (tmp_path / "bin").iterdir()} >= {"baton-ingest", "baton-report"}


def test_another_wheel_loses_its_dependencies_and_nothing_else(tmp_path):
    """Petastorm's would bring a Spark into a cluster that has one."""
    content = {
        "other.py": "x = 1\n",
        "other-1.dist-info/METADATA": "Metadata-Version: 2.1\nName: other\nVersion: 1\nRequires-Dist: pyspark>=2.1\n",
        "other-1.dist-info/WHEEL": "Wheel-Version: 1.0\nGenerator: x\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
        "other-1.dist-info/RECORD": "",
    }
    other = tmp_path / "other-1-py3-none-any.whl"
    with zipfile.ZipFile(other, "w") as archive:
        for name, text in content.items():
            archive.writestr(name, text)
    command = [sys.executable, str(ROOT / "scripts" / "wheel.py"), str(tmp_path), str(other)]
    subprocess.run(command, capture_output=True, check=True)
    site = tmp_path / "site"
    install = [sys.executable, "-m", "pip", "install", "--quiet", "--no-index", "--target", str(site), str(other)]
    done = subprocess.run(install, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert (site / "other.py").read_text() == "x = 1\n"


def test_its_keys_are_those_of_the_checkout(unpacked, tmp_path):
    """So that what one has computed is a hit for the other."""
    done = python(unpacked, tmp_path, "-c", KEYS % (names.STEPS,))
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout) == [[cache.code(f"steps/{step}.py") for step in names.STEPS], cache.environment()]


def test_a_step_runs_by_its_entry_point_from_an_empty_folder(unpacked, tmp_path):
    """As Databricks calls it: in a process that goes on, where every SystemExit counts as a failure."""
    place = tmp_path / "empty"
    place.mkdir()
    there = {"DATABRICKS_RUNTIME_VERSION": "17.3"}
    pq.write_table(tiny.regression_table(200), place / "rows.parquet")
    (place / "tiny.yaml").write_text(yaml.safe_dump(tiny.config(source="rows.parquet").dump()))
    done = python(unpacked, place, "-c", CALLED, "baton-ingest", "--config=tiny.yaml", **there)
    assert done.returncode == 0 and done.stdout.splitlines()[-1] == "it came back", done.stderr
    assert len(list((place / "warehouse" / "tiny" / "datasets").glob("*/manifest.json"))) == 1
    wrong = python(unpacked, place, "-c", CALLED, "baton-ingest", "--config=tiny.yaml", "--set=seed=x", **there)
    assert wrong.returncode == 1 and "came back" not in wrong.stdout
    assert wrong.stderr.splitlines()[-1].startswith("baton.errors.BatonError: tiny.yaml, set: seed")
    helped = python(unpacked, place, "-m", "baton.steps.train", "--help")
    assert helped.returncode == 0 and "--pipeline" in helped.stdout

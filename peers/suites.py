"""How the two suites are started: Petastorm's from its wheel, Horovod's from a checkout, on two ranks."""

from __future__ import annotations

import os
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

from peers import outcomes
from peers.outcomes import Outcome

ROOT = Path(__file__).parents[1]
OVERLAY = ROOT / ".peers"  # what only these tests need lies beside the environment, not in it
RANKS = 2
TEST_SECONDS = 300
OPTIONS = """[pytest]
markers = forked: in a process of its own, which a module is here
cache_dir = /dev/null
"""
HELPERS = ("test_common", "test_end_to_end_predicates_impl")  # named like tests, and what those share
HOROVOD_TESTS = "test_tensorflow"


def petastorm(scratch: Path, left_out: dict[str, str]) -> list[Outcome]:
    """Petastorm's tests, a process a module: what TensorFlow and Spark leave behind is nobody else's."""
    spec = find_spec("petastorm")
    assert spec and spec.origin
    package = Path(spec.origin).parent
    files = sorted([*package.glob("tests/test_*.py"), *package.glob("hdfs/tests/test_*.py")])
    own = scratch / "pytest.ini"  # not Baton's options
    own.write_text(OPTIONS)
    found = []
    for file in files:
        if file.stem in {*left_out, *HELPERS}:
            continue
        print(f"petastorm: {file.stem}", flush=True)
        junit = scratch / f"{file.stem}.xml"
        options = [
            "-q",
            "-c",
            str(own),
            f"--rootdir={file.parent}",
            "--tb=line",
            f"--timeout={TEST_SECONDS}",
            f"--junitxml={junit}",
        ]
        _run([sys.executable, "-m", "pytest", *options, str(file)], scratch)
        found += outcomes.read(junit, file.stem)
    return found


def horovod(scratch: Path, left_out: dict[str, str]) -> list[Outcome]:
    """Horovod's tests on two ranks; a test's outcome is the worse one of both."""
    checkout = Path(os.environ["HOROVOD_SOURCE"]).absolute()
    file = checkout / "test" / "parallel" / f"{HOROVOD_TESTS}.py"
    if not file.is_file():
        sys.exit(f"HOROVOD_SOURCE={checkout} is no checkout of Horovod: {file} is missing.")
    # From an empty folder: in its own, Python would import the checkout instead of the build.
    rank_script = scratch / "rank.py"
    rank_script.write_text(RANK_SCRIPT)
    workers = ["horovodrun", "--gloo", "-np", str(RANKS), "-H", f"localhost:{RANKS}", "--network-interfaces", "lo"]
    _run([*workers, sys.executable, str(rank_script), str(scratch), str(file)], scratch)
    ranks = [
        {case.test: case for case in outcomes.read(scratch / f"rank-{rank}.xml", HOROVOD_TESTS)}
        for rank in range(RANKS)
    ]
    order = ("failed", "passed", "skipped")
    return [
        min((cases[test] for cases in ranks if test in cases), key=lambda case: order.index(case.state))
        for test in sorted(set().union(*ranks))
    ]


RANK_SCRIPT = """
import os, sys
import pytest
folder, file = sys.argv[1:]
junit = os.path.join(folder, f"rank-{os.environ['HOROVOD_RANK']}.xml")
pytest.main(["-q", "-p", "no:cacheprovider", f"--junitxml={junit}", file])
"""


def _run(command: list[str], folder: Path) -> None:
    """Run the tests; their exit status says only that some failed, which the JUnit file says better."""
    path = os.pathsep.join([str(OVERLAY), os.environ.get("PYTHONPATH", "")]).strip(os.pathsep)
    environment = {**os.environ, "PYTHONPATH": path, "TF_CPP_MIN_LOG_LEVEL": "3"}
    subprocess.run(command, cwd=folder, env=environment, check=False)

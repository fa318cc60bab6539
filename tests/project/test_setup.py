"""Which Python an environment is made with, and what the peers' outcomes are held against."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from peers.outcomes import Expected, Outcome, differences, read

ROOT = Path(__file__).parents[2]
WANTED = ("3.12", "3.11", "3.13")


def interpreter(path: Path, version: str | None) -> None:
    """A file that answers like a Python of that version, or like what a version manager leaves of one."""
    answer = "[[ " + " || ".join(f'"${i}" == {version}' for i in range(3, 8)) + " ]]"
    path.write_text("#!/bin/bash\n" + (answer if version else "echo 'command not found' >&2; exit 127") + "\n")
    path.chmod(0o755)


def chosen(folder: Path, **environment: str) -> subprocess.CompletedProcess[str]:
    """What the script says in a folder whose files are the first on the path."""
    command = ["/bin/bash", str(ROOT / "scripts" / "python.sh"), *WANTED]
    environment["PATH"] = f"{folder}:/usr/bin:/bin"
    return subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, check=False)


def test_a_name_that_does_not_run_is_passed_over(tmp_path):
    for name, version in {"python3.12": None, "python3.13": "3.13", "python3.11": "3.11", "python3": "3.10"}.items():
        interpreter(tmp_path / name, version)
    assert chosen(tmp_path).stdout == "python3.11\n"
    interpreter(tmp_path / "python3", "3.12")
    assert chosen(tmp_path).stdout == "python3\n"
    interpreter(tmp_path / "python3.12", "3.12")
    assert chosen(tmp_path).stdout == "python3.12\n"


def test_a_python_that_is_named_is_taken_or_refused(tmp_path):
    interpreter(tmp_path / "mine", "3.13")
    interpreter(tmp_path / "old", "3.10")
    assert chosen(tmp_path, PYTHON=str(tmp_path / "mine")).stdout == f"{tmp_path / 'mine'}\n"
    for name in ("old", "none"):
        refused = chosen(tmp_path, PYTHON=str(tmp_path / name))
        assert (refused.returncode, refused.stdout) == (1, "")
        assert (
            refused.stderr
            == f"PYTHON={tmp_path / name} does not run, or is another version. Python 3.12 3.11 3.13 will do.\n"
        )


def test_no_python_is_one_sentence(tmp_path):
    for name in ("python3.11", "python3.12", "python3.13", "python3", "python"):
        interpreter(tmp_path / name, None)
    refused = chosen(tmp_path)
    assert refused.returncode == 1
    assert refused.stderr.startswith("Python is missing, or is another version. Python 3.12 3.11 3.13 will do: install")
    assert len(refused.stderr.splitlines()) == 1


SUITE = """
import pytest
def test_good(): pass
def test_bad(): assert 1 == 2
@pytest.mark.parametrize("n", [1, 2])
def test_each(n): raise ValueError("no")
def test_not_here(): pytest.skip()
"""


@pytest.mark.parametrize(
    ("failures", "wrong"),
    [
        ({"m::test_bad": "one", r"m::test_each\[.\]": "both"}, []),
        ({"m::test_bad": "one", r"m::test_each\[1\]": "one"}, ["failed: m::test_each[2]: ValueError: no"]),
        (
            {"m::test_bad": "one", "m::test_each.*": "both", "m::test_good": "no longer"},
            ["expected to fail, but nothing does: m::test_good"],
        ),
    ],
)
def test_any_outcome_but_the_expected_ones_is_wrong(tmp_path, failures, wrong):
    (tmp_path / "test_m.py").write_text(SUITE)
    command = [
        sys.executable,
        "-m",
        "pytest",
        "-q",
        "-c",
        os.devnull,
        f"--rootdir={tmp_path}",
        "-p",
        "no:cacheprovider",
    ]
    subprocess.run(
        [*command, f"--junitxml={tmp_path}/m.xml", "test_m.py"], cwd=tmp_path, check=False, capture_output=True
    )
    outcomes = read(tmp_path / "m.xml", "m")
    assert sorted(outcome.state for outcome in outcomes) == ["failed"] * 3 + ["passed", "skipped"]
    assert differences(outcomes, Expected(failures, {}, {})) == wrong
    assert differences([], Expected({}, {}, {})) == ["no test ran"]


def test_a_race_may_fail_or_pass():
    expected = Expected({}, {"m::test_race": "at times"}, {})
    for state in ("passed", "failed"):
        assert differences([Outcome("m::test_race", state)], expected) == []

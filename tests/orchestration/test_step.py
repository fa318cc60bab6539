"""What all entry points share: where they work, and where they find their config."""

from pathlib import Path

import pytest

from baton.errors import BadInput
from baton.orchestration.step import enter_project
from baton.runtime.paths import ROOT


@pytest.fixture
def elsewhere(tmp_path, monkeypatch) -> Path:
    """The working directory, with a config in it."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "conf").mkdir()
    (tmp_path / "conf" / "mine.yaml").touch()
    return tmp_path


@pytest.mark.parametrize(("given", "found"), [
    ("conf/flights.yaml", "conf/flights.yaml"),  # of the project
    ("conf/mine.yaml", "{here}/conf/mine.yaml"),  # of the working directory
    ("{here}/conf/mine.yaml", "{here}/conf/mine.yaml"),
])  # fmt: skip
def test_a_config_is_found_from_any_working_directory(elsewhere, given, found):
    assert enter_project(given.format(here=elsewhere)) == found.format(here=elsewhere)
    assert Path.cwd() == ROOT  # which relative paths in it are of


def test_of_two_that_of_the_working_directory_counts(elsewhere):
    (elsewhere / "conf" / "flights.yaml").touch()
    assert enter_project("conf/flights.yaml") == f"{elsewhere}/conf/flights.yaml"


def test_a_config_that_is_nowhere_is_told_with_both_places(elsewhere):
    with pytest.raises(BadInput, match=rf"name in {elsewhere}/no or {ROOT}/no\. .* Received: no/such\.yaml"):
        enter_project("no/such.yaml")
    assert Path.cwd() == elsewhere

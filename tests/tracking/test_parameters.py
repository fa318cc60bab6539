"""A run's parameters, whoever logged them: MLflow's launcher writes down what it quotes for its shell."""

import shlex
from types import SimpleNamespace

import tiny
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from baton import names
from baton.registry import candidates
from baton.tracking import runs


def run_of(folder: object = "", **params: str) -> SimpleNamespace:
    info = SimpleNamespace(run_id="0" * 32, artifact_uri=str(folder))
    return SimpleNamespace(info=info, data=SimpleNamespace(params=params))


@settings(deadline=None)
@given(st.text())
def test_what_was_quoted_comes_out_as_it_was_given(text):
    assert runs.parameters(run_of(set=shlex.quote(text))) == {"set": text}


def test_what_was_not_stays():
    given = {"a": "x='1 2',y=3", "b": "it's", "c": "'a' 'b'", "d": "data.drop=[a b]", "e": ""}
    assert runs.parameters(run_of(**given)) == given


def test_a_candidate_that_mlflow_started_without_a_search_has_its_own_config(tmp_path):
    config = tiny.config()
    (tmp_path / names.CONFIG).write_text(yaml.safe_dump(config.dump()))
    assert candidates.config_of(run_of(tmp_path, tune_run_id="''")) == config

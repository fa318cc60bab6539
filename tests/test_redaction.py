"""Secrets in what leaves Baton: by property, by example, and in everything that a failing main leaves behind."""

import base64
import json
import logging
import os
from types import SimpleNamespace

import click
import mlflow
import pytest
import yaml
from click.testing import CliRunner
from growth import is_linear
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from baton import names
from baton.config.loading import load
from baton.config.schema import validate
from baton.errors import BadInput
from baton.orchestration import cache
from baton.orchestration.step import guarded
from baton.redaction import MASK, masked, masked_values, names_secret
from baton.tracking import runs
from steps.main import main

MARK = "Zq9xK"  # within every generated secret; nothing else holds it
UNRESERVED = "abcXYZ019-._~"
SCHEMES = ("https", "s3", "postgresql+psycopg2", "mysql", "abfss", "git+ssh")
NAMES = (
    "password", "DB_PASSWORD", "passwd", "PWD", "pass", "token", "access_token", "sessionToken", "X-Amz-Signature",
    "sig", "client_secret", "SharedAccessKey", "AccountKey", "api_key", "fs.s3a.secret.key", "fs.s3a.access.key",
    "fs.azure.account.key.me.blob.core.windows.net", "X-Amz-Credential", "X-Amz-Security-Token",
)  # fmt: skip
# What a value looks like in a query, a JDBC address, an override, JSON, YAML in one line, Python.
PLACES = (
    "https://host/a?b=1&{name}={value}&c=2", "jdbc:sqlserver://h:1433;user=sa;{name}={value};encrypt=true",
    "-P set=spark.config.{name}={value},train.epochs=3", '{{"x": 1, "{name}": "{value}", "y": 2}}',
    "spark.config={{a: b, {name}: {value}, c: d}}", "{{{name}: {value}}}", "{{'x': 1, '{name}': '{value}'}}",
)  # fmt: skip


def secrets(alphabet: str) -> st.SearchStrategy[str]:
    part = st.text(alphabet, max_size=12)
    return st.builds(lambda before, after: f"{before}{MARK}{after}", part, part)


@settings(deadline=None)
@given(st.sampled_from(SCHEMES), st.text(UNRESERVED, max_size=8), secrets(UNRESERVED + "!$&'()*+,;=:@%/?#[]|\\^"))
def test_the_user_part_of_a_uri_is_masked_whatever_a_password_holds(scheme, user, password):
    assume(not password.split("/")[0].isdigit())  # user:123/… may as well be a host and its port
    text = f"it is {scheme}://{user}:{password}@host.example:5432/db?x=1 and no other"
    assert masked(text) == f"it is {scheme}://{MASK}@host.example:5432/db?x=1 and no other"


@settings(deadline=None)
@given(st.sampled_from(SCHEMES), secrets(UNRESERVED + "!$&'()*+,;=%"))
def test_a_token_alone_is_masked(scheme, token):
    assert masked(f"{scheme}://{token}@host/x.git") == f"{scheme}://{MASK}@host/x.git"


@settings(deadline=None)
@given(st.binary(max_size=60), st.sampled_from(NAMES), secrets(UNRESERVED))
def test_pictures_stay_as_they_are_and_all_around_them_is_masked(picture, name, value):
    shown = f'"data:image/png;base64,{base64.b64encode(picture).decode()}"'
    page = "<p>a?{name}={value} <img src={shown}> b://{value}@c <img src={shown}> {{'{name}': '{value}'}}"
    assert masked(page.format(name=name, value=value, shown=shown)) == page.format(name=name, value=MASK, shown=shown)


def test_a_secret_that_calls_itself_a_picture_is_masked():
    for text in (f'"data:image/png;base64,=?token={MARK}"', f'"data:text/plain;base64,token={MARK}"'):
        assert MARK not in masked(text)


@pytest.mark.parametrize("place", PLACES)
@settings(deadline=None)
@given(name=st.sampled_from(NAMES), value=secrets(UNRESERVED + "%+/!*:="))
def test_the_value_of_a_name_is_masked_and_the_rest_stays(place, name, value):
    name = "x." + name if name[0].isupper() and "set=" in place else name
    assert masked(place.format(name=name, value=value)) == place.format(name=name, value=MASK)


@settings(deadline=None)
@given(
    st.lists(st.sampled_from([*"a:/@?&=,;{}\"' \n", "://", "token", "sig", "=", "1", "password", MASK]), max_size=40)
)
def test_masking_twice_is_masking_once(parts):
    text = "".join(parts)
    assert masked(masked(text)) == masked(text)


@settings(deadline=None)
@given(st.text(st.characters(exclude_characters="=:@")))
def test_text_without_an_address_or_an_assignment_stays(text):
    assume("bearer" not in text.casefold())
    assert masked(text) == text


@pytest.mark.parametrize(
    "text",
    [
        "models:/flights@champion",
        "http://127.0.0.1:5000/#/models/flights@champion",
        "git@github.com:owner/repository.git",
        "sqlite:////data/store/mlflow.db",
        "line 3: expected 3 values, got 4",
        "conf tune.max_trials 12 → 24",
        "design=3 max_tokens=4 compass=n",
        "the token: unexpected",
        "Column secret must be numeric. Received: string.",
        "table:sales.orders at 2026-01-01T00:00:00+00:00",
    ],
)
def test_what_is_no_secret_stays(text):
    assert masked(text) == text


@pytest.mark.parametrize("text", [
    f"jdbc:oracle:thin:scott/{MARK}@//host:1521/x", f"jdbc:oracle:thin:/ jdbc:oracle:oci:jdbc:oracle:thin:a/{MARK}/@h",
    f"fs.azure.account.key.{'a.' * 80}net={MARK}", f"{{'{'x.' * 80}secret_key': '{MARK}'}}",
    f"{{{'x.' * 80}token: {MARK}}}", f"api_key.api_key.secret12={MARK}", f"a.access-key.1.2 = {MARK}",
])  # fmt: skip
def test_long_names_and_oracles_addresses_are_masked(text):
    assert MARK not in masked(text) and MASK in masked(text)


# What makes a pattern look at a text again and again, if it can: repeated, and with an end that fits nothing.
PIECES = (
    "a", "1", " ", ",", "a.", "key ", '"', "'", "{,", ",a", "=,a", "://", "://a:", "://a:1", "@", "\n", "token",
    "token1", "token= ", "token=", 'token="', "token='\"", "api_key.", "api_key.1=", "api_key", ".sig", "{sas", "'a':",
    '"a.', "{,'a.api_key.1\"", "jdbc:oracle:a:", "jdbc:oracle:a:b/c", "bearer ", "token=bearer ",
    '"data:image/png;base64,A',
)  # fmt: skip
ENDS = ("", "!", "=", "@", '="', ' "x')


@pytest.mark.parametrize("piece", PIECES)
@pytest.mark.parametrize("function", [masked, names_secret])
def test_masking_four_times_as_much_takes_about_four_times_as_long(function, piece):
    for end in ENDS:
        short, long = ((piece * size)[:size] + end for size in (8_000, 32_000))
        assert is_linear(function, short, long), (piece, end)


def test_headers_are_masked():
    assert masked(f"Authorization: Bearer {MARK}{MARK}") == f"Authorization: Bearer {MASK}"
    assert masked(f"authorization=Basic {MARK}") == f"authorization={MASK}"


def test_a_tree_keeps_its_shape_and_all_that_is_no_text():
    tree = {
        "spark": {"config": {"spark.hadoop.fs.s3a.secret.key": MARK, "spark.x": "3"}},
        "sources": ["data/a.csv", f"s3://k:{MARK}@bucket/a"],
        "counts": {"token": 5, "secret": None, "password": True, "rmse": 1.5},
    }
    assert masked_values(tree) == {
        "spark": {"config": {"spark.hadoop.fs.s3a.secret.key": MASK, "spark.x": "3"}},
        "sources": ["data/a.csv", f"s3://{MASK}@bucket/a"],
        "counts": {"token": 5, "secret": None, "password": True, "rmse": 1.5},
    }


@pytest.mark.parametrize("name", NAMES)
def test_names_of_secrets_are_known(name):
    assert names_secret(name) and names_secret(f"spark.config.{name}")
    assert not names_secret(f"{name} seen")


def config(secret: str, home: str = "."):
    tree = {
        "name": "hush",
        "warehouse": f"{home}/warehouse",
        "data": {"source": f"https://me:{secret}@host/a.csv?token={secret}", "target": "y", "task": "regression"},
        "spark": {"config": {"spark.hadoop.fs.s3a.secret.key": secret}},
    }
    return tree


def test_a_cache_key_counts_a_secret_and_does_not_tell_it():
    before, after = (cache.key("ingest", validate(config(s), {}, "test"), {}, {}) for s in (MARK, "other"))
    assert before.digest != after.digest
    assert MARK in json.dumps(before.parts)
    assert MARK not in json.dumps(before.masked_parts())
    assert after.difference(cache.Key(before.masked_parts())) == "a masked value changed"


def test_a_fault_of_the_config_does_not_quote_a_secret(tmp_path):
    file = tmp_path / "pipeline.yaml"
    file.write_text(yaml.safe_dump({**config("x"), "spark": {"config": {"fs.s3a.secret.key": [91827364]}}}))
    with pytest.raises(BadInput, match="secret.key: .* Received: ") as caught:
        load(str(file))
    assert "91827364" not in str(caught.value)


@pytest.fixture(scope="module")
def failed(tmp_path_factory):
    """A main that fails at its source, in a run that MLflow has opened from a repository with a token."""
    home = tmp_path_factory.mktemp("hush")
    uri = f"sqlite:///{home}/mlflow.db"
    (home / "pipeline.yaml").write_text(yaml.safe_dump(config(MARK, str(home))))
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("MLFLOW_TRACKING_URI", uri)
        mlflow.set_tracking_uri(uri)
        client = mlflow.MlflowClient()
        experiment = client.create_experiment("hush", artifact_location=(home / "artifacts").as_uri())
        token = f"https://{MARK}@github.com/owner/repository.git"
        tags = {"mlflow.source.name": f"{token}#sub", "mlflow.source.git.repoURL": token, "mlflow.gitRepoURL": token}
        run_id = client.create_run(experiment, tags=tags).info.run_id
        patch.setenv("MLFLOW_RUN_ID", run_id)
        handlers = logging.root.handlers[:]
        logging.root.handlers.clear()
        overrides = f"spark.config={{spark.hadoop.fs.s3a.secret.key: {MARK}, spark.x: y}},train.epochs=1"
        options = [f"--config={home / 'pipeline.yaml'}", f"--set={overrides}", "--force="]
        done = CliRunner().invoke(main, options)
        logging.root.handlers[:] = handlers
        found = client.search_runs([experiment])
        yield SimpleNamespace(home=home, done=done, run_id=run_id, client=client, runs=found)
        mlflow.set_tracking_uri(None)


def test_the_closing_sentence_tells_the_source_and_not_the_secret(failed):
    assert failed.done.exit_code == 2, failed.done.output
    assert failed.done.stderr.strip().splitlines()[-1] == (
        f"There is no file at the source. Received: https://{MASK}@host/a.csv?token={MASK}"
    )
    assert MARK not in failed.done.output


def test_no_secret_is_in_the_store_or_in_any_artifact(failed):
    files = [path for path in failed.home.rglob("*") if path.is_file() and path.name != "pipeline.yaml"]
    assert {"mlflow.db", names.CONFIG, names.SUMMARY} <= {path.name for path in files}
    leaking = [path.name for path in files if MARK.encode() in path.read_bytes() and path.name != "mlflow.db"]
    assert leaking == []
    # SQLite keeps what was overwritten in its free pages: the rows count, not the file.
    assert len(failed.runs) == 2
    told = json.dumps([[run.data.tags, run.data.params] for run in failed.runs])
    assert MARK not in told
    assert f"https://{MASK}@github.com/owner/repository.git" in told
    (step,) = (run for run in failed.runs if run.data.tags[names.TAG_STEP] == "ingest")
    assert step.data.tags["mlflow.source.name"] == f"https://{MASK}@github.com/owner/repository.git#sub"
    assert step.data.params["set"] == (
        f"spark.config={{spark.hadoop.fs.s3a.secret.key: {MASK}, spark.x: y}},train.epochs=1"
    )


def test_a_log_line_and_a_trace_are_masked(failed):
    logger = logging.getLogger("baton.test")
    shown = [*logging.root.handlers]
    logging.root.handlers.clear()
    try:

        def work() -> None:
            logger.warning("reading s3://key:%s@bucket", MARK)
            raise ValueError(f"cannot reach https://me:{MARK}@host")

        @click.command()
        def command() -> None:
            raise SystemExit(guarded("test", work))

        done = CliRunner().invoke(command)
    finally:
        logging.root.handlers[:] = shown
    assert done.exit_code == 1
    assert f"reading s3://{MASK}@bucket" in done.stderr
    assert "Traceback" in done.stderr
    assert done.stderr.strip().splitlines()[-1] == f"ValueError: cannot reach https://{MASK}@host"
    assert MARK not in done.output


def test_a_run_masks_whatever_it_is_given(failed):
    secret = f"postgresql://u:{MARK}@h/db"
    run = runs.Run(failed.run_id, failed.runs[0].info.experiment_id, "main", {})
    run.tag("t", secret)
    run.params({"p": secret})
    run.json({"j": secret}, "j.json")
    run.text(secret, "t.txt")
    kept = failed.client.get_run(run.id)
    told = json.dumps([kept.data.tags, kept.data.params])
    for name in ("j.json", "t.txt"):
        with open(failed.client.download_artifacts(run.id, name)) as file:  # noqa: PTH123 - MLflow gives a string
            told += file.read()
    assert MARK not in told
    assert told.count(f"postgresql://{MASK}@h/db") == 4
    assert "MLFLOW_RUN_ID" not in os.environ

"""The receiver of MLflow's webhooks: what it believes, how it works one at a time, and how it ends."""

import asyncio
import json
import os
import signal
import subprocess
import sys
import threading
import time
import uuid
from pathlib import Path
from types import SimpleNamespace

import pytest
import requests
import tiny
from mlflow.webhooks.delivery import _generate_hmac_signature

from baton.errors import BadInput
from baton.orchestration import webhooks
from baton.orchestration.webhooks import MAX_AGE_S, MAX_BODY, Deliveries

ROOT = Path(__file__).parents[2]
KEY = "a secret of many characters"
NOW = 1_800_000_000.0
CONFIG = tiny.config(batch_infer={"source": "-", "output": "-", "model": "tiny-prod"})


def event(name: str = "tiny-prod", alias: str = "champion", entity: str = "model_version_alias") -> str:
    """What MLflow sends when an alias is set."""
    data = {"name": name, "alias": alias, "version": "2"}
    return json.dumps({"entity": entity, "action": "created", "timestamp": "2026-11-28T12:00:00+00:00", "data": data})


def headers(body: str, at: float = NOW, delivery: str = "", key: str = KEY) -> dict[str, str]:
    """Those of a delivery, signed by MLflow's own code."""
    delivery, stamp = delivery or str(uuid.uuid4()), str(int(at))
    return {
        "x-mlflow-delivery-id": delivery,
        "x-mlflow-timestamp": stamp,
        "x-mlflow-signature": _generate_hmac_signature(key, delivery, stamp, body),
    }


def test_what_mlflow_signs_is_believed_once():
    deliveries, body = Deliveries(KEY.encode(), 0), event()
    sent = headers(body)
    assert [deliveries.status(sent, body.encode(), NOW + seconds) for seconds in (0, 1)] == [200, 409]
    assert deliveries.status(headers(body), body.encode(), NOW) == 200


@pytest.mark.parametrize("spoiled", ["x-mlflow-delivery-id", "x-mlflow-timestamp", "x-mlflow-signature", "body", "key"])
def test_what_is_changed_or_signed_otherwise_is_refused(spoiled):
    body = event()
    sent = headers(body, key="another" if spoiled == "key" else KEY)
    sent |= {} if spoiled in ("body", "key") else {spoiled: "1"}
    received = body.replace("2", "3") if spoiled == "body" else body
    assert Deliveries(KEY.encode(), 0).status(sent, received.encode(), NOW) == 401
    assert Deliveries(KEY.encode(), 0).status({}, received.encode(), NOW) == 401


@pytest.mark.parametrize(("age", "status"), [(MAX_AGE_S, 200), (MAX_AGE_S + 1, 408), (-MAX_AGE_S - 1, 408)])
def test_what_is_old_or_of_the_future_is_refused(age, status):
    body = event()
    assert Deliveries(KEY.encode(), 0).status(headers(body, NOW - age), body.encode(), NOW) == status


def test_a_delivery_is_remembered_as_long_as_it_would_be_believed_and_no_more_than_so_many(monkeypatch):
    monkeypatch.setattr(webhooks, "MAX_DELIVERIES", 2)
    deliveries, body = Deliveries(KEY.encode(), 0), event()
    early = headers(body, NOW + MAX_AGE_S)  # of a clock that is fast: believed for twice that long
    assert deliveries.status(early, body.encode(), NOW) == 200
    assert deliveries.status(early, body.encode(), NOW + 2 * MAX_AGE_S) == 409
    assert deliveries.status(headers(body), body.encode(), NOW) == 200
    assert deliveries.status(headers(body), body.encode(), NOW) == 503
    later = NOW + 2 * MAX_AGE_S + 1
    assert deliveries.status(headers(body, later), body.encode(), later) == 200


def test_what_was_delivered_before_a_restart_is_not_believed_again():
    """Nobody knows what was taken then; what it was about the first reconcile has seen."""
    body = event()
    deliveries = Deliveries(KEY.encode(), NOW + 0.9)
    assert deliveries.status(headers(body, NOW - 1), body.encode(), NOW + 1) == 408
    assert deliveries.status(headers(body, NOW), body.encode(), NOW + 1) == 200


class Idle:
    """Stands for the worker of a receiver."""

    due = threading.Event()


@pytest.mark.parametrize(
    "received", [lambda: asyncio.sleep(60), lambda: asyncio.sleep(0, {"type": "http.disconnect"})], ids=["slow", "gone"]
)
def test_who_does_not_send_on_is_answered_and_waits_no_longer(received, monkeypatch, caplog):
    monkeypatch.setattr(webhooks, "MAX_WAIT_S", 0.05)
    sent = []

    async def send(message: dict) -> None:
        sent.append(message)

    scope = {"type": "http", "method": "POST", "path": "/", "headers": [], "query_string": b"", "http_version": "1.1"}
    asyncio.run(webhooks._app(CONFIG, Deliveries(KEY.encode(), 0), Idle())(scope, received, send))
    assert sent[0]["status"] == 408


def test_a_reconcile_that_cannot_be_started_now_is_started_at_the_next_event(monkeypatch, caplog):
    started = []

    def start(command, **options):
        started.append(command)
        if len(started) == 1:
            raise OSError(12, "Cannot allocate memory")
        return SimpleNamespace(wait=lambda: 0, poll=lambda: 0)

    monkeypatch.setattr(webhooks.subprocess, "Popen", start)
    worker = webhooks.Worker({"set": ""})
    for number in (1, 2):
        worker.due.set()
        wait_for(lambda: len(started) == number)  # noqa: B023 - it is called here
    worker.stop()
    assert "Cannot allocate memory" in caplog.text and started[1][1:] == ["-m", "steps.reconcile", "--set="]


@pytest.mark.parametrize(
    ("body", "answer"),
    [
        (event(), True),
        (event(name="tiny"), False),
        (event(alias="challenger"), False),
        (event(entity="model_version"), False),
        ("{}", None),
        ("[]", None),
        ("\x00", None),
        ('{"entity": "model_version_alias", "data": []}', None),
    ],
)
def test_an_event_is_about_the_alias_that_decides_or_not(body, answer):
    assert webhooks.is_about(CONFIG, body.encode()) is answer


@pytest.mark.parametrize(
    ("address", "sentence"),
    [
        ("localhost:80", "takes an IP address and a port"),
        ("127.0.0.1", "takes an IP address and a port"),
        ("127.0.0.1:x", "takes an IP address and a port"),
        ("127.0.0.1:70000", "takes a port below 65536"),
    ],
)
def test_an_address_that_is_none_is_bad_input(address, sentence, monkeypatch):
    monkeypatch.setenv(webhooks.SECRET, KEY)
    with pytest.raises(BadInput, match=sentence):
        webhooks.listen(CONFIG, address, {})


@pytest.mark.parametrize("given", ["", "short"])
def test_without_a_secret_nothing_is_received(given, monkeypatch):
    monkeypatch.setenv(webhooks.SECRET, given)
    with pytest.raises(BadInput, match=f"Set BATON_WEBHOOK_SECRET .* Received: {len(given)} characters"):
        webhooks.listen(CONFIG, "127.0.0.1:0", {})


# A receiver whose reconcile writes a line, and works until it is let go on or stopped.
RECEIVER = """
import json, logging, sys
from baton.config import schema
from baton.orchestration import step, webhooks
webhooks.Worker.__init__.__globals__["sys"] = type("sys", (), {"executable": sys.argv[2]})
settings = schema.validate(json.loads(sys.argv[1]), {}, "test")
sys.exit(step.guarded("reconcile", lambda: webhooks.listen(settings, "127.0.0.1:0", {})))
"""
RECONCILE = """#!/bin/sh
trap 'echo ended >> {home}/log; exit' TERM
echo "begun ${{BATON_WEBHOOK_SECRET-without}}" >> {home}/log
while [ ! -e {home}/go ]; do sleep 0.05; done
echo done >> {home}/log
"""


@pytest.fixture
def receiver(tmp_path):
    """A receiver in a process of its own → (that, its address, the lines that its reconciles wrote)."""
    stub = tmp_path / "reconcile"
    stub.write_text(RECONCILE.format(home=tmp_path))
    stub.chmod(0o755)
    env = {**os.environ, "PYTHONPATH": str(ROOT), webhooks.SECRET: KEY}
    command = [sys.executable, "-c", RECEIVER, json.dumps(CONFIG.dump()), str(stub)]
    with subprocess.Popen(command, cwd=tmp_path, env=env, text=True, stderr=subprocess.PIPE) as process:
        try:
            line = next(line for line in process.stderr if "listening" in line)
            yield process, line.split()[-1], lambda: (tmp_path / "log").read_text().splitlines()
        finally:
            process.kill()


def wait_for(good, seconds: float = 30) -> None:
    end = time.monotonic() + seconds
    while not good():
        assert time.monotonic() < end
        time.sleep(0.02)


def test_a_receiver_answers_at_once_works_one_at_a_time_and_ends_on_a_signal(receiver, tmp_path):
    process, address, lines = receiver
    wait_for(lambda: (tmp_path / "log").exists() and lines() == ["begun without"])  # what was missed before

    def post(body: str, **changes: str) -> int:
        return requests.post(address, body, headers=headers(body, time.time()) | changes, timeout=10).status_code

    assert [post(event()) for _ in range(5)] == [202] * 5
    assert post(event(name="other")) == 200
    assert post(event(), **{"x-mlflow-signature": "v1,x"}) == 401
    assert post("x" * (MAX_BODY + 1)) == 413
    assert post("no event") == 400
    assert requests.get(address, timeout=10).status_code == 405
    assert lines() == ["begun without"], "one at a time"
    (tmp_path / "go").touch()
    wait_for(lambda: lines() == ["begun without", "done"] * 2)  # five events, one more reconcile
    (tmp_path / "go").unlink()
    assert post(event()) == 202
    wait_for(lambda: lines()[4:] == ["begun without"])
    process.send_signal(signal.SIGTERM)
    rest = process.stderr.read()
    assert process.wait(30) == 0, rest
    assert lines()[5:] == ["ended"] and KEY not in rest

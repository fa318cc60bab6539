"""MLflow's webhooks in, a reconcile for each out: a receiver on this machine that believes only what is signed.

An event says no more than that it is time to look: reconcile asks the registry itself. So of many events that come
while one works, one more reconcile is enough, and an event that gets lost is made good by the next one, or a schedule.
"""

from __future__ import annotations

import asyncio
import base64
import contextlib
import hashlib
import hmac
import ipaddress
import json
import logging
import os
import re
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from baton.config.schema import Config
from baton.errors import BadInput
from baton.runtime import paths, processes

log = logging.getLogger("baton")

SECRET = "BATON_WEBHOOK_SECRET"  # in the environment
MIN_SECRET = 16  # characters
ENTITY = "model_version_alias"
MAX_BODY = 64 << 10  # bytes; MLflow's have a few hundred
MAX_WAIT_S = 10  # for a whole body
MAX_AGE_S = 300  # of a delivery, in either direction, for clocks differ
MAX_DELIVERIES = 10_000  # remembered for that long
STAMP = re.compile(r"[0-9]{1,15}")  # seconds since 1970
GRACE_S = 15.0  # for a reconcile to close its run
ANSWERS = {
    202: "a reconcile is due",
    200: "another model or alias",
    400: "no event",
    401: "no valid signature",
    408: "too old, or too slow",
    409: "delivered before",
    413: "too long",
    503: "too many",
}


@dataclass
class Deliveries:
    """What was delivered lately: each delivery counts once, and none that is old.

    None from before the receiver `started`, either, of which nobody knows whether it was delivered: what it is about
    the first reconcile sees.
    """

    secret: bytes
    started: float
    taken: dict[str, float] = field(default_factory=dict)

    def status(self, headers: Mapping[str, str], body: bytes, now: float) -> int:
        """Headers (lower case) and body of a delivery, and the time → 200 if it is to be believed, or why not."""
        delivery, stamp = headers.get("x-mlflow-delivery-id", ""), headers.get("x-mlflow-timestamp", "")
        signature = headers.get("x-mlflow-signature", "")
        if not hmac.compare_digest(signed(self.secret, delivery, stamp, body), signature.encode()):
            return 401
        if not STAMP.fullmatch(stamp) or abs(now - int(stamp)) > MAX_AGE_S or int(stamp) < int(self.started):
            return 408
        self.taken = {key: at for key, at in self.taken.items() if now - at <= 2 * MAX_AGE_S}
        if delivery in self.taken:
            return 409
        if len(self.taken) >= MAX_DELIVERIES:
            return 503
        self.taken[delivery] = now
        return 200


def signed(secret: bytes, delivery: str, stamp: str, body: bytes) -> bytes:
    """The signature of a delivery, as MLflow makes it."""
    digest = hmac.new(secret, f"{delivery}.{stamp}.".encode() + body, hashlib.sha256).digest()
    return b"v1," + base64.b64encode(digest)


def is_about(config: Config, body: bytes) -> bool | None:
    """Whether an event is about the alias that decides who scores; None if it is no event of MLflow's."""
    try:
        event = json.loads(body)
        entity, data = event["entity"], event["data"]
        named = (data.get("name"), data.get("alias"))
    except (ValueError, KeyError, TypeError, AttributeError):
        return None
    return bool(entity == ENTITY and named == (config.scoring_model, config.to_score().alias))


class Worker:
    """Runs `python -m steps.reconcile` when one is due, one at a time; what comes meanwhile makes one more due."""

    def __init__(self, options: dict[str, str]):
        self.command = [
            sys.executable,
            "-m",
            f"{paths.STEPS}.reconcile",
            *(f"--{key}={value}" for key, value in options.items()),
        ]
        self.due, self.stopped = threading.Event(), threading.Event()
        self.process: subprocess.Popen[bytes] | None = None
        self.lock = threading.Lock()
        self.thread = threading.Thread(target=self._work, daemon=True)
        self.thread.start()

    def stop(self) -> None:
        """End the reconcile that is under way, with time to close its run, and begin no other."""
        with self.lock:
            self.stopped.set()
            self.due.set()
            if self.process is not None and self.process.poll() is None:
                processes.Tree(self.process.pid).end(GRACE_S)
        self.thread.join(GRACE_S)

    def _work(self) -> None:
        environment = {key: value for key, value in os.environ.items() if key not in (SECRET, "MLFLOW_RUN_ID")}
        environment |= {processes.DRIVER: processes.me()}
        while self.due.wait():
            self.due.clear()
            with self.lock:
                if self.stopped.is_set():
                    return
                try:
                    self.process = subprocess.Popen(self.command, cwd=paths.base(), env=environment)
                except OSError as error:  # no memory now may be some at the next event
                    log.error("reconcile could not be started: %s", error)
                    continue
            log.info("reconcile has ended with status %d", self.process.wait())


def listen(config: Config, address: str, options: dict[str, str]) -> None:
    """Receive webhooks at `HOST:PORT` until a signal ends it; `options` are those of each reconcile.

    The first reconcile runs at once, for what was missed before. Raises `BadInput` without a secret or a free address.
    """
    host, port = _address(address)
    config.to_score()
    secret = os.environ.get(SECRET, "")
    if len(secret) < MIN_SECRET:
        raise BadInput(
            f"Set {SECRET} in the environment to the secret that the webhook was made with, of {MIN_SECRET} characters "
            f"or more. Received: {len(secret)} characters"
        )
    deliveries, worker = Deliveries(secret.encode(), time.time()), Worker(options)
    worker.due.set()
    try:
        _serve(_app(config, deliveries, worker), host, port)
    finally:
        worker.stop()


def _app(config: Config, deliveries: Deliveries, worker: Worker) -> Any:
    """The ASGI application: one address, which takes deliveries and answers at once."""
    from fastapi import FastAPI, Request, Response
    from starlette.requests import ClientDisconnect

    async def receive(request: Request) -> Response:
        status = await _status(request)
        if status not in (200, 202):
            log.warning("a delivery is refused: %s", ANSWERS[status])
        return Response(ANSWERS[status], status, media_type="text/plain")

    async def _status(request: Request) -> int:
        body = b""
        try:
            async with asyncio.timeout(MAX_WAIT_S):
                async for chunk in request.stream():
                    body += chunk
                    if len(body) > MAX_BODY:
                        return 413
        except (TimeoutError, ClientDisconnect):
            return 408
        if (status := deliveries.status(request.headers, body, time.time())) != 200:
            return status
        about = is_about(config, body)
        if about:
            worker.due.set()
        return 400 if about is None else 202 if about else 200

    app = FastAPI(docs_url=None, redoc_url=None, openapi_url=None)
    app.add_route("/", receive, methods=["POST"])
    return app


def _serve(app: Any, host: str, port: int) -> None:
    """Serve until SIGTERM or Ctrl-C; raises `BadInput` if the address is not to be had."""
    import socket

    import uvicorn

    class Server(uvicorn.Server):
        """One that a signal ends without an error."""

        @contextlib.contextmanager
        def capture_signals(self) -> Iterator[None]:
            before = {number: signal.signal(number, self.handle_exit) for number in (signal.SIGTERM, signal.SIGINT)}
            try:
                yield
            finally:
                for number, handler in before.items():
                    signal.signal(number, handler)

    try:
        taken = socket.create_server((host, port))
    except OSError as error:
        raise BadInput(f"--listen must be an address that is free here. Received: {host}:{port}, {error}") from None
    settings = uvicorn.Config(
        app, log_config=None, access_log=False, server_header=False, limit_concurrency=64, timeout_graceful_shutdown=5
    )
    log.info("listening for webhooks on http://%s:%d/", *taken.getsockname()[:2])
    with taken:
        Server(settings).run(sockets=[taken])


def _address(text: str) -> tuple[str, int]:
    """`HOST:PORT` → both; a port alone is of this machine's own address. Raises `BadInput`."""
    host, _, port = text.rpartition(":")
    host = host or "127.0.0.1"
    try:
        outside, number = not ipaddress.ip_address(host).is_loopback, int(port)
    except ValueError:
        raise BadInput(f"--listen takes an IP address and a port, as 127.0.0.1:8089. Received: {text}") from None
    if not 0 <= number < 1 << 16:
        raise BadInput(f"--listen takes a port below 65536. Received: {text}")
    if outside:
        log.warning("%s can be reached from other machines: what is sent there is signed, and not encrypted", host)
    return host, number

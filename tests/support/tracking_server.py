"""Stands in for `mlflow server`: one experiment, runs that are there at once, and what it is asked for, on loopback."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

RUN_ID = "0" * 32


class Server(ThreadingHTTPServer):
    """Answers at once, but never to what holds the text `hangs_at`, nor, if it is `dead` then, to what comes later."""

    daemon_threads = True

    def __init__(
        self,
        hangs_at: str = "\0",
        dead: bool = False,
        artifacts: str = "mlflow-artifacts:/1",
        lifecycle: str = "active",
        host: str = "127.0.0.1",
    ):
        super().__init__((host, 0), _Handler)
        self.hangs_at, self.dead, self.artifacts, self.lifecycle = hangs_at, dead, artifacts, lifecycle
        self.asked: list[str] = []
        self.hangs, self.closed = threading.Event(), threading.Event()

    @property
    def uri(self) -> str:
        return f"http://{self.server_address[0]}:{self.server_port}"

    def answer(self, path: str) -> dict[str, Any]:
        experiment = {
            "experiment_id": "1", "name": "tiny", "artifact_location": self.artifacts,
            "lifecycle_stage": self.lifecycle, "tags": [],
        }  # fmt: skip
        info = {
            "run_id": RUN_ID, "run_uuid": RUN_ID, "run_name": "x", "experiment_id": "1", "status": "RUNNING",
            "start_time": 1, "artifact_uri": f"{self.artifacts}/{RUN_ID}", "lifecycle_stage": "active",
        }  # fmt: skip
        if path.endswith(("get-by-name", "experiments/get")):
            return {"experiment": experiment}
        if path.endswith("experiments/search"):
            return {"experiments": [experiment]}
        return {"run": {"info": info, "data": {}}, "run_info": info} if "/runs/" in path else {}


class _Handler(BaseHTTPRequestHandler):
    server: Server

    def _any(self) -> None:
        path = self.path.partition("?")[0]
        asked = f"{self.command} {self.path} {self.rfile.read(int(self.headers['Content-Length'] or 0))!r}"
        self.server.asked.append(asked)
        if self.server.hangs_at in asked or (self.server.dead and self.server.hangs.is_set()):
            self.server.hangs.set()
            self.server.closed.wait()
            return
        content = json.dumps(self.server.answer(path)).encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)

    do_GET = do_POST = do_PUT = do_PATCH = _any

    def log_message(self, format: str, *values: Any) -> None:
        """Nothing."""


@contextmanager
def serving(**settings: Any) -> Iterator[Server]:
    """A server in a thread, as `Server` takes it."""
    with Server(**settings) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        try:
            yield server
        finally:
            server.closed.set()
            server.shutdown()

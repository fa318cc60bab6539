"""MLflow's server and `mlflow models predict`, by the lines of docs/reference/REGISTRY.md."""

import json
import os
import re
import socket
import subprocess
import time
import urllib.error
import urllib.request
from pathlib import Path
from types import SimpleNamespace

import pyarrow as pa
import pytest
from logged import BODIES, JSON, answers, assert_alike, batch, elsewhere, plain

PAGE = (Path(__file__).parents[2] / "docs" / "reference" / "REGISTRY.md").read_text()
(LINES,) = re.findall(r"```sh\n(echo.*?)```", PAGE, re.DOTALL)
ECHO, PREDICT, SERVE, CURL = re.findall(
    r"(?:^|\n)((?:echo|mlflow models \w+|curl).*?)(?=\nmlflow|\ncurl|\n*$)", LINES, re.DOTALL
)


@pytest.fixture(scope="module")
def served(flights):
    """The server, and what the page's other lines printed."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = str(free.getsockname()[1])
    options = elsewhere(flights.folder)
    options["env"]["MLFLOW_TRACKING_URI"] = flights.uri
    with (flights.folder / "server.log").open("w") as written:
        server = subprocess.Popen(
            ["bash", "-c", SERVE.replace("5001", port)], cwd=options["cwd"], env=options["env"],
            stdout=written, stderr=written, start_new_session=True,
        )  # fmt: skip
    try:
        predicted = subprocess.run(["bash", "-ec", f"{ECHO}\n{PREDICT}"], **options)
        _wait(f"http://127.0.0.1:{port}/ping", server)
        curled = subprocess.run(["bash", "-ec", CURL.replace("5001", port)], **options)
        yield SimpleNamespace(
            address=f"http://127.0.0.1:{port}/invocations", predicted=predicted, curled=curled, model=flights.model
        )
    finally:
        os.killpg(server.pid, 15)
        server.wait(30)


def _wait(address: str, server: subprocess.Popen) -> None:
    for _ in range(600):
        assert server.poll() is None, "the server ended"
        try:
            urllib.request.urlopen(address, timeout=5)
            return
        except OSError:
            time.sleep(0.2)
    raise AssertionError("the server did not answer")


def post(address: str, body: bytes, kind: str) -> tuple[int, str]:
    request = urllib.request.Request(address, body, {"Content-Type": kind})
    try:
        with urllib.request.urlopen(request, timeout=120) as answer:
            return answer.status, answer.read().decode()
    except urllib.error.HTTPError as error:
        return error.code, error.read().decode()


def test_the_pages_lines_give_what_batch_infer_gives(served, flights):
    asked = json.loads((flights.folder / "rows.json").read_text())["dataframe_split"]
    columns = zip(asked["columns"], zip(*asked["data"], strict=True), strict=True)
    expected = batch(served.model, pa.table({name: pa.array(values) for name, values in columns}))
    for done in (served.predicted, served.curled):
        assert done.returncode == 0, done.stderr
        assert_alike(answers(done.stdout.splitlines()[-1]), expected)


@pytest.mark.parametrize("way", BODIES)
def test_rows_with_missing_cells_give_what_batch_infer_gives(served, flights, way):
    write, kind = BODIES[way]
    status, text = post(served.address, write(flights.asked), kind)
    assert status == 200, text
    assert_alike(answers(text), batch(served.model, flights.asked))


@pytest.mark.parametrize(("change", "sentence"), [
    (lambda row: {name: cell for name, cell in row.items() if name != "carrier"}, "missing inputs ['carrier']"),
    (lambda row: row | {"time_hour": 5}, "Column time_hour must be datetime. Received: int64."),
])  # fmt: skip
def test_wrong_columns_get_400_and_a_sentence(served, flights, change, sentence):
    row = {name: plain(cell) for name, cell in flights.asked.to_pylist()[-1].items()}
    status, text = post(served.address, json.dumps({"dataframe_records": [change(row)]}).encode(), JSON)
    assert status == 400 and sentence in json.loads(text)["message"], text


def test_text_that_is_no_csv_gets_400(served):
    assert post(served.address, b'a,b\n"1', BODIES["csv"][1])[0] == 400

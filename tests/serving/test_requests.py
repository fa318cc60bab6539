"""What MLflow hands to a model: every type, by every way in, gives what batch_infer gives, cell by cell."""

import base64
import io
import json
import subprocess
import sys
from datetime import UTC, datetime
from pathlib import Path
from types import SimpleNamespace

import every_type
import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import tiny
from logged import BODIES, JSON, answers, assert_alike, batch, cells, csv_text, elsewhere, loaded, log, untrained
from mlflow.exceptions import MlflowException
from mlflow.pyfunc import scoring_server
from mlflow.types import ColSpec, Schema

from baton.networks.view_windows import views_of
from baton.networks.views import viewed
from baton.serving import requests
from baton.serving.raw_columns import RawColumnModel

MLFLOW = str(Path(sys.executable).with_name("mlflow"))


@pytest.fixture(scope="module")
def every(tmp_path_factory):
    """An untrained model of features of every type, logged and loaded by MLflow; the rows it is asked about."""
    folder = tmp_path_factory.mktemp("every")
    config, dataset = tiny.build(every_type.table(), folder, "binary")
    model = untrained(config, dataset)
    logged = log(model, dataset.raw_test(), folder)
    pq.write_table(every_type.asked(), folder / "asked.parquet")
    pyfunc = loaded(logged)
    return SimpleNamespace(model=model, logged=logged, pyfunc=pyfunc, source=folder / "asked.parquet", folder=folder)


@pytest.fixture(scope="module")
def pictures(images, tmp_path_factory):
    """An untrained model that looks at pictures ten times, logged and loaded by MLflow."""
    model = untrained(*images)
    model = RawColumnModel(model.preprocessor, viewed(model.network, views_of("ten_crops")))
    logged = log(model, images[1].raw_test(), tmp_path_factory.mktemp("pictures"))
    return SimpleNamespace(model=model, pyfunc=loaded(logged))


def asked_here(pyfunc, body: bytes, kind: str) -> list[dict]:
    """What MLflow's server would answer, without a server."""
    return answers(scoring_server.invocations(body, kind, pyfunc, pyfunc.metadata.get_input_schema()).response)


def posted(way: str, raw: pa.Table) -> tuple[bytes, str]:
    write, kind = BODIES[way]
    return write(raw), kind


def test_the_answers_depend_on_every_column(every):
    """Or the tests below would show nothing."""
    raw = every_type.asked().slice(every_type.asked().num_rows - 1)
    (whole,) = batch(every.model, raw)
    for index, name in enumerate(raw.column_names):
        (other,) = batch(every.model, raw.set_column(index, name, pa.nulls(1)))
        assert abs(other["probability_3"] - whole["probability_3"]) > 1e-4, name


def test_pandas_as_read_from_the_source(every):
    frame = pd.read_parquet(every.source)
    frame.index += 5
    found = every.pyfunc.predict(frame)
    assert found.index.equals(frame.index)
    assert_alike(found.to_dict("records"), batch(every.model, pq.read_table(every.source)))


def test_pandas_own_types_with_missing_cells(every):
    frame = pd.read_parquet(every.source, dtype_backend="numpy_nullable")
    assert {"Int8", "boolean", "Float64"} <= set(map(str, frame.dtypes))
    assert_alike(every.pyfunc.predict(frame).to_dict("records"), batch(every.model, pq.read_table(every.source)))


@pytest.mark.parametrize("way", BODIES)
def test_what_a_server_takes(every, way):
    raw = pq.read_table(every.source)
    assert_alike(asked_here(every.pyfunc, *posted(way, raw)), batch(every.model, raw))


def test_mlflow_models_predict_takes_csv(every):
    """Without a signature at hand, pandas would take 007 for 7."""
    raw = pq.read_table(every.source)
    (every.folder / "in.csv").write_bytes(csv_text(raw))
    command = [MLFLOW, "models", "predict", "--env-manager", "local", "-m", every.logged]
    options = elsewhere(every.folder)
    done = subprocess.run([*command, "-i", "in.csv", "-t", "csv", "-o", "out.json"], **options)
    assert done.returncode == 0, done.stderr
    assert_alike(answers((every.folder / "out.json").read_text()), batch(every.model, raw))


# A column, and a cell that a request may hold in it
CELLS = [
    ("truth", "false"), ("truth", "TRUE"), ("truth", 0), ("truth", "maybe"), ("truth", 2), ("truth", None),
    ("int32", 3.99), ("int32", "4"), ("int32", True), ("int32", "four"), ("int32", None), ("int64", 2**70),
    ("float64", "2.5"), ("float64", "2,5"), ("comma", "1.163,74"), ("comma", 1163.74), ("decimal", "12.50"),
    ("date32", "2024-05-31"), ("date32", "04.05.2023"), ("date32", None), ("us", "2024-05-31T08:30:00Z"),
    ("us", "2024-05-31 08:30:00+02:00"), ("us Berlin", "2024-05-31T08:30:00"), ("us", "9999-12-31"),
    ("german", "04.05.2023"), ("german", "2023-05-04"), ("number of a day", 20240531), ("number of a day", "20240531"),
    ("text", "never seen"), ("text", 5), ("code", "007"), ("code", 7), ("category", "b"), ("text", "N/A"),
]  # fmt: skip


def test_a_cell_is_judged_as_batch_infer_judges_it_whatever_stands_beside_it(every):
    """One request, in whose columns texts, numbers and truths stand side by side."""
    raw = every_type.asked().slice(every_type.asked().num_rows - 1)
    row = cells(raw)[0]
    data, expected = [], []
    for name, cell in CELLS:
        index = raw.column_names.index(name)
        data.append([*row[:index], cell, *row[index + 1 :]])
        typed_cell = pa.array([str(cell) if cell == 2**70 else cell])
        expected += batch(every.model, raw.set_column(index, name, typed_cell))
    body = json.dumps({"dataframe_split": {"columns": raw.column_names, "data": data}}).encode()
    assert_alike(asked_here(every.pyfunc, body, JSON), expected)
    reasons = {CELLS[i]: row["reason"] for i, row in enumerate(expected) if row["reason"]}
    assert reasons == {
        ("truth", "maybe"): "truth is not true or false", ("truth", 2): "truth is not true or false",
        ("int32", "four"): "int32 is not a number", ("float64", "2,5"): "float64 is not a number",
        ("date32", "04.05.2023"): "date32 is not a date or time",
        ("german", "2023-05-04"): "german is not a date or time",
    }  # fmt: skip


def test_a_cell_of_no_use_costs_its_row_alone(every):
    """What would end batch_infer, for it is of a whole column, is the reason of a row if other cells can be used."""
    raw = every_type.asked().slice(every_type.asked().num_rows - 2)
    data = cells(raw)[1:] * 4
    for row, (name, cell) in enumerate([("date32", 5), ("int8", [1]), ("text", {"a": 1})]):
        data[row] = [cell if n == name else c for n, c in zip(raw.column_names, data[row], strict=True)]
    body = json.dumps({"dataframe_split": {"columns": raw.column_names, "data": data}}).encode()
    *bad, good = asked_here(every.pyfunc, body, JSON)
    assert good == batch(every.model, raw)[1] | {k: pytest.approx(v) for k, v in good.items() if "proba" in k}
    assert [row["prediction"] for row in bad] == [None] * 3
    assert bad[0]["reason"] == "Column date32 must be datetime. Received: int64."
    assert [row["reason"].split(" must be ")[0] for row in bad] == [f"Column {n}" for n in ("date32", "int8", "text")]


def test_no_rows_give_no_predictions(every):
    body = json.dumps({"dataframe_split": {"columns": every_type.asked().column_names, "data": []}}).encode()
    assert asked_here(every.pyfunc, body, JSON) == []


def test_moments_of_long_ago_in_a_time_zone_end_no_server(every):
    """pandas would end the process when MLflow walks over them."""
    raw = every_type.asked().slice(every_type.asked().num_rows - 1)
    type_ = pa.timestamp("us", "America/New_York")
    raw = raw.set_column(raw.column_names.index("us"), "us", pa.array([datetime(1, 1, 1, tzinfo=UTC)], type_))
    assert_alike(asked_here(every.pyfunc, *posted("parquet", raw)), batch(every.model, raw))


@pytest.mark.parametrize(("line", "fault"), [("1,2,3", "line 2 has 3 values, and the header 2"), ("1", "line 2 has 1"),
                                             ('1,"2', "unexpected end"), (None, "it is empty")])  # fmt: skip
def test_csv_whose_lines_are_no_rows_is_refused(every, line, fault):
    """pandas would shift the columns of the first, and take the second for one with a missing value."""
    with pytest.raises(MlflowException, match=fault) as error:
        asked_here(every.pyfunc, b"" if line is None else f"x,y\n{line}\n".encode(), "text/csv")
    assert error.value.get_http_status_code() == 400


def test_csv_of_a_signature_with_types_is_left_to_mlflow(every):
    """Another model, in the process that has loaded ours."""
    schema = Schema([ColSpec("double", "x")])
    assert scoring_server.parse_csv_input(io.StringIO("x\n1.5"), schema)["x"].tolist() == [1.5]


def test_one_bad_picture_costs_its_row_alone(pictures):
    good = tiny.png(np.full((8, 8), 90))
    texts = [base64.b64encode(good).decode(), "no base64!", base64.b64encode(good[:40]).decode(), None,
             base64.encodebytes(good).decode(), "data:image/png;base64," + base64.b64encode(good).decode(),
             base64.urlsafe_b64encode(good).decode().rstrip("=")]  # fmt: skip
    body = json.dumps({"dataframe_records": [{"image": text} for text in texts]}).encode()
    rows = asked_here(pictures.pyfunc, body, JSON)
    held = [good, b"no", good[:40], None, *[good] * 3]
    expected = batch(pictures.model, pa.table({"image": pa.array(held, pa.binary())}))
    assert_alike(rows, expected)
    assert [row["prediction"] is None for row in rows] == [False, True, True, True, False, False, False]
    structs = [{"bytes": cell, "path": "1.png"} for cell in held]
    for column in (held, structs):
        found = pictures.pyfunc.predict(pd.DataFrame({"image": column}))
        assert_alike(found.to_dict("records"), expected)


@pytest.mark.parametrize(("values", "type_"), [([3, None], np.int64), ([True, None], np.bool_), (["a", None], np.str_)])
def test_what_is_missing_stays_so_when_mlflow_casts(values, type_):
    """As its Spark UDF does."""
    index = pd.RangeIndex(2)
    frame = requests.predictions({"prediction": pa.array(values)}, pa.array([None, "x is infinite"]), index)
    cast = frame["prediction"].astype(type_)
    assert cast.isna().tolist() == [False, True] and cast[0] == values[0]
    assert frame.to_dict("records")[1] == {"prediction": None, "reason": "x is infinite"}


def test_pandas_callers_get_a_sentence(every):
    with pytest.raises(MlflowException, match="Column truth must be boolean"):
        every.pyfunc.predict(pd.read_parquet(every.source).assign(truth=pd.Timestamp(2024, 1, 1)))

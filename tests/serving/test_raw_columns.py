"""The exported model: raw columns in, the same answers as in training out, nothing unpickled."""

import subprocess
import sys
from datetime import date, datetime

import mlflow
import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
import tiny
from logged import elsewhere, log, untrained

from baton.data.cells import typed_cells
from baton.data.feed import Feed
from baton.data.preprocessing import Preprocessor, usable
from baton.errors import BatonError
from baton.networks import prediction
from baton.serving import export, integrity
from baton.serving.raw_columns import RawColumnModel
from baton.training import fit


@pytest.fixture(scope="module")
def model(regression) -> RawColumnModel:
    config, dataset = regression
    return RawColumnModel(dataset.preprocessor, fit.train(config, dataset).model)


@pytest.fixture(scope="module")
def logged(model, regression, tmp_path_factory):
    """The model, logged into a store of its own → its folder."""
    return log(model, regression[1].raw_test(), tmp_path_factory.mktemp("mlflow"))


@pytest.mark.parametrize("kind", ["regression", "binary", "images"])
def test_the_encoded_and_the_raw_path_give_equal_outputs(kind, request, tmp_path):
    config, dataset = request.getfixturevalue(kind)
    made = untrained(config, dataset)
    rows = Feed(dataset, "test", 64).arrays()
    targets = rows.pop("target")
    encoded = prediction.probabilities(prediction.predict(made.network, rows), made.preprocessor.classes)
    made.save(tmp_path / "model")
    for candidate in (made, RawColumnModel.load(tmp_path / "model")):
        raw_truth, raw = candidate.evaluate(dataset.raw_test())
        np.testing.assert_array_equal(raw_truth, targets)
        np.testing.assert_array_equal(raw, encoded)


def test_bad_rows_are_null_and_have_reasons(model):
    rows = tiny.regression_table(6, seed=9).drop(["y"]).to_pandas()
    good, _ = model.score(pa.Table.from_pandas(rows))
    rows.loc[1, "x1"] = np.inf
    rows.loc[3, "x2"] = -np.inf
    rows.loc[4, ["x2", "c"]] = [np.nan, "never seen"]
    columns, reasons = model.score(pa.Table.from_pandas(rows))
    assert reasons.to_pylist() == [None, "x1 is infinite", None, "x2 is infinite", None, None]
    predictions = columns["prediction"].to_pylist()
    assert [p is None for p in predictions] == [False, True, False, True, False, False]
    for index in (0, 2, 5):
        assert predictions[index] == pytest.approx(good["prediction"][index].as_py(), rel=1e-5)
    assert np.isfinite(predictions[4])


@pytest.mark.parametrize("rows", [0, 2])
def test_no_good_row_at_all(model, rows):
    table = tiny.regression_table(rows).set_column(0, "x1", pa.array([np.inf] * rows, pa.float64()))
    columns, reasons = model.score(table)
    assert columns["prediction"].to_pylist() == [None] * rows
    assert reasons.null_count == 0 and len(reasons) == rows


@pytest.mark.parametrize(
    ("target", "expected"),
    [
        (pa.array([3, 7]), pa.int64()),
        (pa.array([0.5, 1.0]), pa.float64()),
        (pa.array([False, True]), pa.bool_()),
        (pa.array(["no", "yes"]), pa.string()),
    ],
)
def test_classes_are_predicted_in_the_targets_own_type(target, expected, tmp_path):
    table = tiny.binary_table(200)
    answers = target.take(pa.array((table["y"].to_numpy() == 7).astype(int)))
    table = table.set_column(table.column_names.index("y"), "y", answers)
    config, dataset = tiny.build(table, tmp_path, "binary")
    made = untrained(config, dataset)
    columns, _ = made.score(dataset.raw_test())
    first, second = (f"probability_{name}" for name in dataset.preprocessor.classes)
    assert list(columns) == ["prediction", first, second]
    assert columns["prediction"].type == expected
    one, two = columns[first].to_numpy(), columns[second].to_numpy()
    np.testing.assert_allclose(one + two, 1, rtol=1e-6)
    likelier = [target[int(b > a)].as_py() for a, b in zip(one, two, strict=True)]
    assert columns["prediction"].to_pylist() == likelier
    (declared,) = (c for c in export.signature(made.preprocessor).outputs.to_dict() if c["name"] == "prediction")
    assert declared["type"] == made.preprocessor.target_column.type


def test_every_kind_of_column_is_served(tmp_path):
    """Numbers, whole numbers, truths, times and categories; from a CSV source's text, too."""
    rng = np.random.default_rng(1)
    n = 200
    frame = pd.DataFrame(
        {
            "x": rng.normal(size=n),
            "n": rng.integers(0, 9, n),
            "flag": rng.random(n) < 0.5,
            "at": pd.Timestamp(2024, 1, 1) + pd.to_timedelta(rng.integers(0, 10**6, n), "s"),
            "c": rng.choice(["a", "b"], n),
            "y": rng.normal(size=n),
        }
    )
    answers = []
    typed = pa.Table.from_pandas(frame, preserve_index=False)
    text = pa.table({name: [str(v) for v in frame[name]] for name in frame})
    for name, table in (("typed", typed), ("text", text)):
        (tmp_path / name).mkdir()
        config, dataset = tiny.build(table, tmp_path / name, "regression", model={"recipe": "linear"})
        made = untrained(config, dataset)
        for layer in made.network.layers:
            layer.set_weights([np.full_like(w, 0.1) for w in layer.get_weights()])
        answers.append([made.score(source)[0]["prediction"].to_numpy() for source in (typed, text)])
        example = export.as_declared(dataset.raw_test(), made.preprocessor).to_pandas()
        assert {k: v.kind for k, v in example.dtypes.items()} == {"x": "f", "n": "i", "flag": "b", "at": "M", "c": "O"}
    for other in (answers[0][1], *answers[1]):
        np.testing.assert_allclose(other, answers[0][0], rtol=1e-5)


FAR = [datetime(9999, 12, 31, 23, 59, 59, 999999), datetime(2500, 1, 1), datetime(1600, 5, 6), datetime(1, 1, 1)]
NEAR = [datetime(2024, 5, 31, 8, 30), datetime(1678, 1, 1), datetime(2262, 4, 11)]


@pytest.mark.parametrize("type_", [pa.timestamp("us"), pa.timestamp("ms", "America/New_York"), pa.timestamp("s")])
def test_an_example_holds_moments_that_nanoseconds_do_not(tmp_path, type_):
    """Nanoseconds end in 1677 and 2262."""
    from mlflow.models.utils import _enforce_schema

    moments = [moment and moment.replace(microsecond=0) for moment in [*FAR, *NEAR, None]]
    table = tiny.regression_table(200).append_column("t", pa.array((moments * 200)[:200], type_))
    _, dataset = tiny.build(table, tmp_path, "regression")
    example = export.input_example(table, dataset.preprocessor, len(moments))
    found = _enforce_schema(example, export.signature(dataset.preprocessor).inputs)["t"]
    assert [None if pd.isna(moment) else moment.to_pydatetime() for moment in found] == moments


def odd_table(rows: int = 200) -> pa.Table:
    """Columns of Parquet that pandas or MLflow hold otherwise or not at all; `uuid` is of 16 bytes each."""
    rng = np.random.default_rng(3)
    more = {
        "uuid": pa.array([rng.bytes(16) for _ in range(rows)], pa.binary(16)),
        "until": pa.array([date(9999, 12, 31) if i % 2 else date(2024, 1, 1 + i % 28) for i in range(rows)]),
        "far": pa.array((FAR * rows)[:rows], pa.timestamp("us")),
        "unsigned": pa.array([2**63 + i for i in range(rows)], pa.uint64()),
        "price": pa.array([f"{x:.2f}" for x in rng.normal(100, 5, rows)]).cast(pa.decimal128(12, 2)),
        "zone": pa.array((NEAR * rows)[:rows], pa.timestamp("us", "America/New_York")),
        "large": pa.array(rng.choice(["ü", "b"], rows), pa.large_string()),
    }
    table = tiny.regression_table(rows)
    for name, values in more.items():
        table = table.append_column(name, values)
    return table


def test_a_model_of_odd_columns_is_logged_and_scores(tmp_path):
    table = odd_table()
    config, dataset = tiny.build(table, tmp_path, "regression", data={"id": ["uuid"]})
    made = untrained(config, dataset)
    assert dataset.raw_test().schema.types == table.schema.types
    assert set(dataset.raw_test()["uuid"].to_pylist()) < set(table["uuid"].to_pylist())
    folder = log(made, dataset.raw_test(), tmp_path)
    described = mlflow.models.Model.load(str(folder))
    declared = {c["name"]: c["type"] for c in described.signature.inputs.to_dict()}
    assert "uuid" not in declared
    kinds = described.metadata["columns"]
    assert {kinds[name] for name in ("until", "far", "zone")} == {"datetime"}
    assert (kinds["unsigned"], kinds["price"]) == ("categorical", "numeric")  # more digits than a double keeps
    assert len(described.load_input_example(str(folder))) == 5
    columns, reasons = made.score(table)
    assert reasons.null_count == table.num_rows and np.isfinite(columns["prediction"].to_numpy()).all()
    rows, _, _ = usable(dataset.raw_test(), dataset.preprocessor)
    texts = {c.name: typed_cells(rows.column(c.name), c)[0] for c in dataset.preprocessor.features}
    assert texts["far"].startswith(f"{dataset.raw_test()['far'][0].as_py().year:04}-")


def test_the_logged_model_has_signature_example_and_pinned_requirements(logged):
    described = mlflow.models.Model.load(str(logged))
    inputs = described.signature.inputs.to_dict()
    assert [(c["name"], c["type"], c["required"]) for c in inputs] == [(n, "any", True) for n in ("x1", "x2", "n", "c")]
    assert [(c["name"], c["type"]) for c in described.signature.outputs.to_dict()] == [("prediction", "double")]
    kinds = {"x1": "numeric", "x2": "numeric", "n": "numeric", "c": "categorical"}
    assert described.metadata == {"fingerprint": "f", "columns": kinds}
    assert list(described.load_input_example(str(logged)).columns) == ["x1", "x2", "n", "c"]
    requirements = (logged / "requirements.txt").read_text().splitlines()
    assert all("==" in line for line in requirements)
    assert {"keras", "tensorflow-cpu", "mlflow"} <= {line.partition("==")[0] for line in requirements}
    names = {path.suffix for path in logged.rglob("*") if path.is_file()}
    assert not names & {".pkl", ".pickle", ".joblib"}


def test_nothing_in_the_logged_code_is_left_over(logged):
    """What serving runs of the package travels with the model, and nothing else: no caches, no training, no pages."""
    held = {path.relative_to(logged / "code").as_posix() for path in (logged / "code").rglob("*") if path.is_file()}
    assert held == set(integrity.bundled())
    assert {"baton/serving/raw_columns.py", "baton/networks/layers.py", "baton/data/__init__.py"} <= held
    rooms = {path.split("/")[1] for path in held}
    assert not rooms & {"training", "orchestration", "registry", "reporting", "tuning", "inspection", "config"}
    assert sum((logged / "code" / path).stat().st_size for path in held) < 135_000


FRESH = """
import sys, mlflow, pandas as pd
model = mlflow.pyfunc.load_model(sys.argv[1])
import baton
assert baton.__file__.startswith(sys.argv[1]), baton.__file__
frame = pd.read_parquet(sys.argv[2])
model.predict(frame).to_parquet(sys.argv[3])
model.predict(model.input_example)
try:
    model.predict(frame.drop(columns="x1"))
except Exception as error:
    print(error)
"""


def test_a_fresh_process_loads_it_without_unpickling(model, logged, tmp_path):
    frame = tiny.regression_table(40, seed=5).to_pandas().drop(columns="y")
    frame.loc[3, "x1"] = np.inf
    frame.to_parquet(tmp_path / "in.parquet")
    command = [sys.executable, "-c", FRESH, str(logged), "in.parquet", "out.parquet"]
    done = subprocess.run(command, **elsewhere(tmp_path))
    assert done.returncode == 0, done.stderr
    assert "x1" in done.stdout and "missing" in done.stdout
    found = pd.read_parquet(tmp_path / "out.parquet")
    expected, _ = model.score(pa.Table.from_pandas(frame))
    assert list(found.columns) == ["prediction", "reason"] and np.isnan(found["prediction"][3])
    assert found["reason"].dropna().to_dict() == {3: "x1 is infinite"}
    np.testing.assert_allclose(found["prediction"], expected["prediction"].to_pandas(), rtol=1e-5)


def test_rows_without_a_usable_target_are_not_evaluated(binary):
    config, dataset = binary
    made = untrained(config, dataset)
    raw = tiny.binary_table(6, seed=8)
    raw = raw.set_column(raw.column_names.index("y"), "y", pa.array([3, 7, None, 5, 3, 7]))
    targets, output = made.evaluate(raw)
    assert targets.tolist() == [0, 1, 0, 1] and output.shape == (4, 2)


def test_answers_come_in_the_columns_of_who_asks(images):
    """A champion with other classes: those it lacks have the probability 0, those nobody asks for are left out."""
    config, dataset = images
    made = untrained(config, dataset)
    raw = dataset.raw_test()
    _, output = made.evaluate(raw)
    np.testing.assert_array_equal(made.answers(raw, made.preprocessor), output)
    asked = Preprocessor(
        {**made.preprocessor.spec, "target": {**made.preprocessor.spec["target"], "classes": ["even", "new", "top"]}}
    )
    expected = np.stack([output[:, 1], np.zeros(len(output)), output[:, 2]], axis=1)
    np.testing.assert_array_equal(made.answers(raw, asked), expected)


def test_answers_to_another_question_or_on_a_part_of_the_rows_are_refused(regression, binary):
    config, dataset = regression
    made = untrained(config, dataset)
    raw = dataset.raw_test()
    with pytest.raises(BatonError, match=r"it predicts y \(regression\), not y \(binary\)"):
        made.answers(raw, binary[1].preprocessor)
    x1 = raw["x1"].to_numpy().copy()
    x1[3] = np.inf
    spoilt = raw.set_column(raw.column_names.index("x1"), "x1", pa.array(x1))
    with pytest.raises(BatonError, match=rf"it cannot use 1 of {raw.num_rows} test rows \(x1 is infinite\)"):
        made.answers(spoilt, made.preprocessor)
    with pytest.raises(BatonError, match="x1"):
        made.answers(raw.drop(["x1"]), made.preprocessor)

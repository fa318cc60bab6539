"""Scoring: every row comes out once, with its lineage or with a reason."""

from collections import Counter
from datetime import datetime, timedelta
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pyarrow as pa
import pyarrow.csv as csv
import pyarrow.parquet as pq
import pytest
import tiny

from baton import names
from baton.config.schema import BatchInfer
from baton.data.sources import files
from baton.errors import BadInput, BatonError
from baton.networks import build
from baton.orchestration import batch_scoring
from baton.serving.raw_columns import RawColumnModel
from baton.serving.scoring import Lineage, Scored, score, score_rows, score_tables

AT = datetime(2026, 11, 22, 12, 0, 1, 5)
OUT = Path("out").absolute()
LINEAGE = Lineage("flights", "3", "run", "f" * 64, "scoring", AT)


@pytest.fixture(scope="module")
def model(regression) -> RawColumnModel:
    config, dataset = regression
    return RawColumnModel(dataset.preprocessor, build.build(dataset.preprocessor, config.model))


def new_rows(rows: int = 100) -> pa.Table:
    """Rows to score: three infinite x1, some y missing, a new category, a column the model does not know."""
    table = tiny.regression_table(rows, seed=11)
    x1 = table["x1"].to_numpy().copy()
    x1[[4, 50, 99]] = np.inf
    y = [None if i % 5 == 0 else v for i, v in enumerate(table["y"].to_pylist())]
    c = ["z" if i == 7 else v for i, v in enumerate(table["c"].to_pylist())]
    return pa.table(
        {"key": range(rows), "x1": x1, "x2": table["x2"], "n": table["n"], "c": c, "y": pa.array(y, pa.float64())}
    )


def read(folder) -> tuple[pa.Table, pa.Table]:
    """A scored folder → its predictions and its quarantined rows, as a reader of it sees them."""
    return pq.read_table(folder), pq.read_table(folder / names.QUARANTINE_OUTPUT / "part-00000.parquet")


def scored(model, table: pa.Table, folder, batch_rows: int = 30):
    source, output = folder / "in.parquet", folder / "out"
    pq.write_table(table, source)
    output.mkdir()
    done = score(model, files.resolve(str(source)), LINEAGE, output, batch_rows)
    return done, *read(output)


@pytest.mark.parametrize("batch_rows", [7, 1000])
def test_every_row_is_scored_or_quarantined(model, tmp_path, batch_rows):
    table = new_rows()
    done, good, bad = scored(model, table, tmp_path, batch_rows)
    assert (done.rows_in, done.rows_scored, done.rows_quarantined) == (100, 97, 3)
    assert done.reasons == {"x1 is infinite": 3}
    assert (good.num_rows, bad.num_rows) == (97, 3)
    assert good["key"].to_pylist() == [i for i in range(100) if i not in (4, 50, 99)]
    assert bad["key"].to_pylist() == [4, 50, 99]
    assert bad.column_names == [*table.column_names, names.REASON]
    assert good.select(table.column_names).equals(table.filter(pa.array(np.isfinite(table["x1"].to_numpy()))))


def test_batches_do_not_change_predictions(model, tmp_path):
    found = []
    for batch_rows in (7, 1000):
        (tmp_path / str(batch_rows)).mkdir()
        found.append(scored(model, new_rows(), tmp_path / str(batch_rows), batch_rows)[1]["prediction"].to_numpy())
    np.testing.assert_allclose(*found, rtol=1e-5)
    columns, _ = model.score(new_rows())
    np.testing.assert_allclose(found[0], columns["prediction"].drop_null().to_numpy(), rtol=1e-5)


def test_lineage_says_where_a_prediction_comes_from(model, tmp_path):
    _, good, _ = scored(model, new_rows(), tmp_path)
    assert good.column_names == [*new_rows().column_names, names.PREDICTION, *names.LINEAGE]
    assert good.select(list(names.LINEAGE)).slice(0, 1).to_pylist() == [
        {
            "model_name": "flights",
            "model_version": "3",
            "run_id": "run",
            "data_fingerprint": "f" * 64,
            "scoring_run_id": "scoring",
            "scored_at": good["scored_at"][0].as_py(),
        }
    ]
    at = good["scored_at"].unique().to_pylist()
    assert [moment.replace(tzinfo=None) for moment in at] == [AT] and at[0].utcoffset() == timedelta(0)
    assert all(len(good[name].unique()) == 1 for name in names.LINEAGE)


def test_a_missing_target_is_no_reason_nor_is_its_absence(model):
    table = new_rows()
    good, bad = score_rows(model, table, LINEAGE)
    assert good["y"].null_count > 0
    without, _ = score_rows(model, table.drop(["y"]), LINEAGE)
    assert without["prediction"].equals(good["prediction"])


def test_a_column_that_the_model_needs_must_be_there(model):
    with pytest.raises(BadInput, match=r"The data lacks x2\. Received columns: key, x1, n, c, y"):
        score_rows(model, new_rows().drop(["x2"]), LINEAGE)


def test_csv_comes_out_typed_and_its_broken_lines_are_counted(model, tmp_path):
    table = new_rows()
    csv.write_csv(table, tmp_path / "in.csv")
    lines = (tmp_path / "in.csv").read_text().splitlines()
    lines[3] = "2,abc,1.0,2,a,3"  # x1 is no number
    lines.insert(5, "one,too,many,values,in,this,line")
    (tmp_path / "in.csv").write_text("\n".join(lines) + "\n")
    output = tmp_path / "out"
    output.mkdir()
    done = score(model, files.resolve(str(tmp_path / "in.csv")), LINEAGE, output, 1000)
    assert (done.rows_in, done.rows_scored, done.rows_quarantined) == (101, 96, 5)
    assert done.reasons["x1 is not a number"] == 1 and sum(done.reasons.values()) == 5
    good, bad = read(output)
    number = pa.float64()
    types = {name: good.schema.field(name).type for name in ("x1", "x2", "n", "c", "prediction")}
    text = pa.string()
    assert types == {"x1": text, "x2": number, "n": pa.int64(), "c": text, "prediction": number}
    assert bad["x1"].to_pylist()[0] == "abc"  # as it came
    broken = pq.read_table(output / names.QUARANTINE_OUTPUT / "lines.parquet").to_pylist()
    assert len(broken) == 1 and "too,many" in broken[0]["text"]
    columns, _ = model.score(table.filter(pa.array([i not in (2, 4, 50, 99) for i in range(100)])))
    np.testing.assert_allclose(good["prediction"].to_numpy(), columns["prediction"].to_numpy(), rtol=1e-5)


@pytest.mark.parametrize("name", [names.PREDICTION, names.REASON, "probability_x", *names.LINEAGE])
def test_reserved_columns_are_bad_input(model, tmp_path, name):
    with pytest.raises(BadInput, match=rf"reserved for predictions\. Received: {name}"):
        scored(model, new_rows().append_column(name, pa.array(range(100))), tmp_path)


def with_intervals(model, level: float | None = 0.8) -> RawColumnModel:
    kept = {"edges": [], "half_widths": {"0.8": [1.5]}}
    return RawColumnModel(model.preprocessor.with_target({"intervals": kept}), model.network, level)


def test_an_interval_comes_right_after_the_prediction(model, tmp_path):
    _, good, _ = scored(with_intervals(model), new_rows(), tmp_path)
    added = [names.PREDICTION, names.PREDICTION_LOW, names.PREDICTION_HIGH, *names.LINEAGE]
    assert good.column_names == [*new_rows().column_names, *added]
    low, middle, high = (good[name].to_numpy() for name in (added[1], added[0], added[2]))
    np.testing.assert_allclose([middle - low, high - middle], 1.5, rtol=1e-6)
    without, _ = score_rows(with_intervals(model, None), new_rows(), LINEAGE)
    assert names.PREDICTION_LOW not in without.column_names


def test_the_names_of_an_interval_are_reserved_only_with_it(model, tmp_path):
    table = new_rows().append_column("prediction_low", pa.array(range(100)))
    with pytest.raises(BadInput, match=r"reserved for predictions\. Received: prediction_low"):
        scored(with_intervals(model), table, tmp_path)
    (tmp_path / "again").mkdir()
    assert scored(model, table, tmp_path / "again")[0].rows_scored == 97


def test_a_level_that_the_model_does_not_keep_is_bad_input(model):
    with pytest.raises(BadInput, match=r"no intervals of level 0\.9: .* a model with the levels 0\.8"):
        with_intervals(model, 0.9)
    with pytest.raises(BadInput, match=r"no intervals of level 0\.9.* levels none"):
        RawColumnModel(model.preprocessor, model.network, 0.9)


def test_an_empty_quarantine_has_the_right_columns(model, tmp_path):
    done, good, bad = scored(model, tiny.regression_table(20, seed=4), tmp_path)
    assert (done.rows_quarantined, bad.num_rows) == (0, 0)
    assert bad.schema == tiny.regression_table(1).schema.append(pa.field(names.REASON, pa.string()))


def test_nothing_but_quarantine_still_has_the_predictions_columns(model, tmp_path):
    table = tiny.regression_table(5).set_column(0, "x1", pa.array([np.inf] * 5))
    done, good, bad = scored(model, table, tmp_path)
    assert (done.rows_scored, bad.num_rows, good.num_rows) == (0, 5, 0)
    assert good.column_names == [*table.column_names, names.PREDICTION, *names.LINEAGE]


def test_classes_have_a_probability_each(binary, tmp_path):
    config, dataset = binary
    made = RawColumnModel(dataset.preprocessor, build.build(dataset.preprocessor, config.model))
    good, _ = score_rows(made, tiny.binary_table(10).drop(["y"]), LINEAGE)
    assert good.column_names == ["x1", "x2", "prediction", "probability_3", "probability_7", *names.LINEAGE]
    assert set(good["prediction"].to_pylist()) <= {3, 7}


def test_parts_add_up_to_all_that_was_counted():
    one = Scored(5, 4, 1, Counter(a=1), Counter(c=2))
    assert one + Scored(7, 4, 3, Counter(a=2, b=1), Counter(c=1, d=1)) == Scored(
        12, 8, 4, Counter(a=3, b=1), Counter(c=3, d=1)
    )


@pytest.mark.parametrize("sizes", [(3, 1), (0, 1), (1, 0, 1), (0,), (0, 0)])
def test_tables_of_one_row_and_of_none_are_scored(model, tmp_path, sizes):
    tables = [new_rows(100).slice(10, rows) for rows in sizes]
    done = score_tables(model, tables, LINEAGE, {}, tmp_path / "good", tmp_path / "bad")
    written = pq.read_table(tmp_path / "good")
    assert (done.rows_in, done.rows_scored, written.num_rows) == (sum(sizes),) * 3
    assert names.PREDICTION in written.column_names and (tmp_path / "bad").is_file()


def test_a_lost_row_raises():
    with pytest.raises(BatonError, match="Rows in are not rows scored plus rows quarantined"):
        Scored(3, 1, 1).check()


class Logged:
    """A run that keeps nothing."""

    id = "scoring"

    def json(self, *given): ...

    metrics = params = json


@pytest.mark.parametrize(("done", "lines"), [
    (Scored(10, 10), [("INFO", f"scored 10 of 10 rows into {OUT}")]),
    (Scored(2000, 1500, 500, {"a": 9, "b": 400, "c": 80, "d": 6, "e": 5}),
     [("INFO", f"scored 1,500 of 2,000 rows into {OUT}"),
      ("INFO", "quarantined 500 of 2,000 rows: 400 b, 80 c, 9 a, 11 for other reasons")]),
    (Scored(5, 4, 1, {"x is infinite": 1}, {"c": 3, "d": 2}),
     [("INFO", f"scored 4 of 5 rows into {OUT}"), ("INFO", "quarantined 1 of 5 rows: 1 x is infinite"),
      ("WARNING", "75.0 % of the cells of c (3) are categories that the model does not know"),
      ("INFO", "50.0 % of the cells of d (2) are categories that the model does not know")]),
    (Scored(1, 0, 1, {"x is infinite": 1}),
     [("INFO", f"scored 0 of 1 rows into {OUT}"), ("INFO", "quarantined 1 of 1 rows: 1 x is infinite")]),
])  # fmt: skip
def test_the_closing_lines_tell_what_was_quarantined_and_what_is_new(done, lines, caplog):
    settings = BatchInfer(source="new.csv", output="out")
    with caplog.at_level("INFO", "baton"):
        batch_scoring.report(Logged(), batch_scoring.summarise(tiny.config(), settings, done, LINEAGE))
    assert [(record.levelname, record.getMessage()) for record in caplog.records] == lines


def test_what_is_left_out_of_a_folder_of_pictures_is_said_before_it_is_scored(tmp_path, caplog, monkeypatch):
    for name in ("1.png", "2.png", ".DS_Store"):
        (tmp_path / name).write_bytes(b"-")
    monkeypatch.setattr(batch_scoring.versions, "downloaded", lambda uri, tags: 1 / 0)
    settings, version = BatchInfer(source=str(tmp_path), output="out"), SimpleNamespace(name="m", version=1, tags={})
    with caplog.at_level("INFO", "baton"), pytest.raises(ZeroDivisionError):
        batch_scoring.score(tiny.config(), settings, version, files.resolve(str(tmp_path)), LINEAGE, tmp_path)
    assert [record.getMessage() for record in caplog.records] == [
        "Pictures: 1 files were left out: those that systems leave behind, as .DS_Store and Thumbs.db."
    ]

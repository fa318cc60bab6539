"""Pictures from their files to predictions: the same pixels on every path, and nothing that one file can end."""

import json
from types import SimpleNamespace

import numpy as np
import odd_pictures as odd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import tiny

from baton.data.dataset import Dataset
from baton.data.feed import Feed
from baton.data.images import Decoder
from baton.data.preprocessing import Preprocessor
from baton.data.sources import files
from baton.inspection import crossfit, explanation, label_audit
from baton.networks import build, prediction
from baton.serving import scoring
from baton.serving.layout import DATA
from baton.serving.raw_columns import RawColumnModel
from baton.serving.raw_model import RawColumns

SIZE = {"height": 12, "width": 10, "channels": 3}


def odd_table(copies: int = 8) -> pa.Table:
    """Every odd picture several times, each time with another class, and those that cannot be used."""
    cells = [cell for cell in odd.ODD.values() for _ in range(copies)] + list(odd.UNUSABLE.values())
    labels = [str(number % 2) for number in range(len(cells))]
    return pa.table({"image": pa.array(cells, pa.binary()), "label": labels, "part": parts_of(cells)})


def parts_of(cells: list[bytes]) -> list[str]:
    return [("train", "train", "val", "test")[number % 4] for number in range(len(cells))]


@pytest.fixture(scope="module")
def odd_dataset(tmp_path_factory) -> tuple:
    data = {"image_size": SIZE, "split_column": "part"}
    return tiny.build(odd_table(), tmp_path_factory.mktemp("odd"), "image", data=data, **{
        "register": {"explain": {"rows": 24, "background": 5}, "audit": {"folds": 2}}
    })  # fmt: skip


def as_set(pixels: np.ndarray) -> set[bytes]:
    assert pixels.dtype == np.uint8 and pixels.shape[1:] == (12, 10, 3)
    return {row.tobytes() for row in pixels}


def test_every_path_sees_the_same_pixels_bit_by_bit(odd_dataset, monkeypatch):
    config, dataset = odd_dataset
    assert dataset.rows["quarantined"] == len(odd.UNUSABLE)
    expected = {Decoder((12, 10, 3)).decode(cell).tobytes() for cell in odd.ODD.values()}
    seen: dict[str, set[bytes]] = {}
    model = RawColumnModel(dataset.preprocessor, build.build(dataset.preprocessor, config.model))

    feed = Feed(dataset, "train", 16, seed=1)
    seen["training"] = as_set(np.concatenate([inputs["image"].numpy()[weight.numpy() > 0]
                                              for inputs, _, weight in feed.stream().unbatch()]))  # fmt: skip
    seen["audit"] = as_set(next(crossfit.LearningRows(dataset).pieces())[1]["image"])
    explained = explanation.explain(model, dataset.raw_test(), config.register_.explain, 1)
    seen["explanation"] = as_set(explained.pixels)
    monkeypatch.setattr(prediction, "predict", lambda network, rows: [given.append(rows["image"]), of(rows)][1])
    given, of = [], lambda rows: np.full((len(rows["image"]), 1), 0.5, np.float32)
    model.score(odd_table(1))
    seen["scoring"] = as_set(np.concatenate(given))
    given.clear()
    model.evaluate(dataset.raw_test())
    seen["gate"] = as_set(np.concatenate(given))
    assert seen["scoring"] == seen["training"] == expected
    for path, pixels in seen.items():
        assert pixels and pixels <= expected, path


def test_the_audits_pictures_are_those_pixels(odd_dataset, monkeypatch):
    config, dataset = odd_dataset
    monkeypatch.setattr(crossfit, "out_of_fold", lambda config, preprocessor, rows, *rest: crossfit.OutOfFold(
        np.full((len(rows.targets), 2), 0.5), np.full((dataset.rows["test"], 2), 0.5), 1, 1))  # fmt: skip
    audit = label_audit.LabelAudit(config, dataset, config, dataset.preprocessor)
    audit.suspects = audit.suspects.__class__(
        np.arange(len(audit.targets)), *[getattr(audit.suspects, name) for name in list(vars(audit.suspects))[1:]]
    )
    expected = {Decoder((12, 10, 3)).decode(cell).tobytes() for cell in odd.ODD.values()}
    assert as_set(np.stack(audit.pictures(np.arange(len(audit.targets))))) == expected


def test_one_bad_picture_is_null_alone_in_a_served_model(odd_dataset, tmp_path):
    config, dataset = odd_dataset
    network = build.build(dataset.preprocessor, config.model)
    RawColumnModel(dataset.preprocessor, network).save(tmp_path / DATA)
    served = RawColumns()
    served.load_context(SimpleNamespace(artifacts={DATA: tmp_path / DATA}))
    cells = [odd.ODD["rle bmp"], odd.UNUSABLE["half a png"], odd.ODD["animated gif"]]
    answers = served.predict(None, pa.table({"image": cells}).to_pandas())
    direct, reasons = RawColumnModel(dataset.preprocessor, network).score(pa.table({"image": cells}))
    assert reasons.to_pylist() == [None, "image cannot be decoded as an image", None]
    assert answers["probability_1"].isna().tolist() == [False, True, False]
    np.testing.assert_array_equal(answers["probability_1"].dropna(), direct["probability_1"].drop_null())


def test_pictures_are_scored_a_part_at_a_time(images, monkeypatch):
    config, dataset = images
    model = RawColumnModel(dataset.preprocessor, build.build(dataset.preprocessor, config.model))
    raw = dataset.raw_test()
    whole, targets_and_output = model.score(raw)[0], model.evaluate(raw)
    monkeypatch.setattr("baton.data.row_parts.PIXELS_AT_ONCE", 4 * 8 * 8)
    parts = model.score(raw)[0]
    assert {name: column.to_pylist() for name, column in parts.items()} == {
        name: pytest.approx(column.to_pylist(), abs=1e-6) if name != "prediction" else column.to_pylist()
        for name, column in whole.items()
    }
    np.testing.assert_allclose(model.evaluate(raw)[1], targets_and_output[1], atol=1e-6)
    np.testing.assert_allclose(model.answers(raw, model.preprocessor), targets_and_output[1], atol=1e-6)
    assert Dataset.open(dataset.folder).rows == dataset.rows


def test_a_table_of_paths_is_scored_with_its_columns_as_they_came(odd_dataset, tmp_path):
    config, dataset = odd_dataset
    for name in ("webp", "half a png"):
        (tmp_path / f"{name}.jpg").write_bytes({**odd.ODD, **odd.UNUSABLE}[name])
    (tmp_path / "new.csv").write_text("image,code\nwebp.jpg,007\nhalf a png.jpg,1\n../x.jpg,2\n")
    spec = json.loads(json.dumps(dataset.preprocessor.spec).replace('"image"', '"image_bytes"'))
    spec["columns"][0]["kind"] = spec["features"]["image_bytes"]["kind"] = spec["encoded"][0]["kind"] = "image"
    model = RawColumnModel(Preprocessor(spec), build.build(dataset.preprocessor, config.model))
    source = files.resolve(
        str(tmp_path / "new.csv"), files.Reading.of(config.data.model_copy(update={"image_column": "image"}))
    )
    (tmp_path / "out").mkdir()
    lineage = scoring.Lineage("m", "1", "r", "f", "s")
    done = scoring.score(model, source, lineage, tmp_path / "out", 1000)
    assert (done.rows_in, done.rows_scored, done.rows_quarantined) == (3, 1, 2)
    assert done.reasons == {
        "image_bytes cannot be decoded as an image": 1, "image names a file outside the table's folder": 1
    }  # fmt: skip
    (row,) = pq.read_table(tmp_path / "out" / scoring.PART).to_pylist()
    assert (row["image"], row["code"]) == ("webp.jpg", "007") and row["probability_1"] is not None

"""Where a model's own splits put the rows of another dataset."""

import numpy as np
import pyarrow as pa
import pytest
import tiny

from baton.data import overlap
from baton.data.preprocessing import Preprocessor

ROWS = 1200


def table(rows: int = ROWS) -> pa.Table:
    rng = np.random.default_rng(3)
    return pa.table({
        "x": rng.normal(size=rows), "n": rng.integers(0, 10**6, rows), "site": rng.choice(list("abcdefghij"), rows),
        "year": rng.integers(2000, 2020, rows), "part": rng.choice(["train", "dev", "test"], rows),
        "y": rng.choice(["p", "q", "r"], rows),
    })  # fmt: skip


def dataset(folder, rows: pa.Table, **data):
    folder.mkdir(exist_ok=True)
    return tiny.build(rows, folder, "multiclass", data=data)[1]


@pytest.mark.parametrize(
    "options", [{}, {"id": ["n"]}, {"group": "site"}, {"time": "year"}, {"split_column": "part"}], ids=str
)
def test_the_test_rows_of_the_same_data_are_test_rows(tmp_path, options):
    made = dataset(tmp_path, table(), **options)
    found = overlap.places(made.raw_test(), made.preprocessor)
    assert (found == overlap.TEST).all() and len(found) == made.rows["test"]


def test_a_new_column_moves_rows_and_that_is_seen(tmp_path):
    rng = np.random.default_rng(4)
    before = dataset(tmp_path / "before", table())
    after = dataset(tmp_path / "after", table().append_column("new", pa.array(rng.normal(size=ROWS))))
    counts = np.bincount(overlap.places(after.raw_test(), before.preprocessor), minlength=3)
    assert np.abs(counts / counts.sum() - [0.8, 0.1, 0.1]).max() < 0.1
    assert overlap.places(before.raw_test(), after.preprocessor) is None, "a column of the recipe is gone"


def test_with_an_id_a_new_column_moves_none(tmp_path):
    before = dataset(tmp_path / "before", table(), id=["n"])
    more = table().append_column("new", pa.array(np.random.default_rng(4).normal(size=ROWS)))
    after = dataset(tmp_path / "after", more, id=["n"])
    assert (overlap.places(after.raw_test(), before.preprocessor) == overlap.TEST).all()


def test_a_model_of_before_keeps_no_recipe(tmp_path):
    made = dataset(tmp_path, table())
    spec = {key: value for key, value in made.preprocessor.spec.items() if key != "split"}
    assert overlap.places(made.raw_test(), Preprocessor(spec)) is None


def test_rows_that_were_spread_count_as_test_rows(tmp_path):
    few = table().select(["part", "y"])
    made = dataset(tmp_path, few)
    assert (overlap.places(few, made.preprocessor) == overlap.TEST).all()

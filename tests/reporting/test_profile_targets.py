"""The figure of a target shows evenly spaced rows where they are many, and says of how many."""

from collections import Counter

import numpy as np
import pyarrow.parquet as pq
import pytest
import tiny

from baton.reporting import profile


@pytest.mark.parametrize("most", [7, 100, 10_000])
def test_evenly_spaced_rows_of_all_files_are_drawn(tmp_path, monkeypatch, most):
    config, dataset = tiny.build(tiny.regression_table(600), tmp_path, "regression")
    monkeypatch.setattr(profile, "MAX_DRAWN", most)
    column, rows = dataset.preprocessor.target_encoded, dataset.rows["train"]
    whole = np.concatenate([pq.read_table(file)[column].to_numpy() for file in dataset.files("train")])
    step = -(-rows // most)
    np.testing.assert_array_equal(profile._targets(dataset), whole[::step])
    figure = profile.of_dataset(config, dataset, Counter())[1]["target"]
    texts = " ".join(text.get_text() for text in figure.findobj(lambda one: hasattr(one, "get_text")))
    shown = len(whole[::step])
    assert (f"{shown:,} of {rows:,} rows" if step > 1 else f"{rows:,} rows") in texts

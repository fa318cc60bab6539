"""Which rows are looked at."""

import numpy as np

from baton.inspection import examples


def test_the_surest_of_each_group_come_first():
    groups = np.array([0, 0, 0, 1, 1, 2, 2])
    certainty = np.array([0.9, 0.99, 0.95, 0.6, 0.7, 0.8, 1.0])
    rows = np.array([0, 1, 2, 3, 4, 5])
    assert examples.surest(rows, groups, certainty, 10).tolist() == [1, 5, 4, 2, 3, 0]
    assert examples.surest(rows, groups, certainty, 2).tolist() == [1, 5]
    assert examples.surest(rows[:0], groups, certainty, 2).tolist() == []


def test_pixels_are_those_of_the_rows(images):
    _, dataset = images
    raw, preprocessor = dataset.raw_test(), dataset.preprocessor
    pixels = examples.pixels_of(raw, preprocessor, np.array([5, 2, 5]))
    assert sorted(pixels) == [2, 5]
    typed, _, _ = examples.usable(raw, preprocessor)
    everything = preprocessor.blocks(preprocessor.encode(typed))["image"]
    np.testing.assert_array_equal(np.stack([pixels[5], pixels[2]]), everything[[5, 2]])

"""Which classes are mixed up most often, with pictures."""

import json

import numpy as np
import pytest
from mixed import said

from baton.inspection import confusions, examples
from baton.reporting.figures import confusions as figures


def test_the_most_frequent_pairs_come_first():
    targets = np.array([0, 0, 0, 1, 1, 2, 2, 2, 2])
    predicted = np.array([1, 1, 0, 1, 0, 0, 0, 0, 2])
    assert confusions.frequent_pairs(targets, predicted, 9) == [(2, 0, 3), (0, 1, 2), (1, 0, 1)]
    assert confusions.frequent_pairs(targets, predicted, 1) == [(2, 0, 3)]
    assert confusions.frequent_pairs(targets, targets, 9) == []


@pytest.fixture(scope="module")
def answered(images) -> tuple:
    """The test rows, and made-up answers: `bottom` is taken for `even` but once, one `top` for `bottom`."""
    _, dataset = images
    raw, preprocessor = dataset.raw_test(), dataset.preprocessor
    _, _, targets = examples.usable(raw, preprocessor)
    predicted = targets.copy()
    bottom, even, top = (preprocessor.classes.index(name) for name in ("bottom", "even", "top"))
    predicted[np.flatnonzero(targets == bottom)[1:]] = even
    predicted[np.flatnonzero(targets == top)[0]] = bottom
    sure = np.linspace(0.5, 0.9, len(targets))[:, None]
    return preprocessor, raw, targets, predicted, np.where(np.eye(3)[predicted] > 0, sure, (1 - sure) / 2)


def test_pictures_are_of_the_pair_and_of_both_classes(answered):
    preprocessor, raw, targets, predicted, predictions = answered
    first, second = confusions.confusions(preprocessor, raw, targets, predictions)
    bottoms = int((targets == preprocessor.classes.index("bottom")).sum())
    assert (first.actual, first.predicted, first.count, first.total) == ("bottom", "even", bottoms - 1, bottoms)
    assert (second.actual, second.predicted, second.count) == ("top", "bottom", 1)
    assert str(first) == f"bottom taken for even ({bottoms - 1} of {bottoms})"
    index = preprocessor.classes.index
    parts = [(first.mistaken, "bottom", "even"), (first.right[0], "bottom", "bottom"), (first.right[1], "even", "even")]
    for pictures, actual, taken_for in parts:
        rows = [picture.row for picture in pictures]
        assert rows and {int(target) for target in targets[rows]} == {index(actual)}
        assert {int(other) for other in predicted[rows]} == {index(taken_for)}
        pixels = examples.pixels_of(raw, preprocessor, np.array(rows))
        for picture in pictures:
            np.testing.assert_array_equal(picture.pixels, pixels[picture.row])
    chances = [picture.probability for picture in first.mistaken]
    assert chances == sorted(chances, reverse=True) and len(chances) == min(bottoms - 1, confusions.MAX_MISTAKEN)
    assert chances[0] == predictions[(targets == index("bottom")) & (predicted == index("even"))].max()


def test_the_figure_and_the_numbers_name_both_classes(answered):
    preprocessor, raw, targets, _, predictions = answered
    mixed = confusions.confusions(preprocessor, raw, targets, predictions)
    (figure,) = figures.draw(mixed).values()
    texts = said(figure)
    assert f"bottom taken for even: {mixed[0].count} of {mixed[0].total}" in texts and "right: even" in texts
    assert f"row {mixed[0].mistaken[0].row}, {mixed[0].mistaken[0].probability:.0%}" in texts
    plain = json.loads(json.dumps(confusions.to_dict(mixed), allow_nan=False))
    assert [(c["actual"], c["predicted"], c["rows"], c["of"]) for c in plain] == [
        (c.actual, c.predicted, c.count, c.total) for c in mixed
    ]
    assert [e["row"] for e in plain[0]["examples"]] == [picture.row for picture in mixed[0].mistaken]


def test_where_nothing_is_mixed_up_nothing_is_drawn(answered):
    preprocessor, raw, targets, _, _ = answered
    assert confusions.confusions(preprocessor, raw, targets, np.eye(3)[targets]) == []
    assert figures.draw([]) == {}


def test_a_class_that_is_never_right_is_named_so(answered):
    preprocessor, raw, targets, _, _ = answered
    mixed = confusions.confusions(preprocessor, raw, targets, np.eye(3)[np.zeros_like(targets)])
    (figure,) = figures.draw(mixed).values()
    assert mixed[0].right[0] == [] and f"right: {mixed[0].actual}, none" in said(figure)

"""Suspected pictures beside the nearest of the class that is suggested: which they are, and how they are shown."""

from dataclasses import replace

import logged
import numpy as np
import pytest

from baton.data.feed import Feed
from baton.inspection import label_gallery
from baton.inspection.crossfit import LearningRows, OutOfFold
from baton.inspection.label_audit import LabelAudit, UsableRows
from baton.inspection.label_errors import Suspects
from baton.networks.penultimate import directions, penultimate
from baton.networks.prediction import predict
from baton.reporting.figures import label_audit as figures

LONG = 600.0  # seconds


@pytest.fixture(scope="module")
def audited(images):
    """An audit of pictures in which three rows, of train and of test, are suspected of the class 1; and a network."""
    config, dataset = images
    audit = LabelAudit.__new__(LabelAudit)
    audit.preprocessor, audit.rows = dataset.preprocessor, LearningRows(dataset)
    audit.test = UsableRows(dataset.raw_rows(), dataset.preprocessor)
    audit.targets = np.concatenate([audit.rows.targets, audit.test.targets])
    other = np.flatnonzero(audit.targets != 1)
    rows = np.array([other[-1], other[0], other[5]])
    audit.suspects = Suspects(rows, np.ones(3, int), np.full(3, 0.1), np.full(3, 0.9), 0.02, "by hand")
    audit.found, audit.folds, audit.seconds = OutOfFold(np.zeros(0), np.zeros(0), 9, 1), 2, 1.0
    return dataset, audit, logged.untrained(config, dataset).network


def features_of_all(dataset, network) -> np.ndarray:
    pixels = [Feed(dataset, split, 512).arrays()["image"] for split in ("train", "validation", "test")]
    return directions(predict(penultimate(network), {"image": np.concatenate(pixels)}))


def test_the_neighbour_is_the_nearest_of_the_suggested_class(audited):
    dataset, audit, network = audited
    found = label_gallery.neighbours(audit, network, np.arange(3), LONG, seed=0)
    seen = features_of_all(dataset, network)
    mine = np.flatnonzero(audit.targets == 1)
    for suspect, neighbour in zip(audit.suspects.rows, found, strict=True):
        far = np.linalg.norm(seen[mine] - seen[suspect], axis=1)
        assert neighbour.distance == pytest.approx(far.min(), abs=1e-5)
        splits, numbers = audit.places(mine)
        place = int(np.flatnonzero((splits == neighbour.split) & (numbers == neighbour.row))[0])
        assert far[place] == pytest.approx(far.min(), abs=1e-5)
        assert (audit.inputs(mine[[place]])["image"][0] == neighbour.pixels).all()


def test_a_suspect_is_nobodys_neighbour_and_a_class_without_others_has_none(audited):
    _, audit, network = audited
    before = audit.suspects
    mine = np.flatnonzero(audit.targets == 1)
    spared, rest = mine[0], mine[1:]
    rows = np.concatenate([before.rows[:1], rest])
    audit.suspects = replace(before, rows=rows, suggested=np.where(np.arange(len(rows)) == 0, 1, 0))
    try:
        found = label_gallery.neighbours(audit, network, np.arange(1), LONG, seed=0)[0]
        assert (found.split, found.row) == tuple(part[0] for part in audit.places(mine[:1]))
        rows = np.concatenate([rows, [spared]])
        audit.suspects = replace(before, rows=rows, suggested=np.where(np.arange(len(rows)) == 0, 1, 0))
        assert label_gallery.neighbours(audit, network, np.arange(1), LONG, seed=0) == [None]
    finally:
        audit.suspects = before


def test_no_more_pictures_are_compared_than_there_is_time_for(audited, monkeypatch):
    _, audit, network = audited
    asked: list[int] = []
    monkeypatch.setattr(label_gallery, "picture_rows", lambda shape: 5)
    inputs = audit.inputs
    monkeypatch.setattr(audit, "inputs", lambda numbers: asked.append(len(numbers)) or inputs(numbers))
    assert None not in label_gallery.neighbours(audit, network, np.arange(3), 0.0, seed=0)
    assert asked == [3, 5, 3]  # suspects, one part of the others, their neighbours


def test_rows_come_in_the_order_in_which_they_are_asked_for(audited):
    dataset, audit, _ = audited
    numbers = np.array([len(audit.targets) - 1, 3, 0, 3])
    whole = np.concatenate([Feed(dataset, s, 512).arrays()["image"] for s in ("train", "validation", "test")])
    assert (audit.inputs(numbers)["image"] == whole[numbers]).all()


def test_the_figure_shows_each_suspect_beside_its_neighbour(audited):
    _, audit, network = audited
    table = audit.table()
    told = audit.to_dict(table, [], "log_loss")
    found = label_gallery.neighbours(audit, network, np.arange(3), LONG, seed=0)
    told |= label_gallery.to_dict(told["shown"], table, np.arange(3), found)
    assert [row["neighbour"] for row in told["shown"]] == [neighbour.to_dict() for neighbour in found]
    beside = [found[0].pixels, None, None]
    drawn = figures.draw(told, table, audit.preprocessor.classes, audit.pictures(np.arange(3)), beside)[
        "audit_suspects"
    ]
    pictured = [axis for axis in drawn.axes if axis.images]
    assert len(pictured) == 4
    titles = [axis.get_title(loc="left").strip() for axis in pictured]
    assert titles[1] == "even" and titles[0].endswith("→ even 90%")
    below = [axis.texts[0].get_text() for axis in pictured]
    assert below[0] == f"test {told['shown'][0]['row']}" and below[1] == f"{found[0].split} {found[0].row}"


def test_a_class_of_many_suspects_leaves_room_for_rare_ones():
    given = np.array([0] * 30 + [2, 0, 1, 2])
    chosen = label_gallery.by_turns(given, 5)
    assert chosen.tolist() == [0, 1, 30, 32, 33]
    assert label_gallery.by_turns(given, 40).tolist() == list(range(34))

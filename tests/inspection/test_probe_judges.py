"""Labels of few pictures judged by a frozen backbone: heads that other folds taught, within the seconds."""

import backbone
import numpy as np
import pytest
import tiny

from baton.config.schema import Audit
from baton.inspection import crossfit, probe_judges
from baton.inspection.crossfit import LearningRows, out_of_fold


@pytest.fixture(scope="module")
def striped(tmp_path_factory):
    """A config whose backbone knows such pictures, 90 of them to be judged, and what they show."""
    home = tmp_path_factory.mktemp("striped")
    model = {"backbone": str(backbone.pretrained(home / "base.keras"))}
    config, dataset = tiny.build(backbone.table(120, 3), home, "image", model=model, train={"epochs": 2})
    return config, dataset


def judged(config, dataset, seconds):
    rows, asked = LearningRows(dataset), []

    def judge(network):
        asked.append([weight.numpy() for weight in network.get_layer("head").weights])
        return np.zeros((1, 3), np.float32)

    found = out_of_fold(config, dataset.preprocessor, rows, Audit(folds=3, seconds=seconds), judge)
    return (found.outputs.argmax(axis=1) == rows.targets).mean(), asked


def test_heads_of_a_backbone_tell_rows_that_they_have_not_seen(striped, monkeypatch):
    trained = []
    monkeypatch.setattr(crossfit, "_trained", lambda *given: trained.append(given))
    right, heads = judged(*striped, seconds=60)
    assert right > 0.8 and not trained  # such a base tells nine in ten
    assert len(heads) == 3 and not np.allclose(heads[0][0], heads[1][0])  # each fold has its own


def test_where_the_backbone_takes_too_long_the_default_network_judges(striped, monkeypatch, caplog):
    monkeypatch.setattr(probe_judges.ProbeJudges, "seconds", lambda judges: 10.0)
    with caplog.at_level("INFO", "baton"):
        _, heads = judged(*striped, seconds=8)
    assert "the backbone would take" in caplog.text and "the default network judges" in caplog.text
    assert [kernel.shape for kernel, _ in heads] == [(128, 3)] * 3  # the small network's, not the backbone's

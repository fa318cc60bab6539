"""Which candidate is chosen, and what a version tells of itself."""

from types import SimpleNamespace

import pytest
import tiny

from baton import names
from baton.errors import BadInput
from baton.registry import registration
from baton.registry import store as registry_store
from baton.tracking import runs


def candidate(run_id: str, fingerprint: str = "f") -> SimpleNamespace:
    tags = {names.TAG_STEP: "train", names.TAG_FINGERPRINT: fingerprint}
    info = SimpleNamespace(run_id=run_id, run_name="train", status="FINISHED")
    return SimpleNamespace(info=info, data=SimpleNamespace(tags=tags))


@pytest.fixture
def store(monkeypatch):
    """Runs by ID with the loss that each has on validation."""
    held: dict[str, tuple[SimpleNamespace, float]] = {}
    monkeypatch.setattr(runs, "of_steps", lambda run_id, steps, parameter: held[run_id][0])
    monkeypatch.setattr(
        runs, "artifact", lambda run, name: {"validation": {"rmse": held[run.info.run_id][1], "mae": 1.0}}
    )
    return held


def test_the_least_validation_loss_is_chosen_and_one_that_is_not_finite_never(store):
    store |= {"a": (candidate("a"), 2.0), "b": (candidate("b"), 1.0), "c": (candidate("c"), float("nan"))}
    chosen, validation = registration.choose(tiny.config(), " a, b ,c,")
    assert chosen.info.run_id == "b" and validation["rmse"] == 1.0


def test_candidates_of_two_datasets_cannot_be_compared(store):
    store |= {"a": (candidate("a", "1" * 20), 2.0), "b": (candidate("b", "2" * 20), 1.0)}
    with pytest.raises(BadInput, match="on different rows .* Received: the fingerprints 111111111111, 222222222222"):
        registration.choose(tiny.config(), "a,b")


def test_candidates_are_of_the_metric_that_they_are_judged_by(store):
    store |= {"a": (candidate("a"), 2.0)}
    by_errors = tiny.config(evaluation={"primary_metric": "mae"})
    with pytest.raises(BadInput, match="is mae, and the candidate a was trained by another: .* trained by rmse"):
        registration.choose(by_errors, "a")


@pytest.mark.parametrize("given", ["", " , "])
def test_no_candidate_at_all_is_bad_input(given):
    with pytest.raises(BadInput, match="candidate_run_ids is missing"):
        registration.choose(tiny.config(), given)


def test_a_verdict_fits_its_tag(monkeypatch):
    tags = registration.verdict_tags("refused", ["x" * 6000])
    for limited, most in ((False, 5000), (True, 1000)):
        monkeypatch.setattr(registry_store, "is_limited", lambda limited=limited: limited)
        written = dict(registry_store.written(*tag) for tag in tags.items())
        assert sorted(map(len, written.values())) == [len("refused"), most]


def test_a_version_tells_of_which_days_its_data_are(flights):
    chosen = SimpleNamespace(info=SimpleNamespace(start_time=1_800_000_000_000))
    told = registration.data_text(flights.dataset, chosen)
    assert told == "1,974 rows; time_hour from 2013-01-01 to 2013-01-04; trained on 2027-01-15"

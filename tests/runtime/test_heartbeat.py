"""Signs of life: who waits for them notices a hang, and neither a slow start nor a rest of its own."""

import threading
import time

import pytest

from baton.runtime import heartbeat


@pytest.fixture
def clock(monkeypatch):
    """What the time is, by `clock[0]`."""
    now = [1000.0]
    monkeypatch.setattr(time, "monotonic", lambda: now[0])
    monkeypatch.setattr(heartbeat, "_last", 0.0)
    return now


def looks(watch: heartbeat.Watch, clock: list[float], seconds: float) -> bool:
    """Whether it hangs after so many seconds, with a look a second."""
    for _ in range(int(seconds)):
        clock[0] += 1
        hangs = watch.hangs()
    return hangs


def test_the_first_sign_may_take_longer_than_each_other_one(tmp_path, clock, monkeypatch):
    monkeypatch.setattr(heartbeat, "_file", tmp_path / "beat")
    watch = heartbeat.Watch(tmp_path / "beat", 30, 10)
    assert not looks(watch, clock, 30)
    heartbeat.beat()
    assert not looks(watch, clock, 11)  # the sign was seen by the first look
    assert looks(watch, clock, 1)
    assert watch.limit == 10


def test_a_process_that_never_gives_a_sign_hangs(tmp_path, clock):
    assert looks(heartbeat.Watch(tmp_path / "beat", 30, 10), clock, 31)


def test_a_rest_of_the_one_who_looks_is_no_silence(tmp_path, clock):
    """A machine that slept, or a container that was paused, had nobody work."""
    watch = heartbeat.Watch(tmp_path / "beat", 10, 10)
    assert not looks(watch, clock, 5)
    clock[0] += 3600
    assert not watch.hangs()


def test_signs_come_once_in_a_period_at_most_and_a_disk_that_takes_none_ends_nothing(tmp_path, clock, monkeypatch):
    monkeypatch.setattr(heartbeat, "_file", tmp_path / "gone" / "beat")
    clock[0] += 10
    heartbeat.beat()
    (tmp_path / "gone").mkdir()
    heartbeat.beat()
    assert not (tmp_path / "gone" / "beat").exists()
    clock[0] += heartbeat.PERIOD_S
    heartbeat.beat()
    assert (tmp_path / "gone" / "beat").exists()


def test_what_hangs_is_ended_and_what_works_is_not(tmp_path, monkeypatch):
    monkeypatch.setattr(heartbeat, "LOOK_S", 0.02)
    ended = threading.Event()
    with heartbeat.watched(heartbeat.Watch(tmp_path / "beat", 0.1, 0.1), ended.set):
        assert ended.wait(60)
    ended.clear()
    with heartbeat.watched(heartbeat.Watch(tmp_path / "beat", 1000, 1000), ended.set):
        assert not ended.wait(0.3)

"""Functions mapped in threads: answers in order, and the first fault."""

import threading

import pytest

from baton.runtime.threads import mapped, together


def test_answers_come_in_the_order_of_their_items():
    first = threading.Event()

    def answer(number: int) -> int:
        if number == 0:
            first.wait(5)  # the last to end
        else:
            first.set()
        return number * 10

    assert mapped(answer, range(5)) == [0, 10, 20, 30, 40]


def test_the_fault_of_the_first_item_that_fails_is_raised():
    def fail(number: int) -> int:
        if number:
            raise ValueError(number)
        return number

    with pytest.raises(ValueError, match="1"):
        mapped(fail, [0, 1, 2])


def test_tasks_are_done_together():
    both = threading.Barrier(2, timeout=5)
    assert len(together(both.wait, both.wait)) == 2

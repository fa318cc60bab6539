"""Functions mapped in threads: answers in order, and the first fault."""

import threading

import pytest

from baton.runtime.threads import ahead, mapped, together


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


def test_the_next_item_is_computed_while_one_is_used():
    begun = [threading.Event() for _ in range(3)]

    def items():
        for number, event in enumerate(begun):
            event.set()
            yield number
        raise ValueError("the third")

    used = []
    with pytest.raises(ValueError, match="the third"):
        for number in ahead(items()):
            used.append(number)
            assert number == 2 or begun[number + 1].wait(5)
    assert used == [0, 1, 2]

"""Refused tokens are counted, and told at most once a second."""

from __future__ import annotations

import threading
import time
import tracemalloc

import pytest

from eventvault.access.refusals import MOST_ADDRESSES, RefusalCounter, Refusals
from tests import processes


def test_the_first_one_is_told_at_once_and_those_that_follow_together() -> None:
    told: list[Refusals] = []
    at_once = threading.Event()

    def tell(refusals: Refusals) -> None:
        told.append(refusals)
        assert at_once.wait(30)

    counter = RefusalCounter(tell, 0.01)
    counter.note("198.51.100.4", blocked=False)
    processes.wait_until(lambda: bool(told), "nothing was told")
    for _ in range(9):
        counter.note("198.51.100.4", blocked=False)
    counter.note("198.51.100.5", blocked=True)
    at_once.set()
    processes.wait_until(lambda: len(told) == 2, "the others were not told")
    assert told == [
        Refusals(1, 0, {"198.51.100.4": 1}),
        Refusals(10, 1, {"198.51.100.4": 9, "198.51.100.5": 1}),
    ]


@pytest.mark.slow
def test_ten_thousand_in_a_second_are_told_in_few_calls_and_take_no_memory() -> None:
    told: list[Refusals] = []
    counter = RefusalCounter(told.append, 0.2)
    tracemalloc.start()
    try:
        began = time.monotonic()
        for number in range(10_000):
            counter.note(f"10.0.{number >> 8}.{number & 255}", blocked=False)
        held, _ = tracemalloc.get_traced_memory()
        seconds = time.monotonic() - began
    finally:
        tracemalloc.stop()
    processes.wait_until(lambda: sum(each.count for each in told) == 10_000, "some were not told")
    assert held < 200_000
    assert len(told) <= 3 + seconds / 0.2
    assert all(len(each.addresses) <= MOST_ADDRESSES for each in told)


def test_an_error_ends_nothing(caplog: pytest.LogCaptureFixture) -> None:
    told: list[Refusals] = []

    def tell(refusals: Refusals) -> None:
        told.append(refusals)
        raise ValueError("no store")

    counter = RefusalCounter(tell, 0.01)
    for count in (1, 2, 3):
        counter.note("", blocked=False)
        processes.wait_until(lambda count=count: len(told) == count, "it was not told")
    assert "1 wrong token was refused, which could not be reported: no store" in caplog.text


def test_one_and_several_are_told_in_their_own_words() -> None:
    assert [str(Refusals(count, 0, {})) for count in (1, 2)] == [
        "1 wrong token was refused",
        "2 wrong tokens were refused",
    ]


def test_its_thread_ends_when_no_more_come() -> None:
    counter = RefusalCounter(lambda refusals: None, 0.01)
    counter.note("", blocked=False)
    processes.wait_until(lambda: not counter._telling, "the thread goes on")

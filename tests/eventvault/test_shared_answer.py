"""An answer is made once for all who ask at about the same time, and nobody waits longer than wanted."""

from __future__ import annotations

import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import pytest

from eventvault.shared_answer import SharedAnswer

LONG = 30.0


class Slow:
    """Answers 1, 2, … each once `release` was called for it."""

    def __init__(self) -> None:
        self.begun = threading.Semaphore(0)
        self._released = threading.Semaphore(0)
        self._count = 0

    def release(self) -> None:
        self._released.release()

    def __call__(self) -> int:
        self.begun.release()
        assert self._released.acquire(timeout=LONG)
        self._count += 1
        return self._count


class Clock:
    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


def counting() -> Callable[[], int]:
    numbers = iter(range(1, 1000))
    return lambda: next(numbers)


def test_an_answer_counts_for_all_who_ask_until_it_is_too_old() -> None:
    now = Clock()
    shared = SharedAnswer("test", counting(), now)
    assert [shared.get(max_age=0.5, patience=LONG) for _ in range(100)] == [1] * 100
    now.now += 0.5
    assert shared.get(max_age=0.5, patience=LONG) == 1
    now.now += 0.1
    assert shared.get(max_age=0.5, patience=LONG) == 2


@pytest.mark.slow
def test_those_who_ask_while_it_is_made_get_the_same_answer() -> None:
    slow = Slow()
    shared = SharedAnswer("test", slow, Clock())
    with ThreadPoolExecutor(50) as clients:
        answers = [clients.submit(shared.get, max_age=0.5, patience=LONG) for _ in range(50)]
        slow.release()
        assert {answer.result() for answer in answers} == {1}


def test_nobody_waits_for_a_slow_answer_and_the_one_before_counts_meanwhile() -> None:
    slow = Slow()
    shared = SharedAnswer("test", slow)
    assert shared.get(max_age=LONG, patience=0.0) is None
    slow.release()
    assert shared.get(max_age=LONG, patience=LONG) == 1
    assert [shared.get(max_age=0.0, patience=0.0) for _ in range(100)] == [1] * 100
    assert shared.running_since is not None
    slow.release()


def test_only_one_answer_is_made_at_a_time() -> None:
    slow = Slow()
    shared = SharedAnswer("test", slow)
    for _ in range(100):
        shared.get(max_age=0.0, patience=0.0)
    assert slow.begun.acquire(timeout=LONG)
    assert not slow.begun.acquire(blocking=False)
    slow.release()


@pytest.mark.parametrize("while_it_is_made", [False, True])
def test_what_was_begun_before_a_change_does_not_count(while_it_is_made: bool) -> None:
    slow = Slow()
    shared = SharedAnswer("test", slow)
    slow.release()
    if while_it_is_made:
        shared.get(max_age=LONG, patience=0.0)
    else:
        shared.get(max_age=LONG, patience=LONG)
    shared.invalidate()
    slow.release()
    assert shared.get(max_age=LONG, patience=LONG) == 2


def test_who_asks_gets_the_error_and_the_next_one_a_new_try() -> None:
    outcomes = [OSError("the disk"), 7]

    def make() -> object:
        outcome = outcomes.pop(0)
        if isinstance(outcome, OSError):
            raise outcome
        return outcome

    shared = SharedAnswer("test", make)
    with pytest.raises(OSError, match="the disk"):
        shared.get(max_age=LONG, patience=LONG)
    assert shared.get(max_age=LONG, patience=LONG) == 7


def test_without_a_thread_the_answer_before_counts(monkeypatch: pytest.MonkeyPatch) -> None:
    def no_thread(_: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    shared = SharedAnswer("test", counting())
    assert shared.get(max_age=LONG, patience=LONG) == 1
    monkeypatch.setattr(threading.Thread, "start", no_thread)
    assert shared.get(max_age=0.0, patience=LONG) == 1

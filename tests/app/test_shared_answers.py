"""An answer is made once for all who ask within half a second, and is never older than the last change."""

from __future__ import annotations

import threading
from collections.abc import Callable, Hashable, Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest

from app import shared_answers
from app.shared_answers import Question, SharedAnswers
from app.worker_memory import LONGEST, HeldAnswer, WorkerMemory
from eventvault.errors import StoreUnavailable, TooBusy

MILLISECOND = 1_000_000
LONG = 30.0


class Clock:
    """Nanoseconds; each look at it is a little later, so that two requests are never at the same instant."""

    def __init__(self) -> None:
        self.now = 1_000_000 * MILLISECOND

    def __call__(self) -> int:
        self.now += 1
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def answers(clock: Clock) -> SharedAnswers:
    return SharedAnswers(0.5, clock)


def counting() -> Callable[[], int]:
    numbers: Iterator[int] = iter(range(1, 1000))
    return lambda: next(numbers)


def ask(answers: SharedAnswers, key: Hashable, make: Callable[[], int], *, of_events: bool = True) -> int:
    return answers.get(Question(key, make, lambda answer: b"%d" % answer, int, of_events=of_events))


def test_an_answer_counts_for_half_a_second(answers: SharedAnswers, clock: Clock) -> None:
    make = counting()
    assert [ask(answers, "a", make) for _ in range(10)] == [1] * 10
    clock.now += 499 * MILLISECOND
    assert ask(answers, "a", make) == 1
    clock.now += 2 * MILLISECOND
    assert ask(answers, "a", make) == 2


def test_each_address_has_an_answer_of_its_own(answers: SharedAnswers) -> None:
    make = counting()
    assert [ask(answers, key, make) for key in ("a", "b", "a", "b")] == [1, 2, 1, 2]


def test_no_answer_is_older_than_the_last_change(answers: SharedAnswers) -> None:
    make = counting()
    assert ask(answers, "health", make) == 1
    answers.note_change(of_events=True)
    assert ask(answers, "health", make) == 2
    answers.note_change(of_events=False)
    assert ask(answers, "health", make) == 3


def test_an_append_leaves_the_answers_that_do_not_depend_on_events(answers: SharedAnswers) -> None:
    make = counting()
    assert ask(answers, "list", make, of_events=False) == 1
    answers.note_change(of_events=True)
    assert ask(answers, "list", make, of_events=False) == 1
    answers.note_change(of_events=False)
    assert ask(answers, "list", make, of_events=False) == 2


def test_a_change_while_an_answer_is_made_makes_it_old(answers: SharedAnswers) -> None:
    make = counting()

    def make_while_something_changes() -> int:
        answers.note_change(of_events=False)
        return make()

    assert ask(answers, "a", make_while_something_changes) == 1
    assert ask(answers, "a", make) == 2


@pytest.fixture
def workers(clock: Clock) -> tuple[SharedAnswers, SharedAnswers]:
    memory = WorkerMemory()
    return SharedAnswers(0.5, clock, memory), SharedAnswers(0.5, clock, memory)


def test_a_change_in_another_worker_makes_an_answer_old(workers: tuple[SharedAnswers, SharedAnswers]) -> None:
    one, other = workers
    make = counting()
    assert ask(one, "a", make) == 1
    other.note_change(of_events=False)
    assert ask(one, "a", make) == 2


def test_all_workers_share_an_answer_and_never_go_back_to_an_older_one(
    workers: tuple[SharedAnswers, SharedAnswers], clock: Clock
) -> None:
    one, other = workers
    make = counting()
    assert [ask(worker, "a", make) for worker in (one, other, one)] == [1, 1, 1]
    clock.now += 501 * MILLISECOND
    assert [ask(worker, "a", make) for worker in (other, one, other)] == [2, 2, 2]


def test_an_answer_that_another_worker_was_killed_while_it_wrote_is_made_again(
    workers: tuple[SharedAnswers, SharedAnswers], monkeypatch: pytest.MonkeyPatch
) -> None:
    one, other = workers
    make = counting()
    assert ask(one, "a", make) == 1
    memory = one._memory._memory
    at = memory.find(b"1", 16 + 32)
    memory[at : at + 1] = b"7"
    assert ask(other, "a", make) == 2


def test_a_long_answer_is_for_those_alone_who_ask_at_once(answers: SharedAnswers) -> None:
    make = counting()
    question = Question("a", make, lambda _: bytes(LONGEST + 1), len)
    assert [answers.get(question) for _ in range(3)] == [1, 2, 3]


def test_what_workers_hold_for_different_questions_is_never_mixed_up() -> None:
    memory = WorkerMemory()
    for number in range(100):
        memory.hold(number, HeldAnswer(number + 1, b"%d" % number))
        assert memory.read(number) == HeldAnswer(number + 1, b"%d" % number)
    held = [memory.read(number) for number in range(100)]
    assert 1 <= sum(each is not None for each in held) <= 8
    assert all(each is None or each.answer == b"%d" % number for number, each in enumerate(held))


def test_those_who_ask_at_once_share_one_answer(answers: SharedAnswers) -> None:
    begun, released, made = threading.Event(), threading.Event(), []

    def make() -> int:
        begun.set()
        assert released.wait(LONG)
        made.append(1)
        return len(made)

    with ThreadPoolExecutor(20) as clients:
        asked = [clients.submit(ask, answers, "a", make) for _ in range(20)]
        assert begun.wait(LONG)
        released.set()
        assert [client.result(LONG) for client in asked] == [1] * 20


def test_a_failure_is_shared_and_does_not_last(answers: SharedAnswers, clock: Clock) -> None:
    def fail() -> int:
        raise StoreUnavailable("nobody answers", hint="wait")

    for _ in range(2):
        with pytest.raises(StoreUnavailable):
            ask(answers, "a", fail)
    clock.now += 501 * MILLISECOND
    assert ask(answers, "a", lambda: 7) == 7


def test_nobody_waits_without_end_for_the_answer_of_another(
    answers: SharedAnswers, monkeypatch: pytest.MonkeyPatch
) -> None:
    begun, released = threading.Event(), threading.Event()

    def make() -> int:
        begun.set()
        assert released.wait(LONG)
        return 1

    with ThreadPoolExecutor(1) as client:
        first = client.submit(ask, answers, "a", make)
        assert begun.wait(LONG)
        monkeypatch.setattr(shared_answers, "WAIT_SECONDS", 0.01)
        try:
            with pytest.raises(TooBusy):
                ask(answers, "a", make)
        finally:
            monkeypatch.undo()
            released.set()
        assert first.result(LONG) == 1


def test_answers_of_many_addresses_are_not_held_for_ever(answers: SharedAnswers, clock: Clock) -> None:
    for number in range(10 * shared_answers.MOST_SHARED):
        ask(answers, number, counting())
        clock.now += 100 * MILLISECOND
    assert len(answers._shared) <= shared_answers.MOST_SHARED + 1

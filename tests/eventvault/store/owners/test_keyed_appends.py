from __future__ import annotations

import threading
from collections.abc import Iterator
from concurrent.futures import Future
from pathlib import Path

import pytest

from eventvault import clock
from eventvault.database.bus import EventBus
from eventvault.database.registry import AppendBatch, create_database
from eventvault.database.values import AppendResult
from eventvault.errors import EventVaultError, IdempotencyKeyInUse, StoreUnavailable
from eventvault.events import event
from eventvault.keyed_request import KeyedRequest
from eventvault.store.owners.keyed_appends import KeyedAppends

REQUEST = KeyedRequest(b"0123456789abcdef", "content")


@pytest.fixture
def bus(tmp_path: Path) -> Iterator[EventBus]:
    create_database(tmp_path / "event_registry_db")
    bus = EventBus(tmp_path / "event_registry_db")
    bus.init([])
    yield bus
    bus.close()


@pytest.fixture
def appends(bus: EventBus) -> KeyedAppends:
    return KeyedAppends(bus)


def batch(name: str, nonce: bytes, request: KeyedRequest = REQUEST) -> AppendBatch:
    return AppendBatch([event.draft({"type": "t", "id": name}, clock.now())], nonce, request=request)


def submit(appends: KeyedAppends, submitted: AppendBatch) -> Future[AppendResult]:
    answer: Future[AppendResult] = Future()

    def done(given: AppendResult | EventVaultError) -> None:
        if isinstance(given, EventVaultError):
            answer.set_exception(given)
        else:
            answer.set_result(given)

    appends.submit(submitted, done)
    return answer


def last_sequence(bus: EventBus) -> int:
    assert bus.registry is not None
    return bus.registry.last_sequence


def test_while_the_first_request_runs_another_one_with_its_key_is_refused(bus: EventBus, appends: KeyedAppends) -> None:
    with bus.committer.paused():
        first = submit(appends, batch("a", b"nonce--1"))
        with pytest.raises(IdempotencyKeyInUse):
            submit(appends, batch("b", b"nonce--2")).result(60)

    assert first.result(60).ids is None
    assert submit(appends, batch("b", b"nonce--2")).result(60).ids == ["a"]
    assert last_sequence(bus) == 1


def test_one_that_the_client_sends_again_by_itself_waits_for_the_first_answer(
    bus: EventBus, appends: KeyedAppends
) -> None:
    with bus.committer.paused():
        first, second = (submit(appends, batch("a", b"nonce--1")) for _ in range(2))

    assert first.result(60) == second.result(60)
    assert last_sequence(bus) == 1


def test_another_key_does_not_wait(bus: EventBus, appends: KeyedAppends) -> None:
    with bus.committer.paused():
        answers = [submit(appends, batch(name, b"nonce--1", KeyedRequest(name.encode() * 16, ""))) for name in "ab"]

    assert [answer.result(60).ids for answer in answers] == [None, None]


def test_an_append_whose_answer_came_to_the_database_meanwhile_gets_it(bus: EventBus, appends: KeyedAppends) -> None:
    """As after a restore that came in between, or an append whose outcome nobody knew."""
    with bus.committer.paused():
        late = batch("a", b"nonce--1")
        bus.committer.submit(late, lambda _: None)
        answer = submit(appends, batch("b", b"nonce--2"))

    assert answer.result(60).ids == ["a"]
    assert last_sequence(bus) == 1


def test_a_key_is_free_again_after_an_append_that_failed(bus: EventBus, appends: KeyedAppends) -> None:
    bus.close()
    with pytest.raises(StoreUnavailable):
        submit(appends, batch("a", b"nonce--1")).result(60)
    with pytest.raises(StoreUnavailable):
        submit(appends, batch("a", b"nonce--2")).result(60)


def test_many_at_once_store_one_event(bus: EventBus, appends: KeyedAppends) -> None:
    answers: list[Future[AppendResult]] = []
    threads = [
        threading.Thread(target=lambda n=n: answers.append(submit(appends, batch(f"e{n}", b"nonce-%02d" % n))))
        for n in range(16)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)

    failures = [answer.exception(10) for answer in answers]
    assert all(failure is None or isinstance(failure, IdempotencyKeyInUse) for failure in failures)
    assert last_sequence(bus) == 1

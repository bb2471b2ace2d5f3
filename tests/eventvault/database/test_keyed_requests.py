from __future__ import annotations

import itertools
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import msgspec
import pytest

from eventvault.database import keyed_requests, keys
from eventvault.database.registry import AppendBatch, BatchOutdated, EventRegistry, create_database, open_leveldb
from eventvault.database.values import AppendResult
from eventvault.errors import IdempotencyKeyReused
from eventvault.events import event
from eventvault.keyed_request import KEEP_MICROSECONDS, KeyedRequest
from eventvault.restore.moments.replay import cut

START = 1_800_000_000_000_000


class Clock:
    def __init__(self) -> None:
        self.now = START

    def __call__(self) -> int:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    create_database(tmp_path / "event_registry_db")
    return tmp_path / "event_registry_db"


@pytest.fixture
def db(folder: Path) -> Iterator[Any]:
    with closing(open_leveldb(folder)) as handle:
        yield handle


@pytest.fixture
def registry(db: Any, folder: Path, clock: Clock) -> EventRegistry:
    return EventRegistry(db, folder, clock)


_nonces = (number.to_bytes(8, "big") for number in itertools.count(1))


def keyed(name: str, content: str = "content") -> KeyedRequest:
    return KeyedRequest(name.encode().ljust(16), content)


def batch(request: KeyedRequest | None, *ids: str, data: object = None) -> AppendBatch:
    drafts = [event.draft({"type": "t", "id": name, "data": data}, START) for name in ids]
    return AppendBatch(drafts, next(_nonces), request=request)


def append(registry: EventRegistry, request: KeyedRequest | None, *ids: str, data: object = None) -> AppendResult:
    (results,) = registry.append([batch(request, *ids, data=data)])
    return AppendResult(results, registry.last_sequence)


def answer(registry: EventRegistry, request: KeyedRequest) -> AppendResult:
    found = registry.answer_of(request)
    assert found is not None
    return found


def records(db: Any) -> tuple[int, int]:
    """How many records there are, and how many entries of their order."""
    counts = []
    for prefix in (keys.REQUEST, keys.REQUEST_ORDER):
        with db.iterator(prefix=prefix, include_value=False) as rows:
            counts.append(sum(1 for _ in rows))
    return counts[0], counts[1]


def test_the_answer_is_that_of_the_first_append(registry: EventRegistry) -> None:
    append(registry, None, "there", data=1)
    first = append(registry, keyed("k"), "a", "b", "there", "a", data=2)
    append(registry, None, "later")

    again = answer(registry, keyed("k"))

    assert (again.results, again.last_sequence) == (first.results, first.last_sequence)
    assert [(each.sequence, each.duplicate, each.differs) for each in again.results] == [
        (2, False, False), (3, False, False), (1, True, True), (2, True, False),
    ]  # fmt: skip
    assert again.ids == ["a", "b", "there", "a"]
    assert registry.answer_of(keyed("other")) is None


def test_every_answer_of_a_group_has_the_last_sequence_of_the_group(registry: EventRegistry) -> None:
    registry.append([batch(keyed("one"), "a"), batch(keyed("two"), "b", "c")])

    assert [answer(registry, keyed(name)).last_sequence for name in ("one", "two")] == [3, 3]


def test_an_append_without_events_has_an_answer_too(registry: EventRegistry) -> None:
    append(registry, None, "a")
    append(registry, keyed("k"))

    assert answer(registry, keyed("k")) == AppendResult([], 1, [])


def test_another_content_is_refused(registry: EventRegistry) -> None:
    append(registry, keyed("k", "one"), "a")

    with pytest.raises(IdempotencyKeyReused):
        registry.answer_of(keyed("k", "two"))


def test_an_append_that_was_answered_already_writes_nothing(registry: EventRegistry) -> None:
    append(registry, keyed("k"), "a")

    with pytest.raises(BatchOutdated):
        registry.append([batch(None, "b"), batch(keyed("k"), "c")])

    assert registry.last_sequence == 1


def test_an_answer_counts_for_a_day(registry: EventRegistry, clock: Clock) -> None:
    append(registry, keyed("k"), "a")
    clock.now += KEEP_MICROSECONDS - 1
    assert answer(registry, keyed("k")).ids == ["a"]

    clock.now += 1
    assert registry.answer_of(keyed("k", "another content")) is None
    append(registry, keyed("k", "another content"), "b")

    assert answer(registry, keyed("k", "another content")).ids == ["b"]


def test_expired_answers_are_removed_with_later_appends_and_later_ones_of_the_same_key_stay(
    registry: EventRegistry, clock: Clock, db: Any
) -> None:
    for number in range(10):
        append(registry, keyed(f"old{number}"), f"e{number}")
    clock.now += KEEP_MICROSECONDS
    assert records(db) == (10, 10)

    append(registry, keyed("old1"), "new")
    assert records(db) == (9, 9), "old0 went, and of old1 the old entry"
    for number in range(4):
        append(registry, keyed(f"new{number}"), f"n{number}")

    assert records(db) == (5, 5)
    assert answer(registry, keyed("old1")).ids == ["new"]


def test_a_clock_that_goes_back_removes_no_answer(registry: EventRegistry, clock: Clock, db: Any) -> None:
    append(registry, keyed("k"), "a")
    clock.now -= 10 * KEEP_MICROSECONDS
    append(registry, keyed("l"), "b")

    assert answer(registry, keyed("k")).ids == ["a"]
    assert records(db) == (2, 2)


@pytest.mark.parametrize("reopen", [False, True])
def test_the_answers_are_cut_off_with_their_events(
    registry: EventRegistry, db: Any, folder: Path, clock: Clock, *, reopen: bool
) -> None:
    append(registry, keyed("first"), "a")
    append(registry, keyed("duplicate"), "a")
    append(registry, keyed("cut"), "b", "c")
    append(registry, keyed("later"), "a")
    registry = EventRegistry(db, folder, clock) if reopen else registry

    cut(db, registry, 2)

    shortened = EventRegistry(db, folder, clock)
    assert answer(shortened, keyed("first")).ids == answer(shortened, keyed("duplicate")).ids == ["a"]
    assert [shortened.answer_of(keyed(name)) for name in ("cut", "later")] == [None, None]
    assert records(db) == (2, 2)


def test_the_answers_to_requests_that_stored_events_are_read_in_order(registry: EventRegistry, clock: Clock) -> None:
    append(registry, keyed("refused"))
    append(registry, keyed("first"), "a", "b")
    append(registry, keyed("duplicate"), "a")
    append(registry, None, "without a key")
    append(registry, keyed("mixed"), "a", "c")

    def sequences(first: int, upto: int) -> list[tuple[int, bytes]]:
        return [(each.sequence, each.request_id.strip()) for each in registry.answers(first, upto)]

    assert sequences(1, 9) == [(2, b"first"), (4, b"mixed")]
    assert sequences(3, 3) == sequences(1, 1) == sequences(5, 4) == []
    clock.now += KEEP_MICROSECONDS
    append(registry, keyed("first"), "d")
    assert sequences(1, 9) == [(4, b"mixed"), (5, b"first")], "the key was used again"


@pytest.mark.parametrize(
    "wrong",
    [
        {"at": -1}, {"at": 2**63}, {"results": [(1, 3, 0)]}, {"results": [(0, 1, 0)]}, {"results": [(1, 0, 0)]},
        {"results": [(1, 2, 1)]}, {"results": [(1, 2, 0)] * 60_000}, {"results": [(2**70, 1, 0)]},
    ],
)  # fmt: skip
def test_what_nobody_was_answered_is_not_put(registry: EventRegistry, wrong: dict[str, Any]) -> None:
    append(registry, keyed("k"), "a", "b")
    (stored,) = registry.answers(1, 2)
    record = keyed_requests.read_record(stored.record)
    assert record is not None
    assert len(list(keyed_requests.key_values_of_stored(stored))) == 2
    assert list(keyed_requests.key_values_of_stored(stored, since=record.at + 1)) == []

    forged = msgspec.json.encode(msgspec.structs.replace(record, **wrong))
    for value in (forged, b"", b"{}"):
        assert list(keyed_requests.key_values_of_stored(stored._replace(record=value))) == []


def test_a_record_is_small_for_many_events(registry: EventRegistry, db: Any) -> None:
    append(registry, keyed("k"), *(f"e{number}" for number in range(1000)))

    assert len(db.get(keys.request_key(keyed("k").id))) < 200
    assert len(answer(registry, keyed("k")).ids or []) == 1000

"""What every EventLog promises."""

from __future__ import annotations

import hashlib

import orjson
import pytest

from eventvault import clock
from eventvault.database.values import ScanQuery
from eventvault.errors import EventNotFound, GenerationSuperseded, IdempotencyKeyReused, InvalidInput
from eventvault.keyed_request import KeyedRequest
from eventvault.restore.values import Moment
from eventvault.store.ports.store import Store
from tests.contract.events import drafts, ids, unique


def last_sequence(store: Store) -> int:
    return store.scan(ScanQuery(limit=1)).last_sequence


def test_an_append_answers_with_the_sequences(store: Store) -> None:
    last = last_sequence(store)

    result = store.append(drafts(unique("a"), unique("b")))

    assert [appended.sequence for appended in result.results] == [last + 1, last + 2]
    assert result.last_sequence == last + 2


def test_what_was_appended_can_be_had_by_its_id(store: Store) -> None:
    event_id, last = unique("a"), last_sequence(store)
    store.append(drafts(event_id, data={"n": 1}))

    found = orjson.loads(store.get(event_id))

    assert (found["data"], found["sequence"]) == ({"n": 1}, last + 1)
    with pytest.raises(EventNotFound):
        store.get(unique("b"))


def test_an_id_means_the_event_that_was_there_by_then(store: Store) -> None:
    event_id = unique("a")
    (before,) = store.append(drafts(unique("other"))).results
    (first,) = store.append(drafts(event_id, source="one")).results
    while store.append(drafts(unique("b"), source=f"at {clock.now()}")).results[0].recorded == first.recorded:
        pass
    store.append(drafts(event_id, source="two"))

    assert orjson.loads(store.get(event_id, recorded_to=first.recorded))["source"] == "one"
    assert orjson.loads(store.get(event_id, "one", first.recorded))["source"] == "one"
    for source in (None, "one"):
        with pytest.raises(EventNotFound):
            store.get(event_id, source, before.recorded - 1)
    with pytest.raises(EventNotFound):
        store.get(event_id, "two", first.recorded)
    for instant in (clock.now(), None):
        with pytest.raises(InvalidInput):
            store.get(event_id, recorded_to=instant)
        assert orjson.loads(store.get(event_id, "two", instant))["source"] == "two"


def test_a_duplicate_names_the_first(store: Store) -> None:
    event_id = unique("a")
    (first,) = store.append(drafts(event_id, data=1)).results

    (again,) = store.append(drafts(event_id, data=2)).results

    assert (again.sequence, again.duplicate, again.differs) == (first.sequence, True, True)


def test_pages_are_bounded_and_continue(store: Store) -> None:
    last = last_sequence(store)
    store.append(drafts(*(unique(f"{number:02}") for number in range(12))))

    first = store.scan(ScanQuery(limit=5, after=last))
    second = store.scan(ScanQuery(limit=5, after=first.next or 0))
    third = store.scan(ScanQuery(limit=5, after=second.next or 0))

    assert (first.next, second.next, third.next) == (last + 5, last + 10, None)
    assert len(first.events) + len(second.events) + len(third.events) == 12


def test_a_cursor_beyond_the_fork_is_refused_and_one_before_it_goes_on(empty_store: Store) -> None:
    empty_store.append(drafts("a", "b"))
    name = empty_store.create_backup().backup.name
    empty_store.append(drafts("c", "d"))
    old = empty_store.scan(ScanQuery()).generation
    empty_store.restore(name)
    empty_store.append(drafts("e"))

    assert ids(empty_store, ScanQuery(after=1, generation=old)) == ["b", "e"]
    with pytest.raises(GenerationSuperseded):
        empty_store.scan(ScanQuery(after=3, generation=old))


def test_a_scan_with_a_fixed_end_is_served_to_its_end_across_a_restore(empty_store: Store) -> None:
    empty_store.append(drafts("a", "b"))
    name = empty_store.create_backup().backup.name
    empty_store.append(drafts("c", "d"))
    first = empty_store.scan(ScanQuery(limit=1))
    with empty_store.lease_generation(first.generation) as hold:
        empty_store.restore(name)
        empty_store.append(drafts("x", "y", "z"))
        empty_store.create_backup()
        hold.renew()

        rest = empty_store.scan(ScanQuery(after=1, upto=first.last_sequence, generation=first.generation))

        assert [orjson.loads(value)["id"] for value in rest.events] == ["b", "c", "d"]
        assert rest.next is None


def test_a_generation_that_nobody_knows_is_refused_whatever_it_is_called(store: Store) -> None:
    store.append(drafts(unique("a")))
    for generation in ("0" * 16, "../event_registry_db", "x/../../event_registry_db"):
        with pytest.raises(GenerationSuperseded):
            store.scan(ScanQuery(generation=generation, upto=1))


def keyed(name: str, content: str = "content") -> KeyedRequest:
    return KeyedRequest(hashlib.md5(name.encode(), usedforsecurity=False).digest(), content)


def test_a_request_that_is_repeated_with_its_key_gets_the_first_answer(store: Store) -> None:
    request = keyed(unique("key"))
    first = store.append(drafts(unique("a"), unique("b")), request)
    store.append(drafts(unique("c")))

    again = store.append(drafts(unique("d"), unique("e")), request)

    assert (again.results, again.last_sequence) == (first.results, first.last_sequence)
    stored = store.scan(ScanQuery(after=first.results[0].sequence - 1)).events[:2]
    assert again.ids == [orjson.loads(value)["id"] for value in stored]
    assert last_sequence(store) == first.last_sequence + 1


def test_a_key_with_another_content_is_refused(store: Store) -> None:
    name = unique("key")
    store.append(drafts(unique("a")), keyed(name, "one"))
    last = last_sequence(store)

    with pytest.raises(IdempotencyKeyReused):
        store.append(drafts(unique("b")), keyed(name, "two"))

    assert last_sequence(store) == last


def test_a_restore_rewinds_the_keys_with_their_events_and_an_undo_brings_them_back(empty_store: Store) -> None:
    empty_store.append(drafts("a"), keyed("before"))
    name = empty_store.create_backup().backup.name
    empty_store.append(drafts("b"), keyed("after"))

    empty_store.restore(name)
    assert empty_store.append(drafts("x"), keyed("before")).ids == ["a"]
    assert empty_store.append(drafts("c"), keyed("after")).ids is None
    assert ids(empty_store) == ["a", "c"]

    empty_store.undo()
    assert empty_store.append(drafts("x"), keyed("before")).ids == ["a"]
    assert empty_store.append(drafts("x"), keyed("after")).ids == ["b"]
    assert ids(empty_store) == ["a", "b"]


def test_the_restore_of_a_moment_rewinds_the_keys_to_it(empty_store: Store) -> None:
    empty_store.append(drafts("a"), keyed("before"))
    empty_store.append(drafts("b"), keyed("after"))

    empty_store.restore_moment(Moment(sequence=1))

    assert empty_store.append(drafts("x"), keyed("before")).ids == ["a"]
    assert empty_store.append(drafts("c"), keyed("after")).ids is None
    assert ids(empty_store) == ["a", "c"]

"""What every EventLog promises."""

from __future__ import annotations

import hashlib
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import msgspec
import orjson
import pytest

from eventvault import clock
from eventvault.database.values import Head, HistogramQuery, Page, Published, Resumption, ScanQuery, TypesQuery
from eventvault.errors import EventNotFound, GenerationSuperseded, IdempotencyKeyReused, InvalidInput
from eventvault.events import event
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


@pytest.mark.slow
def test_where_no_id_is_as_asked_the_first_that_begin_so_are_named(store: Store) -> None:
    begin = unique("begin")
    (before,) = store.append(drafts(unique("other"))).results
    while clock.now() <= before.recorded:
        pass
    store.append(drafts(*(f"{begin}-{number}" for number in range(9)), source="one"))
    store.append(drafts(f"{begin}-1", source="two"))
    store.append(drafts(f"{begin}!z", f"{begin}é"))

    def candidates(event_id: str, **more: Any) -> list[str]:
        with pytest.raises(EventNotFound) as refused:
            store.get(event_id, **more)
        found: list[str] = refused.value.details.get("candidates", [])
        return found

    assert candidates(f"{begin}-") == [f"{begin}-{number}" for number in range(6)]
    assert candidates(begin)[0] == f"{begin}!z"
    assert candidates(f"{begin}!") == [f"{begin}!z"]
    assert candidates(f"{begin}-8x") == candidates("") == candidates(begin, recorded_to=before.recorded) == []


@pytest.mark.slow
def test_an_id_means_the_event_that_was_there_by_then(store: Store) -> None:
    event_id = unique("a")
    (before,) = store.append(drafts(unique("other"))).results
    while clock.now() <= before.recorded:
        pass
    (first,) = store.append(drafts(event_id, source="one")).results
    while store.append(drafts(unique("b"), source=f"at {clock.now()}")).results[0].recorded == first.recorded:
        pass
    store.append(drafts(event_id, source="two"))

    assert orjson.loads(store.get(event_id, recorded_to=first.recorded))["source"] == "one"
    assert orjson.loads(store.get(event_id, "one", first.recorded))["source"] == "one"
    for source in (None, "one"):
        with pytest.raises(EventNotFound):
            store.get(event_id, source, before.recorded)
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


@pytest.mark.slow
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


@pytest.mark.slow
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


@pytest.mark.slow
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


@pytest.mark.slow
def test_the_restore_of_a_moment_rewinds_the_keys_to_it(empty_store: Store) -> None:
    empty_store.append(drafts("a"), keyed("before"))
    empty_store.append(drafts("b"), keyed("after"))

    empty_store.restore_moment(Moment(sequence=1))

    assert empty_store.append(drafts("x"), keyed("before")).ids == ["a"]
    assert empty_store.append(drafts("c"), keyed("after")).ids is None
    assert ids(empty_store) == ["a", "c"]


def sequences(page: Page) -> list[int]:
    return [orjson.loads(value)["sequence"] for value in page.events]


def all_pages(store: Store, query: ScanQuery) -> list[int]:
    """The sequences of all pages, read as a client does."""
    found = []
    while True:
        page = store.scan(query)
        found += sequences(page)
        if page.next is None:
            return found
        bound = {"before" if query.newest_first else "after": page.next}
        query = msgspec.structs.replace(query, **bound)


@pytest.mark.slow
def test_the_newest_come_first_on_request(store: Store) -> None:
    last = last_sequence(store)
    store.append(drafts(*(unique("n") for _ in range(7)), subject=(subject := unique("s"))))
    store.append(drafts(unique("other")))
    mine = list(range(last + 7, last, -1))

    assert sequences(store.scan(ScanQuery(newest_first=True, limit=3))) == [last + 8, last + 7, last + 6]
    assert all_pages(store, ScanQuery(newest_first=True, limit=2, subject=subject)) == mine
    assert all_pages(store, ScanQuery(newest_first=True, limit=3, after=last + 2)) == [last + 8, *mine[:5]]
    assert all_pages(store, ScanQuery(newest_first=True, limit=100))[-1] == 1


def test_events_between_two_sequences_are_the_same_in_both_orders(store: Store) -> None:
    last = last_sequence(store)
    store.append(drafts(*(unique("n") for _ in range(9))))
    for after, before in [(last, last + 5), (last + 3, last + 4), (last + 4, last + 4), (last + 2, last + 100), (0, 0)]:
        wanted = [number for number in range(after + 1, before) if number <= last + 9]
        assert all_pages(store, ScanQuery(after=after, before=before, limit=2)) == wanted
        assert all_pages(store, ScanQuery(after=after, before=before, limit=2, newest_first=True)) == wanted[::-1]


@pytest.mark.slow
def test_a_cursor_backwards_is_refused_beyond_the_fork_and_goes_on_before_it(empty_store: Store) -> None:
    old, name = forked(empty_store)
    empty_store.restore(name)

    assert sequences(empty_store.scan(ScanQuery(before=3, generation=old, newest_first=True))) == [2, 1]
    with pytest.raises(GenerationSuperseded):
        empty_store.scan(ScanQuery(before=4, generation=old, newest_first=True))


def forked(store: Store) -> tuple[str, str]:
    """Two events, a backup, two more: returns the generation and the backup's name."""
    store.append(drafts("a", "b"))
    name = store.create_backup().backup.name
    store.append(drafts("c", "d"))
    return store.scan(ScanQuery()).generation, name


def recorded(store: Store, after: int = 0) -> list[int]:
    return [event.recorded_of(value) for value in store.scan(ScanQuery(after=after, limit=1000)).events]


@pytest.mark.slow
def test_a_histogram_counts_every_event_in_one_bucket(empty_store: Store) -> None:
    for number in range(6):
        empty_store.append(drafts(f"a{number}", f"b{number}", type="x" if number % 2 else "y"))
    times = recorded(empty_store)

    whole = empty_store.histogram(HistogramQuery(buckets=7))
    assert (sum(whole.counts), whole.before, whole.exact) == (12, 0, True)
    assert whole.recorded_from == times[0]
    assert whole.recorded_to >= times[-1]
    assert sum(empty_store.histogram(HistogramQuery(buckets=7, type="x")).counts) == 6
    assert sum(empty_store.histogram(HistogramQuery(buckets=7, type="z")).counts) == 0
    part = empty_store.histogram(HistogramQuery(buckets=3, recorded_from=times[4], recorded_to=times[7]))
    inside = [time for time in times if times[4] <= time <= times[7]]
    assert (sum(part.counts), part.before) == (len(inside), sum(time < times[4] for time in times))


@pytest.mark.slow
def test_a_histogram_of_one_instant_counts_the_events_of_that_instant(empty_store: Store) -> None:
    (first,) = empty_store.append(drafts("a")).results
    found = empty_store.histogram(HistogramQuery(buckets=5, recorded_from=first.recorded, recorded_to=first.recorded))
    assert (found.counts, found.before) == ([0, 0, 0, 0, 1], 0)


@pytest.mark.slow
def test_a_histogram_without_events_is_zero(empty_store: Store) -> None:
    assert empty_store.histogram(HistogramQuery(buckets=3)).counts == [0, 0, 0]
    far = clock.now() + 10**12
    empty_store.append(drafts("a"))
    later = empty_store.histogram(HistogramQuery(buckets=3, recorded_from=far))
    assert (later.counts, later.before) == ([0, 0, 0], 1)
    earlier = empty_store.histogram(HistogramQuery(buckets=3, recorded_to=5))
    assert (earlier.counts, earlier.before, earlier.recorded_to) == ([0, 0, 0], 0, 5)


@pytest.mark.slow
def test_a_histogram_ends_with_the_last_event_that_it_is_asked_for(empty_store: Store) -> None:
    empty_store.append(drafts("a", "b", "c"))
    assert sum(empty_store.histogram(HistogramQuery(buckets=4, upto=2)).counts) == 2
    assert sum(empty_store.histogram(HistogramQuery(buckets=4, upto=0)).counts) == 0


@pytest.mark.slow
def test_a_histogram_asked_for_again_has_what_was_appended_since(empty_store: Store) -> None:
    empty_store.append(drafts("a"))
    (time,) = recorded(empty_store)
    query = HistogramQuery(buckets=2, recorded_from=time, recorded_to=time + 3_600_000_000)
    assert sum(empty_store.histogram(query).counts) == 1
    empty_store.append(drafts("b", "c"))
    assert sum(empty_store.histogram(query).counts) == 3


@pytest.mark.slow
def test_a_histogram_of_an_earlier_generation_has_its_events(empty_store: Store) -> None:
    old, name = forked(empty_store)
    before = empty_store.histogram(HistogramQuery(buckets=3))
    empty_store.restore(name)

    again = empty_store.histogram(HistogramQuery(buckets=3, generation=old, upto=4))
    assert (sum(again.counts), again.generation, sum(before.counts)) == (4, old, 4)
    assert sum(empty_store.histogram(HistogramQuery(buckets=3)).counts) == 2
    with pytest.raises(GenerationSuperseded):
        empty_store.histogram(HistogramQuery(buckets=3, generation="0" * 16, upto=4))


@pytest.mark.slow
def test_types_are_counted_and_the_most_frequent_comes_first(empty_store: Store) -> None:
    assert empty_store.event_types(TypesQuery()).types == []
    empty_store.append([*drafts("1", "2", type="a\0b"), *drafts("3", "4", "5", type="a"), *drafts("6", type="ä")])
    times = recorded(empty_store)

    found = empty_store.event_types(TypesQuery())

    assert [(each.type, each.events, each.last) for each in found.types] == [("a", 3, 5), ("a\0b", 2, 2), ("ä", 1, 6)]
    assert [each.recorded for each in found.types] == [times[4], times[1], times[5]]
    assert (found.counted, found.complete) == (6, True)
    assert [each.type for each in empty_store.event_types(TypesQuery(limit=1)).types] == ["a"]
    assert empty_store.event_types(TypesQuery(limit=1)).counted == 6


@pytest.mark.slow
def test_types_between_two_sequences_are_counted(empty_store: Store) -> None:
    empty_store.append([*drafts("1", "2", type="a"), *drafts("3", "4", type="b"), *drafts("5", type="a")])

    def counted(after: int, upto: int | None) -> list[tuple[str, int, int]]:
        return [(e.type, e.events, e.last) for e in empty_store.event_types(TypesQuery(after=after, upto=upto)).types]

    assert counted(1, 4) == [("b", 2, 4), ("a", 1, 2)]
    assert counted(2, None) == [("b", 2, 4), ("a", 1, 5)]
    assert counted(5, None) == counted(4, 2) == []


@pytest.mark.slow
def test_a_wait_ends_with_the_next_event(empty_store: Store) -> None:
    empty_store.append(drafts("a"))
    head = empty_store.wait_for_events(None, 30)
    with ThreadPoolExecutor(1) as pool:
        waiting = pool.submit(empty_store.wait_for_events, head, 20)
        empty_store.append(drafts("b"))
        assert waiting.result(60) == Head(head.generation, 2)


def test_a_wait_without_an_event_ends_in_time(store: Store) -> None:
    head = store.wait_for_events(None, 0)
    assert store.wait_for_events(head, 0.05) == head


def test_a_wait_for_kafka_ends_in_time(store: Store) -> None:
    """Where nothing is published, nothing ever is."""
    got = store.wait_for_published(None, 0)
    assert got == Published(store.wait_for_events(None, 0).generation, 0)
    assert store.wait_for_published(got, 0.05) == got


@pytest.mark.slow
def test_a_wait_ends_with_a_restore(empty_store: Store) -> None:
    old, name = forked(empty_store)
    head = empty_store.wait_for_events(None, 0)
    with ThreadPoolExecutor(1) as pool:
        waiting = pool.submit(empty_store.wait_for_events, head, 20)
        empty_store.restore(name)
        generation, sequence = waiting.result(60)
    assert (generation != old, sequence) == (True, 2)


@pytest.mark.slow
def test_a_reader_goes_on_where_it_is_and_after_a_restore_at_the_fork(empty_store: Store) -> None:
    old, name = forked(empty_store)
    assert empty_store.resume(None) == Resumption(old, 4)
    assert empty_store.resume(Head(old, 1)) == Resumption(old, 1)

    empty_store.restore(name)

    present = empty_store.scan(ScanQuery()).generation
    assert empty_store.resume(Head(old, 4)) == Resumption(present, 2, 2, "backup")
    assert empty_store.resume(Head(old, 1)) == Resumption(present, 1, 2, "backup")
    assert empty_store.resume(Head("0" * 16, 9)) == Resumption(present, 0, 0, "backup")
    empty_store.undo()
    undone = empty_store.resume(Head(present, 2))
    assert (undone.sequence, undone.fork_sequence, undone.kind) == (2, 2, "undo")
    again = empty_store.resume(Head(old, 4))
    assert (again.sequence, again.fork_sequence) == (4, 4)

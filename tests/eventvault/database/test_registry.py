from __future__ import annotations

import itertools
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec
import orjson
import pytest

from eventvault import clock
from eventvault.database import keys
from eventvault.database.paging import scan
from eventvault.database.registry import AppendBatch, EventRegistry, create_database, open_leveldb
from eventvault.database.values import ScanQuery
from eventvault.errors import DatabaseDamaged, DatabaseTooNew, EventNotFound, InvalidInput
from eventvault.events import event


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    create_database(tmp_path / "event_registry_db")
    return tmp_path / "event_registry_db"


@pytest.fixture
def db(folder: Path) -> Iterator[Any]:
    handle = open_leveldb(folder)
    yield handle
    handle.close()


@pytest.fixture
def registry(db: Any, folder: Path) -> EventRegistry:
    return EventRegistry(db, folder)


_nonces = (number.to_bytes(8, "big") for number in itertools.count(1))


def append(registry: EventRegistry, *attributes: dict[str, Any], nonce: bytes | None = None) -> list[event.Appended]:
    drafts = [event.draft({"type": "test", **given}, clock.now()) for given in attributes]
    return registry.append([AppendBatch(drafts, nonce or next(_nonces))])[0]


def sequences(page: Any) -> list[int]:
    return [orjson.loads(value)["sequence"] for value in page.events]


def test_sequences_begin_at_one_and_have_no_holes(registry: EventRegistry) -> None:
    results = append(registry, {"id": "a"}, {"id": "b"}) + append(registry, {"id": "c"})

    assert [result.sequence for result in results] == [1, 2, 3]
    assert registry.last_sequence == 3


def test_a_duplicate_takes_no_sequence_and_names_the_first(registry: EventRegistry) -> None:
    append(registry, {"id": "a", "data": 1})

    again, new = append(registry, {"id": "a", "data": 1}, {"id": "b"})

    assert (again.sequence, again.duplicate, again.differs) == (1, True, False)
    assert (new.sequence, new.duplicate) == (2, False)


def test_a_duplicate_with_another_content_is_said_to_differ(registry: EventRegistry) -> None:
    append(registry, {"id": "a", "data": 1})

    assert append(registry, {"id": "a", "data": 2})[0].differs
    assert append(registry, {"id": "a"})[0].differs


def post(registry: EventRegistry, event_id: str, data: bytes) -> event.Appended:
    draft = event.draft(
        {"type": "t", "id": event_id, "data": True}, 1, b'{"type":"t","id":"%s","data":%s}' % (event_id.encode(), data)
    )
    return registry.append([AppendBatch([draft], next(_nonces))])[0][0]


SPELLINGS = [(b"1.5", b"1.50"), ('"é"'.encode(), b'"\\u00e9"'), (b"0.12345678901234568", b"0.1234567890123456789")]
"""What an earlier version stored of a text, and the text."""


@pytest.mark.parametrize(("encoded", "text"), SPELLINGS)
def test_data_differs_if_its_text_does(registry: EventRegistry, encoded: bytes, text: bytes) -> None:
    post(registry, "a", encoded)
    post(registry, "b", text)
    assert [post(registry, *sent).differs for sent in (("a", encoded), ("b", text))] == [False, False]
    assert [post(registry, *sent).differs for sent in (("a", text), ("b", encoded))] == [True, True]


@pytest.mark.parametrize(("encoded", "text"), SPELLINGS)
def test_what_an_earlier_version_stored_does_not_differ_from_its_text(
    folder: Path, db: Any, encoded: bytes, text: bytes
) -> None:
    post(EventRegistry(db, folder), "old", encoded)
    db.delete(keys.META_ENCODED)  # as an earlier version left it
    registry = EventRegistry(db, folder)
    assert not post(registry, "old", text).differs
    assert post(registry, "old", b"1").differs
    for _ in range(2):
        post(registry, "new", encoded)
        assert post(registry, "new", text).differs
        assert not post(registry, "old", text).differs
        registry = EventRegistry(db, folder)


def test_a_database_that_was_cut_off_forgets_when_this_version_began(folder: Path, db: Any) -> None:
    registry = EventRegistry(db, folder)
    append(registry, {"id": "a"}, {"id": "b"})
    db.put(keys.META_ENCODED, b"7")
    assert EventRegistry(db, folder).encoded_upto == 2


def test_what_was_filled_in_is_no_difference(registry: EventRegistry) -> None:
    append(registry, {"id": "a", "data": 1})
    stored = orjson.loads(registry.get("a"))

    assert not append(registry, {"id": "a", "data": 1})[0].differs
    assert not append(registry, stored)[0].differs, "an exported event that is posted again"


def test_the_same_identity_twice_in_one_write_is_stored_once(registry: EventRegistry) -> None:
    first, second = append(registry, {"id": "a"}, {"id": "a", "data": 2})

    assert (second.sequence, second.duplicate, second.differs) == (first.sequence, True, True)
    assert registry.last_sequence == 1


def test_the_same_id_of_another_source_is_another_event(registry: EventRegistry) -> None:
    append(registry, {"id": "a", "source": "/one"}, {"id": "a", "source": "/two"})

    assert orjson.loads(registry.get("a", "/two"))["sequence"] == 2
    with pytest.raises(InvalidInput):
        registry.get("a")


def test_an_append_that_is_sent_again_is_no_duplicate(registry: EventRegistry) -> None:
    before = append(registry, {"id": "a"}, {"id": "b"}, nonce=b"retried!")

    assert append(registry, {"id": "a"}, {"id": "b"}, nonce=b"retried!") == before
    assert registry.last_sequence == 2


def test_an_id_with_a_zero_byte_is_not_taken_for_another(registry: EventRegistry) -> None:
    append(registry, {"id": "a\x00b", "source": "c"}, {"id": "a", "source": "\x00b\x01c"})

    assert registry.last_sequence == 2
    assert orjson.loads(registry.get("a"))["source"] == "\x00b\x01c"


def test_recordedtime_never_goes_back_when_the_clock_does(db: Any, folder: Path) -> None:
    instants = iter([2_000_000, 1_000_000, 3_000_000])
    registry = EventRegistry(db, folder, now=lambda: next(instants))

    recorded = [append(registry, {"id": str(number)})[0].recorded for number in range(3)]

    assert recorded == [2_000_000, 2_000_000, 3_000_000]


def test_recordedtime_never_goes_back_after_opening_again(db: Any, folder: Path) -> None:
    append(EventRegistry(db, folder, now=lambda: 5_000_000), {"id": "a"})

    later = EventRegistry(db, folder, now=lambda: 1_000_000)

    assert append(later, {"id": "b"})[0].recorded == 5_000_000


def test_the_value_in_leveldb_is_the_event_that_a_reader_sees(db: Any, registry: EventRegistry) -> None:
    append(registry, {"id": "a", "data": {"größe": 1}})

    value = orjson.loads(db.get(keys.event_key(1)))

    assert value["data"] == {"größe": 1}
    assert value["sequence"] == 1
    assert clock.format_microseconds(clock.parse(value["recordedtime"])) == value["recordedtime"]


def test_an_unknown_id_is_not_found(registry: EventRegistry) -> None:
    with pytest.raises(EventNotFound):
        registry.get("nobody")


def test_an_error_does_not_quote_a_long_id_whole(registry: EventRegistry) -> None:
    with pytest.raises(EventNotFound, match="no event has the id") as refused:
        registry.get("x" * 50_000, "y" * 50_000)
    assert len(str(refused.value)) < 1000


def test_pages_follow_each_other_without_a_gap(registry: EventRegistry) -> None:
    append(registry, *({"id": str(number)} for number in range(25)))
    seen: list[int] = []
    after: int | None = 0
    while after is not None:
        page = scan(registry, ScanQuery(after=after, limit=10))
        seen += sequences(page)
        after = page.next

    assert seen == list(range(1, 26))


def test_the_last_full_page_has_no_next(registry: EventRegistry) -> None:
    append(registry, *({"id": str(number)} for number in range(10)))

    assert scan(registry, ScanQuery(limit=10)).next is None
    assert scan(registry, ScanQuery(limit=9)).next == 9


@pytest.mark.parametrize(
    ("query", "expected"),
    [
        ({"type": "a"}, [1, 3]),
        ({"type": "a\x00"}, [2]),
        ({"subject": "x"}, [1, 2]),
        ({"source": "/two"}, [3]),
        ({"type": "a", "subject": "x"}, [1]),
        ({"type": "a", "source": "/nobody"}, []),
        ({"type": "a", "after": 1}, [3]),
        ({"upto": 2}, [1, 2]),
    ],
)
def test_filters_find_what_fits_all_of_them(
    registry: EventRegistry, query: dict[str, Any], expected: list[int]
) -> None:
    append(
        registry,
        {"id": "1", "type": "a", "subject": "x", "source": "/one"},
        {"id": "2", "type": "a\x00", "subject": "x", "source": "/one"},
        {"id": "3", "type": "a", "subject": "y", "source": "/two"},
    )

    assert sequences(scan(registry, ScanQuery(**query))) == expected


def test_a_range_of_time_includes_both_of_its_ends(db: Any, folder: Path) -> None:
    instants = iter([10, 20, 20, 30, 40])
    registry = EventRegistry(db, folder, now=lambda: next(instants))
    for number in range(5):
        append(registry, {"id": str(number)})

    assert sequences(scan(registry, ScanQuery(recorded_from=20, recorded_to=30))) == [2, 3, 4]
    assert sequences(scan(registry, ScanQuery(recorded_from=41))) == []
    assert sequences(scan(registry, ScanQuery(recorded_to=9))) == []
    assert sequences(scan(registry, ScanQuery(recorded_from=11, recorded_to=19))) == []


def test_large_events_end_a_page_early_and_nothing_is_left_out(registry: EventRegistry) -> None:
    append(registry, *({"id": str(number), "data": "x" * 3_000_000} for number in range(5)))

    first = scan(registry, ScanQuery(limit=1000))

    assert 1 <= len(first.events) < 5
    assert first.next == len(first.events)


def test_a_newer_format_is_refused_and_named(db: Any, folder: Path) -> None:
    db.put(keys.META_SCHEMA, b"99")

    with pytest.raises(DatabaseTooNew, match="99"):
        EventRegistry(db, folder)


def test_a_database_of_another_program_is_refused(db: Any, folder: Path) -> None:
    db.delete(keys.META_SCHEMA)

    with pytest.raises(DatabaseDamaged, match="schema"):
        EventRegistry(db, folder)


def test_creating_leaves_nothing_aside(tmp_path: Path) -> None:
    create_database(tmp_path / "db")

    assert [path.name for path in tmp_path.iterdir()] == ["db"]


def test_what_a_killed_creation_left_is_no_hindrance(tmp_path: Path) -> None:
    (tmp_path / ".db.creating").mkdir()
    (tmp_path / ".db.creating" / "CURRENT").write_text("half")

    create_database(tmp_path / "db")

    assert sorted(path.name for path in tmp_path.iterdir()) == ["db"]


def test_the_identity_survives_opening_again(db: Any, folder: Path) -> None:
    identity = EventRegistry(db, folder).identity

    assert EventRegistry(db, folder).identity == identity
    assert msgspec.json.decode(db.get(keys.META_STORE))["storeId"] == identity.store_id

"""Every record is read and compared, with one process or with several."""

from __future__ import annotations

import itertools
from contextlib import closing
from pathlib import Path

import msgspec
import pytest

from eventvault import clock
from eventvault.database import keys
from eventvault.database.generation import first_identity
from eventvault.database.registry import AppendBatch, EventRegistry, create_database, open_leveldb
from eventvault.errors import ArchiveDamaged
from eventvault.events.event import recorded_of
from eventvault.rehearsals import compare
from eventvault.rehearsals.compare import Comparison, Order
from eventvault.restore import records
from tests.restoring import drafts

EVENTS = 40


def make(folder: Path, *, changed: dict[int, bytes | None] | None = None, **attributes: str) -> Path:
    """A closed database of EVENTS events; always the same ones, but for those that are `changed` (None: removed)."""
    times = itertools.count(1_700_000_000_000_000)
    create_database(folder, first_identity(0))
    with closing(open_leveldb(folder)) as db:
        registry = EventRegistry(db, folder, lambda: next(times))
        for number in range(EVENTS):
            registry.append(
                [AppendBatch(drafts(1, str(number), time="2026-01-31T12:00:00Z", **attributes), b"12345678")]
            )
        for sequence, value in (changed or {}).items():
            if value is None:
                db.delete(keys.event_key(sequence))
            else:
                db.put(keys.event_key(sequence), registry.at(sequence).replace(b'"type":"t"', b'"type":"%s"' % value))
    return folder


def compared(order: Order) -> Comparison:
    return msgspec.convert(compare.compare_events(order=msgspec.to_builtins(order)), Comparison)


@pytest.fixture(params=[1, 3], ids=["one process", "several"])
def order(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Order:
    """The comparison of a database with one that is equal to it."""
    monkeypatch.setattr(records, "thread_count", lambda: request.param)
    monkeypatch.setattr(records, "PART_EVENTS", 10)
    database, live = make(tmp_path / "restored"), make(tmp_path / "live")
    return Order(source="a.tar.gz", database=str(database), live=str(live), common=EVENTS, events=EVENTS)


def test_equal_events_are_equal(order: Order) -> None:
    assert compared(order) == Comparison(EVENTS, 0, None)


@pytest.mark.slow
def test_what_is_not_shared_is_only_read(order: Order) -> None:
    assert compared(msgspec.structs.replace(order, common=7)) == Comparison(7, 0, None)
    assert compared(msgspec.structs.replace(order, common=0)) == Comparison()
    assert compared(msgspec.structs.replace(order, live=None)) == Comparison()


@pytest.mark.slow
def test_each_event_that_differs_is_counted_and_the_first_is_named(order: Order, tmp_path: Path) -> None:
    other = make(tmp_path / "other", changed={5: b"u", 6: b"u", 39: b"u"})

    assert compared(msgspec.structs.replace(order, database=str(other))) == Comparison(EVENTS, 3, 5)
    assert compared(msgspec.structs.replace(order, live=str(other))) == Comparison(EVENTS, 3, 5)


@pytest.mark.slow
@pytest.mark.parametrize("sequence", [1, 22])
def test_an_event_that_is_missing_is_damage(order: Order, tmp_path: Path, sequence: int) -> None:
    other = make(tmp_path / "other", changed={sequence: None})

    for live in (order.live, None):
        with pytest.raises(ArchiveDamaged, match="missing"):
            compared(msgspec.structs.replace(order, database=str(other), live=live))


@pytest.mark.slow
def test_a_record_that_is_no_json_is_damage_where_nothing_is_there_to_compare(order: Order, tmp_path: Path) -> None:
    other = make(tmp_path / "other", changed={30: b'"'})

    with pytest.raises(ArchiveDamaged, match="event 30"):
        compared(msgspec.structs.replace(order, database=str(other), common=29))


def test_the_count_and_the_times_of_the_manifest_count(order: Order) -> None:
    with pytest.raises(ArchiveDamaged, match="manifest says 41"):
        compared(msgspec.structs.replace(order, events=EVENTS + 1))
    with closing(open_leveldb(Path(order.database))) as db:
        registry = EventRegistry(db, Path(order.database))
        first, last = (clock.format_microseconds(recorded_of(registry.at(sequence))) for sequence in (1, EVENTS))
    assert compared(msgspec.structs.replace(order, first_time=first, last_time=last)).differing == 0
    with pytest.raises(ArchiveDamaged, match="event 1 was recorded at"):
        compared(msgspec.structs.replace(order, first_time=last))
    with pytest.raises(ArchiveDamaged, match=f"event {EVENTS} was recorded at"):
        compared(msgspec.structs.replace(order, last_time=first))

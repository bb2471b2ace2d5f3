"""Which identities are stored: the answer is that of LevelDB, whether it is asked or not."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import plyvel
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from eventvault import clock
from eventvault.database import identities, keys
from eventvault.database.identities import Identities
from eventvault.database.registry import AppendBatch, BatchOutdated, EventRegistry, create_database, open_leveldb
from eventvault.events import event
from eventvault.events.event import EventDraft
from eventvault.keyed_request import KeyedRequest

TEXTS = st.text(st.sampled_from("ab\x00\x01\x7fé\U0001f600"), max_size=3)


class CountingLookups:
    """A LevelDB that counts the look-ups of keys."""

    def __init__(self, db: Any) -> None:
        self.lookups = 0
        self._db = db

    def get(self, *arguments: Any, **options: Any) -> Any:
        self.lookups += 1
        return self._db.get(*arguments, **options)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._db, name)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    create_database(tmp_path / "event_registry_db")
    return tmp_path / "event_registry_db"


@pytest.fixture
def db(folder: Path) -> Iterator[CountingLookups]:
    handle = open_leveldb(folder)
    yield CountingLookups(handle)
    handle.close()


def drafts(*ids: str) -> list[EventDraft]:
    return [event.draft({"type": "t", "source": "/s", "id": each}, clock.now()) for each in ids]


def append(registry: EventRegistry, *ids: str) -> list[bool]:
    """Return of each event whether it was there already."""
    (results,) = registry.append([AppendBatch(drafts(*ids), os.urandom(8))])
    return [result.duplicate for result in results]


def numbered(*numbers: int) -> list[str]:
    return [f"{number:06}" for number in numbers]


@pytest.mark.slow
@given(st.lists(st.tuples(TEXTS, TEXTS), max_size=8))
def test_many_keys_are_made_as_each_one_is(pairs: list[tuple[str, str]]) -> None:
    ids, sources = [each for each, _ in pairs], [source for _, source in pairs]

    assert keys.identity_keys(ids, sources) == [keys.identity_key(*pair) for pair in pairs]
    assert keys.index_prefixes(keys.SUBJECT, ids) == [keys.index_prefix(keys.SUBJECT, each) for each in ids]


@settings(max_examples=300, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow])
@given(
    st.lists(st.lists(st.integers(0, 40), min_size=1, max_size=12, unique=True), max_size=12),
    st.integers(1, 8), st.booleans(),
)  # fmt: skip
def test_the_answer_is_that_of_the_database(
    db: CountingLookups, batches: list[list[int]], full: int, opened_anew: bool
) -> None:
    """Whatever is held, in whichever order identities come, and where the database is opened again."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(identities, "FULL", full)
        found, put = Identities(db), set[bytes]()
        for batch in batches:
            names = keys.identity_keys(numbered(*batch), [""] * len(batch))
            answer = found.look_up(names)
            assert answer == [db.get(name) for name in names]
            new = {name: b"v" for name, value in zip(names, answer, strict=True) if value is None}
            for name, value in new.items():
                db.put(name, value)
            put.update(new)
            found.add(new)
            if opened_anew:
                found = Identities(db)
        for name in put:
            db.delete(name)


def test_ids_that_grow_need_no_lookup(db: CountingLookups, folder: Path) -> None:
    registry = EventRegistry(db, folder)
    append(registry, *numbered(1, 4, 7))
    opened_anew = EventRegistry(db, folder)
    before = db.lookups

    assert append(registry, *numbered(10, 13, 2, 5, 8)) == [False] * 5
    assert append(registry, *numbered(3, 6, 9, 12)) == [False] * 4
    assert db.lookups == before
    assert append(opened_anew, *numbered(14, 15)) == [False] * 2
    assert db.lookups == before


def test_an_id_before_those_that_are_held_is_looked_up(db: CountingLookups, folder: Path) -> None:
    append(EventRegistry(db, folder), *numbered(5, 9))
    registry = EventRegistry(db, folder)

    assert append(registry, *numbered(5, 7, 9, 11)) == [True, False, True, False]
    assert append(registry, *numbered(7, 5, 11, 12)) == [True, True, True, False]


def test_few_identities_are_held_of_many(db: CountingLookups, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(identities, "FULL", 100)
    registry = EventRegistry(db, folder)
    for first in range(0, 500, 50):
        append(registry, *numbered(*range(first, first + 50)))
    before = db.lookups

    assert len(registry._identities._older | registry._identities._newer) <= 200
    assert append(registry, *numbered(500, 501)) == [False, False]
    assert db.lookups == before
    assert append(registry, *numbered(0, 120, 499, 500, 502)) == [True, True, True, True, False]


def test_ids_that_come_late_are_looked_up_again(
    db: CountingLookups, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Such as those of a partition that is behind the others."""
    monkeypatch.setattr(identities, "FULL", 2)
    registry = EventRegistry(db, folder)
    for pair in ((1, 2), (9, 10), (3, 4), (11, 12)):
        append(registry, *numbered(*pair))

    assert append(registry, *numbered(9, 3, 1, 5, 12)) == [True, True, True, False, True]


def test_events_that_a_replay_put_are_known(db: CountingLookups, folder: Path) -> None:
    registry = EventRegistry(db, folder)
    append(registry, *numbered(1))
    (put,) = drafts(*numbered(2))
    value = event.recorded_body(put.body, 2, registry.last_recorded)
    identity = keys.identity_key(put.id, put.source)
    rows = [(keys.event_key(2), value), (identity, keys.identity_value(2, bytes(8)))]
    registry.append_recorded(rows, 2, registry.last_recorded)

    assert append(registry, *numbered(2, 3)) == [True, False]


def test_what_was_refused_is_not_taken_for_stored(db: CountingLookups, folder: Path) -> None:
    registry = EventRegistry(db, folder)
    request = KeyedRequest(b"r" * 16, "c" * 64)
    registry.append([AppendBatch(drafts(*numbered(1)), b"nonce--1", request=request)])
    again = AppendBatch(drafts(*numbered(3)), b"nonce--2", request=request)
    with pytest.raises(BatchOutdated):
        registry.append([AppendBatch(drafts(*numbered(2)), b"nonce--3"), again])

    assert append(registry, *numbered(2, 3)) == [False, False]


def test_identities_that_cannot_be_read_are_looked_up(db: CountingLookups, folder: Path) -> None:
    append(EventRegistry(db, folder), *numbered(1))

    class Damaged(CountingLookups):
        def iterator(self, *, prefix: bytes, **options: Any) -> Any:
            if prefix == keys.IDENTITY:
                raise plyvel.CorruptionError("damaged")
            return self._db.iterator(prefix=prefix, **options)

    registry = EventRegistry(Damaged(db), folder)

    assert append(registry, *numbered(1, 2)) == [True, False]
    assert append(registry, *numbered(2, 3)) == [True, False]

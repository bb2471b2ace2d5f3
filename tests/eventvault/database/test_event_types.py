"""Types are counted within bounds: the newest events, and a number of names."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from eventvault.database import event_types
from eventvault.database.event_types import count_types
from eventvault.database.registry import AppendBatch, EventRegistry, create_database, open_leveldb
from eventvault.database.values import TypesQuery
from eventvault.events import event


@pytest.fixture
def registry(tmp_path: Path) -> Iterator[EventRegistry]:
    """Ten events of type `old`, then ten of `new`."""
    create_database(tmp_path / "event_registry_db")
    db = open_leveldb(tmp_path / "event_registry_db")
    filled = EventRegistry(db, tmp_path / "event_registry_db")
    drafts = [event.draft({"type": "old" if number < 10 else "new", "id": str(number)}, 1) for number in range(20)]
    filled.append([AppendBatch(drafts, b"12345678")])
    yield filled
    db.close()


def test_only_the_newest_events_are_counted(registry: EventRegistry, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(event_types, "MAX_COUNTED", 12)
    found = count_types(registry, TypesQuery())
    assert [(each.type, each.events, each.last) for each in found.types] == [("new", 10, 20), ("old", 2, 10)]
    assert (found.counted, found.complete) == (12, False)
    monkeypatch.setattr(event_types, "MAX_COUNTED", 5)
    found = count_types(registry, TypesQuery())
    assert [(each.type, each.events, each.last) for each in found.types] == [("new", 5, 20), ("old", 0, 10)]


def test_only_a_number_of_names_is_looked_at(registry: EventRegistry, monkeypatch: pytest.MonkeyPatch) -> None:
    assert count_types(registry, TypesQuery()).complete
    monkeypatch.setattr(event_types, "MAX_TYPES", 1)
    found = count_types(registry, TypesQuery())
    assert ([each.type for each in found.types], found.complete) == (["new"], False)

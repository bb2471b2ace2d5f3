"""What was read of large events does not stay in memory."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from eventvault.database import paging
from eventvault.database.bus import EventBus
from eventvault.database.keys import event_key
from eventvault.database.paging import scan
from eventvault.database.registry import EventRegistry
from eventvault.database.values import ScanQuery
from tests.processes import own_memory
from tests.restoring import make_database

pytestmark = pytest.mark.slow

EVENTS = 32
LARGE = 4 * 2**20


def test_events_that_were_read_one_by_one_do_not_stay_in_memory(tmp_path: Path) -> None:
    make_database(tmp_path / "db", events=EVENTS, data="x" * LARGE)
    bus = EventBus(tmp_path / "db")
    bus.init([])  # its log becomes tables
    try:
        with bus.using() as registry:
            registry.get_value(event_key(1))
            before = own_memory(os.getpid())
            for sequence in range(1, EVENTS + 1):
                assert len(registry.at(sequence)) > LARGE
            grown = own_memory(os.getpid()) - before
    finally:
        bus.close()
    assert grown < 4 * LARGE


def test_the_newest_event_does_not_stay_in_memory_after_the_opening(tmp_path: Path) -> None:
    make_database(tmp_path / "db", events=1, data="x" * (8 * LARGE))
    bus = EventBus(tmp_path / "db")
    bus.init([])  # its log becomes a table
    bus.close()
    before = own_memory(os.getpid())
    bus = EventBus(tmp_path / "db")
    bus.init([])
    try:
        assert bus.head is not None
        assert own_memory(os.getpid()) - before < 4 * LARGE
    finally:
        bus.close()


def reads_of(registry: EventRegistry, monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Return a list to which the sequence of each event is added that a page reads."""
    read: list[int] = []
    events, at = registry.events, registry.at

    def noted(*arguments: int, **options: Any) -> Iterator[tuple[int, bytes]]:
        for sequence, value in events(*arguments, **options):
            read.append(sequence)
            yield sequence, value

    monkeypatch.setattr(registry, "events", noted)
    monkeypatch.setattr(registry, "at", lambda sequence: read.append(sequence) or at(sequence))
    return read


@pytest.mark.parametrize("event_type", [None, "t"])
@pytest.mark.parametrize(("newest_first", "pages"), [(False, [[1], [2], [3]]), (True, [[3], [2], [1]])])
def test_a_page_that_is_full_reads_no_further_event(
    newest_first: bool, pages: list[list[int]], event_type: str | None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(paging, "PAGE_BYTES", LARGE)
    make_database(tmp_path / "db", data="x" * LARGE)
    bus = EventBus(tmp_path / "db")
    bus.init([])
    try:
        with bus.using() as registry:
            read = reads_of(registry, monkeypatch)
            bound: dict[str, Any] = {}
            for page in pages:
                got = scan(registry, ScanQuery(newest_first=newest_first, type=event_type, **bound))
                assert ([*read], len(got.events)) == (page, 1)
                read.clear()
                bound = {"before" if newest_first else "after": got.next}
            assert got.next is None
    finally:
        bus.close()

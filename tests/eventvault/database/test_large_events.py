"""What was read of large events does not stay in memory."""

from __future__ import annotations

import os
from pathlib import Path

from eventvault.database.bus import EventBus
from eventvault.database.keys import event_key
from tests.processes import own_memory
from tests.restoring import make_database

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

"""Cutting a database after an event."""

from __future__ import annotations

import random
from contextlib import closing
from pathlib import Path

from eventvault.database.registry import AppendBatch, EventRegistry, create_database, open_leveldb
from eventvault.events import event
from eventvault.restore.moments.replay import cut

KILOBYTE = 1024


def test_what_is_cut_off_is_gone_from_the_disk_too(tmp_path: Path) -> None:
    chance = random.Random(1)
    drafts = [event.draft({"type": "a", "data": chance.randbytes(KILOBYTE).hex()}, 1) for _ in range(4000)]
    create_database(tmp_path / "db")
    with closing(open_leveldb(tmp_path / "db")) as db:
        EventRegistry(db, tmp_path / "db").append([AppendBatch(drafts, bytes(8))])
    with closing(open_leveldb(tmp_path / "db")) as db:
        cut(db, EventRegistry(db, tmp_path / "db"), 3)
    with closing(open_leveldb(tmp_path / "db")) as db:
        registry = EventRegistry(db, tmp_path / "db")
        assert registry.last_sequence == 3
        assert [sequence for sequence, _ in registry.events(0, 10)] == [1, 2, 3]
    assert sum(file.stat().st_size for file in (tmp_path / "db").iterdir()) < 1000 * KILOBYTE

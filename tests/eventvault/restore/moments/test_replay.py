"""A replayed registry equals the original, key by key; a cut one has nothing of the later events."""

from __future__ import annotations

import random
from contextlib import closing
from functools import partial
from pathlib import Path

import pytest

from eventvault import clock
from eventvault.database import bulk, keys
from eventvault.database.generation import Generation
from eventvault.database.registry import AppendBatch, EventRegistry, create_database, open_leveldb
from eventvault.events import event
from eventvault.journal import segment
from eventvault.journal.segment import SegmentInfo
from eventvault.restore.moments import replay

EVENTS = 5000
KILOBYTE = 1024
GENERATION = Generation("0123456789abcdef", None, 0, "created", 1)


def appended(folder: Path) -> list[bytes]:
    """A new registry with events of all kinds of attributes, and their lines."""
    bodies = ({"type": f"t{n % 3}", "source": f"/{n % 5}", "id": f"{n}", "subject": "ü\0" * (n % 2) or None}
              for n in range(EVENTS))  # fmt: skip
    said = ({name: value for name, value in body.items() if value is not None} for body in bodies)
    create_database(folder)
    with closing(open_leveldb(folder)) as db:
        registry = EventRegistry(db, folder)
        registry.append([AppendBatch([event.draft(body, clock.now()) for body in said], bytes(keys.NONCE_BYTES))])
        return [line for _, line in registry.events(0, EVENTS)]


def content(folder: Path) -> dict[bytes, bytes]:
    """All keys and values of a registry but its identity, and the version that stored them, which no segment tells."""
    with closing(open_leveldb(folder)) as db, db.iterator() as rows:
        return {key: value for key, value in rows if key not in (keys.META_STORE, keys.META_ENCODED)}


def segments(folder: Path, lines: list[bytes]) -> list[Path]:
    folder.mkdir()
    paths = []
    for start in range(0, len(lines), 1200):
        about = SegmentInfo(store_id="0" * 16, installation="i", generation=GENERATION, first=start + 1)
        paths.append(segment.write_segment(folder, about, lines[start : start + 1200]).path)
    return paths


@pytest.mark.parametrize("waiting", [bulk.WAITING_BYTES, 300_000, 1])
def test_every_key_is_there_however_many_of_them_may_wait(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, waiting: int
) -> None:
    monkeypatch.setattr(bulk, "bulk_writer", partial(bulk.bulk_writer, waiting=waiting))
    lines = appended(tmp_path / "appended")
    paths = segments(tmp_path / GENERATION.id, lines)
    create_database(tmp_path / "replayed")

    with closing(open_leveldb(tmp_path / "replayed")) as db:
        last = replay.replay(db, EventRegistry(db, tmp_path / "replayed"), [(path, EVENTS) for path in paths])

    assert last == EVENTS
    assert content(tmp_path / "replayed") == content(tmp_path / "appended")


def test_what_is_cut_off_is_gone_from_the_disk_too(tmp_path: Path) -> None:
    chance = random.Random(1)
    drafts = [event.draft({"type": "a", "data": chance.randbytes(KILOBYTE).hex()}, 1) for _ in range(4000)]
    create_database(tmp_path / "db")
    with closing(open_leveldb(tmp_path / "db")) as db:
        EventRegistry(db, tmp_path / "db").append([AppendBatch(drafts, bytes(8))])
    with closing(open_leveldb(tmp_path / "db")) as db:
        replay.cut(db, EventRegistry(db, tmp_path / "db"), 3)
    with closing(open_leveldb(tmp_path / "db")) as db:
        registry = EventRegistry(db, tmp_path / "db")
        assert registry.last_sequence == 3
        assert [sequence for sequence, _ in registry.events(0, 10)] == [1, 2, 3]
    assert sum(file.stat().st_size for file in (tmp_path / "db").iterdir()) < 1000 * KILOBYTE

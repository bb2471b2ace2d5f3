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
from eventvault.database.keyed_requests import StoredAnswer
from eventvault.database.registry import AppendBatch, EventRegistry, create_database, open_leveldb
from eventvault.events import event
from eventvault.journal import segment
from eventvault.journal.segment import SegmentInfo
from eventvault.keyed_request import KEEP_MICROSECONDS, KeyedRequest
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


@pytest.mark.slow
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


def keyed(folder: Path, times: list[int]) -> tuple[list[bytes], list[StoredAnswer]]:
    """A registry to which two events were appended at each of these instants, each time by a request with a key."""
    create_database(folder)
    answers: list[StoredAnswer] = []
    with closing(open_leveldb(folder)) as db:
        for number, now in enumerate(times):
            made = [event.draft({"type": "t", "id": f"{number}-{each}"}, now) for each in range(2)]
            request = KeyedRequest(b"%16d" % number, "content")
            registry = EventRegistry(db, folder, now=lambda now=now: now)  # type: ignore[misc]
            registry.append([AppendBatch(made, number.to_bytes(8, "big"), request=request)])
            answers += registry.answers(registry.last_sequence, registry.last_sequence)
        return [line for _, line in registry.events(0, 100)], answers


@pytest.mark.parametrize(
    ("base", "upto", "there"), [(0, 8, [0, 1, 2, 3]), (0, 5, [0, 1]), (4, 8, [2, 3]), (3, 6, [1, 2])]
)
def test_the_answers_come_with_the_events_that_their_requests_stored(
    tmp_path: Path, base: int, upto: int, there: list[int]
) -> None:
    lines, answers = keyed(tmp_path / "appended", [clock.now()] * 4)
    (tmp_path / GENERATION.id).mkdir()
    about = SegmentInfo(store_id="0" * 16, installation="i", generation=GENERATION, first=1)
    path = segment.write_segment(tmp_path / GENERATION.id, about, lines, answers).path
    create_database(tmp_path / "replayed")

    with closing(open_leveldb(tmp_path / "replayed")) as db:
        registry = EventRegistry(db, tmp_path / "replayed")
        puts = [put for number, line in enumerate(lines[:base], 1) for put in replay.recorded_puts(line, number)]
        registry.append_recorded(puts, base, clock.now())
        replay.replay(db, EventRegistry(db, tmp_path / "replayed"), [(path, upto)])
        restored = EventRegistry(db, tmp_path / "replayed")
        found = [number for number in range(4) if restored.answer_of(KeyedRequest(b"%16d" % number, "content"))]

    assert found == there


def test_answers_that_have_expired_at_the_end_are_not_brought_back(tmp_path: Path) -> None:
    day, now = KEEP_MICROSECONDS, clock.now()
    lines, answers = keyed(tmp_path / "appended", [now - 2 * day, now - day, now - day + 1, now])
    (tmp_path / GENERATION.id).mkdir()
    about = SegmentInfo(store_id="0" * 16, installation="i", generation=GENERATION, first=1)
    path = segment.write_segment(tmp_path / GENERATION.id, about, lines, answers).path
    create_database(tmp_path / "replayed")

    with closing(open_leveldb(tmp_path / "replayed")) as db:
        replay.replay(db, EventRegistry(db, tmp_path / "replayed"), [(path, 8)])
        brought = [answer.sequence for answer in EventRegistry(db, tmp_path / "replayed").answers(1, 8)]

    assert brought == [6, 8]


@pytest.mark.slow
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

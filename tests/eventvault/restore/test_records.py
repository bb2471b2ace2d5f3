"""Every record of an unpacked database is read, by one process or by several."""

from __future__ import annotations

import errno
import itertools
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any

import orjson
import pytest

from eventvault.database import keys
from eventvault.database.registry import EventRegistry, open_leveldb
from eventvault.errors import ArchiveDamaged, ArchiveError, DatabaseError, DatabaseLocked
from eventvault.restore import records
from tests.eventvault.leveldb_errors import OTHER, from_leveldb
from tests.restoring import make_database

EVENTS = 7
NAME = "a.tar.gz"
Check = Callable[[Path, int | None], None]


def alone(database: Path, expected: int | None) -> None:
    with closing(open_leveldb(database)) as db:
        records.check_records(EventRegistry(db, database), NAME, expected)


@pytest.fixture(params=["alone", "together"])
def check(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Check:
    """together: by three processes, which read the events 1 to 2, 3 to 4 and 5 to 7."""
    if request.param == "alone":
        return alone
    monkeypatch.setattr(records, "PART_EVENTS", 2)
    monkeypatch.setattr(records, "thread_count", lambda: 3)
    assert records.divide(EVENTS) == [(0, 2), (2, 4), (4, 7)]
    return lambda database, expected: records.check_together(Path(NAME), database, expected)


@pytest.fixture
def database(tmp_path: Path) -> Path:
    folder = tmp_path / "db"
    make_database(folder, events=EVENTS)
    return folder


def spoil(folder: Path, sequence: int, change: dict[str, Any] | bytes | None) -> None:
    with closing(open_leveldb(folder)) as db:
        key = keys.event_key(sequence)
        if change is None:
            db.delete(key)
        elif isinstance(change, bytes):
            db.put(key, change)
        else:
            db.put(key, orjson.dumps({**orjson.loads(db.get(key)), **change}))


LONG_AGO = {"recordedtime": "1999-01-01T00:00:00.000000Z"}
END = b',"sequence":3,"recordedtime":"2999-01-01T00:00:00.000000Z"}'


@pytest.mark.slow
@pytest.mark.parametrize(
    ("sequence", "change", "words"),
    [
        (2, None, "event 2 is missing"),
        (3, None, "event 3 is missing"),
        (6, None, "event 6 is missing"),
        (2, {"sequence": 3}, "event 2 is not as it was written"),
        (6, {"sequence": 5}, "event 6 is not as it was written"),
        (2, LONG_AGO, "event 2 is not as it was written"),
        (3, LONG_AGO, "event 3 is not as it was written"),
        (7, LONG_AGO, "event 7 is not as it was written"),
        (3, {"recordedtime": "2999-13-01T00:00:00.000000Z"}, "event 3 is not as it was written"),
        (3, {"recordedtime": "2999-01-01T00:00:00Z"}, "event 3 is not as it was written"),
        (3, {"more": 1}, "event 3 is not as it was written"),
        (3, b"no JSON", "event 3 is not as it was written"),
        (3, b'{"a":"\xff"' + END, "event 3 is not as it was written"),
        (3, b'{"a":01' + END, "event 3 is not as it was written"),
        (3, b'{"a":{' + END, "event 3 is not as it was written"),
        (3, b"[1" + END, "event 3 is not as it was written"),
    ],
)
def test_a_record_that_is_missing_or_not_as_it_was_written_is_said(
    database: Path, check: Check, sequence: int, change: Any, words: str
) -> None:
    spoil(database, sequence, change)

    with pytest.raises(ArchiveError, match=words) as caught:
        check(database, EVENTS)
    assert caught.value.code == ArchiveDamaged.code


@pytest.mark.slow
def test_as_many_as_the_manifest_promises_must_be_there_and_nothing_is_left_beside(
    database: Path, check: Check
) -> None:
    check(database, EVENTS)
    check(database, None)
    with pytest.raises(ArchiveDamaged, match="holds 7 events; its manifest says 8"):
        check(database, EVENTS + 1)

    assert list(database.parent.iterdir()) == [database]


@pytest.mark.parametrize("check", ["together"], indirect=True)
def test_no_copies_are_made_where_they_would_need_as_much_room_as_the_database(
    database: Path, check: Check, monkeypatch: pytest.MonkeyPatch
) -> None:
    def no_links(*_: object) -> None:
        raise PermissionError(errno.EPERM, "Operation not permitted")

    monkeypatch.setattr(Path, "hardlink_to", no_links)
    monkeypatch.setattr(records, "copy_database", lambda *_: pytest.fail("a copy of all bytes"))

    check(database, EVENTS)
    with pytest.raises(ArchiveDamaged, match="its manifest says 8"):
        check(database, EVENTS + 1)


@pytest.mark.parametrize("cores", [1, 2, 3, 4])
@pytest.mark.parametrize("last", [0, 1, 199_999, 200_000, 1_000_001])
def test_every_event_is_in_one_part(monkeypatch: pytest.MonkeyPatch, cores: int, last: int) -> None:
    monkeypatch.setattr(records, "thread_count", lambda: cores)
    parts = records.divide(last)

    assert (parts[0][0], parts[-1][1]) == (0, last)
    assert all(one[1] == other[0] for one, other in itertools.pairwise(parts))
    assert len(parts) <= cores


@pytest.mark.parametrize("number", OTHER)
def test_what_the_system_cannot_read_is_no_damage_of_the_archive(number: int) -> None:
    for error in (from_leveldb(number), OSError(number, "x"), DatabaseLocked("x"), DatabaseError("x")):
        with pytest.raises(type(error)), records.as_archive_error(Path(NAME)):
            raise error
    with pytest.raises(ArchiveDamaged), records.as_archive_error(Path(NAME)):
        raise from_leveldb(errno.EINVAL, "/db/000005.ldb")


def test_large_events_take_little_memory_at_a_time() -> None:
    values = [b"x" * 2**18] * 40 + [b"y"] * 3000

    batches = list(records.batches(iter(values)))

    assert [value for batch in batches for value in batch] == values
    assert max(sum(map(len, batch)) for batch in batches) <= 2**20
    assert max(map(len, batches)) <= 1000

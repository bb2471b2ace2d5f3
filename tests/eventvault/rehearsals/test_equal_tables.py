"""Events that two databases read from equal tables need no comparison; all others do."""

from __future__ import annotations

import random
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from eventvault.database import keys
from eventvault.database.clone import copy_database
from eventvault.database.generation import first_identity
from eventvault.database.opening import open_checked
from eventvault.database.registry import AppendBatch, EventRegistry, create_database, open_leveldb, write_identity
from eventvault.rehearsals.equal_tables import ranges_to_compare
from tests.restoring import drafts

EVENTS = 3000


@pytest.fixture(scope="module")
def tables(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A closed database whose events are in several tables, and whose log is empty."""
    folder = tmp_path_factory.mktemp("database") / "db"
    create_database(folder, first_identity(0))
    chance = random.Random(1)
    with closing(open_leveldb(folder, write_buffer=64 * 1024)) as db:
        for batch in range(30):
            different = [
                draft
                for number in range(EVENTS // 30)
                for draft in drafts(1, f"{batch}-{number}", data=chance.randbytes(1000).hex())
            ]
            EventRegistry(db, folder).append([AppendBatch(different, b"12345678")])
        db.compact_range()  # nothing is left to be compacted when it is opened
    open_checked(folder).close()
    assert len(list(folder.glob("*.ldb"))) > 1
    return folder


@pytest.fixture
def pair(tables: Path, tmp_path: Path) -> Iterator[tuple[Path, Path]]:
    copy_database(tables, tmp_path / "one")
    copy_database(tables, tmp_path / "other")
    return tmp_path / "one", tmp_path / "other"


def opened_again(folder: Path) -> None:
    open_checked(folder).close()


def test_copies_are_equal(pair: tuple[Path, Path]) -> None:
    assert ranges_to_compare(*pair, EVENTS) == []


@pytest.mark.slow
def test_a_new_generation_and_new_events_leave_the_earlier_ones_equal(pair: tuple[Path, Path]) -> None:
    one, other = pair
    with closing(open_leveldb(one)) as db:
        write_identity(db, first_identity(1))
    with closing(open_leveldb(other)) as db:
        EventRegistry(db, other).append([AppendBatch(drafts(10, "new"), b"12345678")])
    opened_again(one)
    opened_again(other)

    assert ranges_to_compare(one, other, EVENTS) == []
    assert ranges_to_compare(one, other, EVENTS + 10) == [(EVENTS, EVENTS + 10)]


def test_a_log_that_is_not_empty_says_nothing(pair: tuple[Path, Path]) -> None:
    one, other = pair
    with closing(open_leveldb(one)) as db:
        write_identity(db, first_identity(1))

    assert ranges_to_compare(one, other, EVENTS) == [(0, EVENTS)]


def test_a_table_with_one_other_bit_is_compared_record_by_record(pair: tuple[Path, Path]) -> None:
    one, other = pair
    for table in sorted(other.glob("*.ldb")):
        content = bytearray(table.read_bytes())
        content[len(content) // 2] ^= 1
        table.unlink()  # it is a hard link of the other one
        table.write_bytes(content)

    assert ranges_to_compare(one, other, EVENTS) == [(0, EVENTS)]


@pytest.mark.parametrize("seed", range(5))
def test_whatever_is_done_to_one_of_them_each_differing_event_is_in_a_range(pair: tuple[Path, Path], seed: int) -> None:
    one, other = pair
    chance = random.Random(seed)
    changed = chance.sample(range(1, EVENTS + 1), 5)
    with closing(open_leveldb(other)) as db:
        registry = EventRegistry(db, other)
        for sequence in changed:
            db.put(keys.event_key(sequence), registry.at(sequence).replace(b'"type":"t"', b'"type":"u"'))
        if chance.random() < 0.5:
            db.compact_range()
    opened_again(other)

    ranges = ranges_to_compare(one, other, EVENTS)

    assert all(any(after < sequence <= upto for after, upto in ranges) for sequence in changed)

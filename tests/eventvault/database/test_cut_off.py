"""A log that ends torn is cut off after its last whole record, and the database opens with paranoid checks."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import pytest

from eventvault.database.cut_off import RETENTION_SECONDS, remove_expired
from eventvault.database.opening import open_checked
from eventvault.database.registry import EventRegistry, open_leveldb
from eventvault.leveldb.examine import examine_database
from eventvault.leveldb.log import BLOCK_SIZE
from tests.restoring import bytes_of, flip, make_database

EVENTS = 300


def append(log: Path, content: bytes) -> None:
    with log.open("ab") as file:
        file.write(content)


def lose_a_page(log: Path) -> None:
    """The second page of the last record never reached the disk; the file has its full length."""
    content = bytearray(log.read_bytes())
    page = (len(content) - 6000) // 4096 * 4096
    content[page : page + 4096] = bytes(4096)
    log.write_bytes(content)


ENDINGS: dict[str, Callable[[Path], None]] = {
    "a record that is cut in its payload": lambda log: os.truncate(log, log.stat().st_size - 3),
    "a record of several blocks that is cut": lambda log: os.truncate(log, log.stat().st_size - BLOCK_SIZE),
    "a header that is cut off": lambda log: append(log, b"\1\2\3"),
    "a header of a fragment that is longer than the rest": lambda log: append(log, b"\1\2\3\4\xff\x10\1" + b"x" * 60),
    "bytes that were never written": lambda log: append(log, b"\1\2\3\4\x40\0\1" + bytes(64)),
    "a page that was never written": lose_a_page,
    "a flipped bit in the last record": lambda log: flip(log, -20),
}


def torn(folder: Path, ending: str) -> Path:
    """A database whose first record has the metadata, and whose log has an event in each of two more."""
    make_database(folder, events=EVENTS, data="x" * 300)
    (log,) = folder.glob("*.log")
    ENDINGS[ending](log)
    return log


@pytest.mark.parametrize("ending", ENDINGS)
def test_a_torn_end_is_cut_off_and_its_bytes_are_retained(tmp_path: Path, ending: str) -> None:
    folder, retained = tmp_path / "db", tmp_path / "cut_off"
    log = torn(folder, ending)
    content = log.read_bytes()
    (state,) = examine_database(folder).logs

    with closing(open_checked(folder, retain_in=retained)) as db:
        registry = EventRegistry(db, folder)
        assert registry.last_sequence in (0, EVENTS)
        assert len(list(registry.events(0, EVENTS))) == registry.last_sequence

    (file,) = retained.iterdir()
    assert content == content[: state.offset] + file.read_bytes()
    with closing(open_leveldb(folder)) as db:
        assert EventRegistry(db, folder).last_sequence == registry.last_sequence


@pytest.mark.parametrize("ending", ["a page that was never written", "a flipped bit in the last record"])
def test_leveldb_refuses_the_end_that_is_not_cut_off(tmp_path: Path, ending: str) -> None:
    torn(tmp_path / "db", ending)
    with pytest.raises(Exception, match="Corruption"):
        open_leveldb(tmp_path / "db")


@pytest.mark.parametrize("ending", ENDINGS)
def test_only_a_complete_record_with_a_wrong_checksum_counts_as_changed(tmp_path: Path, ending: str) -> None:
    torn(tmp_path / "db", ending)
    (state,) = examine_database(tmp_path / "db").logs
    assert state.changed == (ending == "a flipped bit in the last record")


def test_a_whole_log_is_not_changed_and_nothing_is_retained(tmp_path: Path) -> None:
    make_database(tmp_path / "db")
    before = bytes_of(tmp_path / "db")
    open_checked(tmp_path / "db", retain_in=tmp_path / "cut_off").close()
    assert not (tmp_path / "cut_off").exists()
    assert before.keys() != bytes_of(tmp_path / "db").keys(), "it was not opened"


def test_what_was_cut_off_is_removed_after_thirty_days_and_not_before(tmp_path: Path) -> None:
    for name, age in (("old.log", RETENTION_SECONDS + 60), ("new.log", RETENTION_SECONDS - 3600)):
        (tmp_path / name).touch()
        os.utime(tmp_path / name, (time.time() - age,) * 2)
    remove_expired(tmp_path)
    remove_expired(tmp_path / "missing")
    assert [file.name for file in tmp_path.iterdir()] == ["new.log"]

"""Examining real databases, whole and spoilt in each way, before anything opens them."""

from __future__ import annotations

import fcntl
import os
import random
import shutil
import struct
import subprocess
import sys
from pathlib import Path

import plyvel
import pytest

from eventvault.leveldb.examine import LogState, examine_database, file_numbers
from eventvault.leveldb.log import Ending
from tests.eventvault.leveldb.log_writer import write_log
from tests.eventvault.small_databases import named_table


@pytest.fixture
def database(tmp_path: Path) -> Path:
    """Closed, with tables and a log of 50 records of about 100 bytes."""
    folder = tmp_path / "db"
    opened = plyvel.DB(str(folder), create_if_missing=True, write_buffer_size=65536)
    for number in range(2000):
        opened.put(b"%08d" % number, b"x" * 100)
    opened.compact_range()
    for number in range(2000, 2050):
        opened.put(b"%08d" % number, b"x" * 100)
    opened.close()
    return folder


def the(folder: Path, pattern: str) -> Path:
    return sorted(folder.glob(pattern))[-1]


def fingerprint(folder: Path) -> dict[str, tuple[int, int, bytes]]:
    return {path.name: (path.stat().st_ino, path.stat().st_mtime_ns, path.read_bytes()) for path in folder.iterdir()}


def test_a_whole_database_has_no_problems_and_is_left_as_it_is(database: Path) -> None:
    before = fingerprint(database)
    found = examine_database(database)
    assert fingerprint(database) == before
    assert not found.damaged
    assert found.manifest is not None
    assert found.manifest.startswith("MANIFEST-")
    assert found.tables >= 1
    assert found.last_sequence == 2050
    assert [(log.ending, log.records, log.next) for log in found.logs] == [(Ending.CLEAN, 50, 2051)]
    assert found.logs[0].first == 2001


def test_it_says_the_same_while_the_database_is_open(database: Path) -> None:
    opened = plyvel.DB(str(database))
    opened.put(b"more", b"value")
    assert not examine_database(database).damaged
    assert examine_database(database).last_sequence == 2051
    opened.close()


def test_the_lock_that_this_process_holds_is_still_held_afterwards(database: Path) -> None:
    opened = plyvel.DB(str(database))
    examine_database(database)
    attempt = "import fcntl, sys; fcntl.lockf(open(sys.argv[1], 'r+'), fcntl.LOCK_EX | fcntl.LOCK_NB)"
    other = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", attempt, str(database / "LOCK")], capture_output=True, check=False
    )
    opened.close()
    assert other.returncode != 0
    assert b"BlockingIOError" in other.stderr
    with (database / "LOCK").open("r+") as lock:
        fcntl.lockf(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)


@pytest.mark.parametrize("cut", [1, 6, 50, 120])
def test_a_torn_tail_is_no_problem_and_its_place_is_told(database: Path, cut: int) -> None:
    log = the(database, "*.log")
    os.truncate(log, log.stat().st_size - cut)
    found = examine_database(database)
    assert not found.damaged
    assert found.logs[0].ending in (Ending.TORN, Ending.CLEAN)
    assert found.logs[0].offset <= log.stat().st_size
    assert found.logs[0].records in (48, 49)
    assert not found.logs[0].changed
    assert found.last_sequence == 2000 + found.logs[0].records


@pytest.mark.slow
def test_a_flipped_bit_in_the_log_is_told_from_a_torn_tail_wherever_it_is(database: Path) -> None:
    """What LevelDB opens without a word, with records gone."""
    log = the(database, "*.log")
    content = log.read_bytes()
    last_record = examine_database(database).logs[0].offset - 131
    for place in random.Random(7).sample(range(last_record), 60):
        spoilt = bytearray(content)
        spoilt[place] ^= 1 << place % 8
        log.write_bytes(spoilt)
        found = examine_database(database)
        assert found.damaged, place
        assert f"{log.name} is damaged" in found.problems[0]
        assert found.logs[0].offset <= place


def test_a_flipped_bit_in_the_last_record_is_a_torn_tail_that_has_changed(database: Path) -> None:
    log = the(database, "*.log")
    spoilt = bytearray(log.read_bytes())
    spoilt[-10] ^= 4
    log.write_bytes(spoilt)
    found = examine_database(database)
    assert not found.damaged
    assert (found.logs[0].ending, found.logs[0].records, found.logs[0].changed) == (Ending.TORN, 49, True)


@pytest.mark.slow
def test_every_flipped_bit_of_the_last_record_shows_that_it_has_changed(database: Path) -> None:
    """Also one in its length, which the checksum does not cover."""
    log = the(database, "*.log")
    whole = log.read_bytes()
    begin = examine_of(log, whole[:-1]).offset
    for place in (*range(begin, begin + 7), *range(begin + 7, len(whole), 9)):
        for bit in range(8):
            spoilt = bytearray(whole)
            spoilt[place] ^= 1 << bit
            state = examine_of(log, spoilt)
            assert (state.ending, state.records, state.changed) == (Ending.TORN, 49, True), (place - begin, bit)


@pytest.mark.slow
@pytest.mark.parametrize("length", [3, 20_000])
def test_a_last_record_that_never_came_to_its_end_has_not_changed(database: Path, length: int) -> None:
    log = the(database, "*.log")
    whole = log.read_bytes()
    more = write_log([b"", struct.pack("<QI", 2051, 1) + random.Random(length).randbytes(length)])[7:]
    for cut in range(1, len(more), max(1, len(more) // 50)):
        state = examine_of(log, whole + more[:cut])
        assert (state.ending, state.changed) == (Ending.TORN, False), cut


def examine_of(log: Path, content: bytes | bytearray) -> LogState:
    log.write_bytes(content)
    return examine_database(log.parent).logs[0]


@pytest.mark.parametrize("harm", ["no record", "gone"])
def test_a_log_before_the_newest_one_has_records(database: Path, harm: str) -> None:
    """What the MANIFEST's last sequence hides: it may be that of the later log."""
    log = the(database, "*.log")
    later = log.with_name(f"{int(log.stem) + 1:06d}.log")
    later.write_bytes(write_log([struct.pack("<QI", 2001, 1) + b"\x01\x01k\x01v"]))
    log.write_bytes(b"")
    assert "it has no record, and a later log has" in problem(database)
    if harm == "gone":
        log.unlink()
        assert problem(database) == f"{log.name} is missing, and a later log has records"


@pytest.mark.parametrize("harm", ["cut", "flipped", "emptied"])
def test_a_log_before_the_newest_one_has_no_torn_end(database: Path, harm: str) -> None:
    """LevelDB began the later log after a whole record: what is missing before it was on disk."""
    log = the(database, "*.log")
    later = log.with_name(f"{int(log.stem) + 1:06d}.log")
    later.write_bytes(write_log([struct.pack("<QI", 2051, 1) + b"\x01\x01k\x01v"]))
    assert not examine_database(database).damaged
    content = bytearray(log.read_bytes())
    if harm == "flipped":
        content[-10] ^= 4
    log.write_bytes({"cut": content[:-10], "flipped": content, "emptied": content[:50]}[harm])
    assert f"{log.name} is damaged" in examine_database(database).problems[0]


def problem(folder: Path) -> str:
    found = examine_database(folder)
    assert found.damaged
    assert len(found.problems) == 1
    return found.problems[0]


def test_a_missing_table_is_named(database: Path) -> None:
    table = named_table(database)
    table.unlink()
    assert problem(database) == f"table {table.stem} is missing"


def test_a_table_of_another_size_is_named_with_both_sizes(database: Path) -> None:
    table = named_table(database)
    size = table.stat().st_size
    os.truncate(table, size - 1)
    assert problem(database) == f"{table.name} has {size - 1} bytes instead of {size}"


def test_a_table_with_the_ending_of_older_versions_counts(database: Path) -> None:
    table = named_table(database)
    table.rename(table.with_suffix(".sst"))
    assert not examine_database(database).damaged


def test_a_missing_manifest_is_named(database: Path) -> None:
    manifest = the(database, "MANIFEST-*")
    manifest.unlink()
    assert manifest.name in problem(database)


def test_a_missing_current_file_is_named(database: Path) -> None:
    (database / "CURRENT").unlink()
    assert "CURRENT" in problem(database)


def test_a_spoilt_current_file_is_named(database: Path) -> None:
    (database / "CURRENT").write_bytes(b"\0" * 16)
    assert "does not name a MANIFEST" in problem(database)


def test_damage_in_the_manifest_is_named(database: Path) -> None:
    manifest = the(database, "MANIFEST-*")
    content = bytearray(manifest.read_bytes())
    content[10] ^= 1
    manifest.write_bytes(content)
    assert f"{manifest.name} is damaged" in problem(database)


def test_a_log_that_is_missing_between_two_others_is_noticed(database: Path) -> None:
    """Two logs are there when a crash comes while the older one is being made into a table."""
    log = the(database, "*.log")
    folder = log.parent
    later = folder / f"{int(log.stem) + 9:06d}.log"
    opened = plyvel.DB(str(shutil.copytree(folder, folder.parent / "other")))
    opened.put(b"gap", b"1")
    opened.put(b"later", b"2")
    opened.close()
    shutil.copy(the(folder.parent / "other", "*.log"), later)
    assert not examine_database(folder).damaged
    log.unlink()
    assert problem(folder) == f"{later.name} begins at 2051, but the operations before it end at 2000"


def test_a_log_that_holds_no_batches_is_damage(database: Path) -> None:
    log = the(database, "*.log")
    log.write_bytes(write_log([b"short"]))
    assert "too few for a batch" in problem(database)


def test_logs_that_are_in_the_tables_already_are_not_looked_at(database: Path) -> None:
    (database / "000001.log").write_bytes(b"what LevelDB will remove when it opens")
    found = examine_database(database)
    assert not found.damaged
    assert "000001.log" not in [log.name for log in found.logs]


def test_files_are_numbered_as_leveldb_numbers_them() -> None:
    names = ["1000000.log", "000009.log", "000010.ldb", "LOCK", "x9.log", "000011.log.tmp", "000012.sst"]
    assert file_numbers(names, "log") == {9: "000009.log", 1000000: "1000000.log"}
    assert file_numbers(names, "ldb", "sst") == {10: "000010.ldb", 12: "000012.sst"}

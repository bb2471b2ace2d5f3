"""Finds the events that two databases read from equal tables, so that these records need not be compared one by one.

Tables never change, so the live database still has most tables of an archive. LevelDB reads a range of keys from the
tables that overlap the range, and from logs. So if all of these are equal, byte for byte, the events are equal.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import closing
from functools import partial
from pathlib import Path

from eventvault.archive.parallel import in_order
from eventvault.database import keys
from eventvault.database.generation import NO_BOUND
from eventvault.files import IO_BYTES, matching, read_at
from eventvault.leveldb.examine import file_numbers
from eventvault.leveldb.manifest import TableFile, Version, read_current, read_version
from eventvault.regular_files import open_file

Range = tuple[int, int]
"""The events after the first number, up to the second."""


def ranges_to_compare(one: Path, other: Path, upto: int) -> list[Range]:
    """Return the ranges of the first `upto` events that may not come from equal tables in the two databases.

    Nobody has the databases open. Both were opened before, which empties their logs; if a log is not empty, the whole
    range is returned. Raises DatabaseDamaged or OSError.
    """
    if any(log.stat().st_size for folder in (one, other) for log in matching(folder, "*.log")):
        return [(0, upto)]
    differing = _differing_tables(one, other)
    return list(_joined([_events_of(table) for table in differing], upto))


def _differing_tables(one: Path, other: Path) -> list[TableFile]:
    """Return the tables of either database that the other one does not have."""
    versions = [_version(folder).files for folder in (one, other)]
    names = [file_numbers([path.name for path in folder.iterdir()], "ldb", "sst") for folder in (one, other)]
    in_both = versions[0].keys() & versions[1].keys() & names[0].keys() & names[1].keys()
    candidates = [
        number for number, table in versions[0].items() if number in in_both and table.size == versions[1][number].size
    ]
    jobs: Iterator[Callable[[], bool]] = (
        partial(_are_equal, one / names[0][number], other / names[1][number]) for number in candidates
    )
    with closing(in_order(jobs)) as results:
        equal = {number for number, is_equal in zip(candidates, results, strict=True) if is_equal}
    return [table for files in versions for number, table in files.items() if number not in equal]


def _version(database: Path) -> Version:
    with open_file(database / read_current(database)) as file:
        return read_version(file)


def _are_equal(one: Path, other: Path) -> bool:
    with open_file(one) as first, open_file(other) as second:
        size = one.stat().st_size
        if other.stat().st_size != size:
            return False
        handles = first.fileno(), second.fileno()
        return all(
            read_at(handles[0], offset, IO_BYTES) == read_at(handles[1], offset, IO_BYTES)
            for offset in range(0, size, IO_BYTES)
        )


def _events_of(table: TableFile) -> Range:
    """Return the events whose keys lie between the first and the last key of a table."""
    first = keys.sequence_of(table.smallest) if _is_event(table.smallest) else _beyond(table.smallest)
    last = keys.sequence_of(table.largest) if _is_event(table.largest) else _beyond(table.largest)
    return max(0, first - 1), last


def _is_event(key: bytes) -> bool:
    return key.startswith(keys.EVENT) and len(key) == len(keys.event_key(0))


def _beyond(key: bytes) -> int:
    """Return a sequence in place of a key that is not an event's: one before all events, or one after them."""
    return 0 if key < keys.EVENT else NO_BOUND


def _joined(ranges: list[Range], upto: int) -> Iterator[Range]:
    """Yield the parts of these ranges up to `upto`, in order; ranges that touch or overlap become one."""
    begin = end = 0
    for first, last in sorted((first, min(last, upto)) for first, last in ranges if first < min(last, upto)):
        if first > end:
            if end > begin:
                yield begin, end
            begin = first
        end = max(end, last)
    if end > begin:
        yield begin, end

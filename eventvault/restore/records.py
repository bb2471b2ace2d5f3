"""Reads every record of a database of ours, on one core or on all.

LevelDB lets only one process open a database. So each further process opens a copy, whose tables are hard links.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, NamedTuple

import msgspec
import plyvel

from eventvault.archive.parallel import thread_count
from eventvault.chores import Chores
from eventvault.damage import is_damage
from eventvault.database.clone import copy_database
from eventvault.database.opening import open_checked
from eventvault.database.registry import EventRegistry
from eventvault.errors import ArchiveAlien, ArchiveDamaged, ArchiveTooNew, DatabaseDamaged, DatabaseTooNew
from eventvault.events import event
from eventvault.files import remove_durably
from eventvault.leveldb.dialect import OtherDialect
from eventvault.progress import LONGEST_SECONDS

PART_EVENTS = 100_000
"""Fewer events are not worth a process of their own."""
Part = tuple[int, int]
"""The events after the first number, up to the second."""
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


class _Stored(msgspec.Struct, gc=False):
    """Decoding checks all of the JSON, except for the UTF-8 of the members that it skips."""

    sequence: int


_decode = msgspec.json.Decoder(_Stored).decode
_decode_lines = msgspec.json.Decoder(_Stored).decode_lines
_BAD_RECORD = (msgspec.MsgspecError, TypeError, ValueError)
_BATCH = 1000
_BATCH_BYTES = 2**20


@contextmanager
def as_archive_error(path: Path) -> Iterator[None]:
    """Turn damage of the unpacked database into errors of the archive `path`; errors of the system pass."""
    try:
        yield
    except DatabaseTooNew as error:
        raise ArchiveTooNew(
            f"{path.name} holds a database of a later version: {error.message}", hint=error.hint
        ) from error
    except OtherDialect as error:
        raise ArchiveAlien(
            f"{path.name} holds no database that can be read: {error.message}", hint=error.hint
        ) from error
    except (DatabaseDamaged, plyvel.Error) as error:
        if not is_damage(error):
            raise
        raise ArchiveDamaged(
            f"{path.name} holds a database that is damaged: {error}", hint="restore another archive"
        ) from error


def check_together(path: Path, database: Path, expected: int | None = None, *, upto: int | None = None) -> None:
    """Do `check_records` on all cores, for a database that was unpacked from `path` and that nobody has open.

    upto: the last event to read (None: all). Makes copies beside the database meanwhile. Without hard links there are
    no copies, and one core reads everything. Raises ArchiveDamaged, ArchiveTooNew or OSError.
    """
    with as_archive_error(path), closing(open_checked(database)) as db:
        registry = EventRegistry(db, database)
        check_count(path.name, registry.last_sequence, expected)
        upto = registry.last_sequence if upto is None else upto
        first, *others = divide(upto)
        if not others or not has_links(database):
            check_part_of(registry, path.name, 0, upto)
            return
    copies = {database.with_name(f"{database.name}.part-{number}"): part for number, part in enumerate(others)}
    try:
        for copy in copies:
            copy_database(database, copy)
        _check_parts(path, database, first, copies)
    finally:
        for copy in copies:
            remove_durably(copy)


def _check_parts(path: Path, database: Path, first: Part, copies: Mapping[Path, Part]) -> None:
    """Check the first part here, the others in processes of their own; the first error ends them all."""
    chores = Chores(niceness=0)
    with ThreadPoolExecutor(len(copies)) as pool:
        futures = [
            pool.submit(chores.run, "check_part", archive=path.name, database=str(copy), after=after, upto=upto)
            for copy, (after, upto) in copies.items()
        ]
        try:
            _check_part(path, database, *first)
            for future in futures:
                future.result(LONGEST_SECONDS)
        finally:
            chores.cancel()


def check_part(*, archive: str, database: str, after: int, upto: int) -> dict[str, Any]:
    """Read one part from its own copy, as a chore. archive: its name, for errors."""
    _check_part(Path(archive), Path(database), after, upto)
    return {}


def _check_part(path: Path, database: Path, after: int, upto: int) -> None:
    with as_archive_error(path), closing(open_checked(database)) as db:
        check_part_of(EventRegistry(db, database), path.name, after, upto)


def has_links(database: Path) -> bool:
    """Return True if the file system has hard links. There may be no room for a copy of all bytes."""
    probe = database.with_name(f"{database.name}.link")
    try:
        probe.hardlink_to(database / "CURRENT")
    except OSError:
        return False
    probe.unlink()
    return True


def divide(last: int) -> list[Part]:
    """Divide the events up to `last` into parts of about the same size."""
    count = max(1, min(thread_count(), last // PART_EVENTS))
    ends = [last * number // count for number in range(count + 1)]
    return list(itertools.pairwise(ends))


def check_records(registry: EventRegistry, name: str, expected: int | None) -> None:
    """Read every record: it is JSON, the sequence has no holes, `recordedtime` never decreases, and the count is right.

    Raises ArchiveDamaged that says where it is damaged.
    """
    check_part_of(registry, name, 0, registry.last_sequence)
    check_count(name, registry.last_sequence, expected)


def check_part_of(registry: EventRegistry, name: str, after: int, upto: int) -> None:
    """Do `check_records` for the events after `after` up to `upto`; they must also follow the event before them."""
    at = _Position(max(0, after - 1))
    with registry.event_values(at.sequence, upto) as values:
        for batch in batches(values):
            following = _after_batch(batch, at)
            if following is None:
                break
            at = following
    for sequence, value in registry.events(at.sequence, upto) if at.sequence != upto else ():
        at = _after_one(sequence, value, at, name)
    if at.sequence != upto:
        raise damaged(name, f"event {at.sequence + 1} is missing")


def batches(values: Iterable[bytes]) -> Iterator[list[bytes]]:
    """Yield the values in lists that take little memory, however large an event is."""
    batch, size = list[bytes](), 0
    for value in values:
        batch.append(value)
        size += len(value)
        if size >= _BATCH_BYTES or len(batch) == _BATCH:
            yield batch
            batch, size = [], 0
    if batch:
        yield batch


class _Position(NamedTuple):
    """The last event that was read: its sequence, when it was recorded, and its last bytes, which contain that time."""

    sequence: int
    recorded: datetime = _EPOCH
    ending: bytes = b"none ends so"


def _after_batch(values: list[bytes], at: _Position) -> _Position | None:
    """Check events with few calls. Returns None if something may be wrong: `_after_one` decides, and names it.

    The keys are not read: as many of them as there are sequences in a range are those sequences.
    """
    lines = b"\n".join(values)
    try:
        stored = [record.sequence for record in _decode_lines(lines)]
        lines.isascii() or lines.decode()
        recorded = _recorded_in_order(values, at)
    except _BAD_RECORD:
        return None
    last = at.sequence + len(values)
    if recorded is None or stored != list(range(at.sequence + 1, last + 1)):
        return None
    return _Position(last, *recorded)


def _recorded_in_order(values: list[bytes], at: _Position) -> tuple[datetime, bytes] | None:
    """Return when the last event was recorded, and its last bytes; None if a time decreases."""
    _, recorded, ending = at
    for value in values:
        if not value.endswith(ending):
            before, (recorded, ending) = recorded, _recorded(value)
            if recorded < before:
                return None
    return recorded, ending


def _after_one(sequence: int, value: bytes, at: _Position, name: str) -> _Position:
    """Check an event. Raises ArchiveDamaged that names what is wrong."""
    if sequence != at.sequence + 1:
        raise damaged(name, f"event {at.sequence + 1} is missing")
    try:
        recorded = _recorded_in_order([value], at)
        good = _decode(value).sequence == sequence and bool(value.isascii() or value.decode())
    except _BAD_RECORD:
        recorded, good = None, False
    if recorded is None or not good:
        raise damaged(name, f"event {sequence} is not as it was written")
    return _Position(sequence, *recorded)


def check_count(name: str, count: int, expected: int | None) -> None:
    """Raise ArchiveDamaged unless `count` is the expected number of events, if that is known."""
    if expected is not None and count != expected:
        raise damaged(name, f"it holds {count} events; its manifest says {expected}")


def damaged(name: str, what: str) -> ArchiveDamaged:
    return ArchiveDamaged(f"{name} is damaged: {what}", hint="restore another archive; this one stays as it is")


def _recorded(value: bytes) -> tuple[datetime, bytes]:
    """Return when an event was recorded, and its last bytes, which contain that time; else raise ValueError."""
    recorded = value[event.RECORDED_TIME]
    ending = b',"recordedtime":"%s"}' % recorded
    if not value.endswith(ending):
        raise ValueError("recordedtime is not the last member")
    return datetime.fromisoformat(recorded.decode()), ending

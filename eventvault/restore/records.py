"""Reading every record of a database of ours: one by one, or each core a part of them.

LevelDB lets one process open a database. So each further one opens a copy, whose tables are hard links.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import msgspec
import plyvel

from eventvault.archive.parallel import thread_count
from eventvault.chores import Chores
from eventvault.database.clone import copy_database
from eventvault.database.opening import open_checked
from eventvault.database.registry import EventRegistry
from eventvault.errors import ArchiveDamaged, ArchiveTooNew, DatabaseError, DatabaseTooNew
from eventvault.events import event
from eventvault.files import remove_durably

PART_EVENTS = 100_000
"""Less is not worth a process of its own."""
Part = tuple[int, int]
"""Events beyond the first number, up to the second."""
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


class _Stored(msgspec.Struct, gc=False):
    """All of the JSON is checked as it is decoded, but for the UTF-8 of what is passed over."""

    sequence: int


_decode = msgspec.json.Decoder(_Stored).decode


@contextmanager
def as_archive_error(path: Path) -> Iterator[None]:
    """What is wrong with the unpacked database is said of the archive `path`."""
    try:
        yield
    except DatabaseTooNew as error:
        raise ArchiveTooNew(
            f"{path.name} holds a database of a later version: {error.message}", hint=error.hint
        ) from error
    except (DatabaseError, plyvel.CorruptionError) as error:
        raise ArchiveDamaged(
            f"{path.name} holds a database that is damaged: {error}", hint="restore another archive"
        ) from error


def check_together(path: Path, database: Path, expected: int | None = None, *, upto: int | None = None) -> None:
    """`check_records` of a database that was unpacked from `path` and that nobody has open, by all cores.

    upto: the last event that is read (None: all are). Copies lie beside it meanwhile; where they would not be hard
    links there are none, and one core reads it all. Raises ArchiveDamaged or ArchiveTooNew, or OSError.
    """
    with as_archive_error(path), closing(open_checked(database)) as db:
        registry = EventRegistry(db, database)
        check_count(path.name, registry.last_sequence, expected)
        upto = registry.last_sequence if upto is None else upto
        first, *others = _parts(upto)
        if not others or not _has_links(database):
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
    """The first part here, the others in processes of their own; the first error ends them all."""
    chores = Chores(niceness=0)
    with ThreadPoolExecutor(len(copies)) as pool:
        asked = [
            pool.submit(chores.run, "check_part", archive=path.name, database=str(copy), after=after, upto=upto)
            for copy, (after, upto) in copies.items()
        ]
        try:
            _check_part(path, database, *first)
            for each in asked:
                each.result()
        finally:
            chores.cancel()


def check_part(*, archive: str, database: str, after: int, upto: int) -> dict[str, Any]:
    """The chore that reads one part, of a copy of its own. archive: its name, for errors."""
    _check_part(Path(archive), Path(database), after, upto)
    return {}


def _check_part(path: Path, database: Path, after: int, upto: int) -> None:
    with as_archive_error(path), closing(open_checked(database)) as db:
        check_part_of(EventRegistry(db, database), path.name, after, upto)


def _has_links(database: Path) -> bool:
    """Whether the file system has hard links: a copy of all bytes needs room that nobody reckoned with."""
    probe = database.with_name(f"{database.name}.link")
    try:
        probe.hardlink_to(database / "CURRENT")
    except OSError:
        return False
    probe.unlink()
    return True


def _parts(last: int) -> list[Part]:
    """All events up to `last`, in parts of about the same size."""
    count = max(1, min(thread_count(), last // PART_EVENTS))
    ends = [last * number // count for number in range(count + 1)]
    return list(itertools.pairwise(ends))


def check_records(registry: EventRegistry, name: str, expected: int | None) -> None:
    """Read every record: JSON, the sequence without holes, `recordedtime` never decreasing, as many as promised.

    Raises ArchiveDamaged that says where.
    """
    check_part_of(registry, name, 0, registry.last_sequence)
    check_count(name, registry.last_sequence, expected)


def check_part_of(registry: EventRegistry, name: str, after: int, upto: int) -> None:
    """`check_records` for the events beyond `after`, up to `upto`, and that they follow the one before them."""
    last, instant, ending = max(0, after - 1), _EPOCH, b"none ends so"
    for sequence, value in registry.events(last, upto):
        if sequence != last + 1:
            raise damaged(name, f"event {last + 1} is missing")
        before = instant
        try:
            if not value.endswith(ending):
                instant, ending = _recorded(value)
            good = _decode(value).sequence == sequence and instant >= before and bool(value.isascii() or value.decode())
        except (msgspec.MsgspecError, TypeError, ValueError):
            good = False
        if not good:
            raise damaged(name, f"event {sequence} is not as it was written")
        last = sequence
    if last != upto:
        raise damaged(name, f"event {last + 1} is missing")


def check_count(name: str, found: int, expected: int | None) -> None:
    """expected: how many events there must be, where that is known."""
    if expected is not None and found != expected:
        raise damaged(name, f"it holds {found} events; its manifest says {expected}")


def damaged(name: str, what: str) -> ArchiveDamaged:
    return ArchiveDamaged(f"{name} is damaged: {what}", hint="restore another archive; this one is kept as it is")


def _recorded(value: bytes) -> tuple[datetime, bytes]:
    """When an event was recorded, and the last bytes of it, which say so. Raises ValueError where they do not."""
    said = value[event.RECORDED_TIME]
    ending = b',"recordedtime":"%s"}' % said
    if not value.endswith(ending):
        raise ValueError("recordedtime is not the last member")
    return datetime.fromisoformat(said.decode()), ending

"""The chore that reads every record of a database that a rehearsal built, and compares it with the live database.

Both databases are private copies that nobody else has open. Equal tables are compared as files, everything else record
by record. A record that equals the live one needs no other check; every other record is checked as in a restore from an
untrusted archive. All cores work at it, as in `eventvault.restore.records`.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, closing, contextmanager
from pathlib import Path
from typing import Any

import msgspec
import plyvel

from eventvault import clock
from eventvault.chores import Chores
from eventvault.damage import is_damage
from eventvault.database.clone import copy_database
from eventvault.database.opening import open_checked
from eventvault.database.registry import EventRegistry
from eventvault.errors import DatabaseDamaged
from eventvault.events import event
from eventvault.files import folder_size
from eventvault.operations.operation import current
from eventvault.progress import LONGEST_SECONDS
from eventvault.rehearsals.equal_tables import Range, ranges_to_compare
from eventvault.restore.records import (
    as_archive_error,
    batches,
    check_count,
    check_part_of,
    damaged,
    divide,
    has_links,
)


class _LiveDamaged(Exception):
    """The live database cannot be read; `__cause__` is the error. It must not be blamed on the archive."""


class Order(msgspec.Struct, frozen=True, kw_only=True):
    """What to compare. source: the name of what the database was built from, for errors. database, live: folders.

    live: None if there is no live database. common: the last event that both must have. events: how many there must be.
    first_time, last_time: when the first and the last event were recorded, by the manifest; None if it does not say.
    event_bytes: bytes of the database for each event, for the progress.
    """

    source: str
    database: str
    live: str | None = None
    common: int = 0
    events: int
    first_time: str | None = None
    last_time: str | None = None
    event_bytes: float = 0.0


class Comparison(msgspec.Struct, frozen=True):
    """compared: the records that were read in both databases. differing: how many of them differ, `first` first."""

    compared: int = 0
    differing: int = 0
    first: int | None = None

    def __add__(self, other: Comparison) -> Comparison:
        """Return both together; `other` comes after this one."""
        first = other.first if self.first is None else self.first
        return Comparison(self.compared + other.compared, self.differing + other.differing, first)


def compare_events(*, order: dict[str, Any]) -> dict[str, Any]:
    """Chore: read every record. Returns a `Comparison`.

    Raises ArchiveDamaged that says what is wrong with the database that was built, DatabaseDamaged if the live one
    cannot be read to its end, or a system error.
    """
    wanted = msgspec.convert(order, Order)
    with _blaming_live(wanted):
        answer: dict[str, Any] = msgspec.to_builtins(_compare(wanted))
    return answer


def compare_part(*, order: dict[str, Any], parts: list[tuple[int, int]]) -> dict[str, Any]:
    """Chore: read these ranges of events, from its own copies of the databases. Returns a `Comparison`."""
    wanted = msgspec.convert(order, Order)
    with _blaming_live(wanted):
        answer: dict[str, Any] = msgspec.to_builtins(_compare_ranges(wanted, parts))
    return answer


def _compare(wanted: Order) -> Comparison:
    database = Path(wanted.database)
    with _opened(wanted, database) as registry:
        check_count(wanted.source, registry.last_sequence, wanted.events)
        _check_times(wanted, registry)
    size = folder_size(database)
    wanted = msgspec.structs.replace(wanted, event_bytes=size / max(1, wanted.events))
    current().step("compare", size)
    ranges = _ranges(wanted)
    equal = wanted.common - sum(min(upto, wanted.common) - after for after, upto in ranges if after < wanted.common)
    current().advance(round(equal * wanted.event_bytes))
    count = len(divide(sum(upto - after for after, upto in ranges))) if has_links(database) else 1
    return sum(_compare_shares(wanted, _share_out(ranges, count)), start=Comparison(equal))


def _ranges(wanted: Order) -> list[Range]:
    """Return the ranges to compare or check record by record: all that do not come from equal tables."""
    if wanted.live is None:
        return [(0, wanted.events)]
    live = Path(wanted.live)
    with _as_live(), closing(open_checked(live)):
        pass  # opening it turns its logs into tables
    ranges = ranges_to_compare(Path(wanted.database), live, wanted.common)
    return [*ranges, (wanted.common, wanted.events)] if wanted.events > wanted.common else ranges


def _share_out(ranges: list[Range], count: int) -> list[list[Range]]:
    """Divide ranges into shares of about the same number of events."""
    most = max(1, -(-sum(upto - after for after, upto in ranges) // count))
    shares: list[list[Range]] = [[]]
    room = most
    for after, upto in ranges:
        while after < upto:
            if not room:
                shares.append([])
                room = most
            end = min(upto, after + room)
            shares[-1].append((after, end))
            room -= end - after
            after = end
    return shares


def _compare_shares(wanted: Order, shares: list[list[Range]]) -> Iterator[Comparison]:
    """Compare the first share here and each other one in its own process; the first error ends them all."""
    first, *others = shares
    chores, copies = Chores(niceness=0), [_copy(wanted, number) for number in range(len(others))]
    with ThreadPoolExecutor(max(1, len(others))) as pool:
        futures = [
            pool.submit(chores.run, "compare_part", order=msgspec.to_builtins(copy), parts=share)
            for copy, share in zip(copies, others, strict=True)
        ]
        try:
            yield _compare_ranges(wanted, first)
            for future in futures:
                yield msgspec.convert(future.result(LONGEST_SECONDS), Comparison)
        finally:
            chores.cancel()


def _copy(wanted: Order, number: int) -> Order:
    """Copy both databases, tables by hard link, because LevelDB lets only one process open a database."""
    database = Path(f"{wanted.database}.part-{number}")
    copy_database(Path(wanted.database), database)
    if wanted.live is None:
        return msgspec.structs.replace(wanted, database=str(database))
    live = Path(f"{wanted.live}.part-{number}")
    copy_database(Path(wanted.live), live)
    return msgspec.structs.replace(wanted, database=str(database), live=str(live))


def _compare_ranges(wanted: Order, ranges: list[Range]) -> Comparison:
    comparison = Comparison()
    if not ranges:
        return comparison
    common = wanted.common if wanted.live is not None else 0
    with _opened(wanted, Path(wanted.database)) as registry:
        for after, upto in ranges:
            if common > after:
                comparison += _compare_common(wanted, registry, after, min(common, upto))
            if upto > common:
                check_part_of(registry, wanted.source, max(after, common), upto)
    return comparison


def _compare_common(wanted: Order, registry: EventRegistry, after: int, upto: int) -> Comparison:
    """Compare the events that both databases must have."""
    comparison, position = Comparison(), after
    with ExitStack() as stack:
        live = stack.enter_context(_live_values(wanted, after, upto))
        ours = stack.enter_context(registry.event_values(after, upto))
        for batch in batches(ours):
            expected = _take(live, len(batch))
            comparison += _compare_batch(batch, expected, position)
            position += len(batch)
            current().advance(round(len(batch) * wanted.event_bytes))
    if position != upto:
        raise damaged(wanted.source, f"of the events {after + 1} to {upto}, {upto - position} are missing")
    return comparison


def _compare_batch(batch: list[bytes], expected: list[bytes], position: int) -> Comparison:
    if batch == expected:
        return Comparison(len(batch))
    pairs = enumerate(itertools.zip_longest(batch, expected), position + 1)
    differing = [sequence for sequence, (one, other) in pairs if one != other]
    return Comparison(len(batch), len(differing), differing[0])


@contextmanager
def _live_values(wanted: Order, after: int, upto: int) -> Iterator[Iterator[bytes]]:
    assert wanted.live is not None, "events are compared with a live database"
    folder = Path(wanted.live)
    with ExitStack() as stack:
        with _as_live():
            db = stack.enter_context(closing(open_checked(folder)))
            values = stack.enter_context(EventRegistry(db, folder).event_values(after, upto))
        yield values


def _take(values: Iterator[bytes], count: int) -> list[bytes]:
    """Return the next live events."""
    with _as_live():
        return list(itertools.islice(values, count))


@contextmanager
def _as_live() -> Iterator[None]:
    try:
        yield
    except (DatabaseDamaged, plyvel.Error) as error:
        if not is_damage(error):
            raise
        raise _LiveDamaged from error


@contextmanager
def _blaming_live(wanted: Order) -> Iterator[None]:
    """Raise DatabaseDamaged for damage of the live database, which must not be blamed on the backup."""
    try:
        yield
    except _LiveDamaged as damage:
        raise DatabaseDamaged(
            f"{wanted.source} could not be compared to its end: the live database is damaged: {damage.__cause__}",
            hint="make a backup: it names the table that is damaged, and what to do",
        ) from damage


@contextmanager
def _opened(wanted: Order, database: Path) -> Iterator[EventRegistry]:
    with as_archive_error(Path(wanted.source)), closing(open_checked(database)) as db:
        yield EventRegistry(db, database)


def _check_times(wanted: Order, registry: EventRegistry) -> None:
    """Compare when the first and the last event were recorded with what the manifest says."""
    for sequence, expected in ((1, wanted.first_time), (wanted.events, wanted.last_time)):
        if expected is None or not wanted.events:
            continue
        recorded = event.recorded_of(registry.at(sequence))
        if recorded != clock.parse(expected):
            shown = clock.format_microseconds(recorded)
            raise damaged(wanted.source, f"event {sequence} was recorded at {shown}; its manifest says {expected}")

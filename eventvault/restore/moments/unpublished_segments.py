"""Adds the unpublished events of the journal to a database that replaces one which is lost or cannot be read.

The new database has keys for those that it holds. Those that it lacks were acknowledged as well: they wait there with
their bodies.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import suppress
from pathlib import Path

from eventvault.database.generation import lineage
from eventvault.database.outbox import message_of, sequences_of, within
from eventvault.errors import JournalDamaged
from eventvault.events import event
from eventvault.journal import segment
from eventvault.journal.folder import JournalFolder, JournalRecord
from eventvault.journal.segment import Segment
from eventvault.restore.swap import unpublished


def add_unpublished(new_database: Path, journal: JournalFolder, record: JournalRecord | None) -> None:
    """Add the events that the new database lacks and that may be unpublished, so that they wait there.

    record: the journal's record of this installation. A segment that cannot be read adds none; health names it.
    """
    if record is None or not isinstance(record.published, int):
        return
    candidates = [found for found in journal.segments_of(record.installation) if found.header.has_outbox]
    if not candidates:
        return
    with unpublished.opened(new_database) as (db, new):
        held = dict(lineage(new.identity.by_id(), new.identity.generation))
        unpublished.put(db, (message_of(line) for source in candidates for line in _waiting(source, record, held)))


def _waiting(source: Segment, record: JournalRecord, held: Mapping[str, int]) -> Iterator[bytes]:
    """Yield the events of a segment that wait. held: generation → the last of its events in the new database."""
    generation = source.header.generation.id
    after = held.get(generation, 0)
    if source.last <= after:
        return
    bound = dict(lineage(record.registry.by_id(), record.registry.generation)).get(generation, 0)
    published = record.published if isinstance(record.published, int) else 0
    with suppress(JournalDamaged, OSError):
        lines, _, pending = segment.read_content(source)
        for sequence in sequences_of(within(pending, after, source.last)):
            line = lines[sequence - source.first]
            if (published < sequence <= bound) or (sequence > bound and _waits_since(record, line)):
                yield line


def _waits_since(record: JournalRecord, line: bytes) -> bool:
    """Return whether an event that an earlier restore took out of the registry may still be unpublished."""
    return isinstance(record.waiting_since, int) and event.recorded_of(line) >= record.waiting_since

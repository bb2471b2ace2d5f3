"""Which previous database an undo brings back, and which events that replaces.

An undo is a restore from a previous database instead of an archive: it builds beside the live data, writes an intent,
swaps, and begins a new generation. So an undo can be undone as well.
"""

from __future__ import annotations

import contextlib
from pathlib import Path
from typing import Any

import msgspec
import plyvel

from eventvault import clock
from eventvault.database.generation import REASONS_WITHOUT_RESTORE, StoreIdentity
from eventvault.database.registry import EventRegistry
from eventvault.errors import DatabaseDamaged, NothingToUndo, UndoNotFound
from eventvault.events.event import summary_of
from eventvault.restore.swap.intent import Intent, free_name
from eventvault.restore.swap.previous import PreviousDatabase, list_previous
from eventvault.restore.values import PreviousEntry, ReplacedEvents, UndoTarget


def list_undo(storage_dir: Path) -> list[PreviousEntry]:
    """Return the previous databases that can be brought back, newest first."""
    return [_entry(storage_dir, database) for database in _undoable(storage_dir)]


def choose(storage_dir: Path, name: str | None, identity: StoreIdentity | None) -> PreviousDatabase:
    """Return the previous database `name`; without a name, the one that the newest restore replaced.

    identity: of the live database, None if it cannot be read. Raises UndoNotFound or NothingToUndo.
    """
    databases = _undoable(storage_dir)
    if name is None and databases:
        return _replaced_by_newest(databases, identity)
    for database in databases:
        if database.name == name:
            return database
    if name is not None:
        raise UndoNotFound(
            f"there is no previous database {name[:80]!r}", hint="GET /api/backup/undo lists the previous databases"
        )
    raise NothingToUndo(
        "there is nothing to undo: no previous database exists",
        hint="restore a backup with POST /api/backup/restore; KEEP_UNDO is the number of previous databases for an "
        "undo",
    )


def _replaced_by_newest(databases: list[PreviousDatabase], identity: StoreIdentity | None) -> PreviousDatabase:
    """Return the database that the newest restore replaced; it may be gone, while earlier ones exist."""
    if identity is None or databases[0].replaced_by is None:
        return databases[0]
    by_id, current = identity.by_id(), identity.present
    while current.reason in REASONS_WITHOUT_RESTORE and current.parent in by_id:
        current = by_id[current.parent]
    for database in databases:
        if database.replaced_by == current.id:
            return database
    raise NothingToUndo(
        "the database that the newest restore replaced cannot be brought back",
        hint=f"GET /api/backup/undo lists what earlier restores replaced; give a name, such as {databases[0].name}",
    )


def with_previous(intent: Intent, previous: PreviousDatabase) -> Intent:
    """Return the intent of a restore that replaces `previous`."""
    target = None
    if previous.generation is not None:
        target = UndoTarget(previous.name, previous.generation, previous.events)
    restored = msgspec.structs.replace(intent.restored, undo=target)
    return msgspec.structs.replace(intent, previous_name=previous.name, previous=previous, restored=restored)


def with_free_name(storage_dir: Path, intent: Intent) -> Intent:
    """Return the intent just before it is decided: the database that it replaces gets a name that is free now."""
    name = free_name(storage_dir, intent.previous_name)
    if intent.previous is None:
        return msgspec.structs.replace(intent, previous_name=name)
    return with_previous(intent, msgspec.structs.replace(intent.previous, name=name, replaced_at=clock.now()))


def describe_replaced(intent: Intent, registry: EventRegistry, undone: PreviousDatabase | None) -> Intent:
    """Return the intent with what the old registry holds in the end. undone: what an undo brings back."""
    if intent.previous is not None:
        intent = with_previous(intent, msgspec.structs.replace(intent.previous, events=registry.last_sequence))
    if undone is None:
        return intent
    replaced = replaced_events(registry, last_before(registry.identity, undone))
    return msgspec.structs.replace(intent, restored=msgspec.structs.replace(intent.restored, replaced_events=replaced))


def last_before(identity: StoreIdentity, undone: PreviousDatabase) -> int:
    """Return the last sequence of the live database that was there before `undone` was replaced."""
    bound = identity.bound_in_lineage(undone.replaced_by) if undone.replaced_by else None
    if bound is not None:
        return min(bound, undone.replacement_events)
    return (identity.last_common(undone.generation) if undone.generation else None) or 0


def replaced_events(registry: EventRegistry, after: int) -> ReplacedEvents:
    """Describe the events after sequence `after`."""
    last = registry.last_sequence
    if last <= after:
        return ReplacedEvents(0)
    return ReplacedEvents(last - after, event_at(registry, after + 1), event_at(registry, last))


def event_at(registry: EventRegistry, sequence: int) -> dict[str, Any] | None:
    """Return an event without its data; None for 0, and if it cannot be read: it is only shown."""
    with contextlib.suppress(plyvel.Error, DatabaseDamaged):
        return summary_of(registry.at(sequence)) if sequence else None
    return None


def _undoable(storage_dir: Path) -> list[PreviousDatabase]:
    return [
        database for database in list_previous(storage_dir) if database.generation is not None and not database.undone
    ]


def _entry(storage_dir: Path, database: PreviousDatabase) -> PreviousEntry:
    size = 0
    with contextlib.suppress(OSError):
        size = sum(file.stat().st_size for file in (storage_dir / database.name).iterdir())
    return PreviousEntry(
        name=database.name,
        generation=database.generation,
        events=database.events,
        replaced_at=database.replaced_at,
        source=database.source,
        size=size,
        moment=database.moment,
    )

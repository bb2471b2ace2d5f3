"""What a restore leaves behind, said exactly, and which of it an undo brings back.

An undo is a restore whose archive is a kept database: the same preparation beside the live data, the same intent,
the same swap, a new generation. So it can be undone as well.
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
from eventvault.events.event import attributes_of
from eventvault.restore.swap.intent import Intent, free_kept
from eventvault.restore.swap.previous import PreviousDatabase, kept
from eventvault.restore.values import KeptEntry, LeftBehind, Restored, Undo

_NOT_SUMMARISED = ("data", "data_base64")


def entries(storage_dir: Path) -> list[KeptEntry]:
    """What can be brought back, newest first."""
    return [_entry(storage_dir, each) for each in _undoable(storage_dir)]


def choose(storage_dir: Path, name: str | None, identity: StoreIdentity | None) -> PreviousDatabase:
    """The kept database `name`, or what the restore left that the present one, `identity`, is of.

    Raises UndoNotFound or NothingToUndo.
    """
    there = _undoable(storage_dir)
    if name is None and there:
        return _left_by_newest(there, identity)
    for each in there:
        if each.name == name:
            return each
    if name is not None:
        raise UndoNotFound(
            f"what a restore left behind as {name[:80]!r} is not kept", hint="GET /api/backup/undo names what is kept"
        )
    raise NothingToUndo(
        "there is nothing to undo: no restore has left anything behind that is still kept",
        hint="restore a backup with POST /api/backup/restore; KEEP_UNDO says how many databases are kept for an undo",
    )


def _left_by_newest(there: list[PreviousDatabase], identity: StoreIdentity | None) -> PreviousDatabase:
    """Not merely the one that was left last: the newest restore may have left nothing that can be brought back."""
    if identity is None or there[0].by is None:
        return there[0]
    known, present = identity.by_id(), identity.present
    while present.reason in REASONS_WITHOUT_RESTORE and present.parent in known:
        present = known[present.parent]
    for each in there:
        if each.by == present.id:
            return each
    raise NothingToUndo(
        "the newest restore has left nothing behind that can be brought back",
        hint=f"GET /api/backup/undo names what earlier restores left; give the name, such as {there[0].name}",
    )


def undo_of(left: PreviousDatabase) -> Undo | None:
    """What undoes the restore that left this; None where what it left could not be read."""
    return None if left.generation is None else Undo(left.name, left.generation, left.events)


def with_left(intent: Intent, left: PreviousDatabase) -> Intent:
    """The intent of a restore that leaves `left` behind."""
    restored = msgspec.structs.replace(intent.restored, undo=undo_of(left))
    return msgspec.structs.replace(intent, kept=left.name, left=left, restored=restored)


def with_free_name(storage_dir: Path, intent: Intent) -> Intent:
    """The intent, just before it is decided: what it leaves behind, now, gets a name that nothing has."""
    name = free_kept(storage_dir, intent.kept)
    if intent.left is None:
        return msgspec.structs.replace(intent, kept=name)
    return with_left(intent, msgspec.structs.replace(intent.left, name=name, left=clock.now()))


def seen_at_the_end(intent: Intent, registry: EventRegistry, target: PreviousDatabase | None) -> Intent:
    """The intent with what the old registry holds now that nothing is appended to it any more.

    target: the kept database that is brought back, None for a restore of an archive.
    """
    if intent.left is not None:
        intent = with_left(intent, msgspec.structs.replace(intent.left, events=registry.last_sequence))
    if target is None:
        return intent
    behind = left_behind(registry, posted_after(registry.identity, target))
    return msgspec.structs.replace(intent, restored=msgspec.structs.replace(intent.restored, left_behind=behind))


def posted_after(identity: StoreIdentity, target: PreviousDatabase) -> int:
    """The last sequence of the present that was not posted since `target` was left."""
    bound = identity.bound_in_lineage(target.by) if target.by else None
    if bound is not None:
        return min(bound, target.brought)
    return (identity.last_common(target.generation) if target.generation else None) or 0


def left_behind(registry: EventRegistry, after: int) -> LeftBehind:
    """The events beyond `after`."""
    last = registry.last_sequence
    if last <= after:
        return LeftBehind(0)
    first_event = last_event = None
    with contextlib.suppress(plyvel.Error, DatabaseDamaged):
        first_event, last_event = _summary(registry.at(after + 1)), _summary(registry.at(last))
    return LeftBehind(last - after, first_event, last_event)


def _summary(value: bytes) -> dict[str, Any]:
    """The event without its data, which may be large."""
    return {name: it for name, it in attributes_of(value).items() if name not in _NOT_SUMMARISED}


def _undoable(storage_dir: Path) -> list[PreviousDatabase]:
    return [each for each in kept(storage_dir) if each.generation is not None and not each.undone]


def _entry(storage_dir: Path, each: PreviousDatabase) -> KeptEntry:
    size = 0
    with contextlib.suppress(OSError):
        size = sum(file.stat().st_size for file in (storage_dir / each.name).iterdir())
    return KeptEntry(
        name=each.name,
        generation=each.generation,
        events=each.events,
        left=each.left,
        source=each.source,
        size=size,
    )


def nothing_left_of(restored: Restored) -> Restored:
    """The answer to a restore that is staged: nothing was left behind yet."""
    return msgspec.structs.replace(restored, staged=True, undo=None)

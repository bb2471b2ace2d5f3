"""What is done about a database just before another takes its place, when nothing is appended to it any more."""

from __future__ import annotations

import logging
import secrets
from collections.abc import Mapping
from contextlib import closing
from pathlib import Path

import msgspec
import plyvel

from eventvault import clock, data_folders
from eventvault.database import keys
from eventvault.database.clone import copy_database
from eventvault.database.generation import StoreIdentity
from eventvault.database.opening import open_checked
from eventvault.database.registry import EventRegistry, open_leveldb, read_identity_and_last_sequence
from eventvault.errors import DatabaseDamaged, DatabaseTooNew, EventVaultError
from eventvault.files import remove_durably, rename_durably, sync_folder
from eventvault.restore.swap import intent as intents
from eventvault.restore.swap import undo
from eventvault.restore.swap.intent import POINT_IN_TIME, Intent
from eventvault.restore.swap.previous import PreviousDatabase, name_of
from eventvault.restore.values import Restored

log = logging.getLogger("BackupManager")


def standing(storage_dir: Path, database: Path) -> tuple[StoreIdentity, int] | None:
    """The identity and last sequence of a database that is not open; None where there is nothing readable.

    It is read from a private copy: opening writes to it, and it may be damaged, another program's, or held.
    """
    if not (database / data_folders.DATABASE_MARK).exists():
        return None
    copy = storage_dir / f"{data_folders.RESTORING_PREFIX}{secrets.token_hex(4)}"
    try:
        copy_database(database, copy)
        return read_identity_and_last_sequence(copy)
    except (EventVaultError, OSError, plyvel.Error):
        return None
    finally:
        remove_durably(copy)


def expected(known: tuple[StoreIdentity, int] | None, restored: Restored) -> PreviousDatabase:
    """What `restored` will leave behind, as far as it is known before nothing is appended to it any more."""
    identity, events = known or (None, None)
    generation = identity.generation if identity else None
    return PreviousDatabase(
        name=name_of(generation),
        generation=generation,
        events=events,
        left=clock.now(),
        source=restored.source,
        by=restored.generation,
        brought=restored.events,
    )


def leave(storage_dir: Path, intent: Intent, registry: EventRegistry, target: PreviousDatabase | None) -> Intent:
    """The intent with what `registry` holds in the end. target: the kept database that an undo brings back.

    After a restore to a moment Kafka goes on behind what was taken until now: what is left behind does not come back
    by itself. Offsets that cannot be read for damage are not carried: then it does.
    """
    if intent.restored.reason == POINT_IN_TIME:
        try:
            notes = registry.scan_meta(keys.KAFKA)
        except (DatabaseDamaged, plyvel.Error) as error:
            log.warning("Kafka goes on where it stood at the moment of the restore: %s", error)
            said = (
                "the database that was left is damaged where Kafka's offsets are: events are taken again from there on"
            )
            intent = msgspec.structs.replace(
                intent, restored=msgspec.structs.replace(intent.restored, notes=[*intent.restored.notes, said])
            )
        else:
            _carry_offsets(storage_dir / intent.staged, notes)
    return undo.seen_at_the_end(intent, registry, target)


def promote_staged(storage_dir: Path) -> None:
    """At a start of the service: what was staged with `"apply": "restart"` becomes what is to be done.

    What was decided already must be finished before: an intent is never overwritten. Since it was staged another
    restore may have left the same generation behind, which has its name.
    """
    staged = intents.read_intent(storage_dir, data_folders.STAGED_RESTORE)
    if staged is None or (storage_dir / data_folders.INTENT).exists():
        return
    if (storage_dir / staged.kept).exists():
        intents.write_intent(storage_dir, undo.with_free_name(storage_dir, staged), data_folders.STAGED_RESTORE)
    rename_durably(storage_dir / data_folders.STAGED_RESTORE, storage_dir / data_folders.INTENT)


def leave_at_start(storage_dir: Path, database: Path, intent: Intent) -> Intent:
    """`leave`, for a restore that a process that is gone had decided, or that was staged; done again is no harm.

    A database that cannot be read is left as it is. Raises DatabaseLocked, NoSpace or OSError.
    """
    waits = (storage_dir / intent.staged).is_dir() and not (storage_dir / intent.kept).exists()
    if not waits or not (database / data_folders.DATABASE_MARK).exists():
        return intent
    try:
        with closing(open_checked(database)) as db:
            intent = leave(storage_dir, intent, EventRegistry(db, database), None)
    except (DatabaseDamaged, DatabaseTooNew, plyvel.CorruptionError) as error:
        log.warning("nothing is taken over from what is left behind: %s", error)
        return intent
    now = clock.now()
    left = None if intent.left is None else msgspec.structs.replace(intent.left, left=now)
    restored = msgspec.structs.replace(intent.restored, at=now)
    intent = msgspec.structs.replace(intent, left=left, restored=restored)
    intents.write_intent(storage_dir, intent)
    return intent


def _carry_offsets(staged: Path, notes: Mapping[bytes, bytes]) -> None:
    if not notes:
        return
    with closing(open_leveldb(staged)) as db, db.write_batch(transaction=True, sync=True) as batch:
        for key, value in notes.items():
            batch.put(key, value)
    sync_folder(staged)  # opening made files and removed some

"""Carries over from the old database to the new one, once nothing is appended to the old one any more."""

from __future__ import annotations

import logging
import secrets
from collections.abc import Callable, Mapping
from contextlib import closing
from pathlib import Path
from typing import Any, NamedTuple

import msgspec
import plyvel

from eventvault import clock, data_folders
from eventvault.damage import SYSTEM_ERRORS, as_answer, is_damage
from eventvault.database import keys
from eventvault.database.clone import copy_database
from eventvault.database.generation import StoreIdentity
from eventvault.database.opening import open_checked
from eventvault.database.registry import EventRegistry
from eventvault.errors import DatabaseDamaged, DatabaseTooNew
from eventvault.files import remove_durably, rename_durably, sync_folder
from eventvault.kafka import quarantine_format
from eventvault.kafka.offsets import Offsets, from_metadata, to_metadata
from eventvault.kafka.values import Totals
from eventvault.restore.swap import intent as intents
from eventvault.restore.swap import undo, unpublished
from eventvault.restore.swap.intent import Intent
from eventvault.restore.swap.previous import PreviousDatabase, folder_name
from eventvault.restore.values import POINT_IN_TIME, Restored

log = logging.getLogger("BackupManager")


class ReplacedHead(NamedTuple):
    """How far the database that a restore replaces got. kafka: its offsets, if it is not open."""

    identity: StoreIdentity
    sequence: int
    kafka: Mapping[bytes, bytes] = {}


def read_head(storage_dir: Path, database: Path) -> ReplacedHead | None:
    """Return the head of a database that is not open; None if it is missing or damaged.

    Reads a private copy: opening writes to a database, and this one may be damaged, locked, or another program's.
    Raises an error of the system (`as_answer`): a restore over a database that may be whole could not be undone.
    """
    if not all((database / name).exists() for name in (data_folders.DATABASE_MARK, "CURRENT")):
        return None
    copy = storage_dir / f"{data_folders.RESTORING_PREFIX}{secrets.token_hex(4)}"
    try:
        copy_database(database, copy)
        with closing(open_checked(copy)) as db:
            registry = EventRegistry(db, copy)
            return ReplacedHead(registry.identity, registry.last_sequence, registry.scan_meta(keys.KAFKA))
    except (DatabaseDamaged, DatabaseTooNew):
        return None
    except SYSTEM_ERRORS as error:
        if is_damage(error):
            return None
        raise as_answer(f"reading {database}", error) from error
    finally:
        remove_durably(copy)


def describe_previous(head: ReplacedHead | None, restored: Restored) -> PreviousDatabase:
    """Describe the database that `restored` will replace. It has this head, and events may still be appended."""
    generation = head.identity.generation if head else None
    return PreviousDatabase(
        name=folder_name(generation),
        generation=generation,
        events=head.sequence if head else None,
        replaced_at=clock.now(),
        source=restored.source,
        replaced_by=restored.generation,
        replacement_events=restored.events,
        moment=restored.moment,
    )


def carry_over(storage_dir: Path, intent: Intent, registry: EventRegistry, undone: PreviousDatabase | None) -> Intent:
    """Carry over from `registry`: Kafka's offsets with the quarantine, and what is to be published.

    undone: as for `Swapper.swap`. Returns the intent with a description of what `registry` holds.
    """
    if intent.restored.reason == POINT_IN_TIME:
        carry = add_quarantine if intent.restored.replay else carry_offsets
        intent = carry(storage_dir, intent, registry)
    intent = _carry_unpublished(storage_dir, intent, registry)
    return undo.describe_replaced(intent, registry, undone)


def carry_offsets(storage_dir: Path, intent: Intent, registry: EventRegistry) -> Intent:
    """Put the offsets of `registry` into the new database, so that Kafka's later messages are not consumed again.

    The quarantine of `registry` comes with them: nobody would read those messages again. If the offsets are damaged,
    they are not carried over, a note says so, and the messages are consumed again, as the new generation says already.
    """
    try:
        offsets = registry.scan_meta(keys.KAFKA)
        if offsets:
            _carry_into(storage_dir / intent.new_database, offsets, registry)
    except (DatabaseDamaged, plyvel.Error) as error:
        if not is_damage(error):
            raise as_answer("reading Kafka's offsets", error) from error
        log.warning("Kafka continues from the offsets at the moment of the restore: %s", error)
        note = "the previous database is damaged at Kafka's offsets: the messages since then are consumed again"
        return _noted(intent, note)
    return intent


def add_quarantine(storage_dir: Path, intent: Intent, registry: EventRegistry) -> Intent:
    """Add the quarantine of `registry` to the new database, from whose offsets Kafka is read again.

    If the quarantine is damaged, a note says so.
    """
    try:
        with closing(open_checked(storage_dir / intent.new_database)) as db:
            _add_quarantine(db, registry)
    except (DatabaseDamaged, plyvel.Error) as error:
        if not is_damage(error):
            raise as_answer("reading the quarantine", error) from error
        log.warning("the quarantine is not carried over: %s", error)
        return _noted(intent, "the previous database is damaged: some messages may be missing in Kafka's quarantine")
    sync_folder(storage_dir / intent.new_database)
    return intent


def _carry_unpublished(storage_dir: Path, intent: Intent, registry: EventRegistry) -> Intent:
    """Carry over what is to be published; if that is damaged, a note says so."""
    try:
        unpublished.carry_unpublished(storage_dir / intent.new_database, registry)
    except (DatabaseDamaged, plyvel.Error) as error:
        if not is_damage(error):
            raise as_answer("reading the unpublished events", error) from error
        log.warning("the unpublished events are not carried over: %s", error)
        note = "the previous database is damaged: some of its events may not be published to Kafka"
        return _noted(intent, note)
    return intent


def _noted(intent: Intent, note: str) -> Intent:
    restored = msgspec.structs.replace(intent.restored, notes=[*intent.restored.notes, note])
    return msgspec.structs.replace(intent, restored=restored)


def promote_staged(storage_dir: Path) -> Intent | None:
    """At a start of the service: turn the restore that was staged with `"apply": "restart"` into the intent, if any.

    It never overwrites an intent, which must be finished before. Another restore may have replaced the same generation
    since, so the name for the previous database may be in use.
    """
    staged = intents.read_intent(storage_dir, data_folders.STAGED_RESTORE)
    if staged is None or (storage_dir / data_folders.INTENT).exists():
        return None
    if (storage_dir / staged.previous_name).exists():
        intents.write_intent(storage_dir, undo.with_free_name(storage_dir, staged), data_folders.STAGED_RESTORE)
    rename_durably(storage_dir / data_folders.STAGED_RESTORE, storage_dir / data_folders.INTENT)
    return staged


def carry_over_at_start(storage_dir: Path, database: Path, intent: Intent) -> Intent:
    """Do `carry_over` for a staged restore, or one that a killed process had decided. May be repeated.

    If the database is damaged or gone, nothing is carried over but what was before the kill. Raises DatabaseLocked, or
    an error of the system.
    """
    is_waiting = (storage_dir / intent.new_database).is_dir() and not (storage_dir / intent.previous_name).exists()
    if not is_waiting or not (database / data_folders.DATABASE_MARK).exists():
        return intent
    try:
        with closing(open_checked(database, retain_in=storage_dir / data_folders.CUT_OFF)) as db:
            intent = carry_over(storage_dir, intent, EventRegistry(db, database), None)
    except (DatabaseDamaged, DatabaseTooNew, plyvel.Error) as error:
        if not isinstance(error, DatabaseTooNew) and not is_damage(error):
            raise as_answer(f"opening {database}", error) from error
        log.warning("nothing is carried over from the previous database: %s", error)
        return intent
    now = clock.now()
    previous = None if intent.previous is None else msgspec.structs.replace(intent.previous, replaced_at=now)
    restored = msgspec.structs.replace(intent.restored, at=now)
    intent = msgspec.structs.replace(intent, previous=previous, restored=restored)
    intents.write_intent(storage_dir, intent)
    return intent


def replace_offsets(database: Path, choose: Callable[[Offsets], Offsets]) -> None:
    """Replace the offsets of a database, which nobody has open, by those that `choose` returns for them."""
    with closing(open_checked(database)) as db, db.write_batch(transaction=True, sync=True) as batch:
        replaced = dict(db.iterator(prefix=keys.KAFKA))
        for key in replaced:
            batch.delete(key)
        for key, value in to_metadata(choose(from_metadata(replaced))).items():
            batch.put(key, value)
    sync_folder(database)


def carry_unpublished_at_start(storage_dir: Path, database: Path, intent: Intent) -> Intent:
    """Carry over what is to be published, for a swap at a start that carries nothing else over.

    Changes nothing if the database is missing or damaged: the new one has what the journal knows of it already.
    """
    if not (database / data_folders.DATABASE_MARK).exists():
        return intent
    try:
        with closing(open_checked(database, retain_in=storage_dir / data_folders.CUT_OFF)) as db:
            return _carry_unpublished(storage_dir, intent, EventRegistry(db, database))
    except (DatabaseDamaged, DatabaseTooNew, plyvel.Error) as error:
        if not isinstance(error, DatabaseTooNew) and not is_damage(error):
            raise as_answer(f"opening {database}", error) from error
        return intent


def _carry_into(new_database: Path, offsets: Mapping[bytes, bytes], registry: EventRegistry) -> None:
    """Put the quarantine, then the offsets: without them all is consumed again, with them the generation continues."""
    with closing(open_checked(new_database)) as db:
        _carry_quarantine(db, registry)
        identity = EventRegistry(db, new_database).identity.continuing()
        with db.write_batch(transaction=True, sync=True) as batch:
            for key, value in offsets.items():
                batch.put(key, value)
            batch.put(keys.META_STORE, msgspec.json.encode(identity))
    sync_folder(new_database)  # opening made files and removed some


def _carry_quarantine(db: Any, registry: EventRegistry) -> None:
    """Make the quarantine of the new database the same as that of `registry`. They have most messages in common."""
    new = _quarantine_of(db)
    live = registry.scan_meta(keys.QUARANTINE_LIST)
    for key in new.keys() - live.keys():
        with db.write_batch(transaction=True) as batch:
            batch.delete(key)
            batch.delete(quarantine_format.content_key(key))
    for key, value in live.items():
        if new.get(key) != value:
            _carry_message(db, registry, key, value)
    totals = registry.get_value(keys.META_QUARANTINE)
    if totals is not None:
        db.put(keys.META_QUARANTINE, totals)


def _add_quarantine(db: Any, registry: EventRegistry) -> None:
    """Add the quarantine of `registry` to that of the new database, whose offsets stay and may be beyond its base.

    A message that is read again is listed and counted once; Kafka may not have it any more. May be repeated.
    """
    listed = {quarantine_format.content_key(key) for key in _quarantine_of(db)}
    totals = quarantine_format.read_totals(db.get(keys.META_QUARANTINE, verify_checksums=True))
    for key, value in registry.scan_meta(keys.QUARANTINE_LIST).items():
        if quarantine_format.content_key(key) not in listed:
            totals = msgspec.structs.replace(totals, letters=totals.letters + 1)
            _carry_message(db, registry, key, value, totals)
    db.put(keys.META_QUARANTINE, quarantine_format.encoded_totals(totals), sync=True)


def _quarantine_of(db: Any) -> dict[bytes, bytes]:
    with db.iterator(prefix=keys.QUARANTINE_LIST, verify_checksums=True) as rows:
        return dict(rows)


def _carry_message(db: Any, registry: EventRegistry, key: bytes, value: bytes, totals: Totals | None = None) -> None:
    """Put a message with its `key` and `value` of the list into the new database. totals: put in the same write."""
    content = registry.get_value(quarantine_format.content_key(key))
    if content is None:
        return
    with db.write_batch(transaction=True) as batch:
        batch.put(quarantine_format.content_key(key), content)
        batch.put(key, value)
        if totals is not None:
            batch.put(keys.META_QUARANTINE, quarantine_format.encoded_totals(totals))

"""Carries what is still to be published from the old database to the new one, and announces the restore there.

An event that both databases have waits by its sequence. An event that the new one lacks was acknowledged as well, so
it waits with its body, before all that is posted later.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable, Iterator
from contextlib import closing, contextmanager
from itertools import chain
from pathlib import Path
from typing import Any

from eventvault import clock
from eventvault.database import keys, outbox
from eventvault.database.generation import StoreIdentity
from eventvault.database.opening import open_checked
from eventvault.database.outbox import NO_EVENT, joined, message_of
from eventvault.database.registry import EventRegistry
from eventvault.events.event import DEFAULT_SOURCE, encoded, indexed_of
from eventvault.files import sync_folder
from eventvault.restore.swap import in_place
from eventvault.restore.swap.intent import Intent
from eventvault.restore.values import kind_of
from eventvault.settings import Settings

log = logging.getLogger("BackupManager")

RESTORED = "eventvault.restored"
"""The type of the event that says that a restore has replaced the registry."""
_BATCH_BYTES = 4 * 2**20
_KEY_BYTES = 32


def carry_unpublished(new_database: Path, old: EventRegistry) -> None:
    """Let exactly those events wait in the new database that wait in the old one."""
    if not old.outbox.is_used:
        return
    with opened(new_database) as (db, new):
        shared = new.identity.last_common(old.identity.generation) or 0
        common = min(shared, old.last_sequence, new.last_sequence)
        waiting = joined(old.outbox.runs(0, common))
        if waiting != joined(new.outbox.runs(0, common)):
            outbox.note_published(db, common)
            put(db, outbox.key_values_of(waiting, 0, common))
        beyond = (message_of(old.at(sequence)) for sequence in old.outbox.pending(common, old.last_sequence))
        put(db, chain(old.outbox.messages(), beyond))
        first = waiting[0][0] if waiting else next(new.outbox.pending(common, new.last_sequence), new.last_sequence + 1)
        put(db, [(keys.META_PUBLISHED, b"%d" % (first - 1))])


def announce(settings: Settings, intent: Intent) -> None:
    """Add an event to what the new database publishes: the restore of `intent` has taken place. May be repeated."""
    new_database = settings.storage_dir / intent.new_database
    is_waiting = new_database.is_dir() and not (settings.storage_dir / intent.previous_name).exists()
    if settings.kafka_publish_topic is None or not is_waiting or in_place.is_begun(new_database):
        return
    with opened(new_database) as (db, new):
        waiting = [key for key, _ in new.outbox.messages()]
        ids = (indexed_of(body).id for key, body in new.outbox.messages() if key.endswith(_NO_EVENT))
        if new.identity.generation in ids:
            return  # a process was killed after this
        after = max((keys.recorded_of_message(key) for key in waiting[-1:]), default=0)
        at = max(clock.now(), new.last_recorded, after)
        put(db, [(keys.message_key(at, NO_EVENT), _restored_event(new.identity, intent.restored.source, at))])


def _restored_event(identity: StoreIdentity, source: str, at: int) -> bytes:
    generation = identity.present
    data = {
        "storeId": identity.store_id,
        "generation": generation.id,
        "previousGeneration": generation.parent,
        "forkSequence": generation.fork_sequence,
        "kind": kind_of(generation.reason),
        "restored": source,
    }
    return encoded({
        "specversion": "1.0", "id": generation.id, "source": DEFAULT_SOURCE, "type": RESTORED,
        "time": clock.format_microseconds(at), "datacontenttype": "application/json", "data": data,
    })  # fmt: skip


_NO_EVENT = keys.message_key(0, NO_EVENT)[-8:]


@contextmanager
def opened(new_database: Path) -> Iterator[tuple[Any, EventRegistry]]:
    """Open a database that was built, to change it before it is swapped in."""
    with closing(open_checked(new_database)) as db:
        yield db, EventRegistry(db, new_database)
    sync_folder(new_database)  # opening made files and removed some


def put(db: Any, puts: Iterable[tuple[bytes, bytes]]) -> None:
    """Put keys and values durably, in batches: many events may wait after hours without a broker."""
    batch, size = db.write_batch(sync=True), 0
    for key, value in puts:
        batch.put(key, value)
        size += len(key) + len(value) + _KEY_BYTES
        if size >= _BATCH_BYTES:
            batch.write()
            batch, size = db.write_batch(sync=True), 0
    batch.write()

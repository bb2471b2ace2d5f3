"""Imports a LevelDB that another program wrote (a Node.js registry) into a new event database.

It reads every record in key order with its checksum, maps it to an event (`records`) and appends it. Memory does not
grow with the database, and a failed import leaves nothing behind.
"""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

import plyvel

from eventvault import clock, record_size
from eventvault.damage import as_answer
from eventvault.database import keys
from eventvault.database.bulk import BulkWriter, IndexedMembers, bulk_writer
from eventvault.database.generation import StoreIdentity, first_identity
from eventvault.database.registry import create_database, open_leveldb
from eventvault.errors import ArchiveAlien, ArchiveDamaged, DatabaseError
from eventvault.events.event import EventDraft, recorded_body
from eventvault.files import removing_on_failure, sync_tree
from eventvault.foreign.records import ForeignEvent, derived_id, map_record, original_key
from eventvault.foreign.report import ImportReport, Renamed, make_report
from eventvault.foreign.source import SourceDatabase, open_source
from eventvault.system_errors import name_of

BATCH_EVENTS = 1000
BATCH_BYTES = 4 * 2**20
"""After this many events, or bytes of events, the clock is read again and the progress is reported."""
MOST_UNREADABLE = 50_000
MOST_UNREADABLE_BYTES = 16 * 2**20
"""The most identities, and bytes of them, that are held in memory before LevelDB has them."""
_WAITING_BYTES = 16 * 2**20
MAX_LISTED = 100
"""Events with a new id that the report lists; all of them are counted."""

Progress = Callable[[int, int], None]
"""Called with the bytes done and the total bytes of the foreign database's tables on disk."""


def import_foreign(
    folder: Path,
    target: Path,
    *,
    name: str = "the archive",
    identity: StoreIdentity | None = None,
    instant_clock: clock.Clock = clock.now,
    progress: Progress | None = None,
) -> ImportReport:
    """Create an event database at `target` from all records of the LevelDB in `folder`, in key order.

    folder: a private copy, because opening it writes to it. target: must not exist; it is on disk when this returns.
    name: of the archive, for errors. identity: of the new database (default: a new one). instant_clock: for
    `recordedtime`. Raises ArchiveDamaged, ArchiveAlien (no database that can be opened), or the system's error
    (`as_answer`); then `target` does not exist.
    """
    if target.exists():
        raise DatabaseError(f"importing into {target} failed: it is there already", hint="name a new folder")
    unfinished = target.with_name(f".{target.name}.creating")
    with (
        removing_on_failure(unfinished, target),
        _reporting_write_errors(target),
        open_source(folder, name) as source,
    ):
        _check_foreign(source)
        create_database(target, identity or first_identity(instant_clock(), "imported"))
        with closing(open_leveldb(target)) as db:
            with bulk_writer(db, waiting=_WAITING_BYTES) as writer:
                importing = _Import(db, writer, instant_clock, progress)
                importing.run(source)
            if importing.counts["events"]:
                db.put(keys.META_ENCODED, b"0")
        sync_tree(target)
        return make_report(importing.counts, importing.renamed, source.torn_notes())


def read_foreign(folder: Path, name: str = "the archive") -> None:
    """Read every record of the LevelDB in `folder` with its checksum, as an import does.

    folder: a private copy, because opening it writes to it. name: of the archive, for errors. Raises ArchiveDamaged or
    ArchiveAlien.
    """
    with open_source(folder, name) as source:
        deque(_records(source), maxlen=0)


def _records(source: SourceDatabase) -> Iterator[tuple[bytes, bytes]]:
    """Yield keys and values. Raises ArchiveDamaged for a value that is longer than a body that can be posted."""
    for key, value in source.rows():
        if len(value) > record_size.longest_value():
            raise ArchiveDamaged(
                f"{source.name} holds a record of {len(value)} bytes, more than MAX_BODY_BYTES allows",
                hint=f"raise MAX_BODY_BYTES to {len(value)} or more",
            )
        yield key, value
        del value  # it may be large, and the next one is read


class _Import:
    """One import. counts: how often each flag of ForeignEvent was true, and `events`, `renamed`."""

    def __init__(self, db: Any, writer: BulkWriter, now: clock.Clock, progress: Progress | None) -> None:
        self.counts: Counter[str] = Counter()
        self.renamed: list[Renamed] = []
        self._db = db
        self._writer = writer
        self._now = now
        self._progress = progress
        self._recorded = 0
        self._events = self._bytes = 0
        """Of the current batch."""
        self._unreadable: set[bytes] = set()
        """Identities that may not be in LevelDB yet, so they must be compared here."""
        self._unreadable_bytes = 0

    def run(self, source: SourceDatabase) -> None:
        total = source.db.approximate_size(b"", b"\xff" * 64)
        for key, value in _records(source):
            if not self._events:
                self._recorded = max(self._now(), self._recorded)
            self._add(key, value)
            del value  # it may be large, and the next one is read
            if self._events >= BATCH_EVENTS or self._bytes >= BATCH_BYTES:
                self._events = self._bytes = 0
                if self._progress is not None:
                    self._progress(min(source.db.approximate_size(b"", key), total), total)
        if self._progress is not None:
            self._progress(total, total)

    def _add(self, key: bytes, value: bytes) -> None:
        event = map_record(key, value)
        identity = keys.identity_key(event.draft.id, event.draft.source)
        if self._is_in_use(identity):
            event, identity = self._with_new_id(key, value, event.draft)
        self.counts["events"] += 1
        self.counts.update(name for name, value in zip(event._fields[1:], event[1:], strict=True) if value)
        self._unreadable.add(identity)
        self._unreadable_bytes += len(identity)
        self._put(event.draft, self.counts["events"])

    def _put(self, draft: EventDraft, sequence: int) -> None:
        body = recorded_body(draft.body, sequence, self._recorded)
        self._writer.put(sequence, body, IndexedMembers(draft.id, draft.source, draft.type, draft.subject))
        self._events += 1
        self._bytes += len(body)
        if len(self._unreadable) >= MOST_UNREADABLE or self._unreadable_bytes >= MOST_UNREADABLE_BYTES:
            self._writer.settle_keys()
            self._unreadable.clear()
            self._unreadable_bytes = 0

    def _is_in_use(self, identity: bytes) -> bool:
        return identity in self._unreadable or self._db.get(identity, verify_checksums=True) is not None

    def _with_new_id(self, key: bytes, value: bytes, draft: EventDraft) -> tuple[ForeignEvent, bytes]:
        """Return the event with an id from its key, and its identity. If that id is in use, `~2`, `~3`, … is added."""
        number = 1
        while True:
            ending = "" if number == 1 else f"~{number}"
            event = map_record(key, value, new_id=derived_id(key, ending))
            identity = keys.identity_key(event.draft.id, event.draft.source)
            if not self._is_in_use(identity):
                break
            number += 1
        self.counts["renamed"] += 1
        if len(self.renamed) < MAX_LISTED:
            self.renamed.append(Renamed(key=original_key(key), source=draft.source, id=draft.id, became=event.draft.id))
        return event, identity


def _check_foreign(source: SourceDatabase) -> None:
    if all(source.get(key) is not None for key in (keys.META_SCHEMA, keys.META_STORE)):
        raise ArchiveAlien(
            "the database is one of EventVault: its records are not foreign ones",
            hint="restore it as an archive of EventVault; nothing was imported",
        )


@contextmanager
def _reporting_write_errors(target: Path) -> Iterator[None]:
    try:
        yield
    except (OSError, plyvel.Error) as error:
        raise as_answer(f"importing into {name_of(target)}", error) from error

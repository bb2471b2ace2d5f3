"""Replays a database in our format that is not proven to be ours: only its events count, after a strict check.

Keys, filters, indexes, counters and the identity of that database are not used: a fresh database gets its events, and
begins a generation of its own that continues none of ours.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from itertools import islice
from pathlib import Path
from typing import Any

import msgspec

from eventvault import clock, data_folders
from eventvault.archive.manifest import Manifest
from eventvault.database import keys
from eventvault.database.bulk import IndexedMembers, bulk_writer
from eventvault.database.generation import StoreIdentity, check_generations
from eventvault.database.registry import create_database, open_leveldb
from eventvault.errors import ArchiveTooNew
from eventvault.events.event import RECORDED_TIME
from eventvault.files import remove_durably
from eventvault.foreign.source import SourceDatabase, open_source
from eventvault.kafka import offsets, quarantine_format
from eventvault.kafka.offsets import Offsets
from eventvault.kafka.values import Totals
from eventvault.operations.operation import current
from eventvault.restore.records import check_count, damaged
from eventvault.restore.strict_events import StrictEvents

_SOURCE = "unproven"
_MAX_IDENTITY_BYTES = 4 * 2**20
_MAX_OFFSETS = 100_000
_BUFFER_BYTES = 8 * 2**20
"""The size of LevelDB's two buffers, and of the waiting keys: a process may use 80 MB. Larger ones are 10 % faster."""

Row = tuple[bytes, bytes]
Take = Callable[[int, bytes, IndexedMembers], None]


class ReplacedDatabase(msgspec.Struct, frozen=True):
    """The database that a restore replaces. kafka: its offsets."""

    identity: StoreIdentity
    kafka: Offsets = {}


class UnprovenDatabase:
    """The database in `folder`, a private copy that was unpacked from `archive`; opening it changes the copy.

    about: the manifest of the archive, with which it must agree; None without one. Methods raise ArchiveDamaged that
    says what is wrong, ArchiveTooNew, or ArchiveAlien.
    """

    def __init__(self, folder: Path, archive: Path, about: Manifest | None) -> None:
        self._folder = folder
        self._name = archive.name
        self._about = about

    def check(self) -> None:
        """Read everything that `replay` reads, and refuse what it refuses."""
        with open_source(self._folder, self._name) as source:
            self._read_offsets(source)
            for _ in self._read_quarantine(source):
                pass
            self._check_identity(source)
            self._read_events(source, lambda _sequence, _value, _event: None)

    def replay(self, identity: StoreIdentity, replaced: Offsets) -> int:
        """Make a fresh database with the events beside it, without a sync; return the number of events.

        replaced: the offsets of the database that a restore replaces; the lower one of two offsets counts.
        """
        current().step("replay")
        target = self._folder.with_name(data_folders.DATABASE)
        with open_source(self._folder, self._name) as source:
            kafka = self._read_offsets(source)
            self._check_identity(source)
            create_database(target, identity)
            with closing(open_leveldb(target, write_buffer=_BUFFER_BYTES)) as db:
                with bulk_writer(db, waiting=_BUFFER_BYTES) as writer:
                    last = self._read_events(source, writer.put)
                self._check_identities(db, last)
                with db.write_batch(transaction=True) as batch:
                    for key, value in offsets.to_metadata(offsets.lower_of(kafka, replaced)).items():
                        batch.put(key, value)
                self._replay_quarantine(db, source)
        (target / data_folders.DATABASE_MARK).touch()
        return last

    def _read_events(self, source: SourceDatabase, take: Take) -> int:
        """Call `take` with every event; return how many there are."""
        strict = StrictEvents(clock.now())
        check, first, sequence = strict.check, b"", 0
        for key, value in source.rows(start=keys.EVENT, stop=_after(keys.EVENT)):
            sequence += 1
            if key != keys.EVENT + sequence.to_bytes(8, "big"):
                raise damaged(self._name, f"event {sequence} is missing")
            try:
                event = check(sequence, value)
            except (ValueError, msgspec.MsgspecError) as error:
                raise damaged(self._name, f"event {sequence} is not as EventVault writes it: {error}") from error
            take(sequence, value, event)
            first = first or value[RECORDED_TIME]
        self._check_manifest(sequence, first.decode(), strict.last_recorded.decode())
        return sequence

    def _check_manifest(self, events: int, first_time: str, last_time: str) -> None:
        if self._about is None:
            return
        check_count(self._name, events, self._about.events)
        claims = (self._about.first_sequence, self._about.last_sequence, self._about.first_time, self._about.last_time)
        if claims != (1 if events else None, events, first_time or None, last_time or None):
            raise self._untrue("its first and last event")

    def _check_identity(self, source: SourceDatabase) -> None:
        """Check the schema and the registry's identity, which must agree with the manifest."""
        schema = source.get(keys.META_SCHEMA) or b""
        if not schema.isdigit() or len(schema) > 9:
            raise damaged(self._name, "its database has no schema key of EventVault")
        if int(schema) > keys.SCHEMA_VERSION:
            raise ArchiveTooNew(
                f"{self._name} holds a database of a later version: {int(schema)}, this one knows "
                f"{keys.SCHEMA_VERSION}",
                hint="install the version that wrote it, or a later one",
            )
        try:
            content = source.get(keys.META_STORE) or b""
            identity = msgspec.json.decode(content[:_MAX_IDENTITY_BYTES], type=StoreIdentity)
            check_generations(identity.generation, identity.generations)
        except (ValueError, msgspec.MsgspecError) as error:
            raise damaged(self._name, f"its database has no identity as EventVault writes it: {error}") from error
        about = self._about
        if about is not None and (about.store_id, about.generation, about.generations) != (
            identity.store_id, identity.present, list(identity.generations),
        ):  # fmt: skip
            raise self._untrue("its generations")

    def _read_offsets(self, source: SourceDatabase) -> Offsets:
        rows = source.rows(start=keys.KAFKA, stop=_after(keys.KAFKA))
        metadata = dict(islice(rows, _MAX_OFFSETS))
        try:
            kafka = offsets.read_checked(metadata)
        except (ValueError, msgspec.MsgspecError) as error:
            raise damaged(self._name, f"its Kafka offsets are not as EventVault writes them: {error}") from error
        if self._about is not None and self._about.kafka != offsets.describe(metadata):
            raise self._untrue("its Kafka offsets")
        return kafka

    def _read_quarantine(self, source: SourceDatabase) -> Iterator[tuple[Row, Row]]:
        """Yield both keys and values of each message in quarantine."""
        listed = source.rows(start=keys.QUARANTINE_LIST, stop=_after(keys.QUARANTINE_LIST))
        contents = source.rows(start=keys.QUARANTINED, stop=_after(keys.QUARANTINED))
        try:
            for _, both in quarantine_format.read_checked(listed, contents):
                yield both
        except (ValueError, msgspec.MsgspecError) as error:
            raise damaged(self._name, f"its quarantine is not as EventVault writes it: {error}") from error

    def _replay_quarantine(self, db: Any, source: SourceDatabase) -> None:
        count = 0
        for both in self._read_quarantine(source):
            count += 1
            with db.write_batch(transaction=True) as batch:
                for key, value in both:
                    batch.put(key, value)
        if count:
            db.put(keys.META_QUARANTINE, quarantine_format.encoded_totals(Totals(letters=count)))

    def _check_identities(self, db: Any, last: int) -> None:
        """Check that no two events have the same id and source: the second one would hide the first."""
        with db.iterator(prefix=keys.IDENTITY, include_value=False) as identities:
            if sum(1 for _ in identities) == last:
                return
        with db.iterator(prefix=keys.EVENT) as events:
            for key, value in events:
                event = msgspec.json.decode(value, type=IndexedMembers)
                stored = db.get(keys.identity_key(event.id, event.source))
                if keys.read_identity_value(stored)[0] != keys.sequence_of(key):
                    sequence = keys.sequence_of(key)
                    raise damaged(self._name, f"event {sequence} has the id and source of a later one")

    def _untrue(self, what: str) -> Exception:
        return damaged(self._name, f"its manifest is not true: {what}")


@contextmanager
def unproven_database(staging: Path, archive: Path, about: Manifest | None) -> Iterator[UnprovenDatabase]:
    """Rename the database that was unpacked to `staging`, so that its replay can replace it; remove it at the end."""
    source = staging / _SOURCE
    (staging / data_folders.DATABASE).rename(source)
    yield UnprovenDatabase(source, archive, about)
    remove_durably(source)


def _after(prefix: bytes) -> bytes:
    """Return the first key after all that begin with `prefix`, which is one byte."""
    return bytes([prefix[0] + 1])

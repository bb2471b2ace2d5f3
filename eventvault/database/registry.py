"""The event registry on an open LevelDB: appends events with a gap-free sequence, and reads them."""

from __future__ import annotations

import os
import weakref
from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import islice, repeat
from pathlib import Path
from typing import Any

import msgspec
import plyvel

from eventvault import clock, data_folders
from eventvault.database import keyed_requests, keys, outbox
from eventvault.database.existing import open_existing
from eventvault.database.generation import NO_BOUND, StoreIdentity, first_identity
from eventvault.database.identities import Identities
from eventvault.database.keyed_requests import Answered, KeyedRecord, StoredAnswer
from eventvault.database.large_reads import LARGE_READS
from eventvault.database.outbox import Delivered, Outbox, Removed, Run
from eventvault.database.values import MOST_CANDIDATES, AppendResult
from eventvault.errors import DatabaseDamaged, DatabaseTooNew, EventNotFound, InvalidInput, WriteFailed
from eventvault.events import event
from eventvault.events.event import Appended, EventDraft
from eventvault.files import make_folder, remove_durably, rename_durably, sync_folder_handle, sync_tree
from eventvault.keyed_request import KeyedRequest, is_expired
from eventvault.system_errors import name_of

WRITE_BUFFER_BYTES = 32 * 2**20
CACHE_BYTES = 32 * 2**20
BLOOM_BITS = 10
_MOST_ROWS = 1000
"""How many identities are read for candidates, because those of later events do not count."""


class AppendBatch(msgspec.Struct, frozen=True, gc=False):
    """One append, all or nothing.

    nonce: 8 bytes, the same if the append is sent again. metadata: keys and values to put in the same write; None: the
    key is deleted. generation: the append is refused in any other generation; None: it is accepted in all. request: a
    request with an `Idempotency-Key`, whose answer is put in the same write; the append is refused if the request was
    answered before (`EventRegistry.answer_of`). from_kafka: the events are not published. delivered: what leaves the
    outbox, because the brokers have it. leaving: for each draft, keys that are deleted in the same write, unless the
    event is stored with other content.
    """

    drafts: Sequence[EventDraft]
    nonce: bytes
    metadata: Sequence[tuple[bytes, bytes | None]] = ()
    generation: str | None = None
    request: KeyedRequest | None = None
    from_kafka: bool = False
    delivered: Delivered | None = None
    leaving: Sequence[Sequence[bytes]] = ()


class BatchOutdated(WriteFailed):
    """A batch belongs to another generation, or its request was answered meanwhile, so nothing was written."""


def open_leveldb(folder: Path, *, create: bool = False, write_buffer: int | None = None) -> Any:
    """Open a LevelDB with EventVault's options. Raises plyvel.IOError if another process has it open, or OSError.

    Paranoid checks refuse a log with a torn end: `eventvault.database.opening.open_checked` cuts it off first.
    write_buffer: in bytes (default: WRITE_BUFFER_BYTES); LevelDB has two of them.
    """
    options = {
        "paranoid_checks": True,
        "write_buffer_size": write_buffer or WRITE_BUFFER_BYTES,
        "lru_cache_size": CACHE_BYTES,
        "bloom_filter_bits": BLOOM_BITS,
    }
    if create:
        return plyvel.DB(str(folder), create_if_missing=True, error_if_exists=True, **options)
    return open_existing(folder, **options)


def create_database(folder: Path, identity: StoreIdentity | None = None) -> StoreIdentity:
    """Create an empty registry at `folder`. It is created under another name, synced, and then renamed."""
    identity = identity or first_identity(clock.now())
    make_folder(folder.parent)
    staging = folder.with_name(f".{folder.name}.creating")
    remove_durably(staging)
    db = open_leveldb(staging, create=True)
    with db.write_batch(transaction=True, sync=True) as batch:
        batch.put(keys.META_SCHEMA, str(keys.SCHEMA_VERSION).encode())
        batch.put(keys.META_STORE, msgspec.json.encode(identity))
    db.close()
    (staging / data_folders.DATABASE_MARK).touch()
    sync_tree(staging)
    rename_durably(staging, folder)
    return identity


class LookupFailed(plyvel.Error):  # type: ignore[misc]  # plyvel has no types
    """An append could not look up an identity, so it wrote nothing. error: LevelDB's error."""

    def __init__(self, error: plyvel.Error) -> None:
        super().__init__(str(error))
        self.error = error


class EventRegistry:
    """The events on a LevelDB handle, which the caller opens and closes.

    One thread appends (the committer), any number of threads read. A read that finds damage in a table raises
    plyvel.CorruptionError. After an append that raised, close the handle and open it again before the next append:
    LevelDB loses later writes otherwise.

    publishes: appended events that do not come from Kafka get a key in the outbox.
    """

    def __init__(self, db: Any, folder: Path, now: clock.Clock = clock.now, *, publishes: bool = False) -> None:
        self._db = db
        self._publishes = publishes
        self._folder = folder
        self._now = now
        self._folder_changed = 0
        self._folder_handle = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
        weakref.finalize(self, os.close, self._folder_handle)
        self._check_schema()
        self.identity = self._read_identity()
        self.last_sequence, self.last_recorded = self._read_last()
        self.first_recorded = self._read_first()
        """When event 1 was recorded, in microseconds; None if there is no event."""
        self._encoded_upto = self._read_encoded_upto()
        self._expiry = keyed_requests.Expiry()
        self._identities = Identities(db)
        self.outbox = Outbox(db, self.last_sequence)

    @property
    def generation(self) -> str:
        return self.identity.generation

    def append(self, batches: Sequence[AppendBatch]) -> list[list[Appended]]:
        """Append all batches in one synced write, which is on disk when this returns.

        An identity that is stored already, or comes twice, is stored once. Raises LookupFailed or BatchOutdated if
        nothing was written. Raises plyvel.Error if the write failed: whether it is on disk shows once the handle has
        been opened again.
        """
        if any(batch.generation not in (None, self.identity.generation) for batch in batches):
            raise BatchOutdated(
                "another generation began since the offsets of these events were read; nothing was written",
                hint="read them again from the stored offsets",
            )
        recorded = max(self._now(), self.last_recorded)
        encoded_upto = self.encoded_upto
        write = _GroupWrite(
            self._db, self._identities, self.last_sequence, recorded, encoded_upto, publishes=self._publishes
        )
        try:
            results = [write.add(batch) for batch in batches]
            removed = self._remove_delivered(write.batch, batches)
            if write.answered:
                self._refuse_answered(write.answered, recorded)
                self._expiry.remove_expired(self._db, write.batch, recorded, 2 * len(write.answered))
        except plyvel.Error as error:
            raise LookupFailed(error) from error
        if write.pending and self._encoded_upto is None:
            write.batch.put(keys.META_ENCODED, b"%d" % encoded_upto)
        write.put_answers()
        waiting = write.put_outgoing()
        write.batch.write()
        self._identities.add(write.pending)
        self._sync_names()
        self.last_sequence = write.sequence
        if write.pending:
            self.last_recorded, self._encoded_upto = recorded, encoded_upto
            self.first_recorded = self.first_recorded or recorded
        self.outbox.note_appended(write.sequence, waiting)
        if removed is not None:
            self.outbox.note_removed(removed)
        return results

    def _remove_delivered(self, write: Any, batches: Sequence[AppendBatch]) -> Removed | None:
        delivered = [batch.delivered for batch in batches if batch.delivered is not None]
        return self.outbox.remove(write, delivered) if delivered else None

    def answer_of(self, request: KeyedRequest) -> AppendResult | None:
        """Return the answer to an earlier request with this key; None if there was none in the last 24 hours.

        Raises IdempotencyKeyReused if the earlier request had another content.
        """
        record = self._record_of(request, max(self._now(), self.last_recorded))
        return None if record is None else keyed_requests.answer_of(record, request, self.at)

    def _record_of(self, request: KeyedRequest, now: int) -> KeyedRecord | None:
        record = keyed_requests.read_record(self.get_value(keys.request_key(request.id)))
        return None if record is None or is_expired(record.at, now) else record

    def _refuse_answered(self, answered: Sequence[Answered], now: int) -> None:
        """Raise BatchOutdated if a request is repeated, or was answered by its earlier append or by a restore."""
        requests = [answer.request for answer in answered]
        is_repeated = len({request.id for request in requests}) < len(requests)
        if is_repeated or any(self._record_of(request, now) is not None for request in requests):
            raise BatchOutdated(
                "the request was answered meanwhile; nothing was written", hint="send it again to get the answer"
            )

    @property
    def encoded_upto(self) -> int:
        """The last sequence that an earlier version, which re-encoded `data`, may have stored."""
        return self.last_sequence if self._encoded_upto is None else self._encoded_upto

    def append_recorded(self, puts: Iterable[tuple[bytes, bytes]], last: int, recorded: int) -> None:
        """Put events as an archive or the journal has them, up to the event `last`, in one synced write.

        puts: all keys and values. recorded: when the event `last` was recorded. Call it only while nothing is appended.
        """
        with self._db.write_batch(transaction=True, sync=True) as batch:
            for key, value in puts:
                batch.put(key, value)
        self._identities = Identities(self._db)
        self._sync_names()
        self.last_sequence, self.last_recorded = last, recorded
        self.outbox.note_replayed(last)
        self.first_recorded = self.first_recorded or self._read_first()

    def change_beside(self, change: Callable[[Any], None]) -> None:
        """Let `change` write keys that are not of events. Call it only while nothing is appended."""
        change(self._db)
        self._sync_names()

    def begin_generation(self, identity: StoreIdentity) -> None:
        """Continue with another identity, durably. Call it only while nothing is appended."""
        write_identity(self._db, identity)
        self.identity = identity

    def get(self, event_id: str, source: str | None = None, recorded_to: int | None = None) -> bytes:
        """Return the JSON of the event, if it was recorded up to `recorded_to` (microseconds, None: no limit).

        Raises EventNotFound, with `candidates` (ids that begin with `event_id`), or InvalidInput if several sources
        have an event with this id.
        """
        upto = NO_BOUND
        if recorded_to is not None:
            upto = self.first_recorded_at_or_after(recorded_to + 1, self.last_sequence) - 1
        try:
            return self.at(self.find(event_id, source, upto))
        except EventNotFound as error:
            if candidates := self._ids_that_begin(event_id, upto):
                error.details["candidates"] = candidates
            raise

    def _ids_that_begin(self, beginning: str, upto: int) -> list[str]:
        """Return the first few ids of events up to `upto` that begin with `beginning`; none if that is empty."""
        ids: dict[str, None] = {}
        if not beginning:
            return []
        with self._rows(prefix=keys.identity_beginning(beginning)) as rows:
            for key, value in islice(rows, _MOST_ROWS):
                if keys.read_identity_value(value)[0] <= upto:
                    ids[keys.id_of_identity(key)] = None
                    ids.pop(beginning, None)
                if len(ids) == MOST_CANDIDATES:
                    break
        return list(ids)

    def find(self, event_id: str, source: str | None = None, upto: int = NO_BOUND) -> int:
        """Return the sequence of an identity if it is at most `upto`. Raises the errors of `get`."""
        if source is not None:
            value = self.get_value(keys.identity_key(event_id, source))
            sequences = keys.first_two_sequences([] if value is None else [value], upto)
        else:
            with self._rows(prefix=keys.identity_prefix(event_id), include_key=False) as values:
                sequences = keys.first_two_sequences(values, upto)
        if not sequences:
            of_source = f" and the source {source!r:.300}" if source is not None else ""
            raise EventNotFound(
                f"no event has the id {event_id!r:.300}{of_source}",
                hint="GET /api/events lists the events"
                + ("" if upto == NO_BOUND else "; the event may have been recorded later: ask without asOf"),
            )
        if len(sequences) > 1:
            raise InvalidInput(
                f"several sources have an event with the id {event_id!r}",
                hint="add ?source= to say which one is meant",
                fields={"source": ["required, because the id is not unique"]},
            )
        return sequences[0]

    def events(self, after: int, upto: int, *, reverse: bool = False) -> Iterator[tuple[int, bytes]]:
        """Yield (sequence, JSON) of the events beyond `after`, up to `upto`. Close the iterator before the handle.

        reverse: the newest come first.
        """
        if upto <= after:
            return
        with self._between(keys.event_key(after), keys.event_key(upto + 1), fill_cache=False, reverse=reverse) as rows:
            for key, value in rows:
                yield keys.sequence_of(key), value

    def event_values(self, after: int, upto: int) -> Any:
        """Return a context manager: an iterator over the JSON of the same events as `events`, which is faster."""
        start, stop = keys.event_key(after + 1), keys.event_key(upto + 1)
        return self._rows(start=start, stop=stop, fill_cache=False, include_key=False)

    def answers(self, first: int, upto: int) -> Iterator[StoredAnswer]:
        """Yield the answers to requests with a key whose last stored event is one from `first` to `upto`, in order."""
        if upto < first:
            return
        start, stop = keys.request_order_key(first), keys.request_order_key(upto + 1)
        with self._rows(start=start, stop=stop, include_value=False, fill_cache=False) as rows:
            for key in rows:
                sequence, at, request_id = keys.read_request_order(key)
                value = self.get_value(keys.request_key(request_id))
                if value is not None and keyed_requests.is_of_events(value, at):
                    yield StoredAnswer(sequence, request_id, value)

    def indexed(self, index: bytes, text: str, after: int, upto: int, *, reverse: bool = False) -> Iterator[int]:
        """Yield the sequences of an index entry's events beyond `after`, up to `upto`. reverse: as in `events`."""
        if upto <= after:
            return
        start, stop = keys.index_key(index, text, after), keys.index_key(index, text, upto + 1)
        with self._between(start, stop, include_value=False, reverse=reverse) as rows:
            for key in rows:
                yield keys.sequence_of(key)

    def index_sizes(self, index: bytes, text: str, ranges: Sequence[tuple[int, int]]) -> list[int]:
        """Return for each range of sequences [first, end) about how many bytes an index entry takes in tables."""
        spans = [(keys.index_key(index, text, first), keys.index_key(index, text, end)) for first, end in ranges]
        return list(self._db.approximate_sizes(*spans)) if spans else []

    def index_cursor(self, index: bytes) -> Any:
        """Return a context manager: plyvel's iterator over the keys of an index, with `seek`, `next` and `prev`."""
        return self._rows(prefix=index, include_value=False)

    def at(self, sequence: int) -> bytes:
        """Return the JSON of the event with that sequence. Raises DatabaseDamaged if it is missing."""
        value = self.get_value(keys.event_key(sequence))
        if value is None:
            raise DatabaseDamaged(
                f"event {sequence} is missing from {name_of(self._folder)}",
                hint="restore the newest backup; POST /api/backup/restore",
            )
        return value

    def first_recorded_at_or_after(self, instant: int, upto: int) -> int:
        """Return the first sequence recorded at `instant` (microseconds) or later; upto + 1 if there is none.

        A binary search, because `recordedtime` never decreases with the sequence.
        """
        low, high = 1, upto + 1
        if upto and self.first_recorded is not None and instant <= self.first_recorded:
            return low
        while low < high:
            middle = (low + high) // 2
            if event.recorded_of(self.at(middle)) < instant:
                low = middle + 1
            else:
                high = middle
        return low

    def get_value(self, key: bytes) -> bytes | None:
        """Return the value of a key. LevelDB checks a block's checksum only on request, so it is requested.

        Blocks of events stay out of LevelDB's cache. A block holds a whole event, and each of the 16 parts of the cache
        may hold one block that is larger than the cache is meant to be.
        """
        is_event = key.startswith(keys.EVENT)
        value: bytes | None = self._db.get(key, verify_checksums=True, fill_cache=not is_event)
        if is_event and value is not None:
            LARGE_READS.note(len(value))
        return value

    def scan_meta(self, prefix: bytes) -> dict[bytes, bytes]:
        """Return the keys and values that begin with `prefix`."""
        with self._rows(prefix=prefix) as rows:
            return dict(rows)

    def rows(self, start: bytes, stop: bytes, *, reverse: bool = False) -> Any:
        """Return a context manager: an iterator over the keys and values beyond `start` and before `stop`."""
        return self._between(start, stop, reverse=reverse, fill_cache=False)

    def _between(self, start: bytes, stop: bytes, **options: Any) -> Any:
        """Iterate over the keys between two others.

        plyvel finds nothing backwards if the only key is an included `start`, so `start` is never included.
        """
        return self._rows(start=start, include_start=False, stop=stop, **options)

    def _rows(self, **options: Any) -> Any:
        return self._db.iterator(verify_checksums=True, **options)

    def _sync_names(self) -> None:
        """Sync the folder before an acknowledgement, because LevelDB creates files without always syncing it."""
        changed = self._folder.stat().st_mtime_ns
        if changed != self._folder_changed:
            sync_folder_handle(self._folder_handle)
            self._folder_changed = changed

    def _check_schema(self) -> None:
        schema = self.get_value(keys.META_SCHEMA)
        if schema is None or not schema.isdigit():
            raise DatabaseDamaged(
                f"{name_of(self._folder)} has no EventVault schema key: it is not a database of EventVault",
                hint="put an archive of it into the restore folder to import its records",
            )
        if int(schema) > keys.SCHEMA_VERSION:
            raise DatabaseTooNew(
                f"{name_of(self._folder)} has format {int(schema)}; this version of EventVault knows up to "
                f"{keys.SCHEMA_VERSION}",
                hint="install the version that wrote it, or a later one",
            )

    def _read_identity(self) -> StoreIdentity:
        try:
            return msgspec.json.decode(self.get_value(keys.META_STORE) or b"", type=StoreIdentity)
        except msgspec.MsgspecError as error:
            raise DatabaseDamaged(
                f"{name_of(self._folder)} has no readable store identity: {error}", hint="restore the newest backup"
            ) from error

    def _read_encoded_upto(self) -> int | None:
        """Return the sequence that the first append of this version noted; None if unknown, or a restore went back."""
        digits = self.get_value(keys.META_ENCODED)
        if digits is None or not digits.isdigit() or int(digits) > self.last_sequence:
            return None
        return int(digits)

    def _read_first(self) -> int | None:
        first = self.get_value(keys.event_key(1)) if self.last_sequence else None
        return event.recorded_of(first) if first is not None else None

    def _read_last(self) -> tuple[int, int]:
        """Return the sequence and the recorded time of the newest event. Its block stays out of LevelDB's cache."""
        with self._rows(prefix=keys.EVENT, reverse=True, fill_cache=False) as rows:
            for key, value in rows:
                LARGE_READS.note(len(value))
                return keys.sequence_of(key), event.recorded_of(value)
        return 0, 0


class _GroupWrite:
    """Collects the batches of a group in one LevelDB write. pending: identity → sequence of the new events."""

    def __init__(
        self, db: Any, identities: Identities, sequence: int, recorded: int, encoded_upto: int, *, publishes: bool
    ) -> None:
        self.batch = db.write_batch(sync=True)
        self.sequence = sequence
        self.pending: dict[bytes, int] = {}
        self.answered: list[Answered] = []
        self._new: list[EventDraft] = []
        self._first = sequence + 1
        """Sequence of the first event in `_new`."""
        self._retried: set[bytes] = set()
        self._types = keys.IndexPrefixes(keys.TYPE)
        self._sources = keys.IndexPrefixes(keys.SOURCE)
        self._identities = identities
        self._db = db
        self._recorded = recorded
        self._encoded_upto = encoded_upto
        self._publishes = publishes
        self._outgoing: list[Run] = []
        """The events to publish."""

    def add(self, batch: AppendBatch) -> list[Appended]:
        before = self.sequence
        results = self._append(batch.drafts, batch.nonce)
        if self._publishes and not batch.from_kafka and self.sequence > before:
            self._outgoing.append((before + 1, self.sequence))
        for key, value in batch.metadata:
            if value is None:
                self.batch.delete(key)
            else:
                self.batch.put(key, value)
        for result, leaving in zip(results, batch.leaving, strict=False):
            for key in () if result.differs else leaving:
                self.batch.delete(key)
        if batch.request is not None:
            self.answered.append(Answered(batch.request, results, self.sequence))
        return results

    def put_answers(self) -> None:
        """Put the answers to requests with a key. Each answer has the last sequence of the whole group."""
        for answered in self.answered:
            for key, value in keyed_requests.key_values_of(answered, self._recorded, self.sequence):
                self.batch.put(key, value)

    def put_outgoing(self) -> int:
        """Put the outbox keys, one for consecutive events. Returns how many events are to be published."""
        runs = outbox.joined(self._outgoing)
        for key, value in outbox.key_values_of(runs, 0, self.sequence):
            self.batch.put(key, value)
        return outbox.count_of(runs)

    def _append(self, drafts: Sequence[EventDraft], nonce: bytes) -> list[Appended]:
        """Put each event whose identity is not stored yet. Few calls per event, because every append runs this."""
        identities = keys.identity_keys([draft.id for draft in drafts], [draft.source for draft in drafts])
        stored = self._identities.look_up(identities)
        if stored.count(None) == len(set(identities)) == len(drafts) and self.pending.keys().isdisjoint(identities):
            sequences = range(self.sequence + 1, self.sequence + len(drafts) + 1)
            self.pending.update(zip(identities, sequences, strict=True))
            self._new += drafts
            self._put(drafts, identities, nonce)
            return list(map(Appended, sequences, repeat(self._recorded)))
        return self._append_missing(drafts, identities, stored, nonce)

    def _append_missing(
        self, drafts: Sequence[EventDraft], identities: Sequence[bytes], stored: Sequence[bytes | None], nonce: bytes
    ) -> list[Appended]:
        """Put the events that are not stored yet. stored: the value of each identity, None if it is not stored."""
        results: list[Appended] = []
        new: list[EventDraft] = []
        new_identities: list[bytes] = []
        for draft, identity, value in zip(drafts, identities, stored, strict=True):
            if identity in self.pending:
                results.append(self._repeated_result(draft, self.pending[identity]))
            elif value is not None:
                results.append(self._duplicate_result(draft, identity, value, nonce))
            else:
                new.append(draft)
                self.pending[identity] = sequence = self.sequence + len(new)
                self._new.append(draft)
                new_identities.append(identity)
                results.append(Appended(sequence, self._recorded))
        self._put(new, new_identities, nonce)
        return results

    def _put(self, drafts: Sequence[EventDraft], identities: Sequence[bytes], nonce: bytes) -> None:
        """Put the keys of new events, grouped by kind, so that LevelDB finds their positions faster."""
        put, types, sources = self.batch.put, self._types, self._sources
        sequences = range(self.sequence + 1, self.sequence + len(drafts) + 1)
        ends = list(map(keys.pack_sequence, sequences))
        value_end = event.recorded_end(self._recorded)
        for draft, sequence, end in zip(drafts, sequences, ends, strict=True):
            put(keys.EVENT + end, draft.body[:-1] + value_end % sequence)
        for identity, end in zip(identities, ends, strict=True):
            put(identity, end + nonce)
        for draft, end in zip(drafts, ends, strict=True):
            put(types[draft.type] + end, b"")
        for draft, end in zip(drafts, ends, strict=True):
            put(sources[draft.source] + end, b"")
        subjects = {end: draft.subject for draft, end in zip(drafts, ends, strict=True) if draft.subject is not None}
        for prefix, end in zip(keys.index_prefixes(keys.SUBJECT, subjects.values()), subjects, strict=True):
            put(prefix + end, b"")
        self.sequence += len(drafts)

    def _repeated_result(self, draft: EventDraft, sequence: int) -> Appended:
        """Return the result of an event whose identity came earlier in this write. sequence: of the earlier event."""
        value = event.recorded_body(self._new[sequence - self._first].body, sequence, self._recorded)
        return Appended(sequence, self._recorded, True, event.differs(value, draft.body, draft.filled))

    def _duplicate_result(self, draft: EventDraft, identity: bytes, stored: bytes, nonce: bytes) -> Appended:
        sequence, nonce_then = keys.read_identity_value(stored)
        value = self._db.get(keys.event_key(sequence), verify_checksums=True, fill_cache=False)
        if value is None:
            raise DatabaseDamaged(
                f"event {sequence} is missing, although its identity is there",
                hint="restore the newest backup; POST /api/backup/restore",
            )
        recorded = event.recorded_of(value)
        if nonce_then == nonce and identity not in self._retried:
            self._retried.add(identity)
            return Appended(sequence, recorded)
        encoded = sequence <= self._encoded_upto
        return Appended(
            sequence, recorded, True, event.differs(value, draft.body, draft.filled, stored_encoded=encoded)
        )


def write_identity(db: Any, identity: StoreIdentity) -> None:
    db.put(keys.META_STORE, msgspec.json.encode(identity), sync=True)

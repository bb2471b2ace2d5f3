"""Writes events that already have a sequence into a new database, in bulk and without syncs.

It writes the keys that `EventRegistry.append` writes (docs/format.md); the nonce of each event is all zeros. For
private databases only: the caller syncs the result.
"""

from __future__ import annotations

from array import array
from collections import defaultdict
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from typing import Annotated, Any

import msgspec

from eventvault.database import keys
from eventvault.events.event import LONGEST_TEXT
from eventvault.progress import JOB_SECONDS

_BATCH_EVENTS = 2000
_BATCH_BYTES = 2 * 2**20
WAITING_BYTES = 64 * 2**20
"""Twice the write buffer, so that waiting keys fill whole memtables."""
_LARGE_BYTES = 16 * 2**20
"""After a write of this size the memtable is written first: otherwise two of them and a batch would be in memory."""
_BATCH_KEYS = 20_000
_SEQUENCE_BYTES = 9
"""A sequence takes about this many bytes in a growing array."""
_PREFIX_BYTES = 250
_NO_KEYS = b"\xff\xff"
_CACHED = 10_000
NO_NONCE = bytes(keys.NONCE_BYTES)

_Text = Annotated[str, msgspec.Meta(min_length=1, max_length=LONGEST_TEXT)]


class IndexedMembers(msgspec.Struct, gc=False):
    """The members of an event that are part of its keys."""

    id: _Text
    source: _Text
    type: _Text
    subject: _Text | None = None


class BulkWriter:
    """Puts events at once, and their identities and indexes later, so that LevelDB has little to merge.

    LevelDB does not merge a table if its memtable overlapped no other one (`Version::PickLevelForMemTableOutput`).
    Events come in the order of their keys, so their memtables do not overlap unless keys of other kinds are in them.
    The keys of each other kind are put into memtables of their own, at the end and whenever `waiting` bytes of them
    wait. Index keys wait as prefix → sequences, and are put in order.

    Another thread writes the batches: LevelDB releases the interpreter lock meanwhile.
    """

    def __init__(self, db: Any, pool: ThreadPoolExecutor, waiting: int) -> None:
        """Use `bulk_writer`."""
        self._db = db
        self._most_waiting = waiting
        self._pool = pool
        self._writing: Future[None] | None = None
        self._prefixes = _Prefixes()
        self._identities: list[Any] = []
        self._identity_bytes = 0
        self._index: defaultdict[bytes, array[int]] = defaultdict(_sequences)
        self._index_entries = 0
        self._is_large = False
        """True if some keys were put before the end, so that there are several memtables."""
        self._begin()

    def put(self, sequence: int, value: bytes, event: IndexedMembers) -> None:
        """Put the next event. value: as in LevelDB."""
        number = sequence.to_bytes(8, "big")
        of_type, of_source = self._prefixes.of(event)
        self._put_event(keys.EVENT + number, value)
        self._put_identity(keys.identity_prefix(event.id) + of_source[len(keys.SOURCE) :], number + NO_NONCE)
        self._index[of_type].append(sequence)
        self._index[of_source].append(sequence)
        if event.subject is not None:
            self._index[keys.index_prefix(keys.SUBJECT, event.subject)].append(sequence)
        self._count += 1
        self._bytes += len(value)
        if self._count == _BATCH_EVENTS or self._bytes >= _BATCH_BYTES:
            self._flush()

    def settle(self) -> None:
        """Write all events, so that they can be read. Raises plyvel.Error if a write failed."""
        self._flush()
        self._wait()

    def settle_keys(self) -> None:
        """Write all events and their keys, so that they can be read. Raises as `settle` does."""
        self._is_large = True
        self.finish()

    def finish(self) -> None:
        """Write all events and their keys. Raises as `settle` does."""
        self._flush()
        self._put_identities()
        self._put_index()
        self._wait()

    def _begin(self) -> None:
        self._events, self._new_identities = self._db.write_batch(), self._db.write_batch()
        self._put_event, self._put_identity = self._events.put, self._new_identities.put
        self._count = self._bytes = 0

    def _flush(self) -> None:
        self._index_entries += 3 * self._count
        self._submit(_write_all, [self._events])
        self._identities.append(self._new_identities)
        self._identity_bytes += self._new_identities.approximate_size()
        is_large = self._bytes >= _LARGE_BYTES
        self._begin()
        if is_large:
            self._is_large = True
            self._begin_memtable()
            self._wait()
        if self._identity_bytes >= self._most_waiting:
            self._is_large = True
            self._put_identities()
        if _SEQUENCE_BYTES * self._index_entries + _PREFIX_BYTES * len(self._index) >= self._most_waiting:
            self._is_large = True
            self._put_index()

    def _put_identities(self) -> None:
        waiting, self._identities, self._identity_bytes = self._identities, [], 0
        self._begin_memtable()
        self._submit(_write_all, waiting)
        self._begin_memtable()

    def _put_index(self) -> None:
        """Put the waiting index keys, in order."""
        self._begin_memtable()
        batch, count = self._db.write_batch(), 0
        for prefix in sorted(self._index):
            put = batch.put
            for sequence in self._index[prefix]:
                put(prefix + sequence.to_bytes(8, "big"), b"")
            count += len(self._index[prefix])
            if count >= _BATCH_KEYS:
                self._submit(_write_all, [batch])
                batch, count = self._db.write_batch(), 0
        self._submit(_write_all, [batch])
        self._index.clear()
        self._index_entries = 0
        self._begin_memtable()

    def _begin_memtable(self) -> None:
        """Make LevelDB begin another memtable; not needed while one holds everything."""
        if self._is_large:
            self._submit(_write_memtable, self._db)

    def _submit(self, work: Callable[[Any], None], of: Any) -> None:
        """Run `work(of)` in the pool once the previous call has ended: at most one runs."""
        self._wait()
        self._writing = self._pool.submit(work, of)

    def _wait(self) -> None:
        """Wait for the call in the pool. Raises plyvel.Error if its write failed."""
        if self._writing is not None:
            self._writing.result(JOB_SECONDS)


@contextmanager
def bulk_writer(db: Any, *, waiting: int = WAITING_BYTES) -> Iterator[BulkWriter]:
    """Yield a writer, and write its waiting keys at the end. Raises plyvel.Error if a write failed.

    waiting: bytes of keys; up to twice as many are in memory.
    """
    with ThreadPoolExecutor(1, thread_name_prefix="bulk") as pool:
        writer = BulkWriter(db, pool, waiting)
        yield writer
        writer.finish()


def keys_of(event: IndexedMembers, sequence: int) -> list[bytes]:
    """Return an event's own key, its identity key, and its index keys."""
    texts = ((keys.TYPE, event.type), (keys.SOURCE, event.source), (keys.SUBJECT, event.subject))
    indexes = [keys.index_key(index, text, sequence) for index, text in texts if text is not None]
    return [keys.event_key(sequence), keys.identity_key(event.id, event.source), *indexes]


def _sequences() -> array[int]:
    return array("Q")


def _write_memtable(db: Any) -> None:
    """Make LevelDB write its memtable to a table, which it does before it compacts a range; this range has no keys."""
    db.compact_range(start=_NO_KEYS, stop=_NO_KEYS + b"\xff")


def _write_all(batches: list[Any]) -> None:
    for batch in batches:
        batch.write()
        batch.clear()


class _Prefixes:
    """The index prefixes of an event's type and source. They repeat, so they are cached."""

    def __init__(self) -> None:
        self._types: dict[str, bytes] = {}
        self._sources: dict[str, bytes] = {}

    def of(self, event: IndexedMembers) -> tuple[bytes, bytes]:
        of_type = self._types.get(event.type) or _cached(self._types, keys.TYPE, event.type)
        of_source = self._sources.get(event.source) or _cached(self._sources, keys.SOURCE, event.source)
        return of_type, of_source


def _cached(cache: dict[str, bytes], index: bytes, text: str) -> bytes:
    if len(cache) >= _CACHED:
        cache.clear()
    cache[text] = keys.index_prefix(index, text)
    return cache[text]

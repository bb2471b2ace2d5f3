"""Writes events that have their sequence already into a new database, in bulk and without syncs.

It writes the keys that `EventRegistry.append` writes (docs/format.md); the nonce of each event is all zeros. For
private databases only: the caller syncs the result.
"""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from typing import Annotated, Any

import msgspec

from eventvault.database import keys
from eventvault.events.event import LONGEST_TEXT

_BATCH_EVENTS = 2000
_BATCH_BYTES = 2 * 2**20
WAITING_BYTES = 64 * 2**20
"""Twice the write buffer: what waits fills whole memtables."""
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
    Those of each kind are put together, whenever `waiting` bytes of them wait, and at the end.

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
        self._indexes: list[Any] = []
        self._waiting_bytes = 0
        self._begin()

    def put(self, sequence: int, value: bytes, event: IndexedMembers) -> None:
        """Put the next event. value: as in LevelDB."""
        number = sequence.to_bytes(8, "big")
        of_type, of_source = self._prefixes.of(event)
        self._put_event(keys.EVENT + number, value)
        self._put_identity(keys.identity_prefix(event.id) + of_source[len(keys.SOURCE) :], number + NO_NONCE)
        self._put_index(of_type + number, b"")
        self._put_index(of_source + number, b"")
        if event.subject is not None:
            self._put_index(keys.index_prefix(keys.SUBJECT, event.subject) + number, b"")
        self._count += 1
        self._bytes += len(value)
        if self._count == _BATCH_EVENTS or self._bytes >= _BATCH_BYTES:
            self._flush()

    def settle(self) -> None:
        """Write all events, so that they can be read. Raises plyvel.Error if a write failed."""
        self._flush()
        self._wait()

    def finish(self) -> None:
        """Write all events and their keys. Raises as `settle` does."""
        self._flush()
        self._put_waiting()
        self._wait()

    def _begin(self) -> None:
        self._batches = tuple(self._db.write_batch() for _ in range(3))
        self._put_event, self._put_identity, self._put_index = (batch.put for batch in self._batches)
        self._count = self._bytes = 0

    def _flush(self) -> None:
        events, identities, indexes = self._batches
        self._write([events])
        for batch, waiting in ((identities, self._identities), (indexes, self._indexes)):
            waiting.append(batch)
            self._waiting_bytes += batch.approximate_size()
        self._begin()
        if self._waiting_bytes >= self._most_waiting:
            self._put_waiting()

    def _put_waiting(self) -> None:
        waiting = [*self._identities, *self._indexes]
        self._identities, self._indexes, self._waiting_bytes = [], [], 0
        self._write(waiting)

    def _write(self, batches: list[Any]) -> None:
        """Have the batches written, after those before them were: at most one call is under way."""
        self._wait()
        self._writing = self._pool.submit(_write_all, batches)

    def _wait(self) -> None:
        """Raises plyvel.Error if the write under way failed."""
        if self._writing is not None:
            self._writing.result()


@contextmanager
def bulk_writer(db: Any, *, waiting: int = WAITING_BYTES) -> Iterator[BulkWriter]:
    """Yield a writer, and put what waits at the end. Raises plyvel.Error if a write failed.

    waiting: bytes of keys; up to twice as many are in memory.
    """
    with ThreadPoolExecutor(1, thread_name_prefix="bulk") as pool:
        writer = BulkWriter(db, pool, waiting)
        yield writer
        writer.finish()


def keys_of(event: IndexedMembers, sequence: int) -> list[bytes]:
    """Return an event's own key, its identity, and its indexes."""
    texts = ((keys.TYPE, event.type), (keys.SOURCE, event.source), (keys.SUBJECT, event.subject))
    indexes = [keys.index_key(index, text, sequence) for index, text in texts if text is not None]
    return [keys.event_key(sequence), keys.identity_key(event.id, event.source), *indexes]


def _write_all(batches: list[Any]) -> None:
    for batch in batches:
        batch.write()
        batch.clear()


class _Prefixes:
    """The index keys of an event's type and source without its sequence. They repeat, so they are cached."""

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

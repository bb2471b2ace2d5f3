"""Keeps databases of the past open for reading beside the current one.

A swap keeps the previous database's folder. Readers of its generation, such as an export that began before the restore,
read from a copy (tables by hard link), so that the previous database is never written to. Databases that were built
for other moments are added by their builder (`add`).
"""

from __future__ import annotations

import secrets
import time
from collections import Counter
from collections.abc import Iterable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

import msgspec

from eventvault import data_folders
from eventvault.database.bus import EventBus
from eventvault.database.clone import check_holds, copy_database
from eventvault.database.generation import is_id
from eventvault.database.paging import scan
from eventvault.database.registry import EventRegistry
from eventvault.database.values import Page, ScanQuery
from eventvault.errors import GenerationSuperseded, TooBusy
from eventvault.files import remove_durably, removing_on_failure
from eventvault.restore.swap.previous import PreviousDatabases

UNLEASED_SECONDS = 30.0
"""How long a copy of a previous database stays open without a lease: readers renew theirs at a new store."""
UNREAD_SECONDS = 600.0
"""How long a database that was built for its readers, such as an unpacked archive, stays open without a reader."""
MAX_OPEN = 4
"""The most past databases that are open at once. To open another one, the least recently read one is closed."""


@dataclass
class _Copy:
    """An open copy. folder: removed when it is closed. idle: seconds without a reader after which it is closed."""

    bus: EventBus
    folder: Path
    idle: float

    def close(self) -> None:
        try:
            self.bus.close()
        finally:
            remove_durably(self.folder)


class PastDatabasePool:
    """The past databases that can be read: previous databases, and databases that were built for readers.

    Queries name a database by its key, as `generation`. The key of a previous database is its generation's id.
    """

    def __init__(self, storage_dir: Path, previous: PreviousDatabases) -> None:
        self._storage_dir = storage_dir
        self._previous = previous
        self._lock = previous.lock
        previous.in_use = lambda name: self._in_use_or_recent(name.removeprefix(data_folders.PREVIOUS_PREFIX))
        self._open: dict[str, _Copy] = {}
        self._leases: dict[object, str] = {}
        self._readers: Counter[str] = Counter()
        self._last_used: dict[str, float] = {}
        self._started_at = time.monotonic()

    def staging(self) -> Path:
        """Return a free name for a folder in which a past database is built. The next start removes the folder."""
        return self._storage_dir / f"{data_folders.PAST_PREFIX}{secrets.token_hex(4)}"

    def lease(self, generation: str, holder: object) -> None:
        """Keep the previous database of `generation` until `holder` releases it."""
        with self._lock.held():
            self._leases[holder] = generation

    def release(self, holder: object) -> None:
        with self._lock.held():
            generation = self._leases.pop(holder, None)
            if generation is not None:
                self._last_used[generation] = time.monotonic()

    def scan(self, present: EventRegistry, query: ScanQuery) -> Page:
        """Read a page of the generation that `query` names. Raises GenerationSuperseded as `choose` does."""
        with self.choose(present, query.generation, query.reach, fixed=query.upto is not None) as registry:
            page = scan(registry, query)
        return page if registry is present else msgspec.structs.replace(page, generation=query.generation)

    @contextmanager
    def choose(
        self, present: EventRegistry, generation: str | None, reach: int, *, fixed: bool
    ) -> Iterator[EventRegistry]:
        """Yield the registry to read for a generation (None: the current one): `present`, or a past database.

        present: the current database, which has the events that both generations share. reach: the last sequence that
        must belong to the generation. fixed: the query has a fixed end. Raises GenerationSuperseded for events beyond
        the fork if no database has them, or if the query has no fixed end.
        """
        identity = present.identity
        common = identity.last_common(generation) if generation is not None else None
        if generation in (None, identity.generation) or (common is not None and reach <= common):
            yield present
            return
        assert generation is not None
        if fixed and self.has(generation):
            with self.reading(generation) as registry:
                yield registry
            return
        raise GenerationSuperseded(
            f"generation {generation} was superseded by a restore, and event {reach} lies beyond the fork",
            hint="start again without a cursor: GET /api/events",
            generation=identity.generation,
            forkSequence=common,
        )

    def has(self, key: str) -> bool:
        """Return whether there is a database under `key`: a caller's text, used in a path only if it is an id."""
        with self._lock.held():
            if key in self._open:
                return True
        return is_id(key) and self._previous.folder(key).is_dir()

    @contextmanager
    def reading(self, key: str) -> Iterator[EventRegistry]:
        """Open the database under `key`, for which `has` is true, and keep it open meanwhile. Raises TooBusy."""
        with self.in_use(key), self._bus(key).using() as registry:
            yield registry

    @contextmanager
    def in_use(self, *keys: str) -> Iterator[None]:
        """Do not evict the databases under `keys` until the context is left.

        A reader of two databases passes both keys before it opens the first. Otherwise opening the second could evict
        the first, which waits for its readers: a deadlock.
        """
        with self._lock.held():
            self._readers.update(keys)
        try:
            yield
        finally:
            with self._lock.held():
                self._readers.subtract(keys)
                self._readers = +self._readers
                self._last_used.update(dict.fromkeys(keys, time.monotonic()))

    def add(self, key: str, database: Path, folder: Path) -> None:
        """Open a database that was built for its readers. It is closed and `folder` removed once it is idle."""
        evicted: list[_Copy] = []
        try:
            with self._lock.held():
                self._last_used[key] = time.monotonic()
                if key in self._open:
                    evicted.append(self._open.pop(key))
                self._open[key] = self._open_copy(database, folder, UNREAD_SECONDS, evicted)
        finally:
            _close(evicted)

    def close_idle(self) -> None:
        """Close and remove the copies that have been idle for long enough."""
        with self._lock.held():
            idle = [key for key, copy in self._open.items() if not self._in_use_or_recent(key, copy.idle)]
            copies = [self._open.pop(key) for key in idle]
        _close(copies)

    def _in_use_or_recent(self, key: str, idle: float = UNLEASED_SECONDS) -> bool:
        recent = max(self._last_used.get(key, self._started_at), self._started_at)
        return self._is_read(key) or time.monotonic() - recent < idle

    def _is_read(self, key: str) -> bool:
        return key in self._readers or key in self._leases.values()

    def _bus(self, key: str) -> EventBus:
        evicted: list[_Copy] = []
        try:
            with self._lock.held():
                self._last_used[key] = time.monotonic()
                if key not in self._open:
                    copy = self._storage_dir / f"{data_folders.PAST_PREFIX}{key}-{secrets.token_hex(4)}"
                    min_events = self._previous.events(self._previous.folder(key).name)
                    with removing_on_failure(copy):
                        copy_database(self._previous.folder(key), copy)
                    self._open[key] = self._open_copy(copy, copy, UNLEASED_SECONDS, evicted, min_events)
                return self._open[key].bus
        finally:
            _close(evicted)

    def _open_copy(self, database: Path, folder: Path, idle: float, evicted: list[_Copy], min_events: int = 0) -> _Copy:
        """Open a copy. It is in a new folder each time, because an evicted copy of the same key may not be removed yet.

        evicted: receives the copies to close once the lock is released. min_events: fail if the copy holds fewer.
        """
        bus = EventBus(database)
        try:
            self._make_room(evicted)
            bus.init([])
            with bus.using() as registry:
                check_holds(folder, registry.last_sequence, min_events)
        except BaseException:
            if bus.registry is not None:
                bus.close()
            remove_durably(folder)
            raise
        return _Copy(bus, folder, idle)

    def _make_room(self, evicted: list[_Copy]) -> None:
        """Evict copies until one more fits. Raises TooBusy if all open copies have readers."""
        free = [key for key in self._open if not self._is_read(key)]
        free.sort(key=lambda key: self._last_used.get(key, 0.0))
        while len(self._open) >= MAX_OPEN:
            if not free:
                raise TooBusy(
                    f"{MAX_OPEN} databases of the past are being read already",
                    hint="try again when one of their exports has ended",
                )
            evicted.append(self._open.pop(free.pop(0)))


def _close(copies: Iterable[_Copy]) -> None:
    """Close all copies, even if one fails. Call it without holding a lock, because closing waits for readers."""
    with ExitStack() as closing:
        for copy in copies:
            closing.callback(copy.close)


class GenerationLease:
    """The lease of a generation, in the process that has the pool; leaving the context releases it."""

    def __init__(self, past: PastDatabasePool, holder: object) -> None:
        self._past = past
        self._holder = holder

    def __enter__(self) -> GenerationLease:
        return self

    def renew(self) -> None:
        """Do nothing: only a lease over the store's socket has to be renewed."""

    def __exit__(self, *_: object) -> None:
        self._past.release(self._holder)

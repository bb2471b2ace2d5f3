"""Waits for new events for all streams of this process, and reads pages for streams that are behind.

One thread waits in the store for new events and holds the newest, the *tail*: a hundred streams cost the store one
reader. Another thread reads pages for streams that need older events. Both run while there are streams.
"""

from __future__ import annotations

import queue
import threading
import time
from collections.abc import Callable
from typing import NamedTuple

import msgspec

from app.streams.shared_threads import AGAIN_SECONDS, SharedThreads
from eventvault.database.values import Head, Page, Resumption, ScanQuery
from eventvault.errors import GenerationSuperseded
from eventvault.store.ports.store import Store

WAIT_SECONDS = 10.0
"""Seconds that one call waits in the store for new events."""
PAGE_EVENTS = 200
"""Events that are read at once for one stream."""
TAIL_EVENTS = 1000
TAIL_BYTES = 8 * 2**20
MAX_UNSENT_BYTES = 64 * 2**20
"""While streams that are behind have more than this to send, nothing is read for them."""
_MAX_BEHIND = 10_000
"""If the tail lacks more events, it begins again at the newest one."""


class Tail(NamedTuple):
    """The newest events of the current generation: all events after `after`."""

    generation: str
    after: int
    events: tuple[bytes, ...] = ()

    @property
    def last(self) -> int:
        return self.after + len(self.events)

    def extend(self, events: list[bytes]) -> Tail:
        newest = (*self.events, *events)[-TAIL_EVENTS:]
        size = 0
        for number, value in enumerate(reversed(newest)):
            size += len(value)
            if size > TAIL_BYTES:
                newest = newest[len(newest) - number :]
                break
        return Tail(self.generation, self.last + len(events) - len(newest), newest)


class PageReading:
    """The read of a page that one stream lacks.

    outcome: the page, or where to go on if `position` is of an earlier generation; None until it is read. size: of the
    page, in bytes.
    """

    def __init__(self, position: Head, query: ScanQuery, wake: Callable[[], None]) -> None:
        self.position = position
        self.query = query
        self.wake = wake
        self.outcome: Page | Resumption | None = None
        self.size = 0
        self.is_dropped = False

    def run(self, store: Store) -> Page | Resumption:
        query = msgspec.structs.replace(
            self.query, after=self.position.sequence, generation=self.position.generation, limit=PAGE_EVENTS
        )
        try:
            page = store.scan(query)
        except GenerationSuperseded:
            return store.resume(self.position)
        return page if page.generation == self.position.generation else store.resume(self.position)


class EventFeed:
    """Safe to use from many threads. It has threads of its own only between `join` and `leave`."""

    def __init__(self, store: Store) -> None:
        self.tail: Tail | None = None
        self._store = store
        self._threads = SharedThreads({"event tail": self._follow, "event reader": self._read_next})
        self._queue: queue.SimpleQueue[PageReading] = queue.SimpleQueue()
        self._lock = threading.Lock()
        self._unsent = 0

    def join(self, member: object, wake: Callable[[], None]) -> None:
        """Call `wake` whenever the tail has changed, until `leave`. Raises RuntimeError if there is no thread."""
        self._threads.join(member, wake)

    def leave(self, member: object) -> None:
        self._threads.leave(member)

    def read(self, reading: PageReading) -> None:
        """Read a page soon. `done` must be called for it."""
        self._queue.put(reading)

    def done(self, reading: PageReading) -> None:
        """Release a page that was sent, or will not be sent."""
        with self._lock:
            reading.is_dropped = True
            self._unsent -= reading.size
            reading.size = 0

    def _follow(self) -> None:
        """Wait for new events, and add them to the tail."""
        tail = self.tail
        seen = Head(tail.generation, tail.last) if tail is not None else None
        head = self._store.wait_for_events(seen, WAIT_SECONDS)
        if tail is None or head.generation != tail.generation or head.sequence - tail.last > _MAX_BEHIND:
            self._set_tail(Tail(*head))
            return
        while tail.last < head.sequence:
            page = self._store.scan(ScanQuery(after=tail.last, generation=tail.generation, limit=TAIL_EVENTS))
            if page.generation != tail.generation or not page.events:
                return
            tail = tail.extend(page.events)
            self._set_tail(tail)

    def _set_tail(self, tail: Tail) -> None:
        self.tail = tail
        self._threads.wake_all()

    def _read_next(self) -> None:
        try:
            reading = self._queue.get(True, 1.0)
        except queue.Empty:
            return
        while self._unsent > MAX_UNSENT_BYTES and not reading.is_dropped:
            time.sleep(AGAIN_SECONDS)
        if reading.is_dropped:
            return
        try:
            outcome = reading.run(self._store)
        except BaseException:
            self._queue.put(reading)
            raise
        with self._lock:
            if not reading.is_dropped:
                reading.size = sum(map(len, outcome.events)) if isinstance(outcome, Page) else 0
                self._unsent += reading.size
                reading.outcome = outcome
        reading.wake()

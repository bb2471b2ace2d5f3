"""Reads what waits in the outbox of the open database, in the order in which it was recorded, and removes it."""

from __future__ import annotations

import heapq
import logging
from collections.abc import Callable, Iterator, Sequence
from itertools import islice
from typing import NamedTuple, TypeVar

from eventvault import progress
from eventvault.database import keys
from eventvault.database.bus import EventBus
from eventvault.database.commit import Done
from eventvault.database.nonces import Nonces
from eventvault.database.outbox import Delivered, joined
from eventvault.database.registry import AppendBatch, EventRegistry
from eventvault.database.values import Head
from eventvault.errors import StoreUnavailable
from eventvault.events import event

log = logging.getLogger("KafkaPublisher")

_PAGE_EVENTS = 1000
_COUNTED_AT_ONCE = 100_000
_T = TypeVar("_T", int, bytes)


class Unpublished(NamedTuple):
    """An event or message to publish. place: the sequence of an event, or the key of a message that is not an event."""

    place: int | bytes
    body: bytes

    @property
    def recorded(self) -> int:
        return event.recorded_of(self.body) if isinstance(self.place, int) else keys.recorded_of_message(self.place)


class Settled(NamedTuple):
    """How far a generation is published: no event up to `upto`, and no message up to the key `message`, is sent again.

    unremoved: how many of these may still be in the outbox. messages: the keys of those that are not events.
    """

    generation: str
    unremoved: int
    messages: Sequence[bytes]
    upto: int
    message: bytes


class OutboxReader:
    """Reads what is not settled yet, for one thread. Methods raise why the database is not open.

    They raise StoreUnavailable once another generation has begun, because what was read belongs to the database before.
    settled: what an earlier run has settled.
    """

    def __init__(self, bus: EventBus, nonces: Nonces, settled: Settled | None = None) -> None:
        self._bus = bus
        self._nonces = nonces
        with bus.using() as registry:
            self.generation = registry.identity.generation
            upto = registry.outbox.upto
            self._has_messages = registry.outbox.has_messages()
        if settled is None or settled.generation != self.generation:
            settled = Settled(self.generation, 0, (), upto, b"")
        self.settled = settled
        self._after, self._message_after = max(upto, settled.upto), settled.message
        self.read_upto = self._after
        """The last event up to which the outbox was read."""

    def count(self) -> None:
        """Count what waits, once for each opening of the database. If much waits, that takes a while."""
        present = self._bus.registry
        if present is None or present.outbox.backlog is not None:
            return
        with self._bus.using() as registry:
            outbox, (last, added), removed = registry.outbox, registry.outbox.reached, registry.outbox.removed
        count = self._count(lambda registry, after: registry.outbox.message_keys(after), b"")
        count += self._count(lambda registry, after: registry.outbox.pending(after, last), 0)
        outbox.note_count(count, added, removed)

    def _count(self, list_after: Callable[[EventRegistry, _T], Iterator[_T]], after: _T) -> int:
        """Count in parts, because the closing of the database waits for its users."""
        count = 0
        while True:
            progress.step()
            with self._bus.using() as registry:
                page = list(islice(list_after(registry, after), _COUNTED_AT_ONCE))
            if not page:
                return count
            after, count = page[-1], count + len(page)

    def oldest(self) -> int | None:
        """Return when the next message to read was recorded, in microseconds; None if nothing more waits."""
        with self._bus.using() as registry:
            first = next(iter(self._in_order(registry, registry.last_sequence)), None)
            return None if first is None else first.recorded

    def wait(self, seconds: float) -> None:
        """Return once there may be something new to read, or after so many seconds."""
        self._bus.heads.wait(Head(self.generation, self.read_upto), seconds)

    def read(self, most_bytes: int) -> list[Unpublished]:
        """Return the next messages, about `most_bytes` in all, but at least one if something waits."""
        counters = self._bus.registry
        if counters is not None and counters.last_sequence == self.read_upto and not self._has_messages:
            return []
        with self._bus.using() as registry:
            self._check(registry)
            last, page, size = registry.last_sequence, list[Unpublished](), 0
            for waiting in self._in_order(registry, last):
                page.append(waiting)
                size += len(waiting.body)
                if size >= most_bytes or len(page) == _PAGE_EVENTS:
                    break
            else:
                self._has_messages = False
                self.read_upto = self._after = last
        self._advance(page)
        return page

    def remove(self, delivered: Delivered, done: Done) -> None:
        """Remove what the brokers have, with the next group of appends."""
        batch = AppendBatch([], self._nonces.next(), generation=self.generation, delivered=delivered)
        self._bus.committer.submit(batch, done)

    def _check(self, registry: EventRegistry) -> None:
        if registry.identity.generation != self.generation:
            raise StoreUnavailable("another generation began", hint="the outbox is read again from its beginning")

    def _advance(self, page: list[Unpublished]) -> None:
        for waiting in page:
            if isinstance(waiting.place, int):
                self._after = max(self._after, waiting.place)
            else:
                self._message_after = waiting.place
        self.read_upto = max(self.read_upto, self._after)

    def _in_order(self, registry: EventRegistry, last: int) -> Iterator[Unpublished]:
        events = self._events(registry, last)
        return heapq.merge(self._messages(registry), events, key=_place) if self._has_messages else events

    def _messages(self, registry: EventRegistry) -> Iterator[Unpublished]:
        for key, body in registry.outbox.messages(self._message_after):
            yield Unpublished(key, body)

    def _events(self, registry: EventRegistry, last: int) -> Iterator[Unpublished]:
        runs = islice(registry.outbox.runs(self._after, last), _PAGE_EVENTS + 1)
        for first, final in joined(runs):
            for sequence, body in registry.events(first - 1, final):
                yield Unpublished(sequence, body)


def _place(waiting: Unpublished) -> bytes:
    """Return the sort key: by the time of recording, both for events and for those that a restore made messages."""
    place = waiting.place
    return keys.message_key(waiting.recorded, place) if isinstance(place, int) else place

"""The events of the open database, and of previous databases while a reader still needs them."""

from __future__ import annotations

from collections.abc import Sequence

import msgspec

from eventvault import clock, progress
from eventvault.database.bus import EventBus
from eventvault.database.commit import Done
from eventvault.database.event_types import count_types
from eventvault.database.histogram import EdgeMemory, count_by_time
from eventvault.database.large_reads import LARGE_READS
from eventvault.database.nonces import Nonces
from eventvault.database.registry import AppendBatch
from eventvault.database.values import (
    AppendResult,
    EventHistogram,
    EventTypes,
    Head,
    HistogramQuery,
    Page,
    Published,
    Resumption,
    ScanQuery,
    TypesQuery,
)
from eventvault.errors import StoreUnavailable
from eventvault.events.event import EventDraft
from eventvault.kafka.publish.monitor import PublishMonitor
from eventvault.keyed_request import KeyedRequest
from eventvault.past.pool import GenerationLease, PastDatabasePool
from eventvault.past.views import Views
from eventvault.restore.values import kind_of
from eventvault.store.lifecycle import Lifecycle
from eventvault.store.owners.keyed_appends import KeyedAppends
from eventvault.store.ports.event_log import LONGEST_WAIT_SECONDS, EventLog, Lease


class EventLogOwner(EventLog):
    """now: the clock, in microseconds."""

    def __init__(
        self,
        lifecycle: Lifecycle,
        bus: EventBus,
        past: PastDatabasePool,
        views: Views,
        nonces: Nonces,
        publishing: PublishMonitor,
        now: clock.Clock = clock.now,
    ) -> None:
        self._lifecycle = lifecycle
        self._bus = bus
        self._past = past
        self._views = views
        self._nonces = nonces
        self._publishing = publishing
        self._keyed = KeyedAppends(bus)
        self._now = now
        self._edges = EdgeMemory()

    def submit(
        self, drafts: Sequence[EventDraft], nonce: bytes, done: Done, request: KeyedRequest | None = None
    ) -> None:
        """Do what `append` does, with an operation id; `done` gets the answer, mostly in the committer's thread."""
        refusal = self._lifecycle.refusal()
        if refusal is not None:
            done(refusal)
        elif request is None:
            self._bus.committer.submit(AppendBatch(drafts, nonce), done)
        else:
            self._keyed.submit(AppendBatch(drafts, nonce, request=request), done)

    def append(self, drafts: Sequence[EventDraft], request: KeyedRequest | None = None) -> AppendResult:
        self._lifecycle.check()
        batch = AppendBatch(drafts, self._nonces.next(), request=request)
        return self._bus.committer.append(batch) if request is None else self._keyed.append(batch)

    def get(self, event_id: str, source: str | None = None, recorded_to: int | None = None) -> bytes:
        self._lifecycle.check_readable()
        with LARGE_READS.turn(), self._bus.using() as registry:
            return registry.get(event_id, source, recorded_to)

    def scan(self, query: ScanQuery) -> Page:
        self._make_readable(query)
        with LARGE_READS.turn(), self._bus.using() as present:
            return self._past.scan(present, query)

    def histogram(self, query: HistogramQuery) -> EventHistogram:
        self._make_readable(query)
        reach = query.upto or 0
        with (
            self._bus.using() as present,
            self._past.choose(present, query.generation, reach, fixed=query.upto is not None) as registry,
        ):
            generation = present.identity.generation if registry is present else query.generation
            assert generation is not None
            counted = count_by_time(registry, query, self._edges.of(generation), self._now)
        return msgspec.structs.replace(counted, generation=generation)

    def event_types(self, query: TypesQuery) -> EventTypes:
        self._make_readable(query)
        reach = max(query.after, query.upto or 0)
        with (
            self._bus.using() as present,
            self._past.choose(present, query.generation, reach, fixed=query.upto is not None) as registry,
        ):
            return count_types(registry, query)

    def _make_readable(self, query: ScanQuery | HistogramQuery | TypesQuery) -> None:
        """Build the moment of a query again, if another store built it. Call it without holding a registry."""
        self._lifecycle.check_readable()
        if query.generation is not None and query.upto is not None:
            self._views.build_again(query.generation)

    def wait_for_events(self, seen: Head | None, seconds: float) -> Head:
        self._lifecycle.check_readable()
        activity = progress.current()
        if activity is not None:
            activity.rest()
        head = self._bus.heads.wait(seen, min(seconds, LONGEST_WAIT_SECONDS))
        progress.step()
        self._lifecycle.check_readable()  # a client whose store ends asks the next one
        if head is None:
            raise StoreUnavailable("the database is being opened again", hint="try again in a moment")
        return head

    def wait_for_published(self, seen: Published | None, seconds: float) -> Published:
        self._lifecycle.check_readable()
        activity = progress.current()
        if activity is not None:
            activity.rest()
        present = self._bus.head
        if present is None:
            raise StoreUnavailable("the database is being opened again", hint="try again in a moment")
        got = self._publishing.wait_for_published(seen, present.generation, min(seconds, LONGEST_WAIT_SECONDS))
        progress.step()
        return got

    def resume(self, reader: Head | None) -> Resumption:
        self._lifecycle.check_readable()
        with self._bus.using() as registry:
            identity, last = registry.identity, registry.last_sequence
        if reader is None:
            return Resumption(identity.generation, last)
        if reader.generation == identity.generation:
            return Resumption(*reader)
        fork = min(identity.last_common(reader.generation) or 0, last)
        kind = kind_of(identity.present.reason)
        return Resumption(identity.generation, min(reader.sequence, fork), fork, kind)

    def lease_generation(self, generation: str, holder: object = None) -> Lease:
        """Lease a generation. holder: over a socket, it stands for the connection, whose end releases the lease."""
        holder = object() if holder is None else holder
        self._past.lease(generation, holder)
        return GenerationLease(self._past, holder)

    def release(self, holder: object) -> None:
        self._past.release(holder)

"""The events of the open database, and of previous databases while a reader still needs them."""

from __future__ import annotations

from collections.abc import Sequence

from eventvault.database.bus import EventBus
from eventvault.database.commit import Done
from eventvault.database.nonces import Nonces
from eventvault.database.paging import scan
from eventvault.database.registry import AppendBatch
from eventvault.database.values import AppendResult, Page, ScanQuery
from eventvault.events.event import EventDraft
from eventvault.keyed_request import KeyedRequest
from eventvault.past.pool import GenerationLease, PastDatabasePool
from eventvault.store.lifecycle import Lifecycle
from eventvault.store.owners.keyed_appends import KeyedAppends
from eventvault.store.ports.event_log import EventLog, Lease


class EventLogOwner(EventLog):
    def __init__(self, lifecycle: Lifecycle, bus: EventBus, past: PastDatabasePool, nonces: Nonces) -> None:
        self._lifecycle = lifecycle
        self._bus = bus
        self._past = past
        self._nonces = nonces
        self._keyed = KeyedAppends(bus)

    def submit(
        self, drafts: Sequence[EventDraft], nonce: bytes, done: Done, request: KeyedRequest | None = None
    ) -> None:
        """`append` with its operation id, answered by `done`, mostly in the committer's thread."""
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
        with self._bus.using() as registry:
            return registry.get(event_id, source, recorded_to)

    def scan(self, query: ScanQuery) -> Page:
        self._lifecycle.check_readable()
        with self._bus.using() as registry:
            page = self._past.scan(registry.identity, query)
            return page if isinstance(page, Page) else scan(registry, page)

    def lease_generation(self, generation: str, holder: object = None) -> Lease:
        """holder: over a socket the connection, whose end releases the lease."""
        holder = object() if holder is None else holder
        self._past.lease(generation, holder)
        return GenerationLease(self._past, holder)

    def release(self, holder: object) -> None:
        self._past.release(holder)

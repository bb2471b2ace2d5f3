"""The port to the events of the registry."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

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
from eventvault.events.event import EventDraft
from eventvault.keyed_request import KeyedRequest
from eventvault.rpc.markers import changes, of_connection

LONGEST_WAIT_SECONDS = 20.0
"""How long a call of `wait_for_events` or `wait_for_published` waits at most."""


class Lease(Protocol):
    """Keeps a generation readable inside `with`. renew: call it before each scan, because the store may change."""

    def __enter__(self) -> Lease: ...

    def renew(self) -> None: ...

    def __exit__(self, *exception: object) -> None: ...


class EventLog(Protocol):
    @changes
    def append(self, drafts: Sequence[EventDraft], request: KeyedRequest | None = None) -> AppendResult:
        """Append all drafts or none, durably: when this returns they are on disk.

        request: a request with an `Idempotency-Key`. If an earlier request with that key was answered in the last 24
        hours, this appends nothing and returns the same answer. Raises IdempotencyKeyInUse while the earlier one is
        running, and IdempotencyKeyReused if it had another content. A restore rewinds the answers with the events.
        """

    def get(self, event_id: str, source: str | None = None, recorded_to: int | None = None) -> bytes:
        """Return the event's JSON. Raises EventNotFound, or InvalidInput if several sources share the id.

        `candidates` of EventNotFound has the first ids that begin with `event_id`. recorded_to: only events recorded by
        then count (microseconds, inclusive).
        """

    def scan(self, query: ScanQuery) -> Page:
        """Return a page of events. Raises GenerationSuperseded for a cursor beyond the fork of a lost generation.

        A moment whose database is no longer open is built again: this raises what `PastReader.resolve_moment` does.
        """

    def histogram(self, query: HistogramQuery) -> EventHistogram:
        """Return how many events were recorded in each part of a span of time. Raises what `scan` does."""

    def event_types(self, query: TypesQuery) -> EventTypes:
        """Return the most frequent types. Raises what `scan` does."""

    def wait_for_events(self, seen: Head | None, seconds: float) -> Head:
        """Return the head of the current generation, once it is not `seen` or after so many seconds.

        It never waits longer than LONGEST_WAIT_SECONDS.
        """

    def wait_for_published(self, seen: Published | None, seconds: float) -> Published:
        """Return up to which event all are published, once it is not `seen` or after so many seconds.

        It never waits longer than LONGEST_WAIT_SECONDS.
        """

    def resume(self, reader: Head | None) -> Resumption:
        """Return where a reader continues. reader: the last event that it has, in any generation; None: the newest.

        A reader of an unknown generation begins with the first event.
        """

    @of_connection
    def lease_generation(self, generation: str) -> Lease:
        """Keep a generation readable through `scan` with `upto` as long as the lease's context lasts."""

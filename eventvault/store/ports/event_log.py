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
    """Keeps a generation readable from `with` to its end. renew: call it before each scan, as the store may change."""

    def __enter__(self) -> Lease: ...

    def renew(self) -> None: ...

    def __exit__(self, *exception: object) -> None: ...


class EventLog(Protocol):
    @changes
    def append(self, drafts: Sequence[EventDraft], request: KeyedRequest | None = None) -> AppendResult:
        """Append all drafts or none, durably: when this returns they are on disk.

        request: one with an `Idempotency-Key`. If an earlier one with that key was answered in the last 24 hours,
        nothing is appended, and its answer is given again. Raises IdempotencyKeyInUse while that one is running, and
        IdempotencyKeyReused if it had another content. A restore rewinds the answers with the events.
        """

    def get(self, event_id: str, source: str | None = None, recorded_to: int | None = None) -> bytes:
        """The event's JSON. Raises EventNotFound, or InvalidInput if several sources share the id.

        Where ids begin as the one that was asked for, the first of them are in `candidates` of EventNotFound.
        recorded_to: only events recorded by then count (microseconds, inclusive).
        """

    def scan(self, query: ScanQuery) -> Page:
        """A page of events. Raises GenerationSuperseded for a cursor beyond the fork of a generation that is gone.

        A moment whose database is open no more is built again: it raises what `PastReader.resolve_moment` does.
        """

    def histogram(self, query: HistogramQuery) -> EventHistogram:
        """How many events were recorded when. Raises what `scan` does."""

    def event_types(self, query: TypesQuery) -> EventTypes:
        """The most frequent types. Raises what `scan` does."""

    def wait_for_events(self, seen: Head | None, seconds: float) -> Head:
        """How far the present generation got: once that is not `seen`, or after so many seconds.

        It never waits longer than LONGEST_WAIT_SECONDS.
        """

    def wait_for_published(self, seen: Published | None, seconds: float) -> Published:
        """Up to which event Kafka has all that it takes: once that is not `seen`, or after so many seconds.

        It never waits longer than LONGEST_WAIT_SECONDS.
        """

    def resume(self, reader: Head | None) -> Resumption:
        """Where a reader goes on that has all events up to `reader`, in whatever generation; None: behind the newest.

        A reader of an unknown generation begins with the first event.
        """

    @of_connection
    def lease_generation(self, generation: str) -> Lease:
        """Keep a generation readable through `scan` with `upto` as long as the lease's context lasts."""

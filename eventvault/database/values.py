"""The queries of the event database and their results."""

from __future__ import annotations

from typing import NamedTuple

import msgspec

from eventvault.events.event import Appended, indexed_of, recorded_of

MOST_CANDIDATES = 6
"""How many ids an error suggests that begin with an id that no event has."""


class Head(NamedTuple):
    """The position of a database or a reader: a generation, and the last sequence in it."""

    generation: str
    sequence: int


class Published(NamedTuple):
    """How far publishing to Kafka got in a generation. refused: the newest events up to there that Kafka refuses."""

    generation: str
    sequence: int
    refused: tuple[int, ...] = ()


class AppendResult(msgspec.Struct, array_like=True, frozen=True):
    """results: one per draft, in order. last_sequence: of the registry, after this append.

    ids: None: the events were appended now. Otherwise this repeats the answer to an earlier request with the same
    `Idempotency-Key`, and these are the ids of its events. refusal: why that request was refused, if it was.
    """

    results: list[Appended]
    last_sequence: int
    ids: list[str] | None = None
    refusal: str = ""


class ScanQuery(msgspec.Struct, frozen=True, kw_only=True):
    """A request for a page of events, oldest first, or newest first.

    after, before: only events beyond the first and below the second sequence (None: no limit). upto: the last sequence
    (None: no limit). generation: the one that these belong to (None: the current one); events of an earlier generation
    are served as long as its previous database is there, if `upto` fixes the end.
    recorded_from, recorded_to: inclusive, microseconds.
    limit: 1 to 1,000 events. A page may be shorter and still have a `next`, so that no call takes long.
    """

    after: int = 0
    before: int | None = None
    newest_first: bool = False
    upto: int | None = None
    generation: str | None = None
    limit: int = 100
    type: str | None = None
    subject: str | None = None
    source: str | None = None
    recorded_from: int | None = None
    recorded_to: int | None = None

    @property
    def reach(self) -> int:
        """The last sequence that has to belong to `generation`."""
        below = self.before - 1 if self.before is not None else None
        if self.upto is None:
            return max(self.after, below or 0)
        return self.upto if below is None else min(self.upto, below)

    def matches(self, value: bytes) -> bool:
        """Return whether an event has the wanted type, subject, source and `recordedtime`."""
        if self.type is not None or self.subject is not None or self.source is not None:
            attributes = indexed_of(value)
            if self.type not in (None, attributes.type) or self.subject not in (None, attributes.subject):
                return False
            if self.source not in (None, attributes.source):
                return False
        if self.recorded_from is None and self.recorded_to is None:
            return True
        recorded = recorded_of(value)
        return (self.recorded_from is None or recorded >= self.recorded_from) and (
            self.recorded_to is None or recorded <= self.recorded_to
        )


class Page(msgspec.Struct, frozen=True):
    """events: UTF-8 JSON objects. next: the `after` of the next page, or its `before` if the newest come first.

    next is None at the end. generation: id of the generation that was read. last_sequence: its last sequence.
    """

    events: list[bytes]
    next: int | None
    last_sequence: int
    generation: str


class HistogramQuery(msgspec.Struct, frozen=True, kw_only=True):
    """Asks how many events were recorded in each of `buckets` equal parts of a time range.

    recorded_from, recorded_to: inclusive, microseconds. If None, the range begins at the first event
    and ends now, or at the newest event if that is later. generation, upto: as in a `ScanQuery`. type: count events of
    this type only.
    """

    buckets: int
    recorded_from: int | None = None
    recorded_to: int | None = None
    type: str | None = None
    generation: str | None = None
    upto: int | None = None


class EventHistogram(msgspec.Struct, frozen=True):
    """counts: one number for each bucket. before: number of events, of any type, before the first bucket.

    exact: False if counts of a type are estimated. generation: id of the generation that was read.
    """

    recorded_from: int
    recorded_to: int
    counts: list[int]
    before: int
    exact: bool
    generation: str


class TypesQuery(msgspec.Struct, frozen=True, kw_only=True):
    """Asks for the `limit` most frequent types of the events beyond `after`, up to `upto` (None: the last one).

    generation: as in a `ScanQuery`.
    """

    after: int = 0
    upto: int | None = None
    generation: str | None = None
    limit: int = 20


class TypeCount(msgspec.Struct, array_like=True, frozen=True):
    """events: how many were counted. last: sequence of the newest; recorded: its `recordedtime` in microseconds."""

    type: str
    events: int
    last: int
    recorded: int


class EventTypes(msgspec.Struct, frozen=True):
    """types: the most frequent first. counted: number of the newest events that were counted.

    complete: False if there are more events or more types than are counted.
    """

    types: list[TypeCount]
    counted: int
    complete: bool
    generation: str


class Resumption(msgspec.Struct, frozen=True):
    """Where a reader continues: after `sequence` of `generation`, the current one.

    fork_sequence: the last sequence that the reader's generation shares with the current one; None if it is current.
    kind: what began the current generation: `backup`, `moment`, `undo`, `recovered` or `rolled_back`.
    """

    generation: str
    sequence: int
    fork_sequence: int | None = None
    kind: str | None = None

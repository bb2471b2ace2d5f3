"""The queries of the event database and their results."""

from __future__ import annotations

import msgspec

from eventvault.events.event import Appended


class AppendResult(msgspec.Struct, array_like=True, frozen=True):
    """results: one per draft, in order. last_sequence: of the registry, after this append.

    ids: those of the events if this is the answer to an earlier request with the same `Idempotency-Key`, which is
    given again; None: the events were appended now. refusal: what that request was refused with, if it was.
    """

    results: list[Appended]
    last_sequence: int
    ids: list[str] | None = None
    refusal: str = ""


class ScanQuery(msgspec.Struct, frozen=True, kw_only=True):
    """A request for a page of events, oldest first.

    after: events beyond this sequence. generation: the one that `after` and `upto` belong to (None: the present one);
    events of a superseded generation are served as long as its previous database is there.
    upto: the last sequence (None: no limit). recorded_from, recorded_to: inclusive, microseconds.
    limit: 1 to 1,000 events. A page may be shorter and still have a `next`, so that no call takes long.
    """

    after: int = 0
    upto: int | None = None
    generation: str | None = None
    limit: int = 100
    type: str | None = None
    subject: str | None = None
    source: str | None = None
    recorded_from: int | None = None
    recorded_to: int | None = None


class Page(msgspec.Struct, frozen=True):
    """events: UTF-8 JSON objects. next: the `after` of the next page, None at the end.

    generation: id of the generation that was read. last_sequence: its last sequence.
    """

    events: list[bytes]
    next: int | None
    last_sequence: int
    generation: str

"""What is asked of the database and what it answers with."""

from __future__ import annotations

import msgspec

from eventvault.events.event import Appended


class AppendResult(msgspec.Struct, array_like=True, frozen=True):
    """results: one per draft, in order. last_sequence: of the registry, with these inside."""

    results: list[Appended]
    last_sequence: int


class ScanQuery(msgspec.Struct, frozen=True, kw_only=True):
    """A page of events, oldest first.

    after: events beyond this sequence. generation: the one that `after` and `upto` were read in (None: the present
    one); after a restore an older generation's events are served as long as what was there before is kept.
    upto: at most this sequence (None: what is there). recorded_from, recorded_to: inclusive, microseconds.
    limit: 1 to 1,000 events; a page may be shorter and yet have a `next`, so that one call stays short.
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

    last_sequence: of the generation that was read. generation: its id.
    """

    events: list[bytes]
    next: int | None
    last_sequence: int
    generation: str

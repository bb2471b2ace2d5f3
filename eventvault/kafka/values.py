"""The values of the quarantine, for all who show it. Loads nothing that reads messages."""

from __future__ import annotations

from typing import Literal

import msgspec

Mode = Literal["plain", "structured", "binary"]
"""How a message is read: CloudEvents' modes, or a plain JSON object."""


class Reference(msgspec.Struct, frozen=True):
    """Where Kafka has a message: in the topic of dead letters, or where it was read."""

    topic: str
    partition: int
    offset: int


class Facts(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """What a list shows of a message. size: of key, value and headers. crc: CRC32C of all that it is.

    timestamp: Kafka's, in milliseconds. reference: set if the bytes are not here.
    """

    reason: str
    size: int
    crc: int
    timestamp: int | None = None
    reference: Reference | None = None


class Content(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """at: when it was quarantined, in microseconds. problem: why the client could not read it, such as its headers."""

    at: int
    key: bytes | None = None
    value: bytes | None = None
    headers: tuple[tuple[str, bytes | None], ...] = ()
    problem: str | None = None


class Quarantined(msgspec.Struct, frozen=True):
    """A message in the list. at: when it was quarantined, in microseconds. id: as `Place.id`."""

    id: str
    topic: str
    partition: int
    offset: int
    at: int
    facts: Facts


class QuarantinedMessage(msgspec.Struct, frozen=True):
    """A message with its bytes, which are missing if `entry.facts` has a reference."""

    entry: Quarantined
    content: Content


class Totals(msgspec.Struct, frozen=True):
    """What was counted since the registry began. letters: dead letters. dropped: those that left for want of room."""

    letters: int = 0
    dropped: int = 0


class QuarantineContents(msgspec.Struct, frozen=True):
    """What is in the quarantine. oldest: when that one was quarantined, in microseconds."""

    count: int = 0
    bytes: int = 0
    oldest: int | None = None
    totals: Totals = Totals()


class QuarantineFilter(msgspec.Struct, frozen=True, kw_only=True):
    """ids: these messages. Otherwise all of a topic and a partition, whose reason has this text in it.

    newest: of a drop: the newest one that somebody saw, so that none is meant that came after it.
    """

    ids: tuple[str, ...] = ()
    topic: str | None = None
    partition: int | None = None
    reason: str | None = None
    newest: str | None = None

    def matches(self, entry: Quarantined) -> bool:
        return (
            self.topic in (None, entry.topic)
            and self.partition in (None, entry.partition)
            and (self.reason is None or self.reason.casefold() in entry.facts.reason.casefold())
        )


class QuarantinePage(msgspec.Struct, frozen=True):
    """messages: the newest first. next: the `before` of the next page."""

    messages: list[Quarantined]
    next: str | None
    held: QuarantineContents


class Replayed(msgspec.Struct, frozen=True):
    """What became of a message.

    outcome: `replayed`; `duplicate`: its event was there already; `refused`: it is no event, or its event is there with
    other content, and stays; `unknown`.
    event_id, source, sequence: of the event. reason: why it was refused.
    """

    id: str
    outcome: str
    event_id: str | None = None
    source: str | None = None
    sequence: int | None = None
    reason: str | None = None

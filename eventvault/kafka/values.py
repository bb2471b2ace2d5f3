"""The values of the quarantine. Loads none of the code that reads messages, so every process can import it."""

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


class MessageFacts(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """The part of a message that a list shows. size: of key, value and headers. crc: CRC32C of these.

    timestamp: Kafka's, in milliseconds. reference: set if the registry does not have the bytes.
    """

    reason: str
    size: int
    crc: int
    timestamp: int | None = None
    reference: Reference | None = None


class MessageContent(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """The bytes of a message. at: when it was quarantined, in microseconds. problem: why it cannot be decoded."""

    at: int
    key: bytes | None = None
    value: bytes | None = None
    headers: tuple[tuple[str, bytes | None], ...] = ()
    problem: str | None = None


class Quarantined(msgspec.Struct, frozen=True):
    """A message in the list. at: when it was quarantined, in microseconds. id: as `MessagePlace.id`."""

    id: str
    topic: str
    partition: int
    offset: int
    at: int
    facts: MessageFacts


class QuarantinedMessage(msgspec.Struct, frozen=True):
    """A message with its bytes, which are missing if `entry.facts` has a reference."""

    entry: Quarantined
    content: MessageContent


class Totals(msgspec.Struct, frozen=True):
    """Counts since the registry began. letters: all dead letters. dropped: those that were dropped to make room."""

    letters: int = 0
    dropped: int = 0


class QuarantineContents(msgspec.Struct, frozen=True):
    """What is in the quarantine. oldest: when its oldest message was quarantined, in microseconds."""

    count: int = 0
    bytes: int = 0
    oldest: int | None = None
    totals: Totals = Totals()


class QuarantineFilter(msgspec.Struct, frozen=True, kw_only=True):
    """Selects the messages `ids`; without ids, all of a topic and a partition whose reason contains this text.

    newest: of a drop: the id of the newest message that the caller saw; later ones are not dropped.
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

    outcome: `replayed`; `duplicate`: the registry had its event already; `refused`: it is not an event, or the registry
    has its event with other content, so the message stays; `unknown`: the quarantine does not have it.
    event_id, source, sequence: of the event. reason: why it was refused.
    """

    id: str
    outcome: str
    event_id: str | None = None
    source: str | None = None
    sequence: int | None = None
    reason: str | None = None

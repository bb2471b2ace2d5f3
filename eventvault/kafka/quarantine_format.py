"""The stored form of quarantined messages. Each is written together with the offset that follows it. No I/O.

Each message has two keys. The content key is sorted by place in Kafka, and its value has the message's bytes. The list
key is sorted by time, and its value has what a list shows. `docs/format.md` describes both.
"""

from __future__ import annotations

import re
import struct
from collections.abc import Iterable, Iterator, Mapping
from typing import TYPE_CHECKING, NamedTuple

import msgspec

from eventvault import clock
from eventvault.database import keys
from eventvault.errors import InvalidInput
from eventvault.kafka import offsets
from eventvault.kafka.values import MessageContent, MessageFacts, Quarantined, QuarantinedMessage, Reference, Totals

if TYPE_CHECKING:
    from eventvault.kafka.messages import KafkaRecord

MOST_BYTES_OF_ONE = 2**20
"""A larger message is quarantined without its bytes; where Kafka has them is noted."""
MOST_STORED = MOST_BYTES_OF_ONE + 2**16
"""Most bytes of a stored value: a message with very many headers is larger there than in Kafka."""
MOST_COPIES = 2**16
MOST_MESSAGES = 100_000
MOST_BYTES = 256 * 2**20
_MAX_REASON = 2_000
_MAX_FACTS = 16 * 1024
_TIME, _PLACE = struct.Struct(">Q"), struct.Struct(">IQH")
_SUFFIX = re.compile(rb"([a-zA-Z0-9._-]{1,249})\x00(.{14})", re.DOTALL)
_ID = re.compile(r"([a-zA-Z0-9._-]{1,249})/([0-9]{1,10})@([0-9]{1,19})(?:\.([0-9]{1,5}))?")
_encode = msgspec.msgpack.Encoder().encode


class MessagePlace(NamedTuple):
    """Where a message was in Kafka.

    copy: 0; 1, 2, … for later messages at the same place, after the topic was deleted and created again.
    """

    topic: str
    partition: int
    offset: int
    copy: int = 0

    @property
    def id(self) -> str:
        """The message's name in the API and the command line: `events/0@9912`."""
        copy = f".{self.copy}" if self.copy else ""
        return f"{self.topic}/{self.partition}@{self.offset}{copy}"

    @property
    def suffix(self) -> bytes:
        return self.topic.encode() + b"\x00" + _PLACE.pack(self.partition, self.offset, self.copy)

    @property
    def key(self) -> bytes:
        return keys.QUARANTINED + self.suffix


class DeadLetter(NamedTuple):
    """A dead letter. reference: where Kafka has its bytes; None: at the place where it was read."""

    message: KafkaRecord
    reason: str
    reference: Reference | None = None


def encoded_totals(totals: Totals) -> bytes:
    return msgspec.json.encode(totals)


def read_totals(stored: bytes | None) -> Totals:
    return Totals() if stored is None else msgspec.json.decode(stored, type=Totals)


_decode_facts = msgspec.msgpack.Decoder(MessageFacts).decode
_decode_content = msgspec.msgpack.Decoder(MessageContent).decode


def place_of(message_id: str) -> MessagePlace:
    """Return the place that an id names. Raises InvalidInput for any other text."""
    match = _ID.fullmatch(message_id)
    if match is not None:
        place = MessagePlace(match[1], int(match[2]), int(match[3]), int(match[4] or 0))
        if place.partition < 2**31 and place.offset < 2**63 and place.copy < MOST_COPIES:
            return place
    raise InvalidInput(
        f"{message_id!r:.300} is not an id of a message in the quarantine",
        hint="name it as GET /api/kafka/quarantine does: topic/partition@offset, such as events/0@9912",
        fields={"id": ["Not topic/partition@offset."]},
    )


def list_key(at: int, place: MessagePlace) -> bytes:
    return keys.QUARANTINE_LIST + _TIME.pack(at) + place.suffix


def first_key_after(at: int) -> bytes:
    """Return a key that sorts after all list keys of the instant `at`, and before those of later instants."""
    return keys.QUARANTINE_LIST + _TIME.pack(at + 1)


def content_key(key: bytes) -> bytes:
    """Return the content key of the message with the list key `key`."""
    return keys.QUARANTINED + key[9:]


def describe(message: KafkaRecord, reason: str) -> tuple[MessageFacts, MessageContent]:
    """Return the facts and the content of a dead letter. `without_bytes` shortens them. `MessageContent.at` is 0."""
    headers = tuple((_encodable(name), value) for name, value in message.headers)
    problem = None if message.problem is None else _encodable(message.problem)[:_MAX_REASON]
    content = MessageContent(at=0, key=message.key, value=message.value, headers=headers, problem=problem)
    facts = MessageFacts(
        reason=_encodable(reason)[:_MAX_REASON],
        size=size_of(content),
        crc=crc_of(content),
        timestamp=message.timestamp,
    )
    return facts, content


def size_of(content: MessageContent) -> int:
    headers = sum(len(name.encode()) + len(value or b"") for name, value in content.headers)
    return len(content.key or b"") + len(content.value or b"") + headers


def without_bytes(
    facts: MessageFacts, content: MessageContent, reference: Reference
) -> tuple[MessageFacts, MessageContent]:
    """Return the facts and the content of a message that is too large: everything but its bytes."""
    return msgspec.structs.replace(facts, reference=reference), MessageContent(at=content.at, problem=content.problem)


def key_values_of(
    place: MessagePlace, at: int, facts: MessageFacts, content: MessageContent
) -> tuple[tuple[bytes, bytes], tuple[bytes, bytes]]:
    """Return the two keys of a message with their values: first the content, then the entry of the list."""
    stored = msgspec.structs.replace(content, at=at)
    return (place.key, _encode(stored)), (list_key(at, place), _encode(facts))


def bytes_counted(facts: MessageFacts, list_value: bytes) -> int:
    """Return how many bytes of MOST_BYTES a message uses."""
    return len(list_value) + (facts.size if facts.reference is None else 0)


def crc_of(content: MessageContent) -> int:
    return offsets.checksum(_encode((content.key, content.value, content.headers)))


def read_list_key(key: bytes) -> tuple[int, MessagePlace]:
    """Return the instant and the place in a list key. Raises ValueError for any other key."""
    at, suffix = key[1:9], key[9:]
    if len(at) < 8:
        raise ValueError("a key of the list is too short")
    return _TIME.unpack(at)[0], _place_in(suffix)


def read_entry(key: bytes, value: bytes) -> Quarantined:
    """Return the entry of the list. Raises ValueError or MsgspecError."""
    at, place = read_list_key(key)
    return Quarantined(place.id, place.topic, place.partition, place.offset, at, _decode_facts(value))


def read_facts(value: bytes) -> MessageFacts:
    return _decode_facts(value)


def read_content(value: bytes) -> MessageContent:
    return _decode_content(value)


def record_of(message: QuarantinedMessage) -> KafkaRecord:
    """Return the message as the consumer read it."""
    # Imported here: it loads marshmallow, which a check of a quarantine does not need.
    from eventvault.kafka.messages import KafkaRecord

    entry, content = message.entry, message.content
    return KafkaRecord(
        topic=entry.topic, partition=entry.partition, offset=entry.offset, timestamp=entry.facts.timestamp,
        key=content.key, value=content.value, headers=list(content.headers), problem=content.problem,
    )  # fmt: skip


def read_checked(
    listed: Iterable[tuple[bytes, bytes]], contents: Iterable[tuple[bytes, bytes]]
) -> Iterator[tuple[MessagePlace, tuple[tuple[bytes, bytes], tuple[bytes, bytes]]]]:
    """Yield the messages of a quarantine that is not trusted, each with its two keys and values.

    listed: list keys with their values; contents: content keys with theirs. A partition may have no offset: after a
    restore it is read again from its beginning. Raises ValueError or MsgspecError for what EventVault does not write.
    """
    by_place: dict[MessagePlace, tuple[bytes, bytes, Quarantined]] = {}
    total_bytes = 0
    for key, value in listed:
        if len(value) > _MAX_FACTS or len(by_place) == MOST_MESSAGES:
            raise ValueError("its list is too long")
        entry = read_entry(key, value)
        total_bytes += bytes_counted(entry.facts, value)
        if total_bytes > MOST_BYTES:
            raise ValueError("it has too many bytes")
        place = place_of(entry.id)
        _check_facts(place, entry.facts)
        if place in by_place:
            raise ValueError(f"{place.id} is listed twice")
        by_place[place] = (key, value, entry)
    for key, value in contents:
        place = _place_in(key[1:])
        if place not in by_place:
            raise ValueError(f"{place.id} has content but no list entry")
        listed_key, listed_value, entry = by_place.pop(place)
        _check_content(entry, value)
        yield place, ((key, value), (listed_key, listed_value))
    if by_place:
        raise ValueError(f"{next(iter(by_place)).id} has a list entry but no content")


def _check_facts(place: MessagePlace, facts: MessageFacts) -> None:
    if not 0 <= facts.size < 2**31 or not 0 <= facts.crc < 2**32 or len(facts.reason) > _MAX_REASON:
        raise ValueError(f"{place.id} has a size, a checksum or a reason that no dead letter has")


def check_row(key: bytes, facts: bytes, content: bytes) -> None:
    """Raise ValueError or MsgspecError for a message that EventVault does not write. key: its list key."""
    if len(facts) > _MAX_FACTS:
        raise ValueError("a list entry is too long")
    _check_content(read_entry(key, facts), content)


def _check_content(entry: Quarantined, stored: bytes) -> None:
    if len(stored) > MOST_STORED:
        raise ValueError(f"{entry.id} is too large")
    content = read_content(stored)
    size, facts = size_of(content), entry.facts
    if facts.reference is not None:
        is_right = size == 0
    else:
        is_right = size == facts.size <= MOST_BYTES_OF_ONE and crc_of(content) == facts.crc
    if content.at != entry.at or entry.at >= clock.YEAR_10000 or not is_right:
        raise ValueError(f"{entry.id} is not the message that is listed")


def count_at_or_after(places: Iterable[MessagePlace], kafka: Mapping[str, Mapping[str, int]]) -> int:
    """Return how many messages lie at or after the next offsets in `kafka`: a registry with those lacks them."""
    return sum(place.offset >= kafka.get(place.topic, {}).get(str(place.partition), 0) for place in places)


def _place_in(suffix: bytes) -> MessagePlace:
    match = _SUFFIX.fullmatch(suffix)
    if match is None:
        raise ValueError("a key of the quarantine names no place in Kafka")
    partition, offset, copy = _PLACE.unpack(match[2])
    if partition >= 2**31 or offset >= 2**63:
        raise ValueError("a key of the quarantine names an impossible place in Kafka")
    return MessagePlace(match[1].decode(), partition, offset, copy)


def _encodable(text: str) -> str:
    """Return a text that has no lone surrogates."""
    return text.encode(errors="replace").decode()

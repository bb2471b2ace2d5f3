"""Converts a Kafka message to an event, without I/O.

Structured and binary mode follow CloudEvents' Kafka protocol binding 1.0.2 (sections 3.2 and 3.3). A plain JSON object
with at least a `type` is accepted too. A message that is not an event raises Unreadable with the reason; the caller
makes it a dead letter.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple

import msgspec

from eventvault import clock, json_text
from eventvault.errors import EventVaultError
from eventvault.events import ordinary
from eventvault.events.cloudevents_http import with_data
from eventvault.events.event import EventDraft
from eventvault.events.ordinary import OrdinaryEvent
from eventvault.events.sent import AnyEvent, SentEvent, problems_of, read_one
from eventvault.kafka import offsets
from eventvault.kafka.values import Mode

Headers = list[tuple[str, bytes | None]]

_STRUCTURED = "application/cloudevents"
_PREFIX = "ce_"
_PLAIN = (b"application/cloudevents+json", b"application/cloudevents+json; charset=UTF-8", b"application/json")
"""Content types of most messages with a whole event in UTF-8."""
_USUAL_HEADERS: Headers = [("content-type", _PLAIN[0])]
_LONGEST_REASON = 1_000


class Unreadable(Exception):
    """The message is not an event; the text gives the reason."""


class KafkaRecord(NamedTuple):
    """The fields of a Kafka record that are used here. timestamp: milliseconds since the epoch, None if it has none.

    problem: why the client cannot decode the record.
    """

    topic: str
    partition: int
    offset: int
    timestamp: int | None
    key: bytes | None
    value: bytes | None
    headers: Headers
    leader_epoch: int | None = None
    problem: str | None = None


class Columns(Sequence[KafkaRecord], ABC):
    """Records by columns. Most readers need a few columns only, and then no KafkaRecord object is made."""

    @abstractmethod
    def offsets(self) -> list[int]: ...

    @abstractmethod
    def texts(self) -> list[bytes | None]:
        """Return the value of each message that has a whole event in UTF-8, by its headers; None of any other."""


def to_drafts(messages: Sequence[KafkaRecord]) -> list[EventDraft | None]:
    """Return the event in each message as a draft; None where `to_draft` has to decide whether it is an event."""
    texts = messages.texts() if isinstance(messages, Columns) else _texts(messages)
    plain = [text for text in texts if text is not None]
    events: Sequence[EventDraft | OrdinaryEvent | None] = ordinary.read_complete(plain)
    if len(plain) < len(texts):
        remaining = iter(events)
        events = [None if text is None else next(remaining) for text in texts]
    return [
        _draft(event, messages[index]) if isinstance(event, OrdinaryEvent) else event
        for index, event in enumerate(events)
    ]


def to_draft(message: KafkaRecord, mode: Mode | None = None, *, strict: bool = False) -> EventDraft:
    """Return the event in a message as a draft, with its data unchanged. Raises Unreadable.

    mode: None: the headers decide. strict: raise Unreadable also if an object in the data of a whole event has a name
    twice, because readers differ in which value they use. Events that are to be stored are read strictly.
    """
    if message.problem is not None and mode in (None, "binary"):
        raise Unreadable(message.problem)
    sent = _read(message) if mode is None else _read_as(message, mode)
    if isinstance(sent, SentEvent) and sent.attributes and not strict:
        sent = msgspec.structs.replace(sent, problem=None)
    if problems := problems_of([sent]):
        raise Unreadable("; ".join(str(problem) for problem in problems[0])[:_LONGEST_REASON])
    return _draft(sent, message)


def _draft(sent: AnyEvent, message: KafkaRecord) -> EventDraft:
    """Fill in missing attributes from the message alone.

    If a message is consumed again, its event has the same id, so it is not stored twice.
    """
    if sent.sent_id is None:
        sent = sent.with_id(derived_id(message))
    dated = message.timestamp is not None and 0 <= message.timestamp < clock.YEAR_10000 // 1000
    instant = message.timestamp * 1000 if dated and message.timestamp is not None else clock.now()
    return sent.draft(instant)


def plain_texts(values: Iterable[bytes | None], headers: Sequence[Headers | None]) -> list[bytes | None]:
    """Return the values of messages whose headers say that they are a whole event in UTF-8; None for any other message.

    values, headers: those of each message.
    """
    if headers.count(_USUAL_HEADERS) == len(headers):
        return list(values)
    return [
        value if not own_headers or own_headers == _USUAL_HEADERS or _are_plain(own_headers) else None
        for value, own_headers in zip(values, headers, strict=True)
    ]


def _texts(messages: Sequence[KafkaRecord]) -> list[bytes | None]:
    values = [message.value if message.problem is None else None for message in messages]
    return plain_texts(values, [message.headers for message in messages])


def _are_plain(headers: Headers) -> bool:
    types = [value for name, value in headers if name.lower() == "content-type"]
    return len(types) <= 1 and all(value in _PLAIN for value in types) and not _has_attributes(headers)


def _has_attributes(headers: Iterable[tuple[str, bytes | None]]) -> bool:
    """Return whether headers have the attributes of an event, as in binary mode."""
    return any(name.lower().startswith(_PREFIX) for name, _ in headers)


def derived_id(message: KafkaRecord) -> str:
    """Return `topic/partition/offset/checksum`; the checksum differs if a recreated topic reuses the offset."""
    content = b"%d\x00%s\x00%s" % (message.timestamp or 0, message.key or b"", message.value or b"")
    return f"{message.topic}/{message.partition}/{message.offset}/{offsets.checksum(content):08x}"


def _read(message: KafkaRecord) -> AnyEvent:
    headers = _headers_by_name(message.headers)
    content_type = _text("content-type", headers.get("content-type"))
    try:
        kind, charset = json_text.media_type(content_type)
        if kind.startswith(_STRUCTURED):
            return _structured(kind, charset, message)
        if _has_attributes(headers.items()):
            return _binary(headers, content_type, message.value)
        return _object(message.value, charset)
    except EventVaultError as error:
        raise Unreadable(error.message[:_LONGEST_REASON]) from None


def _read_as(message: KafkaRecord, mode: Mode) -> AnyEvent:
    try:
        if mode == "binary":
            headers = _headers_by_name(message.headers)
            return _binary(headers, _text("content-type", headers.get("content-type")), message.value)
        return _object(message.value, None)
    except EventVaultError as error:
        raise Unreadable(error.message[:_LONGEST_REASON]) from None


def _headers_by_name(headers: Headers) -> dict[str, bytes | None]:
    """Return the headers by their names in lower case. Raises Unreadable if a header of the event is repeated."""
    by_name: dict[str, bytes | None] = {}
    for name, value in headers:
        lower = name.lower()
        if lower in by_name and (lower.startswith(_PREFIX) or lower == "content-type"):
            raise Unreadable(f"the header {lower} is repeated")
        by_name[lower] = value
    return by_name


def _structured(kind: str, charset: str | None, message: KafkaRecord) -> AnyEvent:
    if kind != f"{_STRUCTURED}+json":
        raise Unreadable(f"events in the format {kind!r} are not understood here, only {_STRUCTURED}+json is")
    return _object(message.value, charset)


def _object(value: bytes | None, charset: str | None) -> AnyEvent:
    if value is None:
        raise Unreadable("the message has no value (a tombstone), and no event in its headers")
    sent = read_one(json_text.to_utf8(value, charset), "the message")
    if isinstance(sent, SentEvent) and not isinstance(sent.attributes, dict):
        raise Unreadable("the message is JSON, but not an object")
    return sent


def _binary(headers: dict[str, bytes | None], content_type: str | None, value: bytes | None) -> SentEvent:
    """Parse binary mode: attributes are `ce_` headers in UTF-8, the value is the data."""
    event: dict[str, Any] = {
        name[len(_PREFIX) :]: _text(name, content) for name, content in headers.items() if name.startswith(_PREFIX)
    }
    for name in ("datacontenttype", "data", "data_base64"):
        if name in event:
            raise Unreadable(f"the header {_PREFIX}{name} is not allowed in binary mode: the value is the data")
    if content_type:
        event["datacontenttype"] = content_type
    return with_data(event, value, content_type)


def _text(name: str, value: bytes | None) -> str | None:
    try:
        return None if value is None else value.decode()
    except UnicodeError:
        raise Unreadable(f"the header {name} is not UTF-8") from None

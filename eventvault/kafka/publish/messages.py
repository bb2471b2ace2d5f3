"""Converts an event to a Kafka message, without I/O: CloudEvents' Kafka protocol binding 1.0.2, binary mode (3.2)."""

from __future__ import annotations

import base64
import codecs
from collections.abc import Mapping
from typing import Literal, NamedTuple
from urllib.parse import quote

import msgspec

from eventvault import json_text
from eventvault.events.event import raw_attributes

_DATA = frozenset({"data", "data_base64", "datacontenttype"})
_REQUIRED = ("specversion", "id", "source", "type", "subject", "time")
_NO_CHARSETS = frozenset({"idna", "punycode"})
"""Codecs of Python for host names. Their time grows with the square of the text: hours for a megabyte."""
_NAMES = {name: f"ce_{name}" for name in (*_REQUIRED, "sequence", "recordedtime")}


class _Ordinary(msgspec.Struct, gc=False, forbid_unknown_fields=True):
    """The attributes of most events. An event with other ones, or with another content type, is read by `of_any`."""

    specversion: Literal["1.0"]
    id: str
    source: str
    type: str
    time: str
    sequence: int
    recordedtime: str
    subject: str | msgspec.UnsetType = msgspec.UNSET
    datacontenttype: Literal["application/json"] | msgspec.UnsetType = msgspec.UNSET
    data: msgspec.Raw | msgspec.UnsetType = msgspec.UNSET


_ordinary = msgspec.json.Decoder(_Ordinary).decode
_UNSET = msgspec.UNSET


class Outgoing(NamedTuple):
    """A message. key: the event's subject, or its id if it has none. Kafka keeps the order of messages with one key."""

    key: bytes
    value: bytes
    headers: list[tuple[str, bytes]]


def size_of(body: bytes) -> int:
    """Return the most bytes that the message of an event takes in a topic: its body has all texts of the message."""
    return len(body) + len(body) // 8 + 1024


def outgoing(body: bytes) -> Outgoing:
    """Return the message of a recorded event."""
    try:
        return _of_ordinary(_ordinary(body))
    except (msgspec.MsgspecError, UnicodeError):
        return of_any(body)


def _of_ordinary(event: _Ordinary) -> Outgoing:
    identity = event.id.encode()
    headers = [
        ("ce_specversion", b"1.0"),
        ("ce_id", identity),
        ("ce_source", event.source.encode()),
        ("ce_type", event.type.encode()),
        ("ce_time", event.time.encode()),
        ("ce_sequence", b"%d" % event.sequence),
        ("ce_recordedtime", event.recordedtime.encode()),
    ]
    if event.subject is not _UNSET:
        identity = event.subject.encode()
        headers.append(("ce_subject", identity))
    value = b"" if event.data is _UNSET else bytes(event.data)
    if value or event.datacontenttype is not _UNSET:
        headers.append(("content-type", b"application/json"))
    return Outgoing(identity, value, headers)


def of_any(body: bytes) -> Outgoing:
    """As `outgoing`, for any attributes and content type; it is slower."""
    texts = raw_attributes(body)
    headers = _attributes(texts)
    content_type = _text(texts["datacontenttype"]) if "datacontenttype" in texts else None
    value = _data(texts, content_type)
    if content_type is not None:
        headers.append(("content-type", content_type))
    elif value:
        headers.append(("content-type", b"application/json"))
    return Outgoing(_key(texts), value, headers)


def without_data(body: bytes) -> Outgoing:
    """Return the message of an event that is too large: CloudEvents' extension `dataref` has its address instead."""
    texts = raw_attributes(body)
    return Outgoing(_key(texts), b"", [*_attributes(texts), ("ce_dataref", _address_of(texts))])


def shortest(body: bytes) -> Outgoing:
    """As `without_data`, but also without the attributes that may be longer than LONGEST_TEXT."""
    texts = {name: text for name, text in raw_attributes(body).items() if name in _REQUIRED}
    return Outgoing(_key(texts), b"", [*_attributes(texts), ("ce_dataref", _address_of(texts))])


def _key(texts: Mapping[str, msgspec.Raw]) -> bytes:
    return _text(texts["subject"] if "subject" in texts else texts["id"])


def _attributes(texts: Mapping[str, msgspec.Raw]) -> list[tuple[str, bytes]]:
    return [(_NAMES.get(name) or f"ce_{name}", _text(raw)) for name, raw in texts.items() if name not in _DATA]


def _text(raw: msgspec.Raw) -> bytes:
    """Return a JSON string as UTF-8; any other value as its JSON text."""
    encoded = bytes(raw)
    if encoded[:1] != b'"':
        return encoded
    if b"\\" not in encoded:
        return encoded[1:-1]
    try:
        return msgspec.json.decode(encoded, type=str).encode()
    except (msgspec.MsgspecError, UnicodeError):  # an earlier version accepted, for instance, lone surrogates
        return encoded[1:-1]


def _data(texts: Mapping[str, msgspec.Raw], content_type: bytes | None) -> bytes:
    if "data_base64" in texts:
        return _decoded(_text(texts["data_base64"]))
    if "data" not in texts:
        return b""
    raw = texts["data"]
    if content_type is None or content_type == b"application/json":
        return bytes(raw)
    kind, charset = json_text.media_type(content_type.decode())
    return _in_charset(bytes(raw) if json_text.is_json(kind) else _text(raw), charset)


def _decoded(text: bytes) -> bytes:
    try:
        return base64.b64decode(text, validate=True)
    except ValueError:
        return text


def _in_charset(text: bytes, charset: str | None) -> bytes:
    """Return a text in the encoding that its content type names; in UTF-8 if that is not possible."""
    if charset is None or charset.lower() in ("utf-8", "utf8", "us-ascii"):
        return text
    try:
        if codecs.lookup(charset).name in _NO_CHARSETS:
            return text
        return text.decode().encode(charset)
    except (LookupError, ValueError):
        return text


def _address_of(texts: Mapping[str, msgspec.Raw]) -> bytes:
    return (
        f"/api/events?id={quote(_text(texts['id']), safe='')}&source={quote(_text(texts['source']), safe='')}".encode()
    )

"""Builds and reads an event's envelope: CloudEvents 1.0 attributes, and the registry's `sequence` and `recordedtime`.

Source of the attribute names: CloudEvents 1.0.2, sections "Required Attributes" and "Optional Attributes";
`recordedtime` is a CloudEvents extension.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from functools import lru_cache
from itertools import repeat
from typing import Any

import msgspec
import orjson
import uuid_utils

from eventvault import clock, json_text

DEFAULT_SOURCE = "eventvault"
"""The `source` of an event if its sender gives none."""

LONGEST_TEXT = 2048
"""Characters in an `id`, `source`, `type`, `subject` or `dataschema`: they are parts of keys in the database."""
MAX_EVENTS = 100_000
"""The most events in one request, which is one write and is in memory as a whole."""

EXTENSION_NAME = r"[a-z0-9]{1,64}"
"""CloudEvents: lower-case letters and digits."""

REGISTRY_ATTRIBUTES = frozenset({"sequence", "recordedtime"})
"""The attributes that the registry sets. A sender's values for them (in an export that is posted again) are dropped."""
RECORDED_TIME = slice(-29, -2)
"""The position of `recordedtime` in a value in LevelDB, in its printed form."""

_AFTER_SEQUENCE = -46
"""The position after the digits of `sequence` in a value in LevelDB."""

raw_attributes = msgspec.json.Decoder(dict[str, msgspec.Raw]).decode
"""Decodes an event to its attributes as exact JSON texts, because an imported event may have numbers of any size."""

_NULL = msgspec.Raw(b"null")
_FILLED_TIME = re.compile(rb'\A(\{(?:"specversion":"1\.0",)?)"time":"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{6}Z",')
"""The start of a body whose `time` was filled in: `draft` puts such attributes in front of the sender's."""


class EventDraft(msgspec.Struct, array_like=True, frozen=True, gc=False):
    """An event that is ready to be appended.

    body: the event's JSON object in UTF-8 with at least one attribute, without those of the registry.
    filled: names of the attributes that `draft` filled in because the sender gave none.
    """

    source: str
    id: str
    type: str
    subject: str | None
    body: bytes
    filled: tuple[str, ...]


class IndexedAttributes(msgspec.Struct, gc=False):
    """The attributes of a stored event that are part of its keys in the database."""

    id: str
    source: str
    type: str
    subject: str | None = None


indexed_of = msgspec.json.Decoder(IndexedAttributes).decode
"""Decodes these attributes of an event and skips its data, which parsers may refuse."""


class Appended(msgspec.Struct, array_like=True, frozen=True, gc=False):
    """The result of appending a draft. A duplicate has the sequence and the recorded time (microseconds) of the first.

    differs: the duplicate has another content than the first event.
    """

    sequence: int
    recorded: int
    duplicate: bool = False
    differs: bool = False


def draft(attributes: Mapping[str, Any], instant: int, text: bytes | None = None) -> EventDraft:
    """Make an EventDraft of valid attributes. instant: in microseconds, used as `time` if there is none.

    text: the attributes as compact JSON, which is stored unchanged; None: the attributes are encoded.
    """
    body = encoded(attributes) if text is None else text
    if None in attributes.values() or not REGISTRY_ATTRIBUTES.isdisjoint(attributes):
        body = _without_ignored(body, attributes)
    get = attributes.get
    return completed(
        body,
        instant,
        attributes["type"],
        get("subject"),
        source=get("source"),
        event_id=get("id"),
        time=get("time"),
        specversion=get("specversion"),
        needs_content_type="data" in attributes and get("datacontenttype") is None,
    )


def completed(
    body: bytes,
    instant: int,
    event_type: str,
    subject: str | None,
    *,
    source: str | None,
    event_id: str | None,
    time: str | None,
    specversion: str | None,
    needs_content_type: bool,
) -> EventDraft:
    """Make an EventDraft of a body and its attributes. The ones that are None are filled in, in front of the others."""
    start, filled = _start_of_body(
        instant if time is None else None, specversion is None, event_id is None, source is None, needs_content_type
    )
    if event_id is None:
        event_id = str(uuid_utils.uuid7())
        start %= event_id.encode()
    if source is None:
        source = DEFAULT_SOURCE
    return EventDraft(source, event_id, event_type, subject, start + body[1:] if filled else body, filled)


def completed_alike(
    bodies: Sequence[bytes],
    instant: int,
    types: Sequence[str],
    subjects: Sequence[str | None],
    *,
    sources: Sequence[str] | None,
    ids: Sequence[str] | None,
    has_time: bool,
    has_specversion: bool,
    needs_content_type: bool,
) -> list[EventDraft]:
    """Return `completed` of many bodies that lack the same attributes, faster. sources, ids: None if all lack it."""
    start, filled = _start_of_body(
        None if has_time else instant, not has_specversion, ids is None, sources is None, needs_content_type
    )
    if ids is None:
        ids = [str(uuid_utils.uuid7()) for _ in bodies]
        bodies = [start % event_id.encode() + body[1:] for event_id, body in zip(ids, bodies, strict=True)]
    elif filled:
        bodies = [start + body[1:] for body in bodies]
    return list(map(EventDraft, sources or repeat(DEFAULT_SOURCE), ids, types, subjects, bodies, repeat(filled)))


@lru_cache(maxsize=64)
def _start_of_body(
    instant: int | None, needs_version: bool, needs_id: bool, needs_source: bool, needs_content_type: bool
) -> tuple[bytes, tuple[str, ...]]:
    """Return the filled-in attributes as the start of a body, with %b for the id, and their names.

    Cached: the events of a request share their instant, and mostly lack the same attributes.
    """
    filled = {}
    if needs_version:
        filled["specversion"] = "1.0"
    if instant is not None:
        filled["time"] = clock.format_microseconds(instant)
    if needs_id:
        filled["id"] = "%b"
    if needs_source:
        filled["source"] = DEFAULT_SOURCE
    if needs_content_type:
        filled["datacontenttype"] = "application/json"
    return orjson.dumps(filled)[:-1] + b",", tuple(filled)


def _without_ignored(body: bytes, attributes: Mapping[str, Any]) -> bytes:
    """Return the body without attributes that are null or that the registry sets."""
    texts = raw_attributes(body)
    for name, value in attributes.items():
        if (value is None and name != "data") or name in REGISTRY_ATTRIBUTES:
            del texts[name]
    return msgspec.json.encode(texts)


def encoded(attributes: Mapping[str, Any]) -> bytes:
    """Return the attributes as JSON. Raises TypeError for values that JSON cannot hold exactly.

    The text is copied, because orjson's result occupies a buffer of 4 KiB for as long as it lives.
    """
    return bytes(memoryview(orjson.dumps(attributes)))


def recorded_body(body: bytes, sequence: int, recorded: int) -> bytes:
    """Return the value for LevelDB: `body` with `sequence` and `recordedtime` as its last members."""
    return body[:-1] + recorded_end(recorded) % sequence


@lru_cache(maxsize=4)
def recorded_end(recorded: int) -> bytes:
    """Return the end of the values with this recorded time, with %d for the sequence (see `recorded_body`)."""
    return b',"sequence":%%d,"recordedtime":"%b"}' % clock.format_microseconds(recorded).encode()


def summary_of(value: bytes) -> dict[str, Any]:
    """Return an event's attributes without its data, which may be large and hold numbers that parsers refuse."""
    raw = raw_attributes(value)
    return {name: orjson.loads(bytes(text)) for name, text in raw.items() if name not in ("data", "data_base64")}


def recorded_of(value: bytes) -> int:
    """Return the `recordedtime` of a value in LevelDB, in microseconds since the epoch."""
    return clock.parse(value[RECORDED_TIME].decode())


def sequence_of(value: bytes) -> int:
    """Return the `sequence` of a value in LevelDB."""
    colon = value.rfind(b":", _AFTER_SEQUENCE - 20, _AFTER_SEQUENCE)
    return int(value[colon + 1 : _AFTER_SEQUENCE])


def differs(
    stored: bytes, sent: bytes, filled: tuple[str, ...], *, stored_encoded: bool = False, sent_encoded: bool = False
) -> bool:
    """Return whether the attributes in `sent`, without those in `filled`, differ from the attributes of `stored`.

    A missing attribute that would be filled in is not a difference. `data` is compared as text without white space
    between its tokens. If it is not JSON by its `datacontenttype`, the characters of the string are compared, because
    binary mode has no escapes. stored_encoded, sent_encoded: an earlier version may have re-encoded that `data`.
    """
    old = {name: value for name, value in raw_attributes(stored).items() if name not in REGISTRY_ATTRIBUTES}
    new = {name: value for name, value in raw_attributes(sent).items() if name not in filled}
    if (old.keys() ^ new.keys()) - set(filled):
        return True
    data = (old.pop("data", _NULL), new.pop("data", _NULL))
    if any(not _equal(old[name], value) for name, value in new.items()):
        return True
    return not _equal_data(*data, stored_encoded, sent_encoded) and not (_is_plain_text(old, *data) and _equal(*data))


def _is_plain_text(attributes: Mapping[str, msgspec.Raw], *data: msgspec.Raw) -> bool:
    """Return whether both `data` are JSON strings whose `datacontenttype` is not JSON."""
    if "datacontenttype" not in attributes or any(bytes(text)[:1] != b'"' for text in data):
        return False
    kind = orjson.loads(bytes(attributes["datacontenttype"]))
    return isinstance(kind, str) and not json_text.is_json(json_text.media_type(kind)[0])


def same_content(one: bytes, other: bytes, *, one_encoded: bool = False, other_encoded: bool = False) -> bool:
    """Return whether two events of one identity, as stored or as bodies, have the same content.

    Attributes of the registry are ignored. So is a `time` that was filled in, because an event that is sent again
    without `time` gets another one. A sender's own `time` of that form in first place counts as filled in, too.
    one_encoded, other_encoded: as in `differs`.
    """
    registry = tuple(REGISTRY_ATTRIBUTES)
    return any(
        not differs(*pair, registry, stored_encoded=one_encoded, sent_encoded=other_encoded)
        for pair in ((one, other), (without_filled_time(one), without_filled_time(other)))
    )


def without_filled_time(value: bytes) -> bytes:
    """Return a stored event, or a body, without a `time` that `draft` filled in."""
    return _FILLED_TIME.sub(rb"\1", value)


def _equal(one: msgspec.Raw, other: msgspec.Raw) -> bool:
    """Return whether two attributes have the same value. `true`, 1 and 1.0 differ, and so do large whole numbers."""
    return bytes(one) == bytes(other) or _canonical(one) == _canonical(other)


def _canonical(text: msgspec.Raw) -> str:
    """Return a text that is equal for equal values. The standard library reads whole numbers of any size."""
    try:
        return json.dumps(json.loads(bytes(text)), sort_keys=True)
    except (ValueError, RecursionError):  # a number of thousands of digits, or too deeply nested
        return bytes(text).decode()


def _equal_data(one: msgspec.Raw, other: msgspec.Raw, one_encoded: bool, other_encoded: bool) -> bool:
    first, second = json_text.compact(one), json_text.compact(other)
    return (
        first == second
        or (one_encoded and first == _reencode(second))
        or (other_encoded and _reencode(first) == second)
    )


def _reencode(data: bytes) -> bytes | None:
    """Return `data` as EventVault 0.1.0 re-encoded it; None if that version refused it."""
    try:
        return encoded(msgspec.json.decode(data))
    except (TypeError, msgspec.MsgspecError, RecursionError):
        return None

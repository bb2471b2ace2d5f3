"""The envelope of an event: CloudEvents 1.0 attributes, and the registry's `sequence` and `recordedtime`.

Source of the attribute names and of the required ones: CloudEvents 1.0.2, sections "Required Attributes" and
"Optional Attributes"; `recordedtime` is CloudEvents' extension of that name.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from typing import Any

import msgspec
import orjson
import uuid_utils

from eventvault import clock

DEFAULT_SOURCE = "eventvault"
"""The `source` of an event if its sender gives none."""

LONGEST_TEXT = 2048
"""Characters in an `id`, `source`, `type`, `subject` or `dataschema`: they are parts of keys in the database."""

REGISTRY_ATTRIBUTES = frozenset({"sequence", "recordedtime"})
"""The attributes that the registry sets. A sender's values for them (an export that is posted again) are dropped."""
RECORDED_TIME = slice(-29, -2)
"""The position of `recordedtime` in a value in LevelDB, in its printed form."""

raw_attributes = msgspec.json.Decoder(dict[str, msgspec.Raw]).decode
"""Decodes an event to its attributes as exact JSON texts: an imported event may have numbers of any size."""

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


class Appended(msgspec.Struct, array_like=True, frozen=True, gc=False):
    """The result of appending a draft. A duplicate has the sequence and the recorded time (microseconds) of the first.

    differs: the content of the duplicate is not that of the first.
    """

    sequence: int
    recorded: int
    duplicate: bool = False
    differs: bool = False


def draft(attributes: Mapping[str, Any], instant: int) -> EventDraft:
    """Make an EventDraft of valid attributes. instant: microseconds, used as `time` if there is none."""
    sent = {name: value for name, value in attributes.items() if value is not None or name == "data"}
    filled = {name: value for name, value in _defaults(sent, instant).items() if name not in sent}
    event = {name: value for name, value in {**filled, **sent}.items() if name not in REGISTRY_ATTRIBUTES}
    return EventDraft(event["source"], event["id"], event["type"], event.get("subject"), encoded(event), tuple(filled))


def encoded(attributes: Mapping[str, Any]) -> bytes:
    """Return the attributes as JSON. Raises TypeError for values that JSON cannot hold exactly.

    The text is copied, because orjson's result occupies a buffer of 4 KiB for as long as it lives.
    """
    return bytes(memoryview(orjson.dumps(attributes)))


def recorded_body(body: bytes, sequence: int, recorded: int) -> bytes:
    """Return the value for LevelDB: `body` with `sequence` and `recordedtime` as its last members."""
    stamp = b',"sequence":%d,"recordedtime":"%s"}' % (sequence, clock.format_microseconds(recorded).encode())
    return body[:-1] + stamp


def attributes_of(value: bytes) -> dict[str, Any]:
    """Return an event's JSON as a dictionary."""
    attributes: dict[str, Any] = orjson.loads(value)
    return attributes


def summary_of(value: bytes) -> dict[str, Any]:
    """Return an event's attributes without its data, which may be large."""
    return {name: text for name, text in attributes_of(value).items() if name not in ("data", "data_base64")}


def recorded_of(value: bytes) -> int:
    """Return the `recordedtime` of a value in LevelDB, in microseconds since the epoch."""
    return clock.parse(value[RECORDED_TIME].decode())


def differs(stored: bytes, sent: bytes, filled: tuple[str, ...]) -> bool:
    """Return whether the attributes in `sent`, without those that were filled in, differ from those of `stored`.

    The absence of an attribute that would be filled in is no difference.
    """
    old = {name: value for name, value in raw_attributes(stored).items() if name not in REGISTRY_ATTRIBUTES}
    new = {name: value for name, value in raw_attributes(sent).items() if name not in filled}
    return any(name not in old or not _equal(old[name], value) for name, value in new.items()) or any(
        name not in new and name not in filled for name in old
    )


def same_content(one: bytes, other: bytes) -> bool:
    """Return whether two events of one identity, as stored or as bodies, have the same content.

    Attributes of the registry do not count, nor does a `time` that was filled in, because an event that is sent again
    without one gets another. A sender's own `time` of that form in first place counts as filled in too.
    """
    pairs = ((one, other), (without_filled_time(one), without_filled_time(other)))
    return any(not differs(*pair, tuple(REGISTRY_ATTRIBUTES)) for pair in pairs)


def without_filled_time(value: bytes) -> bytes:
    """Return a stored event, or a body, without a `time` that `draft` filled in."""
    return _FILLED_TIME.sub(rb"\1", value)


def _equal(one: msgspec.Raw, other: msgspec.Raw) -> bool:
    """Return whether two JSON texts mean the same. `true`, 1 and 1.0 differ, and so do large whole numbers."""
    return bytes(one) == bytes(other) or _canonical(one) == _canonical(other)


def _canonical(text: msgspec.Raw) -> str:
    """Return a text that is equal for equal values. The standard library reads whole numbers of any size."""
    try:
        return json.dumps(json.loads(bytes(text)), sort_keys=True)
    except (ValueError, RecursionError):  # a number of thousands of digits, or too deeply nested
        return bytes(text).decode()


def _defaults(sent: Mapping[str, Any], instant: int) -> dict[str, Any]:
    defaults: dict[str, Any] = {"specversion": "1.0", "time": clock.format_microseconds(instant)}
    if "id" not in sent:
        defaults["id"] = str(uuid_utils.uuid7())
    if "source" not in sent:
        defaults["source"] = DEFAULT_SOURCE
    if "data" in sent:
        defaults["datacontenttype"] = "application/json"
    return defaults

"""The envelope of an event: CloudEvents 1.0 attributes, and two of ours, `sequence` and `recordedtime`.

Source of the attribute names and of what is required: CloudEvents 1.0.2, sections "Required Attributes" and
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
"""The `source` of an event whose sender names none."""

LONGEST_TEXT = 2048
"""Characters in an `id`, `source`, `type`, `subject` or `dataschema`: they are parts of keys in the database."""

OURS = frozenset({"sequence", "recordedtime"})
"""What the registry gives an event. A sender's values for these (an export that is posted again) are left out."""
RECORDED = slice(-29, -2)
"""Where a value in LevelDB has its `recordedtime`, as it is printed."""

members = msgspec.json.Decoder(dict[str, msgspec.Raw]).decode
"""An event's attributes and ours, each as its JSON text, exactly: an imported event may hold numbers of any size."""

_FILLED_TIME = re.compile(rb'\A(\{(?:"specversion":"1\.0",)?)"time":"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{6}Z",')
"""How a body begins whose `time` was filled in: `draft` puts what it fills in before what was given."""


class EventDraft(msgspec.Struct, array_like=True, frozen=True, gc=False):
    """An event that is ready to be appended.

    body: the event's JSON object in UTF-8, all attributes but ours, at least one of them.
    filled: names of the attributes that the sender left out and `draft` filled in.
    """

    source: str
    id: str
    type: str
    subject: str | None
    body: bytes
    filled: tuple[str, ...]


class Appended(msgspec.Struct, array_like=True, frozen=True, gc=False):
    """What became of one draft. For a duplicate: the first one's sequence and instant (microseconds).

    differs: a duplicate's content is not that of the first.
    """

    sequence: int
    recorded: int
    duplicate: bool = False
    differs: bool = False


def draft(attributes: Mapping[str, Any], instant: int) -> EventDraft:
    """An EventDraft of valid attributes (`eventvault.events.schema` checks them).

    instant: microseconds since the epoch, fills in `time`.
    """
    sent = {name: value for name, value in attributes.items() if value is not None or name == "data"}
    filled = {name: value for name, value in _defaults(sent, instant).items() if name not in sent}
    event = {name: value for name, value in {**filled, **sent}.items() if name not in OURS}
    return EventDraft(event["source"], event["id"], event["type"], event.get("subject"), encoded(event), tuple(filled))


def encoded(attributes: Mapping[str, Any]) -> bytes:
    """The attributes as JSON, to be kept. Raises TypeError for what JSON cannot hold exactly.

    A copy: orjson gives what it wrote in a buffer of 4 KiB, and that is all taken for as long as the text is kept.
    """
    return bytes(memoryview(orjson.dumps(attributes)))


def recorded_body(body: bytes, sequence: int, recorded: int) -> bytes:
    """The value that is kept in LevelDB: `body` with `sequence` and `recordedtime` as its last members."""
    stamp = b',"sequence":%d,"recordedtime":"%s"}' % (sequence, clock.format_microseconds(recorded).encode())
    return body[:-1] + stamp


def attributes_of(value: bytes) -> dict[str, Any]:
    """An event's JSON as a dictionary."""
    attributes: dict[str, Any] = orjson.loads(value)
    return attributes


def recorded_of(value: bytes) -> int:
    """The `recordedtime`, in microseconds since the epoch, of a value in LevelDB."""
    return clock.parse(value[RECORDED].decode())


def differs(stored: bytes, sent: bytes, filled: tuple[str, ...]) -> bool:
    """Whether what a sender gave (`sent` less what was filled in) is not what `stored` holds.

    An attribute that is filled in where a sender leaves it out never counts as a difference by its absence.
    """
    old = {name: value for name, value in members(stored).items() if name not in OURS}
    new = {name: value for name, value in members(sent).items() if name not in filled}
    return any(name not in old or not _equal(old[name], value) for name, value in new.items()) or any(
        name not in new and name not in filled for name in old
    )


def same(one: bytes, other: bytes) -> bool:
    """Whether two events of one identity, as they are kept or their bodies, have the same content; ours is none.

    A `time` that was filled in is none either, as one that is sent again without it is filled in with another. A sender
    who gave a `time` of that form as the first attribute cannot be told from one who gave none.
    """
    pairs = ((one, other), (without_filled_time(one), without_filled_time(other)))
    return any(not differs(*pair, tuple(OURS)) for pair in pairs)


def without_filled_time(value: bytes) -> bytes:
    """An event as it is kept, or its body, less a `time` that `draft` filled in."""
    return _FILLED_TIME.sub(rb"\1", value)


def _equal(one: msgspec.Raw, other: msgspec.Raw) -> bool:
    """Whether two JSON texts mean the same: neither are `true` and 1, nor 1 and 1.0, nor any two whole numbers."""
    return bytes(one) == bytes(other) or _canonical(one) == _canonical(other)


def _canonical(text: msgspec.Raw) -> str:
    """Equal for what means the same. The standard library's parser, as that has whole numbers of any size."""
    try:
        return json.dumps(json.loads(bytes(text)), sort_keys=True)
    except (ValueError, RecursionError):  # a number of thousands of digits, or nested as deeply
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

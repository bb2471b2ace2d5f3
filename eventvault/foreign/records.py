"""One record of a foreign LevelDB becomes one event: a pure mapping, described in docs/migration.md.

Nothing is dropped. `original_value` is the way back, and the proof: it gives what a record held from its event.
"""

from __future__ import annotations

import base64
from typing import Any, NamedTuple

import orjson

from eventvault.events.event import DEFAULT_SOURCE, EventDraft
from eventvault.foreign.attributes import DEFAULT_TYPE, Taken, take_attributes, valid_text
from eventvault.foreign.json_scanner import Document, embeddable, read_document

KNOWN = frozenset({"id", "type", "timestamp", "time", "source", "subject", "data"})
"""A record of these members only is taken apart; one that has others is kept whole in `data`."""

_BASE64 = "base64:"
_KEY_ID = "key:"
_JSON = "application/json"
_BYTES = "application/octet-stream"


class ForeignEvent(NamedTuple):
    """draft: what to append. not_json: the value is no JSON and is kept in `data_base64`.

    text_kept: it is JSON that common readers refuse, and is kept in `data_base64`. id_derived: from the key.
    converted: an attribute was no valid one and was turned into one. timeless: its time could not be read.
    """

    draft: EventDraft
    not_json: bool = False
    text_kept: bool = False
    id_derived: bool = False
    converted: bool = False
    timeless: bool = False


def map_record(key: bytes, value: bytes, *, instead: str | None = None) -> ForeignEvent:
    """The event of a record. instead: the id to give it, because its own is taken by a record before it."""
    try:
        document = read_document(value)
    except ValueError:
        attributes = _of_key(key, Taken({"source": DEFAULT_SOURCE, "type": DEFAULT_TYPE}, {}), instead)
        body = _body({**attributes, "originalrecord": True}, value, _BYTES)
        return ForeignEvent(_draft(attributes, body), not_json=True, id_derived=True)
    return _of_json(key, value, document, instead)


def original_key(key: bytes) -> str:
    """`originalkey`: the key as text; `base64:…` where it is not UTF-8, or begins like that itself."""
    try:
        text = key.decode()
    except UnicodeDecodeError:
        text = _BASE64
    return _BASE64 + base64.b64encode(key).decode() if text.startswith(_BASE64) else text


def derived_id(key: bytes, ending: str = "") -> str:
    """The id of an event whose record has none: `key:` and the key, different for each key.

    ending: a few characters that follow it.
    """
    readable = _KEY_ID + original_key(key) + ending
    if readable == valid_text(readable):
        return readable
    return valid_text(_KEY_ID + _BASE64 + base64.b64encode(key).decode() + ending)


def original_value(event: dict[str, Any]) -> Any:
    """What a record held, from its event: bytes where that is no JSON or JSON that is kept as text, else a value.

    A record that was taken apart comes back with the defaults that it was given, and its time as `time`.
    """
    content = base64.b64decode(event["data_base64"]) if "data_base64" in event else event.get("data")
    if event.get("originalrecord"):
        return content
    record: dict[str, Any] = {
        name: event[name] for name in ("id", "source", "type", "time", "subject") if name in event
    }
    if "data" in event or "data_base64" in event:
        record["data"] = content
    restated = orjson.loads(event.get("originalmembers", "{}"))
    if "timestamp" in restated:
        record.pop("time", None)
    return {**record, **restated}


def _of_json(key: bytes, value: bytes, document: Document, instead: str | None) -> ForeignEvent:
    members = document.members or {}
    taken = take_attributes(members)
    id_derived = "id" not in taken.attributes
    whole = document.members is None or document.repeated or not taken.exact or not members.keys() <= KNOWN
    if instead is not None and not id_derived and not whole:
        taken.restated["id"] = members["id"]
    attributes: dict[str, Any] = _of_key(key, taken, instead)
    ours: dict[str, Any] = {"originalrecord": True} if whole else {}
    if taken.restated and not whole:
        ours["originalmembers"] = _object(taken.restated)
    content = value if whole else members.get("data")
    kept = None if content is None else embeddable(content)
    body = _body({**attributes, **ours}, content if kept is None else kept, _JSON, embedded=kept is not None)
    return ForeignEvent(
        _draft(attributes, body),
        text_kept=content is not None and kept is None,
        id_derived=id_derived,
        converted=not taken.exact,
        timeless=taken.timeless,
    )


def _of_key(key: bytes, taken: Taken, instead: str | None) -> dict[str, str]:
    chosen = instead if instead is not None else taken.attributes.get("id", derived_id(key))
    return {"specversion": "1.0", **taken.attributes, "id": chosen, "originalkey": original_key(key)}


def _object(members: dict[str, bytes]) -> str:
    return "{" + ",".join(f"{orjson.dumps(name).decode()}:{text.decode()}" for name, text in members.items()) + "}"


def _body(attributes: dict[str, Any], content: bytes | None, media: str, *, embedded: bool = False) -> bytes:
    """The event's JSON. content: JSON text to be embedded, or bytes for `data_base64`; None: there is no data."""
    if content is None:
        return orjson.dumps(attributes)
    head = orjson.dumps({**attributes, "datacontenttype": media})[:-1]
    if embedded:
        return head + b',"data":' + content + b"}"
    return head + b',"data_base64":"' + base64.b64encode(content) + b'"}'


def _draft(attributes: dict[str, Any], body: bytes) -> EventDraft:
    return EventDraft(
        attributes["source"], attributes["id"], attributes["type"], attributes.get("subject"), body, ("specversion",)
    )

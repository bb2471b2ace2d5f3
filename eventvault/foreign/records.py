"""Maps one record of a foreign LevelDB to one event, as docs/migration.md describes.

Nothing is dropped: the tests reconstruct each record's value from its event.
"""

from __future__ import annotations

import base64
from typing import Any, NamedTuple

import orjson

from eventvault.events.event import DEFAULT_SOURCE, EventDraft
from eventvault.foreign.attributes import DEFAULT_TYPE, RecordAttributes, read_attributes, valid_text
from eventvault.foreign.json_scanner import Document, embeddable, read_document

MAPPED_MEMBERS = frozenset({"id", "type", "timestamp", "time", "source", "subject", "data"})
"""The members that become attributes and `data`. A record with any other member is embedded whole in `data`."""

_BASE64 = "base64:"
_KEY_ID = "key:"
_JSON = "application/json"
_BYTES = "application/octet-stream"


class ForeignEvent(NamedTuple):
    """The event of a foreign record. draft: to append. not_json: the value is not JSON and is in `data_base64`.

    not_embeddable: the value is JSON that common readers refuse, and is in `data_base64`. id_derived: the id comes from
    the key. converted: an attribute was invalid and was converted. timeless: the record's time cannot be read.
    """

    draft: EventDraft
    not_json: bool = False
    not_embeddable: bool = False
    id_derived: bool = False
    converted: bool = False
    timeless: bool = False


def map_record(key: bytes, value: bytes, *, new_id: str | None = None) -> ForeignEvent:
    """Return the event of a record. new_id: replaces the record's id, if an earlier record has the same."""
    try:
        document = read_document(value)
    except ValueError:
        attributes = _attributes_with_key(
            key, RecordAttributes({"source": DEFAULT_SOURCE, "type": DEFAULT_TYPE}, {}), new_id
        )
        body = _body({**attributes, "originalrecord": True}, value, _BYTES)
        return ForeignEvent(_draft(attributes, body), not_json=True, id_derived=True)
    return _map_json(key, value, document, new_id)


def original_key(key: bytes) -> str:
    """Return `originalkey`: the key as text; `base64:…` if it is not UTF-8 or itself begins with `base64:`."""
    try:
        text = key.decode()
    except UnicodeDecodeError:
        text = _BASE64
    return _BASE64 + base64.b64encode(key).decode() if text.startswith(_BASE64) else text


def derived_id(key: bytes, ending: str = "") -> str:
    """Return the id for a record without one: `key:`, the key and a short `ending`; different for each key."""
    readable = _KEY_ID + original_key(key) + ending
    if readable == valid_text(readable):
        return readable
    return valid_text(_KEY_ID + _BASE64 + base64.b64encode(key).decode() + ending)


def _map_json(key: bytes, value: bytes, document: Document, new_id: str | None) -> ForeignEvent:
    members = document.members or {}
    record = read_attributes(members)
    id_derived = "id" not in record.attributes
    whole = document.members is None or document.repeated or not record.exact or not members.keys() <= MAPPED_MEMBERS
    if new_id is not None and not id_derived and not whole:
        record.restated["id"] = members["id"]
    attributes: dict[str, Any] = _attributes_with_key(key, record, new_id)
    ours: dict[str, Any] = {"originalrecord": True} if whole else {}
    if record.restated and not whole:
        ours["originalmembers"] = _object(record.restated)
    content = value if whole else members.get("data")
    text = None if content is None else embeddable(content)
    body = _body({**attributes, **ours}, content if text is None else text, _JSON, embedded=text is not None)
    return ForeignEvent(
        _draft(attributes, body),
        not_embeddable=content is not None and text is None,
        id_derived=id_derived,
        converted=not record.exact,
        timeless=record.timeless,
    )


def _attributes_with_key(key: bytes, record: RecordAttributes, new_id: str | None) -> dict[str, str]:
    chosen = new_id if new_id is not None else record.attributes.get("id", derived_id(key))
    return {"specversion": "1.0", **record.attributes, "id": chosen, "originalkey": original_key(key)}


def _object(members: dict[str, bytes]) -> str:
    return "{" + ",".join(f"{orjson.dumps(name).decode()}:{text.decode()}" for name, text in members.items()) + "}"


def _body(attributes: dict[str, Any], content: bytes | None, media: str, *, embedded: bool = False) -> bytes:
    """Return the event's JSON. content: JSON text to embed, or bytes for `data_base64`; None if there is no data."""
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

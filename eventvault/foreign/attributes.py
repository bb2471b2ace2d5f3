"""Derives the attributes of an event from the members of a foreign record. Implements the table of docs/migration.md.

A member that is not a valid CloudEvents attribute (see `eventvault.events.schema`) is converted to one. If the
conversion loses something, `exact` is False and the caller embeds the whole record.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping
from datetime import datetime
from decimal import Decimal
from typing import Any

import msgspec

from eventvault import clock
from eventvault.events import schema
from eventvault.events.event import DEFAULT_SOURCE, LONGEST_TEXT
from eventvault.foreign.json_scanner import Number, read_value

DEFAULT_TYPE = "foreign.record"
"""The `type` of an event whose record has none."""

_TEXTS = ("id", "source", "type", "subject")
_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f]")
_FARTHEST_MILLISECONDS = 3e14
"""Milliseconds from the epoch, in both directions: beyond the years with four digits."""


class RecordAttributes(msgspec.Struct):
    """The attributes of a record. attributes: valid ones; without `id` if the record has no usable id.

    restated: JSON text of members that are null, or whose attribute spells the same value in another way (a timestamp
    in milliseconds). exact: nothing else was changed. timeless: the record's time cannot be read.
    """

    attributes: dict[str, str]
    restated: dict[str, bytes]
    exact: bool = True
    timeless: bool = False


def read_attributes(members: Mapping[str, bytes]) -> RecordAttributes:
    """Return the attributes of a record. members: its values as JSON text."""
    record = RecordAttributes({}, {})
    for name in _TEXTS:
        if name in members:
            _add_text(record, name, members[name])
    times = [name for name in ("time", "timestamp") if name in members and not _note_null(record, name, members[name])]
    if times:
        _add_time(record, times[0], members[times[0]])
        record.exact = record.exact and len({members[name] for name in times}) == 1
    record.attributes.setdefault("source", DEFAULT_SOURCE)
    record.attributes.setdefault("type", DEFAULT_TYPE)
    if schema.validate(record.attributes):
        _make_valid(record)
    return record


def valid_text(text: str) -> str:
    """Return `text` as an attribute may hold it: control characters become %0A, lone surrogates U+FFFD.

    A text that is too long is cut and ends in `~` and its SHA-256, so that different texts stay different.
    """
    unpaired = text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")
    escaped = _CONTROL.sub(lambda match: "".join(f"%{byte:02X}" for byte in match[0].encode()), unpaired)
    if len(escaped) <= LONGEST_TEXT:
        return escaped
    digest = hashlib.sha256(escaped.encode()).hexdigest()
    return f"{escaped[: LONGEST_TEXT - len(digest) - 1]}~{digest}"


def _add_text(record: RecordAttributes, name: str, text: bytes) -> None:
    if _note_null(record, name, text):
        return
    value = read_value(text)
    if isinstance(value, Number | bool):
        record.attributes[name] = text.decode().strip()
        record.exact = False
    elif isinstance(value, str) and value:
        record.attributes[name] = value
    else:
        record.exact = False


def _note_null(record: RecordAttributes, name: str, text: bytes) -> bool:
    """Return True for null, which means absent in CloudEvents, and note it as restated."""
    if text.strip() != b"null":
        return False
    record.restated[name] = b"null"
    return True


def _add_time(record: RecordAttributes, name: str, text: bytes) -> None:
    value = read_value(text)
    if isinstance(value, Number):
        instant = _from_milliseconds(value)
        if instant is not None and re.fullmatch(r"-?[0-9]+", value):
            record.restated[name] = text
        else:
            record.exact = False
    elif isinstance(value, str) and not schema.validate({"type": DEFAULT_TYPE, "time": value}):
        instant = value
    else:
        instant = _from_text(value) if isinstance(value, str) else None
        record.exact = False
    if instant is None:
        record.timeless = True
    else:
        record.attributes["time"] = instant


def _from_milliseconds(number: str) -> str | None:
    """Return the time of a number of milliseconds since the epoch (`Date.now()`); None if it is too far away."""
    if not abs(float(number)) < _FARTHEST_MILLISECONDS:
        return None
    return _format(int(Decimal(number) * 1000))


def _from_text(text: str) -> str | None:
    """Return the time of an ISO 8601 text that RFC 3339 does not allow; None if it has no offset."""
    try:
        return _format(clock.parse(text))
    except (ValueError, OverflowError):
        return None


def _format(microseconds: int) -> str | None:
    precision = "microseconds" if microseconds % 1000 else "milliseconds"
    try:
        instant: datetime = clock.from_microseconds(microseconds)
    except OverflowError:
        return None
    return instant.isoformat(timespec=precision).replace("+00:00", "Z")


def _make_valid(record: RecordAttributes) -> None:
    for name, value in record.attributes.items():
        alone: dict[str, Any] = {"type": DEFAULT_TYPE, name: value}
        if schema.validate(alone):
            record.attributes[name] = valid_text(value)
            record.exact = False

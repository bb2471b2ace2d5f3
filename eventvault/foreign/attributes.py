"""The attributes of an event from the members of a foreign record.

What is not a valid CloudEvents attribute (`eventvault.events.schema` decides) is turned into one, and `exact` says
whether that lost something, so that the caller keeps the whole record.
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
"""Beyond the years that can be written with four digits, on both sides of the epoch."""


class Taken(msgspec.Struct):
    """attributes: valid ones, without `id` where the record has none that could be taken over.

    restated: members that were taken over with another value that says the same (a timestamp in milliseconds), or that
    were null, with their JSON text. exact: nothing else was changed. timeless: the record's time could not be read.
    """

    attributes: dict[str, str]
    restated: dict[str, bytes]
    exact: bool = True
    timeless: bool = False


def take_attributes(members: Mapping[str, bytes]) -> Taken:
    """The attributes of a record, of which `members` are the values as JSON text."""
    taken = Taken({}, {})
    for name in _TEXTS:
        if name in members:
            _take_text(taken, name, members[name])
    times = [name for name in ("time", "timestamp") if name in members and not _null(taken, name, members[name])]
    if times:
        _take_time(taken, times[0], members[times[0]])
        taken.exact = taken.exact and len({members[name] for name in times}) == 1
    taken.attributes.setdefault("source", DEFAULT_SOURCE)
    taken.attributes.setdefault("type", DEFAULT_TYPE)
    if schema.validate(taken.attributes):
        _make_valid(taken)
    return taken


def valid_text(text: str) -> str:
    """`text` as an attribute may have it: control characters as %0A, lone surrogates as U+FFFD, not too long.

    One that is too long is cut and ends in `~` and the SHA-256 of all of it, so that different ones stay different.
    """
    unpaired = text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")
    escaped = _CONTROL.sub(lambda found: "".join(f"%{byte:02X}" for byte in found[0].encode()), unpaired)
    if len(escaped) <= LONGEST_TEXT:
        return escaped
    digest = hashlib.sha256(escaped.encode()).hexdigest()
    return f"{escaped[: LONGEST_TEXT - len(digest) - 1]}~{digest}"


def _take_text(taken: Taken, name: str, text: bytes) -> None:
    if _null(taken, name, text):
        return
    value = read_value(text)
    if isinstance(value, Number | bool):
        taken.attributes[name] = text.decode().strip()
        taken.exact = False
    elif isinstance(value, str) and value:
        taken.attributes[name] = value
    else:
        taken.exact = False


def _null(taken: Taken, name: str, text: bytes) -> bool:
    """CloudEvents: an attribute that is null is one that is not there."""
    if text.strip() != b"null":
        return False
    taken.restated[name] = b"null"
    return True


def _take_time(taken: Taken, name: str, text: bytes) -> None:
    value = read_value(text)
    if isinstance(value, Number):
        instant = _from_milliseconds(value)
        if instant is not None and re.fullmatch(r"-?[0-9]+", value):
            taken.restated[name] = text
        else:
            taken.exact = False
    elif isinstance(value, str) and not schema.validate({"type": DEFAULT_TYPE, "time": value}):
        instant = value
    else:
        instant = _from_text(value) if isinstance(value, str) else None
        taken.exact = False
    if instant is None:
        taken.timeless = True
    else:
        taken.attributes["time"] = instant


def _from_milliseconds(number: str) -> str | None:
    """The instant of a number as `Date.now()` gives it: milliseconds since the epoch."""
    if not abs(float(number)) < _FARTHEST_MILLISECONDS:
        return None
    return _written(int(Decimal(number) * 1000))


def _from_text(text: str) -> str | None:
    """The instant of an ISO 8601 text that is not in RFC 3339's form; None without an offset: it could be any."""
    try:
        return _written(clock.parse(text))
    except (ValueError, OverflowError):
        return None


def _written(microseconds: int) -> str | None:
    precision = "microseconds" if microseconds % 1000 else "milliseconds"
    try:
        instant: datetime = clock.from_microseconds(microseconds)
    except OverflowError:
        return None
    return instant.isoformat(timespec=precision).replace("+00:00", "Z")


def _make_valid(taken: Taken) -> None:
    for name, value in taken.attributes.items():
        alone: dict[str, Any] = {"type": DEFAULT_TYPE, name: value}
        if schema.validate(alone):
            taken.attributes[name] = valid_text(value)
            taken.exact = False

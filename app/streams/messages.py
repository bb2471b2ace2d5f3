"""The text of server-sent events. Source of the format: the HTML standard, section "Server-sent events"."""

from __future__ import annotations

from eventvault.database.values import Head

MESSAGE = {"type": "object", "properties": {name: {"type": "string"} for name in ("id", "event", "data")}}
"""The form of a message, for the OpenAPI document."""
CONTENT_TYPE = "text/event-stream"
RETRY = b"retry: 2000\n\n"
"""Milliseconds after which a browser comes back to a stream that ended."""
COMMENT = b": still here\n"

_NO_LINE_ENDS = bytes.maketrans(b"\r\n", b"  ")
"""In JSON, line ends are white space between tokens; here they would end the data."""


def message(kind: str, data: bytes, last_id: bytes) -> bytes:
    """Return a message. data: JSON. last_id: what a client sends as `Last-Event-ID` when it comes back."""
    return b"id: %s\nevent: %s\ndata: %s\n\n" % (last_id, kind.encode(), data.translate(_NO_LINE_ENDS))


def note_id(last_id: bytes) -> bytes:
    """Return text that sets the client's `Last-Event-ID` without a message."""
    return b"id: %s\n\n" % last_id


def id_of(position: Head) -> bytes:
    return b"%s:%d" % (position.generation.encode(), position.sequence)


def chunk(data: bytes) -> bytes:
    """Return a part of a body with HTTP's chunked transfer coding."""
    return b"%x\r\n%s\r\n" % (len(data), data)

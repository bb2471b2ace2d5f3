"""The text of server-sent events. Source of the format: the HTML standard, section "Server-sent events"."""

from __future__ import annotations

from eventvault.database.values import Head

CONTENT_TYPE = "text/event-stream"
RETRY = b"retry: 2000\n\n"
"""Milliseconds after which a browser comes back to a stream that ended."""
COMMENT = b": still here\n"

_NO_LINE_ENDS = bytes.maketrans(b"\r\n", b"  ")
"""In JSON, line ends are white space between tokens; here they would end the data."""


def message(kind: str, data: bytes, position: Head | None = None) -> bytes:
    """Return a message. data: JSON. position: what a client sends as `Last-Event-ID` when it comes back."""
    return b"%sevent: %s\ndata: %s\n\n" % (_id(position), kind.encode(), data.translate(_NO_LINE_ENDS))


def note_position(position: Head) -> bytes:
    """Return what moves the client's `Last-Event-ID` without a message."""
    return _id(position) + b"\n"


def chunk(data: bytes) -> bytes:
    """Return a part of a body with HTTP's chunked transfer coding."""
    return b"%x\r\n%s\r\n" % (len(data), data)


def _id(position: Head | None) -> bytes:
    return b"" if position is None else b"id: %s:%d\n" % (position.generation.encode(), position.sequence)

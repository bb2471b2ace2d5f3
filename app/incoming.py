"""Collects the bytes of one request, until a thread can answer it without waiting for the client.

What is read here only decides when a thread is given to the request, and which one. gunicorn's parser, which reads the
same bytes again, decides what the request is.
"""

from __future__ import annotations

import re
from enum import Enum, auto

COLLECTED_BYTES = 64 * 1024
"""The part of a body that is collected without a thread. A thread of the lane for long bodies reads a longer one."""

MAX_HEAD_BYTES = 256 * 1024
"""The most that the request line and all headers of a slow client may take in memory."""

_MAX_CHUNK_LINE = 9000
"""More than gunicorn accepts, so what is longer is an error that its parser names."""

_FRAMING = re.compile(rb"\r\n(content-length|transfer-encoding|expect):[ \t]*([^\r\n]*)", re.IGNORECASE)
_CHUNK = re.compile(rb"([0-9A-Fa-f]{1,15})[ \t]*(?:;[^\r\n]{0,9000})?\r\n")


class State(Enum):
    """How much of a request has arrived."""

    EMPTY = auto()
    HEAD = auto()
    BODY = auto()
    READY = auto()
    """The whole request, or as much as there will ever be."""
    LONG = auto()
    """The rest of the body can only be read by a thread that waits for it."""
    HEAD_TOO_LARGE = auto()


class Incoming:
    """A request that is arriving. received: its bytes, and what the client sent after them."""

    def __init__(self, received: bytes = b"") -> None:
        self.received = bytearray()
        self.state = State.EMPTY
        self._ended = False
        self._head_end = 0
        self._body_end: int | None = 0
        """Where a body of known length ends; None for a chunked one."""
        self._next_chunk = 0
        self._awaits_continue = False
        if received:
            self.add(received)

    def add(self, data: bytes) -> State:
        """Add what has arrived, empty if the client sends nothing more, and return the state."""
        searched = max(0, len(self.received) - 3)
        self.received += data
        self._ended = not data
        if not self._head_end:
            self._find_head(searched)
        self.state = self._state()
        return self.state

    def begins_with(self, prefixes: tuple[bytes, ...]) -> bool:
        return self.received.startswith(prefixes)

    def _find_head(self, searched: int) -> None:
        if self.received.startswith((b"\r", b"\n")):  # RFC 9112, section 2.2: empty lines before a request are ignored
            del self.received[: len(self.received) - len(self.received.lstrip(b"\r\n"))]
            searched = 0
        end = self.received.find(b"\r\n\r\n", searched)
        if end >= 0:
            self._head_end = end + 4
            self._read_framing(bytes(self.received[: self._head_end]))

    def _read_framing(self, head: bytes) -> None:
        framing = {name.lower(): value.strip() for name, value in _FRAMING.findall(head)}
        self._awaits_continue = b"expect" in framing
        if b"transfer-encoding" in framing:
            self._body_end, self._next_chunk = None, self._head_end
        else:
            length = framing.get(b"content-length", b"")
            self._body_end = self._head_end + (int(length) if length.isdigit() and len(length) < 20 else 0)

    def _state(self) -> State:
        if not self._head_end:
            if len(self.received) > MAX_HEAD_BYTES:
                return State.HEAD_TOO_LARGE
            return State.HEAD if self.received else State.EMPTY
        if self._ended or self._has_whole_body():
            return State.READY
        if self._awaits_continue or len(self.received) - self._head_end >= COLLECTED_BYTES:
            return State.LONG
        return State.BODY

    def _has_whole_body(self) -> bool:
        if self._body_end is not None:
            return len(self.received) >= self._body_end
        return self._has_last_chunk()

    def _has_last_chunk(self) -> bool:
        """Return whether a chunked body is whole, or so damaged that the parser refuses it."""
        while chunk := _CHUNK.match(self.received, self._next_chunk):
            size = int(chunk[1], 16)
            if not size:
                return self.received.find(b"\r\n\r\n", chunk.end() - 2) >= 0
            next_chunk = chunk.end() + size + 2
            if next_chunk > len(self.received):
                return False
            self._next_chunk = next_chunk
        line = self.received[self._next_chunk : self._next_chunk + _MAX_CHUNK_LINE]
        return b"\r\n" in line or len(line) == _MAX_CHUNK_LINE

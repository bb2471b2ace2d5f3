"""A connection between dispatcher and worker: frames with one message each, which both ends send at any time.

A worker asks to `attach` its session to the connection. From then on the connection belongs to that session. Messages
that are in flight when it closes are lost: the worker connects again and sends its hello, and the messages that had no
effect are sent again.
"""

from __future__ import annotations

import contextlib
import selectors
import socket
from collections import deque

import msgspec

from eventvault.jobs.messages import MAX_FRAME_BYTES
from eventvault.rpc import frames
from eventvault.rpc.codec import Codec

ATTACH = "attach"
ATTACH_TYPES = (tuple[str], None)
"""The types of the argument (the session) and of the result of `attach`."""
attaching = Codec({ATTACH: ATTACH_TYPES}, msgspec.json)

_READ_BYTES = 2**18
"""More than a socket holds, so that one read returns everything that came before."""
_MAX_UNSENT_BYTES = 32 * 2**20
"""A message beyond this limit is dropped, as if it were lost in flight."""


class MessageConnection:
    """One end. received: messages that its owner has not processed yet. unsent: frames that were not sent."""

    def __init__(self, connection: socket.socket, session: str) -> None:
        connection.setblocking(False)
        self.socket = connection
        self.session = session
        self.received: deque[bytes] = deque()
        self.unsent: deque[bytes] = deque()
        self._buffer = frames.FrameBuffer(MAX_FRAME_BYTES)
        self._sent = 0
        """How many bytes of the first unsent frame the kernel has accepted."""
        self._waiting_bytes = 0

    def read(self) -> None:
        """Read what has come into `received`. Raises OSError if the connection is lost."""
        with contextlib.suppress(BlockingIOError):
            chunk = self.socket.recv(_READ_BYTES)
            if not chunk:
                raise ConnectionError("the other end closed the connection")
            self.received.extend(self._buffer.feed(chunk))

    def queue(self, frame: bytes) -> None:
        """Let a frame be sent by the next `flush`. It is dropped if too much waits."""
        if self._waiting_bytes + len(frame) <= _MAX_UNSENT_BYTES:
            self._waiting_bytes += len(frame)
            self.unsent.append(frame)

    def flush(self) -> None:
        """Send what waits, as far as the kernel accepts it. Raises OSError if the connection is lost."""
        with contextlib.suppress(BlockingIOError):
            while self.unsent:
                self._sent += self.socket.send(memoryview(self._joined())[self._sent :])
                self._drop_sent()

    def events(self) -> int:
        return selectors.EVENT_READ | (selectors.EVENT_WRITE if self.unsent else 0)

    def close(self) -> None:
        self.socket.close()

    def _joined(self) -> bytes:
        """Return the first unsent frame. Small frames are joined, so that one call sends them."""
        if len(self.unsent) > 1 and len(self.unsent[0]) + len(self.unsent[1]) < _READ_BYTES:
            parts, size = [], 0
            while self.unsent and size + len(self.unsent[0]) < _READ_BYTES:
                parts.append(self.unsent.popleft())
                size += len(parts[-1])
            self.unsent.appendleft(b"".join(parts))
        return self.unsent[0]

    def _drop_sent(self) -> None:
        if self._sent == len(self.unsent[0]):
            self._waiting_bytes -= len(self.unsent.popleft())
            self._sent = 0

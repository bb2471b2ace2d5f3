"""Sends all streams of a worker from one thread, which waits for no client.

A stream ends when its client disconnects, after STREAM_SECONDS, when the worker stops, when its client may not go on
(its token was revoked), or when the client takes no byte for TAKE_SECONDS although there is something to send.
"""

from __future__ import annotations

import logging
import os
import selectors
import threading
import time
from collections import deque
from collections.abc import Callable
from contextlib import suppress

from app import client_socket
from app.client_socket import ClientSocket
from app.streams.messages import chunk
from app.streams.source import StreamSource

log = logging.getLogger("eventvault.http")

STREAM_SECONDS = 15 * 60.0
"""How long a stream lasts; the client comes back."""
COMMENT_SECONDS = 15.0
_CHECK_SECONDS = 0.5
"""Seconds between two checks of the deadlines."""
_IDLE_SECONDS = 60.0
_PIECES = 8
"""Pieces that one stream may send before the next stream gets its turn."""
_READ_BYTES = 4096
_LAST_CHUNK = b"0\r\n\r\n"


class Stream:
    """A stream to one client. chunked: with HTTP's transfer coding. release: called once when it has ended."""

    def __init__(self, source: StreamSource, release: Callable[[], None], *, chunked: bool) -> None:
        self.source = source
        self.chunked = chunked
        self.unsent = memoryview(b"")
        self.sent_at = self.moved_at = self.began_at = time.monotonic()
        self._release = release
        self._sent = self._arrived = 0

    def put(self, data: bytes) -> None:
        """Send `data` next. Call it only when all earlier data is sent."""
        self.unsent = memoryview(chunk(data) if self.chunked else data)
        self.sent_at = time.monotonic()

    def send(self, connection: ClientSocket) -> bool:
        """Send what the system takes now. Returns whether that was all. Raises OSError."""
        while self.unsent:
            count = connection.send_some(self.unsent)
            if not count:
                return False
            self.unsent = self.unsent[count:]
            self._sent += count
        return True

    def is_over(self) -> bool:
        """Return whether nothing follows the unsent data."""
        return self.source.ended or time.monotonic() - self.began_at >= STREAM_SECONDS

    def is_stuck(self, connection: ClientSocket, now: float) -> bool:
        """Return whether the client's machine has not taken a byte for TAKE_SECONDS. Raises OSError."""
        waiting = connection.unsent()
        arrived = self._sent - waiting
        if arrived != self._arrived or not (waiting or self.unsent):
            self._arrived, self.moved_at = arrived, now
        return now - self.moved_at >= client_socket.TAKE_SECONDS

    def finish(self, connection: ClientSocket) -> None:
        """Send the end, whole if the client takes it at once. Raises OSError."""
        if self.send(connection) and self.chunked:
            connection.send_now(_LAST_CHUNK)

    def close(self) -> None:
        self.source.close()
        self._release()


class StreamWriter:
    """Sends the streams of a worker. on_ended: called from its thread with each connection whose stream has ended."""

    def __init__(self, on_ended: Callable[[ClientSocket], None]) -> None:
        self._on_ended = on_ended
        self._streams: dict[ClientSocket, Stream] = {}
        self._new: deque[tuple[ClientSocket, Stream]] = deque()
        self._selector = selectors.DefaultSelector()
        self._thread: threading.Thread | None = None
        self._lock = threading.Lock()
        self._waker = -1
        """A descriptor that becomes readable once there is something to do."""
        self._stopping = False
        self._next_check = 0.0

    def add(self, connection: ClientSocket, stream: Stream) -> None:
        """Send a stream from now on. Nobody else may use the connection until the stream has ended.

        Raises OSError or RuntimeError if the system refuses a descriptor or a thread.
        """
        with self._lock:
            if self._thread is None:
                self._start()
        self._new.append((connection, stream))
        self.wake()

    def stop(self) -> None:
        """End all streams at once, and those that are added later."""
        self._stopping = True
        self.wake()

    def wake(self) -> None:
        """Ask the sources soon for new data. Safe to call from any thread."""
        if self._waker >= 0:
            os.eventfd_write(self._waker, 1)

    def _start(self) -> None:
        if self._waker < 0:
            self._waker = os.eventfd(0, os.EFD_NONBLOCK | os.EFD_CLOEXEC)
            self._selector.register(self._waker, selectors.EVENT_READ)
        thread = threading.Thread(target=self._run, name="streams", daemon=True)
        thread.start()
        self._thread = thread

    def _run(self) -> None:
        while True:
            try:
                self._run_once()
            except Exception:
                log.exception("the streams go on after an unexpected error")
                time.sleep(_CHECK_SECONDS)

    def _run_once(self) -> None:
        waiting = _CHECK_SECONDS if self._streams else _IDLE_SECONDS
        for key, _ in self._selector.select(waiting):
            if key.fileobj == self._waker:
                os.eventfd_read(self._waker)
                self._begin_round()
            else:
                self._attend(key.data)
        now = time.monotonic()
        if now >= self._next_check:
            self._next_check = now + _CHECK_SECONDS
            for connection in list(self._streams):
                self._guard(connection, self._check, now)

    def _begin_round(self) -> None:
        while self._new:
            connection, stream = self._new.popleft()
            self._streams[connection] = stream
            self._guard(connection, self._begin)
        for connection in list(self._streams):
            if self._stopping:
                self._guard(connection, self._finish)
            else:
                self._guard(connection, self._pump)

    def _begin(self, connection: ClientSocket) -> None:
        self._selector.register(connection, selectors.EVENT_READ, connection)
        self._streams[connection].source.start(self.wake)

    def _attend(self, connection: ClientSocket) -> None:
        """Handle a client that takes more, has sent something (which is ignored), or has disconnected."""
        if connection not in self._streams:
            return
        try:
            received = connection.receive_now(_READ_BYTES)
        except OSError:
            received = b""
        if received == b"":
            self._end(connection)
        else:
            self._guard(connection, self._pump)

    def _guard(self, connection: ClientSocket, act: Callable[..., None], *arguments: float) -> None:
        """Call `act` for one stream; an error ends only this stream."""
        try:
            act(connection, *arguments)
        except OSError:
            self._end(connection)
        except Exception:
            log.exception("a stream ends")
            self._end(connection)

    def _pump(self, connection: ClientSocket) -> None:
        """Send what the source has, until the client takes no more."""
        stream = self._streams[connection]
        for _ in range(_PIECES):
            if not stream.send(connection):
                self._selector.modify(connection, selectors.EVENT_READ | selectors.EVENT_WRITE, connection)
                return
            self._selector.modify(connection, selectors.EVENT_READ, connection)
            if stream.is_over():
                self._finish(connection)
                return
            piece = stream.source.take()
            if piece:
                stream.put(piece)
            elif not stream.source.ended:
                return
        self.wake()

    def _check(self, connection: ClientSocket, now: float) -> None:
        stream = self._streams[connection]
        if not connection.may_go_on():
            log.info("a stream was ended, as its client may no longer read it")
            self._finish(connection)
        elif stream.is_stuck(connection, now):
            log.info("a stream was ended, as its client took nothing of it for %.0f s", now - stream.moved_at)
            connection.is_broken = True
            self._end(connection)
        elif not stream.unsent:
            if now - stream.sent_at >= COMMENT_SECONDS and not stream.is_over():
                stream.put(stream.source.comment())
            self._pump(connection)

    def _finish(self, connection: ClientSocket) -> None:
        """End a stream, whole if the client takes the end at once."""
        self._streams[connection].finish(connection)
        self._end(connection)

    def _end(self, connection: ClientSocket) -> None:
        stream = self._streams.pop(connection, None)
        if stream is None:
            return
        with suppress(KeyError, ValueError):  # it was not registered
            self._selector.unregister(connection)
        try:
            stream.close()
        finally:
            self._on_ended(connection)

"""The dispatcher's end of the transport over `STORAGE_DIR/jobs.sock`, without a broker."""

from __future__ import annotations

import contextlib
import logging
import selectors
import socket
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence

from eventvault.jobs import messages
from eventvault.jobs.lease import TICK_SECONDS
from eventvault.jobs.messages import Report, Tick, Work
from eventvault.jobs.socket_connection import MessageConnection
from eventvault.jobs.transport import Position, Received, Submitted, WithoutTopics
from eventvault.rpc import frames

log = logging.getLogger("jobs")

_LOGGED = 100
"""Most invalid messages that are logged; further ones are only counted."""


class SocketTransport(WithoutTopics):
    """The dispatcher's end, for any number of workers. `attach` and `wake` may be called by any thread.

    A timer makes the ticks. A tick comes after all reports that were received before it was due, and there is only one
    after a pause of the process, however long it was. invalid: how many messages could not be decoded or used.
    """

    def __init__(self, tick_seconds: float = TICK_SECONDS, now: Callable[[], float] = time.monotonic) -> None:
        self.tick_seconds = tick_seconds
        self.invalid = 0
        self._now = now
        self._selector = selectors.DefaultSelector()
        self._wake_read, self._wake_write = socket.socketpair()
        for end in (self._wake_read, self._wake_write):
            end.setblocking(False)
        self._selector.register(self._wake_read, selectors.EVENT_READ)
        self._attached: deque[MessageConnection] = deque()
        self._connections: dict[str, MessageConnection] = {}
        self._ready: deque[MessageConnection] = deque()
        """Connections with received messages that `receive` has not returned; they take turns."""
        self._ticks = 0
        self._next_tick = now() + tick_seconds
        self._lock = threading.Lock()
        self._is_closed = False

    def open(self, positions: Sequence[Position], sessions: Mapping[str, int]) -> None:
        del positions, sessions
        self._next_tick = self._now() + self.tick_seconds

    def attach(self, session: str, connection: socket.socket, reply: bytes) -> None:
        """Send the reply, and then this session's work, over this connection, in place of an earlier one.

        Once a worker has read the reply, it may connect again at once, and another thread attaches the new connection.
        The lock makes sure that the newer connection replaces the older one.
        """
        attached = MessageConnection(connection, session)
        attached.queue(frames.framed(reply))
        with self._lock:
            if self._is_closed:
                connection.close()
                return
            with contextlib.suppress(OSError):  # the connection is lost; the next read notices it
                attached.flush()
            self._attached.append(attached)
        self.wake()

    def receive(self, seconds: float, most: int, *, submissions: bool = True) -> tuple[list[Received], list[Submitted]]:
        del submissions
        deadline = self._now() + seconds
        while True:
            until = min(deadline, self._next_tick) if most else deadline
            is_awake = self._exchange(0.0 if self._ready and most else max(0.0, until - self._now()))
            reports = [*self._take(most), *self._due_tick()] if most else []
            if reports or is_awake or self._now() >= deadline:
                return [Received(report) for report in reports], []

    def send(self, work: Sequence[Work]) -> None:
        touched: dict[str, MessageConnection] = {}
        for message in work:
            connection = self._connections.get(message.to)
            if connection is not None:
                connection.queue(frames.framed(messages.encode(message)))
                touched[message.to] = connection
        for connection in touched.values():
            self._flush(connection)

    def wake(self) -> None:
        with contextlib.suppress(OSError):  # the pipe is full, so `receive` wakes anyway; or it is closed
            self._wake_write.send(b"\0")

    def close(self) -> None:
        with self._lock:
            self._is_closed = True
        self._adopt()
        for connection in self._connections.values():
            with contextlib.suppress(OSError):
                connection.flush()
            connection.close()
        self._connections.clear()
        self._ready.clear()
        self._selector.close()
        self._wake_read.close()
        self._wake_write.close()

    def _exchange(self, seconds: float) -> bool:
        """Wait, and read and write what is possible. Returns whether `wake` was called."""
        is_awake = False
        is_tick_waiting = bool(self._ready) and self._now() >= self._next_tick
        for key, events in self._selector.select(seconds):
            if key.data is None:
                is_awake = True
                with contextlib.suppress(BlockingIOError):
                    self._wake_read.recv(2**12)
                continue
            if events & selectors.EVENT_WRITE:
                self._flush(key.data)
            if events & selectors.EVENT_READ and not is_tick_waiting:
                self._read(key.data)
        self._adopt()
        return is_awake

    def _adopt(self) -> None:
        with self._lock:
            attached, self._attached = self._attached, deque()
        for connection in attached:
            earlier = self._connections.pop(connection.session, None)
            if earlier is not None:
                self._read(earlier)
                self._drop(earlier)
            self._connections[connection.session] = connection
            if not self._is_closed:
                self._selector.register(connection.socket, connection.events(), connection)

    def _read(self, connection: MessageConnection) -> None:
        """Read, unless received messages still wait. Then the kernel holds further ones, and the worker waits."""
        if connection.received:
            return
        try:
            connection.read()
        except OSError as error:
            log.debug("session %s: %s", connection.session, error)
            self._drop(connection)
        if connection.received:
            self._ready.append(connection)
            self._watch(connection)

    def _flush(self, connection: MessageConnection) -> None:
        try:
            connection.flush()
        except OSError as error:
            log.debug("session %s: %s", connection.session, error)
            self._drop(connection)
        self._watch(connection)

    def _watch(self, connection: MessageConnection) -> None:
        """Register the events to wait for: no reading while received messages still wait."""
        if self._connections.get(connection.session) is not connection:
            return
        events = connection.events() & (~selectors.EVENT_READ if connection.received else -1)
        is_watched = connection.socket in self._selector.get_map()
        if is_watched and events:
            self._selector.modify(connection.socket, events, connection)
        elif is_watched:
            self._selector.unregister(connection.socket)
        elif events:
            self._selector.register(connection.socket, events, connection)

    def _drop(self, connection: MessageConnection) -> None:
        """Close a connection. Messages that were received over it are still returned."""
        if self._connections.get(connection.session) is connection:
            del self._connections[connection.session]
        with contextlib.suppress(KeyError, ValueError):
            self._selector.unregister(connection.socket)
        connection.close()

    def _take(self, most: int) -> list[Report]:
        """Return at most `most` reports, an equal share of each connection that has some."""
        reports: list[Report] = []
        for _ in range(len(self._ready)):
            connection = self._ready.popleft()
            share = max(1, (most - len(reports)) // (len(self._ready) + 1))
            reports.extend(self._decode(connection, min(share, most - len(reports))))
            if connection.received:
                self._ready.append(connection)
            else:
                self._watch(connection)
        return reports

    def _decode(self, connection: MessageConnection, most: int) -> Iterator[Report]:
        for _ in range(min(most, len(connection.received))):
            try:
                report = messages.decode_report(connection.received.popleft())
            except messages.DECODE_ERRORS as error:
                self._note_invalid(connection, str(error))
                continue
            if isinstance(report, Tick) or report.session != connection.session:
                self._note_invalid(connection, "it is of another session")
            else:
                yield report

    def _note_invalid(self, connection: MessageConnection, reason: str) -> None:
        self.invalid += 1
        if self.invalid <= _LOGGED:
            log.warning("a message of session %s was ignored: %s", connection.session, reason)

    def _due_tick(self) -> list[Tick]:
        """Return the tick if it is due, and all reports before it were returned."""
        if self._now() < self._next_tick or self._ready:
            return []
        self._ticks += 1
        self._next_tick = self._now() + self.tick_seconds
        return [Tick(dispatcher="", number=self._ticks)]

"""A worker's end of the transport over `STORAGE_DIR/jobs.sock`. After a broken connection it connects again."""

from __future__ import annotations

import logging
import os
import selectors
import time
from collections import deque
from collections.abc import Sequence
from pathlib import Path

import msgspec

from eventvault import data_folders
from eventvault.back_off import BackOff
from eventvault.errors import EventVaultError
from eventvault.jobs import messages
from eventvault.jobs.messages import Beat, Progressed, Report, Work
from eventvault.jobs.socket_connection import ATTACH, MessageConnection, attaching
from eventvault.jobs.transport import TransportAway
from eventvault.rpc import frames, sockets

log = logging.getLogger("jobs")

_ATTACH_SECONDS = 5.0
_RETRY_SECONDS = (0.02, 0.1, 0.3, 1.0)


class SocketWorkerTransport:
    """The worker's end, for one thread. `receive` also sends the waiting reports."""

    def __init__(self, storage_dir: Path) -> None:
        self._storage_dir = storage_dir
        self._session = ""
        self._connection: MessageConnection | None = None
        self._unsent: deque[bytes] = deque()
        self._selector = selectors.DefaultSelector()
        self._connections = 0
        self._back_off = BackOff(*_RETRY_SECONDS)

    def open(self, session: str) -> int:
        self._lose()
        self._session = session
        self._unsent.clear()
        self._connect()
        return 0

    def fileno(self) -> int:
        return self._selector.fileno()

    def connections(self) -> int:
        return self._connections

    def receive(self, seconds: float, most: int) -> list[Work]:
        deadline = time.monotonic() + seconds
        while True:
            if self._connection is None:
                self._connect_when_due()
            if self._connection is None:
                time.sleep(max(0.0, min(deadline - time.monotonic(), self._back_off.remaining)))
            else:
                idle = not self._connection.received
                self._exchange(max(0.0, deadline - time.monotonic()) if idle else 0.0)
                work = self._take(most)
                if work:
                    self._show_rest()
                    return work
            if time.monotonic() >= deadline:
                return []

    def report(self, reports: Sequence[Report]) -> None:
        for report in reports:
            if self._connection is not None:
                self._connection.queue(frames.framed(messages.encode(report)))
            elif not isinstance(report, Beat | Progressed):  # these are repeated anyway
                self._unsent.append(frames.framed(messages.encode(report)))
        self._flush()

    def is_open(self) -> bool:
        return self._connection is not None

    def close(self, seconds: float) -> None:
        deadline = time.monotonic() + seconds
        while self._connection is not None and self._connection.unsent and time.monotonic() < deadline:
            self._exchange(max(0.0, deadline - time.monotonic()))
        self._lose()
        self._selector.close()

    def _connect_when_due(self) -> None:
        if self._back_off.remaining:
            return
        try:
            self._connect()
        except TransportAway as error:
            log.debug("%s", error)
            self._back_off.fail()

    def _connect(self) -> None:
        try:
            connection = sockets.connect(self._storage_dir, _ATTACH_SECONDS, data_folders.JOBS_SOCKET)
        except OSError as error:
            raise _away(self._storage_dir, os.strerror(error.errno or 0)) from error
        try:
            frames.set_deadline(connection, _ATTACH_SECONDS)
            frames.send(connection, attaching.request(ATTACH, self._session))
            attached = MessageConnection(connection, self._session)
            connection.settimeout(_ATTACH_SECONDS)
            while not attached.received:
                attached.read()
            attaching.read_reply(ATTACH, attached.received.popleft())
            connection.setblocking(False)
        except (OSError, msgspec.MsgspecError, EventVaultError) as error:
            connection.close()
            raise _away(self._storage_dir, str(error) or type(error).__name__) from error
        self._connection = attached
        self._selector.register(connection, attached.events())
        self._connections += 1
        self._back_off.succeed()
        while self._unsent:
            attached.queue(self._unsent.popleft())
        self._flush()

    def _exchange(self, seconds: float) -> None:
        connection = self._connection
        if connection is None:
            return
        try:
            for _, events in self._selector.select(seconds):
                if events & selectors.EVENT_READ:
                    connection.read()
        except OSError as error:
            log.debug("lost the connection to the dispatcher: %s", error)
            self._lose()
        self._flush()

    def _flush(self) -> None:
        if self._connection is None:
            return
        try:
            self._connection.flush()
            self._selector.modify(self._connection.socket, self._connection.events())
        except OSError as error:
            log.debug("lost the connection to the dispatcher: %s", error)
            self._lose()

    def _take(self, most: int) -> list[Work]:
        work: list[Work] = []
        connection = self._connection
        while connection is not None and connection.received and len(work) < most:
            try:
                work.append(messages.decode_work(connection.received.popleft()))
            except messages.DECODE_ERRORS as error:
                log.warning("a message of the dispatcher was ignored: %s", error)
        return work

    def _show_rest(self) -> None:
        """Keep the descriptor readable while there are received messages that were not returned."""
        if self._connection is not None and self._connection.received:
            self._selector.modify(self._connection.socket, self._connection.events() | selectors.EVENT_WRITE)

    def _lose(self) -> None:
        """Close the connection. Reports that were not sent completely wait for the next one; repeats are harmless."""
        connection, self._connection = self._connection, None
        if connection is not None:
            self._unsent.extendleft(reversed(connection.unsent))
            self._selector.unregister(connection.socket)
            connection.close()


def _away(storage_dir: Path, reason: str) -> TransportAway:
    return TransportAway(f"no dispatcher answers at {storage_dir / data_folders.JOBS_SOCKET}: {reason}")

"""The store's side of the socket: it serves each connection in a thread, until the store ends or nobody needs it."""

from __future__ import annotations

import contextlib
import logging
import os
import socket
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from eventvault import data_folders, errors
from eventvault.database.large_reads import LARGE_READS
from eventvault.database.values import AppendResult
from eventvault.events.event import EventDraft
from eventvault.keyed_request import KeyedRequest
from eventvault.operations.caller import OperationBegun
from eventvault.rpc import frames, sockets
from eventvault.rpc.server import ConnectionServer, failure_of, no_descriptor
from eventvault.store.rpc import wire
from eventvault.store.service import StoreService

log = logging.getLogger("EventBus")

FIRST_LINGER_SECONDS = 20.0
"""How long a store waits for its first connection."""
_READS = frozenset({"get", "scan", "diff"})
"""Methods whose answer holds events: only one of them at a time may read large events."""
LINGER_SECONDS = 3.0
"""How long a store without connections waits before it ends, if no master of its service lives."""


class StoreServer:
    """Serves a StoreService on a Unix socket until it is asked to end, or until nobody is connected or will be.

    linger: False for a store that runs without connections too. owns: whether this process is still the owner.
    service_lives: whether the service lives: its workers may connect late on a busy machine. spawner: the process id of
    the parent, which connects first.
    """

    def __init__(
        self,
        service: StoreService,
        hello: wire.StoreHello,
        storage_dir: Path,
        *,
        linger: bool = True,
        owns: Callable[[], bool] = lambda: True,
        service_lives: Callable[[], bool] = lambda: False,
        spawner: int | None = None,
    ) -> None:
        self._event_log = service.event_log
        self._dispatch = service.dispatch
        self._hello = hello
        self._operations = service.operations
        self._storage_dir = storage_dir
        self._path = storage_dir / data_folders.SOCKET
        self._linger = linger
        self._owns = owns
        self._service_lives = service_lives
        self._spawner = spawner
        self._ended = threading.Event()
        self._service_ends = False
        self._connections = ConnectionServer(
            self._answer, self._event_log.release, refusal=wire.reply_error(no_descriptor("store"))
        )
        self._last_closed = self._connections.last_closed
        self._unused_since = time.monotonic() + FIRST_LINGER_SECONDS - LINGER_SECONDS

    def listen(self) -> socket.socket:
        """Return the listening socket. Raises OSError if it can be made neither in STORAGE_DIR nor elsewhere."""
        listener, self._path = sockets.listen(self._storage_dir)
        return listener

    def serve(self, listener: socket.socket) -> None:
        """Accept connections until `end`, until nobody is connected for a while, or until STORAGE_DIR is lost."""
        self._connections.serve(listener, self._is_over)
        if self._owns():
            sockets.remove(self._path)
        else:
            log.error("the store ends, because STORAGE_DIR was removed or replaced")
            self._ended.set()
        listener.close()

    def end(self) -> None:
        self._ended.set()

    @property
    def service_ends(self) -> bool:
        """Whether the service ends with this store, so that no other one takes over."""
        return self._service_ends or not self._linger or not self._belongs_to_service()

    def drain(self) -> None:
        """Wait until the requests that were read are answered, for some seconds at most."""
        self._connections.drain()

    def _is_over(self) -> bool:
        return self._ended.is_set() or self._unused() or not self._owns()

    def _unused(self) -> bool:
        closed = self._connections.last_closed
        if closed != self._last_closed:
            self._last_closed = self._unused_since = closed
        if not self._linger or self._belongs_to_service() or self._works_for_command():
            self._unused_since = time.monotonic()
            self._spawner = None
            return False
        if self._spawner is not None and self._spawner != os.getppid():
            # The process that started this store ended before it connected; the service may have ended too.
            self._spawner = None
            self._unused_since = min(self._unused_since, time.monotonic())
        return time.monotonic() - self._unused_since > LINGER_SECONDS

    def _belongs_to_service(self) -> bool:
        return self._connections.has_connections or self._service_lives()

    def _works_for_command(self) -> bool:
        """Return whether this is a store of a command in which an operation runs: the command need not wait for it."""
        return self._hello.mode == "command" and self._operations.is_busy

    def _answer(self, connection: socket.socket, frame: bytes, holder: object) -> None:
        method, arguments = wire.read_request(frame)
        if method == "append":
            self._append(connection, *arguments)
            return
        try:
            with LARGE_READS.answering() if method in _READS else contextlib.nullcontext():
                answer = wire.reply(self._call(method, arguments, holder))
        except OperationBegun as begun:
            answer = wire.reply_begun(begun.operation_id)
        except errors.EventVaultError as error:
            self._drop_if_stopping(error)
            answer = wire.reply_error(error)
        except Exception as error:  # noqa: BLE001 - the caller gets it as an answer
            answer = wire.reply_error(failure_of(method, error, log))
        frames.send(connection, answer)

    def _append(
        self, connection: socket.socket, drafts: list[EventDraft], request: KeyedRequest | None, nonce: bytes
    ) -> None:
        """Append; the committer's thread sends the reply, which saves a switch of threads for each append."""

        def done(answer: AppendResult | errors.EventVaultError) -> None:
            with contextlib.suppress(OSError):
                if isinstance(answer, errors.StoreStopping):
                    connection.shutdown(socket.SHUT_RDWR)
                elif isinstance(answer, errors.EventVaultError):
                    _send_soon(connection, wire.reply_error(answer))
                else:
                    _send_soon(connection, wire.reply(answer))

        self._event_log.submit(drafts, nonce, done, request)

    def _drop_if_stopping(self, error: errors.EventVaultError) -> None:
        """Close the connection if the store ends: the client sends the request again, and the next store answers it."""
        if isinstance(error, errors.StoreStopping | errors.Cancelled) and self._ended.is_set():
            raise ConnectionAbortedError(str(error))

    def _call(self, method: str, arguments: tuple[Any, ...], holder: object) -> Any:
        """Answer the methods of the connection here; the owners of the ports answer all others."""
        if method == "hello":
            return self._hello
        if method == "ping":
            return None
        if method == "end":
            return self._end_for(arguments[0])
        if method == "lease_generation":
            self._event_log.lease_generation(arguments[0], holder)
            return None
        return self._dispatch.answer(method, arguments)

    def _end_for(self, service: str) -> bool:
        """End if this store belongs to that service start, or if `service` is empty. Returns whether it ends."""
        if service and service != self._hello.service:
            return False
        self._service_ends = bool(service)
        self.end()
        return True


def _send_soon(connection: socket.socket, body: bytes) -> None:
    """Send without waiting: another thread sends what the other end does not accept at once.

    A caller that is stopped or reads slowly must not block the committer for all others.
    """
    frame = frames.framed(body)
    try:
        sent = connection.send(frame, socket.MSG_DONTWAIT)
    except BlockingIOError:
        sent = 0
    if sent < len(frame):
        threading.Thread(target=_send_rest, args=(connection, frame[sent:]), daemon=True, name="slow reader").start()


def _send_rest(connection: socket.socket, rest: bytes) -> None:
    with contextlib.suppress(OSError):
        connection.sendall(rest)

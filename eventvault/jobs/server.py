"""The dispatcher's side of `jobs.sock`: answers the port `Jobs`, and hands workers' connections to the transport."""

from __future__ import annotations

import logging
import socket
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from eventvault import data_folders, errors
from eventvault.jobs import wire
from eventvault.jobs.port import Jobs
from eventvault.jobs.socket_connection import ATTACH
from eventvault.rpc import frames, sockets
from eventvault.rpc.server import ConnectionServer, HandedOver, failure_of, no_descriptor

log = logging.getLogger("jobs")

LINGER_SECONDS = 8.0
"""How long a dispatcher without a connected store waits for one before it ends."""


class JobsServer:
    """Serves the port until it is asked to end, or until no store has been connected for a while.

    jobs: returns the port, or raises why it cannot be served now. hello: returns the dispatcher's identity. attach:
    receives a session, its connection, and the reply to send. owns: returns whether this process still owns `jobs_db`.
    """

    def __init__(
        self,
        jobs: Callable[[], Jobs],
        hello: Callable[[], wire.DispatcherHello],
        attach: Callable[[str, socket.socket, bytes], None],
        *,
        owns: Callable[[], bool] = lambda: True,
    ) -> None:
        self._jobs = jobs
        self._hello = hello
        self._attach = attach
        self._owns = owns
        self._ended = threading.Event()
        self._keepers: set[object] = set()
        """Connections of stores, which call `hello` again and again."""
        self._unused_since = time.monotonic()
        self._connections = ConnectionServer(
            self._answer, self._forget, refusal=wire.reply_error(no_descriptor("dispatcher of jobs"))
        )

    def serve(self, storage_dir: Path, on_listening: Callable[[], None] = lambda: None) -> None:
        """Listen and answer. Raises OSError if a socket can be made neither in STORAGE_DIR nor elsewhere."""
        listener, path = sockets.listen(storage_dir, data_folders.JOBS_SOCKET)
        on_listening()
        self._connections.serve(listener, self._is_over)
        if self._owns():
            sockets.remove(path)
        else:
            log.error("the dispatcher of jobs ends because STORAGE_DIR was removed or replaced")
        listener.close()

    def end(self) -> None:
        self._ended.set()

    def drain(self) -> None:
        """Wait, within a limit, until the requests that were read are answered."""
        self._connections.drain()

    def _is_over(self) -> bool:
        if self._keepers:
            self._unused_since = time.monotonic()
        return self._ended.is_set() or not self._owns() or time.monotonic() - self._unused_since > LINGER_SECONDS

    def _forget(self, holder: object) -> None:
        self._keepers.discard(holder)

    def _answer(self, connection: socket.socket, frame: bytes, holder: object) -> None:
        method, arguments = wire.read_request(frame)
        if method == ATTACH:
            self._attach(arguments[0], connection, wire.reply(None))
            raise HandedOver
        try:
            answer = wire.reply(self._call(method, arguments, holder))
        except errors.EventVaultError as error:
            answer = wire.reply_error(error)
        except Exception as error:  # noqa: BLE001 - the caller gets it as an answer
            answer = wire.reply_error(failure_of(method, error, log))
        frames.send(connection, answer)

    def _call(self, method: str, arguments: tuple[Any, ...], holder: object) -> Any:
        if method == "hello":
            self._keepers.add(holder)
            return self._hello()
        if method == "end":
            return self._end_for(arguments[0])
        return getattr(self._jobs(), method)(*arguments)

    def _end_for(self, service: str) -> bool:
        """End if this dispatcher belongs to that service start, or if `service` is empty. Returns whether it ends."""
        if service and service != self._hello().service:
            return False
        self.end()
        return True

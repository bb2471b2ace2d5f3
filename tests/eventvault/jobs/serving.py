"""The dispatcher's server at the socket of a folder, for tests of what asks it."""

from __future__ import annotations

import socket
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from pathlib import Path
from threading import Event, Thread
from typing import Any

from eventvault import data_folders
from eventvault.jobs import wire
from eventvault.jobs.server import JobsServer
from eventvault.rpc import frames, sockets

PATIENCE_SECONDS = 90.0


@contextmanager
def store_connected(storage: Path) -> Iterator[None]:
    """Be the store of a dispatcher in the block: without one it ends after some seconds, however slow the test is."""
    with sockets.connect(storage, PATIENCE_SECONDS, data_folders.JOBS_SOCKET) as connection:
        frames.send(connection, wire.request("hello"))
        frames.receive(connection)
        yield


def nobody() -> Any:
    raise AssertionError("nobody asks for jobs")


@contextmanager
def serving(
    storage: Path,
    jobs: Callable[[], Any] = nobody,
    attach: Callable[[str, socket.socket, bytes], None] = lambda _, connection, __: connection.close(),
    service: str = "service",
    *,
    has_store: bool = True,
) -> Iterator[JobsServer]:
    """Run a server that asks `jobs`, and hands the connections of workers to `attach`."""
    hello = wire.DispatcherHello(wire.PROTOCOL, "", 1, service, 0.0)
    server = JobsServer(jobs, lambda: hello, attach)
    is_listening = Event()
    thread = Thread(target=server.serve, args=(storage, is_listening.set))
    thread.start()
    try:
        assert is_listening.wait(PATIENCE_SECONDS)
        with store_connected(storage) if has_store else nullcontext():
            yield server
    finally:
        server.end()
        thread.join(PATIENCE_SECONDS)

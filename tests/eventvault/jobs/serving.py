"""The dispatcher's server at the socket of a folder, for tests of what asks it."""

from __future__ import annotations

import socket
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from threading import Event, Thread
from typing import Any

from eventvault.jobs import wire
from eventvault.jobs.server import JobsServer

PATIENCE_SECONDS = 90.0


def nobody() -> Any:
    raise AssertionError("nobody asks for jobs")


@contextmanager
def serving(
    storage: Path,
    jobs: Callable[[], Any] = nobody,
    attach: Callable[[str, socket.socket, bytes], None] = lambda _, connection, __: connection.close(),
    service: str = "service",
) -> Iterator[JobsServer]:
    """Run a server that asks `jobs`, and hands the connections of workers to `attach`."""
    hello = wire.Hello(wire.PROTOCOL, "", 1, service, 0.0)
    server = JobsServer(jobs, lambda: hello, attach)
    is_listening = Event()
    thread = Thread(target=server.serve, args=(storage, is_listening.set))
    thread.start()
    try:
        assert is_listening.wait(PATIENCE_SECONDS)
        yield server
    finally:
        server.end()
        thread.join(PATIENCE_SECONDS)

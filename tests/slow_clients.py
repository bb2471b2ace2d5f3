"""Clients that keep a server waiting: each kind by its name, as a function that opens one connection to a port."""

from __future__ import annotations

import socket
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress

LARGE_PAGE = "/api/events?limit=1000&type=large"
"""The address of a page that no socket buffer holds, once `large_events` were posted."""

_POST = b"POST /api/events HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
_UPLOAD = b"POST /api/backup/upload?name=slow-%d.tar.gz HTTP/1.1\r\nHost: localhost\r\n"
_PAGE = f"GET {LARGE_PAGE} HTTP/1.1\r\nHost: localhost\r\n\r\n".encode()
_SHORT = b"GET /api/events?limit=1 HTTP/1.1\r\nHost: localhost\r\n\r\n"
_HEALTH = b"GET /api/health HTTP/1.1\r\nHost: localhost\r\n\r\n"
_LONG = b"x" * 70_000

_SENT: dict[str, Callable[[int], bytes]] = {
    "idle connections": lambda _: b"",
    "request lines": lambda _: b"GET /api/ev",
    "heads": lambda _: b"GET /api/events HTTP/1.1\r\nHost: localhost\r\nX-Slow: ",
    "bodies": lambda _: _POST + b"Content-Length: 100\r\n\r\n{",
    "long bodies": lambda _: _POST + b"Content-Length: 1000000\r\n\r\n" + _LONG,
    "chunked bodies": lambda _: _POST + b"Transfer-Encoding: chunked\r\n\r\n50\r\n{",
    "long chunked bodies": lambda _: _POST + b"Transfer-Encoding: chunked\r\n\r\nFFFFFF\r\n" + _LONG,
    "bodies that were asked for": lambda _: _POST + b"Content-Length: 100\r\nExpect: 100-continue\r\n\r\n",
    "health with a body": lambda _: _HEALTH[:-2] + b"Content-Length: 100\r\n\r\n{",
    "uploads": lambda number: _UPLOAD % number + b"Content-Length: 1000000\r\n\r\n" + _LONG,
    "chunked uploads": lambda number: _UPLOAD % number + b"Transfer-Encoding: chunked\r\n\r\nFFFFFF\r\n" + _LONG,
    "unread pages": lambda _: _PAGE,
    "unread exports": lambda _: b"GET /api/events/export HTTP/1.1\r\nHost: localhost\r\n\r\n",
    "many unread answers": lambda _: _SHORT * 400,
}
KINDS = tuple(_SENT)


def large_events() -> list[dict[str, object]]:
    """8 MB of events."""
    return [{"type": "large", "data": "x" * 8_000} for _ in range(1000)]


@contextmanager
def connected(port: int, kind: str, count: int) -> Iterator[list[socket.socket]]:
    """Open `count` connections of a kind, and close them at the end."""
    with ExitStack() as opened:
        yield [opened.enter_context(_open(port, _SENT[kind](number))) for number in range(count)]


def _open(port: int, sent: bytes) -> socket.socket:
    client = socket.socket()
    client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    client.settimeout(30)
    client.connect(("127.0.0.1", port))
    client.setblocking(False)
    with suppress(BlockingIOError):
        client.send(sent)
    return client

"""Many open pages without many browsers: what one real page asks for is recorded, and asked for as many ask."""

from __future__ import annotations

import selectors
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from typing import Any
from urllib.parse import urlsplit

from benchmarks.load import Load, http_request
from benchmarks.load import measure as put_under_load
from tests.service import Service

STREAM = "/api/changes/stream"
RECORD_SECONDS = 30.0
"""Longer than the longest pause between two looks of the overview."""
_SENT = frozenset({"accept", "cache-control"})
"""The headers of a page's request that are sent as they were."""
_HEADERS = {"accept-encoding": "gzip, deflate, br"}
"""What a browser adds later, so that it is not recorded. Without `If-None-Match`: beside posts nearly all is new."""


class OpenPages:
    """As many open overviews as `count`. asked: the requests of one of them in `seconds`, without its stream."""

    def __init__(self, count: int, asked: list[bytes], seconds: float) -> None:
        self.count = count
        self._asked = asked
        self.rate = count * len(asked) / seconds

    def ask(self, port: int, seconds: float) -> Load:
        return put_under_load(port, self._asked, clients=self.count, seconds=seconds, rate=self.rate)


def record(page: Any, base: str, count: int, seconds: float = RECORD_SECONDS) -> OpenPages:
    """Open the overview, and note what it asks for once it is there."""
    asked: list[bytes] = []

    def note(request: Any) -> None:
        address = urlsplit(request.url)
        if address.path.startswith("/api/") and address.path != STREAM:
            headers = _HEADERS | {name: text for name, text in request.headers.items() if name in _SENT}
            asked.append(http_request(request.method, f"{address.path}?{address.query}".rstrip("?"), headers=headers))

    page.goto(f"{base}/")
    page.get_by_text("up to", exact=False).first.wait_for()
    page.on("request", note)
    page.wait_for_timeout(seconds * 1e3)
    return OpenPages(count, asked, seconds)


@contextmanager
def streams(service: Service, count: int) -> Iterator[None]:
    """Follow what changes on `count` connections, as that many browsers do."""
    ended = threading.Event()
    with ExitStack() as stack, selectors.DefaultSelector() as waiting:
        for _ in range(count):
            connection = stack.enter_context(socket.create_connection(("127.0.0.1", service.port), timeout=60))
            connection.sendall(http_request("GET", STREAM))
            begin = connection.recv(65_536)
            if not begin.startswith(b"HTTP/1.1 200"):
                raise RuntimeError(f"a stream was refused: {begin[:200]!r}")
            waiting.register(connection, selectors.EVENT_READ, connection)
        thread = threading.Thread(target=_drain, args=(waiting, ended))
        thread.start()
        try:
            yield
        finally:
            ended.set()
            thread.join(60)


def _drain(waiting: selectors.BaseSelector, ended: threading.Event) -> None:
    while not ended.is_set():
        for key, _ in waiting.select(0.2):
            if not key.data.recv(65_536):
                waiting.unregister(key.data)
        time.sleep(0.05)  # many messages in one go cost the machine less than each by itself

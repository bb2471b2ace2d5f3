"""A server behind a proxy that a test can pause and inspect."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

PATIENCE = 90


class Upstream(ThreadingHTTPServer):
    """Answers GET with two lines, the second once `proceed` is set, and records how much of a POST has arrived."""

    daemon_threads = True
    block_on_close = False

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.proceed = threading.Event()
        self.half = threading.Event()
        self.requests: list[tuple[str, dict[str, str], int]] = []


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: Upstream

    def do_GET(self) -> None:
        self.server.requests.append((self.path, dict(self.headers), 0))
        self.send_response(200)
        self.send_header("Transfer-Encoding", "chunked")
        self.end_headers()
        self.chunk(b"first\n")
        self.server.proceed.wait(PATIENCE)
        self.chunk(b"second\n")
        self.chunk(b"")

    def do_POST(self) -> None:
        length = int(self.headers["Content-Length"])
        if self.path == "/hang-up":
            self.server.requests.append((self.path, dict(self.headers), len(self.rfile.read(length))))
            self.close_connection = True
            return
        received = len(self.rfile.read(length // 2))
        self.server.half.set()
        received += len(self.rfile.read(length - received))
        self.server.requests.append((self.path, dict(self.headers), received))
        self.send_response(413 if self.path == "/refuse" else 201)
        self.send_header("Content-Length", "4")
        self.end_headers()
        self.wfile.write(b"done")

    def chunk(self, content: bytes) -> None:
        self.wfile.write(b"%x\r\n%s\r\n" % (len(content), content))
        self.wfile.flush()

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def upstream() -> Iterator[Upstream]:
    with Upstream() as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.02,))
        thread.start()
        yield server
        server.proceed.set()
        server.shutdown()
        thread.join()

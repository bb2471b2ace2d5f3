"""Slow clients in front of real gunicorn: they get their deadlines, and nobody else notices them."""

from __future__ import annotations

import json
import re
import socket
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from functools import partial
from pathlib import Path

import pytest

from app.gunicorn_worker import LINGER_SECONDS
from tests import processes
from tests.app.test_gunicorn import Server
from tests.slow_clients import KINDS, LARGE_PAGE, connected, large_events
from tests.stores import folders_beneath

pytestmark = pytest.mark.slow

COUNT = 130
Connections = Callable[[int, str, int], object]
POST = b"POST /api/events HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"


def started(folder: Path, **environment: str) -> Server:
    limits = {"WEB_CONCURRENCY": "1", "MAX_BODY_BYTES": "10000000", **environment}
    running = Server({**folders_beneath(folder), **limits}, folder)
    processes.wait_until(running.ready, "gunicorn does not answer")
    assert running.ask("POST", "/api/events", json.dumps(large_events()).encode())[0] == 201
    return running


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    running = started(tmp_path_factory.mktemp("slow"))
    yield running
    running.stop()


@pytest.fixture(scope="module")
def hasty(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """A server whose deadlines are a tenth: one and a half seconds for a request."""
    running = started(tmp_path_factory.mktemp("hasty"), DIVIDE_DEADLINES="10")
    yield running
    running.stop()


@pytest.mark.parametrize("kind", KINDS)
def test_health_and_short_requests_are_answered_whatever_others_do(server: Server, kind: str) -> None:
    with connected(server.port, kind, COUNT):
        for path in ("live", "ready", "live"):
            assert server.ask("GET", f"/api/health/{path}", timeout=10)[0] == 200
        assert server.ask("GET", "/api/health", timeout=10)[0] == 200
        post = partial(server.ask, "POST", "/api/events", b'{"type":"a"}', timeout=25)
        get = partial(server.ask, "GET", "/api/events?limit=1", timeout=25)
        processes.wait_until(lambda: answers(post, 201), "events cannot be posted", 60)
        processes.wait_until(lambda: answers(get, 200), "events cannot be read", 60)


def answers(ask: Callable[[], tuple[int, bytes]], status: int) -> bool:
    """Send a request. On a busy machine, the large pages before it may take longer than it waits for a thread."""
    found, body = ask()
    assert found == status or (found, json.loads(body)["code"]) == (503, "too_busy"), body
    return found == status


@pytest.fixture
def connections() -> Iterator[Connections]:
    """Call it to open connections of a kind, which are closed after the test."""
    with ExitStack() as opened:
        yield lambda port, kind, count: opened.enter_context(connected(port, kind, count))


def read_all(connection: socket.socket) -> bytes:
    return b"".join(iter(lambda: connection.recv(65536), b""))


def answer_of(server: Server, *pieces: bytes, pause: float = 0.0) -> tuple[int, str]:
    """The status and code of the answer to a request that is sent in pieces; (0, "") if there is none."""
    with socket.create_connection(("127.0.0.1", server.port), timeout=60) as connection:
        received = bytearray()
        try:
            for piece in pieces:
                connection.sendall(piece)
                time.sleep(pause)
            while part := connection.recv(65536):
                received += part
        except ConnectionError:
            pass
    head, _, body = bytes(received).partition(b"\r\n\r\n")
    return (int(head.split()[1]), json.loads(body).get("code", "")) if body else (0, "")


@pytest.mark.parametrize(
    "sent",
    [
        b"GET /api/ev",
        b"GET / HTTP/1.1\r\nHost: localhost\r\n",
        POST + b"Content-Length: 100\r\n\r\n{",
        POST + b"Transfer-Encoding: chunked\r\n\r\n5\r\n{",
        POST + b"Content-Length: 1000000\r\n\r\n" + b" " * 70_000,
        POST + b"Transfer-Encoding: chunked\r\n\r\nFFFFFF\r\n" + b" " * 70_000,
    ],
)
def test_a_request_that_does_not_arrive_is_answered_with_408(hasty: Server, sent: bytes) -> None:
    assert answer_of(hasty, sent) == (408, "timeout")


def test_a_connection_without_a_request_is_closed(hasty: Server) -> None:
    assert answer_of(hasty, b"") == (0, "")
    assert answer_of(hasty, b"\r\n\r\n") == (0, "")


def test_a_body_that_trickles_is_not_waited_for(hasty: Server) -> None:
    pieces = [POST + b"Content-Length: 100\r\n\r\n", *[b" "] * 60]
    assert answer_of(hasty, *pieces, pause=0.05) in ((408, "timeout"), (0, ""))


def test_a_body_that_is_fast_enough_is_waited_for(hasty: Server) -> None:
    body = b'{"type":"' + b"a" * 40_000 + b'"}'
    head = POST + b"Connection: close\r\nContent-Length: %d\r\n\r\n" % len(body)
    pieces = [body[at : at + 1000] for at in range(0, len(body), 1000)]
    assert answer_of(hasty, head, *pieces, pause=0.05)[0] == 422  # a type that is too long: it was read to its end


def test_a_client_that_still_sends_a_body_that_was_refused_gets_the_answer(server: Server) -> None:
    with socket.create_connection(("127.0.0.1", server.port), timeout=60) as connection:
        connection.sendall(POST + b"Content-Length: 20000000\r\n\r\n")
        until = time.monotonic() + 2 * LINGER_SECONDS
        while time.monotonic() < until:
            connection.sendall(b" " * 10_000)
            time.sleep(0.05)
        connection.shutdown(socket.SHUT_WR)
        assert read_all(connection).startswith(b"HTTP/1.1 413 ")


def test_a_client_that_takes_nothing_is_disconnected(hasty: Server) -> None:
    with socket.create_connection(("127.0.0.1", hasty.port), timeout=60) as connection:
        connection.sendall(f"GET {LARGE_PAGE} HTTP/1.1\r\nHost: localhost\r\n\r\n".encode())
        processes.wait_until(lambda: "took nothing of its answer" in hasty.log.read_text(), "it is still waited for")
        with pytest.raises(ConnectionResetError):
            read_all(connection)


def test_requests_on_one_connection_are_answered_in_order(server: Server) -> None:
    sent = POST + b'Content-Length: 12\r\n\r\n{"type":"a"}' + b"GET /nowhere HTTP/1.1\r\nHost: localhost\r\n\r\n"
    last = b"GET /api/health/live HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n"
    with socket.create_connection(("127.0.0.1", server.port), timeout=60) as connection:
        for at in range(0, len(sent), 7):
            connection.sendall(sent[at : at + 7])
        connection.sendall(last)
        received = read_all(connection)
    assert re.findall(rb"HTTP/1\.1 (\d+)", received) == [b"201", b"404", b"200"]


def test_a_client_that_does_not_close_its_connection_delays_nobody(server: Server) -> None:
    refused = b"GET / HTTP/1.1\r\nBad Name: x\r\n\r\n"
    with connected(server.port, "idle connections", 30) as connections:
        for connection in connections:
            connection.send(refused)
        assert server.ask("GET", "/api/health/live", timeout=10)[0] == 200


def test_the_connection_that_waited_longest_makes_room_for_a_new_one(
    tmp_path: Path, settings_environment: dict[str, str]
) -> None:
    limits = {"WEB_CONCURRENCY": "1", "GUNICORN_CMD_ARGS": "--worker-connections 50"}
    running = Server({**settings_environment, **limits}, tmp_path)
    try:
        processes.wait_until(running.ready, "gunicorn does not answer")
        with connected(running.port, "idle connections", 120):
            assert running.ask("GET", "/api/health/live", timeout=10)[0] == 200
    finally:
        running.stop()


@pytest.mark.parametrize("kinds", [("heads", "bodies", "chunked bodies"), ("long bodies", "uploads", "unread pages")])
def test_a_stop_does_not_wait_for_slow_clients(
    tmp_path: Path, kinds: tuple[str, ...], connections: Connections
) -> None:
    running = started(tmp_path)
    try:
        for kind in kinds:
            connections(running.port, kind, 30)
        assert running.ask("GET", "/api/health/live", timeout=10)[0] == 200
        began = time.monotonic()
    finally:
        status = running.stop()
    assert status == 0
    assert time.monotonic() - began < 30, "graceful_timeout is 60 s, and the promise for slow clients is 5"

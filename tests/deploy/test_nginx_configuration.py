"""The container's nginx configuration in front of an upstream that a test can pause and inspect."""

from __future__ import annotations

import http.client
import json
import re
import select
import socket
import threading
from collections.abc import Callable
from contextlib import ExitStack

import pytest

from tests.nginx import CONFIGURATION
from tests.ports import free_port
from tests.processes import wait_until
from tests.upstream import PATIENCE, Upstream

STREAMS = [
    "/api/events/export",
    "/api/events/stream",
    "/api/backup/backup_2024-12-27_120000.tar.gz/download",
    "/api/operations/0190/events",
]


@pytest.fixture
def front(nginx: Callable[..., int], upstream: Upstream) -> int:
    """The port of nginx in front of `upstream`."""
    return nginx(upstream.server_port)


def connect(port: int) -> http.client.HTTPConnection:
    return http.client.HTTPConnection("127.0.0.1", port, timeout=PATIENCE)


def exchange(port: int, sent: bytes) -> bytes:
    """Send raw bytes, and return what arrives until the other side closes."""
    with socket.create_connection(("127.0.0.1", port), timeout=PATIENCE) as connection:
        connection.sendall(sent)
        received = b""
        while piece := connection.recv(65536):
            received += piece
        return received


@pytest.mark.parametrize("path", STREAMS)
def test_a_stream_reaches_the_client_as_it_is_made(front: int, upstream: Upstream, path: str) -> None:
    connection = connect(front)
    connection.request("GET", path)
    answer = connection.getresponse()
    assert answer.readline() == b"first\n"
    assert not upstream.proceed.is_set()
    upstream.proceed.set()
    assert answer.read() == b"second\n"
    connection.close()


def test_an_upload_reaches_the_service_while_it_is_being_sent(front: int, upstream: Upstream) -> None:
    size = 4 * 2**20
    connection = connect(front)
    connection.putrequest("POST", "/api/backup/upload?name=x.tar.gz")
    connection.putheader("Content-Length", str(size))
    connection.endheaders()
    connection.send(b"x" * (size - 1))
    assert upstream.half.wait(PATIENCE), "nginx keeps the body until it has all of it"
    connection.send(b"x")
    assert connection.getresponse().status == 201
    assert upstream.requests[0][2] == size
    connection.close()


def test_the_host_of_the_client_is_passed_on_with_its_port(front: int, upstream: Upstream) -> None:
    upstream.proceed.set()
    connection = connect(front)
    connection.request("GET", "/", headers={"Host": "vault.example:8443", "X-Forwarded-For": "10.1.1.1"})
    connection.getresponse().read()
    (_, headers, _) = upstream.requests[0]
    assert headers["Host"] == "vault.example:8443"
    assert headers["X-Forwarded-For"] == "127.0.0.1", "a client must not be able to say who it is"
    connection.close()


def test_an_error_of_the_service_passes_unchanged(front: int) -> None:
    connection = connect(front)
    connection.request("POST", "/refuse", body=b"xx")
    answer = connection.getresponse()
    assert (answer.status, answer.read()) == (413, b"done")
    connection.close()


def test_a_service_that_is_down_is_reported_in_the_error_form(nginx: Callable[..., int]) -> None:
    connection = connect(nginx(free_port()))
    connection.request("GET", "/api/health")
    answer = connection.getresponse()
    assert (answer.status, answer.headers["Retry-After"]) == (503, "1")
    assert answer.headers["Content-Type"] == "application/json"
    error = json.loads(answer.read())
    assert error["success"] is False
    assert error["code"] == "service_unavailable"
    assert error["hint"]
    connection.close()


def test_a_post_that_gets_no_answer_is_not_retried(nginx: Callable[..., int]) -> None:
    sockets = [socket.create_server(("127.0.0.1", 0)) for _ in range(3)]
    arrived: list[int] = []

    def hang_up(server: socket.socket) -> None:
        while True:
            connection, _ = server.accept()
            with connection:
                head = connection.recv(65536)
                if not head:
                    return
                arrived.append(server.getsockname()[1])

    threads = [threading.Thread(target=hang_up, args=(server,)) for server in sockets]
    for thread in threads:
        thread.start()
    connection = connect(nginx(*(server.getsockname()[1] for server in sockets)))
    connection.request("POST", "/api/events", body=b'{"type": "once"}')
    answer = connection.getresponse()
    assert (answer.status, json.loads(answer.read())["code"]) == (502, "outcome_unknown")
    assert len(arrived) == 1
    connection.close()
    for server, thread in zip(sockets, threads, strict=True):
        socket.create_connection(server.getsockname()).close()
        thread.join()
        server.close()


@pytest.mark.parametrize(
    "sent",
    [
        b"GET / HTTP/1.1\r\nHost: a b c\r\nConnection: close\r\n\r\n",
        b"GET / HTTP/1.1\r\nConnection: close\r\n\r\n",
        b"\x16\x03\x01 no HTTP at all\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: localhost\r\nX-Large: " + b"x" * 140_000 + b"\r\nConnection: close\r\n\r\n",
    ],
    ids=["bad host", "no host", "not HTTP", "large header"],
)
def test_an_invalid_request_gets_the_error_form(front: int, sent: bytes) -> None:
    head, _, body = exchange(front, sent).partition(b"\r\n\r\n")
    assert head.startswith(b"HTTP/1.1 400 ")
    assert json.loads(body)["code"] == "malformed"


def test_the_longest_id_and_source_are_passed_on(front: int, upstream: Upstream) -> None:
    upstream.proceed.set()
    address = f"/api/events?id={'%F0%9F%97%84' * 2048}&source={'%F0%9F%97%84' * 2048}"
    connection = connect(front)
    connection.request("GET", address)
    assert connection.getresponse().status == 200
    assert upstream.requests[0][0] == address
    connection.close()


def test_an_address_that_is_too_long_gets_the_error_form(front: int) -> None:
    line = b"GET /" + b"x" * 140_000 + b" HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n"
    head, _, body = exchange(front, line).partition(b"\r\n\r\n")
    assert head.startswith(b"HTTP/1.1 414 ")
    assert json.loads(body)["code"] == "uri_too_long"


def test_a_backup_that_answers_after_minutes_is_waited_for_and_health_is_not() -> None:
    waited = re.findall(r"(?m)^\s*proxy_read_timeout (\w+);", CONFIGURATION.read_text())
    assert waited == ["1h", "60s", "10s"]


@pytest.mark.parametrize("method", ["GET", "POST", "DELETE"])
def test_a_request_that_was_sent_and_not_answered_has_an_unknown_outcome(
    nginx: Callable[..., int], method: str
) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        connection = connect(nginx(listener.getsockname()[1]))
        connection.request(method, "/api/backup/create", body=b"{}")
        accepted, _ = listener.accept()
        accepted.recv(65536)
        accepted.close()
        answer = connection.getresponse()
        error = json.loads(answer.read())
        connection.close()
    assert (answer.status, error["code"], error["success"]) == (502, "outcome_unknown", False)


def test_a_connection_that_is_not_accepted_was_sent_nothing(nginx: Callable[..., int]) -> None:
    """The listener's queue is full, so the connection is not established within proxy_connect_timeout."""
    with ExitStack() as opened:
        listener = opened.enter_context(socket.socket())
        listener.bind(("127.0.0.1", 0))
        listener.listen(0)
        for _ in range(3):
            waiting = opened.enter_context(socket.socket())
            waiting.setblocking(False)
            waiting.connect_ex(listener.getsockname())
        port = nginx(listener.getsockname()[1])
        for path in ("/api/health", "/api/events"):
            connection = connect(port)
            connection.request("GET", path)
            answer = connection.getresponse()
            assert (answer.status, json.loads(answer.read())["code"]) == (503, "service_unavailable")
            connection.close()


def test_a_body_reaches_the_service_once_nginx_has_all_of_it(front: int, upstream: Upstream) -> None:
    connection = connect(front)
    connection.putrequest("POST", "/api/events")
    connection.putheader("Content-Length", "1000")
    connection.endheaders()
    connection.send(b"x" * 999)
    assert not upstream.half.wait(0.5)
    connection.send(b"x")
    assert connection.getresponse().status == 201
    connection.close()


def test_a_body_that_nginx_does_not_pass_on_is_refused_in_the_error_form(front: int) -> None:
    connection = connect(front)
    connection.putrequest("POST", "/api/events")
    connection.putheader("Content-Length", "99999999")
    connection.endheaders()
    answer = connection.getresponse()
    assert (answer.status, json.loads(answer.read())["code"]) == (413, "too_large")
    connection.close()


def test_one_address_cannot_take_all_uploads_and_health_is_never_limited(front: int, upstream: Upstream) -> None:
    upload = b"POST /api/backup/upload?name=x HTTP/1.1\r\nHost: a\r\nContent-Length: 100\r\nConnection: close\r\n\r\n"
    with ExitStack() as opened:
        uploads = [
            opened.enter_context(socket.create_connection(("127.0.0.1", front), timeout=PATIENCE)) for _ in range(12)
        ]
        for each in uploads:
            each.sendall(upload)

        def answered() -> list[socket.socket]:
            return select.select(uploads, [], [], 0)[0]

        wait_until(lambda: len(answered()) == 4, "not all but eight uploads are refused")
        for refused in answered():
            head, _, body = refused.recv(65536).partition(b"\r\n\r\n")
            assert head.startswith(b"HTTP/1.1 503 ")
            assert json.loads(body)["code"] == "too_busy"
        upstream.proceed.set()
        connection = connect(front)
        connection.request("GET", "/api/health/live")
        assert connection.getresponse().status == 200
        connection.close()


def test_a_request_of_http_1_0_without_a_host_is_passed_on(front: int, upstream: Upstream) -> None:
    upstream.proceed.set()
    assert exchange(front, b"GET / HTTP/1.0\r\n\r\n").startswith(b"HTTP/1.1 200 ")
    assert upstream.requests[0][1]["Host"] == "localhost"


@pytest.mark.soak
def test_an_answer_that_takes_longer_than_nginx_waits_by_default_arrives(front: int, upstream: Upstream) -> None:
    connection = http.client.HTTPConnection("127.0.0.1", front, timeout=200)
    connection.request("GET", "/api/backup/create")
    timer = threading.Timer(70, upstream.proceed.set)
    timer.start()
    assert connection.getresponse().read() == b"first\nsecond\n"
    timer.join()
    connection.close()

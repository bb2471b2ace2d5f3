"""Streams behind real gunicorn, on the in-memory store: they hold no thread, and what is open has bounds."""

from __future__ import annotations

import http.client
import json
import socket
import time
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest
from prometheus_client.parser import text_string_to_metric_families

from app.edge import MAX_STREAMS
from tests import processes
from tests.app.test_gunicorn import Server
from tests.sse import Following
from tests.stores import folders_beneath

THREADS = 40
pytestmark = pytest.mark.process


def started(folder: Path, **environment: str) -> Server:
    running = Server({**folders_beneath(folder), "WEB_CONCURRENCY": "1", **environment}, folder)
    processes.wait_until(running.ready, "gunicorn does not answer")
    return running


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    running = started(tmp_path_factory.mktemp("streams"), MAX_BODY_BYTES="10000000")
    yield running
    running.stop()


@pytest.fixture(scope="module")
def hasty(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """A server whose deadlines are a tenth: a client has three seconds to take a byte."""
    running = started(tmp_path_factory.mktemp("hasty"), DIVIDE_DEADLINES="10", MAX_BODY_BYTES="10000000")
    yield running
    running.stop()


@pytest.fixture
def opened() -> Iterator[ExitStack]:
    with ExitStack() as stack:
        yield stack


def post(server: Server, **attributes: object) -> int:
    status, body = server.ask("POST", "/api/events", json.dumps({"type": "a", **attributes}).encode())
    assert status == 201
    sequence: int = json.loads(body)["lastSequence"]
    return sequence


def open_streams(server: Server) -> float:
    text = server.ask("GET", "/metrics")[1].decode()
    families = {family.name: family for family in text_string_to_metric_families(text)}
    return families["eventvault_http_streams"].samples[0].value


def test_a_hundred_streams_hold_no_thread_and_one_more_is_refused(server: Server, opened: ExitStack) -> None:
    assert MAX_STREAMS > 2 * THREADS
    streams = [opened.enter_context(Following(server.port)) for _ in range(MAX_STREAMS)]
    assert [stream.status for stream in streams] == [200] * MAX_STREAMS
    refused = opened.enter_context(Following(server.port))
    assert (refused.status, json.loads(refused.response.read())["code"]) == (503, "too_busy")
    assert int(refused.response.headers["Retry-After"]) > 0
    assert server.ask("GET", "/api/events/export")[0] == 200, "transfers are counted apart"

    sequence = post(server)

    assert {stream.next(1)[0].json()["sequence"] for stream in streams} == {sequence}
    assert open_streams(server) == MAX_STREAMS
    for stream in streams:
        stream.close()
    processes.wait_until(lambda: open_streams(server) == 0, "the places are not free")
    assert opened.enter_context(Following(server.port)).status == 200


def test_the_headers_are_those_of_a_stream(server: Server, opened: ExitStack) -> None:
    stream = opened.enter_context(Following(server.port))
    headers = stream.response.headers
    assert headers["Content-Type"] == "text/event-stream"
    assert (headers["X-Accel-Buffering"], headers["Cache-Control"]) == ("no", "no-store")
    assert headers["Connection"] == "close"
    first = next(stream.blocks())
    assert first.comment
    assert server.ask("HEAD", "/api/events/stream") == (200, b"")


def test_a_client_of_http_1_0_gets_a_stream_without_chunks(server: Server) -> None:
    with socket.create_connection(("127.0.0.1", server.port), timeout=30) as connection:
        connection.sendall(b"GET /api/events/stream HTTP/1.0\r\n\r\n")
        received = connection.makefile("rb")
        lines = iter(received.readline, b"")
        head = list(iter(lambda: next(lines), b"\r\n"))
        assert b"Transfer-Encoding" not in b"".join(head)
        assert next(lines).startswith(b"retry: ")
        sequence = post(server)
        data = next(line for line in lines if line.startswith(b"data: "))
        assert json.loads(data[6:])["sequence"] == sequence
        received.close()


def test_a_silent_stream_shows_that_it_lives(hasty: Server, opened: ExitStack) -> None:
    stream = opened.enter_context(Following(hasty.port))
    blocks = stream.blocks()
    assert next(blocks).id == stream.last_id
    assert next(blocks).comment


def test_a_client_that_comes_back_goes_on_where_it_was(server: Server, opened: ExitStack) -> None:
    stream = opened.enter_context(Following(server.port))
    first = post(server)
    assert stream.next(1)[0].json()["sequence"] == first
    stream.close()
    post(server)
    post(server, type="b")
    stream.connect()
    assert [message.json()["sequence"] for message in stream.next(2)] == [first + 1, first + 2]
    only = opened.enter_context(Following(server.port, f"/api/events/stream?type=b&after={first}"))
    assert only.next(1)[0].json()["sequence"] == first + 2
    both = opened.enter_context(Following(server.port, "/api/events/stream?after=0", last_id=stream.last_id))
    last = post(server)
    assert both.next(1)[0].json()["sequence"] == last, "Last-Event-ID comes before `after`"


def test_a_large_event_arrives_whole(server: Server, opened: ExitStack) -> None:
    stream = opened.enter_context(Following(server.port))
    post(server, data="x" * 5_000_000)
    assert len(stream.next(1)[0].json()["data"]) == 5_000_000


def test_a_client_that_takes_nothing_is_dropped(hasty: Server, opened: ExitStack) -> None:
    silent = opened.enter_context(Following(hasty.port))
    for _ in range(4):
        post(hasty, data="x" * 5_000_000)
    processes.wait_until(lambda: "took nothing of it" in hasty.log.read_text(), "it is still waited for")
    with pytest.raises((ConnectionError, http.client.IncompleteRead)):
        silent.response.read()


@pytest.mark.parametrize(
    ("query", "headers"),
    [
        ("after=x", {}),
        ("asOf=2026-01-01T00:00:00Z", {}),
        ("from=x", {}),
        ("limit=3", {}),
        ("", {"Last-Event-ID": "x"}),
        ("", {"Last-Event-ID": "0123456789abcdef:" + "9" * 400}),
    ],
)
def test_an_invalid_stream_is_refused(server: Server, query: str, headers: dict[str, str]) -> None:
    status, body = server.ask("GET", f"/api/events/stream?{query}", **headers)
    assert (status, json.loads(body)["code"]) == (422, "invalid")


def test_a_stop_ends_all_streams_at_once(tmp_path: Path, opened: ExitStack) -> None:
    running = started(tmp_path)
    try:
        streams = [opened.enter_context(Following(running.port)) for _ in range(60)]
        began = time.monotonic()
    finally:
        status = running.stop()
    assert status == 0
    assert time.monotonic() - began < 25, "a client has 30 s, and a stop 60"
    assert [message for stream in streams for message in stream.messages()] == [], "each of them ended whole"

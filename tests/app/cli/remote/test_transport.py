"""Requests of commands over HTTP: sent again, bounded, and what is told of strange answers."""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from app.cli.remote import connection, transport
from app.cli.remote.address import ServiceAddress, parse
from app.cli.remote.errors import RemoteError
from app.cli.remote.store import RemoteStore
from app.cli.remote.transport import Transport, get, post
from app.error_codes import ANSWERS
from eventvault.errors import BackupNotFound, EventVaultError, OutcomeUnknown, RestoreRunning
from tests.ports import free_port
from tests.scripted_http import Send, answer, chunked, json_answer, scripted


def exit_status_of(error: EventVaultError) -> int | None:
    return error.exit_status if isinstance(error, RemoteError) else ANSWERS[error.code].exit_status


GOOD = json_answer("200 OK", '{"success": true, "name": "a", "later": {"field": 1}}')
AWAY = '{"success": false, "code": "store_unavailable", "error": "no store answers", "hint": "wait"}'


@contextmanager
def talking(*answers: bytes | Send, token: str | None = None, patience: float = 20.0) -> Iterator[tuple]:
    with scripted(*answers) as server:
        client = Transport(parse(server.url, insecure=False), token, patience=patience)
        yield client, server
        client.close()


def failure(*answers: bytes | Send, patience: float = 0.05, method: str = "GET") -> EventVaultError:
    """The error of a request that is answered so."""
    request = get("/api/backup/list") if method == "GET" else post("/api/backup/create", {})
    with talking(*answers, patience=patience) as (client, _), pytest.raises(EventVaultError) as failed:
        client.call(request)
    return failed.value


def hang_up(_: socket.socket) -> None:
    """Close the connection without an answer."""


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(transport, "_PAUSES", (0.001,))


def test_the_token_goes_with_each_request() -> None:
    with talking(GOOD, token="ev_word") as (client, server):
        client.call(get("/api/backup/list", limit=5, before=None, from_="a+b ä"))
    (asked,) = server.requests
    assert asked.line == "GET /api/backup/list?limit=5&from=a%2Bb%20%C3%A4 HTTP/1.1"
    assert asked.headers["authorization"] == "Bearer ev_word"
    assert asked.headers["accept-encoding"] == "identity"
    assert "idempotency-key" not in asked.headers


@pytest.mark.parametrize("status", ["301 Moved", "302 Found", "307 Temporary Redirect", "308 Permanent Redirect"])
def test_a_redirect_is_not_followed_and_is_named(status: str) -> None:
    with scripted(GOOD) as other:
        error = failure(answer(status, b"", f"Location: {other.url}/api/backup/list"))
        assert (error.code, exit_status_of(error)) == ("redirected", 5)
        assert other.url in error.message
        assert other.requests == []


def test_what_is_away_or_busy_is_asked_again_after_the_seconds_it_names() -> None:
    busy = json_answer("429 Too Many Requests", '{"code": "too_many_requests", "error": "slow"}', "Retry-After: 0")
    with talking(json_answer("503 Away", AWAY, "Retry-After: 0"), busy, hang_up, GOOD) as (client, server):
        client.call(post("/api/backup/create", {"label": "x"}))
    keys = {asked.headers["idempotency-key"] for asked in server.requests}
    assert (len(server.requests), len(keys)) == (4, 1)
    assert {asked.body for asked in server.requests} == {b'{"label":"x"}'}


def test_each_call_has_a_key_of_its_own() -> None:
    with talking(GOOD, GOOD) as (client, server):
        for _ in range(2):
            client.call(post("/api/backup/create", {}))
    assert len({asked.headers["idempotency-key"] for asked in server.requests}) == 2


def test_a_first_request_that_still_runs_is_waited_for() -> None:
    running = json_answer("409 Conflict", '{"code": "idempotency_key_in_use", "error": "runs", "hint": "wait"}')
    with talking(hang_up, running, GOOD) as (client, server):
        assert b"later" in client.call(post("/api/backup/create", {}))
    assert len(server.requests) == 3


@pytest.mark.parametrize("seconds", ["3600", "99999999999", "soon", "-1"])
def test_patience_has_an_end_whatever_a_service_asks_for(seconds: str) -> None:
    began = time.monotonic()
    error = failure(*[json_answer("503 Away", AWAY, f"Retry-After: {seconds}")] * 500)
    assert time.monotonic() - began < 60
    assert (error.code, exit_status_of(error), error.message) == ("store_unavailable", 6, "no store answers")


@pytest.mark.parametrize(
    ("status", "code", "exit_status"),
    [
        ("401 Unauthorized", "no_token_of_this_version", 4),
        ("403 Forbidden", "forbidden", 4),
        ("404 Not Found", "backup_not_found", 3),
        ("404 Not Found", "code_of_a_later_version", 3),
        ("409 Conflict", "restore_running", 4),
        ("422 Unprocessable", "invalid", 5),
        ("429 Too Many Requests", "too_many_requests", 6),
        ("500 Error", "internal_error", 1),
        ("503 Away", "kafka_not_configured", 78),
        ("503 Away", "restoring", 6),
        ("507 Full", "no_space", 7),
    ],
)
def test_an_error_of_the_service_is_told_as_a_local_one(status: str, code: str, exit_status: int) -> None:
    text = f'{{"success": false, "code": "{code}", "error": "it failed", "hint": "do this", "fields": {{"a": ["b"]}}}}'
    error = failure(*[json_answer(status, text)] * 500)
    assert (error.code, error.message, error.hint) == (code, "it failed", "do this")
    assert error.details == {"fields": {"a": ["b"]}}
    assert exit_status_of(error) == exit_status


def test_errors_that_this_version_knows_have_their_classes() -> None:
    for code, kind in (("backup_not_found", BackupNotFound), ("restore_running", RestoreRunning)):
        assert type(failure(json_answer("409 X", f'{{"code": "{code}", "error": "x", "hint": ""}}'))) is kind


@pytest.mark.parametrize(
    "body",
    [
        '{"code": "backup_not_found", "error": "x", "hint": "y", "self": 1, "message": 2, "details": 3}',
        '{"code": 5, "error": ["x"], "hint": {"y": 1}}',
        '{"code": null}',
        "{}",
        '{"code": "backup_not_found", "error": "\\u001b]0;owned\\u0007\\u202etxt", "hint": "\\u009b31m"}',
    ],
)
def test_an_error_of_any_form_is_told_in_printable_words(body: str) -> None:
    error = failure(json_answer("404 Not Found", body))
    assert exit_status_of(error) == 3
    assert error.message
    assert f"{error.message}{error.hint}".isprintable()


def test_an_error_without_an_end_is_cut() -> None:
    error = failure(json_answer("404 Not Found", f'{{"code": "invalid", "error": "{"x" * 500_000}", "hint": ""}}'))
    assert len(error.message) < 5000


@pytest.mark.parametrize(
    ("status", "code", "exit_status"),
    [
        ("502 Bad Gateway", "service_unreachable", 6),
        ("503 Service Unavailable", "service_unreachable", 6),
        ("504 Gateway Timeout", "service_unreachable", 6),
        ("401 Unauthorized", "answer_unreadable", 4),
        ("403 Forbidden", "answer_unreadable", 4),
        ("404 Not Found", "answer_unreadable", 3),
        ("500 Internal Server Error", "answer_unreadable", 1),
    ],
)
def test_the_page_of_a_proxy_is_no_answer_of_the_service(status: str, code: str, exit_status: int) -> None:
    page = b"<html><body><h1>\x1b[31m502 Bad Gateway</h1><p>nginx</p></body></html>"
    error = failure(*[answer(status, page, "Content-Type: text/html")] * 500)
    assert (error.code, exit_status_of(error)) == (code, exit_status)
    assert status[:3] in error.message
    assert error.message.isprintable()


def test_a_change_is_not_said_to_be_undone_when_the_proxy_lost_it() -> None:
    lost = failure(*[hang_up] * 500, method="POST")
    assert isinstance(lost, OutcomeUnknown)
    assert "POST /api/backup/create" in lost.message


def test_a_request_without_a_key_is_sent_once() -> None:
    request = transport.dataclasses.replace(post("/api/tokens", {"name": "a"}), keyed=False)
    with talking(hang_up, GOOD) as (client, server), pytest.raises(OutcomeUnknown):
        client.call(request)
    assert len(server.requests) == 1
    assert "idempotency-key" not in server.requests[0].headers


def test_where_nobody_listens_it_says_so_at_once() -> None:
    port = free_port()
    began = time.monotonic()
    with pytest.raises(RemoteError) as failed:
        Transport(ServiceAddress("http", "127.0.0.1", port)).call(get("/api/health"))
    assert time.monotonic() - began < 45, "a request is sent again for 60 s"
    assert (failed.value.code, failed.value.exit_status) == ("service_unreachable", 6)
    assert f"http://127.0.0.1:{port}" in failed.value.message


def test_a_name_that_nobody_knows_is_told() -> None:
    with pytest.raises(RemoteError) as failed:
        Transport(ServiceAddress("http", "no-such-host.invalid", 80)).call(get("/api/health"))
    assert failed.value.code == "service_unreachable"


@pytest.mark.parametrize(
    "raw",
    [
        b"SSH-2.0-OpenSSH_9.6\r\n",
        b"HTTP/1.1 two hundred\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n",
        b"HTTP/1.1 200 OK\r\n" + b"X: y\r\n" * 200 + b"\r\n",
        b"HTTP/1.1 200 OK\r\nX: " + b"y" * 70_000 + b"\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nhalf",
        b"\x00\xff" * 100,
    ],
)
def test_what_is_no_http_is_an_error_of_the_connection(raw: bytes) -> None:
    error = failure(*[raw] * 500)
    assert (error.code, exit_status_of(error)) == ("service_unreachable", 6)
    assert error.message.isprintable()


def test_an_answer_without_an_end_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(transport, "MOST_BYTES", 2**20)

    def endless(client: socket.socket) -> None:
        client.sendall(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n")
        while True:
            client.sendall(b"10000\r\n%s\r\n" % (b" " * 65536))

    error = failure(endless)
    assert error.code == "answer_unreadable"
    assert "1048576 bytes" in error.message


@pytest.mark.slow
@pytest.mark.parametrize("begin", [b"", b"HTTP/1.1 200 OK\r\n", b"HTTP/1.1 200 OK\r\nContent-Length: 10000\r\n\r\n"])
def test_a_service_that_sends_byte_by_byte_is_given_up_at_the_deadline(
    begin: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(transport, "EXCHANGE_SECONDS", 0.3)
    over = threading.Event()

    def drip(client: socket.socket) -> None:
        client.sendall(begin)
        while not over.wait(0.02):
            client.sendall(b"1")

    try:
        error = failure(drip)
    finally:
        over.set()
    assert (error.code, exit_status_of(error)) == ("service_unreachable", 6)
    assert "in time" in error.message


@pytest.mark.slow
def test_a_service_that_says_nothing_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(transport, "QUIET_SECONDS", 0.1)

    def say_nothing(client: socket.socket) -> None:
        assert client.recv(1) == b"", "the client hangs up"

    assert "in time" in failure(say_nothing).message


def test_a_connection_is_used_again() -> None:
    def two(client: socket.socket) -> None:
        client.sendall(GOOD)
        while b"\r\n\r\n" not in client.recv(65536):
            pass
        client.sendall(GOOD)

    with talking(two) as (client, server):
        for _ in range(2):
            client.call(get("/api/health"))
        client.close()
    assert len(server.requests) == 1


def test_a_body_is_streamed_and_an_early_refusal_is_heard() -> None:
    refusal = json_answer("413 Too Large", '{"code": "too_large", "error": "too large", "hint": "less"}')

    def refuse_early(client: socket.socket) -> None:
        client.sendall(refusal)

    def endless() -> Iterator[bytes]:
        return (b"x" * connection.PIECE for _ in range(2000))

    request = transport.Request("POST", "/api/backup/upload", {}, endless, 2000 * connection.PIECE)
    listener = socket.create_server(("127.0.0.1", 0))

    def serve() -> None:
        client, _ = listener.accept()
        with client:
            client.recv(1000)
            refuse_early(client)

    thread = threading.Thread(target=serve, daemon=True)
    thread.start()
    with listener, pytest.raises(EventVaultError) as failed:
        Transport(ServiceAddress("http", "127.0.0.1", listener.getsockname()[1]), patience=0).call(request)
    thread.join(30)
    assert failed.value.code in ("too_large", "outcome_unknown")  # the reset may overtake the answer


@pytest.mark.parametrize("text", ["[]", "null", "{", "", '{"backups": {}}', '{"backups": [{"name": "a"}]}', "\xff"])
def test_an_answer_of_another_form_names_what_is_missing(text: str) -> None:
    with talking(answer("200 OK", text.encode("latin-1"))) as (client, _), pytest.raises(RemoteError) as failed:
        RemoteStore(client).list_backups()
    assert (failed.value.code, failed.value.exit_status) == ("answer_unreadable", 1)
    assert "GET /api/backup/list" in failed.value.message
    if "name" in text:
        assert "`path`" in failed.value.message


def test_a_stream_whose_end_nobody_can_tell_is_refused() -> None:
    raw = b"HTTP/1.0 200 OK\r\nContent-Type: application/x-ndjson\r\n\r\n{}\n"
    with talking(raw) as (client, _), pytest.raises(RemoteError, match="where it ends"), client.stream(get("/x")):
        pass


def test_a_stream_is_read_to_its_last_chunk() -> None:
    with talking(chunked(b"a\nb", b"c\n", b"d")) as (client, _), client.stream(get("/x")) as found:
        assert b"".join(found.pieces()) == b"a\nbc\nd"

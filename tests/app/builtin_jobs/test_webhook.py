"""The job `webhook`, against a server on this machine: what it sends, and where it refuses to send."""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
import socket
import threading
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from app.builtin_jobs import webhook
from worker.testing import JobOutcome, run_job

SECRET = "whsec_" + base64.b64encode(b"0123456789abcdef01234567").decode()


class Receiver(ThreadingHTTPServer):
    """status, headers: what it answers. requests: what came, (path, headers, body) each."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.status = 204
        self.headers: dict[str, str] = {}
        self.requests: list[tuple[str, Any, bytes]] = []

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}/hook?x=1"


class _Handler(BaseHTTPRequestHandler):
    def do_POST(self) -> None:
        server: Any = self.server
        server.requests.append((self.path, self.headers, self.rfile.read(int(self.headers["Content-Length"]))))
        self.send_response(server.status)
        for name, value in server.headers.items():
            self.send_header(name, value)
        self.end_headers()

    def log_message(self, *_: Any) -> None:
        pass


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    server = Receiver()
    thread = threading.Thread(target=server.serve_forever, args=(0.02,))
    thread.start()
    yield server
    server.shutdown()
    thread.join(60)
    server.server_close()


@pytest.fixture
def send(receiver: Receiver, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., JobOutcome]:
    (tmp_path / "secret").write_text(f"{SECRET}\n")
    monkeypatch.setenv("WEBHOOK_SECRET_FILE", str(tmp_path / "secret"))
    monkeypatch.setenv("WEBHOOK_ALLOWED_NETWORKS", "127.0.0.0/8")
    return lambda **payload: run_job("webhook", {"url": receiver.url, **payload}, job_id="j-1")


def test_the_body_is_posted_signed(receiver: Receiver, send: Callable[..., JobOutcome]) -> None:
    outcome = send(body={"order": 1}, headers={"X-Tenant": "a", "Authorization": "Bearer b"})
    assert outcome.result == {"status": 204, "address": "127.0.0.1", "body": ""}
    ((path, headers, body),) = receiver.requests
    assert (path, json.loads(body), headers["X-Tenant"], headers["Authorization"]) == (
        "/hook?x=1", {"order": 1}, "a", "Bearer b"
    )  # fmt: skip
    signed = f"{headers['webhook-id']}.{headers['webhook-timestamp']}.".encode() + body
    expected = hmac.new(b"0123456789abcdef01234567", signed, hashlib.sha256).digest()
    assert headers["webhook-signature"] == f"v1,{base64.b64encode(expected).decode()}"
    assert (headers["webhook-id"], headers["Content-Type"]) == ("j-1", "application/json")
    assert headers["Host"] == f"127.0.0.1:{receiver.server_port}"


@pytest.mark.parametrize("status", [300, 301, 404, 410, 429, 500])
def test_any_other_answer_is_tried_again_and_no_redirect_is_followed(
    receiver: Receiver, send: Callable[..., JobOutcome], status: int
) -> None:
    receiver.status = status
    receiver.headers = {"Location": receiver.url, "Retry-After": "7", "Content-Length": "0"}
    outcome = send()
    assert (outcome.retry, outcome.after, len(receiver.requests)) == (True, 7.0, 1)
    assert outcome.error is not None
    assert outcome.error.message.startswith(f"the server answered {status}")


def test_an_answer_is_not_read_beyond_its_beginning(receiver: Receiver, send: Callable[..., JobOutcome]) -> None:
    receiver.status = 200
    receiver.headers = {"Content-Length": "100000000"}  # and then nothing comes
    assert send().result["body"] == ""


@pytest.mark.parametrize(
    "address",
    [
        "127.0.0.1", "10.1.2.3", "192.168.0.1", "172.16.0.1", "169.254.169.254", "100.64.0.1", "0.0.0.0", "224.0.0.1",
        "255.255.255.255", "::1", "::", "fe80::1%lo", "fd00::1", "::ffff:127.0.0.1", "::ffff:10.0.0.1",
        "64:ff9b::a00:1",
        "2002:7f00:1::", "ff02::1", "2001:db8::1",
        "::7f00:1", "fec0::1", "64:ff9b:1::a00:1", "168.63.129.16", "192.0.0.192",
    ],
)  # fmt: skip
def test_no_address_that_is_not_public_is_allowed(address: str) -> None:
    assert not webhook.is_allowed(address)


@pytest.mark.parametrize(
    "address", ["93.184.215.14", "2606:2800:220:1::1", "::ffff:93.184.215.14", "64:ff9b::5db8:d70e"]
)
def test_a_public_address_is_allowed(address: str) -> None:
    assert webhook.is_allowed(address)


def test_a_private_address_is_refused_without_a_connection(
    receiver: Receiver, send: Callable[..., JobOutcome], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("WEBHOOK_ALLOWED_NETWORKS")
    outcome = send()
    assert not outcome.retry
    assert outcome.error is not None
    assert "127.0.0.1, which is not a public address; WEBHOOK_ALLOWED_NETWORKS" in outcome.error.message
    assert receiver.requests == []


def test_the_address_that_was_connected_to_decides_not_the_one_that_was_looked_up(
    receiver: Receiver, send: Callable[..., JobOutcome], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("WEBHOOK_ALLOWED_NETWORKS")
    target = ("127.0.0.1", receiver.server_port)
    monkeypatch.setattr(webhook, "_resolve", lambda host, port: [(socket.AF_INET, target)])
    answers = iter([True])
    monkeypatch.setattr(webhook, "is_allowed", lambda address: next(answers, False))
    outcome = send(url=f"http://public.example:{receiver.server_port}/")
    assert outcome.error is not None
    assert "it led to 127.0.0.1" in outcome.error.message
    assert receiver.requests == []


@pytest.mark.parametrize(
    "url",
    [
        "ftp://example.org/", "example.org", "http://", "http://user:word@example.org/", "http://example.org:0/",
        "http://example.org:99999/", "http://example.org/a b", "http://example.org/\r\nX: y", "http://exämple.org/",
    ],
)  # fmt: skip
def test_an_address_that_is_none_is_refused_for_good(send: Callable[..., JobOutcome], url: str) -> None:
    outcome = send(url=url)
    assert not outcome.retry
    assert outcome.error is not None
    assert (outcome.error.code, list(outcome.error.fields or {})) == ("invalid", ["url"])


@pytest.mark.parametrize("headers", [{"Host": "x"}, {"webhook-id": "x"}, {"A B": "x"}, {"X": "a\r\nB: c"}, {"X": "ä"}])
def test_a_header_that_cannot_be_chosen_is_refused(send: Callable[..., JobOutcome], headers: dict[str, str]) -> None:
    outcome = send(headers=headers)
    assert not outcome.retry
    assert outcome.error is not None
    assert list(outcome.error.fields or {}) == ["headers"]


def test_nothing_is_sent_unsigned(
    receiver: Receiver, send: Callable[..., JobOutcome], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for empty in ("", "whsec_"):
        (tmp_path / "secret").write_text(empty)
        assert not send().retry
    (tmp_path / "secret").unlink()
    assert send().retry  # it may be put there
    monkeypatch.delenv("WEBHOOK_SECRET_FILE")
    outcome = send()
    assert outcome.error is not None
    assert (outcome.retry, outcome.error.message) == (
        False, "WEBHOOK_SECRET_FILE is not set, and webhooks are never sent unsigned"
    )  # fmt: skip
    assert receiver.requests == []


def test_a_server_that_is_away_is_tried_again(send: Callable[..., JobOutcome], receiver: Receiver) -> None:
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        outcome = send(url=f"http://127.0.0.1:{unused.getsockname()[1]}/")
    assert outcome.retry
    assert outcome.error is not None
    assert "127.0.0.1 was not reached: " in outcome.error.message

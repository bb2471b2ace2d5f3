"""The service behind real gunicorn, on the in-memory store: refusals at start, odd requests, metrics of all workers."""

from __future__ import annotations

import gzip
import json
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor, as_completed
from http.client import HTTPConnection, HTTPException
from itertools import islice
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from urllib.parse import quote, urlencode

import pytest
from gunicorn.config import Config
from prometheus_client.parser import text_string_to_metric_families

from app import gunicorn_worker
from app.edge import MAX_LONG_ANSWERS, MAX_LONG_CALLS, MAX_TRANSFERS
from app.gunicorn_worker import HEALTH_THREADS, LIVE_THREADS, LONG_BODY_THREADS, Worker
from benchmarks.serving import plain_values
from eventvault.events.event import LONGEST_TEXT
from tests import processes
from tests.ports import free_port
from tests.stores import folders_beneath

PROJECT = Path(__file__).resolve().parents[2]


class Server:
    def __init__(self, environment: dict[str, str], folder: Path, *options: str, module: str = "gunicorn") -> None:
        self.port = free_port()
        self.temporary = folder / "tmp"
        self.temporary.mkdir(exist_ok=True)
        self.log = folder / "log"
        kept = {name: text for name, text in os.environ.items() if not name.startswith(("EVENTVAULT_", "PROMETHEUS_"))}
        paths = os.pathsep.join([str(PROJECT), str(PROJECT / "tests" / "app")])
        ours = {"PORT": str(self.port), "TMPDIR": str(self.temporary), "PYTHONPATH": paths, "MAX_BODY_BYTES": "100000"}
        command = [sys.executable, "-m", module, *options, "memory_wsgi:app"]
        with self.log.open("wb") as log:
            self.process = subprocess.Popen(command, env={**kept, **ours, **environment}, cwd=PROJECT, stderr=log)

    def ready(self) -> bool:
        assert self.process.poll() is None, self.log.read_text()
        try:
            return self.ask("GET", "/api/health/live")[0] == 200
        except (OSError, HTTPException):
            return False

    def ask(self, method: str, path: str, body: Any = None, timeout: float = 60, **headers: str) -> tuple[int, bytes]:
        connection = HTTPConnection("127.0.0.1", self.port, timeout=timeout)
        try:
            connection.request(method, path, body=body, headers=headers, encode_chunked="Transfer-Encoding" in headers)
            answer = connection.getresponse()
            return answer.status, answer.read()
        finally:
            connection.close()

    def raw(self, sent: bytes) -> bytes:
        with socket.create_connection(("127.0.0.1", self.port), timeout=60) as connection:
            connection.sendall(sent)
            connection.shutdown(socket.SHUT_WR)
            return b"".join(iter(lambda: connection.recv(65536), b""))

    def stop(self) -> int:
        self.process.send_signal(signal.SIGTERM)
        try:
            return self.process.wait(60)
        finally:
            self.process.kill()
            self.process.wait()


Serve = Callable[..., Server]


@pytest.fixture
def serve(settings_environment: dict[str, str], tmp_path: Path) -> Iterator[Serve]:
    started: list[Server] = []

    def start(*options: str, module: str = "gunicorn", **environment: str) -> Server:
        started.append(Server({**settings_environment, **environment}, tmp_path, *options, module=module))
        return started[-1]

    yield start
    for server in started:
        server.stop()


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """One server for the module, with one worker, because the store is in its memory."""
    folder = tmp_path_factory.mktemp("server")
    running = Server({**folders_beneath(folder), "WEB_CONCURRENCY": "1"}, folder)
    try:
        processes.wait_until(running.ready, "gunicorn does not answer")
        yield running
    finally:
        running.stop()


@pytest.mark.parametrize(
    ("options", "environment", "said"),
    [
        ([], {"MAX_BACKUPS": "none", "PORT": "x"}, ["MAX_BACKUPS is 'none'", "PORT is 'x'"]),
        ([], {"HOST": "0.0.0.0"}, ["ALLOW_UNAUTHENTICATED=true"]),
        (["-b", "0.0.0.0:0"], {}, ["ALLOW_UNAUTHENTICATED=true"]),
        (["-b", "127.0.0.1:0", "-b", "[::]:0"], {}, ["ALLOW_UNAUTHENTICATED=true"]),
        (["-b", "0.0.0.0:0", "--preload"], {}, ["ALLOW_UNAUTHENTICATED=true"]),
    ],
)  # fmt: skip
def test_invalid_settings_and_unprotected_addresses_refuse_to_start(
    serve: Serve, options: list[str], environment: dict[str, str], said: list[str]
) -> None:
    refused = serve(*options, **environment)

    assert refused.process.wait(60) == 78
    log = refused.log.read_text()
    assert all(words in log for words in said)
    assert "Traceback" not in log
    assert list(refused.temporary.iterdir()) == []


def test_an_open_address_is_served_if_unauthenticated_access_is_allowed(serve: Serve) -> None:
    opened = serve(HOST="0.0.0.0", ALLOW_UNAUTHENTICATED="true", WEB_CONCURRENCY="1")
    processes.wait_until(opened.ready, "gunicorn does not answer")
    assert "ALLOW_UNAUTHENTICATED=true" in opened.log.read_text()
    assert opened.stop() == 0
    assert list(opened.temporary.iterdir()) == []


def test_the_launcher_treats_a_blank_setting_as_unset_and_names_an_invalid_one(serve: Serve) -> None:
    blank = serve(module="app", WEB_CONCURRENCY=" ")
    processes.wait_until(blank.ready, "gunicorn does not answer")
    assert blank.stop() == 0
    bad = serve(module="app", WEB_CONCURRENCY="many")
    assert bad.process.wait(60) == 78
    assert "WEB_CONCURRENCY is 'many'" in bad.log.read_text()


def test_the_body_limit_applies_to_chunked_and_plain_bodies(server: Server) -> None:
    large = b"[" + b" " * 200_000 + b"]"

    def chunks() -> Iterator[bytes]:
        yield from (large[start : start + 5000] for start in range(0, len(large), 5000))

    assert server.ask("POST", "/api/events", large)[0] == 413
    status, body = server.ask("POST", "/api/events", chunks(), **{"Transfer-Encoding": "chunked"})
    assert (status, json.loads(body)["code"]) == (413, "too_large")
    status, body = server.ask("POST", "/api/events", iter([b'{"type":', b'"a"}']), **{"Transfer-Encoding": "chunked"})
    assert status == 201


@pytest.mark.slow
@pytest.mark.parametrize(
    "compressed",
    [
        pytest.param(gzip.compress(b"", mtime=0) * 15_000, id="members that hold nothing"),
        pytest.param(b"\x1f\x8b\x08\x08" + bytes(6) + b"n" * 300_000, id="a file name"),
        pytest.param(b"\x1f\x8b\x08\x10" + bytes(6) + b"c" * 300_000, id="a comment"),
    ],
)
def test_chunks_that_inflate_to_nothing_have_the_same_limit(server: Server, compressed: bytes) -> None:
    """They could go on without end, and take a thread and a processor for so long."""
    headers = {"Transfer-Encoding": "chunked", "Content-Encoding": "gzip"}
    pieces = (compressed[start : start + 5000] for start in range(0, len(compressed), 5000))
    status, body = server.ask("POST", "/api/events", pieces, **headers)
    assert (status, json.loads(body)["code"]) == (413, "too_large")


def test_long_requests_use_at_most_half_of_the_threads(serve: Serve, tmp_path: Path) -> None:
    held = tmp_path / "held"
    held.touch()
    running = serve(WEB_CONCURRENCY="1", HOLD_BACKUPS=str(held))
    processes.wait_until(running.ready, "gunicorn does not answer")

    with ThreadPoolExecutor(40) as clients:
        backups = [clients.submit(running.ask, "POST", "/api/backup/create") for _ in range(40)]
        refused = [each.result() for each in islice(as_completed(backups), 40 - MAX_LONG_CALLS)]
        assert {status for status, _ in refused} == {503}
        assert json.loads(refused[0][1])["code"] == "too_busy"
        assert running.ask("GET", "/api/health")[0] == 200
        assert running.ask("POST", "/api/events", b'{"type":"a"}')[0] == 201
        held.unlink()
        answered = [each.result()[0] for each in backups]

    assert answered.count(200) == MAX_LONG_CALLS >= 5
    threads = int(plain_values(PROJECT / "gunicorn.conf.py")["threads"])
    assert threads >= 2 * (LONG_BODY_THREADS + MAX_LONG_ANSWERS + MAX_TRANSFERS)
    others = threads - LIVE_THREADS - HEALTH_THREADS - LONG_BODY_THREADS
    assert others >= MAX_LONG_CALLS + MAX_LONG_ANSWERS + MAX_TRANSFERS + 4


def test_a_body_that_ends_early_is_malformed(server: Server) -> None:
    head = b"POST /api/events HTTP/1.1\r\nHost: localhost\r\n"
    for rest in (
        b"Content-Length: 100\r\n\r\n{",
        b"Transfer-Encoding: chunked\r\n\r\nZZ\r\nxx",
        b"Transfer-Encoding: chunked\r\n\r\n5\r\nab",
    ):
        answer = server.raw(head + rest)
        assert answer.startswith(b"HTTP/1.1 400 ")
        assert b'"code":"malformed"' in answer
        assert b"Traceback" not in answer


@pytest.mark.slow
def test_an_upload_that_ends_early_leaves_no_file(server: Server) -> None:
    folder = server.temporary.parent / "backups"
    before = set(folder.iterdir())
    head = b"POST /api/backup/upload?name=a.tar.gz HTTP/1.1\r\nHost: localhost\r\nContent-Length: 1000000\r\n\r\n"
    with socket.create_connection(("127.0.0.1", server.port), timeout=60) as connection:
        connection.sendall(head + b"x" * 300_000)
        processes.wait_until(lambda: list(folder.glob(".*.tmp")), "the upload did not begin")
    processes.wait_until(lambda: set(folder.iterdir()) == before, "something is left of the upload")


@pytest.mark.parametrize("name", [b"SCRIPT_NAME", b"Script_Name", b"PATH_INFO", b"Script-Name"])
def test_a_header_of_a_peer_moves_no_route(server: Server, name: bytes) -> None:
    end = b"Host: localhost\r\nConnection: close\r\n%s: /moved\r\n\r\n" % name
    assert server.raw(b"GET /moved/api/health/live HTTP/1.1\r\n" + end).startswith(b"HTTP/1.1 404 ")
    assert server.raw(b"GET /api/health/live HTTP/1.1\r\n" + end).startswith(b"HTTP/1.1 200 ")


@pytest.mark.slow
def test_ids_with_slashes_arrive_whole(server: Server) -> None:
    assert server.ask("POST", "/api/events", b'{"type":"a","id":"/a/b"}')[0] == 201
    for path in ("%2Fa%2Fb", "/a/b", "%2Fa/b"):
        assert server.ask("GET", f"/api/events/{path}")[0] == 200


@pytest.mark.slow
def test_events_with_the_longest_attributes_can_be_read(server: Server) -> None:
    texts = {name: sign * LONGEST_TEXT for name, sign in zip(("id", "source", "type", "subject"), "🗄🗃🗂📇", strict=True)}
    assert server.ask("POST", "/api/events", json.dumps(texts, ensure_ascii=False).encode())[0] == 201

    one, filters = {"id": texts["id"], "source": texts["source"]}, {**texts, "limit": "1", "to": "9999-12-31T23:59:59Z"}
    del filters["id"]
    for address in (
        f"/api/events/{quote(texts['id'])}?{urlencode({'source': texts['source']})}",
        f"/api/events?{urlencode(one)}",
        f"/api/events?{urlencode(filters)}",
    ):
        status, answer = server.ask("GET", address)
        assert (status, texts["id"] in answer.decode()) == (200, True)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("sent", "status", "code"),
    [
        (b"no HTTP at all\r\n\r\n", 400, "malformed"),
        (b"GET / HTTP/1.1\r\nBad Name: x\r\n\r\n", 400, "malformed"),
        (b"GET / HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n", 400, "malformed"),
        (b"GET /%s HTTP/1.1\r\nHost: localhost\r\n\r\n" % (b"x" * 140_000), 414, "too_large"),
        (b"GET / HTTP/1.1\r\nHost: localhost\r\nExpect: more\r\n\r\n", 417, "expectation_failed"),
        (b"GET / HTTP/1.1\r\nHost: localhost\r\nX-Large: %s\r\n\r\n" % (b"x" * 9000), 431, "headers_too_large"),
        (b"POST / HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: odd\r\n\r\n", 501, "not_implemented"),
    ],
)  # fmt: skip
def test_errors_of_gunicorn_itself_have_the_error_form(server: Server, sent: bytes, status: int, code: str) -> None:
    head, _, body = server.raw(sent).partition(b"\r\n\r\n")
    answer = json.loads(body)

    assert head.startswith(b"HTTP/1.1 %d " % status)
    assert b"Content-Type: application/json" in head
    assert (answer["success"], answer["code"]) == (False, code)
    assert all(answer[name] for name in ("error", "hint"))
    assert not any(word in answer["error"] for word in ("no HTTP", "Bad Name", "more", "odd"))  # nothing is quoted


def test_a_downloaded_archive_can_be_uploaded_again(server: Server) -> None:
    server.ask("POST", "/api/events", b'{"type":"a"}')
    made = json.loads(server.ask("POST", "/api/backup/create")[1])
    archive = server.ask("GET", f"/api/backup/{made['name']}/download")[1]
    body = iter([archive[:10], archive[10:]])
    status, answer = server.ask("POST", "/api/backup/upload?name=u.tar.gz", body, **{"Transfer-Encoding": "chunked"})
    assert (status, json.loads(answer)["backup"]["events"]) == (201, made["events"])


@pytest.mark.parametrize("options", [[], ["--preload"]])
def test_metrics_add_up_all_workers(serve: Serve, options: list[str]) -> None:
    running = serve(*options, WEB_CONCURRENCY="3")
    processes.wait_until(running.ready, "gunicorn does not answer")
    for _ in range(60):
        running.ask("GET", "/nowhere")

    def counted() -> float:
        text = running.ask("GET", "/metrics")[1].decode()
        samples = [each for family in text_string_to_metric_families(text) for each in family.samples]
        return sum(each.value for each in samples if each.name.endswith("requests_total") and "404" in str(each.labels))

    assert counted() == 60
    dead = workers(running)[0]
    os.kill(dead, signal.SIGKILL)
    processes.wait_until(lambda: dead not in workers(running), "the worker is still there")
    processes.wait_until(running.ready, "gunicorn does not answer")
    assert counted() == 60
    assert running.stop() == 0
    assert list(running.temporary.iterdir()) == []


def workers(server: Server) -> list[int]:
    children = Path(f"/proc/{server.process.pid}/task/{server.process.pid}/children").read_text()
    return [int(pid) for pid in children.split()]


def test_a_worker_tells_its_master_that_it_runs_a_few_times_a_second(monkeypatch: pytest.MonkeyPatch) -> None:
    worker = Worker(0, os.getppid(), [], None, 30, Config(), None)
    told: list[float] = []
    clock = SimpleNamespace(now=0.0)
    monkeypatch.setattr(worker.tmp, "notify", lambda: told.append(clock.now))
    monkeypatch.setattr(gunicorn_worker, "time", SimpleNamespace(monotonic=lambda: clock.now))
    for clock.now in (10.0, 10.1, 10.2, 10.3, 10.31, 10.5, 11.0, 11.01):
        worker.notify()
    worker.tmp.close()
    assert told == [10.0, 10.3, 11.0]

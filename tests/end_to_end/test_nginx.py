"""The service behind the container's nginx: large bodies both ways, ranges, streams, errors."""

from __future__ import annotations

import http.client
import json
import os
from base64 import b64encode
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.nginx import running_nginx
from tests.service import Service

EVENTS, DATA = 24, 500_000


@pytest.fixture(scope="module")
def backend(module_service: Callable[..., Service]) -> Service:
    """The service with some 12 MB of events that do not compress."""
    running = module_service(workers=2)
    for _ in range(3):
        batch = [{"type": "large", "data": b64encode(os.urandom(DATA * 3 // 4)).decode()} for _ in range(EVENTS // 3)]
        assert running.post("/api/events", batch).status == 201
    return running


@pytest.fixture(scope="module")
def front(backend: Service, tmp_path_factory: pytest.TempPathFactory) -> Iterator[int]:
    """The port of nginx in front of `backend`."""
    with running_nginx(tmp_path_factory.mktemp("front") / "nginx", [backend.port]) as one:
        yield one.plain


def events(backend: Service) -> int:
    return int(backend.get("/api/health").json()["store"]["events"])


def ask(port: int, method: str, path: str, body: bytes | None = None, **headers: str) -> tuple[int, Any, bytes]:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=120)
    try:
        connection.request(method, path, body, {name.replace("_", "-"): value for name, value in headers.items()})
        answer = connection.getresponse()
        return answer.status, answer.headers, answer.read()
    finally:
        connection.close()


def test_an_archive_is_made_downloaded_uploaded_again_and_found_in_the_list(backend: Service, front: int) -> None:
    status, _, body = ask(front, "POST", "/api/backup/create", b'{"label":"manual-backup"}', Host="localhost:5050")
    made = json.loads(body)
    assert status == 200, made
    original = Path(made["backupPath"]).read_bytes()
    assert len(original) > EVENTS * DATA // 2

    status, headers, archive = ask(front, "GET", f"/api/backup/{made['name']}/download")
    assert (status, int(headers["Content-Length"])) == (200, len(original))
    assert archive == original
    assert headers["ETag"] == f'"{made["digest"]}"'

    status, headers, part = ask(front, "GET", f"/api/backup/{made['name']}/download", Range="bytes=1000000-8999999")
    assert status == 206
    assert headers["Content-Range"] == f"bytes 1000000-8999999/{len(original)}"
    assert part == original[1_000_000:9_000_000]

    name = "backup_2024-12-27_120000.tar.gz"
    status, _, body = ask(
        front, "POST", f"/api/backup/upload?name={name}", archive, Content_Type="application/octet-stream"
    )
    assert status in (200, 201), body
    listed = json.loads(ask(front, "GET", "/api/backup/list")[2])["backups"]
    assert {entry["name"]: entry["size"] for entry in listed} == dict.fromkeys((made["name"], name), len(original))


def test_an_export_of_everything_arrives_whole(backend: Service, front: int) -> None:
    status, _, body = ask(front, "GET", "/api/events/export")
    assert status == 200
    assert [json.loads(line)["sequence"] for line in body.splitlines()] == list(range(1, events(backend) + 1))


def test_a_foreign_host_is_refused_by_the_service_and_not_hidden_by_nginx(front: int) -> None:
    status, _, body = ask(front, "GET", "/api/events", Host="rebound.example")
    assert status == 403
    assert json.loads(body)["success"] is False


def test_a_body_that_is_too_large_is_refused_by_the_service_in_its_own_words(
    service: Callable[..., Service], nginx: Callable[..., int]
) -> None:
    port = nginx(service(environment={"MAX_BODY_BYTES": "100000"}).port)
    status, _, body = ask(port, "POST", "/api/events", b'{"type": "x", "data": "%s"}' % (b"x" * 200_000))
    assert status == 413
    assert json.loads(body)["code"] == "too_large"


def test_what_was_posted_through_nginx_is_there_once(backend: Service, front: int) -> None:
    before = events(backend)
    assert before >= EVENTS
    for _ in range(2):
        ask(front, "POST", "/api/events", b'{"id": "once", "type": "x"}', Content_Type="application/json")
    assert backend.get("/api/events/once").json()["event"]["sequence"] == before + 1
    assert events(backend) == before + 1

"""Downloads from the real service: a broken one resumes, and says what its bytes are."""

from __future__ import annotations

import base64
import hashlib
import http.client
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest

from tests.service import Service


@pytest.fixture(scope="module")
def running(module_service: Callable[..., Service]) -> Service:
    return module_service(workers=1)


@pytest.fixture
def made(running: Service) -> dict[str, Any]:
    running.post("/api/events", [{"type": "t", "data": os.urandom(500).hex()} for _ in range(1000)])
    backup: dict[str, Any] = running.post("/api/backup/create").json()
    return backup


def begin(running: Service, address: str, count: int) -> tuple[bytes, str]:
    """Read the first bytes of a download, then close the connection. Returns them and the ETag."""
    connection = http.client.HTTPConnection("127.0.0.1", running.port, timeout=60)
    connection.request("GET", address)
    answer = connection.getresponse()
    content, tag = answer.read(count), answer.headers["ETag"]
    connection.close()
    return content, tag


def test_a_broken_download_resumes_though_the_archive_was_verified_meanwhile(
    running: Service, made: dict[str, Any]
) -> None:
    address = f"/api/backup/{made['name']}/download"
    first, tag = begin(running, address, 100_000)
    assert tag == f'"{made["digest"]}"'
    verified = running.post(f"/api/backup/{made['name']}/verify?records=true").json()["backup"]
    assert verified["checked"] == "records"

    rest = running.get(address, headers={"Range": f"bytes={len(first)}-", "If-Range": tag})

    assert (rest.status, rest.headers["etag"]) == (206, tag)
    whole = hashlib.sha256(first + rest.body)
    assert whole.hexdigest() == verified["sha256"] == hashlib.sha256(Path(made["backupPath"]).read_bytes()).hexdigest()
    assert rest.headers["repr-digest"] == f"sha-256=:{base64.b64encode(whole.digest()).decode()}:"


def test_another_archive_of_that_name_is_sent_from_its_beginning(running: Service, made: dict[str, Any]) -> None:
    address = f"/api/backup/{made['name']}/download"
    _, tag = begin(running, address, 1000)
    running.post("/api/events", {"type": "one more"})
    other = Path(running.post("/api/backup/create").json()["backupPath"])
    other.rename(made["backupPath"])

    answer = running.get(address, headers={"Range": "bytes=1000-", "If-Range": tag})

    assert (answer.status, answer.body) == (200, Path(made["backupPath"]).read_bytes())


def test_a_head_answers_as_a_get_does_and_frees_its_place(running: Service, made: dict[str, Any]) -> None:
    address = f"/api/backup/{made['name']}/download"
    got = running.get(address)
    assert "repr-digest" not in got.headers
    for _ in range(20):
        head = running.request("HEAD", address)
        assert (head.status, head.body) == (200, b"")
    names = ("etag", "content-length", "accept-ranges", "last-modified")
    assert {name: head.headers[name] for name in names} == {name: got.headers[name] for name in names}
    running.post(f"/api/backup/{made['name']}/verify?records=true")
    assert running.request("HEAD", address).headers["repr-digest"].startswith("sha-256=:")


def test_archives_of_any_name_are_downloaded_and_take_no_place_for_good(running: Service, made: dict[str, Any]) -> None:
    whole = Path(made["backupPath"]).read_bytes()
    for name in (
        "b\U0001f600.tar.gz",
        "Gro\u0308sse.tar.gz",
        "бэкап.tar.gz",
        "narrow\u202fspace.tar.gz",
        'a "b".tar.gz',
    ):
        copy = running.folder("BACKUP_DIR") / name
        copy.write_bytes(whole)
        for _ in range(2):
            answer = running.get(f"/api/backup/{quote(name)}/download")
            assert (answer.status, answer.body == whole) == (200, True), name
            assert answer.headers["content-disposition"].endswith(f"filename*=UTF-8''{quote(name)}")
        copy.unlink()

    assert running.get("/api/events/export").status == 200

"""Archives that come by upload: taken whole and checked, or not at all."""

from __future__ import annotations

import os
import socket
from collections.abc import Callable
from pathlib import Path

import pytest

from tests import processes
from tests.restoring import flip, leftovers, make_archive, make_foreign_archive, make_text_archive
from tests.service import Service


@pytest.fixture(scope="module")
def running(module_service: Callable[..., Service]) -> Service:
    """A service that the tests share: there are backups of other tests in it."""
    return module_service(workers=1)


def listed(running: Service) -> list[str]:
    return [backup["name"] for backup in running.get("/api/backup/list").json()["backups"]]


def test_an_upload_is_listed_downloaded_and_restored(running: Service, tmp_path: Path) -> None:
    archive = make_archive(tmp_path / "a.tar.gz", label="theirs")
    content = archive.read_bytes()

    reply = running.post("/api/backup/upload?name=theirs.tar.gz", content)

    assert reply.status == 201
    entry = reply.json()["backup"]
    assert (entry["name"], entry["origin"], entry["label"]) == ("theirs.tar.gz", "uploaded", "theirs")
    assert (entry["events"], entry["size"]) == (3, len(content))
    assert (entry["proven"], entry["verified"], entry["checked"]) == (False, None, None)  # before its records are read
    assert running.get("/api/backup/theirs.tar.gz/download").body == content
    assert running.post("/api/backup/restore", {"backupName": "theirs.tar.gz"}).json()["events"] == 3


def test_a_download_of_one_service_is_an_upload_of_another(
    running: Service, service: Callable[..., Service], tmp_path: Path
) -> None:
    running.post("/api/events", [{"type": "t"}] * 5)
    made = running.post("/api/backup/create").json()
    content = running.get(f"/api/backup/{made['name']}/download").body
    assert content == Path(made["backupPath"]).read_bytes()
    other = service(workers=1, environment={name: str(tmp_path / "o" / name) for name in FOLDERS})

    assert other.post(f"/api/backup/upload?name={made['name']}", content).status == 201
    assert other.post("/api/backup/restore", {"backupName": made["name"]}).status == 200

    assert other.get("/api/events/export").body == running.get("/api/events/export").body


FOLDERS = ("STORAGE_DIR", "BACKUP_DIR", "RESTORE_DIR")


def test_what_is_no_good_archive_is_refused_and_nothing_of_it_is_left(running: Service, tmp_path: Path) -> None:
    before = listed(running)
    good = make_archive(tmp_path / "good.tar.gz")
    flipped = make_archive(tmp_path / "flipped.tar.gz")
    flip(flipped, 900)
    short = make_archive(tmp_path / "short.tar.gz")
    os.truncate(short, 900)
    cases = [
        (flipped.read_bytes(), "a.tar.gz", 422, "archive_damaged"),
        (short.read_bytes(), "a.tar.gz", 422, "archive_incomplete"),
        (make_text_archive(tmp_path / "text.tar.gz").read_bytes(), "a.tar.gz", 422, "archive_alien"),
        (b"this is no archive, but it is long enough to be looked at", "a.tar.gz", 422, "archive_alien"),
        (b"", "a.tar.gz", 400, "malformed"),
        (good.read_bytes(), "..%2Fa.tar.gz", 422, "invalid"),
        (good.read_bytes(), "a.zip", 422, "invalid"),
        (good.read_bytes(), "a.tar.gz.age", 422, "invalid"),
        (good.read_bytes(), "", 422, "invalid"),
    ]
    for content, name, status, code in cases:
        reply = running.post(f"/api/backup/upload?name={name}", content)
        assert (reply.status, reply.json()["code"]) == (status, code), (name, content[:20])
        assert reply.json()["hint"]
        assert ".upload" not in reply.body.decode()
        assert name == "" or code != "archive_damaged" or name in reply.json()["error"]

    assert listed(running) == before
    assert {path.name for path in running.folder("BACKUP_DIR").glob("*.gz")} == set(before)
    assert not leftovers(running.folder("BACKUP_DIR"), running.folder("STORAGE_DIR"))


def test_a_name_that_is_taken_is_a_conflict_and_what_is_there_stays(running: Service, tmp_path: Path) -> None:
    first = make_archive(tmp_path / "a.tar.gz").read_bytes()
    second = make_foreign_archive(tmp_path / "b.tar.gz").read_bytes()
    assert running.post("/api/backup/upload?name=first.tar.gz", first).status == 201

    reply = running.post("/api/backup/upload?name=first.tar.gz", second)

    assert (reply.status, reply.json()["code"]) == (409, "backup_exists")
    assert running.get("/api/backup/first.tar.gz/download").body == first


def test_an_upload_that_breaks_off_leaves_nothing(running: Service) -> None:
    before = listed(running)
    content = os.urandom(400_000)  # a short body is collected before anything reads it
    backups = running.folder("BACKUP_DIR")
    head = (
        f"POST /api/backup/upload?name=a.tar.gz HTTP/1.1\r\nHost: localhost\r\nContent-Length: {len(content)}\r\n\r\n"
    )
    with socket.create_connection(("127.0.0.1", running.port)) as connection:
        connection.sendall(head.encode() + content[:200_000])
        processes.wait_until(lambda: list(backups.glob(".upload.*")), "the upload does not begin")

    processes.wait_until(lambda: not list(backups.glob(".upload.*")), "what was received is left")
    assert listed(running) == before

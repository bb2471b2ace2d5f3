"""Damage and wrong requests, as a client of the real service sees them."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

from tests import processes
from tests.held_chores import HeldChores
from tests.restoring import flip, make_archive, make_text_archive
from tests.service import Reply, Service


def wait_for_health(running: Service, status: str, *codes: str) -> dict[str, Any]:
    """Wait until health has that status and these problems. A store that is starting is a problem too."""
    found: list[dict[str, Any]] = []

    def reached() -> bool:
        with suppress(OSError):
            found.append(running.get("/api/health").json())
            return (found[-1]["status"], [each["code"] for each in found[-1]["problems"]]) == (status, [*codes])
        return False

    processes.wait_until(reached, f"health is not {status} with {codes}")
    return found[-1]


def test_a_damaged_log_is_refused_and_a_restore_by_request_brings_the_data_back(
    service: Callable[..., Service], settings_environment: dict[str, str]
) -> None:
    running = service(workers=1)
    for number in range(40):
        running.post("/api/events", {"id": f"e{number}", "type": "t"})
    name = running.post("/api/backup/create").json()["name"]
    running.stop()
    storage = Path(settings_environment["STORAGE_DIR"])
    (log,) = (storage / "event_registry_db").glob("*.log")
    flip(log, log.stat().st_size // 3)
    damaged = log.read_bytes()

    running = service(workers=1, wait=False)
    health = wait_for_health(running, "degraded", "database_damaged")

    (problem,) = health["problems"]
    assert "/api/backup/restore" in problem["hint"]
    for method, path, body in (("GET", "/api/events", None), ("POST", "/api/events", {"type": "t"})):
        reply = running.request(method, path, body)
        assert (reply.status, reply.json()["code"]) == (503, "database_damaged")
        assert "retry-after" in reply.headers
    assert running.get("/api/health/ready").status == 503
    assert running.post("/api/backup/restore", {"backupName": name}).status == 200
    assert wait_for_health(running, "ok")["store"]["events"] == 40
    assert running.post("/api/events", {"type": "t"}).json()["lastSequence"] == 41
    (kept,) = storage.glob("previous-*")
    assert (kept / log.name).read_bytes() == damaged


def test_a_damaged_table_makes_a_backup_fail_and_health_says_which_until_a_restore(
    service: Callable[..., Service], settings_environment: dict[str, str]
) -> None:
    running = service(workers=1)
    running.post("/api/events", [{"type": "t"} for _ in range(40)])
    name = running.post("/api/backup/create").json()["name"]
    running.stop()
    running = service(workers=1)  # opening the database turns its log into a table
    table = max((Path(settings_environment["STORAGE_DIR"]) / "event_registry_db").glob("*.ldb"))
    with table.open("r+b") as file:
        file.seek(-1, os.SEEK_END)
        file.write(b"?")

    refused(running.post("/api/backup/create"), 503, "database_damaged")

    health = wait_for_health(running, "degraded", "database_damaged")
    (problem,) = health["problems"]
    assert table.name in problem["message"]
    assert "/api/backup/restore" in problem["hint"]
    assert [backup["name"] for backup in running.get("/api/backup/list").json()["backups"]] == [name]
    assert running.post("/api/events", {"type": "t"}).status == 201
    assert running.post("/api/backup/restore", {"backupName": name}).status == 200
    assert wait_for_health(running, "ok")["store"]["events"] == 40
    assert running.post("/api/backup/create").status == 200


@pytest.fixture
def running(service: Callable[..., Service]) -> Iterator[Service]:
    one = service(workers=1)
    assert one.post("/api/events", [{"type": "t"}, {"type": "t"}]).status == 201
    yield one
    assert one.get("/api/health").json()["store"]["events"] == 2, "live data was touched"


def refused(reply: Reply, status: int, code: str) -> None:
    answer = reply.json()
    assert (reply.status, answer["success"], answer["code"]) == (status, False, code), answer
    assert answer["error"]
    assert answer["hint"]
    assert "Traceback" not in reply.body.decode()


def test_every_restore_that_cannot_be_is_refused_with_its_status(
    running: Service, settings_environment: dict[str, str]
) -> None:
    folder = Path(settings_environment["BACKUP_DIR"])
    flip(make_archive(folder / "damaged.tar.gz"), 900)
    os.truncate(make_archive(folder / "truncated.tar.gz"), 900)
    make_text_archive(folder / "text.tar.gz")
    (folder / "empty.tar.gz").touch()

    def restore(name: object) -> Reply:
        return running.post("/api/backup/restore", {"backupName": name})

    refused(restore("backup_2024-12-27_120000.tar.gz"), 404, "backup_not_found")
    refused(restore("damaged.tar.gz"), 422, "archive_damaged")
    refused(restore("truncated.tar.gz"), 422, "archive_incomplete")
    refused(restore("text.tar.gz"), 422, "archive_alien")
    refused(restore("empty.tar.gz"), 422, "archive_incomplete")
    refused(restore("../backups/damaged.tar.gz"), 422, "invalid")
    refused(restore("/etc/passwd"), 422, "invalid")
    refused(restore(7), 422, "invalid")
    refused(restore(None), 422, "invalid")
    refused(running.post("/api/backup/restore"), 422, "invalid")
    refused(running.post("/api/backup/restore", {"backupName": "a.tar.gz", "apply": "later"}), 422, "invalid")
    for label in (7, ["a"], {"a": 1}, True):
        refused(running.post("/api/backup/create", {"label": label}), 422, "invalid")


def test_two_restores_at_once_are_one_and_a_conflict(
    service: Callable[..., Service], settings_environment: dict[str, str], tmp_path: Path
) -> None:
    chores = HeldChores(tmp_path)
    running = service(workers=2, environment=chores.environment, command=chores.command)
    make_archive(Path(settings_environment["BACKUP_DIR"]) / "a.tar.gz", events=500)
    answers: list[Reply] = []
    thread = threading.Thread(
        target=lambda: answers.append(running.post("/api/backup/restore", {"backupName": "a.tar.gz"}))
    )
    chores.hold("prepare_restore")
    thread.start()
    chores.wait_for_one(running)
    refused(running.post("/api/backup/restore", {"backupName": "a.tar.gz"}), 409, "restore_running")
    assert running.post("/api/events", {"type": "t"}).status == 201
    chores.go_on(running)
    thread.join(60)

    assert [answer.status for answer in answers] == [200]
    assert running.get("/api/health").json()["store"]["events"] == 500

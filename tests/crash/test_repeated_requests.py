"""A request with an `Idempotency-Key` takes effect once, whatever is killed while it is carried out."""

from __future__ import annotations

import os
import secrets
import shutil
import signal
import threading
from collections.abc import Callable
from contextlib import suppress
from http.client import HTTPException

import pytest

from tests import processes
from tests.service import Reply, Service

pytestmark = pytest.mark.process


@pytest.fixture(scope="module")
def running(module_service: Callable[..., Service]) -> Service:
    service = module_service(workers=1)
    service.post("/api/events", [{"type": "t", "data": secrets.token_hex(500)} for _ in range(2000)])
    return service


def claims(service: Service) -> set[str]:
    return {path.name for path in (service.folder("STORAGE_DIR") / "operations").glob("*.key")}


def kill(pids: list[int]) -> None:
    for pid in pids:
        with suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)


def send_until_answered(service: Service, method: str, path: str, key: str) -> Reply:
    """Repeat a request until it is answered by something else than that it runs or that nobody is there."""
    answers: list[Reply] = []

    def answered() -> bool:
        with suppress(OSError, HTTPException):
            answers.append(service.request(method, path, headers={"Idempotency-Key": key}))
        return bool(answers) and answers[-1].status not in (409, 503)

    processes.wait_until(answered, "no answer")
    return answers[-1]


@pytest.mark.parametrize("killed", ["worker", "store", "worker and store"])
def test_a_backup_is_made_once(running: Service, killed: str) -> None:
    before, key = claims(running), secrets.token_hex(8)
    names = {backup["name"] for backup in running.get("/api/backup/list").json()["backups"]}

    def send() -> None:
        with suppress(OSError, HTTPException):
            running.post("/api/backup/create", headers={"Idempotency-Key": key})

    first = threading.Thread(target=send)
    first.start()
    processes.wait_until(lambda: claims(running) > before, "the key is not claimed")
    kill(running.workers() if "worker" in killed else [])
    kill(running.stores() if "store" in killed else [])
    first.join(60)
    made = send_until_answered(running, "POST", "/api/backup/create", key)

    assert made.status == 200
    there = {backup["name"] for backup in running.get("/api/backup/list").json()["backups"]}
    assert there - names == {made.json()["name"]}
    assert send_until_answered(running, "POST", "/api/backup/create", key).body == made.body


def test_a_delete_that_took_effect_is_answered_as_done(running: Service) -> None:
    name = running.post("/api/backup/create").json()["name"]
    path, key = f"/api/backup/{name}?force=true", secrets.token_hex(8)

    first = running.request("DELETE", path, headers={"Idempotency-Key": key})
    kill([*running.workers(), *running.stores()])

    assert send_until_answered(running, "DELETE", path, key).body == first.body


def test_events_are_stored_once_also_without_an_id(running: Service) -> None:
    body, answers = {"type": "keyed"}, list[Reply]()
    keys = [secrets.token_hex(8) for _ in range(20)]

    def send(key: str) -> None:
        with suppress(OSError, HTTPException):
            running.post("/api/events", body, headers={"Idempotency-Key": key})

    threads = [threading.Thread(target=send, args=(key,)) for key in keys]
    for thread in threads:
        thread.start()
    kill([*running.workers(), *running.stores()])
    for thread in threads:
        thread.join(60)
    for key in keys:

        def answered(key: str = key) -> bool:
            with suppress(OSError, HTTPException):
                answer = running.post("/api/events", body, headers={"Idempotency-Key": key})
                if answer.status == 201:
                    answers.append(answer)
                return answer.status == 201
            return False

        processes.wait_until(answered, "no answer")

    stored = running.get("/api/events/export?type=keyed").body.splitlines()
    assert len(stored) == len(keys) == len({answer.json()["results"][0]["id"] for answer in answers})


def test_keys_come_back_with_their_events_from_a_moment_an_undo_and_the_loss_of_storage(
    service: Callable[..., Service],
) -> None:
    running = service(workers=1, environment={"AUTO_RECOVER": "true", "JOURNAL_INTERVAL": "50"})

    def post(key: str) -> bytes:
        return running.post("/api/events", {"type": "keyed"}, headers={"Idempotency-Key": key}).body

    def is_journaled() -> bool:
        return bool(running.get("/api/health").json()["journal"]["lastSequence"] == 4)

    first: dict[str, bytes] = {}
    for key in ("archived", "journaled-1", "journaled-2", "last"):
        first[key] = post(key)
        if key == "archived":
            assert running.post("/api/backup/create").status == 200
    processes.wait_until(is_journaled, "the events are not in the journal", 60)

    assert running.post("/api/backup/restore", {"sequence": 3}).json()["events"] == 3
    answers = {key: post(key) for key in first}
    assert {key for key in first if answers[key] == first[key]} == {"archived", "journaled-1", "journaled-2"}
    assert running.post("/api/backup/undo").json()["events"] == 4
    assert {key: post(key) for key in first} == first
    processes.wait_until(is_journaled, "the undo is not in the journal", 60)

    kill([*running.workers(), *running.stores()])
    running.stop(signal.SIGKILL)
    shutil.rmtree(running.folder("STORAGE_DIR"))
    running = service(workers=1, environment={"AUTO_RECOVER": "true"})
    assert running.get("/api/health").json()["lastRestore"]["kind"] == "recovered"
    assert {key: post(key) for key in first} == first
    assert len(running.get("/api/events/export").body.splitlines()) == 4

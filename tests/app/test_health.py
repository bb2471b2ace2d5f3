"""`/api/health`: always 200 with the problems; ready only while a store answers."""

from __future__ import annotations

from typing import Any

import pytest
from flask.testing import FlaskClient

from eventvault.errors import DatabaseDamaged, EventVaultError, StoreRestoring, StoreUnavailable
from eventvault.store.memory.store import MemoryStore


def break_store(store: MemoryStore, monkeypatch: pytest.MonkeyPatch, error: EventVaultError) -> None:
    def fail() -> Any:
        raise error

    monkeypatch.setattr(store, "status", fail)


def test_a_fresh_installation_is_ok(web: FlaskClient) -> None:
    answer = web.get("/api/health")

    assert (answer.status_code, answer.json["status"], answer.json["problems"]) == (200, "ok", [])
    promised = {"available": True, "count": 0, "latest": None, "totalSizeMB": "0.00"}
    assert {name: answer.json["backup"][name] for name in promised} == promised
    assert {"store", "kafka", "journal", "jobs", "window", "lastRestore"} <= set(answer.json)
    assert (answer.json["store"]["events"], answer.json["store"]["lastSequence"]) == (0, 0)


@pytest.mark.slow
def test_the_latest_backup_is_an_entry_of_the_list(web: FlaskClient, backup: str) -> None:
    assert web.get("/api/health").json["backup"]["latest"] == web.get("/api/backup/list").json["backups"][0]


def test_how_many_backups_each_rule_keeps_is_shown(web: FlaskClient, backup: str) -> None:
    web.put(f"/api/backup/{backup}/pin")
    assert web.get("/api/health").json["backup"]["keptBy"] == {"newest": 1, "pinned": 1, "last-good": 1}


@pytest.mark.slow
def test_the_last_restore_is_shown(web: FlaskClient, backup: str) -> None:
    web.post("/api/backup/restore", json={"backupName": backup})
    last = web.get("/api/health").json["lastRestore"]
    assert (last["source"], last["events"], last["notJson"]) == (backup, 1, 0)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("error", "status", "codes"),
    [
        (StoreUnavailable("nobody answers", hint="wait"), "degraded", ["store_unavailable"]),
        (DatabaseDamaged("a bad record", hint="restore"), "degraded", ["database_damaged"]),
        (StoreRestoring("under way", hint="wait"), "restoring", []),
    ],
)
def test_health_answers_without_a_store(
    web: FlaskClient,
    store: MemoryStore,
    monkeypatch: pytest.MonkeyPatch,
    error: EventVaultError,
    status: str,
    codes: list[str],
) -> None:
    break_store(store, monkeypatch, error)
    answer = web.get("/api/health")
    ready = web.get("/api/health/ready")

    assert (answer.status_code, answer.json["status"]) == (200, status)
    assert [problem["code"] for problem in answer.json["problems"]] == codes
    assert answer.json["backup"]["available"] is False
    assert (ready.status_code, bool(ready.headers["Retry-After"])) == (503, True)
    assert web.get("/api/health/live").status_code == 200


def test_ready_answers_503_during_a_restore(
    web: FlaskClient, store: MemoryStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert web.get("/api/health/ready").status_code == 200
    status = {**store.status(), "status": "restoring"}
    monkeypatch.setattr(store, "status", lambda: status)
    assert (web.get("/api/health/ready").status_code, web.get("/api/health").json["status"]) == (503, "restoring")

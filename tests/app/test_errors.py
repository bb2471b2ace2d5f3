"""Every error has the error form, the table has every code, and no traceback leaves the process."""

from __future__ import annotations

import errno
import logging
from typing import Any

import pytest
from flask import Flask
from flask.testing import FlaskClient

from eventvault import errors
from eventvault.store.memory.store import MemoryStore


def require_shape(body: Any) -> None:
    assert body["success"] is False
    assert all(isinstance(body[name], str) and body[name] for name in ("code", "error"))
    assert isinstance(body["hint"], str)
    assert "Traceback" not in str(body)


@pytest.mark.parametrize(
    ("method", "path", "status", "code"),
    [
        ("GET", "/nowhere", 404, "not_found"),
        ("GET", "/api/backup/nowhere.tar.gz", 404, "backup_not_found"),
        ("GET", "/api/events/nowhere", 404, "event_not_found"),
        ("GET", "/api/events?limit=0", 422, "invalid"),
        ("GET", "/api/events?unknown=1", 422, "invalid"),
        ("POST", "/api/events", 400, "malformed"),
        ("DELETE", "/api/health", 405, "method_not_allowed"),
        ("GET", "/api/backup/create", 405, "method_not_allowed"),
        ("DELETE", "/api/backup/list", 405, "method_not_allowed"),
        ("GET", "/docs/static/nowhere.js", 404, "not_found"),
    ],
)
def test_each_error_has_the_error_form(web: FlaskClient, method: str, path: str, status: int, code: str) -> None:
    answer = web.open(path, method=method)

    assert (answer.status_code, answer.json["code"]) == (status, code)
    assert answer.content_type == "application/json"
    require_shape(answer.json)


def test_a_405_lists_the_allowed_methods(web: FlaskClient) -> None:
    answer = web.put("/api/events")
    assert {"GET", "POST"} <= set(answer.headers["Allow"].replace(" ", "").split(","))


def test_a_422_names_the_fields(web: FlaskClient) -> None:
    answer = web.get("/api/events?limit=x&from=yesterday")
    assert set(answer.json["fields"]) == {"limit", "from"}


@pytest.mark.slow
def test_an_unexpected_exception_is_logged_and_answered_with_a_reference(
    app: Flask, store: MemoryStore, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def explode(*_: object, **__: object) -> None:
        raise ZeroDivisionError("the secret inside")

    monkeypatch.setattr(store, "list_backups", explode)
    with caplog.at_level(logging.ERROR):
        answer = app.test_client().get("/api/backup/list")

    require_shape(answer.json)
    assert (answer.status_code, answer.json["code"]) == (500, "internal_error")
    assert "secret" not in answer.text
    assert answer.json["reference"] in caplog.text
    assert "the secret inside" in caplog.text


@pytest.mark.parametrize(
    ("error", "status", "retry"),
    [
        (errors.StoreUnavailable("away", hint="wait"), 503, "1"),
        (errors.StoreRestoring("restoring", hint="wait"), 503, "2"),
        (errors.NoSpace("full", hint="free some"), 507, None),
        (errors.RestoreRunning("busy", hint="wait"), 409, None),
        (errors.ArchiveDamaged("bad", hint="copy again"), 422, None),
        (errors.EventVaultError("nobody knows"), 500, None),
    ],
)
def test_errors_of_the_store_become_statuses(
    web: FlaskClient,
    store: MemoryStore,
    monkeypatch: pytest.MonkeyPatch,
    error: errors.EventVaultError,
    status: int,
    retry: str | None,
) -> None:
    def fail(*_: object, **__: object) -> None:
        raise error

    monkeypatch.setattr(store, "create_backup", fail)
    answer = web.post("/api/backup/create")

    require_shape(answer.json)
    assert (answer.status_code, answer.headers.get("Retry-After")) == (status, retry)
    assert status == 500 or answer.json["hint"] == error.hint


def test_details_of_an_error_are_members_of_its_answer(web: FlaskClient, backup: str) -> None:
    answer = web.post("/api/backup/restore", json={"backupName": "../x", "apply": "soon"})
    assert set(answer.json["fields"]) == {"backupName", "apply"}


@pytest.mark.parametrize(
    ("error", "status", "code"),
    [
        (OSError(errno.ENOSPC, "x", "/data/storage/a"), 507, "no_space"),
        (OSError(errno.EDQUOT, "x"), 507, "no_space"),
        (OSError(errno.EFBIG, "x"), 507, "no_space"),
        (OSError(errno.EMFILE, "x"), 503, "too_busy"),
        (OSError(errno.ENFILE, "x"), 503, "too_busy"),
        (BlockingIOError(errno.EAGAIN, "x"), 503, "too_busy"),
        (MemoryError(), 503, "too_busy"),
        (OSError(errno.EROFS, "x", "/mnt/block-storage/no quota/LOCK"), 503, "disk_failed"),
        (PermissionError(errno.EACCES, "x"), 503, "disk_failed"),
        (OSError(errno.EIO, "x"), 503, "disk_failed"),
        (OSError(errno.ESTALE, "x"), 503, "disk_failed"),
    ],
)
def test_what_the_system_says_to_this_process_is_an_answer_and_no_traceback(
    web: FlaskClient,
    store: MemoryStore,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    error: Exception,
    status: int,
    code: str,
) -> None:
    def fail(*_: object, **__: object) -> None:
        raise error

    monkeypatch.setattr(store, "list_backups", fail)
    answer = web.get("/api/backup/list")

    require_shape(answer.json)
    assert (answer.status_code, answer.json["code"]) == (status, code)
    assert answer.json["error"].startswith("GET /api/backup/list failed: ")
    assert answer.json["hint"]
    assert (status == 503) == ("Retry-After" in answer.headers)
    assert [record.exc_info for record in caplog.records] == [None]

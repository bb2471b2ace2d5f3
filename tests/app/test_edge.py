"""The slots for long requests: which requests need one, which never do, and that each slot is freed."""

from __future__ import annotations

from typing import Any

import pytest
from flask import Flask
from flask.testing import FlaskClient

from app.edge import MAX_LONG_CALLS, Edge

pytestmark = pytest.mark.slow

NOW = "2999-01-01T00:00:00Z"
LONG = [
    ("/api/backup/create", {}),
    ("/api/backup/restore", {"backupName": "NAME"}),
    ("/api/backup/restore", {"sequence": 1}),
    ("/api/backup/restore", {"sequence": 1, "dryRun": True}),
    ("/api/backup/restore", {"sequence": 1, "into": "present"}),
    ("/api/backup/restore", {"backupName": "NAME", "into": "export"}),
    ("/api/backup/undo", {}),
    ("/api/backup/NAME/verify", {}),
    (f"/api/events?asOf={NOW}", None),
    (f"/api/events?id=kept&asOf={NOW}", None),
    (f"/api/events/export?asOf={NOW}", None),
]
SHORT = ["/api/health", "/api/health/ready", "/api/events", "/api/events/kept", "/api/backup/list", "/metrics"]


def ask(web: FlaskClient, path: str, body: dict[str, Any] | None, name: str) -> tuple[int, str]:
    """Return (status, code of the error) of a POST with that body, or of a GET."""
    path = path.replace("NAME", name)
    sent = {key: name if value == "NAME" else value for key, value in (body or {}).items()}
    answer = web.get(path, buffered=True) if body is None else web.post(path, json=sent, buffered=True)
    given = answer.get_json(silent=True) or {}
    return answer.status_code, given.get("code", "")


@pytest.mark.parametrize(("path", "body"), LONG)
def test_a_long_call_needs_a_free_slot(
    web: FlaskClient, app: Flask, backup: str, path: str, body: dict[str, Any] | None
) -> None:
    edge: Edge = app.extensions["eventvault"]
    taken = [edge.long_calls.acquire() for _ in range(MAX_LONG_CALLS)]

    assert ask(web, path, body, backup) == (503, "too_busy")
    assert [web.get(short).status_code for short in SHORT] == [200] * len(SHORT)

    taken[0]()
    assert ask(web, path, body, backup)[1] != "too_busy"


@pytest.mark.parametrize(("path", "body"), LONG)
def test_a_long_call_frees_its_slot_even_if_it_fails(
    web: FlaskClient, backup: str, path: str, body: dict[str, Any] | None
) -> None:
    for name in (backup, "nowhere.tar.gz"):
        codes = {ask(web, path, body, name)[1] for _ in range(MAX_LONG_CALLS + 1)}
        assert "too_busy" not in codes

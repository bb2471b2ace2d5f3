"""Query strings and bodies: every route refuses unknown parameters and members, and repeated parameters."""

from __future__ import annotations

import pytest
from flask import Flask
from flask.testing import FlaskClient

from app import create_app
from eventvault.jobs.memory_jobs import MemoryJobs
from eventvault.settings import Settings
from eventvault.store.memory.store import MemoryStore


@pytest.fixture
def app(settings: Settings, store: MemoryStore) -> Flask:
    """With jobs too: where they are switched off, each of their routes answers that."""
    return create_app(settings, store, jobs=MemoryJobs(), shared_seconds=0.0)


def routes(app: Flask) -> list[tuple[str, str]]:
    """Return (method, path) of every route of the API, with values for its variables."""
    found = []
    with app.test_request_context():
        for rule in app.url_map.iter_rules():
            if not rule.rule.startswith("/api/") or rule.rule.startswith("/api/health"):
                continue
            there = rule.rule.replace("<int(max=2147483647):partition>", "0")
            there = (
                there.replace("<backup_name:name>", "a.tar.gz")
                .replace("<event_id:event_id>", "a")
                .replace("<job_id:job_id>", "a")
                .replace("<topic:topic>", "events")
                .replace("<event_id:name>", "a")
                .replace("<string:code>", "rolled_back")
                .replace("<string:operation_id>", "f" * 16)
                .replace("<string:token_id>", "0" * 8)
            )
            assert "<" not in there
            found += [(method, there) for method in (rule.methods or set()) - {"HEAD", "OPTIONS"}]
    return found


@pytest.mark.slow
def test_every_route_refuses_an_unknown_parameter(app: Flask, web: FlaskClient) -> None:
    there = routes(app)
    assert len(there) > 15
    for method, path in there:
        answer = web.open(f"{path}?nonsense=1", method=method)
        assert (answer.status_code, answer.json["code"]) == (422, "invalid"), (method, path)
        assert answer.json["fields"]["nonsense"] == ["Unknown field."], (method, path)
        assert answer.json["hint"]


@pytest.mark.slow
def test_every_route_that_changes_something_refuses_an_unknown_member_of_the_body(app: Flask, web: FlaskClient) -> None:
    for method, path in routes(app):
        if method == "GET" or path.endswith("/upload"):
            continue
        answer = web.open(path, method=method, json={"nonsense": 1, "type": "a"})
        if path == "/api/events":
            assert answer.status_code == 201  # members of an event are its attributes
        else:
            assert (answer.status_code, answer.json["code"]) == (422, "invalid"), (method, path)
            assert "nonsense" in answer.json["fields"], (method, path)
            assert answer.json["hint"]


@pytest.mark.slow
@pytest.mark.parametrize("body", ["", " ", "{}"])
def test_a_route_without_options_takes_an_empty_body(web: FlaskClient, backup: str, body: str) -> None:
    answer = web.post(f"/api/backup/{backup}/verify", data=body, content_type="application/json")
    assert answer.status_code == 200


def test_a_delete_with_its_options_in_the_body_deletes_nothing(web: FlaskClient, backup: str) -> None:
    answer = web.delete(f"/api/backup/{backup}?force=true", json={"dryRun": True})

    assert (answer.status_code, answer.json["fields"]) == (422, {"dryRun": ["Unknown field."]})
    assert [entry["name"] for entry in web.get("/api/backup/list").json["backups"]] == [backup]


@pytest.mark.slow
def test_every_route_refuses_a_repeated_parameter(app: Flask, web: FlaskClient) -> None:
    for method, path in routes(app):
        answer = web.open(f"{path}?name=a&name=b", method=method)
        assert (answer.status_code, answer.json["code"]) == (422, "invalid"), (method, path)
        assert answer.json["fields"]["name"] == ["Given more than once."], (method, path)


@pytest.mark.parametrize("query", ["dryRun=true", "into=export", "apply=restart"])
def test_a_restore_with_its_options_in_the_address_restores_nothing(web: FlaskClient, backup: str, query: str) -> None:
    web.post("/api/events", json={"type": "a", "id": "since"})

    answer = web.post(f"/api/backup/restore?{query}", json={"backupName": backup})

    assert answer.status_code == 422
    assert "body" in answer.json["hint"]
    assert len(web.get("/api/events").json["events"]) == 2


@pytest.mark.slow
@pytest.mark.parametrize("query", ["dryRun=true", "name=foo"])
def test_an_undo_with_options_in_the_address_undoes_nothing(web: FlaskClient, backup: str, query: str) -> None:
    web.post("/api/backup/restore", json={"backupName": backup})

    answer = web.post(f"/api/backup/undo?{query}")

    assert answer.status_code == 422
    assert "body" in answer.json["hint"]
    assert len(web.get("/api/backup/undo").json["undo"]) == 1


@pytest.mark.parametrize("path", ["/api/health", "/api/health/live", "/api/health/ready", "/metrics"])
def test_monitoring_routes_accept_any_parameter_to_avoid_caches(web: FlaskClient, path: str) -> None:
    assert web.get(f"{path}?_=1735300000&_=1").status_code == 200


def test_long_calls_accept_async(web: FlaskClient) -> None:
    assert web.post("/api/backup/create?async=true").status_code in (200, 202)

"""Behind the `?` of an address stands what its route knows, and nothing else; so nobody is misunderstood."""

from __future__ import annotations

import pytest
from flask import Flask
from flask.testing import FlaskClient


def routes(app: Flask) -> list[tuple[str, str]]:
    """(method, path) of every route of the API, with something in the place of what is variable."""
    found = []
    with app.test_request_context():
        for rule in app.url_map.iter_rules():
            if not rule.rule.startswith("/api/") or rule.rule.startswith("/api/health"):
                continue
            there = rule.rule.replace("<int(max=2147483647):partition>", "0")
            there = there.replace("<backup_name:name>", "a.tar.gz").replace("<event_id:event_id>", "a")
            assert "<" not in there
            found += [(method, there) for method in (rule.methods or set()) - {"HEAD", "OPTIONS"}]
    return found


def test_no_route_of_the_api_takes_a_parameter_that_it_does_not_know(app: Flask, web: FlaskClient) -> None:
    there = routes(app)
    assert len(there) > 15
    for method, path in there:
        answer = web.open(f"{path}?nonsense=1", method=method)
        assert (answer.status_code, answer.json["code"]) == (422, "invalid"), (method, path)
        assert answer.json["fields"]["nonsense"] == ["Unknown field."], (method, path)
        assert answer.json["hint"]


def test_no_route_of_the_api_takes_a_parameter_twice(app: Flask, web: FlaskClient) -> None:
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


@pytest.mark.parametrize("query", ["dryRun=true", "name=foo"])
def test_an_undo_with_options_in_the_address_undoes_nothing(web: FlaskClient, backup: str, query: str) -> None:
    web.post("/api/backup/restore", json={"backupName": backup})

    answer = web.post(f"/api/backup/undo?{query}")

    assert answer.status_code == 422
    assert "body" in answer.json["hint"]
    assert len(web.get("/api/backup/undo").json["undo"]) == 1


@pytest.mark.parametrize("path", ["/api/health", "/api/health/live", "/api/health/ready", "/metrics"])
def test_what_is_watched_may_be_asked_with_anything_against_caches(web: FlaskClient, path: str) -> None:
    assert web.get(f"{path}?_=1735300000&_=1").status_code == 200


def test_a_long_operation_may_be_asked_for_with_async(web: FlaskClient) -> None:
    assert web.post("/api/backup/create?async=true").status_code in (200, 202)

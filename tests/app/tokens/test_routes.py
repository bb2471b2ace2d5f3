"""`/api/tokens`: making, replacing, listing and revoking tokens over HTTP."""

from __future__ import annotations

from typing import Any

import pytest
from flask.testing import FlaskClient
from werkzeug.test import TestResponse

from eventvault import clock
from eventvault.access.changes import TokenChanges
from eventvault.settings import Settings


@pytest.fixture
def admin(settings: Settings) -> dict[str, str]:
    """The headers of an administrator."""
    return {"Authorization": f"Bearer {TokenChanges(settings).create('admin', 'admin', by='shell').text}"}


def make(web: FlaskClient, admin: dict[str, str], **members: Any) -> TestResponse:
    return web.post("/api/tokens", json=members, headers=admin)


def status_with(web: FlaskClient, token: str) -> int:
    return web.get("/api/events", headers={"Authorization": f"Bearer {token}"}).status_code


@pytest.mark.slow
def test_a_token_that_was_made_over_http_is_valid_at_once_until_it_is_revoked(
    web: FlaskClient, admin: dict[str, str]
) -> None:
    made = make(web, admin, name="reader", scope="read+backup", expires="90d")
    assert made.status_code == 201
    assert made.json | {"token": "", "id": "", "created": "", "expires": ""} == {
        "success": True, "token": "", "id": "", "name": "reader", "scope": "read+backup", "created": "", "expires": "",
        "from": "admin",
    }  # fmt: skip
    assert clock.parse(made.json["expires"]) - clock.parse(made.json["created"]) == 90 * 86_400_000_000
    assert status_with(web, made.json["token"]) == 200
    revoked = web.delete(f"/api/tokens/{made.json['id']}", headers=admin)
    assert (revoked.status_code, revoked.json["name"]) == (200, "reader")
    assert status_with(web, made.json["token"]) == 401
    assert web.delete(f"/api/tokens/{made.json['id']}", headers=admin).json == revoked.json


@pytest.mark.slow
def test_the_list_has_all_but_the_tokens_themselves(web: FlaskClient, admin: dict[str, str]) -> None:
    made = make(web, admin, name="reader", scope="read").json
    answer = web.get("/api/tokens", headers=admin)
    assert made["token"] not in answer.text
    assert [(token["name"], token["scope"], token["from"], token["expired"]) for token in answer.json["tokens"]] == [
        ("admin", "admin", "shell", False),
        ("reader", "read", "admin", False),
    ]


@pytest.mark.slow
def test_a_token_is_replaced(web: FlaskClient, admin: dict[str, str]) -> None:
    old = make(web, admin, name="reader", scope="read").json
    new = make(web, admin, rotate="reader")
    assert new.status_code == 201
    assert new.json["previous"]["id"] == old["id"]
    assert new.json["previous"]["expires"] > new.json["created"]
    assert [status_with(web, each["token"]) for each in (old, new.json)] == [200, 200]
    newest = make(web, admin, rotate="reader", now=True).json
    assert [status_with(web, each["token"]) for each in (old, new.json, newest)] == [401, 401, 200]


@pytest.mark.slow
@pytest.mark.parametrize(
    ("members", "fields"),
    [
        ({}, {"name", "scope"}),
        ({"name": "a"}, {"scope"}),
        ({"name": "open", "scope": "read"}, {"name"}),
        ({"name": "a", "scope": "everything"}, {"scope"}),
        ({"name": "a", "scope": ["read"]}, {"scope"}),
        ({"name": "a", "scope": "read", "expires": "soon"}, {"expires"}),
        ({"name": "a", "scope": "read", "expires": 90}, {"expires"}),
        ({"name": "a", "scope": "read", "now": True}, {"now"}),
        ({"name": "a", "scope": "read", "rotate": "b"}, {"name", "scope"}),
        ({"rotate": "a", "expires": "1d"}, {"expires"}),
        ({"name": "a", "scope": "read", "secret": "mine"}, {"secret"}),
    ],
)
def test_what_is_not_valid_is_named(
    web: FlaskClient, admin: dict[str, str], members: dict[str, Any], fields: set[str]
) -> None:
    answer = make(web, admin, **members)
    assert (answer.status_code, set(answer.json["fields"])) == (422, fields)
    assert len(web.get("/api/tokens", headers=admin).json["tokens"]) == 1


@pytest.mark.slow
def test_conflicts_and_what_is_not_there(web: FlaskClient, admin: dict[str, str]) -> None:
    assert make(web, admin, name="admin", scope="read").json["code"] == "token_exists"
    assert make(web, admin, rotate="nobody-here").json["code"] == "token_not_found"
    assert web.delete("/api/tokens/00000000", headers=admin).status_code == 404


@pytest.mark.parametrize("method", ["POST", "DELETE"])
def test_no_answer_with_a_token_is_kept_for_a_key(
    web: FlaskClient, admin: dict[str, str], settings: Settings, method: str
) -> None:
    path = "/api/tokens" if method == "POST" else "/api/tokens/00000000"
    body = {"name": "a", "scope": "read"} if method == "POST" else None
    answer = web.open(path, method=method, json=body, headers={**admin, "Idempotency-Key": "k"})
    assert (answer.status_code, list(answer.json["fields"])) == (422, ["Idempotency-Key"])
    assert not list((settings.storage_dir / "operations").glob("*.key"))


@pytest.mark.slow
def test_the_last_admin_token_may_be_revoked_and_the_service_stays_closed(
    web: FlaskClient, admin: dict[str, str]
) -> None:
    (token,) = web.get("/api/tokens", headers=admin).json["tokens"]
    assert web.delete(f"/api/tokens/{token['id']}", headers=admin).status_code == 200
    assert web.get("/api/tokens", headers=admin).status_code == 401
    assert web.get("/api/tokens").status_code == 401


def test_the_first_token_can_be_made_over_http_while_the_service_is_open(web: FlaskClient) -> None:
    made = make(web, {}, name="admin", scope="admin").json
    assert made["from"] == "open"
    assert web.get("/api/events").status_code == 401
    assert status_with(web, made["token"]) == 200

"""The check at the front door: headers, queries, origins, and whom what is done is done by."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

import pytest
from flask import Flask
from flask.testing import FlaskClient

from app import create_app, serving
from app.access import current_credential
from eventvault import token_text
from eventvault.access.changes import TokenChanges
from eventvault.settings import Settings, load
from eventvault.store.memory.store import MemoryStore
from tests import processes


@pytest.fixture
def admin(settings: Settings) -> str:
    """A token; from it on the service is closed."""
    return TokenChanges(settings).create("admin", "admin", by="shell").text


@pytest.fixture
def cron(settings: Settings) -> str:
    return TokenChanges(settings).create("cron", "backup", by="shell").text


def bearer(token: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {token}"}


@pytest.mark.slow
@pytest.mark.parametrize(
    ("header", "status"),
    [
        ("Bearer {}", 200),
        ("bearer {}", 200),
        ("BEARER   {}", 200),
        ("Bearer {}  ", 200),
        ("{}", 401),
        ("Bearer", 401),
        ("Bearer ", 401),
        ("Basic {}", 401),
        ("Bearer {},Bearer {}", 401),
        ("Bearer {}, {}", 401),
        ("Bearer a {}", 401),
        ("Bearer {} a", 401),
        ("Bearer\t{}", 401),
        ("Bearer\u00a0{}", 401),
        ("Bearer {}\u00e9", 401),
        ("Bearer \u00e9", 401),
        ('Bearer "{}"', 401),
        ("Bearer " + "x" * 7000, 401),
    ],
)
def test_the_header_has_one_token(web: FlaskClient, admin: str, header: str, status: int) -> None:
    text = header.replace("{}", admin)
    answer = web.get("/api/events", environ_overrides={"HTTP_AUTHORIZATION": text})
    assert answer.status_code == status
    assert admin not in answer.text
    if status == 401:
        assert answer.headers["WWW-Authenticate"] == 'Bearer error="invalid_token"'


@pytest.mark.slow
@pytest.mark.parametrize(
    "query",
    ["token={}", "access_token={}", "x={}", "{}", "a=1&Token=short", "a=1&t%6Fken=short", "q=%65{rest}", "a=b%20{}"],
)
@pytest.mark.parametrize("is_closed", [True, False])
def test_a_token_in_a_query_is_refused_and_not_logged(
    web: FlaskClient, settings: Settings, caplog: pytest.LogCaptureFixture, query: str, is_closed: bool
) -> None:
    token = TokenChanges(settings).create("a", "admin", by="shell").text if is_closed else token_text.new_token()
    caplog.set_level(logging.DEBUG)
    address = "/api/events?" + query.replace("{}", token).replace("{rest}", token[1:])
    answer = web.get(address, headers=bearer(token) if is_closed else {})
    assert (answer.status_code, answer.json["code"]) == (400, "malformed")
    secret = token.rpartition("_")[2]
    assert secret not in answer.text
    assert secret not in caplog.text


@pytest.mark.parametrize("path", ["/api/events/{}", "/{}", "/api/tokens/{}"])
def test_a_token_in_a_path_is_refused_and_not_repeated(web: FlaskClient, path: str) -> None:
    token = token_text.new_token()
    answer = web.get(path.format(token))
    assert answer.status_code == 400
    assert token not in answer.text


def test_a_query_that_only_looks_like_a_token_is_served(web: FlaskClient) -> None:
    wrong = token_text.new_token()[:-1] + "0"
    address = f"/api/events?type=ev_12345678_{'x' * 38}&subject={'a' if token_text.is_whole(wrong) else wrong}"
    assert web.get(address).status_code == 200


def test_an_open_service_looks_at_no_token(web: FlaskClient) -> None:
    assert web.get("/api/events", headers=bearer("whatever")).status_code == 200


def test_closed_means_closed_to_this_machine_too(web: FlaskClient, admin: str) -> None:
    assert web.get("/api/events").status_code == 401
    assert web.get("/api/events", headers=bearer(admin)).status_code == 200


@pytest.mark.slow
def test_tokens_win_over_allow_unauthenticated(settings_environment: dict[str, str], store: MemoryStore) -> None:
    settings = load({**settings_environment, "ALLOW_UNAUTHENTICATED": "true"})
    web = create_app(settings, store).test_client()
    assert web.get("/api/events").status_code == 200
    TokenChanges(settings).create("a", "admin", by="shell")
    web = create_app(settings, store).test_client()
    assert web.get("/api/events").status_code == 401


def test_a_closed_service_answers_other_machines_and_under_any_name_to_a_token(web: FlaskClient, admin: str) -> None:
    far = {"environ_base": {"REMOTE_ADDR": "192.168.1.9"}}
    named = {"Host": "vault.example"}
    assert web.get("/api/events", headers={**bearer(admin), **named}, **far).status_code == 200
    assert web.get("/api/health/live", headers=named, **far).status_code == 403
    assert web.get("/api/health/live", headers={"Host": "192.168.1.2:5050"}, **far).status_code == 200


@pytest.mark.slow
def test_a_page_of_another_site_may_not_use_a_token(web: FlaskClient, admin: str) -> None:
    for header in ({"Origin": "http://evil.example"}, {"Sec-Fetch-Site": "cross-site"}):
        assert web.get("/api/events", headers={**bearer(admin), **header}).status_code == 403


@pytest.mark.slow
def test_a_disabled_service_answers_other_machines_no_more(web: FlaskClient, settings: Settings, admin: str) -> None:
    far: dict[str, Any] = {"environ_base": {"REMOTE_ADDR": "192.168.1.9"}}
    assert web.get("/api/events", headers=bearer(admin), **far).status_code == 200
    TokenChanges(settings).disable(by="shell")
    processes.wait_until(lambda: web.get("/api/events").status_code == 200, "it is closed still")
    assert web.get("/api/events", headers=bearer(admin), **far).status_code == 403


@pytest.mark.slow
def test_operations_are_started_by_the_name_of_the_token(web: FlaskClient, admin: str, cron: str) -> None:
    assert web.post("/api/backup/create", headers=bearer(cron)).status_code == 200
    assert web.post("/api/backup/create?async=true", headers=bearer(admin)).status_code == 202
    operations = web.get("/api/operations", headers=bearer(admin)).json["operations"]
    assert {operation["startedBy"] for operation in operations} == {"cron", "admin"}


@pytest.mark.slow
def test_a_backup_token_sees_the_operations_that_it_began_and_no_others(
    web: FlaskClient, admin: str, cron: str
) -> None:
    for token in (cron, admin, cron):
        web.post("/api/backup/create", headers=bearer(token))
    every = web.get("/api/operations", headers=bearer(admin)).json["operations"]
    own = web.get("/api/operations?limit=1", headers=bearer(cron)).json["operations"]
    own += web.get(f"/api/operations?before={own[0]['id']}", headers=bearer(cron)).json["operations"]
    assert [one["id"] for one in own] == [one["id"] for one in every if one["startedBy"] == "cron"]
    for operation in every:
        is_own = operation["startedBy"] == "cron"
        for path in ("", "/stream"):
            answer = web.get(f"/api/operations/{operation['id']}{path}", headers=bearer(cron), buffered=True)
            assert (answer.status_code == 200) is is_own
            assert is_own or answer.json["code"] == "operation_not_found"


@pytest.mark.slow
def test_idempotency_keys_are_those_of_a_token(web: FlaskClient, admin: str, settings: Settings) -> None:
    other = TokenChanges(settings).create("other", "admin", by="shell").text
    key = {"Idempotency-Key": "one"}

    def post(token: str) -> str:
        answer = web.post("/api/backup/create", headers={**bearer(token), **key})
        assert answer.status_code == 200
        name: str = answer.json["name"]
        return name

    assert post(admin) == post(admin)
    web.post("/api/events", json={"type": "t"}, headers=bearer(admin))
    assert post(admin) != post(other)


@pytest.mark.slow
def test_a_request_that_is_refused_leaves_no_credential_for_the_next(app: Flask, web: FlaskClient, admin: str) -> None:
    names = []
    app.after_request_funcs.setdefault(None, []).append(lambda response: names.append(_name()) or response)
    web.get("/api/events", headers=bearer(admin))
    web.get("/docs/")
    web.get("/api/health")
    assert names == ["nobody", "nobody", "admin"][::-1]


def _name() -> str:
    return current_credential().name


@pytest.mark.slow
def test_a_worker_reads_the_tokens_when_it_starts(
    settings_environment: dict[str, str], store: MemoryStore, tmp_path: Path
) -> None:
    path, text = tmp_path / "tokens", "whatever"
    path.write_text(f"ci:read:sha256={token_text.digest_of(text).hex()}")
    app = create_app(load({**settings_environment, "API_TOKENS_FILE": str(path)}), store)
    serving.load_tokens(app)
    path.write_text("nonsense")
    app.extensions["eventvault"].tokens.check_again()
    assert app.test_client().get("/api/events", headers=bearer(text)).status_code == 200
    serving.load_tokens(None)  # where the application could not be loaded

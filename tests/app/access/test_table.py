"""The table of scopes: every route is in it, nothing else is, and the service answers as it says."""

from __future__ import annotations

import hashlib
import ipaddress
import itertools
from collections.abc import Iterator
from typing import Any

import pytest
from flask import Flask
from flask.testing import FlaskClient
from werkzeug.test import TestResponse

from app import create_app
from app.access.table import NEEDS, PUBLIC, Need, name_of
from app.streams import writer
from eventvault import token_text
from eventvault.access.changes import TokenChanges
from eventvault.settings import load
from eventvault.store.memory.store import MemoryStore
from tests.stores import folders_beneath

SCOPES = ("metrics", "backup", "read", "write", "admin")
REFUSED = ("none", "malformed", "wrong", "expired", "revoked")
COLUMNS = (*REFUSED, *SCOPES)
COOKIES = ("cookie", "cookie and key", "cookie, cross-site", "cookie, stale", "cookie, revoked")
"""Of a session of an `admin` token; with the key, of a `read` token."""
BY_COOKIE = {
    "GET /api/events/export", "GET /api/events/stream", "GET /api/backup/<name>/download",
    "GET /api/operations/<operation_id>/file", "GET /api/operations/<operation_id>/stream",
    "GET /api/changes/stream",
}  # fmt: skip

TABLE = """
metrics read write admin: GET /metrics
metrics backup read write admin: DELETE /api/session
read write admin: GET /api/settings
read write admin: GET /api/events
read write admin: GET /api/events/<event_id>
read write admin: GET /api/events/export
read write admin: POST /api/events/export
read write admin: GET /api/events/stream
read write admin: GET /api/events/histogram
read write admin: GET /api/events/types
read write admin: GET /api/backup/timeline
read write admin: GET /api/backup/diff
read write admin: GET /api/backup/undo
read write admin: GET /api/kafka/quarantine
write admin: POST /api/kafka/quarantine
write admin: POST /api/events
backup read write admin: POST /api/jobs
read write admin: GET /api/jobs
read write admin: GET /api/jobs/types
read write admin: GET /api/jobs/<job_id>
read write admin: GET /api/jobs/schedules
read write admin: GET /api/jobs/schedules/<name>
backup read write admin: GET /api/operations
backup read write admin: GET /api/operations/<operation_id>
backup read write admin: GET /api/operations/<operation_id>/file
backup read write admin: GET /api/operations/<operation_id>/stream
backup read write admin: GET /api/changes/stream
backup read write admin: GET /api/backup/list
backup read write admin: GET /api/backup/export-metadata
backup read write admin: GET /api/backup/<name>
backup read write admin: GET /api/backup/<name>/download
backup read write admin: GET /api/backup/rehearsals
backup admin: POST /api/backup/create
backup admin: POST /api/backup/<name>/verify
backup admin: POST /api/backup/rehearse
backup admin: POST /api/backup/<name>/rehearse
backup admin: PUT /api/backup/<name>/pin
backup admin: DELETE /api/backup/<name>/pin
"""
"""Which scopes may: written from the contract and not from `app/access/table.py`. All others need `admin`."""
MAY = {name: set(scopes.split()) for scopes, name in (line.split(": ") for line in TABLE.strip().splitlines())}
WITHOUT_TOKEN = {
    "GET /", "GET /ui/<version>/<name>", "GET /docs", "GET /docs/", "GET /docs/api", "GET /docs/search.json",
    "GET /docs/<name>", "GET /docs/pictures/<filename>", "GET /docs/static/<filename>", "GET /openapi.json",
    "GET /api/health/live", "GET /api/health/ready", "POST /api/session",
}  # fmt: skip
LESS_WITHOUT_TOKEN = {"GET /api/health"}


class Closed:
    """A service that is closed, with a token or a session for each column of the table.

    Each request comes from an address of its own, as one with many wrong tokens would be answered with 429.
    """

    def __init__(self, app: Flask, tokens: dict[str, str | None]) -> None:
        self.app = app
        self.tokens = tokens
        self.sessions: dict[str, dict[str, str]] = {}
        self._addresses = itertools.count(int(ipaddress.IPv4Address("10.0.0.1")))

    def send(self, name: str, column: str, **more: Any) -> TestResponse:
        """Send a request that no view accepts for another reason than its token, where that is possible."""
        method, _, rule = name.partition(" ")
        token = self.tokens.get(column)
        headers = {} if token is None else {"Authorization": f"Bearer {token}"}
        headers |= self.sessions.get(column, {})
        web: FlaskClient = self.app.test_client(use_cookies=False)
        more.setdefault("environ_base", {"REMOTE_ADDR": str(ipaddress.IPv4Address(next(self._addresses)))})
        return web.open(path_of(rule), method=method, headers={**headers, **more.pop("headers", {})}, **more)

    def sign_in(self, token: str) -> dict[str, str]:
        """The headers of a session."""
        answer = self.send("POST /api/session", "none", json={"token": token})
        return {"Cookie": answer.headers["Set-Cookie"].partition(";")[0], "X-EventVault-Session": answer.json["key"]}


def path_of(rule: str) -> str:
    for parameter, value in (
        ("<partition>", "0"), ("<topic>", "events"), ("<filename>", "nothing.js"), ("<name>", "missing.tar.gz"),
        ("<event_id>", "missing"),
        ("<operation_id>", "0" * 16), ("<code>", "nothing"), ("<token_id>", "00000000"),
        ("<job_id>", "missing"),
    ):  # fmt: skip
        rule = rule.replace(parameter, value)
    return rule


@pytest.fixture(scope="module")
def closed(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Closed]:
    settings = load({**folders_beneath(tmp_path_factory.mktemp("closed"))})
    settings.backup_dir.mkdir(parents=True)
    now = [1_700_000_000_000_000]
    earlier = TokenChanges(settings, lambda: now[0])
    expired = earlier.create("expired", "admin", by="shell", expires="1h")
    changes = TokenChanges(settings)
    revoked = changes.create("revoked", "admin", by="shell")
    changes.revoke(revoked.token.id, by="shell")
    tokens: dict[str, str | None] = {
        "none": None,
        "malformed": "nonsense",
        "wrong": token_text.new_token(),
        "expired": expired.text,
        "revoked": revoked.text,
    }
    for scope in SCOPES:
        tokens[scope] = changes.create(scope, scope, by="shell").text
    app = create_app(settings, MemoryStore(settings.backup_dir), shared_seconds=0.0)
    service = Closed(app, tokens)
    revoked_later = changes.create("revoked-later", "admin", by="shell")
    admin, reader = (service.sign_in(str(tokens[scope])) for scope in ("admin", "read"))
    alone = {"Cookie": admin["Cookie"]}
    service.sessions = {
        "cookie": alone,
        "cookie and key": reader,
        "cookie, cross-site": {**admin, "Sec-Fetch-Site": "cross-site"},
        "cookie, stale": {**admin, "Cookie": "__Host-ev=of-a-session-that-is-over"},
        "cookie, revoked": service.sign_in(revoked_later.text),
    }
    changes.revoke(revoked_later.token.id, by="shell")
    app.extensions["eventvault"].tokens.check_again()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(writer, "STREAM_SECONDS", 0.05)
        yield service


def routes(app: Flask) -> set[str]:
    return {
        name_of(method, rule.rule)
        for rule in app.url_map.iter_rules()
        for method in (rule.methods or set()) - {"HEAD", "OPTIONS"}
    }


def test_every_route_is_in_the_table_and_no_other(closed: Closed) -> None:
    """A new route needs a line in `app/access/table.py`: decide who may use it."""
    assert routes(closed.app) - NEEDS.keys() == set(), "these routes are not in the table"
    assert NEEDS.keys() - routes(closed.app) == set(), "the table has routes that do not exist"


def test_what_is_not_in_the_table_needs_admin(closed: Closed) -> None:
    from app.access.table import need_of

    assert need_of("POST", "/api/new") == Need(frozenset({"admin"}))


@pytest.mark.slow
@pytest.mark.parametrize("column", COLUMNS)
@pytest.mark.parametrize("name", sorted(NEEDS))
def test_endpoints_and_tokens(closed: Closed, name: str, column: str) -> None:
    answer = closed.send(name, column, buffered=True)
    if name in WITHOUT_TOKEN:
        assert answer.status_code not in (401, 403)
    elif name in LESS_WITHOUT_TOKEN:
        assert answer.status_code == (401 if column in REFUSED and column != "none" else 200)
    elif column == "none":
        assert (answer.status_code, answer.json["code"]) == (401, "token_missing")
        assert answer.headers["WWW-Authenticate"] == "Bearer"
    elif column in REFUSED:
        assert (answer.status_code, answer.json["code"]) == (401, "token_wrong")
        assert answer.headers["WWW-Authenticate"].startswith("Bearer ")
    elif column in MAY.get(name, {"admin"}):
        assert answer.status_code not in (401, 403)
    else:
        assert (answer.status_code, answer.json["code"]) == (403, "scope_missing")
        assert set(answer.json["scope"].split(" or ")) <= MAY.get(name, {"admin"})


@pytest.mark.slow
@pytest.mark.parametrize("column", COOKIES)
@pytest.mark.parametrize("name", sorted(NEEDS.keys() - {"DELETE /api/session"}))
def test_endpoints_and_cookies(closed: Closed, name: str, column: str) -> None:
    answer = closed.send(name, column, buffered=True)
    if column == "cookie, cross-site":
        assert (answer.status_code, answer.json["code"]) == (403, "forbidden")
    elif name in WITHOUT_TOKEN:
        assert answer.status_code not in (401, 403)
    elif name in LESS_WITHOUT_TOKEN:
        assert answer.status_code == 200
        assert ("store" in answer.json) is (column == "cookie and key")
    elif column == "cookie and key":
        assert (answer.status_code == 403) is ("read" not in MAY.get(name, {"admin"}))
        assert answer.status_code != 401
    elif column == "cookie":
        assert (answer.status_code == 401) is (name not in BY_COOKIE)
        assert answer.status_code != 401 or answer.json["code"] == "session_key_missing"
    else:
        assert (answer.status_code, answer.json["code"]) == (401, "session_ended")
        assert answer.headers["WWW-Authenticate"] == "Bearer"


@pytest.mark.parametrize("column", COLUMNS)
def test_a_path_that_does_not_exist_tells_nothing_without_a_token(closed: Closed, column: str) -> None:
    assert closed.send("GET /api/nothing", column).status_code == (401 if column in REFUSED else 404)
    assert closed.send("PATCH /api/events", column).status_code == (401 if column in REFUSED else 405)


@pytest.mark.parametrize("column", COLUMNS)
def test_head_needs_what_get_needs_and_options_any_token(closed: Closed, column: str) -> None:
    allowed = MAY["GET /api/events"]
    expected = 401 if column in REFUSED else 200 if column in allowed else 403
    assert closed.send("HEAD /api/events", column).status_code == expected
    assert closed.send("OPTIONS /api/events", column).status_code == (401 if column in REFUSED else 200)


@pytest.mark.parametrize("column", COLUMNS)
def test_health_shows_its_status_only_to_those_who_may_not_read(closed: Closed, column: str) -> None:
    answer = closed.send("GET /api/health", column)
    if answer.status_code == 401:
        return
    body = answer.json
    assert body["status"] == "ok"
    is_whole = column in ("read", "write", "admin")
    assert (set(body) > {"success", "status", "store", "backup"}) is is_whole
    assert is_whole or set(body) == {"success", "status"}


@pytest.mark.parametrize(
    ("body", "read_is_enough"),
    [
        ({"backupName": "missing.tar.gz", "dryRun": True}, True),
        ({"backupName": "missing.tar.gz", "dryRun": False}, False),
        ({"backupName": "missing.tar.gz", "dryRun": "true"}, False),
        ({"backupName": "missing.tar.gz", "dryRun": 1}, False),
        ({"backupName": "missing.tar.gz"}, False),
        ({}, False),
        ({"sequence": 1, "into": "export"}, True),
        ({"sequence": 1, "into": "present"}, False),
        ({"sequence": 1, "into": "present", "dryRun": True}, False),
        ({"sequence": 1, "into": None, "dryRun": True}, False),
    ],
)
@pytest.mark.parametrize("column", SCOPES)
def test_a_restore_that_changes_nothing_needs_read_only(
    closed: Closed, column: str, body: dict[str, Any], read_is_enough: bool
) -> None:
    answer = closed.send("POST /api/backup/restore", column, json=body)
    allowed = column == "admin" or (column in ("read", "write") and read_is_enough)
    assert (answer.status_code == 403) is not allowed
    assert answer.status_code != 401


def test_a_body_that_says_both_is_no_dry_run(closed: Closed) -> None:
    body = '{"backupName": "x.tar.gz", "dryRun": true, "dryRun": false}'
    answer = closed.send("POST /api/backup/restore", "read", data=body, content_type="application/json")
    assert answer.status_code in (400, 403, 422)


def test_the_document_says_what_each_request_needs(closed: Closed) -> None:
    document = closed.send("GET /openapi.json", "none").json
    assert document["components"]["securitySchemes"]["token"]["scheme"] == "bearer"
    paths = document["paths"]
    assert paths["/api/events"]["post"]["security"] == [{"token": []}]
    assert paths["/api/events"]["post"]["x-scope"] == ["write"]
    assert paths["/api/health"]["get"]["security"] == [{}, {"token": []}]
    assert paths["/api/health/live"]["get"]["security"] == [{}]
    assert NEEDS["GET /docs/"] is PUBLIC


def test_digests_are_those_of_the_whole_token() -> None:
    token = token_text.new_token()
    assert token_text.digest_of(token) == hashlib.sha256(token.encode()).digest()

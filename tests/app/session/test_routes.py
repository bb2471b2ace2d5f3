"""Signing in and out: what a cookie opens, what needs the key too, and when both end."""

from __future__ import annotations

import hashlib
import os
import stat
from typing import Any

import pytest
from flask import Flask
from flask.testing import FlaskClient

from app import create_app
from eventvault import clock
from eventvault.access.changes import TokenChanges
from eventvault.settings import Settings, load
from eventvault.store.memory.store import MemoryStore
from tests import processes

HOUR = 3_600_000_000
READER = "the-token-of-the-reader"


@pytest.fixture
def settings(settings_environment: dict[str, str]) -> Settings:
    digest = hashlib.sha256(READER.encode()).hexdigest()
    closed = load(
        {
            **settings_environment,
            "API_TOKENS": f"reader:read:sha256={digest}",
            "ALLOWED_HOSTS": "vault.example",
            "TRUSTED_PROXIES": "10.0.0.7",
        }
    )
    closed.storage_dir.mkdir(parents=True)
    return closed


@pytest.fixture
def browser(app: Flask) -> FlaskClient:
    """A client that keeps no cookie by itself, as the test says which it sends."""
    return app.test_client(use_cookies=False)


class Page:
    """A page that has signed in."""

    def __init__(self, browser: FlaskClient, token: str = READER) -> None:
        self.browser = browser
        answer = browser.post("/api/session", json={"token": token})
        assert answer.status_code == 200, answer.json
        self.cookie = answer.headers["Set-Cookie"].partition(";")[0]
        self.key = answer.json["key"]

    def ask(self, path: str, method: str = "GET", *, cookie: Any = None, key: Any = None, **headers: str) -> int:
        """Status of a request with cookie and key, or with others; an empty one is not sent."""
        cookie, key = (self.cookie if cookie is None else cookie), (self.key if key is None else key)
        own = {"Cookie": cookie, "X-EventVault-Session": key}
        named = {name.replace("_", "-"): text for name, text in headers.items()}
        sent = {**{name: text for name, text in own.items() if text}, **named}
        with self.browser.open(path, method=method, headers=sent, buffered=False) as answer:
            return answer.status_code


@pytest.fixture
def page(browser: FlaskClient) -> Page:
    return Page(browser)


def test_the_cookie_is_for_this_host_over_tls_and_hidden_from_scripts(browser: FlaskClient) -> None:
    answer = browser.post("/api/session", json={"token": READER})
    name, _, rest = answer.headers["Set-Cookie"].partition("=")
    assert name == "__Host-ev"
    assert set(rest.split("; ")[1:]) == {"Secure", "HttpOnly", "Path=/", "SameSite=Strict"}
    assert answer.json == {"success": True, "key": answer.json["key"], "name": "reader", "scopes": ["read"]}
    assert answer.headers["Cache-Control"] == "no-store"


def test_cookie_and_key_may_what_the_token_may_and_no_more(page: Page) -> None:
    assert page.ask("/api/settings") == 200
    assert page.ask("/api/backup/create", "POST") == 403


BY_COOKIE = [
    ("/api/backup/none.tar.gz/download", 404),
    ("/api/events/export", 200),
    ("/api/events/stream", 200),
    ("/api/operations/0000000000000000/file", 404),
    ("/api/operations/0000000000000000/stream", 404),
]


@pytest.mark.parametrize(("path", "status"), BY_COOKIE)
def test_the_cookie_alone_opens_downloads_and_streams(page: Page, path: str, status: int) -> None:
    assert page.ask(path, key="") == status


@pytest.mark.slow
@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("GET", "/api/settings"),
        ("GET", "/api/events"),
        ("GET", "/api/events/e1"),
        ("GET", "/api/backup/list"),
        ("GET", "/api/operations"),
        ("GET", "/metrics"),
        ("GET", "/api/unknown"),
        ("POST", "/api/events/export"),
        ("POST", "/api/events"),
        ("DELETE", "/api/session"),
    ],
)
def test_all_else_needs_the_key_too(page: Page, method: str, path: str) -> None:
    for key in ("", "wrong", page.cookie.partition("=")[2]):
        assert page.ask(path, method, key=key) == 401


def test_a_wrong_key_opens_not_even_a_download(page: Page) -> None:
    assert page.ask("/api/events/export", key="wrong") == 401


@pytest.mark.slow
def test_the_key_alone_opens_nothing(page: Page) -> None:
    assert page.ask("/api/settings", cookie="") == 401
    assert page.ask("/api/events/export", cookie="") == 401


@pytest.mark.parametrize("cookie", ["__Host-ev=", "__Host-ev=wrong", f"__Host-ev={'x' * 5000}", '__Host-ev="\\377"'])
def test_a_cookie_of_no_session_opens_nothing_and_is_no_wrong_token(page: Page, cookie: str) -> None:
    for _ in range(12):
        assert page.ask("/api/settings", cookie=cookie) == 401
        assert page.ask("/api/events/export", cookie=cookie, key="") == 401


@pytest.mark.slow
def test_two_cookies_of_the_name_open_nothing(page: Page) -> None:
    assert page.ask("/api/settings", cookie=f"{page.cookie}; {page.cookie}") == 401
    assert page.ask("/api/settings", cookie=f"__Host-ev=x; {page.cookie}") == 401


@pytest.mark.slow
def test_a_stale_cookie_is_no_obstacle_where_no_token_is_needed(page: Page) -> None:
    for cookie in (page.cookie, "__Host-ev=stale"):
        for path in ("/docs/", "/openapi.json", "/api/health/live", "/api/health"):
            assert page.ask(path, cookie=cookie, key="") == 200


@pytest.mark.slow
def test_health_says_all_to_a_session_and_its_state_to_the_cookie_alone(page: Page) -> None:
    headers = {"Cookie": page.cookie, "X-EventVault-Session": page.key}
    assert "backup" in page.browser.get("/api/health", headers=headers).json
    assert set(page.browser.get("/api/health", headers={"Cookie": page.cookie}).json) == {"success", "status"}


def test_other_cookies_of_the_host_do_not_matter(page: Page) -> None:
    assert page.ask("/api/settings", cookie=f"a=b; {page.cookie}; __Host-evil=c") == 200
    assert page.ask("/api/settings", cookie="a=b") == 401


@pytest.mark.slow
def test_an_authorization_header_counts_and_not_the_session(page: Page) -> None:
    assert page.ask("/api/settings", Authorization="Bearer wrong") == 401
    assert page.ask("/api/settings", cookie="__Host-ev=stale", Authorization=f"Bearer {READER}") == 200


@pytest.mark.parametrize("site", ["cross-site", "same-site"])
def test_a_page_of_another_site_or_port_gets_nothing_by_the_cookie(page: Page, site: str) -> None:
    for path, _ in BY_COOKIE:
        assert page.ask(path, key="", Sec_Fetch_Site=site) == 403
    assert page.ask("/api/events/export", key="", Origin="http://evil.example") == 403
    assert page.ask("/api/events/export", key="", Sec_Fetch_Site="same-origin") == 200


def test_a_page_of_another_site_signs_nobody_in_or_out(page: Page) -> None:
    for headers in ({"Sec-Fetch-Site": "cross-site"}, {"Origin": "http://evil.example"}):
        assert page.browser.post("/api/session", json={"token": READER}, headers=headers).status_code == 403
    assert page.ask("/api/session", "DELETE", Origin="http://evil.example") == 403
    assert page.ask("/api/settings") == 200


@pytest.mark.slow
def test_signing_out_ends_the_session_and_clears_the_cookie(page: Page) -> None:
    headers = {"Cookie": page.cookie, "X-EventVault-Session": page.key}
    answer = page.browser.delete("/api/session", headers=headers)
    assert answer.status_code == 200
    assert answer.headers["Set-Cookie"].startswith("__Host-ev=; Expires=Thu, 01 Jan 1970")
    assert page.ask("/api/settings") == 401
    assert page.ask("/api/session", "DELETE") == 401


@pytest.mark.slow
def test_a_token_has_no_session_to_end(page: Page) -> None:
    answer = page.browser.delete("/api/session", headers={"Authorization": f"Bearer {READER}"})
    assert (answer.status_code, answer.json["code"]) == (404, "session_not_found")
    assert page.ask("/api/settings") == 200


@pytest.mark.slow
def test_signing_in_again_ends_the_session_that_the_browser_had(page: Page) -> None:
    answer = page.browser.post("/api/session", json={"token": READER}, headers={"Cookie": page.cookie})
    assert answer.status_code == 200
    assert page.ask("/api/settings") == 401
    assert (
        page.ask("/api/settings", cookie=answer.headers["Set-Cookie"].partition(";")[0], key=answer.json["key"]) == 200
    )


@pytest.mark.slow
def test_sessions_of_one_token_end_one_by_one(page: Page) -> None:
    other = Page(page.browser)
    assert page.ask("/api/session", "DELETE") == 200
    assert other.ask("/api/settings") == 200


@pytest.mark.slow
def test_the_key_of_another_session_does_not_fit(page: Page) -> None:
    assert page.ask("/api/settings", key=Page(page.browser).key) == 401


@pytest.mark.slow
def test_a_session_ends_with_its_token(app: Flask, browser: FlaskClient, settings: Settings) -> None:
    made = TokenChanges(settings).create("laptop", "read", by="shell")
    page = Page(browser, made.text)
    assert page.ask("/api/settings") == 200
    TokenChanges(settings).revoke(made.token.id, by="shell")
    look_again(app)
    assert page.ask("/api/settings") == 401
    assert page.ask("/api/events/export", key="") == 401


def test_a_session_lasts_no_longer_than_its_token(
    app: Flask, browser: FlaskClient, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = TokenChanges(settings).create("laptop", "read", by="shell", expires="1h")
    look_again(app)
    page = Page(browser, made.text)
    later = clock.now() + HOUR
    clock_at(app, monkeypatch, later - 60_000_000)
    assert page.ask("/api/settings") == 200
    clock_at(app, monkeypatch, later)
    assert page.ask("/api/settings") == 401


@pytest.mark.parametrize("use", [0, 11])
def test_a_session_is_over_twelve_hours_after_its_last_use(
    app: Flask, page: Page, monkeypatch: pytest.MonkeyPatch, use: int
) -> None:
    began = clock.now()
    clock_at(app, monkeypatch, began + use * HOUR)
    assert page.ask("/api/settings") == 200
    clock_at(app, monkeypatch, began + (use + 11) * HOUR + HOUR // 2)
    assert page.ask("/api/settings") == 200
    clock_at(app, monkeypatch, began + (use + 24) * HOUR)
    assert page.ask("/api/settings") == 401


@pytest.mark.slow
@pytest.mark.parametrize(
    "body",
    [None, {}, {"token": ""}, {"token": 1}, {"token": None}, {"token": "x" * 1000}, {"token": "x", "more": 1}, []],
)
def test_a_body_without_a_token_is_invalid_and_no_wrong_token(browser: FlaskClient, body: Any) -> None:
    for _ in range(12):
        assert browser.post("/api/session", json=body).status_code in (400, 422)


@pytest.mark.slow
def test_a_wrong_token_signs_nobody_in(browser: FlaskClient) -> None:
    answers = [browser.post("/api/session", json={"token": "wrong"}) for _ in range(11)]
    assert [answer.status_code for answer in answers] == [401] * 10 + [429]
    assert all("Set-Cookie" not in answer.headers for answer in answers)
    assert answers[-1].json["code"] == "too_many_wrong_tokens"
    assert answers[-1].headers["Retry-After"] == str(answers[-1].json["retryAfter"])
    assert browser.post("/api/session", json={"token": READER}).status_code == 200


@pytest.mark.parametrize(
    ("host", "peer", "scheme", "status"),
    [
        ("localhost", "127.0.0.1", "", 200),
        ("127.0.0.1:5050", "127.0.0.1", "", 200),
        ("[::1]:5050", "127.0.0.1", "", 200),
        ("vault.example", "127.0.0.1", "", 422),
        ("vault.example", "10.0.0.7", "http", 422),
        ("vault.example", "10.0.0.7", "https", 200),
        ("vault.example", "10.0.0.8", "https", 422),
        ("192.168.1.2", "192.168.1.9", "", 422),
        ("localhost", "10.0.0.7", "http", 200),
    ],
)
def test_over_plain_http_only_a_browser_of_this_machine_signs_in(
    browser: FlaskClient, host: str, peer: str, scheme: str, status: int
) -> None:
    headers = {"Host": host, "X-Forwarded-For": "198.51.100.4", "X-Forwarded-Proto": scheme}
    answer = browser.post("/api/session", json={"token": READER}, headers=headers, environ_base={"REMOTE_ADDR": peer})
    assert answer.status_code == status
    assert status == 200 or answer.json["code"] == "tls_needed"


@pytest.mark.slow
def test_an_idempotency_key_is_refused_as_the_answer_would_be_stored(page: Page) -> None:
    answer = page.browser.post("/api/session", json={"token": READER}, headers={"Idempotency-Key": "1"})
    assert answer.status_code == 422
    assert page.ask("/api/session", "DELETE", Idempotency_Key="1") == 422


@pytest.mark.slow
def test_without_tokens_there_is_nobody_to_sign_in(settings_environment: dict[str, str], store: MemoryStore) -> None:
    web = create_app(load(settings_environment), store).test_client()
    assert web.post("/api/session", json={"token": READER}).status_code == 401
    assert web.delete("/api/session").status_code == 404
    assert web.get("/api/settings", headers={"Cookie": "__Host-ev=stale"}).status_code == 200


def test_the_file_has_no_secret_and_is_for_its_owner_alone(page: Page, settings: Settings) -> None:
    path = settings.storage_dir / "sessions.json"
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    for secret in (page.cookie.partition("=")[2], page.key, READER):
        assert secret not in path.read_text()


def test_a_disk_that_takes_no_note_ends_no_session(
    app: Flask, page: Page, settings: Settings, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def fail(*arguments: object, **options: object) -> None:
        raise OSError(28, os.strerror(28))

    monkeypatch.setattr("eventvault.small_files.write", fail)
    clock_at(app, monkeypatch, clock.now() + HOUR)
    for _ in range(3):
        assert page.ask("/api/settings") == 200
    assert caplog.text.count("could not record that a session was used") == 1
    assert page.browser.post("/api/session", json={"token": READER}).status_code == 507


def look_again(app: Flask) -> None:
    """Have the tokens looked at again, as happens within half a second."""
    app.extensions["eventvault"].tokens.check_again()


def clock_at(app: Flask, monkeypatch: pytest.MonkeyPatch, now: int) -> None:
    edge = app.extensions["eventvault"]
    monkeypatch.setattr(edge.tokens, "_now", lambda: now)
    monkeypatch.setattr(edge.sessions._sessions, "_now", lambda: now)


def test_the_audit_has_who_signed_in_and_out_and_no_secret(page: Page, store: MemoryStore) -> None:
    assert page.ask("/api/session", "DELETE") == 200
    lines = [line for line in store.read_audit().lines if line.action == "session"]
    deeds = [("begin", "begun"), ("begin", "ended"), ("end", "begun"), ("end", "ended")]
    assert [(line.target, line.state) for line in lines] == deeds
    assert {line.who for line in lines} == {"reader"}
    assert page.key not in str(lines)


@pytest.mark.slow
def test_wrong_tokens_are_counted_in_the_store(
    browser: FlaskClient, store: MemoryStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    counted: list[tuple[int, str]] = []
    monkeypatch.setattr(store, "count_refused_sign_ins", lambda count, address: counted.append((count, address)))
    for _ in range(3):
        browser.post("/api/session", json={"token": "wrong"})
    processes.wait_until(lambda: sum(count for count, _ in counted) == 3, "not all were counted")
    assert {address for _, address in counted} == {"127.0.0.1"}

"""Access without tokens: only this machine, under its own names, from its own pages."""

from __future__ import annotations

import pytest
from flask.testing import FlaskClient

from app import create_app
from app.access.origin import is_loopback
from eventvault.settings import load
from eventvault.store.memory.store import MemoryStore


def status(web: FlaskClient, peer: str = "127.0.0.1", **headers: str) -> int:
    named = {name.replace("_", "-"): text for name, text in headers.items()}
    answer = web.get("/api/health/live", headers=named, environ_base={"REMOTE_ADDR": peer})
    assert answer.status_code == 200 or answer.json["code"] == "forbidden"
    return answer.status_code


@pytest.fixture
def opened(settings_environment: dict[str, str], store: MemoryStore) -> FlaskClient:
    environment = {**settings_environment, "ALLOW_UNAUTHENTICATED": "true", "ALLOWED_HOSTS": "vault.example,app"}
    return create_app(load(environment), store).test_client()


@pytest.mark.parametrize(
    "host", ["localhost", "localhost:5050", "LOCALHOST.", "127.0.0.1:80", "127.1.2.3", "[::1]:5050", "a.localhost"]
)
def test_names_of_this_machine_are_served(web: FlaskClient, host: str) -> None:
    assert status(web, Host=host) == 200


@pytest.mark.parametrize(
    "host",
    ["evil.example", "localhost.evil.example", "127.0.0.1.evil.example", "192.168.1.2", "[::2]", "", "localhost,evil"],
)
def test_a_foreign_host_is_refused(web: FlaskClient, host: str) -> None:
    assert status(web, Host=host) == 403


def test_hosts_in_allowed_hosts_are_served_too(opened: FlaskClient) -> None:
    assert status(opened, Host="vault.example:5050") == 200
    assert status(opened, Host="evil.example") == 403


def test_a_star_in_allowed_hosts_allows_any_host(settings_environment: dict[str, str], store: MemoryStore) -> None:
    web = create_app(load({**settings_environment, "ALLOWED_HOSTS": "*"}), store).test_client()
    assert status(web, Host="anything.example") == 200


def test_an_open_service_accepts_its_address_as_host_because_rebinding_cannot_forge_it(opened: FlaskClient) -> None:
    assert status(opened, Host="192.168.1.2:5050", peer="192.168.1.9") == 200


@pytest.mark.parametrize(
    "origin", ["http://evil.example", "null", "http://localhost:3000", "https://localhost.evil.example", "file://"]
)
def test_a_foreign_origin_is_refused(web: FlaskClient, origin: str) -> None:
    assert status(web, Host="localhost:5050", Origin=origin) == 403


@pytest.mark.slow
@pytest.mark.parametrize(
    ("host", "origin"),
    [
        ("localhost:5050", "http://localhost:5050"),
        ("localhost", "http://localhost"),
        ("localhost:80", "http://localhost"),
        ("localhost", "http://localhost:5050"),
        ("[::1]:5050", "http://[::1]:5050"),
    ],
)
def test_an_origin_of_the_service_itself_is_served(web: FlaskClient, host: str, origin: str) -> None:
    assert status(web, Host=host, Origin=origin) == 200


@pytest.mark.slow
@pytest.mark.parametrize(
    "host",
    [
        "localhost:80@evil", "localhost:", "localhost:port", "localhost:123456", "localhost:80:80", "user@localhost",
        "localhost/", "localhost evil", "localhost#", "[::1]evil", "[::1]:80@evil", "127.0.0.1:80\\evil", "loc\tlhost",
    ],
)  # fmt: skip
def test_a_host_that_is_more_than_a_name_and_a_port_is_refused(
    web: FlaskClient, opened: FlaskClient, host: str
) -> None:
    assert status(web, Host=host) == 403
    assert status(opened, Host=host) == 403


def test_http_1_1_demands_a_host(web: FlaskClient) -> None:
    for protocol, expected in (("HTTP/1.1", 400), ("HTTP/1.0", 200)):
        answer = web.get("/api/health/live", environ_overrides={"HTTP_HOST": None, "SERVER_PROTOCOL": protocol})
        assert answer.status_code == expected


PAGE, DATA = "/docs/", "/api/health/live"


@pytest.mark.parametrize(
    ("site", "mode", "method", "path", "expected"),
    [
        ("same-origin", "cors", "POST", "/api/events", True),
        ("none", "navigate", "POST", "/api/events", True),
        ("same-site", "cors", "POST", "/api/events", False),
        ("same-site", "no-cors", "DELETE", "/api/backup/x.tar.gz", False),
        ("same-site", "navigate", "POST", "/api/backup/restore", False),
        ("cross-site", "navigate", "POST", "/docs", False),
        ("unheard-of", "cors", "PUT", "/api/backup/x.tar.gz/pin", False),
        ("same-origin", "cors", "GET", DATA, True),
        ("same-site", "cors", "GET", DATA, True),
        ("cross-site", "cors", "GET", DATA, False),
        ("cross-site", "navigate", "GET", DATA, False),
        ("cross-site", "navigate", "GET", "/metrics", False),
        ("cross-site", "navigate", "GET", PAGE, True),
        ("cross-site", "navigate", "GET", "/", True),
        ("cross-site", "no-cors", "GET", PAGE, False),
    ],
)
def test_pages_of_other_sites_may_lead_to_pages_and_change_nothing(
    web: FlaskClient, site: str, mode: str, method: str, path: str, expected: bool
) -> None:
    headers = {"Sec-Fetch-Site": site, "Sec-Fetch-Mode": mode}
    answer = web.open(path, method=method, headers=headers)
    assert (answer.status_code != 403) is expected


def test_a_peer_on_another_machine_is_refused_unless_unauthenticated_access_is_allowed(
    web: FlaskClient, opened: FlaskClient
) -> None:
    assert status(web, peer="192.168.1.9") == 403
    assert status(web, peer="::ffff:127.0.0.1") == 200
    assert status(web, peer="") == 200
    assert status(opened, peer="192.168.1.9") == 200


@pytest.mark.parametrize(("origin", "expected"), [("http://localhost", 200), ("http://evil.example", 403)])
def test_a_page_that_asks_for_a_websocket_gets_an_ordinary_answer_if_it_is_of_this_service(
    web: FlaskClient, origin: str, expected: int
) -> None:
    assert status(web, Connection="Upgrade", Upgrade="websocket", Origin=origin) == expected


@pytest.mark.slow
def test_unknown_paths_are_checked_too(web: FlaskClient) -> None:
    assert web.get("/nowhere", headers={"Host": "evil.example"}).status_code == 403


@pytest.mark.parametrize("path", ["/api/health", "/docs", "/nowhere", "/openapi.json"])
def test_every_answer_carries_the_security_headers(web: FlaskClient, path: str) -> None:
    headers = web.get(path).headers
    assert headers["X-Content-Type-Options"] == "nosniff"
    assert headers["Content-Security-Policy"].startswith("default-src 'self';")
    assert headers["X-Frame-Options"] == "DENY"
    assert headers["Cross-Origin-Opener-Policy"] == "same-origin"


def test_the_dashboard_alone_has_no_policy_for_openers(web: FlaskClient) -> None:
    headers = web.get("/").headers
    assert headers["X-Frame-Options"] == "DENY"
    assert headers["Content-Security-Policy"].startswith("default-src 'self';")
    assert "Cross-Origin-Opener-Policy" not in headers


@pytest.mark.parametrize(
    ("host", "expected"),
    [("127.0.0.1", True), ("::1", True), ("localhost", True), ("0.0.0.0", False), ("::", False), ("", False),
     ("10.0.0.1", False), ("::ffff:127.0.0.1", True), ("example.org", False)],
)  # fmt: skip
def test_only_loopback_names_and_addresses_count_as_loopback(host: str, expected: bool) -> None:
    assert is_loopback(host) is expected

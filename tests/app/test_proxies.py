"""Behind a proxy in TRUSTED_PROXIES the client's address and scheme count; of anybody else nobody believes them."""

from __future__ import annotations

import pytest
from flask import Flask, request
from flask.testing import FlaskClient

from app import create_app
from eventvault.errors import InvalidSettings
from eventvault.settings import describe, load
from eventvault.store.memory.store import MemoryStore


def answer(
    environment: dict[str, str], store: MemoryStore, peer: str, proxies: str = "", **forwarded: str
) -> tuple[int, str, str]:
    """Status, address and scheme of a request from `peer`."""
    app = create_app(load({**environment, "TRUSTED_PROXIES": proxies}), store)
    app.add_url_rule("/seen", view_func=lambda: f"{request.remote_addr} {request.scheme}")
    headers = {f"X-Forwarded-{name}": text for name, text in forwarded.items()}
    reply = app.test_client().get("/seen", headers=headers, environ_base={"REMOTE_ADDR": peer})
    address, _, scheme = reply.text.partition(" ")
    return (reply.status_code, address, scheme) if reply.status_code == 200 else (reply.status_code, "", "")


def test_a_trusted_proxy_names_the_client(settings_environment: dict[str, str], store: MemoryStore) -> None:
    environment = {**settings_environment, "ALLOW_UNAUTHENTICATED": "true"}
    forwarded = {"For": "198.51.100.4", "Proto": "https"}
    for proxies in ("10.0.0.7", "192.0.2.1, 10.0.0.0/8"):
        assert answer(environment, store, "10.0.0.7", proxies, **forwarded) == (200, "198.51.100.4", "https")


@pytest.mark.slow
def test_nobody_else_is_believed(settings_environment: dict[str, str], store: MemoryStore) -> None:
    environment = {**settings_environment, "ALLOW_UNAUTHENTICATED": "true"}
    forwarded = {"For": "127.0.0.1", "Proto": "https"}
    for proxies in ("", "10.0.0.8"):
        assert answer(environment, store, "10.0.0.7", proxies, **forwarded) == (200, "10.0.0.7", "http")


@pytest.mark.slow
def test_without_tokens_a_proxy_here_serves_no_client_of_another_machine(
    settings_environment: dict[str, str], store: MemoryStore
) -> None:
    assert answer(settings_environment, store, "127.0.0.1", "127.0.0.1", For="198.51.100.4")[0] == 403
    assert answer(settings_environment, store, "127.0.0.1", "127.0.0.1", For="127.0.0.1")[0] == 200


@pytest.mark.parametrize(
    "text", ["nginx", "10.0.0.7/8", "10.0.0.0/33", "http://10.0.0.7", "10.0.0.7:80", "10.0.0.7 10.0.0.8"]
)
def test_what_is_no_network_is_refused_at_the_start(settings_environment: dict[str, str], text: str) -> None:
    with pytest.raises(InvalidSettings, match=r"TRUSTED_PROXIES is .*; allowed: addresses, networks such as"):
        load({**settings_environment, "TRUSTED_PROXIES": text})


def test_the_setting_is_shown_and_handed_on_as_networks(settings_environment: dict[str, str]) -> None:
    settings = load({**settings_environment, "TRUSTED_PROXIES": "unix , 10.0.0.7,fd00::/8"})
    assert settings.trusted_proxies == ("unix", "10.0.0.7/32", "fd00::/8")
    assert load(settings.to_environment()).trusted_proxies == settings.trusted_proxies
    shown = {each["name"]: each["value"] for each in describe(settings)}
    assert shown["TRUSTED_PROXIES"] == "unix,10.0.0.7/32,fd00::/8"


@pytest.mark.slow
def test_without_the_setting_nothing_runs_for_it(app: Flask, web: FlaskClient) -> None:
    assert web.get("/api/health/live", headers={"X-Forwarded-For": "198.51.100.4"}).status_code == 200

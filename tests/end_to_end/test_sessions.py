"""Sessions, revocation and wrong tokens, with the real service: two workers, a store, and kills."""

from __future__ import annotations

import hashlib
import os
import secrets
import select
import signal
import socket
from collections.abc import Callable, Iterator, Mapping
from contextlib import closing

import pytest

from eventvault.access.changes import TokenChanges
from eventvault.settings import load
from tests import processes
from tests.pages import run_page
from tests.service import Reply, Service

ADMIN, READER = (f"{name}-{secrets.token_hex(16)}" for name in ("admin", "reader"))
REPEATS = 20
"""So many requests, each with a connection of its own, reach both workers."""

MORE_THAN_A_SOCKET_HOLDS = 20 * 2**20
"""Bytes: more than the buffers of both ends together, unless a program reads them."""


def digest(token: str) -> str:
    return f"sha256={hashlib.sha256(token.encode()).hexdigest()}"


def bearer(token: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {token}"}


@pytest.fixture(scope="module")
def vault(module_service: Callable[..., Service]) -> Service:
    """A closed service behind a trusted proxy on this machine, with a backup that no socket holds as a whole."""
    running = module_service(
        environment={
            "API_TOKENS": f"admin:admin:{digest(ADMIN)},reader:read:{digest(READER)}",
            "TRUSTED_PROXIES": "127.0.0.1",
            "ALLOWED_HOSTS": "vault.example",
            "AUTO_BACKUP_ENABLED": "false",
        }
    )
    events = [{"type": "big", "id": f"{number}", "data": secrets.token_hex(500_000)} for number in range(24)]
    assert running.post("/api/events", events, headers=bearer(ADMIN)).status == 201
    assert running.post("/api/backup/create", headers=bearer(ADMIN)).status == 200
    return running


@pytest.fixture
def token(vault: Service) -> Iterator[tuple[str, str]]:
    """A token that may read, and its id; revoked at the end."""
    made = vault.post("/api/tokens", {"name": secrets.token_hex(4), "scope": "read"}, headers=bearer(ADMIN)).json()
    yield made["token"], made["id"]
    vault.request("DELETE", f"/api/tokens/{made['id']}", headers=bearer(ADMIN))


def sign_in(vault: Service, token: str) -> dict[str, str]:
    """The headers of a session."""
    answer = vault.post("/api/session", {"token": token})
    assert answer.status == 200
    cookie, _, attributes = answer.headers["set-cookie"].partition("; ")
    assert set(attributes.split("; ")) == {"Secure", "HttpOnly", "Path=/", "SameSite=Strict"}
    return {"Cookie": cookie, "X-EventVault-Session": answer.json()["key"]}


def statuses(vault: Service, headers: Mapping[str, str], count: int = REPEATS) -> set[int]:
    return {vault.get("/api/settings", headers=headers).status for _ in range(count)}


def test_a_session_holds_in_all_workers_in_new_ones_and_over_a_new_store(
    vault: Service, token: tuple[str, str]
) -> None:
    session = sign_in(vault, token[0])
    assert statuses(vault, session) == {200}

    killed = vault.workers()[0]
    os.kill(killed, signal.SIGKILL)
    processes.wait_until(lambda: killed not in vault.workers() and len(vault.workers()) == 2, "no new worker")
    vault.wait_until_ready()
    assert statuses(vault, session) == {200}

    (store,) = vault.stores()
    os.kill(store, signal.SIGKILL)
    assert vault.get("/api/events?limit=1", headers=session).status == 200
    assert statuses(vault, session) == {200}

    old = set(vault.workers())
    vault.process.send_signal(signal.SIGHUP)
    processes.wait_until(
        lambda: len(set(vault.workers()) - old) == 2 and not old & set(vault.workers()), "no reload", 60
    )
    vault.wait_until_ready()
    assert statuses(vault, session) == {200}

    assert vault.request("DELETE", "/api/session", headers=session).status == 200
    assert statuses(vault, session) == {401}


def open_slowly(vault: Service, path: str, headers: Mapping[str, str]) -> socket.socket:
    """Ask for something and take its first bytes only."""
    client = socket.socket()
    client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    client.settimeout(60)
    client.connect(("127.0.0.1", vault.port))
    lines = [f"GET {path} HTTP/1.1", "Host: localhost", *(f"{name}: {text}" for name, text in headers.items()), "", ""]
    client.sendall("\r\n".join(lines).encode())
    assert client.recv(12) == b"HTTP/1.1 200"
    return client


def wait_until_broken_off(client: socket.socket) -> None:
    """Wait until the service resets the connection: sooner than it gives up a client that takes nothing."""
    poll = select.poll()
    poll.register(client, 0)
    assert poll.poll(25_000), "the answer was not broken off"


def test_the_page_signs_in_and_uses_its_session(vault: Service) -> None:
    made = vault.post("/api/tokens", {"name": "laptop", "scope": "read"}, headers=bearer(ADMIN)).json()
    run_page("docs/sessions.md", vault.port, TOKEN=made["token"])


def test_a_revocation_ends_downloads_exports_and_streams_that_are_open(vault: Service, token: tuple[str, str]) -> None:
    text, token_id = token
    session = sign_in(vault, text)
    cookie = {"Cookie": session["Cookie"]}
    name = vault.get("/api/backup/list", headers=session).json()["backups"][0]["name"]
    with (
        closing(open_slowly(vault, f"/api/backup/{name}/download", bearer(text))) as download,
        closing(open_slowly(vault, "/api/events/export", cookie)) as export,
        closing(open_slowly(vault, "/api/events/stream", cookie)) as stream,
        closing(open_slowly(vault, "/api/events/stream", bearer(ADMIN))) as other,
    ):
        TokenChanges(settings_of(vault)).revoke(token_id, by="shell")  # by another process, as the command line does
        wait_until_broken_off(download)
        wait_until_broken_off(export)
        stream.settimeout(25)
        while stream.recv(4096):
            pass
        assert vault.post("/api/events", {"type": "small"}, headers=bearer(ADMIN)).status == 201
        received = b""
        while b'"small"' not in received:
            received += other.recv(4096)
    assert statuses(vault, session) == {401}
    elsewhere = {"X-Forwarded-For": "192.0.2.1"}
    assert statuses(vault, {**bearer(text), **elsewhere}, 8) == {401}
    assert vault.post("/api/session", {"token": text}, headers=elsewhere).status == 401


@pytest.mark.parametrize("path", ["/api/backup/upload?name=half-sent.tar.gz", "/api/events"])
@pytest.mark.parametrize("is_session", [False, True])
def test_a_body_whose_token_is_revoked_meanwhile_is_answered_with_401(
    vault: Service, path: str, is_session: bool
) -> None:
    made = vault.post("/api/tokens", {"name": secrets.token_hex(4), "scope": "admin"}, headers=bearer(ADMIN)).json()
    headers = sign_in(vault, made["token"]) if is_session else bearer(made["token"])
    shown = [f"{name}: {text}" for name, text in {**headers, "Content-Length": "33000000"}.items()]
    with closing(socket.create_connection(("127.0.0.1", vault.port), 30)) as client:
        client.sendall("\r\n".join([f"POST {path} HTTP/1.1", "Host: localhost", *shown, "", ""]).encode())
        client.sendall(b"x" * MORE_THAN_A_SOCKET_HOLDS)  # so the request has passed the check and its body is read
        assert vault.request("DELETE", f"/api/tokens/{made['id']}", headers=bearer(ADMIN)).status == 200
        answer = answer_while_sending(client)
    assert answer.startswith(b"HTTP/1.1 401 ")
    assert b'"session_ended"' in answer if is_session else b'"token_wrong"' in answer
    assert b"ended while the body arrived" in answer
    names = [each["name"] for each in vault.get("/api/backup/list", headers=bearer(ADMIN)).json()["backups"]]
    assert "half-sent.tar.gz" not in names


def answer_while_sending(client: socket.socket) -> bytes:
    """Go on sending a byte at a time until the answer comes, and return it."""
    poll = select.poll()
    poll.register(client, select.POLLIN)
    for _ in range(600):
        if poll.poll(50):
            break
        client.sendall(b"x")
    received = b""
    while piece := client.recv(65536):
        received += piece
    return received


def settings_of(vault: Service):
    folders = ("STORAGE_DIR", "BACKUP_DIR", "RESTORE_DIR")
    return load({name: str(vault.folder(name)) for name in folders})


def tried(vault: Service, token: str, address: str) -> Reply:
    return vault.get("/api/settings", headers={**bearer(token), "X-Forwarded-For": address})


def test_after_ten_wrong_tokens_an_address_waits_and_a_right_one_passes(vault: Service) -> None:
    assert [tried(vault, f"wrong-{number}", "198.51.100.4").status for number in range(10)] == [401] * 10
    blocked = [tried(vault, "wrong", "198.51.100.4") for _ in range(REPEATS)]
    assert {reply.status for reply in blocked} == {429}
    assert all(0 < int(reply.headers["retry-after"]) <= 60 for reply in blocked)
    assert blocked[0].json()["code"] == "too_many_wrong_tokens"
    assert tried(vault, ADMIN, "198.51.100.4").status == 200
    assert tried(vault, "wrong", "198.51.100.5").status == 401
    signing_in = vault.post("/api/session", {"token": "wrong"}, headers={"X-Forwarded-For": "198.51.100.4"})
    assert signing_in.status == 429


def test_the_addresses_of_an_ipv6_network_wait_together(vault: Service) -> None:
    assert {tried(vault, "wrong", f"2001:db8::{number}").status for number in range(10)} == {401}
    assert tried(vault, "wrong", "2001:db8::ffff").status == 429
    assert tried(vault, "wrong", "2001:db8:0:1::ffff").status == 401


def test_a_browser_signs_in_by_tls_only_unless_it_runs_here(vault: Service) -> None:
    def answer(host: str, **forwarded: str) -> tuple[int, str]:
        headers = {"Host": host, **{f"X-Forwarded-{name}": text for name, text in forwarded.items()}}
        reply = vault.post("/api/session", {"token": READER}, headers=headers)
        return reply.status, reply.json().get("code", "")

    assert answer("vault.example") == (422, "tls_needed")
    assert answer("vault.example", Proto="http") == (422, "tls_needed")
    assert answer("vault.example", For="127.0.0.1", Proto="https") == (200, "")
    assert answer("localhost:5050") == (200, "")


def test_neither_tokens_nor_cookies_nor_keys_are_in_a_log(vault: Service, token: tuple[str, str]) -> None:
    session = sign_in(vault, token[0])
    vault.post("/api/session", {"token": "wrong-and-secret"})
    secret = (ADMIN, READER, token[0], session["Cookie"].partition("=")[2], session["X-EventVault-Session"])
    log = vault.log()
    assert [text for text in (*secret, "wrong-and-secret") if text in log] == []

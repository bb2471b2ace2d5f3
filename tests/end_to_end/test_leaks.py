"""No secret and no payload is where it may not be, after every endpoint was used, well and badly.

Tokens, cookies, keys, addresses with passwords and the data of events are marked. While the service works, every
process of it is looked at; then every log, every answer that is an error, and every file.
"""

from __future__ import annotations

import gzip
import http.client
import json
import re
import secrets
import signal
import socket
import subprocess
import sys
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from eventvault import token_text
from tests import processes
from tests.leaks import files_with, marks_in, watched_processes
from tests.nginx import Front, running_nginx
from tests.ports import free_port
from tests.service import PROJECT, Reply, Service, service_environment

MAY_HOLD_PAYLOAD = re.compile(
    r"storage/(event_registry_db|jobs_db|previous-\w+|exports)/.*|backups/([^/]+\.tar\.gz|journal/.*|jobs/.*)"
)
"""The database, jobs, previous databases, exports, archives and segments."""


@dataclass
class Client:
    """Sends requests with a token, and remembers each answer that is an error."""

    service: Service
    port: int
    token: str | None
    errors: list[tuple[str, Reply]] = field(default_factory=list)
    paths: set[tuple[str, str]] = field(default_factory=set)

    def ask(self, method: str, path: str, body: Any = None, **headers: str) -> Reply:
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        if self.token is not None:
            named.setdefault("Authorization", f"Bearer {self.token}")
        reply = self.service.request(method, path, body, headers=named, port=self.port)
        self.paths.add((method, path.partition("?")[0]))
        if reply.status >= 400:
            self.errors.append((f"{method} {path}", reply))
        return reply

    def done(self, method: str, path: str, body: Any = None, **headers: str) -> Any:
        reply = self.ask(method, path, body, **headers)
        assert reply.status < 300, (method, path, reply.body)
        return reply.json() if reply.headers["content-type"] == "application/json" else reply.body

    def first_line(self, path: str) -> bytes:
        """Return the first line of a stream, and hang up."""
        self.paths.add(("GET", path.partition("?")[0]))
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=60)
        connection.request("GET", path, headers={} if self.token is None else {"Authorization": f"Bearer {self.token}"})
        line = connection.getresponse().readline()
        connection.close()
        return line


def post_events(client: Client, payload: str) -> None:
    """Post events in every form, good and bad."""
    event = {"type": "marked", "data": {"secret": payload}}
    client.done("POST", "/api/events", [{**event, "id": str(number)} for number in range(20)])
    client.done("POST", "/api/events", {**event, "id": "1", "data": payload * 2})  # differs from the first one
    client.done("POST", "/api/events", event, Idempotency_Key="one-key")
    client.done("POST", "/api/events", event, Idempotency_Key="one-key")
    client.ask("POST", "/api/events", {"type": "other", "data": payload}, Idempotency_Key="one-key")
    lines = b"".join(json.dumps(event).encode() + b"\n" for _ in range(3))
    client.done("POST", "/api/events", lines, Content_Type="application/x-ndjson")
    client.done(
        "POST", "/api/events", gzip.compress(lines), Content_Type="application/x-ndjson", Content_Encoding="gzip"
    )
    binary = {"ce-id": "b", "ce-source": "/s", "ce-type": "marked", "ce-specversion": "1.0"}
    client.done("POST", "/api/events", payload.encode(), Content_Type="text/plain", **binary)
    wrong: list[Any] = [
        {"type": 1, "data": payload},
        {"type": "", "data": payload},
        {"type": "marked", "data": payload, "data_base64": payload},
        {"type": "marked", "time": payload},
        {"type": "marked", "extension": {"nested": payload}},
        [{"type": "marked"}, {"data": payload}],
        payload,
    ]
    for body in wrong:
        assert client.ask("POST", "/api/events", body).status in (400, 422), body
    for text in (
        f'{{"type": "marked", "data": "{payload}',
        f'{{"data": "{payload}", "data": 1}}',
        payload,
        f'"\\ud800{payload}"',
    ):
        assert client.ask("POST", "/api/events", text.encode(), Content_Type="application/json").status in (400, 422)
    client.ask("POST", "/api/events", payload.encode(), Content_Type="application/json", Content_Encoding="gzip")
    client.ask("POST", "/api/events", payload.encode(), Content_Type="image/png")
    client.ask("POST", "/api/events", b"[" + b'"%s",' % payload.encode() * 50_000, Content_Type="application/json")


def read_events(client: Client, payload: str) -> None:
    assert payload.encode() in client.done("GET", "/api/events/export")
    assert payload in json.dumps(client.done("GET", "/api/events"))
    for path in ("/api/events/1", "/api/events/histogram", "/api/events/types"):
        client.done("GET", path)
    client.ask("GET", "/api/events/no-such-event")
    client.ask("GET", "/api/events?limit=x")
    assert client.first_line("/api/events/stream?after=0")
    exported = client.done("POST", "/api/events/export")
    assert payload.encode() in client.done("GET", exported["file"])
    begun = client.done("POST", "/api/events/export?async=true", {"filter": {"type": "marked"}})["operation"]
    assert client.first_line(f"/api/operations/{begun['id']}/stream")
    client.done("GET", f"/api/operations/{begun['id']}")
    client.ask("DELETE", f"/api/operations/{begun['id']}")
    client.done("GET", "/api/operations")


def use_backups(client: Client, payload: str) -> None:
    name = client.done("POST", "/api/backup/create", {"label": "marked"})["name"]
    for path in ("list", "export-metadata", "timeline", "rehearsals", "undo", f"{name}", f"{name}?dryRun=delete"):
        client.done("GET", f"/api/backup/{path}")
    archive = client.ask("GET", f"/api/backup/{name}/download").body
    client.done("PUT", f"/api/backup/{name}/pin", {"reason": "marked"})
    client.ask("DELETE", f"/api/backup/{name}")
    client.done("DELETE", f"/api/backup/{name}/pin")
    client.done("POST", f"/api/backup/{name}/verify?records=true")
    binary = {"Content_Type": "application/octet-stream"}
    client.done("POST", "/api/backup/upload?name=copy.tar.gz", archive, **binary)
    client.ask("POST", "/api/backup/upload?name=cut.tar.gz", archive[: len(archive) // 2], **binary)
    client.ask("POST", "/api/backup/upload?name=none.tar.gz", payload.encode() * 1000, **binary)
    client.done("POST", "/api/backup/rehearse")
    client.done("POST", f"/api/backup/{name}/rehearse")
    client.done("POST", "/api/backup/prune", {"dryRun": True})
    client.done("POST", "/api/backup/prune")
    client.done("POST", "/api/backup/restore", {"backupName": name, "dryRun": True})
    client.done("POST", "/api/events", {"type": "marked", "id": "later", "data": payload})
    client.done("POST", "/api/backup/restore", {"backupName": name})
    client.done("POST", "/api/backup/undo")
    client.done("POST", "/api/backup/restore", {"backupName": "copy.tar.gz"})
    client.done("POST", "/api/backup/restore", {"backupName": name, "into": "present", "filter": {"type": "marked"}})
    client.done("POST", "/api/backup/restore", {"backupName": name, "into": "export"})
    client.done("GET", f"/api/backup/diff?from={name}")
    client.ask("POST", "/api/backup/restore", {"sequence": 10**9})
    client.done("DELETE", "/api/backup/copy.tar.gz?force=true")


def use_jobs(client: Client, payload: str) -> None:
    processes.wait_until(lambda: client.ask("GET", "/api/jobs/types").json().get("types"), "no worker has come")
    client.done("POST", "/api/jobs", {"type": "echo", "id": "marked", "payload": payload})
    client.done("POST", "/api/jobs", {"type": "echo", "id": "later", "delay": 3600, "payload": payload})
    client.done("GET", "/api/jobs")
    processes.wait_until(lambda: client.done("GET", "/api/jobs/marked")["job"]["state"] == "done", "it is not done", 60)
    for change in ("cancel", "retry"):
        client.done("POST", f"/api/jobs/{change}", {"ids": ["later"]})
    for change in ("pause", "resume"):
        client.done("POST", f"/api/jobs/{change}", {"type": "echo"})
    client.done("PUT", "/api/jobs/schedules/marked", {"type": "echo", "cron": "0 0 1 1 *", "payload": payload})
    client.done("GET", "/api/jobs/schedules")
    client.done("GET", "/api/jobs/schedules/marked")
    client.done("DELETE", "/api/jobs/schedules/marked")
    for wrong in ({"type": "echo", "priority": payload}, {"type": "echo", "payload": payload, "delay": -1}, payload):
        client.ask("POST", "/api/jobs", wrong)


def ask_for_the_rest(client: Client) -> None:
    for path in ("/", "/docs/", "/openapi.json", "/metrics", "/api/health", "/api/health/live", "/api/health/ready"):
        client.ask("GET", path)
    client.done("GET", "/api/settings")
    client.ask("GET", "/api/audit")
    client.ask("POST", "/api/kafka/partitions/0/accept-loss")
    client.ask("POST", "/api/kafka/partitions/events/0/accept-loss")
    client.done("GET", "/api/kafka/quarantine")
    client.ask("POST", "/api/kafka/quarantine", {"ids": ["events/0@1"]})
    client.ask("DELETE", "/api/kafka/quarantine?id=events/0@1")
    client.ask("POST", "/api/problems/rolled_back/accept")
    client.ask("POST", "/api/notify/test")
    assert client.first_line("/api/changes/stream")
    client.ask("POST", "/api/nowhere")
    client.ask("PATCH", "/api/events")


def use_tokens(client: Client, marks: dict[str, str]) -> None:
    """Make, list, rotate and revoke tokens. What is made on the way is marked too."""
    made = client.done("POST", "/api/tokens", {"name": "cron", "scope": "backup", "expires": "90d"})
    rotated = client.done("POST", "/api/tokens", {"rotate": "cron"})
    marks |= {"made token": made["token"], "rotated token": rotated["token"]}
    client.done("GET", "/api/tokens")
    client.ask("POST", "/api/tokens", {"name": marks["token"], "scope": "read"})
    client.ask("DELETE", f"/api/tokens/{marks['token']}")
    client.done("DELETE", f"/api/tokens/{made['id']}")
    Client(client.service, client.port, made["token"]).ask("GET", "/api/backup/list")


def use_session(client: Client, marks: dict[str, str]) -> None:
    """Sign in as a page does, with the token and with wrong ones, and use the cookie with and without its key."""
    for wrong in (marks["unknown token"], marks["payload"], 1):
        client.ask("POST", "/api/session", {"token": wrong})
    begun = client.ask("POST", "/api/session", {"token": marks["token"]})
    marks["key"] = begun.json()["key"]
    marks["cookie"] = re.search(r"__Host-ev=([^;]+)", begun.headers["set-cookie"])[1]
    browser = Client(client.service, client.port, None)
    for key in ({}, {"X_EventVault_Session": marks["key"]}, {"X_EventVault_Session": "wrong"}):
        for path in ("/api/events", "/api/events/export", "/api/backup/list"):
            browser.ask("GET", path, Cookie=f"__Host-ev={marks['cookie']}", **key)
    session = {"Cookie": f"__Host-ev={marks['cookie']}", "X_EventVault_Session": marks["key"]}
    browser.ask("DELETE", "/api/session", **session)
    browser.ask("GET", "/api/events", **session)
    client.errors += browser.errors
    client.paths |= browser.paths


def send_raw(port: int, request: bytes) -> bytes:
    """Send a request that is no valid HTTP, and return what is answered."""
    answer = b""
    with suppress(OSError), socket.create_connection(("127.0.0.1", port), timeout=30) as connection:
        connection.sendall(request)
        connection.shutdown(socket.SHUT_WR)
        while piece := connection.recv(65536):
            answer += piece
    return answer


def malformed(secret: str, payload: str) -> list[bytes]:
    """Requests that break HTTP at the place of a secret or of data."""
    host = b"Host: localhost\r\nConnection: close\r\n"
    bearer, data = f"Bearer {secret}".encode(), payload.encode()
    return [
        b"GET /api/events HTTP/1.1\r\nAuthorization : " + bearer + b"\r\n" + host + b"\r\n",
        b"GET /api/events HTTP/1.1\r\nAuthorization: " + bearer + b"\x00\r\n" + host + b"\r\n",
        b"GET /api/events HTTP/1.1\r\nAuthorization\r\n " + bearer + b"\r\n" + host + b"\r\n",
        b"GET /api/events HTTP/1.1\r\n" + bearer + b"\r\n" + host + b"\r\n",
        bearer + b" /api/events HTTP/1.1\r\n" + host + b"\r\n",
        b"GET /api/events " + bearer + b"\r\n" + host + b"\r\n",
        b"GET /api/events?token=" + secret.encode() + b" HTP/1.1\r\n" + host + b"\r\n",
        b"GET /api/events HTTP/1.1\r\nAuthorization: " + bearer + b"x" * 70_000 + b"\r\n" + host + b"\r\n",
        b"GET /api/events HTTP/1.1\r\nCookie: __Host-ev=" + secret.encode() + b"\x01\r\n" + host + b"\r\n",
        b"GET /api/events HTTP/1.1\r\nAuthorization: "
        + bearer
        + b"\r\nAuthorization: "
        + bearer
        + b"\r\n"
        + host
        + b"\r\n",
        b"POST /api/events HTTP/1.1\r\nTransfer-Encoding: chunked\r\n" + host + b"\r\n" + data + b"\r\n",
        b"POST /api/events HTTP/1.1\r\nTransfer-Encoding: " + data + b"\r\n" + host + b"\r\n",
        b"POST /api/events HTTP/1.1\r\nContent-Length: " + data + b"\r\n" + host + b"\r\n",
        b"POST /api/events HTTP/1.1\r\nContent-Length: 100000\r\n" + host + b"\r\n" + data,
        data + b"\r\n\r\n",
    ]


@dataclass(frozen=True)
class Traces:
    """What a service left: the answers that were errors, the logs, what was seen of its processes, and its folders."""

    marks: dict[str, bytes]
    errors: list[tuple[str, bytes]]
    logs: list[Path]
    seen: set[tuple[str, str]]
    folder: Path
    paths: set[tuple[str, str]]
    documented: set[tuple[str, str]]

    @property
    def secrets(self) -> dict[str, bytes]:
        return {name: mark for name, mark in self.marks.items() if name != "payload"}


@pytest.fixture(scope="module")
def traces(tmp_path_factory: pytest.TempPathFactory, module_service: Callable[..., Service]) -> Traces:
    folder = tmp_path_factory.mktemp("leaks")
    marks = {"payload": secrets.token_hex(16), "address": secrets.token_hex(8), "ping": secrets.token_hex(8)}
    marks["unknown token"] = token_text.new_token()
    names = {"STORAGE_DIR": "storage", "BACKUP_DIR": "backups", "RESTORE_DIR": "restore", "TMPDIR": "temporary"}
    folders = {setting: str(folder / name) for setting, name in names.items()}
    (folder / "temporary").mkdir()
    marks["token"] = make_token(folders)
    closed = free_port()
    running = module_service(
        environment={
            **folders,
            "LOG_LEVEL": "debug",
            "JOURNAL_INTERVAL": "50",
            "NOTIFY_URLS": f"json://user:{marks['address']}@127.0.0.1:{closed}/hook",
            "PING_URL": f"http://user:{marks['ping']}@127.0.0.1:{closed}/ping",
            "MAX_BODY_BYTES": "1000000",
            "JOBS_ENABLED": "true",
        }
    )
    # The test itself gives gunicorn these two addresses in its environment, which it then hides.
    seen_marks = {name: mark.encode() for name, mark in marks.items() if name not in ("address", "ping")}
    with running_nginx(folder / "nginx", [running.port]) as front:
        with watched_processes(running.mark, seen_marks) as seen:
            clients = use_service(running, front, marks)
        later = {name: mark.encode() for name, mark in marks.items()}
        with watched_processes(running.mark, later) as seen_later:
            clients[0].done("POST", "/api/backup/create")
            clients[0].ask("POST", "/api/notify/test")
        documented = documented_operations(clients[0])
        running.stop()
    errors = [(what, reply.body) for client in clients for what, reply in client.errors]
    paths = {path for client in clients for path in client.paths}
    logs = [running.log_file, front.log]
    return Traces(later, errors, logs, seen | seen_later, folder, paths, documented)


def make_token(folders: dict[str, str]) -> str:
    command = [sys.executable, "-m", "flask", "--app", "wsgi", "tokens", "create", "admin", "--scope", "admin"]
    environment = service_environment(folders, 0, secrets.token_hex(8))
    made = subprocess.run(command, env=environment, cwd=PROJECT, capture_output=True, text=True, timeout=60, check=True)
    return re.search(r"ev_\w+", made.stdout)[0]


def use_service(running: Service, front: Front, marks: dict[str, str]) -> list[Client]:
    token, unknown, payload = marks["token"], marks["unknown token"], marks["payload"]
    direct, proxied = Client(running, running.port, token), Client(running, front.plain, token)
    for client in (direct, proxied):
        post_events(client, payload)
    read_events(direct, payload)
    use_backups(direct, payload)
    use_jobs(direct, payload)
    use_tokens(direct, marks)
    use_session(direct, marks)
    ask_for_the_rest(direct)
    strangers = [Client(running, port, unknown) for port in (running.port, front.plain)]
    for client in (*strangers, direct, proxied):
        for path in ("/api/events", f"/api/events?access_token={token}", f"/api/events/{token}", f"/{unknown}"):
            client.ask("GET", path)
        client.ask("GET", "/api/events", Authorization=f"Basic {token}")
        client.ask("GET", "/api/events", Authorization=f"Bearer {token},{token}")
        client.ask("GET", "/api/events", Cookie=f"__Host-ev={token}", X_EventVault_Session=token)
        for request in malformed(token, payload):
            answer = send_raw(client.port, request)
            client.errors.append(("malformed", Reply(400, {}, answer)))
    for killed in (running.stores()[0], running.workers()[0]):
        processes.kill([killed], signal.SIGKILL)
        post_events(direct, payload)
    return [direct, proxied, *strangers]


def documented_operations(client: Client) -> set[tuple[str, str]]:
    document = client.done("GET", "/openapi.json")
    return {
        (method.upper(), path)
        for path, methods in document["paths"].items()
        for method in methods
        if method in ("get", "post", "put", "delete")
    }


def test_every_endpoint_was_used(traces: Traces) -> None:
    def was_used(method: str, template: str) -> bool:
        pattern = re.compile(re.sub(r"\\{\w+\\}", "[^/]+", re.escape(template)))
        return any(used == method and pattern.fullmatch(path) for used, path in traces.paths)

    assert [operation for operation in sorted(traces.documented) if not was_used(*operation)] == []


def test_no_log_has_a_secret_or_a_payload(traces: Traces) -> None:
    found = {log.name: marks_in(log.read_bytes(), traces.marks) for log in traces.logs}
    assert not any(found.values()), found


def test_no_error_has_a_secret_or_a_payload(traces: Traces) -> None:
    assert len(traces.errors) > 20
    assert [(what, found) for what, body in traces.errors if (found := marks_in(body, traces.marks))] == []


def test_no_process_shows_a_secret_or_a_payload(traces: Traces) -> None:
    assert traces.seen == set()


def test_a_secret_is_in_no_file_and_a_payload_only_where_events_are_kept(traces: Traces) -> None:
    logs = set(traces.logs)
    found = files_with([traces.folder], traces.marks)
    wrong = {
        str(path.relative_to(traces.folder)): marks
        for path, marks in found.items()
        if path not in logs
        and not (marks == ["payload"] and MAY_HOLD_PAYLOAD.fullmatch(str(path.relative_to(traces.folder))))
    }
    assert any(marks == ["payload"] for marks in found.values()), "the payload is where it may be"
    assert wrong == {}

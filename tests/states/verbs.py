"""Every verb of the API and of the command line, each with a request that a service in good order carries out.

They are run in this order, those that change much last. Of each the answer is a cell: the status, and the code of an
error. `docs/errors.md` shows the cells of all states.
"""

from __future__ import annotations

import io
import re
from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import click
import orjson
import pytest
from flask import Flask
from flask.testing import FlaskClient
from werkzeug.test import TestResponse

from app.cli.group import Deferred
from app.cli.root import root
from app.edge import Edge
from eventvault import clock
from tests.command_line import in_process


@dataclass
class Surface:
    """A service in some state, as its users reach it.

    backup: the name of an archive that the verbs are about. upload: the bytes of one of another installation. token:
    what was made, with its id. session: the headers of one that was begun with it. renew: brings the state back before
    each verb, where what went before may end it.
    """

    app: Flask
    backup: str
    upload: bytes
    posted: int = field(default=0)
    token: tuple[str, str] = field(default=("", "0" * 8))
    session: dict[str, str] = field(default_factory=dict)
    renew: Callable[[], None] = field(default=lambda: None)

    @property
    def web(self) -> FlaskClient:
        return self.app.test_client()

    def command(self, *arguments: str) -> str:
        """Run a command with `--json`, and return its cell: the exit status, and the code of an error."""
        words = [word.replace("{backup}", self.backup) for word in arguments]
        edge: Edge = self.app.extensions["eventvault"]
        done = in_process(edge.settings, edge.store, jobs=edge.jobs)(*words, "--json")
        if done.exception is not None and not isinstance(done.exception, SystemExit):
            raise done.exception
        code = orjson.loads(done.stdout).get("code", "") if done.exit_code else ""
        return f"{done.exit_code} {code}".strip()


Verb = Callable[[Surface], TestResponse | str]


def http(method: str, path: str, body: Any = None) -> Verb:
    """A request; {backup} in the path or the body stands for the archive's name."""

    def send(surface: Surface) -> TestResponse:
        content = None if body is None else orjson.dumps(body).replace(b"{backup}", surface.backup.encode())
        address = path.replace("{backup}", surface.backup)
        return surface.web.open(address, method=method, data=content, content_type="application/json")

    return send


def get(path: str) -> Verb:
    return http("GET", path)


def post(path: str, body: Any = None) -> Verb:
    return http("POST", path, body)


def command(*arguments: str) -> Verb:
    return lambda surface: surface.command(*arguments)


def follow(path: str) -> Verb:
    """A stream, which would not end by itself: its begin."""

    def begin(surface: Surface) -> TestResponse | str:
        answer = surface.web.get(path, buffered=False)
        if answer.status_code >= 400:
            return answer
        with closing(answer):
            next(answer.iter_encoded())
        return str(answer.status_code)

    return begin


def _post_event(surface: Surface) -> TestResponse:
    surface.posted += 1
    return surface.web.post("/api/events", json={"type": "posted", "id": f"posted-{surface.posted}"})


def _upload(surface: Surface) -> TestResponse:
    return surface.web.post("/api/backup/upload?name=uploaded.tar.gz", data=io.BytesIO(surface.upload))


def _get_as_of_now(surface: Surface) -> TestResponse:
    return surface.web.get(f"/api/events?asOf={clock.format_microseconds(clock.now())}")


def _download(surface: Surface) -> str:
    with TemporaryDirectory() as folder:
        return surface.command("backup", "download", "{backup}", "-o", folder)


def _make_token(surface: Surface) -> TestResponse:
    answer = surface.web.post("/api/tokens", json={"name": "made", "scope": "admin"})
    if answer.status_code == 201:
        surface.token = (answer.json["token"], answer.json["id"])
    return answer


def _revoke_token(surface: Surface) -> TestResponse:
    text, token_id = surface.token
    return surface.web.delete(f"/api/tokens/{token_id}", headers={"Authorization": f"Bearer {text}"} if text else {})


def _upload_by_command(surface: Surface) -> str:
    with TemporaryDirectory() as folder:
        archive = Path(folder) / "sent.tar.gz"
        archive.write_bytes(surface.upload)
        return surface.command("backup", "upload", str(archive))


def _import(surface: Surface) -> str:
    with TemporaryDirectory() as folder, pytest.MonkeyPatch.context() as patch:
        patch.setattr("app.cli.events.import_events._AGAIN_SECONDS", (0.0,))
        file = Path(folder) / "events.ndjson"
        file.write_bytes(b'{"type":"imported","id":"imported"}\n')
        return surface.command("events", "import", str(file))


def _export(surface: Surface) -> str:
    with TemporaryDirectory() as folder:
        return surface.command("events", "export", "-o", f"{folder}/events.ndjson.gz")


def _sign_in(surface: Surface) -> TestResponse:
    answer = surface.web.post("/api/session", json={"token": surface.token[0] or "wrong"})
    if answer.status_code == 200:
        cookie = answer.headers["Set-Cookie"].partition(";")[0]
        surface.session = {"Cookie": cookie, "X-EventVault-Session": answer.json["key"]}
    return answer


def _sign_out(surface: Surface) -> TestResponse:
    return surface.app.test_client(use_cookies=False).delete("/api/session", headers=surface.session)


RESTORE = "POST /api/backup/restore"
READS: dict[str, Verb] = {
    "GET /api/health/live": get("/api/health/live"),
    "GET /api/health/ready": get("/api/health/ready"),
    "GET /api/health": get("/api/health"),
    "GET /metrics": get("/metrics"),
    "GET /api/events": get("/api/events?limit=5"),
    "GET /api/events/<event_id>": get("/api/events/live-0"),
    "GET /api/events/export": get("/api/events/export"),
    "GET /api/events (asOf)": _get_as_of_now,
    "GET /api/events (order=newest)": get("/api/events?order=newest&limit=5"),
    "GET /api/events/histogram": get("/api/events/histogram?buckets=5"),
    "GET /api/events/types": get("/api/events/types"),
    "GET /api/events/stream": follow("/api/events/stream"),
    "GET /api/changes/stream": follow("/api/changes/stream"),
    "GET /api/backup/list": get("/api/backup/list"),
    "GET /api/backup/export-metadata": get("/api/backup/export-metadata"),
    "GET /api/backup/timeline": get("/api/backup/timeline"),
    "GET /api/backup/undo": get("/api/backup/undo"),
    "GET /api/backup/rehearsals": get("/api/backup/rehearsals"),
    "GET /api/backup/<name>": get("/api/backup/{backup}"),
    "GET /api/backup/<name>/download": get("/api/backup/{backup}/download"),
    "GET /api/backup/diff": get("/api/backup/diff?from=2&to=4"),
    f"{RESTORE} (dryRun)": post("/api/backup/restore", {"sequence": 3, "dryRun": True}),
    "POST /api/backup/prune (dryRun)": post("/api/backup/prune", {"dryRun": True}),
    f"{RESTORE} (into export)": post("/api/backup/restore", {"sequence": 3, "into": "export"}),
    "GET /api/settings": get("/api/settings"),
    "GET /api/tokens": get("/api/tokens"),
    "GET /api/audit": get("/api/audit"),
    "GET /api/jobs": get("/api/jobs"),
    "GET /api/jobs/<job_id>": get("/api/jobs/waiting"),
    "GET /api/jobs/types": get("/api/jobs/types"),
    "GET /api/jobs/schedules": get("/api/jobs/schedules"),
    "GET /api/jobs/schedules/<name>": get("/api/jobs/schedules/nightly"),
    "GET /api/operations": get("/api/operations"),
    "GET /api/operations/<operation_id>": get(f"/api/operations/{'f' * 16}"),
    "GET /api/operations/<operation_id>/file": get(f"/api/operations/{'f' * 16}/file"),
    "GET /api/operations/<operation_id>/stream": get(f"/api/operations/{'f' * 16}/stream"),
    "flask backup list": command("backup", "list"),
    "flask backup show": command("backup", "show", "{backup}"),
    "flask backup timeline": command("backup", "timeline"),
    "flask backup undo (list)": command("backup", "undo", "--list"),
    "flask backup restore (dry-run)": command("backup", "restore", "--at", "#3", "--dry-run"),
    "flask backup diff": command("backup", "diff", "#2", "#4", "--summary"),
    "flask events export": _export,
    "flask events tail": command("events", "tail", "-n", "2"),
    "flask events count": command("events", "count", "--by", "type"),
    "flask events get": command("events", "get", "live-0"),
    "flask events diff": command("events", "diff", "#2", "#4"),
    "flask jobs list": command("jobs", "list"),
    "flask jobs show": command("jobs", "show", "waiting"),
    "flask jobs watch": command("jobs", "watch", "cancelled"),
    "flask jobs types": command("jobs", "types"),
    "flask jobs schedules": command("jobs", "schedules"),
    "flask operations list": command("operations", "list"),
    "flask backup prune (dry-run)": command("backup", "prune", "--dry-run"),
    "flask operations watch": command("operations", "watch", "f" * 16),
    "flask problems list": command("problems", "list"),
    "flask kafka status": command("kafka", "status"),
    "GET /api/kafka/quarantine": get("/api/kafka/quarantine"),
    "flask kafka quarantine list": command("kafka", "quarantine", "list"),
    "flask kafka quarantine show": command("kafka", "quarantine", "show", "events/0@1"),
    "flask doctor": command("doctor"),
    "flask audit show": command("audit", "show"),
    "flask audit verify": command("audit", "verify"),
    "flask backup trust --list": command("backup", "trust", "--list"),
    "flask tokens list": command("tokens", "list"),
}
CHANGES: dict[str, Verb] = {
    "POST /api/events/export": post("/api/events/export"),
    "POST /api/events": _post_event,
    "POST /api/backup/create": post("/api/backup/create"),
    "flask backup create": command("backup", "create"),
    "flask backup verify": command("backup", "verify", "{backup}"),
    "flask backup pin": command("backup", "pin", "{backup}"),
    "flask backup unpin": command("backup", "unpin", "{backup}"),
    "flask backup download": _download,
    "POST /api/backup/<name>/verify": post("/api/backup/{backup}/verify"),
    "POST /api/backup/<name>/rehearse": post("/api/backup/{backup}/rehearse"),
    "POST /api/backup/rehearse": post("/api/backup/rehearse"),
    "flask backup rehearse": command("backup", "rehearse"),
    "PUT /api/backup/<name>/pin": http("PUT", "/api/backup/{backup}/pin"),
    "DELETE /api/backup/<name>/pin": http("DELETE", "/api/backup/{backup}/pin"),
    "POST /api/backup/prune": post("/api/backup/prune"),
    "POST /api/backup/upload": _upload,
    "flask backup prune": command("backup", "prune", "--yes"),
    "flask backup upload": _upload_by_command,
    "DELETE /api/operations/<operation_id>": http("DELETE", f"/api/operations/{'f' * 16}"),
    f"{RESTORE} (into present)": post("/api/backup/restore", {"sequence": 3, "into": "present"}),
    "POST /api/kafka/partitions/<partition>/accept-loss": post("/api/kafka/partitions/0/accept-loss"),
    "POST /api/kafka/partitions/<topic>/<partition>/accept-loss": post("/api/kafka/partitions/events/0/accept-loss"),
    "POST /api/kafka/quarantine": post("/api/kafka/quarantine", {"ids": ["events/0@1"]}),
    "DELETE /api/kafka/quarantine": http("DELETE", "/api/kafka/quarantine?id=events/0@1"),
    "POST /api/jobs": post("/api/jobs", {"type": "report", "delay": 86_400}),
    "POST /api/jobs/cancel": post("/api/jobs/cancel", {"ids": ["waiting"]}),
    "POST /api/jobs/retry": post("/api/jobs/retry", {"ids": ["waiting"]}),
    "POST /api/jobs/pause": post("/api/jobs/pause"),
    "POST /api/jobs/resume": post("/api/jobs/resume"),
    "PUT /api/jobs/schedules/<name>": http("PUT", "/api/jobs/schedules/x", {"type": "report", "cron": "0 3 * * *"}),
    "DELETE /api/jobs/schedules/<name>": http("DELETE", "/api/jobs/schedules/x"),
    "flask jobs submit": command("jobs", "submit", "report", "--delay", "24h"),
    "flask jobs cancel": command("jobs", "cancel", "waiting"),
    "flask jobs retry": command("jobs", "retry", "waiting"),
    "flask jobs pause": command("jobs", "pause", "report"),
    "flask jobs resume": command("jobs", "resume", "--all"),
    "flask jobs schedule": command("jobs", "schedule", "x", "report", "--cron", "0 3 * * *"),
    "flask jobs unschedule": command("jobs", "unschedule", "x"),
    "POST /api/notify/test": post("/api/notify/test"),
    "flask operations cancel": command("operations", "cancel", "f" * 16),
    "flask notify test": command("notify", "test"),
    "flask kafka accept": command("kafka", "accept", "events/0", "--yes"),
    "flask kafka quarantine replay": command("kafka", "quarantine", "replay", "events/0@1"),
    "flask kafka quarantine drop": command("kafka", "quarantine", "drop", "events/0@1", "--yes"),
    "flask backup trust": command("backup", "trust", "a" * 64),
    "flask backup trust --remove": command("backup", "trust", "--remove", "a" * 16),
    "flask backup recover": command("backup", "recover", "--yes"),
    f"{RESTORE} (apply restart)": post("/api/backup/restore", {"backupName": "{backup}", "apply": "restart"}),
    RESTORE: post("/api/backup/restore", {"backupName": "{backup}"}),
    "POST /api/backup/undo": post("/api/backup/undo"),
    "flask backup restore": command("backup", "restore", "{backup}", "--yes"),
    "flask backup undo": command("backup", "undo", "--yes"),
    f"{RESTORE} (sequence)": post("/api/backup/restore", {"sequence": 3}),
    "flask events post": command("events", "post", "posted", "--id", "posted-by-command"),
    "flask events import": _import,
    "DELETE /api/backup/<name> (dryRun)": http("DELETE", "/api/backup/{backup}?dryRun=true"),
    "DELETE /api/backup/<name>": http("DELETE", "/api/backup/{backup}"),
    "flask backup delete": command("backup", "delete", "{backup}", "--yes"),
    "flask backup trust --renew": command("backup", "trust", "--renew", "--yes"),
    "flask problems accept": command("problems", "accept", "backups_changed", "--yes"),
    "POST /api/problems/<code>/accept": post("/api/problems/rolled_back/accept"),
    # The first token closes the service, so these come last.
    "POST /api/tokens": _make_token,
    "POST /api/session": _sign_in,
    "DELETE /api/session": _sign_out,
    "DELETE /api/tokens/<token_id>": _revoke_token,
    "flask tokens create": command("tokens", "create", "cron", "--scope", "backup"),
    "flask tokens rotate": command("tokens", "rotate", "cron"),
    "flask tokens revoke": command("tokens", "revoke", "0" * 8),
    "flask tokens disable": command("tokens", "disable", "--yes"),
}
VERBS = READS | CHANGES
WITHOUT_STATE = {
    "GET /",
    "GET /ui/<version>/<name>",
    "GET /openapi.json",
    "GET /docs",
    "GET /docs/",
    "GET /docs/api",
    "GET /docs/search.json",
    "GET /docs/<name>",
    "GET /docs/pictures/<filename>",
    "GET /docs/static/<filename>",
}
"""They answer from the program alone."""


def cell_of(answer: TestResponse | str) -> str:
    """Return the status, and the code of an error."""
    if isinstance(answer, str):
        return answer
    body = answer.get_data()  # to the end of what is streamed
    answer.close()
    if answer.status_code < 400:
        return str(answer.status_code)
    return f"{answer.status_code} {orjson.loads(body)['code']}"


def routes(app: Flask) -> Iterator[str]:
    """Every verb that the API has."""
    for rule in app.url_map.iter_rules():
        path = re.sub(r"<(?:[^:<>]+:)?(\w+)>", r"<\1>", rule.rule)
        for method in sorted((rule.methods or set()) - {"HEAD", "OPTIONS"}):
            yield f"{method} {path}"


def commands() -> Iterator[str]:
    """Every command that asks the store; `completion` and `help` do not."""
    for name, each in root().commands.items():
        if name not in ("completion", "help"):
            yield from _named(f"flask {name}", each.load() if isinstance(each, Deferred) else each)


def _named(name: str, found: click.Command) -> Iterator[str]:
    if not isinstance(found, click.Group):
        yield name
        return
    for verb, each in found.commands.items():
        yield from _named(f"{name} {verb}", each)

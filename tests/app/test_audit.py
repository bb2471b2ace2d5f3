"""`/api/audit`, `flask audit`, and the deeds of a worker."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import msgspec
import pytest
from click.testing import Result
from flask.testing import FlaskClient

from eventvault.audit.chain import files_of
from eventvault.audit.lines import AuditLine
from eventvault.audit.reading import AuditPage
from eventvault.operations.caller import Caller, calling
from eventvault.settings import Settings
from eventvault.store.service import StoreService
from tests.command_line import in_process
from tests.restoring import drafts
from tests.stores import running_service

Command = Callable[..., Result]


def lines(web: FlaskClient, action: str | None = None) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = web.get("/api/audit?limit=1000").json["lines"]
    return [line for line in found if action in (None, line["action"])]


def fetch(web: FlaskClient, address: str, **headers: str) -> int:
    """Get all of an answer and end the request, as a server does. Returns its length."""
    answer = web.get(address, headers=headers)
    assert answer.status_code < 300, answer.data
    length = len(answer.data)
    answer.close()
    return length


def test_each_deed_is_two_lines(web: FlaskClient, backup: str) -> None:
    web.put(f"/api/backup/{backup}/pin", json={"reason": "audit 2026"})
    begun, ended = lines(web, "pin")
    assert begun == {
        "line": begun["line"],
        "at": begun["at"],
        "operation": ended["operation"],
        "state": "begun",
        "action": "pin",
        "who": "open",
        "target": backup,
        "result": None,
        "details": {"pinned": True, "reason": "audit 2026"},
        "previous": begun["previous"],
    }
    assert (ended["state"], ended["result"]) == ("ended", "done")


@pytest.mark.slow
def test_the_list_is_in_pages(web: FlaskClient, backup: str) -> None:
    web.put(f"/api/backup/{backup}/pin")
    first = web.get("/api/audit?limit=3").json
    assert [line["line"] for line in first["lines"]] == [1, 2, 3]
    assert (first["next"], first["lastLine"]) == (3, 4)
    rest = web.get(f"/api/audit?after={first['next']}").json
    assert [line["line"] for line in rest["lines"]] == [4]
    assert rest["next"] is None
    assert web.get("/api/audit?after=4").json["lines"] == []


@pytest.mark.parametrize("query", ["limit=0", "limit=1001", "after=-1", "after=a", "before=3", "after=1&after=2"])
def test_what_the_list_does_not_take_is_refused(web: FlaskClient, query: str) -> None:
    answer = web.get(f"/api/audit?{query}")
    assert (answer.status_code, answer.json["code"]) == (422, "invalid")


def test_a_download_is_a_deed(web: FlaskClient, backup: str, archive: bytes) -> None:
    assert fetch(web, f"/api/backup/{backup}/download") == len(archive)
    begun, ended = lines(web, "download")
    assert (begun["target"], begun["details"]) == (backup, {})
    assert (ended["result"], ended["details"]) == ("done", {"bytes": len(archive)})


def test_a_range_is_a_deed_too(web: FlaskClient, backup: str, archive: bytes) -> None:
    assert fetch(web, f"/api/backup/{backup}/download", Range="bytes=5-14") == 10
    begun, ended = lines(web, "download")
    assert begun["details"] == {"range": f"bytes 5-14/{len(archive)}"}
    assert (ended["result"], ended["details"]) == ("done", {"bytes": 10})


def test_a_download_that_breaks_off_is_interrupted(web: FlaskClient, backup: str) -> None:
    answer = web.get(f"/api/backup/{backup}/download", buffered=False)
    answer.close()
    _, ended = lines(web, "download")
    assert (ended["result"], ended["details"]) == ("interrupted", {"bytes": 0})


def test_an_answer_without_the_bytes_is_no_download(web: FlaskClient, backup: str) -> None:
    etag = web.head(f"/api/backup/{backup}/download").headers["ETag"]
    assert web.get(f"/api/backup/{backup}/download", headers={"If-None-Match": etag}).status_code == 304
    assert web.get("/api/backup/backup_2026-01-31_120000.tar.gz/download").status_code == 404
    assert lines(web, "download") == []


def test_an_export_is_a_deed_and_a_list_is_none(web: FlaskClient) -> None:
    web.post("/api/events", json=[{"type": "a", "subject": "secret-of-a-client"}] * 3)
    web.get("/api/events?limit=2")
    assert lines(web) == []
    assert fetch(web, "/api/events/export?subject=secret-of-a-client")
    begun, ended = lines(web, "export")
    assert (begun["details"], ended["result"]) == ({"streamed": True}, "done")
    assert "secret-of-a-client" not in json.dumps(lines(web))


def test_a_file_of_an_export_is_a_download(web: FlaskClient) -> None:
    web.post("/api/events", json={"type": "a"})
    exported = web.post("/api/events/export", json={"filter": {"type": "a"}}).json
    fetch(web, exported["file"])
    begun, ended = lines(web, "export")
    assert (begun["details"], ended["details"]["events"]) == ({"filtered": True}, 1)
    begun, ended = lines(web, "download")
    assert (begun["target"], ended["result"]) == (f"operation {exported['operation']}", "done")


@pytest.fixture
def service(settings: Settings) -> Iterator[StoreService]:
    with running_service(settings) as service:
        service.append(drafts(3, "first"))
        with calling(Caller("cron")):
            name = service.create_backup("first").backup.name
            service.delete_backup(name, force=True)
        yield service


@pytest.fixture
def audit(settings: Settings, service: StoreService) -> Command:
    """Runs `flask audit …` on that store."""
    return partial(in_process(settings, service), "audit")


@pytest.mark.slow
def test_show_has_a_row_for_each_deed_newest_first(audit: Command, service: StoreService) -> None:
    shown = audit("show", "--utc")
    assert shown.exit_code == 0, shown.output
    rows = [row.split() for row in shown.output.splitlines()]
    assert rows[0] == ["TIME", "(UTC)", "WHO", "ACTION", "TARGET", "RESULT"]
    assert [(row[2], row[3], row[-1]) for row in rows[1:]] == [("cron", "delete", "done"), ("cron", "create", "done")]


@pytest.mark.slow
def test_show_stays_narrow_whatever_one_label_is(
    audit: Command, service: StoreService, monkeypatch: pytest.MonkeyPatch
) -> None:
    page = service.read_audit(after=0, limit=1000)
    long = [msgspec.structs.replace(line, target="l" * 500) if line.line == 1 else line for line in page.lines]
    monkeypatch.setattr(service, "read_audit", lambda after, limit: AuditPage(long[after : after + limit], page.last))
    rows = audit("show").output.splitlines()
    assert any("l" * 500 in row for row in rows)
    assert [row for row in rows if len(row) > 160 and "l" * 500 not in row] == []


@pytest.mark.slow
@pytest.mark.parametrize(
    ("arguments", "actions"),
    [
        (["--action", "create"], ["create"]),
        (["--who", "cron", "--limit", "1"], ["delete"]),
        (["--who", "nobody"], []),
        (["--since", "1 h ago"], ["delete", "create"]),
        (["--since", "2999-01-01T00:00:00Z"], []),
    ],
)
def test_show_takes_what_is_wanted(audit: Command, arguments: list[str], actions: list[str]) -> None:
    shown = json.loads(audit("show", "--json", *arguments).output)
    assert [deed["action"] for deed in shown["deeds"]] == actions
    assert all(deed["result"] == "done" for deed in shown["deeds"])
    if not actions:
        assert "Nothing like that" in audit("show", *arguments).output


@pytest.mark.slow
def test_show_says_that_a_deed_was_begun_again_as_a_store_was_killed(
    audit: Command, service: StoreService, monkeypatch: pytest.MonkeyPatch
) -> None:
    def line(number: int, state: str, result: str | None = None) -> AuditLine:
        deed = {"operation": "ab12", "action": "restore", "who": "cron", "at": "2026-11-29T17:00:00.000000Z"}
        return AuditLine(line=number, previous="0" * 64, state=state, result=result, **deed)

    lines = [line(1, "begun"), line(2, "begun"), line(3, "ended", "done")]
    monkeypatch.setattr(service, "read_audit", lambda after, limit: AuditPage(lines[after : after + limit], 3))
    rows = [row.split("  ")[-1].strip() for row in audit("show").output.splitlines()[1:]]
    assert rows == ["done", "begun again"]
    deeds = json.loads(audit("show", "--json").output)["deeds"]
    assert [deed["result"] for deed in deeds] == ["done", "begun again"]


@pytest.mark.slow
def test_verify_counts_the_lines_of_a_whole_chain(audit: Command) -> None:
    done = audit("verify")
    assert (done.exit_code, done.output) == (0, "4 lines in 1 file: the chain is whole.\n")
    assert json.loads(audit("verify", "--json").output) == {
        "success": True, "lines": 4, "files": 1, "noted": 4, "waiting": 0, "bad": None, "torn": False,
    }  # fmt: skip


@pytest.mark.slow
def test_verify_names_the_first_bad_line_and_exits_1(audit: Command, settings: Settings) -> None:
    (path,) = files_of(settings.backup_dir / "audit")
    path.write_bytes(path.read_bytes().replace(b'"cron"', b'"open"', 1))
    done = audit("verify")
    assert done.exit_code == 1
    assert f"line 1, {path.name}:1, was changed" in done.output
    assert json.loads(audit("verify", "--json").output)["code"] == "audit_broken"


@pytest.mark.slow
def test_verify_says_what_it_cannot_tell(audit: Command, settings: Settings) -> None:
    (settings.storage_dir / "audit.json").unlink()
    assert "lines that are cut off do not show" in audit("verify").output


@pytest.mark.slow
def test_trusting_is_a_deed(settings: Settings, service: StoreService) -> None:
    run = in_process(settings, service)
    added = run("backup", "trust", "a" * 64)
    assert added.exit_code == 0, added.output
    assert run("backup", "trust", "--remove", "a" * 64).exit_code == 0
    found = [line for line in service.read_audit(limit=1000).lines if line.action == "trust"]
    assert [(line.who, line.state, line.result) for line in found] == [
        ("shell", "begun", None), ("shell", "ended", "done"),
    ] * 2  # fmt: skip
    assert [line.details for line in found if line.state == "begun"] == [{"trusted": True}, {"trusted": False}]


@pytest.mark.slow
def test_a_download_by_command_is_a_deed(settings: Settings, service: StoreService, tmp_path: Path) -> None:
    name = service.create_backup("second").backup.name
    done = in_process(settings, service)("backup", "download", name, "-o", str(tmp_path / "copy.tar.gz"))
    assert done.exit_code == 0, done.output
    found = [line for line in service.read_audit(limit=1000).lines if line.action == "download"]
    assert [(line.who, line.target, line.result) for line in found] == [("shell", name, None), ("shell", name, "done")]


@pytest.mark.slow
def test_changes_of_tokens_are_deeds_without_a_secret(settings: Settings, service: StoreService) -> None:
    run = in_process(settings, service)
    made = run("tokens", "create", "admin", "--scope", "admin", "--json")
    secret = json.loads(made.output)["token"]
    assert run("tokens", "rotate", "admin", "--now").exit_code == 0
    assert run("tokens", "revoke", "4fQ2mZ8k").exit_code != 0
    found = [line for line in service.read_audit(limit=1000).lines if line.action.startswith("token-")]
    assert [(line.action, line.who, line.target, line.result) for line in found if line.result] == [
        ("token-create", "shell", "admin", "done"),
        ("token-rotate", "shell", "admin", "done"),
        ("token-revoke", "shell", "4fQ2mZ8k", "failed"),
    ]
    written = b"".join(path.read_bytes() for path in files_of(settings.backup_dir / "audit"))
    assert secret.encode() not in written
    assert secret.rpartition("_")[2].encode() not in written

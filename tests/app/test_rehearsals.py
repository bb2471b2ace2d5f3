"""Rehearsals over HTTP."""

from __future__ import annotations

from typing import Any

import pytest
from flask.testing import FlaskClient

from eventvault.store.memory.store import MemoryStore

PARTS = ["fetch", "unpack", "verify", "open"]


def test_the_newest_state_a_backup_and_a_moment_are_rehearsed(web: FlaskClient, backup: str) -> None:
    for address, body, kind in (
        ("/api/backup/rehearse", None, "newest"),
        ("/api/backup/rehearse", {}, "newest"),
        (f"/api/backup/{backup}/rehearse", None, "backup"),
        ("/api/backup/rehearse", {"sequence": 1}, "moment"),
    ):
        answer = web.post(address, json=body) if body is not None else web.post(address)
        assert answer.status_code == 200, answer.json
        rehearsal = answer.json["rehearsal"]
        assert answer.json["success"] is True
        assert (rehearsal["ok"], rehearsal["kind"], rehearsal["backup"]) == (True, kind, backup)
        assert (rehearsal["compared"], rehearsal["differing"], rehearsal["problem"]) == (1, 0, None)
        assert (rehearsal["rpoEvents"], rehearsal["rpoSeconds"], rehearsal["rtoSeconds"]) == (0, 0.0, 0.0)
        assert list(rehearsal["rto"]) == PARTS
        assert rehearsal["at"].endswith("Z")

    kinds = [result["kind"] for result in web.get("/api/backup/rehearsals").json["rehearsals"]]
    assert kinds == ["moment", "backup", "newest", "newest"]


def test_a_form_of_powershell_will_do(web: FlaskClient, backup: str) -> None:
    form = "application/x-www-form-urlencoded"
    answer = web.post("/api/backup/rehearse", data='{"sequence": 1}', content_type=form)

    assert answer.json["rehearsal"]["moment"]["sequence"] == 1


@pytest.mark.parametrize(
    ("body", "member"),
    [
        ({"sequence": -1}, "sequence"),
        ({"sequence": "1"}, "sequence"),
        ({"pointInTime": "yesterday"}, "pointInTime"),
        ({"sequence": 1, "pointInTime": "2024-12-27T12:00:00Z"}, "sequence"),
        ({"generation": "0123456789abcdef"}, "generation"),
        ({"sequence": 1, "generation": "../x"}, "generation"),
        ({"backupName": "a.tar.gz"}, "backupName"),
    ],
)
def test_an_invalid_request_is_refused_with_the_name_of_its_member(
    web: FlaskClient, body: dict[str, Any], member: str
) -> None:
    answer = web.post("/api/backup/rehearse", json=body)

    assert (answer.status_code, answer.json["code"]) == (422, "invalid")
    assert member in answer.json["fields"]


def test_what_is_not_there_is_not_found(web: FlaskClient, backup: str) -> None:
    answer = web.post("/api/backup/backup_2024-12-27_120000.tar.gz/rehearse")
    assert (answer.status_code, answer.json["code"]) == (404, "backup_not_found")
    answer = web.post("/api/backup/rehearse", json={"sequence": 2})
    assert (answer.status_code, answer.json["code"]) == (422, "moment_unavailable")
    assert web.post("/api/backup/..%2fx/rehearse").status_code in (404, 422)
    assert web.get("/api/backup/rehearsals").json["rehearsals"] == []


def test_a_backup_that_cannot_be_restored_is_no_error_of_the_request(
    web: FlaskClient, backup: str, store: MemoryStore
) -> None:
    path = store.state.archives.entry(backup).path
    with open(path, "r+b") as file:  # noqa: PTH123
        file.write(b"damage")

    answer = web.post(f"/api/backup/{backup}/rehearse")

    assert answer.status_code == 200
    assert answer.json["rehearsal"]["ok"] is False
    assert answer.json["rehearsal"]["problem"]["code"] == "archive_damaged"
    assert answer.json["rehearsal"]["problem"].keys() == {"code", "message", "hint"}


def test_unknown_parameters_are_refused(web: FlaskClient) -> None:
    assert web.post("/api/backup/rehearse?dryRun=true").status_code == 422
    assert web.get("/api/backup/rehearsals?limit=3").status_code == 422

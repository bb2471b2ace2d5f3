"""`/api/operations`, and requests that do not wait for the end of what they begin."""

from __future__ import annotations

from typing import Any

import pytest
from flask.testing import FlaskClient

from eventvault.operations.records import OperationRecord
from eventvault.store.memory.store import MemoryStore
from tests import processes


def ended(web: FlaskClient, address: str) -> dict[str, Any]:
    def operation() -> dict[str, Any]:
        found: dict[str, Any] = web.get(address).json["operation"]
        return found

    processes.wait_until(lambda: operation()["endedAt"], "it does not end")
    return operation()


@pytest.mark.parametrize(
    ("query", "header"),
    [
        ("?async=true", None),
        ("?async=1", None),
        ("", "respond-async"),
        ("", "wait=10, Respond-Async; why=not"),
        ("?async=true", "respond-async"),
    ],
)
def test_a_request_that_does_not_wait_is_answered_with_the_address_of_its_operation(
    web: FlaskClient, query: str, header: str | None
) -> None:
    headers = {"Prefer": header} if header else {}
    answer = web.post(f"/api/backup/create{query}", json={"label": "later"}, headers=headers)

    assert answer.status_code == 202
    assert answer.json["success"] is True
    operation = answer.json["operation"]
    assert answer.headers["Location"] == f"/api/operations/{operation['id']}"
    assert answer.headers.get("Preference-Applied") == ("respond-async" if header else None)
    done = ended(web, answer.headers["Location"])
    assert (done["kind"], done["state"], done["startedBy"]) == ("create", "succeeded", "open")
    assert (done["progress"], done["remainingSeconds"], done["error"]) == (1, None, None)
    assert done["result"]["label"] == "later"
    assert done["result"]["name"] in {backup["name"] for backup in web.get("/api/backup/list").json["backups"]}


@pytest.mark.parametrize(
    ("query", "header"), [("", None), ("?async=false", None), ("?async=false", "respond-async"), ("", "return=minimal")]
)
def test_a_request_that_waits_is_answered_with_the_result_and_listed(
    web: FlaskClient, query: str, header: str | None
) -> None:
    answer = web.post(f"/api/backup/create{query}", headers={"Prefer": header} if header else {})
    assert answer.status_code == 200
    (operation,) = web.get("/api/operations").json["operations"]
    assert operation["result"] == answer.json


def test_async_is_a_boolean_and_nothing_begins_with_another_value(web: FlaskClient) -> None:
    answer = web.post("/api/backup/create?async=maybe")
    assert (answer.status_code, list(answer.json["fields"])) == (422, ["async"])
    assert web.get("/api/operations").json["operations"] == []


@pytest.mark.parametrize(
    ("path", "body", "kind"),
    [
        ("/api/backup/{backup}/verify", None, "verify"),
        ("/api/backup/prune", {"dryRun": False}, "prune"),
        ("/api/backup/restore", {"backupName": "{backup}"}, "restore"),
        ("/api/backup/restore", {"sequence": 1}, "restore"),
        ("/api/backup/restore", {"sequence": 1, "into": "present"}, "copy"),
    ],
)
def test_other_long_calls_may_be_begun_too(
    web: FlaskClient, backup: str, path: str, body: dict[str, Any] | None, kind: str
) -> None:
    content = {
        name: value.format(backup=backup) if isinstance(value, str) else value for name, value in (body or {}).items()
    }
    waited = web.post(path.format(backup=backup), json=content or None)
    answer = web.post(path.format(backup=backup) + "?async=true", json=content or None)
    assert answer.status_code == 202
    done = ended(web, answer.headers["Location"])
    assert (done["kind"], done["state"]) == (kind, "succeeded")
    assert set(done["result"]) == set(waited.json)


def test_an_undo_may_be_begun_without_waiting(web: FlaskClient, backup: str) -> None:
    web.post("/api/backup/restore", json={"backupName": backup})
    done = ended(web, web.post("/api/backup/undo?async=true").headers["Location"])
    assert (done["kind"], done["state"], done["result"]["leftBehind"]) == (
        "undo",
        "succeeded",
        done["result"]["leftBehind"],
    )


def test_what_fails_later_has_the_error_that_the_request_would_have_had(web: FlaskClient) -> None:
    name = "backup_2026-01-31_120000.tar.gz"
    waited = web.post(f"/api/backup/{name}/verify")
    done = ended(web, web.post(f"/api/backup/{name}/verify?async=true").headers["Location"])
    assert (waited.status_code, done["state"], done["result"]) == (404, "failed", None)
    assert {**done["error"], "success": False} == waited.json


@pytest.mark.slow
def test_a_dry_run_changes_nothing_and_is_answered_at_once(web: FlaskClient, backup: str) -> None:
    answer = web.post("/api/backup/restore?async=true", json={"backupName": backup, "dryRun": True})
    assert (answer.status_code, answer.json["dryRun"]) == (200, True)


def test_the_list_takes_states_and_kinds_and_goes_in_pages(web: FlaskClient, backup: str) -> None:
    for _ in range(3):
        web.post(f"/api/backup/{backup}/verify")
    everything = [one["id"] for one in web.get("/api/operations").json["operations"]]
    page = [one["id"] for one in web.get("/api/operations?limit=2").json["operations"]]
    rest = [one["id"] for one in web.get(f"/api/operations?before={page[-1]}").json["operations"]]
    assert page + rest == everything
    assert len(web.get("/api/operations?kind=verify,create&state=succeeded").json["operations"]) == 4
    assert len(web.get("/api/operations?kind=verify").json["operations"]) == 3
    assert web.get("/api/operations?state=failed,running").json["operations"] == []


@pytest.mark.parametrize(
    "query",
    ["state=ended", "kind=backup", "limit=0", "limit=1000000000", "limit=x", "before=x", "order=newest", "state="],
)
def test_a_wrong_question_of_the_list_is_refused_by_its_name(web: FlaskClient, query: str) -> None:
    answer = web.get(f"/api/operations?{query}")
    assert (answer.status_code, list(answer.json["fields"])) == (422, [query.partition("=")[0]])


@pytest.mark.parametrize("method", ["get", "delete"])
def test_an_operation_that_is_unknown_or_long_gone_is_not_found(web: FlaskClient, method: str) -> None:
    answer = getattr(web, method)("/api/operations/" + "f" * 16)
    assert (answer.status_code, answer.json["code"]) == (404, "operation_not_found")
    assert "30 days" in answer.json["hint"]


def test_one_that_has_ended_cannot_be_cancelled(web: FlaskClient, backup: str) -> None:
    (operation,) = web.get("/api/operations").json["operations"]
    answer = web.delete(f"/api/operations/{operation['id']}")
    assert (answer.status_code, answer.json["code"]) == (409, "operation_ended")


def test_a_cancel_is_accepted_and_may_be_repeated(web: FlaskClient, store: MemoryStore, backup: str) -> None:
    def begin_verify() -> str:
        address: str = web.post(f"/api/backup/{backup}/verify?async=true").headers["Location"]
        return address

    with store.state.lock:  # the check waits for it
        address = begin_verify()
        processes.wait_until(lambda: web.get(address).json["operation"]["state"] == "running", "it does not begin")
        for _ in range(2):
            answer = web.delete(address)
            assert (answer.status_code, answer.json["operation"]["cancelRequested"]) == (202, True)
    processes.wait_until(lambda: web.get(address).json["operation"]["endedAt"], "it does not end")


@pytest.mark.slow
def test_a_result_of_another_version_is_null(web: FlaskClient, store: MemoryStore, backup: str) -> None:
    store.operations._records.write(
        "a" * 16,
        OperationRecord(
            "create_backup", 1, kind="create", state="succeeded", started_by="open", started_at=1, done=True
        ),
    )
    assert web.get(f"/api/operations/{'a' * 16}").json["operation"]["result"] is None

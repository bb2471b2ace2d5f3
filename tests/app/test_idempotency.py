"""`Idempotency-Key`: repeated requests."""

from __future__ import annotations

import io

import pytest
from flask import Flask
from flask.testing import FlaskClient
from werkzeug.test import TestResponse

from eventvault.backups.entry import Created
from eventvault.errors import NoSpace, TooBusy
from eventvault.operations.keyed_answers import Claim, KeyedAnswers
from eventvault.settings import Settings
from eventvault.store.memory.store import MemoryStore

EVENT = {"type": "order.created", "data": 1}


def post(web: FlaskClient, key: str | None, body: object = EVENT, **headers: str) -> TestResponse:
    named = {} if key is None else {"Idempotency-Key": key}
    return web.post("/api/events", json=body, headers={**named, **headers})


def last_sequence(web: FlaskClient) -> int:
    count: int = web.get("/api/events").json["lastSequence"]
    return count


@pytest.mark.parametrize("body", [EVENT, [EVENT, EVENT], []])
def test_repeated_events_are_stored_once_and_answered_with_the_same_bytes(web: FlaskClient, body: object) -> None:
    first = post(web, "k1", body)
    post(web, None)
    again = post(web, "k1", body)

    assert (again.status_code, again.data) == (first.status_code, first.data)
    assert last_sequence(web) == first.json["lastSequence"] + 1


def test_duplicates_are_answered_as_the_first_time(web: FlaskClient) -> None:
    post(web, None, {"type": "a", "id": "1", "data": 1})
    body = [{"type": "a", "id": "1", "data": 2}, {"type": "a", "id": "1", "data": 1}]

    first, again = post(web, "k", body), post(web, "k", body)

    assert (again.status_code, again.data) == (first.status_code, first.data) == (200, first.data)
    assert [result.get("differs", False) for result in again.json["results"]] == [True, False]


def test_another_body_is_refused_and_stores_nothing(web: FlaskClient) -> None:
    post(web, "k")

    refused = post(web, "k", {"type": "other"})

    assert (refused.status_code, refused.json["code"]) == (422, "idempotency_key_reused")
    assert last_sequence(web) == 1


def test_the_attributes_in_headers_belong_to_the_content(web: FlaskClient) -> None:
    def binary(event_type: str) -> TestResponse:
        headers = {"ce-type": event_type, "ce-specversion": "1.0", "Idempotency-Key": "k"}
        return web.post("/api/events", data=b"1", headers=headers, content_type="application/json")

    assert [binary(name).status_code for name in ("a", "a", "b")] == [201, 201, 422]
    assert last_sequence(web) == 1


@pytest.mark.parametrize("body", [b"{", b'{"type": 1}', b'[{"type": "a"}, {}]', b"\xff"])
def test_a_refusal_is_the_answer_too(web: FlaskClient, body: bytes) -> None:
    def send(content: bytes) -> TestResponse:
        return web.post("/api/events", data=content, headers={"Idempotency-Key": "k"}, content_type="application/json")

    first = send(body)
    plain = web.post("/api/events", data=body, content_type="application/json")

    assert (first.status_code, first.json) == (plain.status_code, plain.json)
    assert (send(body).status_code, send(body).data) == (first.status_code, first.data)
    assert send(b'{"type": "corrected"}').json["code"] == "idempotency_key_reused"
    assert last_sequence(web) == 0


def test_a_refused_body_does_not_replace_the_first_answer(web: FlaskClient) -> None:
    first = post(web, "k")

    assert post(web, "k", {"type": 1}).json["code"] == "idempotency_key_reused"
    assert post(web, "k").data == first.data


def test_an_answer_that_says_nothing_about_the_request_does_not_count(
    web: FlaskClient, store: MemoryStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patch:
        patch.setattr(store, "append", lambda *_: (_ for _ in ()).throw(TooBusy("busy", hint="wait")))
        assert post(web, "k").status_code == 503
        assert post(web, "k", {"type": 1}).status_code == 503

    assert post(web, "k").status_code == 201


@pytest.mark.parametrize("key", ["a" * 255, '~!#"()*+-./:;<=>?@[]{}', '"8e03978e-40d5-43dd-bc93-6894a57f9324"'])
def test_a_key_is_any_printable_text(web: FlaskClient, key: str) -> None:
    assert [post(web, key).json["lastSequence"] for _ in range(2)] == [1, 1]


@pytest.mark.parametrize("key", ["", " ", "a b", "a,b", "a" * 256, "a" * 10_000, "a\x01", "a\x7f", "ä", "€"])
def test_what_is_no_key_is_refused(web: FlaskClient, key: str) -> None:
    refused = post(web, key)

    assert (refused.status_code, refused.json["code"]) == (422, "invalid")
    assert list(refused.json["fields"]) == ["Idempotency-Key"]
    assert last_sequence(web) == 0


def test_two_keys_are_refused(web: FlaskClient) -> None:
    refused = web.post("/api/events", json=EVENT, headers=[("Idempotency-Key", "a"), ("Idempotency-Key", "b")])

    assert (refused.status_code, list(refused.json["fields"])) == (422, ["Idempotency-Key"])
    assert last_sequence(web) == 0


def test_a_key_of_a_request_that_reads_is_ignored(web: FlaskClient) -> None:
    assert web.get("/api/events", headers={"Idempotency-Key": "a b"}).status_code == 200


def create(web: FlaskClient, key: str, body: object = None, query: str = "") -> TestResponse:
    return web.post(f"/api/backup/create{query}", json=body, headers={"Idempotency-Key": key})


def names(web: FlaskClient) -> list[str]:
    return [backup["name"] for backup in web.get("/api/backup/list").json["backups"]]


def test_a_repeated_backup_is_made_once(web: FlaskClient) -> None:
    first = create(web, "k", {"label": "a"})
    again = create(web, "k", {"label": "a"})

    assert (again.status_code, again.data, again.content_type) == (200, first.data, "application/json")
    assert names(web) == [first.json["name"]]
    assert create(web, "other", {"label": "a"}).json["name"] != first.json["name"]


@pytest.mark.parametrize(("body", "query"), [({"label": "b"}, ""), (None, ""), ({"label": "a"}, "?async=false")])
def test_a_backup_with_another_body_or_query_is_refused(web: FlaskClient, body: object, query: str) -> None:
    create(web, "k", {"label": "a"})

    refused = create(web, "k", body, query)

    assert (refused.status_code, refused.json["code"]) == (422, "idempotency_key_reused")
    assert len(names(web)) == 1


@pytest.mark.slow
def test_a_key_counts_for_one_method_and_path(web: FlaskClient, backup: str) -> None:
    def pin(method: str) -> TestResponse:
        return web.open(f"/api/backup/{backup}/pin", method=method, headers={"Idempotency-Key": "k"})

    assert [pin(method).json["backup"]["pinned"] for method in ("PUT", "DELETE", "PUT")] == [True, False, True]
    assert web.get("/api/backup/list").json["backups"][0]["pinned"] is False, "the third one was the first one repeated"


def test_a_repeated_delete_is_answered_as_the_first_one(web: FlaskClient, backup: str) -> None:
    def delete() -> TestResponse:
        return web.delete(f"/api/backup/{backup}?force=true", headers={"Idempotency-Key": "k"})

    assert [delete().status_code, delete().status_code] == [200, 200]
    assert web.delete(f"/api/backup/{backup}").status_code == 404


def test_a_refusal_counts_also_when_its_reason_is_gone(web: FlaskClient, backup: str) -> None:
    def delete(key: str) -> TestResponse:
        return web.delete(f"/api/backup/{backup}", headers={"Idempotency-Key": key})

    first = delete("k")
    web.post("/api/backup/create")

    assert (first.status_code, first.json["code"]) == (409, "backup_protected")
    assert delete("k").data == first.data
    assert delete("other").status_code == 200


def test_while_the_first_request_runs_another_one_is_refused(
    web: FlaskClient, app: Flask, store: MemoryStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    during: list[TestResponse] = []
    make = store.create_backup

    def creating(label: str | None = None) -> Created:
        monkeypatch.setattr(store, "create_backup", make)
        during.extend(create(app.test_client(), key) for key in ("k", "other"))
        return make(label)

    monkeypatch.setattr(store, "create_backup", creating)
    first = create(web, "k")

    assert [(answer.status_code, answer.json.get("code")) for answer in during] == [
        (409, "idempotency_key_in_use"), (200, None),
    ]  # fmt: skip
    assert during[0].headers["Retry-After"]
    assert create(web, "k").data == first.data


@pytest.mark.slow
def test_a_failure_does_not_count(web: FlaskClient, store: MemoryStore, monkeypatch: pytest.MonkeyPatch) -> None:
    with monkeypatch.context() as patch:
        patch.setattr(store, "create_backup", lambda *_: (_ for _ in ()).throw(NoSpace("full", hint="free some")))
        assert create(web, "k", {"label": "large"}).status_code == 507

    assert create(web, "k", {"label": "small"}).status_code == 200


@pytest.mark.slow
def test_a_streamed_answer_takes_no_key(web: FlaskClient, backup: str) -> None:
    body = {"backupName": backup, "into": "export"}
    refused = web.post("/api/backup/restore", json=body, headers={"Idempotency-Key": "k"})

    assert (refused.status_code, list(refused.json["fields"])) == (422, ["Idempotency-Key"])


def upload(web: FlaskClient, content: bytes, name: str = "up.tar.gz", *, form: bool = False) -> TestResponse:
    headers = {"Idempotency-Key": "k"}
    if form:
        return web.post("/api/backup/upload", data={"file": (io.BytesIO(content), name)}, headers=headers)
    return web.post(f"/api/backup/upload?name={name}", data=content, headers=headers)


@pytest.mark.slow
@pytest.mark.parametrize("form", [False, True])
def test_a_repeated_upload_is_entered_once(web: FlaskClient, archive: bytes, *, form: bool) -> None:
    first = upload(web, archive, form=form)
    again = upload(web, archive, form=form)

    assert (first.status_code, again.status_code, again.data) == (201, 201, first.data)
    assert names(web).count("up.tar.gz") == 1


def test_an_upload_whose_answer_could_not_be_noted_is_carried_out_again(
    web: FlaskClient, store: MemoryStore, archive: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patch:
        patch.setattr(Claim, "end", lambda *_: None)  # as if the worker were killed
        upload(web, archive)
    asked: list[str] = []
    monkeypatch.setattr(store, "adopt_upload", lambda _, name: asked.append(name) or store.list_backups()[0])

    assert upload(web, archive).status_code == 201
    assert asked == ["up.tar.gz"], "the store knows its operation; no look at the name comes before it"


@pytest.mark.parametrize(("name", "change"), [("other.tar.gz", b""), ("up.tar.gz", b"\n")])
def test_an_upload_of_other_bytes_or_another_name_is_refused(
    web: FlaskClient, archive: bytes, settings: Settings, name: str, change: bytes
) -> None:
    upload(web, archive)

    refused = upload(web, archive + change, name)

    assert (refused.status_code, refused.json["code"]) == (422, "idempotency_key_reused")
    assert names(web).count("up.tar.gz") == 1
    assert list(settings.backup_dir.glob(".upload*")) == []


def test_a_key_that_cannot_be_noted_fails_the_request_but_not_a_delete(
    web: FlaskClient, backup: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(KeyedAnswers, "write", lambda *_: (_ for _ in ()).throw(NoSpace("full", hint="free some")))

    assert create(web, "k").status_code == 507
    deleted = web.delete(f"/api/backup/{backup}?force=true", headers={"Idempotency-Key": "k"})
    assert (deleted.status_code, names(web)) == (200, [])

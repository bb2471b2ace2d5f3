"""`Idempotency-Key`: repeated requests."""

from __future__ import annotations

import pytest
from flask.testing import FlaskClient
from werkzeug.test import TestResponse

from eventvault.errors import TooBusy
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

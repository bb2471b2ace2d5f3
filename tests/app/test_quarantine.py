"""`/api/kafka/quarantine`: list, one message, replay and drop."""

from __future__ import annotations

import base64
from typing import Any

import pytest
from flask.testing import FlaskClient

from eventvault.store.memory.store import MemoryStore
from tests.quarantine import ids_of, letter, put_letters

ADDRESS = "/api/kafka/quarantine"
EVENT = b'{"type": "order.created", "id": "1"}'


@pytest.fixture
def three(store: MemoryStore) -> None:
    put_letters(store, letter(1, b"\xff", "it is not JSON"))
    put_letters(store, letter(2, EVENT, "the header content-type is not UTF-8", headers=[("content-type", b"\xff")]))
    put_letters(store, letter(3, None, "it has no value", partition=1, key=None))


def get(web: FlaskClient, **query: Any) -> dict[str, Any]:
    answer = web.get(ADDRESS, query_string=query)
    assert answer.status_code == 200, answer.json
    found: dict[str, Any] = answer.json
    return found


@pytest.mark.usefixtures("three")
def test_the_list_has_the_newest_first_and_says_how_much_there_is(web: FlaskClient) -> None:
    found = get(web)
    assert [each["id"] for each in found["quarantine"]] == ["events/1@3", "events/0@2", "events/0@1"]
    assert (found["count"], found["dropped"], found["next"]) == (3, 0, None)
    assert found["oldest"] == found["quarantine"][2]["at"]
    first = found["quarantine"][2]
    assert (first["topic"], first["partition"], first["offset"]) == ("events", 0, 1)
    assert (first["reason"], first["size"], first["reference"]) == ("it is not JSON", 12, None)
    assert first["timestamp"] == "2026-01-01T00:00:00.123Z"
    assert "value" not in first


@pytest.mark.usefixtures("three")
def test_pages_and_filters(web: FlaskClient) -> None:
    first = get(web, limit=2)
    assert [each["id"] for each in get(web, limit=2, before=first["next"])["quarantine"]] == ["events/0@1"]
    assert [each["id"] for each in get(web, partition=1)["quarantine"]] == ["events/1@3"]
    assert [each["id"] for each in get(web, reason="JSON", topic="events")["quarantine"]] == ["events/0@1"]


def test_pages_join_for_the_longest_name_of_a_topic(web: FlaskClient, store: MemoryStore) -> None:
    topic = "a" * 249
    put_letters(store, letter(1, topic=topic), letter(2, topic=topic))
    first = get(web, limit=1)
    assert [each["offset"] for each in get(web, limit=1, before=first["next"])["quarantine"]] == [1]


@pytest.mark.usefixtures("three")
def test_one_message_has_its_bytes_as_base64_and_as_text_if_they_are_utf8(web: FlaskClient) -> None:
    message = get(web, id="events/0@1")["message"]
    assert message["key"] == {"base64": base64.b64encode(b"key").decode(), "text": "key"}
    assert message["value"] == {"base64": "/w==", "text": None}
    assert message["headers"] == [
        {"name": "h", "value": {"base64": "dg==", "text": "v"}},
        {"name": "bytes", "value": {"base64": "/w==", "text": None}},
    ]
    tombstone = get(web, id="events/1@3")["message"]
    assert (tombstone["key"], tombstone["value"]) == (None, None)


@pytest.mark.usefixtures("three")
def test_a_replay_says_what_became_of_each_message(web: FlaskClient, store: MemoryStore) -> None:
    done = web.post(ADDRESS, json={"ids": ["events/0@1", "events/0@2", "events/9@9"], "as": "plain"}).json
    assert (done["replayed"], done["duplicates"], done["refused"]) == (1, 0, 1)
    assert [each["outcome"] for each in done["results"]] == ["refused", "replayed", "unknown"]
    assert (done["results"][1]["eventId"], done["results"][1]["sequence"]) == ("1", 1)
    assert "JSON" in done["results"][0]["reason"]
    assert ids_of(store) == ["events/1@3", "events/0@1"]
    assert web.get("/api/events/1").status_code == 200


@pytest.mark.slow
@pytest.mark.usefixtures("three")
@pytest.mark.parametrize(
    ("body", "status", "code"),
    [
        ({"ids": ["events/5@5"]}, 404, "quarantine_not_found"),
        ({"ids": []}, 422, "invalid"),
        ({}, 422, "invalid"),
        ({"ids": ["x"]}, 422, "invalid"),
        ({"ids": ["events/0@1"], "as": "xml"}, 422, "invalid"),
        ({"ids": ["events/0@1"], "all": True}, 422, "invalid"),
        ({"ids": ["events/0@1"] * 1_001}, 422, "invalid"),
    ],
)
def test_a_replay_that_is_not_valid_changes_nothing(
    web: FlaskClient, store: MemoryStore, body: Any, status: int, code: str
) -> None:
    answer = web.post(ADDRESS, json=body)
    assert (answer.status_code, answer.json["code"]) == (status, code)
    assert len(ids_of(store)) == 3


@pytest.mark.usefixtures("three")
def test_a_drop_is_of_one_of_a_filter_or_of_all_that_were_seen(web: FlaskClient, store: MemoryStore) -> None:
    assert web.delete(f"{ADDRESS}?id=events/0@1").json == {"success": True, "dropped": 1}
    assert web.delete(f"{ADDRESS}?partition=1&count=1&newest=events/1@3").json["dropped"] == 1
    assert ids_of(store) == ["events/0@2"]
    left = web.delete(f"{ADDRESS}?all=true&count=1&newest=events/1@3")
    assert (left.status_code, left.json["code"]) == (409, "quarantine_changed")
    refused = web.delete(f"{ADDRESS}?all=true&count=3&newest=events/0@2")
    assert (refused.status_code, refused.json["code"], refused.json["count"]) == (409, "quarantine_changed", 1)
    put_letters(store, letter(4))
    assert web.delete(f"{ADDRESS}?all=true&count=1&newest=events/0@2").json["dropped"] == 1
    assert ids_of(store) == ["events/0@4"]
    assert web.delete(f"{ADDRESS}?topic=other&count=1&newest=events/0@4").status_code == 404


@pytest.mark.usefixtures("three")
def test_a_replay_of_another_event_with_the_same_id_is_refused_and_stays(web: FlaskClient, store: MemoryStore) -> None:
    web.post("/api/events", json={"type": "order.cancelled", "id": "1"})
    done = web.post(ADDRESS, json={"ids": ["events/0@2"], "as": "plain"}).json
    assert (done["replayed"], done["duplicates"], done["refused"]) == (0, 0, 1)
    (result,) = done["results"]
    assert (result["outcome"], result["eventId"], result["sequence"]) == ("refused", "1", 1)
    assert "other content" in result["reason"]
    assert "events/0@2" in ids_of(store)


@pytest.mark.slow
@pytest.mark.usefixtures("three")
@pytest.mark.parametrize(
    "query",
    ["", "?all=true", "?topic=events", "?all=false&count=3&newest=events/1@3", "?id=events/0@1&all=true&count=1",
     "?count=3&newest=events/1@3", "?all=true&count=3", "?all=true&newest=events/1@3", "?all=true&count=3&newest=x",
     "?topic=events&all=true&count=3&newest=events/1@3", "?id=x", "?all=true&count=0", "?everything=true",
     "?partition=-1&count=1"],
)  # fmt: skip
def test_a_drop_that_does_not_say_what_is_refused(web: FlaskClient, store: MemoryStore, query: str) -> None:
    answer = web.delete(ADDRESS + query)
    assert (answer.status_code, answer.json["code"]) == (422, "invalid")
    assert len(ids_of(store)) == 3


def test_what_is_no_message_is_not_found(web: FlaskClient) -> None:
    assert web.get(ADDRESS, query_string={"id": "events/0@1"}).status_code == 404
    assert web.get(ADDRESS, query_string={"id": "../x"}).status_code == 422
    assert web.delete(f"{ADDRESS}?id=events/0@1").status_code == 404
    assert get(web) | {"success": True} == {
        "success": True, "quarantine": [], "next": None, "count": 0, "bytes": 0, "oldest": None, "dropped": 0,
    }  # fmt: skip

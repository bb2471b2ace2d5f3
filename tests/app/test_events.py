"""`/api/events`: posting, reading, filtering, paging and exporting events."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import msgspec
import pytest
from flask.testing import FlaskClient

from app.edge import MAX_LONG_ANSWERS, MAX_TRANSFERS
from eventvault import clock
from eventvault.database.values import Page, ScanQuery
from eventvault.errors import EventVaultError, OutcomeUnknown, WriteFailed
from eventvault.events import cursor, event
from eventvault.events.event import EventDraft
from eventvault.json_text import MAX_DEPTH
from eventvault.keyed_request import KeyedRequest
from eventvault.settings import Settings
from eventvault.store.memory.store import MemoryStore


def fill(store: MemoryStore, count: int, **attributes: str) -> None:
    made = [{"type": "t", "id": f"e{number}", **attributes} for number in range(1, count + 1)]
    store.append([event.draft(each, clock.now()) for each in made])


def ids(answer: Any) -> list[str]:
    return [each["id"] for each in answer.json["events"]]


def test_a_posted_event_is_answered_with_its_sequence(web: FlaskClient) -> None:
    answer = web.post("/api/events", json={"type": "order.created", "id": "1"})

    assert answer.status_code == 201
    (result,) = answer.json["results"]
    assert answer.json == {
        "success": True, "accepted": 1, "duplicates": 0, "lastSequence": 1, "results": [result],
    }  # fmt: skip
    assert (result["id"], result["sequence"], result["duplicate"]) == ("1", 1, False)
    assert clock.format_microseconds(clock.parse(result["recordedtime"])) == result["recordedtime"]
    assert "differs" not in result


@pytest.mark.parametrize(
    ("content_type", "body"),
    [
        ("application/json", '[{"type":"a","id":"1"},{"type":"b","id":"2"}]'),
        ("application/x-ndjson", '{"type":"a","id":"1"}\n{"type":"b","id":"2"}\n'),
        ("application/cloudevents-batch+json", '[{"type":"a","id":"1"},{"type":"b","id":"2"}]'),
    ],
)
def test_several_events_are_answered_in_the_same_form(web: FlaskClient, content_type: str, body: str) -> None:
    answer = web.post("/api/events", data=body, content_type=content_type)

    assert (answer.status_code, answer.json["accepted"], answer.json["lastSequence"]) == (201, 2, 2)
    assert [result["sequence"] for result in answer.json["results"]] == [1, 2]


def test_binary_mode_reads_attributes_from_headers(web: FlaskClient) -> None:
    headers = {"ce-type": "a", "ce-source": "/s", "ce-id": "x%20y", "ce-specversion": "1.0"}
    assert web.post("/api/events", data=b"\x00\xff", headers=headers).status_code == 201
    found = web.get("/api/events/x%20y").json["event"]
    assert (found["source"], found["data_base64"]) == ("/s", "AP8=")


def test_an_event_that_is_stored_already_is_a_duplicate_and_answers_200(web: FlaskClient) -> None:
    web.post("/api/events", json={"type": "a", "id": "1", "data": 1})

    same = web.post("/api/events", json={"type": "a", "id": "1", "data": 1})
    other = web.post("/api/events", json=[{"type": "a", "id": "1", "data": 2}, {"type": "a", "id": "2"}])

    assert (same.status_code, same.json["accepted"], same.json["duplicates"]) == (200, 0, 1)
    assert same.json["results"][0]["duplicate"] is True
    assert "differs" not in same.json["results"][0]
    assert (other.status_code, other.json["accepted"], other.json["duplicates"]) == (201, 1, 1)
    assert other.json["results"][0]["differs"] is True


def test_one_invalid_event_rejects_the_whole_request(web: FlaskClient) -> None:
    answer = web.post("/api/events", json=[{"type": "a"}, {"type": 5}, {"id": "x"}])

    assert answer.status_code == 422
    assert set(answer.json["fields"]) == {"1", "2"}
    assert "type" in answer.json["fields"]["1"]
    assert web.get("/api/events").json["lastSequence"] == 0


@pytest.mark.slow
def test_the_invalid_fields_of_a_single_event_have_no_index(web: FlaskClient) -> None:
    assert set(web.post("/api/events", json={"type": ""}).json["fields"]) == {"type"}


def test_an_integer_of_any_size_is_stored(web: FlaskClient) -> None:
    body = '{"type":"a","id":"1","data":%s}' % ("1234567890" * 1000)
    assert web.post("/api/events", data=body, content_type="application/json").status_code == 201
    assert f'"data":{"1234567890" * 1000},' in web.get("/api/events/1").text


@pytest.mark.parametrize("number", ["18446744073709551616", "-9223372036854775809", "9" * 5000, "1e30", "1e999"])
def test_an_integer_in_an_extension_has_at_most_64_bits(web: FlaskClient, number: str) -> None:
    answer = web.post("/api/events", data=f'{{"type":"a","counter":{number}}}', content_type="application/json")
    assert (answer.status_code, set(answer.json["fields"])) == (422, {"counter"})


def test_data_that_is_nested_too_deeply_is_refused(web: FlaskClient) -> None:
    def posted(depth: int, form: str = '{"type":"a","data":%s}') -> int:
        data = "[" * depth + "]" * depth
        return web.post("/api/events", data=form % data, content_type="application/json").status_code

    assert (posted(MAX_DEPTH), posted(MAX_DEPTH + 1)) == (201, 422)
    assert (posted(MAX_DEPTH, '[{"type":"a","data":%s}]'), posted(MAX_DEPTH + 1, '[{"type":"a","data":%s}]')) == (
        201,
        422,
    )


def test_an_empty_array_stores_nothing(web: FlaskClient, store: MemoryStore) -> None:
    fill(store, 3)
    answer = web.post("/api/events", json=[])
    assert (answer.status_code, answer.json["results"], answer.json["lastSequence"]) == (200, [], 3)


@pytest.mark.parametrize(
    ("body", "headers", "status"),
    [
        (b"", {}, 400),
        (b"{", {"Content-Type": "application/json"}, 400),
        (b"a=b", {"Content-Type": "application/x-www-form-urlencoded"}, 400),
        (b"7", {}, 422),
        (b"{}", {"Content-Type": "image/png"}, 415),
        (b"{}", {"Content-Encoding": "br"}, 415),
        (b"{}", {"Content-Encoding": "gzip, gzip"}, 415),
        (b"{}", {"Content-Encoding": "gzip"}, 400),
        (b" " * 100_001, {}, 413),
    ],
)
def test_each_kind_of_bad_body_has_its_status(
    web: FlaskClient, body: bytes, headers: dict[str, str], status: int
) -> None:
    answer = web.post("/api/events", data=body, headers=headers)
    assert answer.status_code == status
    assert answer.json["hint"]


@pytest.mark.parametrize("event_id", ["a/b", "/a", "a/", "//", "a b", "ü", "a%2Fb", "?x=1", "a+b", ".."])
def test_an_event_with_any_id_can_be_read(web: FlaskClient, event_id: str) -> None:
    from urllib.parse import quote

    web.post("/api/events", json={"type": "a", "id": event_id})

    assert web.get(f"/api/events/{quote(event_id, safe='')}").json["event"]["id"] == event_id
    assert web.get("/api/events", query_string={"id": event_id}).json["event"]["id"] == event_id


def test_an_id_of_several_sources_needs_the_source(web: FlaskClient) -> None:
    web.post("/api/events", json=[{"type": "a", "id": "1", "source": "/x"}, {"type": "a", "id": "1", "source": "/y"}])

    assert web.get("/api/events/1").status_code == 422
    assert web.get("/api/events/1?source=/y").json["event"]["sequence"] == 2
    assert web.get("/api/events?id=1&source=/x").json["event"]["sequence"] == 1


def test_pages_follow_their_cursor_to_the_end(web: FlaskClient, store: MemoryStore) -> None:
    fill(store, 250)
    seen: list[str] = []
    answer = web.get("/api/events?limit=90")
    while answer.json["next"] is not None:
        seen += ids(answer)
        answer = web.get("/api/events", query_string={"limit": 90, "after": answer.json["next"]})
    assert [*seen, *ids(answer)] == [f"e{number}" for number in range(1, 251)]
    assert answer.json["lastSequence"] == 250


def test_a_page_has_a_hundred_events_by_default(web: FlaskClient, store: MemoryStore) -> None:
    fill(store, 101)
    assert len(ids(web.get("/api/events"))) == 100


def test_a_sequence_number_works_as_a_cursor(web: FlaskClient, store: MemoryStore) -> None:
    fill(store, 3)
    assert ids(web.get("/api/events?after=2")) == ["e3"]
    assert ids(web.get("/api/events?after=99")) == []


@pytest.mark.parametrize(
    "query",
    ["limit=0", "limit=1001", "limit=x", "after=-1", "after=nonsense", "from=yesterday", "to=2024-01-01T00:00:00",
     "from=2024-01-01", "typ=x"],
)  # fmt: skip
def test_invalid_query_parameters_are_refused(web: FlaskClient, query: str) -> None:
    answer = web.get(f"/api/events?{query}")
    assert (answer.status_code, set(answer.json["fields"])) == (422, {query.partition("=")[0]})


def test_filters_select_by_type_subject_and_source(web: FlaskClient) -> None:
    web.post(
        "/api/events",
        json=[
            {"type": "a", "id": "1", "source": "/x", "subject": "s"},
            {"type": "b", "id": "2", "source": "/x"},
            {"type": "a", "id": "3", "source": "/y", "subject": "s"},
        ],
    )
    assert ids(web.get("/api/events?type=a")) == ["1", "3"]
    assert ids(web.get("/api/events?source=/x")) == ["1", "2"]
    assert ids(web.get("/api/events?subject=s&source=/y")) == ["3"]


def test_instants_may_have_any_offset_and_are_inclusive(web: FlaskClient, settings: Settings) -> None:
    from app import create_app

    instants = iter(clock.parse(f"2026-01-31T12:00:0{second}Z") for second in range(5))
    web = create_app(settings, MemoryStore(settings.backup_dir, now=lambda: next(instants))).test_client()
    web.post("/api/events", json=[{"type": "a", "id": str(number)} for number in range(5)])

    assert ids(web.get("/api/events?from=2026-01-31T12:00:01Z&to=2026-01-31T12:00:03Z")) == ["1", "2", "3"]
    assert ids(web.get("/api/events?from=2026-01-31T14:00:04%2B02:00")) == ["4"]
    assert ids(web.get("/api/events?from=2026-01-31T14:00:04+02:00")) == ["4"]
    assert ids(web.get("/api/events?to=2026-01-31T07:00:00-05:00")) == ["0"]


@pytest.mark.slow
def test_an_export_has_one_event_per_line(web: FlaskClient, store: MemoryStore) -> None:
    fill(store, 2500)
    answer = web.get("/api/events/export", buffered=True)

    lines = answer.text.splitlines()
    assert answer.mimetype == "application/x-ndjson"
    assert [json.loads(line)["sequence"] for line in lines] == list(range(1, 2501))


def test_an_export_can_be_posted_again(web: FlaskClient, store: MemoryStore) -> None:
    fill(store, 5, subject="s")
    exported = web.get("/api/events/export", buffered=True).data
    answer = web.post("/api/events", data=exported, content_type="application/x-ndjson")
    assert (answer.status_code, answer.json["duplicates"]) == (200, 5)
    assert not any("differs" in result for result in answer.json["results"])


@pytest.mark.slow
def test_a_running_export_is_not_changed_by_a_restore(web: FlaskClient, store: MemoryStore) -> None:
    fill(store, 10)
    name = store.create_backup().backup.name
    store.append([event.draft({"type": "t", "id": f"later{number}"}, clock.now()) for number in range(3000)])

    answer = web.get("/api/events/export", buffered=False)
    parts = iter(answer.iter_encoded())
    first = next(parts)
    store.restore(name)
    fill(store, 20)
    store.create_backup()
    text = b"".join([first, *parts])

    assert [json.loads(line)["sequence"] for line in text.splitlines()] == list(range(1, 3011))
    assert json.loads(text.splitlines()[-1])["id"] == "later2999"


def test_a_cursor_of_a_superseded_generation_is_refused(web: FlaskClient, store: MemoryStore) -> None:
    fill(store, 2)
    name = store.create_backup().backup.name
    store.append([event.draft({"type": "t", "id": f"later{number}"}, clock.now()) for number in range(3)])
    cursors = [web.get(f"/api/events?after={after}&limit=1").json["next"] for after in (0, 2)]
    store.restore(name)
    store.create_backup()

    assert ids(web.get("/api/events", query_string={"after": cursors[0]})) == ["e2"]
    answer = web.get("/api/events", query_string={"after": cursors[1]})
    assert (answer.status_code, answer.json["code"]) == (409, "generation_left_behind")


@pytest.fixture
def paging(store: MemoryStore, monkeypatch: pytest.MonkeyPatch) -> list[Callable[[], object]]:
    """The store answers with at most two events per page; the actions in the list run after its first page."""
    between: list[Callable[[], object]] = []

    def scan(query: ScanQuery) -> Page:
        page = MemoryStore.scan(store, msgspec.structs.replace(query, limit=min(query.limit, 2)))
        while between:
            between.pop()()
        return page

    monkeypatch.setattr(store, "scan", scan)
    return between


@pytest.mark.slow
@pytest.mark.parametrize("kept", [True, False])
def test_a_page_that_is_being_read_is_not_changed_by_a_restore(
    web: FlaskClient, store: MemoryStore, paging: list[Callable[[], object]], kept: bool
) -> None:
    fill(store, 1)
    name = store.create_backup().backup.name
    store.append([event.draft({"type": "t", "id": f"later{number}"}, clock.now()) for number in range(4)])
    left = store.status()["store"]["generation"]

    def restore() -> None:
        store.restore(name)
        store.append([event.draft({"type": "t", "id": f"since{number}"}, clock.now()) for number in range(9)])
        if not kept:
            del store.state.generations[left]

    paging.append(restore)
    answer = web.get("/api/events")

    whole = ["e1", "later0", "later1", "later2", "later3"]
    assert (answer.status_code, ids(answer)) == (200, whole if kept else whole[:2])
    assert (answer.json["lastSequence"], answer.json["next"] is None) == (5, kept)


def test_exports_are_limited_and_free_their_slots(web: FlaskClient, store: MemoryStore) -> None:
    fill(store, 1)
    under_way = [web.get("/api/events/export", buffered=False) for _ in range(MAX_TRANSFERS)]
    answer = web.get("/api/events/export", buffered=True)
    assert (answer.status_code, answer.json["code"]) == (503, "too_busy")
    assert answer.headers["Retry-After"]

    for each in under_way:
        each.close()
    for _ in range(MAX_TRANSFERS + 1):
        assert len(web.get("/api/events/export", buffered=True).data.splitlines()) == 1
        web.head("/api/events/export", buffered=True)
        assert web.get("/api/events/export?after=x").status_code == 422


def test_head_and_options_are_answered(web: FlaskClient, store: MemoryStore) -> None:
    fill(store, 1)
    head, options = web.head("/api/events"), web.options("/api/events")
    assert (head.status_code, head.data) == (200, b"")
    assert (options.status_code, "POST" in options.headers["Allow"]) == (200, True)


def recorded(web: FlaskClient, name: str) -> str:
    """Post an event, and return its recorded time, encoded for an address."""
    instant: str = web.post("/api/events", json={"type": "a", "id": name}).json["results"][0]["recordedtime"]
    return instant


@pytest.mark.slow
def test_as_of_lists_the_registry_as_it_was(web: FlaskClient) -> None:
    instants = [recorded(web, name) for name in ("1", "2", "3")]

    for number, instant in enumerate(instants, start=1):
        page = web.get(f"/api/events?asOf={instant}").json
        assert [each["id"] for each in page["events"]] == ["1", "2", "3"][:number]
        assert (page["lastSequence"], page["next"]) == (number, None)
        assert web.get(f"/api/events/export?asOf={instant}").data.count(b"\n") == number


def test_pages_of_a_moment_do_not_show_later_events(web: FlaskClient) -> None:
    instant = [recorded(web, str(number)) for number in range(5)][-1]
    found, after = [], "0"
    while after:
        page = web.get(f"/api/events?asOf={instant}&limit=2&after={after}").json
        found += [each["id"] for each in page["events"]]
        recorded(web, f"later-{after}")
        after = page["next"]

    assert found == ["0", "1", "2", "3", "4"]


def test_pages_of_a_moment_stay_in_their_generation_across_a_restore(web: FlaskClient) -> None:
    recorded(web, "shared")
    name = web.post("/api/backup/create").json["name"]
    instant = [recorded(web, f"left-{number}") for number in range(3)][-1]
    first = web.get(f"/api/events?asOf={instant}&limit=2").json
    web.post("/api/backup/restore", json={"backupName": name})
    recorded(web, "since")

    rest = web.get("/api/events", query_string={"asOf": instant, "after": first["next"]}).json

    assert [each["id"] for each in rest["events"]] == ["left-1", "left-2"]
    named = web.get("/api/events", query_string={"asOf": instant, "generation": first["generation"]}).json
    assert [each["id"] for each in named["events"]] == ["shared", "left-0", "left-1", "left-2"]
    assert [each["id"] for each in web.get(f"/api/events?asOf={instant}").json["events"]] == ["shared"]


def test_a_cursor_of_another_generation_continues_within_the_common_history(web: FlaskClient) -> None:
    recorded(web, "shared")
    name = web.post("/api/backup/create").json["name"]
    left = [recorded(web, f"left-{number}") for number in range(4)][-1]
    cursors = [web.get(f"/api/events?asOf={left}&limit={limit}").json["next"] for limit in (1, 3)]
    web.post("/api/backup/restore", json={"backupName": name})
    now = [recorded(web, f"since-{number}") for number in range(2)][-1]
    present = web.get("/api/events").json["generation"]
    asked = {"asOf": now, "generation": present}

    shared, beyond = (web.get("/api/events", query_string={**asked, "after": after}) for after in cursors)
    unknown = web.get("/api/events", query_string={**asked, "after": cursor.encode("0" * 16, 1)})

    assert [each["id"] for each in shared.json["events"]] == ["since-0", "since-1"]
    assert (beyond.status_code, beyond.json["code"]) == (409, "generation_left_behind")
    assert (beyond.json["generation"], beyond.json["forkSequence"]) == (present, 1)
    assert (unknown.status_code, unknown.json["code"], list(unknown.json["fields"])) == (422, "invalid", ["after"])
    exported = web.get("/api/events/export", query_string={**asked, "after": cursors[1]})
    assert exported.status_code == 409


def test_filters_apply_to_a_moment_too(web: FlaskClient) -> None:
    web.post("/api/events", json=[{"type": "a", "id": "1"}, {"type": "b", "id": "2"}])
    instant = recorded(web, "3")
    web.post("/api/events", json={"type": "b", "id": "4"})

    assert [each["id"] for each in web.get(f"/api/events?asOf={instant}&type=b").json["events"]] == ["2"]


def test_an_event_can_be_read_as_of_a_moment(web: FlaskClient) -> None:
    before = recorded(web, "1")
    after = recorded(web, "2")

    assert web.get(f"/api/events?id=2&asOf={after}").json["event"]["id"] == "2"
    assert web.get(f"/api/events?id=2&asOf={before}").status_code == 404
    assert web.get(f"/api/events?id=never&asOf={before}").status_code == 404


def test_an_id_that_only_one_source_had_at_a_moment_needs_no_source(web: FlaskClient) -> None:
    then = recorded(web, "1")
    recorded(web, "2")
    web.post("/api/events", json={"type": "a", "id": "1", "source": "elsewhere"})

    assert web.get(f"/api/events?id=1&asOf={then}").json["event"]["source"] == "eventvault"
    assert web.get(f"/api/events?id=1&source=elsewhere&asOf={then}").status_code == 404
    assert web.get("/api/events?id=1").status_code == 422


def test_an_instant_finer_than_a_microsecond_excludes_earlier_events(web: FlaskClient) -> None:
    instant = recorded(web, "1")
    finer = instant.replace("Z", "9z")

    for query, found in ((f"from={instant}", ["1"]), (f"from={finer}", []), (f"to={finer}", ["1"])):
        assert ids(web.get(f"/api/events?{query}")) == found, query
    assert ids(web.get(f"/api/events?asOf={finer}")) == ["1"]


@pytest.mark.parametrize(
    "query",
    [
        "asOf=yesterday",
        "asOf=2026-01-31T12:34:56",
        "asOf=2500-01-01T00:00:00Z",
        "asOf=1990-01-01T00:00:00Z",
        "asOf=2026-01-31T12:34:56Z&generation=nobody",
        "asOf=2026-01-31T12:34:56Z&generation=moment-0123456789abcdef",
        "generation=0123456789abcdef",
        "asOf=2026-01-31T12:34:56Z&generation=x&id=1",
    ],
)
def test_a_moment_that_does_not_exist_is_refused(web: FlaskClient, query: str) -> None:
    recorded(web, "1")

    for address in ("/api/events", "/api/events/export"):
        answer = web.get(f"{address}?{query}")
        assert answer.status_code == 422, answer.json
    if answer.json["code"] == "moment_unavailable":
        assert set(answer.json["window"]) == {"oldest", "newest"}
        assert isinstance(answer.json["nearest"], list)


@pytest.mark.parametrize("error", [OutcomeUnknown, WriteFailed])
def test_an_append_that_may_have_landed_is_answered_with_all_ids(
    web: FlaskClient, store: MemoryStore, monkeypatch: pytest.MonkeyPatch, error: type[EventVaultError]
) -> None:
    sent: list[str] = []

    def append(drafts: list[EventDraft], request: KeyedRequest | None) -> None:
        sent.extend(draft.id for draft in drafts)
        raise error("it is being written", hint="send it again with the same ids")

    monkeypatch.setattr(store, "append", append)
    answer = web.post("/api/events", json=[{"type": "t"}, {"type": "t", "id": "mine"}, {"type": "t"}])
    assert answer.status_code == 503
    assert answer.headers["Retry-After"]
    assert answer.json["ids"] == sent
    assert (len(set(sent)), sent[1]) == (3, "mine")


@pytest.mark.slow
def test_a_long_page_finds_a_place_or_is_refused_before_it_begins(web: FlaskClient, store: MemoryStore) -> None:
    store.append([event.draft({"type": "long", "data": "x" * 100_000}, clock.now())])
    answers = [web.get("/api/events?type=long", buffered=False) for _ in range(MAX_LONG_ANSWERS)]
    assert {answer.status_code for answer in answers} == {200}
    refused = web.get("/api/events?type=long")
    assert (refused.status_code, refused.json["code"]) == (503, "too_busy")
    assert web.get("/api/events?type=short").status_code == 200
    assert web.post("/api/events", json=[{"type": "t"}] * 900).status_code == 201  # stored: it must not be refused
    answers[0].close()
    assert web.get("/api/events?type=long").status_code == 200
    for answer in answers:
        answer.close()

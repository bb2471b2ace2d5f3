"""`order=newest`, histogram and types over HTTP: bounds, and what is refused at once."""

from __future__ import annotations

from typing import Any
from urllib.parse import quote

import pytest
from flask.testing import FlaskClient

from app.events import reading
from eventvault.events import cursor


@pytest.fixture
def posted(web: FlaskClient) -> list[dict[str, Any]]:
    """Ten events of two types."""
    for number in range(10):
        web.post("/api/events", json={"type": "odd" if number % 2 else "even", "id": str(number)})
    events: list[dict[str, Any]] = web.get("/api/events").json["events"]
    return events


def ids(web: FlaskClient, query: str) -> list[str]:
    return [event["id"] for event in web.get(f"/api/events?{query}").json["events"]]


def test_pages_of_the_newest_follow_each_other(web: FlaskClient, posted: list[dict[str, Any]]) -> None:
    first = web.get("/api/events?order=newest&limit=4").json
    assert [event["id"] for event in first["events"]] == ["9", "8", "7", "6"]
    second = web.get(f"/api/events?order=newest&limit=4&before={first['next']}").json
    third = web.get(f"/api/events?order=newest&limit=4&before={second['next']}").json
    assert [event["id"] for event in second["events"] + third["events"]] == ["5", "4", "3", "2", "1", "0"]
    assert (third["next"], third["lastSequence"]) == (None, 10)


def test_the_newest_with_filters_bounds_and_a_moment(web: FlaskClient, posted: list[dict[str, Any]]) -> None:
    moment = quote(posted[5]["recordedtime"])
    assert ids(web, "order=newest&type=odd&limit=2") == ["9", "7"]
    assert ids(web, "order=newest&before=4") == ["2", "1", "0"]
    assert ids(web, "order=newest&after=8") == ["9", "8"]
    assert ids(web, "before=4") == ["0", "1", "2"]
    assert ids(web, f"order=newest&limit=2&to={moment}") == ["5", "4"]
    assert ids(web, f"order=newest&limit=2&asOf={moment}") == ["5", "4"]
    page = web.get(f"/api/events?order=newest&limit=2&asOf={moment}").json
    assert ids(web, f"order=newest&asOf={moment}&before={page['next']}") == ["3", "2", "1", "0"]


def test_a_short_page_of_the_store_is_filled(
    web: FlaskClient, posted: list[dict[str, Any]], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(reading, "_PAGE_BYTES", 1)
    assert ids(web, "order=newest&limit=3") == ["9", "8", "7"]


@pytest.mark.parametrize(
    ("query", "field"),
    [
        ("order=sideways", "order"),
        ("before=x", "before"),
        (f"after={cursor.encode('a' * 16, 1)}&before={cursor.encode('b' * 16, 3)}", "before"),
    ],
)
def test_an_invalid_order_or_bound_is_refused(web: FlaskClient, query: str, field: str) -> None:
    answer = web.get(f"/api/events?{query}")
    assert (answer.status_code, list(answer.json["fields"])) == (422, [field])


@pytest.mark.slow
def test_a_cursor_backwards_of_a_superseded_generation_is_refused_beyond_the_fork(web: FlaskClient) -> None:
    web.post("/api/events", json=[{"type": "a"}, {"type": "a"}])
    name = web.post("/api/backup/create").json["name"]
    web.post("/api/events", json=[{"type": "a"}, {"type": "a"}])
    first = web.get("/api/events?order=newest&limit=1").json
    web.post("/api/backup/restore", json={"backupName": name})

    refused = web.get(f"/api/events?order=newest&before={first['next']}")
    assert (refused.status_code, refused.json["code"]) == (409, "generation_left_behind")


def histogram(web: FlaskClient, query: str = "") -> dict[str, Any]:
    answer = web.get(f"/api/events/histogram?{query}")
    assert answer.status_code == 200, answer.json
    body: dict[str, Any] = answer.json
    return body


def test_a_histogram_counts_from_the_first_event_until_now(web: FlaskClient, posted: list[dict[str, Any]]) -> None:
    found = histogram(web, "buckets=4")
    assert (len(found["counts"]), sum(found["counts"]), found["before"], found["exact"]) == (4, 10, 0, True)
    assert found["from"] == posted[0]["recordedtime"]
    assert found["bucketSeconds"] >= 0
    assert len(found["generation"]) == 16
    assert sum(histogram(web, "type=odd")["counts"]) == 5
    assert len(histogram(web)["counts"]) == 100


def test_a_histogram_of_a_moment_and_of_an_earlier_generation(web: FlaskClient, posted: list[dict[str, Any]]) -> None:
    moment = quote(posted[3]["recordedtime"])
    name = web.post("/api/backup/create").json["name"]
    present = histogram(web)["generation"]
    web.post("/api/events", json={"type": "later"})
    web.post("/api/backup/restore", json={"backupName": name})

    found = histogram(web, f"asOf={moment}")
    assert sum(found["counts"]) == sum(event["recordedtime"] <= posted[3]["recordedtime"] for event in posted)
    assert found["to"] == posted[3]["recordedtime"]
    assert sum(histogram(web)["counts"]) == 10
    earlier = histogram(web, f"generation={present}")
    assert (sum(earlier["counts"]), earlier["generation"]) == (11, present)


@pytest.mark.parametrize("query", ["from=2001-01-01T00:00:00Z&to=2001-01-01T00:00:00Z", "from=9999-12-31T23:59:59Z",
                                   "to=0001-01-01T00:00:00Z", "from=0001-01-01T00:00:00Z&to=1969-01-01T00:00Z",
                                   "type=none"])  # fmt: skip
def test_a_time_without_events_is_all_zeros(web: FlaskClient, posted: list[dict[str, Any]], query: str) -> None:
    found = histogram(web, f"{query}&buckets=1000")
    assert found["counts"] == [0] * 1000
    assert found["before"] in (0, 10)


@pytest.mark.parametrize(
    ("query", "field"),
    [
        ("buckets=1000000000", "buckets"),
        ("buckets=0", "buckets"),
        ("buckets=10⁹", "buckets"),
        ("buckets=" + "9" * 5000, "buckets"),
        ("from=2026-01-02T00:00:00Z&to=2026-01-01T00:00:00Z", "from"),
        ("from=yesterday", "from"),
        ("type=" + "x" * 65536, "type"),
        ("generation=x", "generation"),
        ("subject=x", "subject"),
    ],
)
def test_a_histogram_that_makes_no_sense_is_refused(web: FlaskClient, query: str, field: str) -> None:
    answer = web.get(f"/api/events/histogram?{query}")
    assert (answer.status_code, list(answer.json["fields"])) == (422, [field])


def test_a_histogram_of_an_unknown_generation_is_refused(web: FlaskClient, posted: list[dict[str, Any]]) -> None:
    answer = web.get(f"/api/events/histogram?generation={'0' * 16}")
    assert (answer.status_code, answer.json["code"]) == (422, "moment_unavailable")


def test_types_are_listed_with_their_numbers(web: FlaskClient, posted: list[dict[str, Any]]) -> None:
    web.post("/api/events", json={"type": "odd", "id": "more"})
    found = web.get("/api/events/types").json
    last = web.get("/api/events/more").json["event"]
    assert found["types"][0] == {
        "type": "odd",
        "events": 6,
        "last": {"sequence": 11, "recordedtime": last["recordedtime"]},
    }
    assert (found["types"][1]["type"], found["counted"], found["complete"]) == ("even", 11, True)
    part = web.get("/api/events/types?after=8&upto=10&limit=1").json
    assert ([(each["type"], each["events"]) for each in part["types"]], part["counted"]) == ([("odd", 1)], 2)


@pytest.mark.parametrize(
    ("query", "field"),
    [("limit=0", "limit"), ("limit=1001", "limit"), ("after=x", "after"), ("upto=-1", "upto"), ("type=a", "type")],
)
def test_an_invalid_question_for_types_is_refused(web: FlaskClient, query: str, field: str) -> None:
    answer = web.get(f"/api/events/types?{query}")
    assert (answer.status_code, list(answer.json["fields"])) == (422, [field])

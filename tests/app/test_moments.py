"""`/api/backup/timeline`, and restores to a moment over HTTP."""

from __future__ import annotations

from typing import Any

import pytest
from flask.testing import FlaskClient

pytestmark = pytest.mark.slow

BAD = [
    ({}, "backupName"),
    ({"pointInTime": "2024-12-27T12:00:00"}, "pointInTime"),
    ({"pointInTime": "yesterday"}, "pointInTime"),
    ({"pointInTime": 5}, "pointInTime"),
    ({"sequence": -1}, "sequence"),
    ({"sequence": "5"}, "sequence"),
    ({"sequence": 1.5}, "sequence"),
    ({"sequence": 2**63}, "sequence"),
    ({"sequence": 1, "pointInTime": "2024-12-27T12:00:00Z"}, "sequence"),
    ({"backupName": "backup_2024-12-27_120000.tar.gz", "sequence": 1}, "sequence"),
    ({"backupName": "backup_2024-12-27_120000.tar.gz", "generation": "0123456789abcdef"}, "generation"),
    ({"sequence": 1, "generation": "../x"}, "generation"),
    ({"sequence": 1, "dryRun": "maybe"}, "dryRun"),
]


def post(web: FlaskClient, **body: Any) -> Any:
    return web.post("/api/backup/restore", json=body)


@pytest.fixture
def three(web: FlaskClient) -> list[str]:
    """`recordedtime` of three events."""
    for name in "abc":
        assert web.post("/api/events", json={"type": "t", "id": name}).status_code == 201
    return [web.get(f"/api/events/{name}").json["event"]["recordedtime"] for name in "abc"]


@pytest.mark.parametrize(("body", "member"), BAD)
def test_an_invalid_moment_is_refused_with_the_name_of_its_member(
    web: FlaskClient, body: dict[str, Any], member: str
) -> None:
    reply = post(web, **body)

    assert (reply.status_code, reply.json["code"]) == (422, "invalid")
    assert member in reply.json["fields"]


def test_a_restore_goes_to_a_sequence(web: FlaskClient, three: list[str]) -> None:
    reply = post(web, sequence=2)

    assert reply.status_code == 200
    assert (reply.json["events"], reply.json["restartRequired"], reply.json["undo"]["events"]) == (2, False, 3)
    assert [event["id"] for event in web.get("/api/events").json["events"]] == ["a", "b"]


def test_a_restore_goes_to_an_instant_with_any_offset(web: FlaskClient, three: list[str]) -> None:
    assert post(web, pointInTime=three[1].replace("Z", "+00:00")).json["events"] == 2
    assert post(web, pointInTime=three[0], apply="restart").json["restartRequired"] is True


def test_a_moment_means_the_same_with_and_without_into(web: FlaskClient, three: list[str]) -> None:
    for way in ("{}z", "{} 00:00", "{}9z", "{}+00:00"):
        moment = way.format(three[1][:-1])
        assert post(web, pointInTime=moment, dryRun=True).json["plan"]["sequence"] == 2, moment
        assert post(web, pointInTime=moment, into="export").data.count(b"\n") == 2, moment


def test_a_filter_from_an_instant_finer_than_a_microsecond_starts_after_it(web: FlaskClient, three: list[str]) -> None:
    finer = three[1].replace("Z", "1Z")

    assert post(web, sequence=3, into="export", filter={"from": finer}).data.count(b"\n") == 1


def test_a_dry_run_answers_with_the_plan(web: FlaskClient, three: list[str]) -> None:
    reply = post(web, sequence=1, dryRun=True).json

    assert (reply["success"], reply["plan"]["eventsLeftBehind"]) == (True, 2)
    assert reply["plan"]["firstLeftBehind"]["id"] == "b"
    assert len(web.get("/api/events").json["events"]) == 3


def test_an_unavailable_moment_names_the_nearest_available_ones(web: FlaskClient, three: list[str]) -> None:
    for body in ({"sequence": 9}, {"pointInTime": "2999-01-01T00:00:00Z"}, {"sequence": 1, "generation": "0" * 16}):
        reply = post(web, **body)
        assert (reply.status_code, reply.json["code"]) == (422, "moment_unavailable")
        assert reply.json["window"]["newest"]["sequence"] == 3
        assert [near["sequence"] for near in reply.json["nearest"]] == [3]


def test_the_timeline_lists_what_can_be_restored(web: FlaskClient, three: list[str]) -> None:
    timeline = web.get("/api/backup/timeline").json

    assert timeline["success"] is True
    assert timeline["window"]["newest"]["sequence"] == 3
    assert {"generations", "archives", "segments", "gaps"} <= timeline.keys()


def test_the_timeline_for_a_page_has_marks(web: FlaskClient, three: list[str], backup: str) -> None:
    timeline = web.get("/api/backup/timeline?buckets=400").json

    assert [(mark["count"], mark["newest"]) for mark in timeline["marks"]] == [(1, backup)]
    assert "archives" not in timeline


@pytest.mark.parametrize("query", ["buckets=0", "buckets=-1", "buckets=1000000000", "buckets=many", "limit=3"])
def test_a_timeline_that_cannot_be_is_refused(web: FlaskClient, query: str) -> None:
    answer = web.get(f"/api/backup/timeline?{query}")
    assert (answer.status_code, list(answer.json["fields"])) == (422, [query.partition("=")[0]])

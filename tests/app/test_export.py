"""`POST /api/events/export` and `GET /api/operations/<id>/file`."""

from __future__ import annotations

import gzip
from typing import Any

import orjson
import pytest
from flask.testing import FlaskClient
from werkzeug.test import TestResponse

from eventvault.past import exports
from eventvault.settings import Settings


@pytest.fixture
def there(web: FlaskClient) -> list[dict[str, Any]]:
    """The events that are there."""
    web.post("/api/events", json=[{"type": f"t{number % 2}", "id": f"e{number}"} for number in range(20)])
    events: list[dict[str, Any]] = web.get("/api/events").json["events"]
    return events


def export(web: FlaskClient, body: object = None, query: str = "") -> TestResponse:
    return web.post(f"/api/events/export{query}", json={} if body is None else body)


def fetch(web: FlaskClient, address: str, **headers: str) -> TestResponse:
    """Get a file and end the request, as a server does."""
    answer = web.get(address, headers={name.replace("_", "-"): value for name, value in headers.items()})
    assert answer.data is not None
    answer.close()
    return answer


def lines(answer: TestResponse) -> list[dict[str, Any]]:
    return [orjson.loads(line) for line in answer.data.splitlines()]


@pytest.mark.slow
def test_an_export_is_a_file_that_its_operation_has(web: FlaskClient, there: list[dict[str, Any]]) -> None:
    exported = export(web).json

    assert exported["file"] == f"/api/operations/{exported['operation']}/file"
    operation = web.get(f"/api/operations/{exported['operation']}").json["operation"]
    assert (operation["kind"], operation["state"], operation["result"]) == ("export", "succeeded", exported)
    answer = fetch(web, exported["file"])
    assert (answer.status_code, answer.content_type) == (200, "application/x-ndjson")
    assert lines(answer) == there
    assert (exported["events"], exported["lastSequence"], exported["bytes"]) == (20, 20, len(answer.data))


@pytest.mark.slow
def test_one_that_nobody_waits_for_is_fetched_when_it_has_succeeded(
    web: FlaskClient, there: list[dict[str, Any]]
) -> None:
    begun = export(web, query="?async=true")
    assert begun.status_code == 202
    address = begun.headers["Location"]
    while web.get(address).json["operation"]["state"] in ("queued", "running"):
        pass

    assert lines(fetch(web, f"{address}/file")) == there


def test_a_filter_and_a_moment_select_events(web: FlaskClient, there: list[dict[str, Any]]) -> None:
    middle = there[-1]["recordedtime"]
    web.post("/api/events", json={"type": "t0", "id": "late"})

    of_type = export(web, {"filter": {"type": "t1", "fromSequence": 5}}).json
    then = export(web, {"asOf": middle, "filter": {"type": "t0"}}).json

    assert lines(fetch(web, of_type["file"])) == [each for each in there[4:] if each["type"] == "t1"]
    assert "late" not in [each["id"] for each in lines(fetch(web, then["file"]))]


@pytest.mark.parametrize(
    "body",
    [{"path": "/etc/passwd"}, {"filter": {"to": "yesterday"}}, {"asOf": 1}, {"generation": "0" * 16}, {"filter": 1}],
)
def test_what_is_not_known_is_refused(web: FlaskClient, body: object) -> None:
    assert export(web, body).status_code == 422
    assert web.get("/api/operations").json["operations"] == []


@pytest.mark.slow
def test_a_client_that_takes_gzip_gets_the_file_as_it_is(web: FlaskClient, there: list[dict[str, Any]]) -> None:
    exported = export(web).json

    answer = fetch(web, exported["file"], Accept_Encoding="gzip")

    assert (answer.headers["Content-Encoding"], len(answer.data)) == ("gzip", exported["size"])
    assert [orjson.loads(line) for line in gzip.decompress(answer.data).splitlines()] == there
    plain = fetch(web, exported["file"], Accept_Encoding="gzip;q=0")
    assert "Content-Encoding" not in plain.headers
    assert plain.headers["ETag"] != answer.headers["ETag"]


@pytest.mark.parametrize("encoding", ["", "gzip"])
def test_ranges_continue_a_broken_download(web: FlaskClient, there: list[dict[str, Any]], encoding: str) -> None:
    file = export(web).json["file"]
    headers = {"Accept_Encoding": encoding} if encoding else {}
    whole = fetch(web, file, **headers)

    rest = fetch(web, file, **headers, Range="bytes=100-", If_Range=whole.headers["ETag"])
    some = fetch(web, file, **headers, Range="bytes=7-20")
    beyond = fetch(web, file, **headers, Range="bytes=99999-")
    same = fetch(web, file, **headers, If_None_Match=whole.headers["ETag"])

    assert whole.headers["Accept-Ranges"] == "bytes"
    assert (rest.status_code, rest.data) == (206, whole.data[100:])
    assert (some.status_code, some.data) == (206, whole.data[7:21])
    assert some.headers["Content-Range"] == f"bytes 7-20/{len(whole.data)}"
    assert (beyond.status_code, same.status_code) == (416, 304)


def test_an_operation_without_a_file_says_so(web: FlaskClient) -> None:
    web.post("/api/backup/create")
    (created,) = web.get("/api/operations").json["operations"]

    for operation_id, code in [(created["id"], "export_not_found"), ("0" * 16, "operation_not_found")]:
        answer = web.get(f"/api/operations/{operation_id}/file")
        assert (answer.status_code, answer.json["code"]) == (404, code)


def test_a_full_disk_is_found_before_it_begins(
    web: FlaskClient, there: list[dict[str, Any]], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(exports, "free_bytes", lambda _: 1000)

    for query in ("", "?async=true"):
        refused = export(web, query=query)
        assert (refused.status_code, refused.json["code"]) == (507, "no_space")
        assert refused.json["needed"] > refused.json["free"] == 1000
    assert web.get("/api/operations").json["operations"] == []


@pytest.mark.slow
def test_a_repeated_export_writes_one_file(web: FlaskClient, there: list[dict[str, Any]], settings: Settings) -> None:
    answers = [web.post("/api/events/export", headers={"Idempotency-Key": "k"}) for _ in range(2)]

    assert answers[0].data == answers[1].data
    assert len(web.get("/api/operations").json["operations"]) == 1

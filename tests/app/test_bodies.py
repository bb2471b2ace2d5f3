"""Request bodies: compressed ones, those that would fill the memory, and the budget that all of a process share."""

from __future__ import annotations

import gzip
import json
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from functools import partial

import pytest
from flask import Flask
from flask.testing import FlaskClient

from app.budget import Budget
from app.edge import BODIES, current_edge
from eventvault import json_text
from eventvault.errors import MalformedInput, TooBusy, TooLarge
from eventvault.events import sent

LIMIT = 100_000
"""MAX_BODY_BYTES of these tests."""
GZIP = {"Content-Encoding": "gzip"}
compress = partial(gzip.compress, mtime=0)
"""The same bytes in each test process."""
EVENT = b'{"type": "a", "id": "%d"}'
ORDER = b'{"id":"0123456789","type":"order.created","data":{"total":12.5,"items":[1,2,3]}},'


def post(web: FlaskClient, body: bytes, **headers: str) -> tuple[int, dict]:
    answer = web.post("/api/events", data=body, headers={"Content-Type": "application/json", **GZIP, **headers})
    return answer.status_code, answer.json


@pytest.mark.slow
@pytest.mark.parametrize("coding", ["gzip", "x-gzip", "GZIP"])
@pytest.mark.parametrize(
    ("body", "content_type", "count"),
    [
        (EVENT % 1, "application/json", 1),
        (b"[%b, %b]" % (EVENT % 1, EVENT % 2), "application/json", 2),
        (EVENT % 1 + b"\n" + EVENT % 2 + b"\n", "application/x-ndjson", 2),
        (b'[{"type": "a", "source": "s", "specversion": "1.0", "id": "1"}]', "application/cloudevents-batch+json", 1),
        ((EVENT % 1).decode().encode("utf-16"), "application/json; charset=utf-16", 1),
    ],
)
def test_a_compressed_body_is_read_as_if_it_were_not(
    web: FlaskClient, body: bytes, content_type: str, count: int, coding: str
) -> None:
    headers = {"Content-Type": content_type, "Content-Encoding": coding}
    status, answer = post(web, compress(body), **headers)
    assert (status, answer["accepted"]) == (201, count)


def test_the_data_of_binary_mode_may_be_compressed(web: FlaskClient) -> None:
    headers = {"ce-type": "a", "ce-source": "s", "ce-id": "1", "ce-specversion": "1.0", "Content-Type": "text/plain"}
    assert post(web, compress(b"a text"), **headers)[0] == 201
    assert web.get("/api/events/1").json["event"]["data"] == "a text"


def test_several_gzip_members_are_one_body(web: FlaskClient) -> None:
    body = b"[" + b",".join(EVENT % number for number in range(100)) + b"]"
    members = b"".join(compress(body[start : start + 700]) for start in range(0, len(body), 700))
    assert post(web, members)[1]["accepted"] == 100


@pytest.mark.slow
@pytest.mark.parametrize(
    ("body", "status", "code"),
    [
        (compress(b" " * (LIMIT + 1)), 413, "too_large"),
        (compress(b" " * 50_000_000), 413, "too_large"),
        (compress(b" " * LIMIT), 400, "malformed"),
        (compress(EVENT % 1)[:-1], 400, "malformed"),
        (compress(EVENT % 1)[:11], 400, "malformed"),
        (compress(EVENT % 1) + b"more", 400, "malformed"),
        (EVENT % 1, 400, "malformed"),
        (b"", 400, "malformed"),
        (b"\x1f\x8b", 400, "malformed"),
        (compress(b'{"type": "a", "type": "b"}'), 422, "invalid"),
    ],
)
def test_what_comes_out_of_a_compressed_body_has_the_bounds_of_any_other(
    web: FlaskClient, body: bytes, status: int, code: str
) -> None:
    answer = post(web, body)
    assert (answer[0], answer[1]["code"]) == (status, code)
    assert post(web, compress(EVENT % 1))[0] == 201


@pytest.mark.parametrize("path", ["/api/backup/create", "/api/backup/restore"])
def test_other_requests_may_be_compressed_too(web: FlaskClient, path: str) -> None:
    assert web.post(path, data=compress(b'{"unknown": 1}'), headers=GZIP).json["fields"].keys() >= {"unknown"}


@pytest.mark.slow
@pytest.mark.parametrize(
    "part", [b"[],", b"{},", b'{"a":1},', b'"ab",', b"[[]],", b"1,", b'{"a":{"b":[]}},', b"[1,2],"]
)
def test_values_that_would_fill_the_memory_are_refused_without_being_parsed(part: bytes) -> None:
    """The parser of this process is never called: the count of marks decides."""
    size = 48 * 2**20
    text = b"[" + part * (size // len(part)) + b"0]"
    assert json_text.has_too_many_values(text)
    assert json_text.memory_to_parse(text) > json_text.MAX_VALUE_BYTES


@pytest.mark.slow
@pytest.mark.parametrize(
    "make",
    [
        lambda: b'"' + b"{[,:" * 4_000_000 + b'"',
        lambda: b'{"a": "' + rb"{\"a\": [1, 2]}, " * 1_500_000 + b'"}',
        lambda: b"[" + b"1.25," * 3_000_000 + b"0]",
        lambda: b"[" + ORDER * 80_000 + b"{}]",
    ],
    ids=["marks in a text", "JSON in a text", "numbers", "events"],
)
def test_what_people_send_is_no_bomb(make: Callable[[], bytes]) -> None:
    assert not json_text.has_too_many_values(make())


@pytest.mark.parametrize(
    ("limit", "events", "refused"),
    [(100_000, 99, None), (2_000, 99, None), (200, 99, TooLarge), (2_000, 300, TooLarge)],
)
def test_an_array_of_events_that_together_would_fill_the_memory_is_read_one_by_one(
    limit: int, events: int, refused: type[Exception] | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(json_text, "_FEW_BYTES", 10)
    monkeypatch.setattr(json_text.has_too_many_values, "__defaults__", (limit,))
    monkeypatch.setattr(sent, "MAX_EVENTS", 200)
    each = [b'{"type":"a","data":[%d,2,3],"id":"%d"}' % (number, number) for number in range(events)]
    text = b"[" + b", ".join(each) + b"]"
    if refused is not None:
        with pytest.raises(refused):
            sent.read(text)
        return
    read = sent.read(text)
    assert isinstance(read, Sequence)
    assert [event.text for event in read] == each
    assert not sent.problems_of(read)
    with pytest.raises(MalformedInput):
        sent.read(text[:-1])


def attributes(number: int) -> bytes:
    return b'{"type":"a",' + b",".join(b'"_%x":1' % each for each in range(number)) + b"}"


@pytest.mark.slow
@pytest.mark.parametrize(
    "body",
    [
        attributes(9_000),
        attributes(4_000).replace(b"_", b"_" * 15),
        b"[" + b",".join([b"{}"] * 20_000) + b"]",
        b"[" + b",".join([b'{"type":1,"id":2}'] * 4_000) + b"]",
        b"\n".join([b'{"a":1,"a":2}'] * 5_000),
        b'{"type":"a","' + b"x" * 90_000 + b'":1}',
        b'{"type":"' + b"x" * 90_000 + b'","id":7}',
    ],
)
def test_an_answer_names_the_first_problems_only(web: FlaskClient, body: bytes) -> None:
    answer = web.post("/api/events", data=body, headers={"Content-Type": "application/json"})
    assert answer.status_code == 422
    assert len(answer.data) < 50_000
    assert json.loads(answer.data)["fields"]


@pytest.mark.slow
def test_an_answer_to_any_request_names_the_first_members_only(web: FlaskClient) -> None:
    members = b"{" + b",".join(b'"%d%b":1' % (number, b"x" * 200) for number in range(400)) + b"}"
    answer = web.post("/api/backup/create", data=members, headers={"Content-Type": "application/json"})
    assert (answer.status_code, len(answer.json["fields"])) == (422, 20)
    assert len(answer.data) < 10_000


def test_an_event_has_at_most_so_many_attributes(web: FlaskClient) -> None:
    body = attributes(10_001).replace(b"_", b"")
    answer = web.post("/api/events", data=body, headers={"Content-Type": "application/json"})
    assert answer.status_code == 422
    assert "10002 attributes" in answer.json["error"]


def test_a_budget_waits_for_what_others_give_back() -> None:
    budget = Budget(100, "the memory", wait_seconds=30)
    first = budget.take(80)
    with ThreadPoolExecutor(1) as pool:
        waiting = pool.submit(budget.take, 60)
        budget.give_back(first)
        assert waiting.result(30) == 60
    budget.give_back(60)
    assert budget.take(1000) == 100


def test_a_budget_that_does_not_become_free_is_said() -> None:
    budget = Budget(100, "the memory for it", wait_seconds=0.01)
    budget.take(50)
    with pytest.raises(TooBusy, match="the memory for it"), budget.reserved(51):
        pytest.fail("it was taken")
    with budget.reserved(50):
        pass
    assert budget.take(50) == 50


@pytest.mark.slow
def test_requests_whose_bodies_find_no_memory_are_too_busy_and_later_ones_are_not(
    app: Flask, web: FlaskClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    with app.app_context():
        bodies = current_edge().bodies
    monkeypatch.setattr(bodies, "_wait_seconds", 0.01)
    taken = bodies.take(BODIES * LIMIT)
    large = b'{"type": "a", "data": "%b"}' % (b"x" * 80_000)
    with closing(web.post("/api/events", data=large)) as answer:
        assert (answer.status_code, answer.json["code"]) == (503, "too_busy")
        assert answer.headers["Retry-After"]
    assert web.post("/api/events", data=EVENT % 1).status_code == 201
    bodies.give_back(taken)
    for _ in range(2 * BODIES):  # each gives back what it took
        for body, status in ((large, 201), (large[:-1], 400)):
            with closing(web.post("/api/events", data=body)) as answer:
                assert answer.status_code == status
    assert bodies.take(BODIES * LIMIT) == BODIES * LIMIT


@pytest.mark.slow
def test_large_bodies_are_parsed_within_the_budget(
    app: Flask, web: FlaskClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(json_text, "_FEW_BYTES", 1000)
    with app.app_context():
        parsing = current_edge().parsing
    seen: list[int] = []
    take = parsing.take
    monkeypatch.setattr(parsing, "take", lambda count: seen.append(count) or take(count))
    large = b'{"type": "a", "data": [%b1]}' % (b"1," * 10_000)
    assert web.post("/api/events", data=large).status_code == 201
    assert len(large) * 6 < seen[0] < len(large) * 30
    monkeypatch.setattr(parsing, "_wait_seconds", 0.01)
    parsing.take(10**9)
    assert web.post("/api/events", data=large).json["code"] == "too_busy"
    assert web.post("/api/events", data=EVENT % 1).status_code == 201


def test_many_threads_never_take_more_than_there_is() -> None:
    budget, lock = Budget(10, "it", wait_seconds=60), threading.Lock()
    taken, most = 0, 0

    def work(count: int) -> None:
        nonlocal taken, most
        with budget.reserved(count):
            with lock:
                taken += count
                most = max(most, taken)
            with lock:
                taken -= count

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(work, [1, 3, 7, 10] * 50))
    assert most <= 10


@pytest.mark.parametrize(
    ("body", "why"),
    [
        (EVENT % 1, "incorrect header check"),
        (compress(EVENT % 1)[:-8] + bytes(8), "incorrect data check"),
        (compress(EVENT % 1) + b"junk", "incorrect header check"),
    ],
)
def test_what_is_no_gzip_is_refused_with_the_reason_alone(web: FlaskClient, body: bytes, why: str) -> None:
    status, answer = post(web, body)
    assert (status, answer["error"]) == (400, f"the body is not valid gzip: {why}")


@pytest.mark.parametrize("data", [b"[" * 501 + b"]" * 501, b'{"a":' * 600 + b"1" + b"}" * 600])
def test_the_limit_of_levels_is_the_one_that_holds(web: FlaskClient, data: bytes) -> None:
    status, answer = post(web, b'{"type": "a", "data": %b}' % data, **{"Content-Encoding": "identity"})
    assert status == 422
    assert "at most 500 levels" in answer["fields"]["data"][0]

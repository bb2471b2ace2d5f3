"""`data` comes back as the text that was sent, over each way in and each way out of the service."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from itertools import count
from pathlib import Path
from typing import Any
from urllib.parse import quote

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from eventvault.events.event import raw_attributes
from tests import processes
from tests.json_texts import JSON_TEXTS, Text
from tests.service import Reply, Service, services
from tests.stores import folders_beneath

JOURNALED = {"JOURNAL_INTERVAL": "200", "AUTO_BACKUP_ENABLED": "false", "AUTO_RECOVER": "true"}
TEXTS = [
    "0.1234567890123456789", "12345678901234567890.12", "1e-400", "1e999", "-0", "-0.0", "1.10", "1E+2",
    "9" * 5000, "[1.0,10.00,1e2]", '"\\u00e9\\/\\u0000"', '"é\u2028\u2029"', '"\\ud83d\\ude00"',
    '{"b":1,"a":2}', '{"a\\u003a":":"}', '{"x":{"a":1},"y":{"a":1}}', "[" * 500 + "]" * 500,
    "[[],{},null,true,false]", '""', "null", '",\\"sequence\\":1"',
    '{"sequence":1,"recordedtime":"x"}',
]  # fmt: skip
REPEATED = ['{"a":1,"a":1}', '{"a":1,"\\u0061":2}', '[[{"b":{"":1,"":2}}]]', '{"a":"\\u003a","a":1}']
CONTENT_TYPE = {
    "one": "application/json", "array": "application/json", "structured": "application/cloudevents+json",
    "batch": "application/cloudevents-batch+json", "lines": "application/x-ndjson",
}  # fmt: skip
_numbers = count()


@pytest.fixture(scope="module")
def running(module_service: Callable[..., Service]) -> Service:
    return module_service(workers=1, environment=JOURNALED)


@pytest.fixture(scope="module")
def elsewhere(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    """Another installation."""
    folder = tmp_path_factory.mktemp("elsewhere")
    with ExitStack() as stack:
        yield stack.enter_context(services(folders_beneath(folder), folder))(workers=1, environment=JOURNALED)


def bodies(names: list[str], texts: list[str], form: str) -> list[bytes]:
    """Return the request bodies that send these texts as `data`."""
    events = [
        f'{{"type":"t","source":"/{form}","specversion":"1.0","id":"{name}","data":{text}}}'
        for name, text in zip(names, texts, strict=True)
    ]
    if form in ("array", "batch"):
        return [f"[{' , '.join(events)}]".encode()]
    if form == "lines":
        return ["\n".join(event.replace("\n", " ").replace("\r", " ") for event in events).encode()]
    return [event.encode() for event in events]


def post(running: Service, form: str, names: list[str], texts: list[str]) -> list[dict[str, object]]:
    """Send each text as an event in a mode; return the results of all requests."""
    if form == "binary":
        replies = [
            running.post(
                "/api/events",
                text.encode(),
                headers={"Content-Type": "application/json", "ce-type": "t", "ce-id": name, "ce-source": "/binary"},
            )
            for name, text in zip(names, texts, strict=True)
        ]
    else:
        headers = {"Content-Type": CONTENT_TYPE[form]}
        replies = [running.post("/api/events", body, headers=headers) for body in bodies(names, texts, form)]
    assert {reply.status for reply in replies} <= {200, 201}, [reply.body[:300] for reply in replies]
    return [result for reply in replies for result in reply.json()["results"]]


def names_for(texts: list[str]) -> list[str]:
    return [f"e{next(_numbers)}" for _ in texts]


class Listed(msgspec.Struct):
    events: list[msgspec.Raw]


class DiffLine(msgspec.Struct):
    event: msgspec.Raw


class Recorded(msgspec.Struct):
    recordedtime: str


def data_of(event: bytes | msgspec.Raw) -> str:
    json.loads(bytes(event), parse_int=str)
    return bytes(raw_attributes(event)["data"]).decode()


def listed(reply: bytes) -> list[str]:
    return [data_of(event) for event in msgspec.json.decode(reply, type=Listed).events]


def exported(reply: bytes) -> list[str]:
    return [data_of(line) for line in reply.splitlines()]


@pytest.mark.parametrize("form", [*CONTENT_TYPE, "binary"])
def test_data_comes_back_digit_for_digit(running: Service, form: str) -> None:
    names = names_for(TEXTS)
    post(running, form, names, TEXTS)
    for name, text in zip(names, TEXTS, strict=True):
        body = running.get(f"/api/events/{name}?source=/{form}").body
        assert data_of(body.removeprefix(b'{"success":true,"event":').removesuffix(b"}")) == text
    where = f"source={quote(f'/{form}')}"
    assert listed(running.get(f"/api/events?{where}&type=t&limit=1000").body)[-len(TEXTS) :] == TEXTS
    assert exported(running.get(f"/api/events/export?{where}").body)[-len(TEXTS) :] == TEXTS
    assert not any(result.get("differs") for result in post(running, form, names, TEXTS))


@given(st.lists(JSON_TEXTS, min_size=5, max_size=12))
@settings(max_examples=6, deadline=None)
def test_any_text_comes_back_over_each_way_in(running: Service, texts: list[Text]) -> None:
    sent, compact = [text.sent for text in texts], [text.compact for text in texts]
    for form in (*CONTENT_TYPE, "binary"):
        names = names_for(sent)
        results = post(running, form, names, sent)
        after = int(str(results[0]["sequence"])) - 1
        assert listed(running.get(f"/api/events?after={after}&limit=1000").body) == compact
        assert not any(result.get("differs") for result in post(running, form, names, compact))


@pytest.mark.parametrize("form", [*CONTENT_TYPE, "binary"])
@pytest.mark.parametrize("data", [*REPEATED, '"\\ud800"'])
def test_what_readers_understand_differently_is_refused_with_all_of_the_request(
    running: Service, form: str, data: str
) -> None:
    before = running.get("/api/events?limit=1").json()["lastSequence"]
    if form == "binary":
        headers = {"Content-Type": "application/json", "ce-type": "t", "ce-id": "r", "ce-source": "/binary"}
        reply = running.post("/api/events", data.encode(), headers=headers)
    else:
        texts = ["1", data] if form in ("array", "batch", "lines") else [data]
        (body,) = bodies(names_for(texts), texts, form)
        reply = running.post("/api/events", body, headers={"Content-Type": CONTENT_TYPE[form]})
    assert (reply.status, reply.json()["code"]) == (422, "invalid")
    assert reply.json()["hint"]
    assert running.get("/api/events?limit=1").json()["lastSequence"] == before


def test_an_export_that_is_posted_elsewhere_is_the_same(running: Service, elsewhere: Service) -> None:
    post(running, "lines", names_for(TEXTS), TEXTS)
    export = running.get("/api/events/export").body
    reply = elsewhere.post("/api/events", export, headers={"Content-Type": "application/x-ndjson"})
    assert reply.status == 201, reply.body[:300]
    assert exported(elsewhere.get("/api/events/export").body) == exported(export)


def test_data_goes_through_a_backup_a_restore_the_past_and_an_undo(running: Service) -> None:
    post(running, "array", names_for(TEXTS), TEXTS)
    backed_up = running.get("/api/events/export").body
    backup = answered(running.post("/api/backup/create"))["name"]
    answered(running.post(f"/api/backup/{backup}/verify?records=true"))
    post(running, "one", names_for(TEXTS), TEXTS)
    everything = running.get("/api/events/export").body
    health = answered(running.get("/api/health"))["store"]
    generation, end = health["generation"], f"{health['generation']}@{health['lastSequence']}"

    answered(running.post("/api/backup/restore", {"backupName": backup}))

    assert running.get("/api/events/export").body == backed_up
    assert running.get(f"/api/events/export?asOf={moment_after(everything)}&generation={generation}").body == everything
    *lines, summary = running.get(f"/api/backup/diff?from={end}&to=now").body.splitlines()
    assert [data_of(msgspec.json.decode(line, type=DiffLine).event) for line in lines] == TEXTS, summary
    copied = answered(
        running.post(
            "/api/backup/restore", {"into": "present", "sequence": health["lastSequence"], "generation": end[:16]}
        )
    )
    assert (copied["appended"], copied["renamed"]) == (len(TEXTS), 0)
    assert exported(running.get("/api/events/export").body) == exported(everything)
    answered(running.post("/api/backup/undo"))
    assert running.get("/api/events/export").body == everything


def answered(reply: Reply) -> Any:
    assert reply.status == 200, reply.body[:500]
    return reply.json()


def moment_after(export: bytes) -> str:
    """Return the recorded time of the last event."""
    return str(msgspec.json.decode(export.splitlines()[-1], type=Recorded).recordedtime)


def test_data_goes_through_the_journal_alone(
    service: Callable[..., Service], settings_environment: dict[str, str]
) -> None:
    first = service(workers=1, environment=JOURNALED)
    post(first, "lines", names_for(TEXTS), TEXTS)
    export = first.get("/api/events/export").body
    processes.wait_until(
        lambda: first.get("/api/health").json()["journal"]["lastSequence"] == len(TEXTS), "nothing is journaled"
    )
    first.stop()
    shutil.rmtree(Path(settings_environment["STORAGE_DIR"]))
    again = service(workers=1, environment=JOURNALED)
    assert again.get("/api/events/export").body == export

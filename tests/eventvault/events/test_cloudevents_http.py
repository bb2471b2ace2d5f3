"""Bodies of posted events, with the CloudEvents SDK as the oracle for what other programs send."""

from __future__ import annotations

import json

import pytest
from cloudevents.v1.conversion import to_binary, to_structured
from cloudevents.v1.http import CloudEvent

from eventvault.errors import MalformedInput, TooLarge, UnsupportedMediaType
from eventvault.events import cloudevents_http

ATTRIBUTES = {"type": "com.example.a", "source": "/shop/ü b", "id": "7", "subject": "x y", "priority": "3"}


def posted(body: bytes, content_type: str | None = None, **headers: str) -> list[object]:
    return cloudevents_http.parse(body, content_type, {f"ce-{name}": text for name, text in headers.items()}).events


def of_sdk(headers: dict[str, str], body: bytes) -> list[object]:
    lower = {name.lower(): text for name, text in headers.items()}
    ours = {name: text for name, text in lower.items() if name.startswith("ce-")}
    return cloudevents_http.parse(body, lower["content-type"], ours).events


def test_a_structured_event_of_the_sdk_is_read() -> None:
    headers, body = to_structured(CloudEvent(ATTRIBUTES, {"n": 1}))
    (event,) = of_sdk(headers, body)
    assert event == {**ATTRIBUTES, "specversion": "1.0", "time": event["time"], "data": {"n": 1}}


def test_a_binary_event_of_the_sdk_is_read() -> None:
    sent = CloudEvent({**ATTRIBUTES, "source": "/shop", "datacontenttype": "application/json"}, {"n": 1})
    headers, body = to_binary(sent)
    (event,) = of_sdk(headers, body)
    assert isinstance(event, dict)
    assert (event["type"], event["source"], event["priority"]) == ("com.example.a", "/shop", "3")
    assert (event["data"], event["datacontenttype"]) == ({"n": 1}, "application/json")


def test_attributes_in_headers_are_percent_decoded() -> None:
    assert posted(b"", None, type="a", subject="Euro%20%E2%82%AC") == [{"type": "a", "subject": "Euro €"}]


@pytest.mark.parametrize(
    ("content_type", "body", "member", "value"),
    [
        ("application/json", b'{"n":1}', "data", {"n": 1}),
        ("application/vnd.x+json", b"[1]", "data", [1]),
        ("text/plain", "grün".encode(), "data", "grün"),
        ("text/plain", b"\xff", "data_base64", "/w=="),
        ("application/octet-stream", b"hi", "data_base64", "aGk="),
        (None, b"hi", "data_base64", "aGk="),
    ],
)
def test_binary_data_is_kept_by_its_type(content_type: str | None, body: bytes, member: str, value: object) -> None:
    (event,) = posted(body, content_type, type="a")
    assert isinstance(event, dict)
    assert event[member] == value
    assert event.get("datacontenttype") == content_type


def test_a_batch_is_an_array() -> None:
    body = json.dumps([{"type": "a"}, {"type": "b"}]).encode()
    assert posted(body, "application/cloudevents-batch+json") == [{"type": "a"}, {"type": "b"}]


@pytest.mark.parametrize("content_type", [None, "application/json", "application/x-www-form-urlencoded"])
def test_plain_json_is_one_event_or_several(content_type: str | None) -> None:
    one = cloudevents_http.parse(b'{"type":"a"}', content_type, {})
    several = cloudevents_http.parse(b'[{"type":"a"}]', content_type, {})
    assert (one.events, one.many) == ([{"type": "a"}], False)
    assert (several.events, several.many) == ([{"type": "a"}], True)


@pytest.mark.parametrize("content_type", [None, "application/x-ndjson", "application/jsonl", "application/json"])
def test_lines_of_json_are_events(content_type: str | None) -> None:
    body = b'{"type":"a"}\r\n\r\n{"type":"b"}\n'
    assert posted(body, content_type) == [{"type": "a"}, {"type": "b"}]


def test_a_broken_line_is_named() -> None:
    with pytest.raises(MalformedInput, match="line 2"):
        posted(b'{"type":"a"}\n{"type"\n', "application/x-ndjson")


@pytest.mark.parametrize(
    ("content_type", "body"),
    [
        (None, b""),
        ("application/json", b" \n"),
        ("application/json", b'{"type":'),
        ("application/json", b"type=a"),
        ("application/cloudevents+json", b"[]"),
        ("application/cloudevents-batch+json", b"{}"),
        ("application/x-ndjson", b"\n\n"),
    ],
)
def test_what_is_not_as_said_is_malformed(content_type: str | None, body: bytes) -> None:
    with pytest.raises(MalformedInput):
        posted(body, content_type)


@pytest.mark.parametrize("name", ["data", "data_base64", "datacontenttype"])
def test_binary_mode_has_no_data_in_headers(name: str) -> None:
    with pytest.raises(MalformedInput, match=f"ce-{name}"):
        posted(b"", None, **{"type": "a", name: "x"})


@pytest.mark.parametrize(
    "content_type", ["application/cloudevents+avro", "multipart/form-data", "application/xml", "image/png"]
)
def test_other_formats_are_not_supported(content_type: str) -> None:
    with pytest.raises(UnsupportedMediaType):
        posted(b"x", content_type)


def test_a_request_has_a_largest_number_of_events(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cloudevents_http, "MAX_EVENTS_PER_REQUEST", 2)
    assert len(posted(b'[{"type":"a"},{"type":"b"}]')) == 2
    with pytest.raises(TooLarge):
        posted(b'[{"type":"a"},{"type":"b"},{"type":"c"}]')

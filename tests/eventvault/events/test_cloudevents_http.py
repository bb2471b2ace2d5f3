"""Bodies of posted events, with the CloudEvents SDK as the oracle for what other programs send."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from urllib.parse import quote

import pytest
from cloudevents.core.bindings import http as core_http
from cloudevents.core.formats.json import JSONFormat
from cloudevents.core.v1.event import CloudEvent as CoreEvent
from cloudevents.v1.conversion import to_binary, to_structured
from cloudevents.v1.http import CloudEvent
from hypothesis import given
from hypothesis import strategies as st

from eventvault.errors import MalformedInput, TooLarge, UnsupportedMediaType
from eventvault.events import cloudevents_http
from eventvault.events.cloudevents_http import PostedEvents
from tests.roads import road as road

ATTRIBUTES = {"type": "com.example.a", "source": "/shop/ü b", "id": "7", "subject": "x y", "priority": "3"}


def posted(body: bytes, content_type: str | None = None, **headers: str) -> list[object]:
    return attributes(
        cloudevents_http.parse(body, content_type, {f"ce-{name}": text for name, text in headers.items()})
    )


def of_sdk(headers: dict[str, str], body: bytes) -> list[object]:
    lower = {name.lower(): text for name, text in headers.items()}
    ours = {name: text for name, text in lower.items() if name.startswith("ce-")}
    return attributes(cloudevents_http.parse(body, lower["content-type"], ours))


def attributes(posted: PostedEvents) -> list[object]:
    """What is stored of each event, which must agree with what is validated."""
    values = [json.loads(event.text) for event in posted.events]
    assert [event.attributes for event in posted.events] == [
        {**value, "data": event.attributes["data"]} if "data" in value else value
        for event, value in zip(posted.events, values, strict=True)
    ]
    return values


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
    ("value", "text"),
    [
        (b"sub ject/\xfc", "sub ject/ü"),  # Latin-1
        (b"Gr\xf6\xdfe 5%20m", "Größe 5 m"),
        (b"\xa3 100 %", "£ 100 %"),
        ("sub ject/ü".encode(), "sub ject/ü"),
        ("日本 %E2%82%AC".encode(), "日本 €"),
        (b"%e2%82%AC", "€"),
        (b"%2541", "%41"),  # decoded once
        (b"100 % sure, %zz, %4", "100 % sure, %zz, %4"),
        (b"a+b", "a+b"),
        (b'"q1"', "q1"),
        (b'"a \\"b\\""', 'a "b"'),
        (b'"C:\\\\x\\y"', "C:\\xy"),
        (b'"%22%41 "', '"A '),  # quotes first, then percents
        (b'"\xfc"', "ü"),
        (b'a "b" c', 'a "b" c'),
        (b'"a" "b"', '"a" "b"'),
        (b'"a\\"', '"a\\"'),
        (b'"', '"'),
    ],
)
def test_an_attribute_in_a_header_is_read_as_the_binding_says(value: bytes, text: str) -> None:
    assert posted(b"", None, type="a", id=value.decode("latin-1")) == [{"type": "a", "id": text}]


@pytest.mark.parametrize("name", ["source", "dataschema", "dataref"])
@pytest.mark.parametrize(
    ("value", "text"),
    [
        ("/js/%E2%82%ACuro%20path", "/js/%E2%82%ACuro%20path"),
        ("urn:a%2Fb", "urn:a%2Fb"),
        ("/a%25b%20c", "/a%25b%20c"),
        ("/%FF", "/%FF"),
        ("/100%", "/100%"),
        ("/js/%25E2%2582%25ACuro%2520path", "/js/%E2%82%ACuro%20path"),
        ("/%2525", "/%25"),
        ("/caf\xe9/%C3%A9", "/café/%C3%A9"),
        ('"/a%20b"', "/a%20b"),
        ("/plain?a=b", "/plain?a=b"),
    ],
)
def test_a_uri_is_decoded_only_if_its_percent_signs_are_encoded(name: str, value: str, text: str) -> None:
    assert posted(b"", None, type="a", **{name: value}) == [{"type": "a", name: text}]


@pytest.mark.parametrize("value", ["%FF", "%C3x", "%C3\xbc", '"%e2%82"'])
def test_percent_encoded_bytes_are_utf_8(value: str) -> None:
    with pytest.raises(MalformedInput, match="ce-subject"):
        posted(b"", None, type="a", subject=value)


@pytest.mark.parametrize("name", ["type", "subject", "extra"])
def test_a_repeated_header_is_malformed(name: str) -> None:
    with pytest.raises(MalformedInput, match=f"ce-{name} is repeated"):
        posted(b"", None, **{"type": "a", name: cloudevents_http.REPEATED.join("ab")})


TEXT = st.text(st.characters(exclude_categories=["Cs"]), min_size=1)
URI = st.text(st.characters(min_codepoint=0x21, max_codepoint=0x7E, exclude_characters='"'), min_size=1)


@pytest.mark.slow
@given(text=TEXT, source=URI, schema=TEXT.map(quote).filter(bool))
def test_the_same_attributes_are_the_same_in_binary_and_structured_mode(text: str, source: str, schema: str) -> None:
    """The SDK's newer half percent-encodes as the binding says."""
    given = {"type": "a", "source": source, "id": text, "specversion": "1.0", "dataschema": schema, "extra": text}
    given |= {"subject": text, "datacontenttype": "text/plain"}
    sent = CoreEvent({**given, "time": datetime(2026, 1, 31, tzinfo=UTC)}, "ä")
    for write in (core_http.to_binary, core_http.to_structured):
        message = write(sent, JSONFormat())
        (event,) = of_sdk(message.headers, message.body)
        assert event == {**given, "time": "2026-01-31T00:00:00Z", "data": "ä"}


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
    assert (attributes(one), one.many) == ([{"type": "a"}], False)
    assert (attributes(several), several.many) == ([{"type": "a"}], True)


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

"""An event as a Kafka message: whoever reads it gets the same event."""

from __future__ import annotations

import json
from typing import Any

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from eventvault.events import event
from eventvault.events.sent import problems_of, read_one
from eventvault.kafka.messages import KafkaRecord, to_draft
from eventvault.kafka.publish import messages
from eventvault.kafka.publish.messages import Outgoing

INSTANT = 1_700_000_000_000_000


def recorded(attributes: dict[str, Any]) -> bytes:
    sent = read_one(orjson.dumps(attributes), "the event")
    assert not problems_of([sent])
    return event.recorded_body(event.draft(sent.attributes, INSTANT, sent.text).body, 7, INSTANT)


def taken_again(message: Outgoing) -> bytes:
    """The event that a consumer makes of a message, as it would be recorded."""
    record = KafkaRecord("t", 0, 0, 1, message.key, message.value, [(name, value) for name, value in message.headers])
    return event.recorded_body(to_draft(record).body, 7, INSTANT)


@pytest.mark.parametrize(
    "attributes",
    [
        {"type": "order.created", "data": {"total": 19.90, "名": "é"}},
        {"type": "t", "subject": 'Größe "x" \\ ü', "id": "a/b c", "source": "urn:x", "time": "2026-01-01T00:00:00Z"},
        {"type": "t", "data": None},
        {"type": "t", "data": [1, 2], "datacontenttype": "application/vnd.x+json"},
        {"type": "t", "data": "a text", "datacontenttype": "text/plain"},
        {"type": "t", "data": "größer", "datacontenttype": "text/plain; charset=UTF-8"},
        {"type": "t", "data_base64": "AAECAw==", "datacontenttype": "image/png"},
        {"type": "t", "dataschema": "urn:schema", "ext1": "text", "number": 5, "flag": True},
        {"type": "t"},
    ],
)
def test_a_consumer_gets_the_same_event(attributes: dict[str, Any]) -> None:
    body = recorded(attributes)
    again = taken_again(messages.outgoing(body))
    assert event.indexed_of(again) == event.indexed_of(body)
    assert not event.differs(body, _as_text(again), ("specversion", "time", "datacontenttype"))


def _as_text(body: bytes) -> bytes:
    """Header values are texts: a number or a truth value comes back as its text."""
    attributes = orjson.loads(body)
    texts = {"number": {"5": 5}, "flag": {"true": True}}
    sent = {name: value for name, value in attributes.items() if name not in ("sequence", "recordedtime")}
    return orjson.dumps({name: texts[name][value] if name in texts else value for name, value in sent.items()})


@pytest.mark.slow
@given(
    data=st.recursive(
        st.none() | st.booleans() | st.integers() | st.text(), lambda inner: st.lists(inner), max_leaves=8
    )
)
def test_data_comes_back_digit_for_digit(data: Any) -> None:
    text = json.dumps(data).encode()
    sent = read_one(b'{"type":"t","id":"1","data":%s}' % text, "the event")
    body = event.recorded_body(event.draft(sent.attributes, INSTANT, sent.text).body, 7, INSTANT)
    message = messages.outgoing(body)
    assert message.value == bytes(event.raw_attributes(body)["data"])
    assert event.raw_attributes(taken_again(message))["data"] == event.raw_attributes(body)["data"]


_TEXTS = st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=20)


@pytest.mark.slow
@given(
    attributes=st.fixed_dictionaries(
        {"type": _TEXTS, "id": _TEXTS, "source": _TEXTS},
        optional={
            "subject": _TEXTS,
            "data": st.none() | st.text() | st.integers() | st.dictionaries(st.text(), st.integers(), max_size=2),
            "datacontenttype": st.sampled_from(["application/json", "text/plain"]),
            "ext": _TEXTS,
        },
    )
)
def test_ordinary_events_become_the_message_that_any_event_becomes(attributes: dict[str, Any]) -> None:
    body = event.recorded_body(json.dumps({"specversion": "1.0", "time": "t", **attributes}).encode(), 7, INSTANT)
    ordinary, careful = messages.outgoing(body), messages.of_any(body)
    assert (ordinary.key, ordinary.value) == (careful.key, careful.value)
    assert sorted(ordinary.headers) == sorted(careful.headers)


def test_it_has_the_attributes_as_headers_and_the_data_as_value() -> None:
    body = recorded({"type": "t", "id": "1", "source": "s", "subject": "order 1", "data": {"a": 1}})
    message = messages.outgoing(body)
    headers = dict(message.headers)
    assert (message.key, message.value) == (b"order 1", b'{"a":1}')
    assert headers["content-type"] == b"application/json"
    assert {name: headers[f"ce_{name}"] for name in ("specversion", "type", "id", "source", "subject", "sequence")} == {
        "specversion": b"1.0", "type": b"t", "id": b"1", "source": b"s", "subject": b"order 1", "sequence": b"7",
    }  # fmt: skip
    assert "ce_data" not in headers


@pytest.mark.parametrize(
    ("charset", "encoding"),
    [("ISO-8859-1", "latin-1"), ("utf-16", "utf-16"), ("no-such", "utf-8"), ("punycode", "utf-8"), ("IDNA", "utf-8")],
)
def test_a_text_is_encoded_as_its_content_type_says_if_that_takes_no_time(charset: str, encoding: str) -> None:
    text = "ä" * 100_000
    body = recorded({"type": "t", "data": text, "datacontenttype": f"text/plain; charset={charset}"})
    assert messages.outgoing(body).value == text.encode(encoding)


def test_without_a_subject_the_key_is_the_id() -> None:
    assert messages.outgoing(recorded({"type": "t", "id": "order/1"})).key == b"order/1"


def test_without_its_data_it_says_where_the_event_is() -> None:
    body = recorded({"type": "t", "id": "a/ö", "source": "s&t", "data": "x" * 1000, "ext": "y" * 500})
    shorter, shortest = messages.without_data(body), messages.shortest(body)
    assert dict(shorter.headers)["ce_dataref"] == b"/api/events?id=a%2F%C3%B6&source=s%26t"
    assert (shorter.value, dict(shorter.headers)["ce_ext"]) == (b"", b"y" * 500)
    assert "ce_ext" not in dict(shortest.headers)
    assert len(shortest.headers) < len(shorter.headers)
    assert messages.size_of(body) > len(b"".join(value for _, value in messages.outgoing(body).headers)) + 1000
    assert event.indexed_of(taken_again(shorter)) == event.indexed_of(body)

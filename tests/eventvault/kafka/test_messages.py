"""From a Kafka message to an event: the supported forms, and the reasons why others are refused."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import orjson
import pytest
from cloudevents.core.base import BaseCloudEvent
from cloudevents.core.bindings import kafka as oracle
from cloudevents.core.formats.json import JSONFormat
from cloudevents.core.v1.event import CloudEvent
from hypothesis import given
from hypothesis import strategies as st

from eventvault.events import ordinary
from eventvault.kafka import batch
from eventvault.kafka.batch import PartitionBatch
from eventvault.kafka.messages import KafkaRecord, Unreadable, to_draft
from tests.roads import road as road


def record(value: bytes | None, headers: dict[str, bytes | None] | None = None, **changed: Any) -> KafkaRecord:
    given = KafkaRecord("events", 3, 7, 1_767_225_600_123, b"key", value, list((headers or {}).items()))
    return given._replace(**changed)


def attributes(message: KafkaRecord) -> dict[str, Any]:
    found: dict[str, Any] = orjson.loads(to_draft(message).body)
    return found


def test_a_plain_object_needs_a_type_and_the_rest_is_filled_in_from_the_message() -> None:
    event = attributes(record(b'{"type": "a", "data": {"n": 1}}'))
    assert (event["type"], event["data"], event["source"]) == ("a", {"n": 1}, "eventvault")
    assert event["id"].startswith("events/3/7/")
    assert event["time"] == "2026-01-01T00:00:00.123000Z"


def test_the_same_message_read_again_gives_the_same_event() -> None:
    assert to_draft(record(b'{"type": "a"}')) == to_draft(record(b'{"type": "a"}'))


@pytest.mark.parametrize("changed", [{"value": b'{"type":"a"}'}, {"timestamp": 5}, {"offset": 8}, {"partition": 1}])
def test_another_message_never_gets_the_same_id(changed: dict[str, Any]) -> None:
    assert to_draft(record(b'{"type": "a"}')).id != to_draft(record(b'{"type": "a"}')._replace(**changed)).id


def test_an_id_and_a_source_of_its_own_are_kept() -> None:
    draft = to_draft(record(b'{"type": "a", "id": "1", "source": "/s", "subject": "x"}'))
    assert (draft.id, draft.source, draft.subject) == ("1", "/s", "x")


@pytest.mark.parametrize("timestamp", [None, -1, 10**18])
def test_a_message_without_a_usable_timestamp_is_an_event_all_the_same(timestamp: int | None) -> None:
    assert attributes(record(b'{"type": "a"}', timestamp=timestamp))["time"].endswith("Z")


def cloud_event(data: Any, content_type: str) -> CloudEvent:
    return CloudEvent(
        {"id": "ä-1", "source": "/s", "type": "t", "specversion": "1.0", "subject": "x", "traceparent": "00-1",
         "datacontenttype": content_type}, data,
    )  # fmt: skip


def from_oracle(message: oracle.Record) -> KafkaRecord:
    value = message.value if isinstance(message.value, bytes | None) else str(message.value).encode()
    return record(value, dict(message.headers))


@pytest.mark.parametrize("binary", [True, False])
def test_both_modes_are_read_as_the_cloudevents_sdk_writes_them(binary: bool) -> None:
    sent: BaseCloudEvent = cloud_event({"n": [1, "ö"]}, "application/json")
    write = oracle.to_binary if binary else oracle.to_structured
    event = attributes(from_oracle(write(sent, JSONFormat())))
    assert {name: event[name] for name in ("id", "source", "type", "subject", "traceparent", "data")} == {
        "id": "ä-1", "source": "/s", "type": "t", "subject": "x", "traceparent": "00-1", "data": {"n": [1, "ö"]},
    }  # fmt: skip


@pytest.mark.parametrize(
    ("value", "content_type", "expected"),
    [
        (b"plain \xc3\xa4", b"text/plain", {"data": "plain ä"}),
        (b"\xff\xfe", b"text/plain", {"data_base64": "//4="}),
        (b"\x00\x01", b"application/octet-stream", {"data_base64": "AAE="}),
        (b"\x00\x01", None, {"data_base64": "AAE="}),
        (b"[1]", b"application/vnd.x+json", {"data": [1]}),
        (b"", b"application/json", {}),
        (None, None, {}),
    ],
)
def test_binary_data_is_kept_as_its_type_says(
    value: bytes | None, content_type: bytes | None, expected: dict[str, Any]
) -> None:
    headers = {"ce_specversion": b"1.0", "ce_id": b"1", "ce_source": b"/s", "ce_type": b"t"}
    event = attributes(record(value, {**headers, **({"content-type": content_type} if content_type else {})}))
    assert {name: event[name] for name in event if name.startswith("data") and name != "datacontenttype"} == expected


def test_attributes_in_headers_are_taken_as_they_are() -> None:
    """Kafka's binding has no percent-encoding and no quotes."""
    sent = {"source": "/js/%E2%82%ACuro%20path", "id": '"%41"', "subject": "100 % ü %FF", "dataschema": "/%2525"}
    headers = {f"ce_{name}": text.encode() for name, text in {"type": "t", **sent}.items()}
    binary = attributes(record(None, dict(headers)))
    structured = attributes(record(orjson.dumps({"type": "t", **sent})))
    assert {name: binary[name] for name in sent} == sent == {name: structured[name] for name in sent}


@pytest.mark.parametrize(("first", "second"), [("ce_type", "ce_type"), ("ce_id", "CE_ID"), ("ce_x", "Ce_x")])
def test_a_repeated_attribute_is_refused(first: str, second: str) -> None:
    headers: list[tuple[str, bytes | None]] = [("ce_source", b"/s"), (first, b"a"), (second, b"b"), ("other", b"1")]
    with pytest.raises(Unreadable, match=f"{first} is repeated"):
        to_draft(record(b"")._replace(headers=headers))


def test_another_header_may_be_repeated() -> None:
    headers: list[tuple[str, bytes | None]] = [("ce_type", b"t"), ("trace", b"1"), ("trace", b"2")]
    assert attributes(record(None)._replace(headers=headers))["type"] == "t"


@pytest.mark.parametrize(
    ("value", "headers", "words"),
    [
        (None, {}, "no value"),
        (b"", {}, "not JSON"),
        (b"{", {}, "not JSON"),
        (b'"\xff"', {}, "not UTF-8"),
        (b"[1]", {}, "not an object"),
        (b"[" * 100_000, {}, "nested too deeply"),
        (b"{}", {}, "type"),
        (b'{"type": ""}', {}, "type"),
        (b'{"type": "a", "time": "yesterday"}', {}, "time"),
        (b'{"type": "a", "NotAName": 1}', {}, "NotAName"),
        (b"{}", {"content-type": b"application/cloudevents-batch+json"}, "cloudevents-batch"),
        (b"{}", {"content-type": b"application/cloudevents+avro"}, "avro"),
        (b"{}", {"content-type": b"application/cloudevents+json; charset=klingon"}, "charset"),
        (b"x", {"ce_type": b"a", "content-type": b"application/json"}, "the data is not JSON"),
        (b"x", {"ce_id": b"1"}, "type"),
        (b"x", {"ce_type": b"\xff"}, "ce_type is not UTF-8"),
        (b"x", {"ce_type": b"a", "ce_data": b"1"}, "ce_data is not allowed"),
    ],
)
def test_what_is_not_an_event_is_refused_with_the_reason(
    value: bytes | None, headers: dict[str, bytes | None], words: str
) -> None:
    with pytest.raises(Unreadable, match=words):
        to_draft(record(value, headers))


@pytest.mark.parametrize("data", [b'{"a":1,"a":1}', b'[{"b":{"a":1,"\\u0061":2}}]', b'"\\ud800"'])
def test_what_readers_understand_differently_becomes_a_dead_letter_and_the_next_message_an_event(data: bytes) -> None:
    binary = {"ce_type": b"t", "content-type": b"application/json"}
    structured = {"content-type": b"application/cloudevents+json"}
    body = b'{"type":"t","data":%s}'
    messages = [
        record(body % data, offset=1), record(body % data, structured, offset=2), record(data, binary, offset=3),
        record(b'{"type":"t","type":"u"}', offset=4), record(body % b"1.10", offset=5),
    ]  # fmt: skip
    batch = PartitionBatch(messages)
    assert [message.offset for message, _ in batch.letters] == [1, 2, 3, 4]
    assert [(offset, b'"data":1.10' in draft.body) for offset, draft in batch.drafts] == [(5, True)]
    assert all("twice" in reason or "surrogate" in reason for _, reason in batch.letters)


@pytest.mark.parametrize("error", [ValueError("v"), KeyError("k"), RecursionError("deep"), ZeroDivisionError("z")])
def test_any_error_in_making_an_event_is_a_dead_letter_and_stops_no_other_message(
    monkeypatch: pytest.MonkeyPatch, error: Exception
) -> None:
    def failing(message: KafkaRecord, *, strict: bool) -> Any:
        if message.offset == 7:
            raise error
        return to_draft(message, strict=strict)

    def failing_together(_: Sequence[KafkaRecord]) -> Any:
        raise error

    monkeypatch.setattr(batch, "to_draft", failing)
    monkeypatch.setattr(batch, "to_drafts", failing_together)
    made = PartitionBatch([record(b'{"type": "a"}'), record(b'{"type": "b"}', offset=8)])
    ((message, reason),) = made.letters
    assert (message.offset, [offset for offset, _ in made.drafts]) == (7, [8])
    assert type(error).__name__ in reason


@pytest.mark.parametrize("way", ["to_draft", "to_drafts"])
def test_a_lack_of_memory_is_not_the_messages_fault(way: str, monkeypatch: pytest.MonkeyPatch) -> None:
    def failing(_: object, **_options: object) -> Any:
        raise MemoryError

    monkeypatch.setattr(batch, way, failing)
    monkeypatch.setattr(ordinary, "read_complete", lambda texts: [None] * len(texts))
    with pytest.raises(MemoryError):
        PartitionBatch([record(b'{"type": "a"}')])


BODIES = [
    b'{"type":"a"}', b'{"type":"a","id":"1","data":{"n":1.50}}', b'{"type": "a", "data": {"n": "\xc3\xbc"}}', b"{}",
    b"", None, b"\xef\xbb\xbf" + b'{"type":"a"}', '{"type":"ä"}'.encode("latin-1"), '{"type":"a"}'.encode("utf-16"),
    b'{"type":"a","data":"\xff"}',
]  # fmt: skip
HEADERS = st.tuples(
    st.sampled_from(["content-type", "Content-Type", "ce_type", "CE_id", "ce_data", "traceparent", "ce-type"]),
    st.sampled_from([
        b"application/json", b"application/cloudevents+json", b"application/cloudevents+json; charset=utf-16",
        b"application/cloudevents-batch+json", b"text/plain; charset=latin-1", b"a", b"\xff", b"", None,
    ]),
)  # fmt: skip


@pytest.mark.slow
@given(
    st.lists(st.tuples(st.sampled_from(BODIES), st.lists(HEADERS, max_size=3), st.sampled_from([None, "unreadable"])))
)
def test_a_batch_makes_of_each_message_what_it_is_by_itself(made: list[tuple[Any, Any, Any]]) -> None:
    messages = [
        record(value, offset=number)._replace(headers=headers, problem=problem)
        for number, (value, headers, problem) in enumerate(made)
    ]
    batch = PartitionBatch(messages) if messages else None
    drafts, letters = [], []
    for message in messages:
        try:
            drafts.append((message.offset, to_draft(message, strict=True)))
        except Unreadable as reason:
            letters.append((message, str(reason)))
    assert batch is None or (batch.drafts, batch.letters) == (drafts, letters)

"""Events as they were sent: `data` keeps its text in each mode, and what readers understand differently is refused."""

from __future__ import annotations

import json
import time

import msgspec
import orjson
import pytest
from hypothesis import given

from eventvault import json_text
from eventvault.errors import InvalidInput, MalformedInput, TooLarge
from eventvault.events import cloudevents_http, event, sent
from eventvault.events.event import raw_attributes
from eventvault.kafka.messages import KafkaRecord, Unreadable, to_draft
from eventvault.restore.strict_events import StrictEvents
from tests.json_texts import JSON_TEXTS, Text
from tests.roads import road as road

HEADERS = {"ce-type": "t", "ce-id": "1"}
STRUCTURED = {
    "one": '{"type":"t","id":"1","data":%s}',
    "data first": ' { "data" : %s , "type" : "t" , "id" : "1" } ',
    "array": '[ {"type":"t","id":"0"},{"type":"t","id":"1","data":%s}]',
    "attributes that are dropped": '{"subject":null,"sequence":7,"data":%s,"recordedtime":"x","type":"t","id":"1"}',
    "every attribute": '{"specversion":"1.0","id":"1","source":"/s","type":"t","time":"2026-01-01T00:00:00Z",'
    '"datacontenttype":"a/b","data":%s,"extra":1.0}',
}
KAFKA = KafkaRecord("events", 0, 1, 1_700_000_000_000, None, None, [])


def stored(body: str, content_type: str | None = None, headers: dict[str, str] | None = None) -> list[bytes]:
    posted = cloudevents_http.parse(body.encode(), content_type, headers or {})
    assert not sent.problems_of(posted.events)
    drafts = [each.draft(1) for each in posted.events]
    return [event.recorded_body(draft.body, number, 1) for number, draft in enumerate(drafts, 1)]


def data_of(value: bytes) -> str:
    """Return the text of `data`, with a strict reader's word that the event is JSON."""
    json.loads(value)
    assert b"\n" not in value
    return bytes(raw_attributes(value)["data"]).decode()


@pytest.mark.slow
@given(JSON_TEXTS)
def test_data_comes_out_as_it_went_in_over_http(text: Text) -> None:
    for form in STRUCTURED.values():
        assert data_of(stored(form % text.sent)[-1]) == text.compact
    assert data_of(stored(text.sent, "application/json", HEADERS)[0]) == text.compact
    line = STRUCTURED["one"] % text.compact
    lines = stored(f'{line}\n\n  {{"type":"t"}}\r\n{line}', "application/x-ndjson")
    assert [data_of(lines[index]) for index in (0, 2)] == [text.compact, text.compact]


@pytest.mark.slow
@given(JSON_TEXTS)
def test_data_comes_out_as_it_went_in_over_kafka(text: Text) -> None:
    for name in STRUCTURED.keys() - {"array"}:
        draft = to_draft(KAFKA._replace(value=(STRUCTURED[name] % text.sent).encode()))
        assert data_of(event.recorded_body(draft.body, 1, 1)) == text.compact
    headers = [("ce_type", b"t"), ("content-type", b"application/json")]
    binary = to_draft(KAFKA._replace(value=text.sent.encode(), headers=list(headers)))
    assert data_of(event.recorded_body(binary.body, 1, 1)) == text.compact


@pytest.mark.slow
@given(JSON_TEXTS)
def test_an_export_that_is_posted_elsewhere_keeps_its_bytes(text: Text) -> None:
    (value,) = stored(STRUCTURED["one"] % text.sent)
    (again,) = stored(value.decode(), "application/x-ndjson")
    assert again == value


@pytest.mark.slow
@given(JSON_TEXTS)
def test_an_event_of_any_text_passes_the_strict_check_of_archives_made_elsewhere(text: Text) -> None:
    for form in (*STRUCTURED.values(), '{"\\u0074ype":"\\u0074","\\u0069d":"1","data":%s}'):
        for sequence, value in enumerate(stored(form % text.sent), 1):
            assert StrictEvents(1).check(sequence, value).type == "t"


@pytest.mark.slow
@given(JSON_TEXTS)
def test_the_same_text_sent_again_does_not_differ(text: Text) -> None:
    (value,) = stored(STRUCTURED["one"] % text.sent)
    posted = cloudevents_http.parse((STRUCTURED["one"] % text.compact).encode(), None, {}).events
    draft = posted[0].draft(2)
    assert not event.differs(value, draft.body, draft.filled)


def test_each_attribute_keeps_its_text() -> None:
    (value,) = stored('{"type":"caf\\u00e9","id":"\\/1","level":1.0,"traceparent":"00-\\u0041","other":1e2}')
    assert b'"type":"caf\\u00e9","id":"\\/1","level":1.0,"traceparent":"00-\\u0041","other":1e2' in value
    draft = cloudevents_http.parse(b'{"type":"caf\\u00e9","id":"\\/1"}', None, {}).events[0]
    made = draft.draft(1)
    assert (made.type, made.id) == ("café", "/1")


def test_what_is_filled_in_stands_in_front() -> None:
    (value,) = stored('{"type":"t","id":null,"subject":null,"data":null}')
    attributes = orjson.loads(value)
    assert list(attributes)[:5] == ["specversion", "time", "id", "source", "datacontenttype"]
    assert list(attributes)[5:] == ["type", "data", "sequence", "recordedtime"]
    assert value.count(b'"id"') == 1


@pytest.mark.parametrize(
    ("body", "field"),
    [
        ('{"type":"t","type":"u"}', "event"),
        ('{"type":"t","\\u0074ype":"u"}', "event"),
        ('{"type":"t","data":{"a":1,"a":2}}', "data"),
        ('{"type":"t","data":[{"b":{"a":1,"\\u0061":2}}]}', "data"),
        ('{"data":{"a":1},"type":"t","data":{"a":1}}', "event"),
        ('{"type":"t","data":"\\ud800"}', "event"),
        ('{"type":"t","data":' + "[" * 501 + "]" * 501 + "}", "data"),
        ('{"type":"t","extra":{"a":1,"a":2}}', "extra"),
    ],
)
def test_what_readers_understand_differently_is_refused(body: str, field: str) -> None:
    (refused,) = cloudevents_http.parse(body.encode(), None, {}).events
    assert [problem.field for problem in sent.problems_of([refused])[0]] == [field]
    with pytest.raises(Unreadable):
        to_draft(KAFKA._replace(value=body.encode()), strict=True)


def test_a_message_that_nobody_stores_has_its_data_as_it_came() -> None:
    text = b'{"type":"t","data":{"a":1.0, "a":2.50},"subject":"s"}'
    draft = to_draft(KAFKA._replace(value=text))
    assert b'"data":{"a":1.0,"a":2.50}' in draft.body
    for more in (b'"type":"u"', b'"data":1', b'"subject":{"a":1,"a":2}', b'"data":{"a":1.0, "a":2.50}', b'"N":1'):
        with pytest.raises(Unreadable):
            to_draft(KAFKA._replace(value=text[:-1] + b"," + more + b"}"))


@pytest.mark.parametrize("content_type", ["application/json", "application/x-ndjson"])
def test_refused_events_are_named_by_their_index(content_type: str) -> None:
    each = [
        '{"type":"t"}',
        '{"type":"t","data":{"a":1,"a":1}}',
        '{"type":5}',
        '{"type":"t","data":1e999}',
        '{"a":1,"a":1}',
    ]
    body = "\n".join(each) if "nd" in content_type else f"[{','.join(each)}]"
    posted = cloudevents_http.parse(body.encode(), content_type, {})
    problems = sent.problems_of(posted.events)
    assert {index: found[0].field for index, found in problems.items()} == {1: "data", 2: "type", 4: "event"}


@pytest.mark.slow
@pytest.mark.parametrize("content_type", ["application/json", "application/x-ndjson"])
def test_of_many_refused_events_some_are_described(content_type: str) -> None:
    each = ['{"type":"t"}', *['{"type":"t","data":{"a":1,"a":1}}'] * 50_000]
    body = "\n".join(each) if "nd" in content_type else f"[{','.join(each)}]"
    began = time.process_time()
    posted = cloudevents_http.parse(body.encode(), content_type, {})
    assert time.process_time() - began < 5, "seconds of CPU time: it takes a fraction of one"
    assert len(posted.events) == len(each)
    assert list(sent.problems_of(posted.events)) == list(range(1, 1 + sent.MAX_REFUSED))


@pytest.mark.parametrize("data", ['{"a":1,"a":2}', '"\\ud800"', "[" * 501 + "]" * 501])
def test_binary_mode_refuses_the_same(data: str) -> None:
    with pytest.raises(InvalidInput) as caught:
        cloudevents_http.parse(data.encode(), "application/json", HEADERS)
    assert set(caught.value.details["fields"]) == {"data"}
    with pytest.raises(Unreadable):
        to_draft(KAFKA._replace(value=data.encode(), headers=[("ce_type", b"t"), ("content-type", b"text/json")]))


def test_an_array_with_a_lone_surrogate_is_refused() -> None:
    with pytest.raises(InvalidInput, match="surrogate"):
        cloudevents_http.parse(b'[{"type":"t"},{"type":"t","data":"\\udc00"}]', None, {})


DEEP = b"[" * 2**21


@pytest.mark.parametrize("text", [DEEP, b'[{"type":"t","data":' + DEEP], ids=["array", "data"])
@pytest.mark.parametrize("content_type", [None, "application/cloudevents-batch+json", "application/x-ndjson"])
def test_an_array_that_is_nested_too_deeply_to_be_split_is_refused(text: bytes, content_type: str | None) -> None:
    """So many brackets are more than the values that are parsed at once, so the array would be split."""
    assert json_text.has_too_many_values(text)
    with pytest.raises((MalformedInput, TooLarge)) as caught:
        cloudevents_http.parse(text, content_type, {})
    assert caught.value.hint


def test_the_id_of_a_message_replaces_none_and_null() -> None:
    for body in (b'{"type":"t","data":1.10}', b'{"id":null,"type":"t","data":1.10}'):
        draft = to_draft(KAFKA._replace(value=body))
        assert draft.body.count(b'"id"') == 1
        assert msgspec.json.decode(draft.body)["id"] == draft.id
        assert b'"data":1.10' in draft.body

"""Ordinary events: what is recognised is what the careful reader makes of it, and what it refuses is not recognised."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

import msgspec
import orjson
import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from eventvault.errors import EventVaultError
from eventvault.events import cloudevents_http, event, ordinary, sent
from eventvault.events.event import EventDraft
from eventvault.events.ordinary import Envelope, OrdinaryArray, OrdinaryEvent
from eventvault.events.schema import EventSchema
from eventvault.events.sent import SentEvent
from tests.json_texts import JSON_TEXTS, Text

FULL = {
    "specversion": "1.0", "id": "order-4711", "source": "/shop/berlin", "type": "com.example.order.created",
    "subject": "orders/4711", "time": "2026-01-31T12:34:56.789Z", "datacontenttype": "application/json",
    "dataschema": "https://example.com/order.json", "traceparent": "00-4bf9-00f0-01", "data": {"total": 19.9},
}  # fmt: skip
STAMP = b',"sequence":7,"recordedtime":"2026-01-31T12:34:56.789012Z"}'
MARKS = [
    b'"',
    b"\\",
    b"{",
    b"}",
    b"[",
    b"]",
    b",",
    b":",
    b" ",
    b"\n",
    b"0",
    b"-",
    b"\x7f",
    b"\xff",
    b"\xed\xa0\x80",
    b"\0",
]


def refused(text: bytes) -> bool:
    """Return whether the careful reader refuses a text."""
    try:
        return bool(sent.problems_of([sent.read_one(text)]))
    except EventVaultError:
        return True


def assert_equal(found: OrdinaryEvent, text: bytes) -> None:
    """The careful reader makes the same event of the text, with the same bytes, whatever is filled in."""
    read = sent.read_one(text)
    assert not sent.problems_of([read])
    assert (found.attributes, found.text) == (read.attributes, read.text)
    assert found.attribute_count == read.attribute_count
    assert found.sent_id == read.sent_id
    if found.sent_id is not None:
        assert found.draft(1) == read.draft(1)
        return
    for first in (True, False):
        assert found.with_id("é-1", first=first).draft(1) == read.with_id("é-1", first=first).draft(1)
    assert without_id(found.draft(1)) == without_id(read.draft(1))


def without_id(draft: EventDraft) -> EventDraft:
    """Return the draft without its id, if that was filled in: each call makes another one."""
    if "id" not in draft.filled:
        return draft
    assert draft.body.count(draft.id.encode()) == 1
    return msgspec.structs.replace(draft, id="", body=draft.body.replace(draft.id.encode(), b""))


def check_drafts(array: OrdinaryArray) -> None:
    """The drafts that are made at once are those of each event, and each has an id of its own."""
    made = sent.drafts_of(array, 1)
    assert list(map(without_id, made)) == [without_id(each.draft(1)) for each in array]
    filled_in = [draft.id for draft in made if "id" in draft.filled]
    assert len(set(filled_in)) == len(filled_in)


def check(texts: Sequence[bytes]) -> list[OrdinaryEvent | None]:
    found = ordinary.read_many(texts)
    assert len(found) == len(texts)
    for each, draft in zip(found, ordinary.read_complete(texts), strict=True):
        if not isinstance(draft, EventDraft):
            assert draft == each
        else:
            assert each is not None
            assert draft == each.draft(1)
    for each, text in zip(found, texts, strict=True):
        if each is not None:
            assert_equal(each, text)
    return found


NAMES = st.sampled_from([*Envelope.__struct_fields__, "data_base64", "other", "Upper", "x" * 65, "typ\\u0065", ""])
TEXTS = st.one_of(
    st.sampled_from(["a", "1.0", "/s", "x y", "", "é", "\x7f", "\x85", "\u2028", "a\u00ad", "application/json", "a/b;c",
                     "text", "x" * 2048, "x" * 2049, "é" * 2048, "😀" * 2048]),
    st.text(max_size=8),
)  # fmt: skip
TIMES = st.one_of(
    st.sampled_from(["2026-01-31T12:34:56Z", "2026-02-30T00:00:00Z", "2024-02-29t00:00:00z", "2026-01-01 00:00:00Z",
                     "2026-06-30T23:59:60Z", "0000-01-01T00:00:00Z", "2026-01-01T00:00:00", "20260101T000000Z",
                     "2026-01-01T00:00:00.1234567890123456789+23:59", "2026-01-01T00:00:00-24:00", "yesterday"]),
    st.from_regex(r"\d{4}-\d\d-\d\d[Tt ]\d\d:\d\d:\d\d(\.\d{0,12})?([Zz]|[+-]\d\d:?\d\d)?", fullmatch=True),
)  # fmt: skip
VALUES = st.one_of(
    TEXTS.map(lambda text: json.dumps(text, ensure_ascii=False)),
    TEXTS.map(json.dumps),
    TIMES.map(json.dumps),
    st.sampled_from(["null", "true", "7", "-0", "1.0", "1e400", "18446744073709551616", "[]", "{}"]),
)


@st.composite
def events(draw: st.DrawFn) -> bytes:
    """Texts of events: most of them good, or nearly so."""
    members = {"type": '"t"'}
    for name in draw(st.lists(st.sampled_from(sorted(FULL)), max_size=6)):
        members[name] = json.dumps(FULL[name])
    if draw(st.booleans()):
        members["time"] = json.dumps(draw(TIMES))
    pairs = list(members.items())
    if draw(st.booleans()):
        text: Text = draw(JSON_TEXTS)
        pairs.append(("data", draw(st.sampled_from([text.sent, text.compact]))))
    if draw(st.integers(0, 3)) == 0:
        pairs.append((draw(NAMES), draw(VALUES)))
    pairs = draw(st.permutations(pairs))
    comma, colon = draw(st.sampled_from([(",", ":"), (",", ":"), (", ", ": "), (" ,\n", "\t: ")]))
    body = "{" + comma.join(f'"{name}"{colon}{value}' for name, value in pairs) + "}"
    end = STAMP.decode() if draw(st.integers(0, 3)) == 0 else "}"
    return (body[:-1] + end).encode(errors="surrogatepass")


@st.composite
def mutated(draw: st.DrawFn) -> bytes:
    text = draw(events())
    for _ in range(draw(st.integers(0, 2))):
        start = draw(st.integers(0, len(text)))
        end = min(len(text), start + draw(st.sampled_from([0, 0, 1, 1, 5, 40])))
        put = draw(st.one_of(st.sampled_from(MARKS), st.binary(max_size=3), st.just(text[start:end] * 2)))
        text = text[:start] + put + text[end:]
    return text


@pytest.mark.slow
@settings(max_examples=400)
@given(mutated())
@example(b'{"type":"a"},{"type":"b"}')
@example(b'{"type":"a","type":"a"}')
@example(b'{"type":"a","data":{"a":1,"a":1}}')
@example(b'{"type":"a","data":1,"data":1}')
@example(b'{"type":"a","data":"\\ud800"}')
@example(b'{"type":"a","data":"\xff"}')
@example(b'{"type":"a","id":"1","sequence":07,"recordedtime":"x"}')
def test_a_text_is_recognised_only_if_the_careful_reader_makes_the_same_event_of_it(text: bytes) -> None:
    (found,) = check([text])
    assert found is None or not refused(text)


@settings(suppress_health_check=[HealthCheck.too_slow])  # the texts take a second on a busy machine
@given(st.lists(mutated(), max_size=25))
def test_each_text_is_read_by_itself_whatever_comes_with_it(texts: list[bytes]) -> None:
    check(texts)
    array = b"[" + b",".join(texts) + b"]"
    many = ordinary.read_array(array)
    if many is not None:
        for each, element in zip(many, msgspec.json.decode(array, type=list[msgspec.Raw]), strict=True):
            assert_equal(each, bytes(element))
        check_drafts(many)


@pytest.mark.parametrize(
    "texts",
    [
        [b'{"type":"a","data":[{}', b'{}]}', b'{"type":"b"},{"type":"c"}'],
        [b'{"type":"a","data":"', b'"}', b'{"type":"b"},{"type":"c"}'],
        [b'{"type":"a"', b'"id":"1"}', b'{"type":"b"},{"type":"c"}'],
        [b"", b'{"type":"b"},{"type":"c"}'],
        [b'{"type":"a"}]', b'[{"type":"b"}'],
    ],
)  # fmt: skip
def test_texts_that_are_an_array_only_together_are_no_events(texts: list[bytes]) -> None:
    assert ordinary.read_many(texts) == [None] * len(texts)


def spaced(attributes: dict[str, Any]) -> bytes:
    return json.dumps(attributes, ensure_ascii=False).encode()


@pytest.mark.parametrize("number", [1, 3, 250])
@pytest.mark.parametrize("form", [orjson.dumps, spaced])
@pytest.mark.parametrize(
    "attributes",
    [
        {"type": "a"},
        FULL,
        dict(reversed(FULL.items())),
        {"type": "café", "subject": "日本", "id": "ü", "source": "/é"},
        {"type": "a", "data": None},
        {"type": "a", "data": 'line\nline "quoted" é 😀 \x7f\x00'},
        {"type": "a", "data": [{"a": 1}, {"a": 2, "b": {"a": [1.5, -3, 1e30]}}, [], {}, True, None]},
        {"type": "a", "time": "2026-01-31T12:34:56+01:00", "datacontenttype": "application/vnd.x+json; charset=utf-8"},
    ],
)
def test_what_many_senders_send_is_recognised(attributes: dict[str, Any], form: Any, number: int) -> None:
    found = check([form(attributes)] * number)
    assert None not in found
    array = ordinary.read_array(b"[" + b",".join([form(attributes)] * number) + b"]")
    assert array is not None
    assert [each.text for each in array] == [each.text for each in found if each is not None]
    check_drafts(array)


@pytest.mark.parametrize("name", ["specversion", "id", "source", "time", "datacontenttype", "data", "subject"])
@pytest.mark.parametrize("lack", ["all", "some", "others"])
def test_the_drafts_of_an_array_are_those_of_each_event_whatever_they_lack(name: str, lack: str) -> None:
    """`some`: every third event lacks the attribute. `others`: all have only that one, beside their type."""
    texts = []
    for number in range(250):
        attributes = {**FULL, "id": f"order-%s-{number}"}
        if lack == "others":
            attributes = {"type": "a", name: attributes[name]}
        elif lack == "all" or number % 3 == 0:
            del attributes[name]
        texts.append(orjson.dumps(attributes))
    array = ordinary.read_array(b"[" + b",".join(texts) + b"]")
    assert array is not None
    check_drafts(array)


def test_the_drafts_of_an_array_are_without_the_stamps_of_an_export() -> None:
    draft = event.draft(FULL, 1)
    lines = [event.recorded_body(draft.body, number, 1_767_225_600_123_456) for number in range(1, 150)]
    array = ordinary.read_array(b"[" + b",".join(lines) + b"]")
    assert array is not None
    assert [each.body for each in sent.drafts_of(array, 5)] == [draft.body] * 149


@pytest.mark.parametrize("first", [orjson.dumps, spaced])
def test_texts_with_and_without_white_space_are_recognised_together(first: Any) -> None:
    forms = [first, orjson.dumps, spaced]
    assert None not in check([forms[number % 3]({**FULL, "id": str(number)}) for number in range(200)])


@pytest.mark.slow
@pytest.mark.parametrize("name", ["id", "source", "type", "subject", "dataschema"])
def test_a_character_that_the_schema_refuses_is_found_in_each_attribute(name: str) -> None:
    """All of one and two bytes in UTF-8, and some of more: in the midst of others."""
    characters = [*range(0x800), 0x2028, 0xD7FF, 0xE000, 0xFFFF, 0x1F600]
    texts = [spaced({**FULL, name: f"a{chr(number)}z"}) for number in characters]
    found = [ordinary.read_many([text])[0] for text in texts]
    assert [each is None for each in found] == [refused(text) for text in texts]


def test_events_that_are_stored_as_they_were_sent_are_drafts_at_once() -> None:
    """Those of a portion: if one of them lacks an attribute, the events come, whose drafts may be filled in."""
    whole = [spaced({**FULL, "id": str(number)}) for number in range(2 * ordinary.TOGETHER)]
    some = [*whole[: ordinary.TOGETHER], spaced({"type": "a"})]

    assert all(isinstance(each, EventDraft) for each in ordinary.read_complete(whole))
    assert [type(each) for each in ordinary.read_complete(some)[-2:]] == [EventDraft, OrdinaryEvent]
    assert check(whole + some)


def test_the_lines_of_an_export_are_recognised() -> None:
    draft = event.draft(FULL, 1)
    lines = [event.recorded_body(draft.body, number, 1_767_225_600_123_456) for number in (1, 10**15)]
    assert [each.draft(5).body for each in check(lines) if each is not None] == [draft.body] * 2


@pytest.mark.parametrize(
    "text",
    [
        b'{"type":"a","sequence":1}',
        b'{"type":"a","id":"1","recordedtime":"x"}',
        b'{"type":"a","sequence":1,"recordedtime":"x"}',
        b'{"sequence":1,"recordedtime":"x","type":"a","id":"1"}',
        b'{"type":"a","id":"1","recordedtime":"x","sequence":1}',
        b'{"type":"a","id":"1","sequence":1,"recordedtime":"\\u0007"}',
    ],
)
def test_attributes_of_the_registry_elsewhere_than_in_an_export_are_read_carefully(text: bytes) -> None:
    assert ordinary.read_many([text]) == [None]
    assert not refused(text)


def test_a_few_odd_events_leave_the_others_of_their_batch_ordinary() -> None:
    texts = [b'{"type":"a","id":"%d"}' % number for number in range(1000)]
    for place in (0, 55, 999):
        texts[place] = b'{"type":"a","data_base64":"aGk="}'
    found = check(texts)
    assert sum(each is not None for each in found) >= 970
    assert all(found[place] is None for place in (0, 55, 999))


def test_no_text_is_too_large_or_too_deep_to_be_handed_over() -> None:
    large = b'{"type":"a","data":"%b"}' % (b"x" * 2**20)
    deep = b'{"type":"a","data":%b%b}' % (b"[" * 100_000, b"]" * 100_000)
    allowed = b'{"type":"a","data":%b%b}' % (b"[" * 500, b"]" * 500)
    beyond = b'{"type":"a","data":%b%b}' % (b"[" * 501, b"]" * 501)
    assert ordinary.read_many([large, deep, beyond]) == [None] * 3
    check([allowed])


def test_every_attribute_of_the_schema_is_known_but_for_the_data_in_base64() -> None:
    assert set(EventSchema().fields) - {"data_base64"} <= set(Envelope.__struct_fields__)


@pytest.mark.parametrize("content_type", ["application/json", "application/x-ndjson"])
def test_a_body_of_ordinary_events_is_read_so(content_type: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sent, "_event", None)
    bodies = [spaced({**FULL, "id": str(number)}) for number in range(300)]
    body = b"\n".join(bodies) if "nd" in content_type else b"[" + b", ".join(bodies) + b"]"
    posted = cloudevents_http.parse(body, content_type, {})
    assert all(isinstance(each, OrdinaryEvent) for each in posted.events)
    assert not sent.problems_of(posted.events)


def test_problems_are_those_of_the_odd_events_by_their_place_in_the_body() -> None:
    lines = [b'{"type":"a"}'] * 120 + [b'{"type":5}', b'{"type":"a"}', b'{"type":"a","data":1,"data":2}']
    posted = cloudevents_http.parse(b"\n".join(lines), "application/x-ndjson", {})
    assert isinstance(posted.events[0], OrdinaryEvent)
    assert isinstance(posted.events[120], SentEvent)
    assert {index: found[0].field for index, found in sent.problems_of(posted.events).items()} == {
        120: "type", 122: "event",
    }  # fmt: skip

"""One foreign record becomes one event: which members it keeps, what is converted, and that nothing is dropped."""

from __future__ import annotations

import base64
import json
from typing import Any

import orjson
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from eventvault.events import schema
from eventvault.foreign.records import derived_id, map_record, original_key
from tests.eventvault.foreign.original_value import original_value

FULL = {
    "id": "1", "type": "order.created", "timestamp": "2024-12-27T12:00:00.000Z", "source": "/shop",
    "subject": "orders/1", "data": {"total": 19.9},
}  # fmt: skip


def event_of(record: Any, key: bytes = b"the-key") -> dict[str, Any]:
    value = record if isinstance(record, bytes) else json.dumps(record, separators=(",", ":")).encode()
    event: dict[str, Any] = orjson.loads(map_record(key, value).draft.body)
    return event


def test_a_full_event_is_taken_over() -> None:
    assert event_of(FULL) == {
        "specversion": "1.0", "id": "1", "type": "order.created", "time": "2024-12-27T12:00:00.000Z", "source": "/shop",
        "subject": "orders/1", "originalkey": "the-key", "datacontenttype": "application/json", "data": {"total": 19.9},
    }  # fmt: skip


def test_the_draft_says_the_same_as_its_body() -> None:
    draft = map_record(b"k", orjson.dumps(FULL)).draft
    assert (draft.source, draft.id, draft.type, draft.subject) == ("/shop", "1", "order.created", "orders/1")


def test_what_a_record_lacks_is_filled_in_and_no_time_is_made_up() -> None:
    assert event_of({}) == {
        "specversion": "1.0", "id": "key:the-key", "type": "foreign.record", "source": "eventvault",
        "originalkey": "the-key",
    }  # fmt: skip


def test_unknown_members_keep_the_record_whole() -> None:
    record = {**FULL, "user": "Ada"}
    event = event_of(record)
    assert (event["data"], event["originalrecord"], event["id"], event["type"]) == (record, True, "1", "order.created")


@pytest.mark.parametrize("record", [42, "text", [1, {"id": "x"}], None, True])
def test_json_that_is_no_object_is_data(record: Any) -> None:
    event = event_of(record)
    assert (event["data"], event["originalrecord"], event["id"]) == (record, True, "key:the-key")


@pytest.mark.parametrize("value", [b"", b"\x00\xff", b'{"id":', b"text", b'{"a":NaN}'])
def test_what_is_not_json_is_kept_as_base64_and_said(value: bytes) -> None:
    mapped = map_record(b"k", value)
    event = orjson.loads(mapped.draft.body)
    assert mapped.not_json
    assert base64.b64decode(event["data_base64"]) == value
    assert (event["datacontenttype"], event["type"], "data" in event) == (
        "application/octet-stream", "foreign.record", False,
    )  # fmt: skip


@pytest.mark.parametrize(
    ("milliseconds", "time"),
    [(1735300800123, "2024-12-27T12:00:00.123Z"), (0, "1970-01-01T00:00:00.000Z"), (-1, "1969-12-31T23:59:59.999Z"),
     (-62135596800000, "0001-01-01T00:00:00.000Z")],
)  # fmt: skip
def test_epoch_milliseconds_become_time_and_data_stays_data(milliseconds: int, time: str) -> None:
    event = event_of({**FULL, "timestamp": milliseconds})
    assert (event["time"], event["data"]) == (time, FULL["data"])
    assert json.loads(event["originalmembers"]) == {"timestamp": milliseconds}


@pytest.mark.parametrize(
    ("timestamp", "time"),
    [("yesterday", None), ("", None), ("2024-12-27", None), ("2024-12-27T12:00:00", None),
     ("2024-02-30T12:00:00Z", None), (8640000000000000, None), (True, None), ({"seconds": 1}, None), ([], None),
     (-1e300, None),
     ("2024-12-27 13:00:00+01:00", "2024-12-27T12:00:00.000Z"), ("20241227T120000.5Z", "2024-12-27T12:00:00.500Z"),
     (1735300800123.5, "2024-12-27T12:00:00.123500Z"), ("9999-12-31 23:59:59-10:00", None)],
)  # fmt: skip
def test_other_times_are_converted_or_left_out_with_the_record_kept_whole(timestamp: Any, time: str | None) -> None:
    record = {**FULL, "timestamp": timestamp}
    event = event_of(record)
    assert event.get("time") == time
    assert (event["data"], event["originalrecord"]) == (record, True)
    assert map_record(b"k", orjson.dumps(record)).timeless == (time is None)


@pytest.mark.parametrize("number", ["1e400", "1e999999999", "-1e999999999", "1" * 5000])
def test_a_time_of_monstrous_size_is_none(number: str) -> None:
    assert "time" not in event_of(b'{"timestamp":%s}' % number.encode())


def test_time_wins_over_timestamp_and_both_are_kept() -> None:
    record = {**FULL, "time": "2025-01-01T00:00:00Z"}
    event = event_of(record)
    assert (event["time"], event["data"]) == ("2025-01-01T00:00:00Z", record)


@pytest.mark.parametrize("name", ["id", "type", "source", "subject"])
@pytest.mark.parametrize(
    ("value", "taken"),
    [(42, "42"), (0.5, "0.5"), (False, "false"), ("a\nb\x9f", "a%0Ab%C2%9F"), ("", None), ({"a": 1}, None), ([], None)],
)
def test_attributes_that_are_none_are_converted_with_the_record_kept_whole(name: str, value: Any, taken: Any) -> None:
    record = {**FULL, name: value}
    event = event_of(record)
    defaults = {"id": "key:the-key", "type": "foreign.record", "source": "eventvault", "subject": None}
    assert event.get(name) == (taken or defaults[name])
    assert (event["data"], event["originalrecord"]) == (record, True)


def test_texts_that_are_too_long_stay_different() -> None:
    one, other = (event_of({**FULL, "id": "x" * 3000 + end})["id"] for end in "ab")
    assert one != other
    assert len(one) == len(other) == schema.LONGEST_TEXT


def test_null_is_not_given() -> None:
    event = event_of({**FULL, "id": None, "subject": None, "timestamp": None})
    assert (event["id"], "subject" in event, "time" in event, event["data"]) == (
        "key:the-key",
        False,
        False,
        FULL["data"],
    )
    assert json.loads(event["originalmembers"]) == {"id": None, "subject": None, "timestamp": None}


def test_data_that_is_null_is_data() -> None:
    assert event_of({**FULL, "data": None})["data"] is None


def test_numbers_keep_every_digit() -> None:
    value = b'{"id":"1","type":"t","data":[123456789012345678901234567890,0.10000000000000000555,1E2]}'
    assert b'"data":[123456789012345678901234567890,0.10000000000000000555,1E2]}' in map_record(b"k", value).draft.body


@pytest.mark.parametrize("data", [b"1e400", b'"\\ud800"', b"[" * 600 + b"]" * 600, b"[" * 9000 + b"]" * 9000])
def test_data_that_common_readers_refuse_is_kept_byte_for_byte(data: bytes) -> None:
    mapped = map_record(b"k", b'{"id":"1","type":"t","data":' + data + b"}")
    event = orjson.loads(mapped.draft.body)
    assert base64.b64decode(event["data_base64"]) == data
    assert (event["datacontenttype"], event["id"], mapped.not_json, mapped.not_embeddable) == (
        "application/json",
        "1",
        False,
        True,
    )


def test_a_name_that_comes_twice_keeps_the_record_whole() -> None:
    value = b'{"id":"1","id":"2","type":"t"}'
    assert b'"data":' + value + b"}" in map_record(b"k", value).draft.body


def test_another_id_keeps_the_own_one() -> None:
    mapped = map_record(b"k", orjson.dumps(FULL), new_id="key:k")
    event = orjson.loads(mapped.draft.body)
    assert (mapped.draft.id, event["id"], event["data"]) == ("key:k", "key:k", FULL["data"])
    assert json.loads(event["originalmembers"]) == {"id": "1"}


@pytest.mark.parametrize(
    ("key", "text"),
    [(b"!events!1", "!events!1"), (b"", ""), ("ü😀".encode(), "ü😀"), (b"a\nb", "a\nb"), (b"\xff\x00", "base64:/wA="),
     (b"base64:/wA=", "base64:YmFzZTY0Oi93QT0=")],
)  # fmt: skip
def test_the_original_key_is_text_or_base64(key: bytes, text: str) -> None:
    assert original_key(key) == text


@pytest.mark.slow
@given(
    st.sets(st.binary(max_size=20) | st.text(max_size=20).map(lambda text: text.encode("utf-8", "replace")), min_size=2)
)
@example({b"k" * 3000 + b"a", b"k" * 3000 + b"b", b"\n", b"%0A", b"base64:Cg==", b"\xff"})
def test_each_key_has_an_id_and_an_original_key_of_its_own(keys: set[bytes]) -> None:
    assert len({derived_id(key) for key in keys}) == len({original_key(key) for key in keys}) == len(keys)


KNOWN = ["id", "type", "timestamp", "time", "source", "subject", "data"]
VALUE = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=4), inner, max_size=3),
    max_leaves=6,
)
TIME = st.datetimes(timezones=st.timezones(no_cache=True) | st.none()).map(lambda time: time.isoformat()) | st.integers(
    min_value=-(10**16), max_value=10**16
)
KNOWN_VALUES = {name: (TIME if name.startswith("time") else st.text(max_size=6)) | VALUE for name in KNOWN}
RECORDS = st.fixed_dictionaries({}, optional=KNOWN_VALUES) | st.dictionaries(st.sampled_from(KNOWN) | st.text(), VALUE)


@pytest.mark.slow
@given(st.binary(max_size=12), RECORDS | VALUE)
def test_any_json_comes_back_from_a_valid_event(key: bytes, record: Any) -> None:
    value = json.dumps(record).encode()
    mapped = map_record(key, value)
    event = check(mapped.draft.body)
    back = original_value(event)
    if isinstance(back, bytes):
        back = json.loads(back)
    if event.get("originalrecord"):
        assert same(back, record)
    else:
        assert same(taken_apart(back, event), taken_apart(record, event))


@pytest.mark.slow
@given(
    st.binary(max_size=12),
    st.binary(max_size=60) | st.text(max_size=60).map(lambda text: text.encode("utf-8", "replace")),
)
@example(b"", b"")
@example(b"\xff", b'{"id":"\\ud800","timestamp":1e400}')
def test_any_bytes_become_a_valid_event(key: bytes, value: bytes) -> None:
    mapped = map_record(key, value)
    event = check(mapped.draft.body)
    if mapped.not_json:
        assert original_value(event) == value


def check(body: bytes) -> dict[str, Any]:
    event: dict[str, Any] = orjson.loads(body)
    assert schema.validate(event) == []
    assert b"\n" not in body
    assert b"\r" not in body
    return event


def taken_apart(record: dict[str, Any], event: dict[str, Any]) -> dict[str, Any]:
    """A record with what was filled in, and with one name for its time."""
    filled = {name: event[name] for name in ("id", "type", "source") if record.get(name) is None}
    time = {name: record[name] for name in ("time", "timestamp") if record.get(name) is not None}
    rest = {name: value for name, value in record.items() if name not in time and (value is not None or name == "data")}
    return {**rest, **filled, "time": next(iter(time.values()), None)}


def same(one: Any, other: Any) -> bool:
    """Equal, and the same kinds of values: True is not 1. Integers beyond 64 bits are floats to a common reader."""
    return json.dumps(one, sort_keys=True) == json.dumps(orjson.loads(json.dumps(other)), sort_keys=True)

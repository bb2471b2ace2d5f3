"""The envelope of an event, its comparison and its memory."""

from __future__ import annotations

import itertools
import os
import subprocess
import sys
from pathlib import Path

import orjson
import pytest

from eventvault.events import event
from tests.processes import own_memory

EVENTS = 20_000
FILLED_IN = {"specversion": "1.0", "time": "1970-01-01T00:00:00.000005Z", "id": "%b", "source": "eventvault"}
PROJECT = Path(__file__).resolve().parents[3]
KEEP_DRAFTS = f"""
import sys
from eventvault.events import event
drafts = [event.draft({{"type": "t", "id": str(n), "data": "x" * 100}}, 0) for n in range({EVENTS})]
print("kept", flush=True)
sys.stdin.read()
"""


@pytest.mark.slow
def test_many_drafts_take_about_as_much_memory_as_their_text() -> None:
    environment = {**os.environ, "PYTHONPATH": str(PROJECT)}
    with subprocess.Popen(
        [sys.executable, "-c", KEEP_DRAFTS], env=environment, stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as keeping:
        assert keeping.stdout is not None
        assert keeping.stdout.readline() == b"kept\n"
        taken = own_memory(keeping.pid)
        keeping.communicate()
    assert taken < 40 * 2**20, f"{taken / EVENTS:,.0f} bytes each, of about 230 characters"


def stored(instant: int, **attributes: object) -> bytes:
    return event.recorded_body(event.draft({"type": "t", "id": "a", **attributes}, instant).body, instant, instant)


@pytest.mark.parametrize("attributes", [{}, {"data": 1}, {"specversion": "1.0"}, {"source": "s", "subject": "s"}])
def test_a_time_that_was_filled_in_does_not_tell_two_events_apart(attributes: dict[str, object]) -> None:
    assert event.same_content(stored(1, **attributes), stored(2, **attributes))
    assert not event.same_content(stored(1, **attributes), stored(2, **{**attributes, "data": 2}))
    assert not event.same_content(stored(1, **attributes), stored(2, **attributes, extension="x"))


@pytest.mark.parametrize("given", [names for count in range(5) for names in itertools.combinations(FILLED_IN, count)])
def test_what_is_filled_in_has_its_order_and_its_bytes(given: tuple[str, ...]) -> None:
    sent = {"type": "100 %b", "data": "%s"} | {name: FILLED_IN[name] for name in given}
    draft = event.draft(sent, 5)
    missing = {name: value for name, value in (FILLED_IN | {"id": draft.id}).items() if name not in given}
    if "datacontenttype" not in given:
        missing["datacontenttype"] = "application/json"
    assert draft.body == orjson.dumps(missing | sent)
    assert (draft.filled, draft.source, draft.type) == (tuple(missing), "eventvault", "100 %b")


@pytest.mark.parametrize("second", ["2026-01-31T12:00:00Z", "2026-01-31T12:00:00.000002Z", None])
def test_a_time_that_a_sender_gave_does(second: str | None) -> None:
    one, other = stored(1, time="2026-01-31T12:00:00.000001Z"), stored(2, **({"time": second} if second else {}))
    assert event.same_content(one, one)
    assert not event.same_content(one, other)
    assert not event.same_content(other, one)


def test_an_event_is_the_same_in_another_order() -> None:
    one = stored(1, data=1)
    assert event.same_content(one, orjson.dumps(dict(reversed(orjson.loads(one).items()))))


DEEP = b"[" * 600 + b"]" * 600


@pytest.mark.parametrize(
    ("one", "other"),
    [
        (b"true", b"1"),
        (b"1", b"1.0"),
        (b"[0]", b"[false]"),
        (b"123456789012345678901234567890", b"123456789012345678901234567891"),
        (DEEP, b"[" + DEEP + b"]"),
    ],
    ids=["true and 1", "1 and 1.0", "0 and false within", "whole numbers beyond 64 bits", "nested deeply"],
)
def test_what_python_takes_for_equal_need_not_be_the_same(one: bytes, other: bytes) -> None:
    kept = b'{"type":"t","id":"a","data":%s}'
    assert event.same_content(kept % one, kept % one)
    assert not event.same_content(kept % one, kept % other)


@pytest.mark.parametrize(
    ("one", "other"),
    [(b'{"a":[1,2],"b":""}', b' {"a" :\t[ 1,\n2 ], "b":""}\r\n'), (b"1.50", b" 1.50"), (b'"a b"', b'"a b" ')],
)
def test_white_space_between_tokens_is_no_difference(one: bytes, other: bytes) -> None:
    kept = b'{"type":"t","id":"a","data":%s}'
    assert event.same_content(kept % one, kept % other)


OTHERWISE_WRITTEN = [
    (b'{"a":1,"b":2}', b'{"b":2,"a":1}'),
    (b"1.5", b"1.50"),
    (b"100.0", b"1e2"),
    ('"é"'.encode(), b'"\\u00e9"'),
    (b"0.12345678901234568", b"0.1234567890123456789"),
    (b'"a b"', b'"a  b"'),
]
"""The same value, or the nearest that a double holds."""


@pytest.mark.parametrize(("one", "other"), OTHERWISE_WRITTEN)
def test_data_differs_if_it_is_written_otherwise(one: bytes, other: bytes) -> None:
    kept = b'{"type":"t","id":"a","data":%s}'
    assert not event.same_content(kept % one, kept % other)
    assert not event.same_content(kept % other, kept % one)


@pytest.mark.parametrize(("kind", "same"), [("text/plain; charset=utf-8", True), ("a/b+json", False), (None, False)])
def test_a_text_that_is_no_json_differs_only_in_its_characters(kind: str | None, same: bool) -> None:
    typed = b"" if kind is None else b',"datacontenttype":"%s"' % kind.encode()
    kept = b'{"type":"t","id":"a"%s,"data":%s}'
    assert event.same_content(kept % (typed, '"é"'.encode()), kept % (typed, b'"\\u00E9"')) == same
    assert not event.same_content(kept % (typed, b'"a"'), kept % (typed, b'"b"'))
    assert not event.same_content(kept % (typed, b"1.5"), kept % (typed, b"1.50"))


@pytest.mark.parametrize(("encoded", "sent"), OTHERWISE_WRITTEN[1:-1])
def test_data_that_an_earlier_version_encoded_is_the_same_as_its_text(encoded: bytes, sent: bytes) -> None:
    kept = b'{"type":"t","id":"a","data":%s}'
    assert event.same_content(kept % encoded, kept % sent, one_encoded=True)
    assert event.same_content(kept % sent, kept % encoded, other_encoded=True)
    assert not event.same_content(kept % sent, kept % encoded, one_encoded=True)


@pytest.mark.parametrize("sent", [b"1e999", b"9" * 40, b"[" * 400 + b"]" * 400])
def test_data_that_an_earlier_version_refused_is_not_the_same_as_what_it_stored(sent: bytes) -> None:
    kept = b'{"type":"t","id":"a","data":%s}'
    assert not event.same_content(kept % b"1", kept % sent, one_encoded=True, other_encoded=True)


def test_attributes_are_compared_by_their_values() -> None:
    assert event.same_content(b'{"type":"\\u00e9","id":"a"}', '{"id":"a","type":"é"}'.encode())

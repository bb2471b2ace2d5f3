"""The strict check of stored events takes what EventVault stored, and nothing else."""

from __future__ import annotations

from collections.abc import Iterator

import msgspec
import pytest

from eventvault import clock
from eventvault.events import event
from eventvault.foreign.records import map_record
from eventvault.restore.strict_events import DAY, StrictEvents

NOW = clock.parse("2026-11-29T12:00:00Z")


def stored(sequence: int = 1, recorded: int = NOW, **attributes: object) -> bytes:
    sent = {"type": "t", "id": "1", "source": "/s", **attributes}
    return event.recorded_body(event.draft(sent, NOW).body, sequence, recorded)


def recorded(body: bytes) -> bytes:
    return event.recorded_body(body, 1, NOW)


def problem(value: bytes, sequence: int = 1, now: int = NOW) -> str | None:
    try:
        StrictEvents(now).check(sequence, value)
    except (ValueError, msgspec.MsgspecError) as error:
        return str(error) or type(error).__name__
    return None


@pytest.mark.parametrize(
    "value",
    [
        stored(),
        stored(subject="ü" * 2048, data={"nested": [{}, "\u2028", 1e300, None]}),
        stored(data=None, xextension=True, xnumber=7),
        stored(data_base64="AAAA"),
        stored(id="a\u200bb\u00adc", source="/\U0001f600"),
        recorded(b'{"specversion":"1.0","id":"1","source":"/s","type":"t","data":  {"a": [1,  2]} }'),
        recorded(b'{"id":"1","source":"/s","type":"t","data":{"a":1,"a":123456789012345678901234567890}}'),
        recorded(map_record(b"key\xff\x00", b"not JSON \xff").draft.body),
        recorded(map_record(b"k", b'{"id": 7,\r\n "type": "\\u0000", "a": {"a": 1,\n"a": 2}}').draft.body),
    ],
)  # fmt: skip
def test_it_takes_what_was_stored(value: bytes) -> None:
    assert problem(value) is None


def forged() -> Iterator[tuple[str, bytes]]:
    good = stored()
    head, tail = good[:-1].split(b',"sequence"')
    yield "one line", good.replace(b'"type":', b'\n"type":')
    yield "one line", good.replace(b'"type":', b'\r"type":')
    yield "utf-8", stored(data="X").replace(b"X", b"\xff")
    yield "utf-8", stored(data="XXX").replace(b"XXX", b"\xed\xa0\x80")
    yield "comes twice", head + b',"type":"u","sequence"' + tail + b"}"
    yield "comes twice", head + b', "data":1,"data":2,"sequence"' + tail + b"}"
    yield "comes twice", head + b',"t\\u0079pe":"u","sequence"' + tail + b"}"
    yield "comes twice", good[:-1] + b',"sequence":1,"recordedtime":"2026-11-29T12:00:00.000000Z"}'
    yield "is called", head + b',"X-Y":"u","sequence"' + tail + b"}"
    yield "is called", head + b',"":1,"sequence"' + tail + b"}"
    yield "last members", stored(2)
    yield "last members", good[:-1] + b',"subject":"after"}'
    yield "last members", good.replace(b'"sequence":1', b'"sequence":1.0')
    yield "last members", good.replace(b'"sequence":1', b'"sequence": 1')
    yield "not a time", good.replace(b"T12:00:00.000000Z", b"T12:00:00,000000Z")
    yield "isoformat", good.replace(b'T12:00:00.000000Z"}', b'T12:00:00.000000z"}')
    yield "not a time", good.replace(b'recordedtime":"2026-11-29T', b'recordedtime":"2026-W48-7T')
    yield "", good.replace(b'recordedtime":"2026-11-29', b'recordedtime":"2026-02-30')
    yield "a day ahead", stored(recorded=NOW + DAY + 1)
    yield "a day ahead", good.replace(b'recordedtime":"2026', b'recordedtime":"9999')
    yield "control", good.replace(b'"id":"1"', b'"id":"a\\u0000b"')
    yield "control", good.replace(b'"type":"t"', b'"type":"\\u0085"')
    yield "length", good.replace(b'"source":"/s"', b'"source":"%s"' % (b"s" * 2049))
    yield "length", good.replace(b'"id":"1"', b'"id":""')
    yield "`id`", good.replace(b'"id":"1",', b"")
    yield "str", good.replace(b'"id":"1"', b'"id":1')
    yield "", good[:-1]
    yield "", b"[" + good + b"]"
    yield "", b""
    yield "nested too deeply", head + b',"data":' + b"[" * 100_000 + b"]" * 100_000 + b',"sequence"' + tail + b"}"


@pytest.mark.parametrize(("reason", "value"), list(forged()))
def test_it_refuses_what_was_never_stored(reason: str, value: bytes) -> None:
    refusal = problem(value)
    assert refusal is not None
    assert reason in refusal


def test_the_time_never_decreases() -> None:
    strict = StrictEvents(NOW)
    strict.check(1, stored(1, NOW))
    strict.check(2, stored(2, NOW))
    with pytest.raises(ValueError, match="earlier than that of the previous event"):
        strict.check(3, stored(3, NOW - 1))
    with pytest.raises(ValueError, match="earlier than that of the previous event"):
        strict.check(3, stored(3, NOW - 10**9))


def test_an_event_up_to_a_day_ahead_is_taken() -> None:
    assert problem(stored(recorded=NOW + DAY)) is None

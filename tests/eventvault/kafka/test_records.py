"""The messages of a client as records: what is read of each, and that none is made without need."""

from __future__ import annotations

from typing import Any

import pytest
from confluent_kafka import TIMESTAMP_CREATE_TIME, TIMESTAMP_NOT_AVAILABLE, Message

from eventvault.kafka import records
from eventvault.kafka.batch import PartitionBatch
from eventvault.kafka.messages import KafkaRecord
from eventvault.kafka.records import Records, record_of

PLAIN = [("content-type", b"application/cloudevents+json")]
WHOLE = b'{"specversion":"1.0","id":"%d","source":"/s","type":"t","time":"2026-01-31T12:34:56Z"}'


def message(offset: int, value: bytes | None, headers: Any = None, **more: Any) -> Message:
    given: dict[str, Any] = {"timestamp": (TIMESTAMP_CREATE_TIME, 5), "key": b"key", "leader_epoch": 3, **more}
    return Message(topic="events", partition=2, offset=offset, value=value, headers=headers, **given)


def test_a_record_has_all_of_its_message() -> None:
    found = Records([message(7, b"{}", PLAIN), message(8, None, timestamp=(TIMESTAMP_NOT_AVAILABLE, 0), key=None)])
    assert list(found) == [
        KafkaRecord("events", 2, 7, 5, b"key", b"{}", PLAIN, 3),
        KafkaRecord("events", 2, 8, None, None, None, [], 3),
    ]
    assert found[-1] == found[1] == record_of(message(8, None, timestamp=(TIMESTAMP_NOT_AVAILABLE, 0), key=None))
    assert len(found) == 2
    with pytest.raises(IndexError):
        found[2]


def test_messages_give_the_batch_that_their_records_give() -> None:
    messages = [
        message(1, WHOLE % 1), message(2, b'{"type":"a"}', PLAIN), message(4, b"no event", PLAIN), message(5, None),
        message(6, b'{"type": "b", "data": {"n": 1.50}}', [("traceparent", b"1")]), message(7, b""),
        message(9, b"data", [("ce_type", b"c"), ("ce_id", b"9")]), message(10, WHOLE % 10, [("CE_type", b"\xff")]),
        message(11, WHOLE % 11, [("content-type", b"application/json; charset=utf-16")]), message(12, WHOLE % 12),
    ]  # fmt: skip
    one, other = PartitionBatch(Records(messages)), PartitionBatch(list(Records(messages)))
    for batch in (one, other):
        assert [offset for offset, _ in batch.drafts] == [1, 2, 6, 9, 12]
        assert [record.offset for record, _ in batch.letters] == [4, 5, 7, 10, 11]
        assert batch.events == [draft for _, draft in batch.drafts]
    assert (one.drafts, one.letters, one.last) == (other.drafts, other.letters, other.last)
    for offset, last in ((10, 9), (4, 2), (0, None)):
        for batch in (one, other):
            batch.cut_before(offset)
        assert (one.drafts, one.letters, one.last) == (other.drafts, other.letters, other.last)
        assert last == (one.last and one.last.offset)


def test_no_record_is_made_of_an_event_that_is_complete(monkeypatch: pytest.MonkeyPatch) -> None:
    made: list[int] = []

    def counted(*members: Any) -> KafkaRecord:
        made.append(members[2])
        return KafkaRecord(*members)

    monkeypatch.setattr(records, "KafkaRecord", counted)
    batch = PartitionBatch(Records([message(number, WHOLE % number, PLAIN) for number in range(300)]))
    assert len(batch.events) == 300
    assert set(made) == {299}

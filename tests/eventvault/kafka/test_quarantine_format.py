"""The keys and values of the quarantine: every message fits, and what EventVault does not write is refused."""

from __future__ import annotations

from collections.abc import Iterator

import msgspec
import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.kafka.answers import message_json
from eventvault import clock
from eventvault.kafka import quarantine_format
from eventvault.kafka.batch import PartitionBatch
from eventvault.kafka.messages import KafkaRecord
from eventvault.kafka.quarantine_format import MessagePlace, count_at_or_after, list_key, place_of, read_checked
from eventvault.kafka.values import MessageContent, MessageFacts, QuarantinedMessage, Reference
from tests.quarantine import letter, message

_any_bytes = st.none() | st.binary(max_size=60)
_names = st.text(max_size=12) | st.sampled_from(["content-type", "ce_type", "ce_id", "CE_ID", "ce_specversion", "\x00"])
_header_values = _any_bytes | st.sampled_from(
    [b"application/cloudevents+json", b"application/json; charset=utf-16", b"t", b"\xff", b"text/plain"]
)
_values = _any_bytes | st.sampled_from(
    [b'{"type": "t"}', b'{"type": "t", "type": "t"}', b"[]", b"null", b"\xef\xbb\xbf{}"]
)
records = st.builds(
    KafkaRecord,
    topic=st.just("events"),
    partition=st.integers(0, 2**31 - 1),
    offset=st.integers(0, 2**63 - 1),
    timestamp=st.none() | st.integers(-(2**63), 2**63 - 1),
    key=_any_bytes,
    value=_values,
    headers=st.lists(st.tuples(_names, _header_values), max_size=5),
    leader_epoch=st.none(),
    problem=st.none() | st.just("its headers cannot be read"),
)


@pytest.mark.slow
@given(record=records)
def test_every_message_is_an_event_or_a_dead_letter_and_the_next_one_is_taken(record: KafkaRecord) -> None:
    following = message(record.offset, b'{"type": "next"}', headers=[])
    batch = PartitionBatch([record, following])
    assert len(batch.drafts) + len(batch.letters) == 2
    assert batch.drafts[-1][1].type == "next"
    for sent, reason in batch.letters:
        facts, content = quarantine_format.describe(sent, reason)
        place = MessagePlace(sent.topic, sent.partition, sent.offset)
        at_place, in_list = quarantine_format.key_values_of(place, 5, facts, content)
        entry = quarantine_format.read_entry(*in_list)
        assert (place_of(entry.id), entry.at) == (place, 5)
        found = QuarantinedMessage(entry, quarantine_format.read_content(at_place[1]))
        assert quarantine_format.record_of(found) == sent
        assert orjson.loads(orjson.dumps(message_json(found)))["reason"]
        assert [each.id for each, _ in read_checked([in_list], [at_place])] == [entry.id]


def test_the_key_of_a_message_is_d_topic_zero_partition_offset_and_copy() -> None:
    place = MessagePlace("events", 2, 258, 1)
    assert place.key == b"devents\x00\x00\x00\x00\x02\x00\x00\x00\x00\x00\x00\x01\x02\x00\x01"
    assert list_key(3, place) == b"l\x00\x00\x00\x00\x00\x00\x00\x03" + place.key[1:]
    assert quarantine_format.content_key(list_key(3, place)) == place.key
    assert (place.id, place_of("events/2@258.1")) == ("events/2@258.1", place)


def both(*, at: int = 5, **changed: object) -> tuple[tuple[bytes, bytes], tuple[bytes, bytes]]:
    facts, content = quarantine_format.describe(letter(1).message, "no type")
    facts = MessageFacts(**{name: changed.get(name, getattr(facts, name)) for name in MessageFacts.__struct_fields__})  # type: ignore[arg-type]
    return quarantine_format.key_values_of(MessagePlace("events", 0, 1), at, facts, content)


GOOD = both()


@pytest.mark.parametrize(
    ("contents", "listed"),
    [
        ([], [GOOD[1]]),
        ([GOOD[0]], []),
        ([GOOD[0], (MessagePlace("events", 0, 2).key, GOOD[0][1])], [GOOD[1]]),
        ([GOOD[0]], [GOOD[1], (list_key(6, MessagePlace("events", 0, 1)), GOOD[1][1])]),
        ([GOOD[0]], [(list_key(6, MessagePlace("events", 0, 1)), GOOD[1][1])]),
        ([(GOOD[0][0], b"\xc1")], [GOOD[1]]),
        ([GOOD[0]], [(GOOD[1][0], b"\xc1")]),
        ([GOOD[0]], [(b"lx", GOOD[1][1])]),
        ([(b"dx", GOOD[0][1])], [GOOD[1]]),
        ([(b"d../x\x00" + bytes(14), GOOD[0][1])], [(b"l" + bytes(8) + b"../x\x00" + bytes(14), GOOD[1][1])]),
        ([both(crc=1)[0]], [both(crc=1)[1]]),
        ([GOOD[0]], [both(size=1)[1]]),
        ([GOOD[0]], [both(size=-1)[1]]),
        ([GOOD[0]], [both(crc=2**32)[1]]),
        ([GOOD[0]], [both(reason="x" * 3_000)[1]]),
        ([GOOD[0]], [both(reason="x" * 30_000)[1]]),
        ([GOOD[0]], [both(reference=Reference("events", 0, 1))[1]]),
        ([(GOOD[0][0], b"x" * (quarantine_format.MOST_STORED + 1))], [GOOD[1]]),
        ([both(at=clock.YEAR_10000)[0]], [both(at=clock.YEAR_10000)[1]]),
    ],
)
def test_what_eventvault_does_not_write_is_refused(
    contents: list[tuple[bytes, bytes]], listed: list[tuple[bytes, bytes]]
) -> None:
    with pytest.raises((ValueError, msgspec.MsgspecError)):
        list(read_checked(listed, contents))


def test_what_eventvault_writes_is_not_refused() -> None:
    assert len(list(read_checked([GOOD[1]], [GOOD[0]]))) == 1


@pytest.mark.slow
def test_more_than_the_bound_is_refused() -> None:
    many = [
        (list_key(number, MessagePlace("events", 0, number)), GOOD[1][1])
        for number in range(quarantine_format.MOST_MESSAGES + 1)
    ]
    with pytest.raises(ValueError, match="too long"):
        list(read_checked(many, []))


def test_more_bytes_than_the_bound_are_refused_before_the_rest_is_read() -> None:
    def listed() -> Iterator[tuple[bytes, bytes]]:
        yield both(size=quarantine_format.MOST_BYTES)[1]
        raise AssertionError("the rest is read")

    with pytest.raises(ValueError, match="too many bytes"):
        list(read_checked(listed(), []))


def test_messages_behind_the_offsets_of_an_archive_leave_the_list() -> None:
    places = [MessagePlace("a", 0, 4), MessagePlace("a", 0, 5), MessagePlace("a", 1, 0), MessagePlace("b", 0, 9)]
    assert count_at_or_after(places, {"a": {"0": 5, "1": 7}}) == 2
    assert count_at_or_after(places, {}) == 4


def test_a_text_that_cannot_be_encoded_is_stored_all_the_same() -> None:
    sent = message(1, headers=[("\ud800", b"v")])
    facts, content = quarantine_format.describe(sent, "because of \ud800")
    assert quarantine_format.key_values_of(MessagePlace("events", 0, 1), 1, facts, content)
    assert content == MessageContent(at=0, key=b"key", value=sent.value, headers=(("?", b"v"),))

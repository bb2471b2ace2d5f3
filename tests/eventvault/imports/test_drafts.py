"""Records become drafts, each with an id that does not depend on when the import runs."""

from __future__ import annotations

import orjson

from eventvault.events.event import EventDraft
from eventvault.imports.drafts import drafts_of
from eventvault.imports.record import ImportRecord
from tests.roads import road as road


def record(number: int, text: bytes) -> ImportRecord:
    return ImportRecord(number, number, text + b"\n", text)


def draft(text: bytes, number: int = 1, name: str = "n") -> EventDraft:
    (only,) = drafts_of([record(number, text)], name).drafts
    return only


def test_an_id_that_is_derived_has_the_name_the_number_and_the_digest_of_the_text() -> None:
    event_id = draft(b'{"type":"a"}').id
    name, number, digest = event_id.split(":")
    assert (name, number, len(digest)) == ("n", "1", 32)
    assert draft(b'{"type":"a"}').id == event_id
    others = [
        draft(b'{"type":"a"}', number=2).id, draft(b'{"type":"a"}', name="m").id, draft(b'{"type":"b"}').id,
    ]  # fmt: skip
    assert len({event_id, *others}) == 4


def test_an_event_with_an_id_keeps_it() -> None:
    assert draft(b'{"type":"a","id":"x"}').id == "x"


def test_an_id_that_is_null_is_derived() -> None:
    one = draft(b'{"id":null,"type":"a"}')
    assert orjson.loads(one.body)["id"] == one.id
    assert one.body.count(b'"id"') == 1


def test_the_text_of_the_event_is_stored_as_it_is() -> None:
    assert draft(b'{"type": "a", "data": {"n": 1.50}}').body.endswith(b'"type":"a","data":{"n":1.50}}')


def test_the_same_record_later_is_the_same_event_although_its_time_differs() -> None:
    assert "time" in draft(b'{"type":"a"}').filled


def test_each_record_that_is_wrong_is_rejected_with_its_reason_and_the_others_are_drafts() -> None:
    texts = [
        b'{"type":"a"}', b"{", b'{"id":"x"}', b'{"type":"a","data":1,"data":2}', b"[]", b'{"type":"\\u0007"}',
        b'{"type":"caf\xe9"}', b'{"type":"b"}', b"42", b'{"type":"c","Upper":1}',
    ]  # fmt: skip
    found = drafts_of([record(number, text) for number, text in enumerate(texts, start=1)], "n")
    assert [draft.type for draft in found.drafts] == ["a", "b"]
    assert [each.number for each in found.records] == [1, 8]
    assert [(each.record.number, each.code) for each in found.rejected] == [
        (2, "malformed"), (3, "invalid"), (4, "invalid"), (5, "invalid"), (6, "invalid"), (7, "malformed"),
        (9, "invalid"), (10, "invalid"),
    ]  # fmt: skip


def test_more_than_twenty_wrong_records_are_all_rejected() -> None:
    found = drafts_of([record(number, b'{"id":"x"}') for number in range(1, 101)] + [record(101, b'{"type":"a"}')], "n")
    assert len(found.rejected) == 100
    assert len(found.drafts) == 1

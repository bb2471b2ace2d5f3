"""Selective restore: events of the past become new events; none is overwritten, and a repeated copy adds nothing."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import msgspec
import orjson
import pytest

from eventvault import clock
from eventvault.database.values import ScanQuery
from eventvault.errors import GenerationSuperseded, RestoreRunning
from eventvault.events import event, schema
from eventvault.past import copy_into_present
from eventvault.past.values import CopyResult
from eventvault.restore.values import Moment
from eventvault.settings import Settings
from eventvault.store.service import StoreService
from tests.eventvault.past.past_moments import generation_of
from tests.restoring import drafts, ids, make_archive, make_foreign_archive
from tests.stores import running_service

pytestmark = pytest.mark.slow


@pytest.fixture
def service(settings: Settings) -> Iterator[StoreService]:
    with running_service(settings) as service:
        yield service


def part_of(service: StoreService, moment: Moment, **filters: Any) -> ScanQuery:
    view = service.resolve_moment(moment)
    return ScanQuery(generation=view.generation, upto=view.sequence, **filters)


def events_of(service: StoreService) -> list[dict[str, Any]]:
    return [orjson.loads(value) for value in service.scan(ScanQuery(limit=1000)).events]


def lost(service: StoreService) -> str:
    """A superseded generation of six events with two types and two subjects. The present one is empty."""
    empty = service.create_backup().backup.name
    service.append(drafts(2, "a-one", type="a", subject="one", data={"n": 1.0}))
    service.append(drafts(2, "a-two", type="a", subject="two"))
    service.append(drafts(2, "b-one", type="b", subject="one"))
    left = generation_of(service)
    service.restore(empty)
    return left


def test_what_the_filter_finds_becomes_new_events_as_they_were(service: StoreService) -> None:
    left = lost(service)
    before = {
        found["id"]: found
        for found in map(orjson.loads, service.scan(part_of(service, Moment(generation=left))).events)
    }
    service.append(drafts(1, "present"))

    taken = service.copy_events_to_present(part_of(service, Moment(generation=left), type="a", subject="one"))

    assert taken == CopyResult(matched=2, appended=2, already_there=0, renamed=0, last_sequence=3)
    assert ids(service) == ["present-0", "a-one-0", "a-one-1"]
    for found in events_of(service)[1:]:
        then = before[found["id"]]
        assert found["recordedtime"] > then["recordedtime"], "it is recorded now"
        for ours in ("sequence", "recordedtime"):
            del found[ours], then[ours]
        assert list(found.items()) == list(then.items()), "all else is as it was, in its order"


@pytest.mark.parametrize(
    ("filters", "wanted"),
    [
        ({}, 6),
        ({"type": "b"}, 2),
        ({"subject": "two"}, 2),
        ({"source": "eventvault"}, 6),
        ({"source": "elsewhere"}, 0),
        ({"after": 4}, 2),
        ({"upto": 3}, 3),
        ({"recorded_to": 1}, 0),
        ({"recorded_from": 1}, 6),
    ],
)
def test_every_filter_counts(service: StoreService, filters: dict[str, Any], wanted: int) -> None:
    left = lost(service)

    taken = service.copy_events_to_present(
        msgspec.structs.replace(part_of(service, Moment(generation=left)), **filters)
    )

    assert (taken.matched, taken.appended, len(ids(service)), taken.last_sequence) == (wanted,) * 4


def test_taking_it_again_adds_nothing(service: StoreService) -> None:
    query = part_of(service, Moment(generation=lost(service)))
    service.append(drafts(1, "a-one", type="a", data="another"))
    service.copy_events_to_present(query)
    there = events_of(service)

    for _ in range(3):
        assert service.copy_events_to_present(query) == CopyResult(6, 0, 6, 0, 7)
    assert events_of(service) == there


def test_what_is_there_is_never_overwritten(service: StoreService) -> None:
    query = part_of(service, Moment(generation=lost(service)), type="a", subject="one")
    service.append(drafts(1, "a-one", type="a", data="another"))

    taken = service.copy_events_to_present(query)

    assert (taken.appended, taken.already_there, taken.renamed) == (2, 0, 1)
    present, renamed, free = events_of(service)
    assert (present["id"], present["data"]) == ("a-one-0", "another")
    assert renamed["id"].startswith("a-one-0~")
    assert (renamed["originalid"], renamed["data"]) == ("a-one-0", {"n": 1.0})
    assert (free["id"], "originalid" in free) == ("a-one-1", False)


def test_an_event_that_was_sent_again_without_a_time_is_there_already(service: StoreService) -> None:
    query = part_of(service, Moment(generation=lost(service)), type="a", subject="one")
    service.append(drafts(2, "a-one", type="a", subject="one", data={"n": 1.0}))

    assert service.copy_events_to_present(query) == CopyResult(2, 0, 2, 0, 2)


def test_an_event_with_another_time_of_its_sender_is_another_event(service: StoreService) -> None:
    empty = service.create_backup().backup.name
    service.append(drafts(1, "both-given", time="2026-01-31T12:00:00.000001Z") + drafts(1, "once-given"))
    left = generation_of(service)
    service.restore(empty)
    for name in ("both-given", "once-given"):
        service.append(drafts(1, name, time="2026-01-31T12:00:00.000002Z"))

    assert service.copy_events_to_present(part_of(service, Moment(generation=left))) == CopyResult(2, 2, 0, 2, 4)


def test_a_renamed_event_that_was_sent_again_is_there_already(service: StoreService) -> None:
    empty = service.create_backup().backup.name
    queries = []
    for _ in range(2):
        service.append(drafts(1, "a", data="lost"))
        left = generation_of(service)
        service.restore(empty)
        queries.append(part_of(service, Moment(generation=left)))
    service.append(drafts(1, "a", data="present"))

    assert [service.copy_events_to_present(query) for query in queries] == [
        CopyResult(1, 1, 0, 1, 2),
        CopyResult(1, 0, 1, 0, 2),
    ]


def test_an_event_without_a_time_is_there_already_where_its_export_was_posted(service: StoreService) -> None:
    make_foreign_archive(service.settings.backup_dir / "node.tar.gz", 1, "from")
    query = part_of(service, Moment(archive="node.tar.gz"))
    (exported,) = map(orjson.loads, service.scan(query).events)
    assert "time" not in exported
    service.append([event.draft(exported, clock.now())])

    assert service.copy_events_to_present(query) == CopyResult(1, 0, 1, 0, 1)


def test_what_was_renamed_once_keeps_the_id_that_it_had_first(service: StoreService) -> None:
    draft = copy_into_present.renamed_draft(copy_into_present.renamed_draft(drafts(1, "a")[0], 1), 1)

    attributes = orjson.loads(draft.body)
    assert (attributes["originalid"], attributes["id"], draft.id.count("~")) == ("a-0", draft.id, 2)


def test_a_renamed_event_keeps_its_id_and_the_original_one_that_its_sender_gave(service: StoreService) -> None:
    empty = service.create_backup().backup.name
    service.append(drafts(1, "a", originalid="legacy-7", originalid2="older", data="lost"))
    left = generation_of(service)
    service.restore(empty)
    service.append(drafts(1, "a", data="present"))
    query = part_of(service, Moment(generation=left))

    assert service.copy_events_to_present(query).renamed == 1
    assert service.copy_events_to_present(query) == CopyResult(1, 0, 1, 0, 2)
    renamed = events_of(service)[-1]
    assert [renamed[name] for name in ("originalid", "originalid2", "originalid3")] == ["a-0", "older", "legacy-7"]
    again = copy_into_present.renamed_draft(copy_into_present.draft_of(service.scan(ScanQuery(after=1)).events[0]), 1)
    assert orjson.loads(again.body) == {**orjson.loads(again.body), "originalid": "a-0", "originalid3": "legacy-7"}


@pytest.mark.parametrize("attempt", [1, 2, 1000])
def test_a_renamed_event_can_be_posted_however_long_its_id_was(attempt: int) -> None:
    (long,), (longer,) = (drafts(1, "é" * (schema.LONGEST_TEXT - 3) + end) for end in "xy")

    renamed = copy_into_present.renamed_draft(long, attempt)

    assert schema.validate(orjson.loads(renamed.body)) == []
    assert len(renamed.id) == schema.LONGEST_TEXT
    assert renamed.id != copy_into_present.renamed_draft(longer, attempt).id
    assert orjson.loads(copy_into_present.renamed_draft(renamed, attempt).body)["originalid"] == long.id


def test_even_a_taken_name_of_a_renamed_one_is_left_alone(service: StoreService) -> None:
    query = part_of(service, Moment(generation=lost(service)), type="a", subject="one")
    query = msgspec.structs.replace(query, upto=1)
    (value,) = service.scan(query).events
    squatter = copy_into_present.renamed_draft(copy_into_present.draft_of(value), 1)
    service.append(drafts(1, "a-one", type="a", data="another"))
    service.append([msgspec.structs.replace(squatter, body=squatter.body.replace(b"1.0", b"2.0"))])

    assert service.copy_events_to_present(query).renamed == 1
    assert service.copy_events_to_present(query) == CopyResult(1, 0, 1, 0, 3)
    assert [found["data"] for found in events_of(service)] == ["another", {"n": 2.0}, {"n": 1.0}]


@pytest.mark.parametrize("name", ["theirs.tar.gz", "node.tar.gz"])
def test_an_archive_from_anywhere_can_be_taken_in(service: StoreService, name: str) -> None:
    make_archive(service.settings.backup_dir / "theirs.tar.gz", "from")
    make_foreign_archive(service.settings.backup_dir / "node.tar.gz", 3, "from")
    service.append(drafts(1, "ours"))

    assert service.copy_events_to_present(part_of(service, Moment(archive=name))).appended == 3
    assert ids(service) == ["ours-0", "from-0", "from-1", "from-2"]


def test_more_than_a_page_is_taken_whole(service: StoreService, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(copy_into_present, "PAGE", 2)
    query = part_of(service, Moment(generation=lost(service)))

    assert service.copy_events_to_present(query) == CopyResult(6, 6, 0, 0, 6)


def test_a_restore_in_between_ends_it(service: StoreService, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(copy_into_present, "PAGE", 2)
    query = part_of(service, Moment(generation=lost(service)))
    name = service.list_backups()[0].name
    scan = service.event_log.scan

    def scanned(asked: ScanQuery) -> Any:
        if asked.after == 2:
            service.restore(name)
        return scan(asked)

    monkeypatch.setattr(service.event_log, "scan", scanned)
    with pytest.raises(RestoreRunning):
        service.copy_events_to_present(query)
    assert ids(service) == [], "what the restore brought is not mixed with what was to be taken in"


def test_what_is_not_kept_cannot_be_taken(service: StoreService) -> None:
    with pytest.raises(GenerationSuperseded):
        service.copy_events_to_present(ScanQuery(generation="0123456789abcdef", upto=3))


@pytest.mark.parametrize("data", [b"123456789012345678901234567890", b"[" * 600 + b"]" * 600])
def test_a_renamed_event_keeps_what_it_has_to_the_last_digit(data: bytes) -> None:
    """An imported event may have values that a posted one may not have."""
    value = (
        b'{"type":"t","id":"a","source":"s","data":%s,"sequence":1,"recordedtime":"2026-01-31T12:34:56.789012Z"}' % data
    )
    renamed = copy_into_present.renamed_draft(copy_into_present.draft_of(value), 1)
    assert b'"data":%s' % data in renamed.body
    assert renamed.body.startswith(b'{"type":"t","id":"a~')

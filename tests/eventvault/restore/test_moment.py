"""A moment as a database of its own: across archives, segments and generations, to the event."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path

import pytest

from eventvault import clock, event
from eventvault.errors import ArchiveError, JournalDamaged, MomentUnavailable, NoSpace
from eventvault.journal import segment
from eventvault.restore import space
from eventvault.restore.moment import Materialised
from eventvault.settings import Settings
from eventvault.store.interface import Moment, ScanQuery
from eventvault.store.registry import EventRegistry, open_leveldb
from eventvault.store.service import StoreService
from tests.restoring import drafts, flip
from tests.stores import running_service


@pytest.fixture
def service(settings_with: Callable[..., Settings]) -> Iterator[StoreService]:
    """Segments are written when a test says so."""
    with running_service(settings_with({"JOURNAL_INTERVAL": "3600000"})) as service:
        yield service


def put(service: StoreService, count: int, prefix: str) -> None:
    service.append(drafts(count, prefix, subject=f"of {prefix}"))
    assert service.journal.flush()


def live(service: StoreService) -> list[bytes]:
    return service.scan(ScanQuery(limit=1000)).events


def generation(service: StoreService) -> str:
    found: str = service.status()["store"]["generation"]
    return found


_numbers = itertools.count()


def contents(service: StoreService, moment: Moment) -> list[bytes]:
    """What the moment holds, and that its indexes hold the same."""
    made = service.moments.materialise(moment, service.settings.storage_dir / f".past-{next(_numbers)}")
    return read(made)


def read(made: Materialised) -> list[bytes]:
    with closing(open_leveldb(made.folder)) as db:
        registry = EventRegistry(db, made.folder)
        events = [value for _, value in registry.events(0, registry.last_sequence)]
        assert (registry.last_sequence, registry.identity.generation) == (made.sequence, made.generation)
        assert list(registry.indexed(b"t", "t", 0, 10**6)) == list(range(1, len(events) + 1))
        with db.iterator(prefix=b"i") as rows:
            assert sum(1 for _ in rows) == len(events)
    return events


def test_every_moment_of_the_present_lineage_can_be_had(service: StoreService) -> None:
    put(service, 3, "before")
    service.create_backup()
    put(service, 3, "between")
    put(service, 2, "later")
    events = live(service)

    for sequence in range(9):
        assert contents(service, Moment(sequence=sequence)) == events[:sequence]


def test_an_instant_means_the_events_recorded_up_to_it(service: StoreService) -> None:
    for number in range(4):
        put(service, 2, f"each-{number}")
    events = live(service)
    for number in range(0, 8, 2):
        instant = event.recorded_of(events[number])
        assert contents(service, Moment(instant=instant)) == events[: number + 2]
        assert contents(service, Moment(instant=instant - 1)) == events[:number]
    assert contents(service, Moment(instant=clock.now())) == events


def test_a_future_that_was_left_behind_can_be_had(service: StoreService) -> None:
    put(service, 3, "before")
    name = service.create_backup().backup.name
    put(service, 4, "left")
    old, left = generation(service), live(service)
    service.restore(name)
    put(service, 2, "new")

    assert contents(service, Moment(sequence=7, generation=old)) == left
    assert contents(service, Moment(sequence=5, generation=old)) == left[:5]
    for number in (3, 4, 6):
        instant = event.recorded_of(left[number])
        expected = [line for line in left if event.recorded_of(line) <= instant]
        assert contents(service, Moment(instant=instant, generation=old)) == expected
    assert contents(service, Moment(sequence=4)) == live(service)[:4]


def test_an_archive_alone_is_cut_at_an_instant(service: StoreService) -> None:
    put(service, 3, "before")
    first = service.create_backup().backup.name
    for number in range(3):
        put(service, 1, f"left-{number}")
    old, left = generation(service), live(service)
    service.create_backup()
    service.restore(first)
    service.journal.folder.remove(service.journal.folder.segments()[0])

    assert contents(service, Moment(instant=event.recorded_of(left[4]), generation=old)) == left[:5]


def test_a_damaged_segment_stops_it_and_leaves_nothing(service: StoreService) -> None:
    put(service, 3, "a")
    name = service.create_backup().backup.name
    put(service, 3, "b")
    put(service, 3, "c")
    old = generation(service)
    service.restore(name)
    damaged = service.journal.folder.segments()[0][1]
    flip(damaged.path, -12)
    staging = service.settings.storage_dir / ".past-x"

    with pytest.raises(JournalDamaged, match="damaged"):
        service.moments.materialise(Moment(sequence=8, generation=old), staging)

    assert not staging.exists()


def test_a_forged_segment_is_found_by_the_next_one(service: StoreService) -> None:
    put(service, 3, "a")
    name = service.create_backup().backup.name
    put(service, 3, "b")
    put(service, 3, "c")
    old = generation(service)
    service.restore(name)
    forged = next(each for each in service.journal.folder.segments()[0] if each.first == 4)
    lines = [line.replace(b"b-1", b"x-1") for line in segment.read_lines(forged)]
    segment.write_segment(forged.path.parent, forged.header, lines)

    assert len(contents(service, Moment(sequence=6, generation=old))) == 6
    with pytest.raises(JournalDamaged, match="written after other events"):
        contents(service, Moment(sequence=7, generation=old))


def test_what_cannot_be_had_is_said_with_what_can(service: StoreService) -> None:
    put(service, 3, "a")
    for moment in (
        Moment(sequence=4),
        Moment(sequence=1, generation="0123456789abcdef"),
        Moment(instant=clock.now() + 60_000_000),
        Moment(instant=clock.parse("2020-01-01T00:00:00Z")),
    ):
        with pytest.raises(MomentUnavailable) as caught:
            contents(service, moment)
        assert caught.value.details["window"]["newest"]["sequence"] == 3
        assert [each["sequence"] for each in caught.value.details["nearest"]] == [0, 3]


def test_a_gap_is_none_of_the_moments_that_can_be_had(service: StoreService) -> None:
    put(service, 2, "a")
    name = service.create_backup().backup.name
    for number in range(3):
        put(service, 2, f"left-{number}")
    old, left = generation(service), live(service)
    service.restore(name)
    gone = next(each for each in service.journal.folder.segments()[0] if each.first == 5)
    gone.path.unlink()

    assert contents(service, Moment(sequence=4, generation=old)) == left[:4]
    for moment in (Moment(sequence=6, generation=old), Moment(sequence=8, generation=old)):
        with pytest.raises(MomentUnavailable):
            contents(service, moment)
    with pytest.raises(MomentUnavailable, match="gap"):
        contents(service, Moment(instant=event.recorded_of(left[5]), generation=old))


def test_too_little_space_is_said_before_anything_begins(
    service: StoreService, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    put(service, 5, "a")
    service.create_backup()
    monkeypatch.setattr(space, "free_bytes", lambda _: 10)
    staging = service.settings.storage_dir / ".past-x"

    with pytest.raises(NoSpace) as caught:
        service.moments.materialise(Moment(sequence=5), staging)

    assert caught.value.details["needed"] > 10
    assert not staging.exists()


def test_an_archive_that_is_damaged_is_said(service: StoreService) -> None:
    put(service, 2, "a")
    made = service.create_backup().backup
    flip(Path(made.path), made.size // 2)
    with pytest.raises(ArchiveError):
        contents(service, Moment(sequence=2))

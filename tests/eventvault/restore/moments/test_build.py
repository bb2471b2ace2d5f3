"""The database of a moment, exact to the event, from archives, segments and generations."""

from __future__ import annotations

import errno
import itertools
import os
import shutil
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from eventvault import clock
from eventvault.database.generation import first_identity
from eventvault.database.registry import EventRegistry, open_leveldb
from eventvault.errors import ArchiveError, JournalDamaged, JournalUnreadable, MomentUnavailable, NoSpace
from eventvault.events import event
from eventvault.journal import compaction, segment
from eventvault.journal.segment import Segment
from eventvault.restore import space
from eventvault.restore.moments import replay
from eventvault.restore.moments.build import Materialised
from eventvault.restore.values import Moment
from eventvault.settings import Settings
from eventvault.store.service import StoreService
from tests.restoring import drafts, flip, generation, leftovers, live, put, temporary_files
from tests.stores import running_service

pytestmark = pytest.mark.slow


@pytest.fixture
def service(settings_with: Callable[..., Settings]) -> Iterator[StoreService]:
    """A service whose segments are written when a test says so."""
    with running_service(settings_with({"JOURNAL_INTERVAL": "3600000"})) as service:
        yield service


_numbers = itertools.count()


def contents(service: StoreService, moment: Moment) -> list[bytes]:
    """The events of the moment; checks that its indexes have the same ones."""
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
    for moment, nearest in (
        (Moment(sequence=4), 3),
        (Moment(sequence=-1), 0),
        (Moment(sequence=1, generation="0123456789abcdef"), 3),
        (Moment(instant=clock.now() + 60_000_000), 3),
        (Moment(instant=clock.parse("2020-01-01T00:00:00Z")), 0),
    ):
        with pytest.raises(MomentUnavailable) as caught:
            contents(service, moment)
        assert caught.value.details["window"]["newest"]["sequence"] == 3
        (near,) = caught.value.details["nearest"]
        assert (near["generation"], near["sequence"]) == (generation(service), nearest)


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
    within = Moment(instant=event.recorded_of(left[5]), generation=old)
    for moment in (Moment(sequence=6, generation=old), Moment(sequence=8, generation=old), within):
        with pytest.raises(MomentUnavailable, match="gap" if moment is within else "event") as caught:
            contents(service, moment)
        (near,) = caught.value.details["nearest"]
        assert (near["generation"], near["sequence"]) == (old, 4), "beyond the gap nothing can be had"


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
    flip(Path(made.path), made.size // 4)
    with pytest.raises(ArchiveError):
        contents(service, Moment(sequence=2))


def with_a_damaged_segment(service: StoreService) -> tuple[str, list[bytes], Path]:
    """A previous generation with the events 1 to 9, replaced at event 3, whose segment of 4 to 6 is damaged."""
    put(service, 3, "a")
    name = service.create_backup().backup.name
    put(service, 3, "b")
    put(service, 3, "c")
    old, left = generation(service), live(service)
    service.restore(name)
    damaged = next(each for each in service.journal.folder.segments()[0] if each.first == 4)
    flip(damaged.path, -12)
    return old, left, damaged.path


@pytest.mark.parametrize("by_time", [False, True])
def test_a_damaged_segment_is_named_with_the_last_whole_moment_without_it(
    service: StoreService, *, by_time: bool
) -> None:
    old, left, damaged = with_a_damaged_segment(service)
    moment = Moment(instant=event.recorded_of(left[4]), generation=old)

    with pytest.raises(JournalDamaged, match=damaged.name) as caught:
        contents(service, moment if by_time else Moment(sequence=8, generation=old))

    assert [each["sequence"] for each in caught.value.details["nearest"]] == [3]
    assert caught.value.details["window"]["newest"]["sequence"] == 3
    assert "event 3" in caught.value.hint
    assert contents(service, Moment(sequence=3, generation=old)) == left[:3]


@pytest.mark.parametrize("number", [errno.EIO, errno.EACCES, errno.ESTALE])
def test_a_segment_that_the_disk_cannot_read_is_named_and_no_missing_moment(
    service: StoreService, monkeypatch: pytest.MonkeyPatch, number: int
) -> None:
    old, before, bad = with_a_damaged_segment(service)  # its header is whole
    read = segment.read_header

    def failing(path: Path) -> Segment:
        if path == bad:
            raise OSError(number, os.strerror(number), str(path))
        return read(path)

    monkeypatch.setattr(segment, "read_header", failing)
    for asked in (Moment(sequence=8, generation=old), Moment(instant=event.recorded_of(before[7]), generation=old)):
        with pytest.raises(JournalUnreadable, match=f"{bad.name}.* failed: {os.strerror(number)}") as caught:
            contents(service, asked)
        assert [each["sequence"] for each in caught.value.details["nearest"]] == [3]
    assert contents(service, Moment(sequence=3, generation=old)) == before[:3]
    with pytest.raises(MomentUnavailable):
        contents(service, Moment(sequence=99, generation=generation(service)))


def test_the_open_database_serves_where_a_segment_is_damaged(service: StoreService) -> None:
    put(service, 3, "a")
    service.create_backup()
    put(service, 3, "b")
    put(service, 3, "c")
    events = live(service)
    flip(next(each for each in service.journal.folder.segments()[0] if each.first == 4).path, -12)

    assert contents(service, Moment(sequence=5)) == events[:5]
    service.restore_moment(Moment(sequence=5))
    assert live(service) == events[:5]


@pytest.mark.parametrize("by_time", [False, True])
def test_a_later_archive_serves_where_a_segment_is_damaged(service: StoreService, *, by_time: bool) -> None:
    put(service, 3, "a")
    name = service.create_backup().backup.name
    for number in range(3):
        put(service, 2, f"b-{number}")
    old, left = generation(service), live(service)
    service.create_backup()
    service.restore(name)
    flip(next(each for each in service.journal.folder.segments()[0] if each.first == 6).path, -12)
    moment = Moment(instant=event.recorded_of(left[6]), generation=old)

    assert contents(service, moment if by_time else Moment(sequence=7, generation=old)) == left[:7]


def test_a_time_beyond_what_is_left_of_a_generation_is_refused(service: StoreService) -> None:
    put(service, 3, "shared")
    name = service.create_backup().backup.name
    put(service, 2, "left")
    old, left = generation(service), live(service)
    service.restore(name)
    put(service, 1, "new")
    service.journal.folder.remove([each for each in service.journal.folder.segments()[0] if each.first == 4])

    for instant in (event.recorded_of(left[4]), clock.now()):
        with pytest.raises(MomentUnavailable, match="after event 3, and a restore") as caught:
            service.restore_moment(Moment(instant=instant, generation=old))
        assert caught.value.details["window"]["newest"]["sequence"] == 3
        assert 3 in [each["sequence"] for each in caught.value.details["nearest"]]
    assert contents(service, Moment(sequence=3, generation=old)) == left[:3]
    assert contents(service, Moment(instant=event.recorded_of(left[0]) - 1, generation=old)) == []


@pytest.mark.parametrize("had_more_than", [False, True])
def test_a_time_at_a_fork_is_refused_where_what_followed_by_then_is_lost(
    service: StoreService, *, had_more_than: bool
) -> None:
    """The five events have the same time; only those that an archive of another generation shares are still there."""
    put(service, 5, "of-one-time")
    asked, left = generation(service), live(service)
    service.restore_moment(Moment(sequence=3))
    service.create_backup()
    if had_more_than:
        service.restore_moment(Moment(sequence=5, generation=asked))
        asked = generation(service)
        put(service, 1, "later")
    service.restore_moment(Moment(sequence=0))
    service.journal.folder.remove(service.journal.folder.segments()[0])

    with pytest.raises(
        MomentUnavailable, match="after event 3, up to that moment" if had_more_than else "no file has events of"
    ):
        service.restore_moment(Moment(instant=event.recorded_of(left[0]), generation=asked))
    assert live(service) == []
    assert contents(service, Moment(sequence=3, generation=asked)) == left[:3]
    assert contents(service, Moment(instant=event.recorded_of(left[0]) - 1, generation=asked)) == []


@pytest.mark.parametrize("archived", [False, True])
def test_a_time_of_which_only_the_open_database_has_the_events_is_told_by_it(
    service: StoreService, *, archived: bool
) -> None:
    put(service, 2, "a")
    if archived:
        service.create_backup()
    put(service, 2, "b")
    put(service, 2, "left")
    asked, left = generation(service), live(service)
    service.restore_moment(Moment(sequence=4))
    service.journal.folder.remove([each for each in service.journal.folder.segments()[0] if each.first < 5])

    for count in (4, 6):
        moment = Moment(instant=event.recorded_of(left[count - 1]), generation=asked)
        assert contents(service, moment) == left[:count]


def test_times_before_a_gap_can_be_had_where_only_an_archive_tells_them(service: StoreService) -> None:
    put(service, 1, "a")
    first = service.create_backup().backup.name
    for number in range(5):
        service.append(drafts(1, f"left-{number}"))
    service.create_backup()
    assert service.journal.flush()
    put(service, 2, "lost")
    put(service, 2, "beyond")
    old, left = generation(service), live(service)
    service.restore(first)
    gone = [each for each in service.journal.folder.segments()[0] if each.generation == old and each.first < 9]
    service.journal.folder.remove(gone)

    for number in range(1, 5):
        assert contents(service, Moment(instant=event.recorded_of(left[number]), generation=old)) == left[: number + 1]
    made = temporary_files(service.settings.storage_dir)
    with pytest.raises(MomentUnavailable, match="gap"):
        contents(service, Moment(instant=event.recorded_of(left[6]), generation=old))
    assert leftovers(service.settings.storage_dir, expected=made) == made, "nothing is left of what was refused"


def merged_away(service: StoreService, monkeypatch: pytest.MonkeyPatch) -> None:
    """The next read of a segment finds that all were just merged into one."""
    read = segment.read_lines

    def late(found: segment.Segment) -> list[bytes]:
        monkeypatch.setattr(segment, "read_lines", read)
        assert compaction.merge(service.journal.folder, service.journal.folder.segments()[0])
        return read(found)

    monkeypatch.setattr(segment, "read_lines", late)


def test_segments_that_are_merged_while_a_moment_is_looked_for_are_found_again(
    service: StoreService, monkeypatch: pytest.MonkeyPatch
) -> None:
    for number in range(3):
        put(service, 2, f"each-{number}")
    old, left = generation(service), live(service)
    service.restore_moment(Moment(sequence=0))
    merged_away(service, monkeypatch)

    assert contents(service, Moment(instant=event.recorded_of(left[3]), generation=old)) == left[:4]


def test_a_segment_that_is_gone_is_said_to_be(tmp_path: Path) -> None:
    about = segment.SegmentHeader(
        store_id="s", installation="i", generation=first_identity(1).present, first=1, last=1, first_time="",
        last_time="", bytes=0, sha256="0" * 64,
    )  # fmt: skip
    with pytest.raises(JournalDamaged, match="missing") as caught:
        replay.lines_of(segment.Segment(tmp_path / "gone", about, 1))
    assert caught.value.details["segment"] == str(tmp_path / "gone")


def test_a_swap_in_between_never_makes_a_moment_of_another_generation(
    service: StoreService, monkeypatch: pytest.MonkeyPatch
) -> None:
    put(service, 3, "a")
    name = service.create_backup().backup.name
    put(service, 3, "b")
    old, left = generation(service), live(service)
    service.journal.folder.remove(service.journal.folder.segments()[0])
    copy = service.moments._copy_live

    def late(*arguments: Any) -> None:
        monkeypatch.setattr(service.moments, "_copy_live", copy)
        service.restore(name)
        put(service, 3, "other")
        copy(*arguments)

    monkeypatch.setattr(service.moments, "_copy_live", late)

    assert contents(service, Moment(sequence=5, generation=old)) == left[:5]


def test_a_plan_from_the_open_database_says_what_is_read(service: StoreService) -> None:
    put(service, 300, "a")
    service.journal.folder.remove(service.journal.folder.segments()[0])

    plan = service.plan_restore(Moment(sequence=5))

    assert plan["presentDatabase"]
    assert plan["bytesToRead"] > 300 * 100


def test_what_this_installation_made_comes_before_a_copy_that_went_on_elsewhere(
    settings_with: Callable[..., Settings], settings: Settings, tmp_path: Path
) -> None:
    elsewhere = settings_with({"STORAGE_DIR": str(tmp_path / "copy"), "BACKUP_DIR": str(tmp_path / "its-backups")})
    with running_service(settings) as service:
        put(service, 2, "common")
    shutil.copytree(settings.storage_dir, elsewhere.storage_dir)
    for file in elsewhere.storage_dir.glob(".installation*"):
        file.unlink()
    with running_service(elsewhere) as service:
        put(service, 3, "theirs")
        made = Path(service.create_backup().backup.path)
    shutil.copy(made, settings.backup_dir)
    with running_service(settings) as service:
        put(service, 4, "ours")
        left = live(service)

        service.restore_moment(Moment(sequence=5))

        assert live(service) == left[:5]


def test_an_event_that_comes_while_it_is_looked_about_makes_no_gap(
    service: StoreService, monkeypatch: pytest.MonkeyPatch
) -> None:
    put(service, 3, "a")
    left = live(service)
    listed = service.journal.folder.segments
    later = iter([None])

    def slow() -> Any:
        for _ in later:
            put(service, 1, "meanwhile")
        return listed()

    monkeypatch.setattr(service.journal.folder, "segments", slow)
    assert contents(service, Moment(instant=clock.now())) == left

"""The journal of a running store: a committed event is soon in a segment, whatever happens meanwhile."""

from __future__ import annotations

import errno
import itertools
import os
import shutil
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

import msgspec
import plyvel
import pytest

from eventvault.database.generation import Generation
from eventvault.database.values import ScanQuery
from eventvault.errors import DatabaseDamaged, NoSpace
from eventvault.journal import compaction, segment, writer
from eventvault.journal.coverage import MERGE_COUNT
from eventvault.journal.segment import Segment
from eventvault.settings import Settings
from eventvault.store.service import StoreService
from tests import processes
from tests.restoring import drafts, make_archive
from tests.stores import running_service

pytestmark = pytest.mark.slow


@pytest.fixture
def quick(settings_with: Callable[..., Settings]) -> Settings:
    return settings_with({"JOURNAL_INTERVAL": "10"})


@pytest.fixture
def service(quick: Settings) -> Iterator[StoreService]:
    with running_service(quick) as service:
        yield service


def segments(service: StoreService) -> list[Segment]:
    found, damaged = service.journal.folder.segments()
    assert not damaged
    return found


def journaled(service: StoreService) -> list[bytes]:
    """Return the lines of the present generation; fails if there is a hole."""
    generation = service.status()["store"]["generation"]
    mine = [each for each in segments(service) if each.generation == generation]
    for one, other in itertools.pairwise(mine):
        assert other.first == one.last + 1
        assert other.header.previous == one.header.event_range
    return [line for each in mine for line in segment.read_lines(each)]


def events(service: StoreService) -> list[bytes]:
    return service.scan(ScanQuery(limit=1000)).events


def wait_for(service: StoreService, sequence: int) -> None:
    processes.wait_until(lambda: service.status()["journal"]["lastSequence"] == sequence, "it is not in the journal")


def test_what_is_committed_is_in_a_segment_soon_and_byte_for_byte(service: StoreService) -> None:
    for number in range(5):
        service.append(drafts(3, f"batch-{number}"))
        wait_for(service, 3 * number + 3)

    assert journaled(service) == events(service)
    assert service.status()["journal"]["secondsAtRisk"] == 0.0
    assert service.journal.folder.read_record().registry.generation == segments(service)[0].generation  # type: ignore[union-attr]


def test_a_stop_writes_what_is_left(settings_with: Callable[..., Settings]) -> None:
    settings = settings_with({"JOURNAL_INTERVAL": "3600000"})
    with running_service(settings) as service:
        wait_for(service, 0)
        last = 0

        def is_at_risk() -> bool:
            """The first round of the journal, which may go on still, takes what is there."""
            nonlocal last
            last = service.append(drafts(4, f"after-{last}")).last_sequence
            journal = service.status()["journal"]
            return bool(journal["lastSequence"] < last and journal["secondsAtRisk"] > 0)

        processes.wait_until(is_at_risk, "the journal takes everything at once")

    found, _ = service.journal.folder.segments()
    assert (found[0].first, found[-1].last) == (1, last)


@pytest.mark.slow
def test_it_goes_on_where_another_store_ended(quick: Settings) -> None:
    for number in range(3):
        with running_service(quick) as service:
            service.append(drafts(2, f"run-{number}"))
    with running_service(quick) as service:
        assert journaled(service) == events(service)
        assert len(segments(service)) == 3


@pytest.mark.slow
def test_what_a_backup_holds_already_is_not_journaled_again(settings: Settings) -> None:
    with running_service(settings) as service:
        service.append(drafts(4))
        service.create_backup()
    shutil.rmtree(settings.backup_dir / "journal")
    with running_service(settings) as service:
        service.append(drafts(2, "later"))
    found, _ = service.journal.folder.segments()
    assert [(each.first, each.last) for each in found] == [(5, 6)]


def test_a_journal_that_was_deleted_is_written_again(service: StoreService) -> None:
    service.append(drafts(4))
    wait_for(service, 4)
    folder = service.settings.backup_dir
    folder.rename(folder.with_name("deleted"))
    service.append(drafts(2, "later"))
    service.accept_problem("backups_changed")

    def is_whole() -> bool:
        lines = [line for each in segments(service) for line in segment.read_lines(each)]
        return lines == events(service)

    processes.wait_until(is_whole, "it is not written again")


@pytest.mark.slow
def test_large_amounts_are_cut_into_chunks(service: StoreService, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(writer, "SEGMENT_BYTES", 1000)
    service.append(drafts(50))
    wait_for(service, 50)
    assert len(segments(service)) > 5
    assert journaled(service) == events(service)


@pytest.mark.slow
def test_a_restore_from_outside_is_journaled_from_its_beginning(quick: Settings) -> None:
    quick.restore_dir.mkdir(parents=True)
    make_archive(quick.restore_dir / "backup_2024-12-27_120000.tar.gz", events=7)
    with running_service(quick) as service:
        wait_for(service, 7)
        assert journaled(service) == events(service)
        assert segments(service)[0].first == 1


@pytest.mark.slow
def test_the_last_events_before_a_restore_are_journaled_too(settings_with: Callable[..., Settings]) -> None:
    with running_service(settings_with({"JOURNAL_INTERVAL": "3600000"})) as service:
        service.append(drafts(3))
        name = service.create_backup().backup.name
        service.append(drafts(2, "left behind"))
        left, generation = events(service), service.status()["store"]["generation"]
        service.restore(name)

        mine = [each for each in segments(service) if each.generation == generation]
        assert [line for each in mine for line in segment.read_lines(each)] == left


def test_a_folder_that_cannot_be_written_is_said_and_tried_again(service: StoreService) -> None:
    service.append(drafts(1))
    wait_for(service, 1)
    folder = service.settings.backup_dir / "journal"
    away = folder.with_name("away")
    with service.journal._turn.held():  # which would make the folder again in between
        folder.rename(away)
        folder.write_text("in the way")

    last = service.append(drafts(3, "meanwhile")).last_sequence

    processes.wait_until(lambda: service.status()["status"] == "degraded", "health does not say so")
    assert "journal_failed" in [problem["code"] for problem in service.status()["problems"]]
    processes.wait_until(lambda: service.status()["journal"]["secondsAtRisk"] > 0, "nothing is at risk")
    folder.unlink()
    away.rename(folder)
    wait_for(service, last)
    assert service.status()["status"] == "ok"
    assert journaled(service) == events(service)


@pytest.mark.slow
def test_small_segments_are_merged_and_never_absent(service: StoreService, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("eventvault.journal.journal.SURVEY_SECONDS", 0.05)
    for number in range(40):
        service.append(drafts(1, f"each-{number}"))
        wait_for(service, number + 1)
        assert set(range(1, number + 2)) <= {
            sequence for each in segments(service) for sequence in range(each.first, each.last + 1)
        }
    processes.wait_until(lambda: len(segments(service)) < 25, "they are not merged")
    lines = [line for each in segments(service) for line in segment.read_lines(each)]
    assert lines == events(service)


def test_segments_go_once_the_oldest_archive_holds_them(
    settings_with: Callable[..., Settings], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("eventvault.journal.journal.SURVEY_SECONDS", 0.05)
    with running_service(settings_with({"JOURNAL_INTERVAL": "10", "MAX_BACKUPS": "1"})) as service:
        service.append(drafts(3))
        wait_for(service, 3)
        service.create_backup()
        service.append(drafts(2, "later"))
        wait_for(service, 5)
        processes.wait_until(lambda: [each.first for each in segments(service)] == [4], "the first one stays")


def test_what_a_killed_merge_left_is_removed(service: StoreService) -> None:
    for number in range(3):
        service.append(drafts(1, f"each-{number}"))
        wait_for(service, number + 1)
    small = segments(service)
    lines = [line for each in small for line in segment.read_lines(each)]
    segment.write_segment(small[0].path.parent, small[0].header, lines)

    service.journal.refresh()

    processes.wait_until(lambda: [(each.first, each.last) for each in segments(service)] == [(1, 3)], "they are there")


@pytest.mark.slow
def test_segments_of_another_installation_stay_as_they_are(
    service: StoreService, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("eventvault.journal.journal.SURVEY_SECONDS", 0.05)
    service.append(drafts(1))
    wait_for(service, 1)
    (ours,) = segments(service)
    line = segment.read_lines(ours)
    generation = Generation("0" * 16, None, 0, "created", 1)
    theirs = [
        segment.write_segment(
            service.journal.folder.generation_folder(generation.id),
            msgspec.structs.replace(
                ours.header, installation="another one", generation=generation, first=number, previous=None
            ),
            line,
        ).path
        for number in range(1, MERGE_COUNT + 2)
    ]
    service.append(drafts(1, "later"))
    service.create_backup()

    service.journal.refresh()
    processes.wait_until(lambda: not [each for each in segments(service) if each.path not in theirs], "ours stay")

    assert [path for path in theirs if not path.exists()] == []
    assert len([each for each in segments(service) if each.generation == generation.id]) == len(theirs)


@pytest.mark.slow
def test_many_merges_keep_no_event_waiting(
    settings_with: Callable[..., Settings], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A merge takes longer than an interval; events committed meanwhile are written before the next merge."""
    order: list[str] = []
    real = compaction.merge
    begun = threading.Event()

    def slow(*arguments: Any) -> Segment:
        order.append("merge")
        assert begun.wait(60)
        service.append(drafts(1, f"beside-{len(order)}"))
        time.sleep(0.02)  # longer than an interval
        return real(*arguments)

    with running_service(settings_with({"JOURNAL_INTERVAL": "3600000"})) as service:
        for number in range(3 * MERGE_COUNT):
            service.append(drafts(1, f"each-{number}"))
            assert service.journal.flush()
    write = writer.SegmentWriter.write_next
    monkeypatch.setattr(writer.SegmentWriter, "write_next", lambda self: order.append("segment") or write(self))
    monkeypatch.setattr(compaction, "merge", slow)
    with running_service(settings_with({"JOURNAL_INTERVAL": "10"})) as service:
        begun.set()
        processes.wait_until(lambda: order.count("merge") == 3, "there was no merge")
        processes.wait_until(lambda: service.status()["journal"]["secondsAtRisk"] == 0, "something waits")
    assert not any(one == other == "merge" for one, other in itertools.pairwise(order))


def test_temporary_files_are_removed_at_the_start(quick: Settings) -> None:
    with running_service(quick) as service:
        service.append(drafts(1))
    (found,) = service.journal.folder.segments()[0]
    left = found.path.with_name(f".{found.path.name}.abcd.tmp")
    os.link(found.path, left)
    with running_service(quick):
        assert not left.exists()


@pytest.mark.parametrize(
    ("error", "message", "hint"),
    [
        (
            DatabaseDamaged("000012.ldb is damaged", hint="restore the newest backup"),
            "000012.ldb is damaged",
            "restore",
        ),
        (plyvel.CorruptionError(b"Corruption: block checksum mismatch"), "the database is damaged", "restore"),
        (OSError(errno.ENOSPC, "x", "/data/backups/journal"), "No space left", "free some space"),
        (OSError(errno.EROFS, "x", "/data/backups/journal"), "Read-only file system", "can be written"),
        (PermissionError(errno.EACCES, "x", "/data/backups/journal"), "Permission denied", "user of the service"),
        (OSError(errno.EMFILE, "x"), "Too many open files", "descriptors"),
        (
            NoSpace("writing a segment failed: No space left on device", hint="free some"),
            "writing a segment",
            "free some",
        ),
    ],
)
def test_a_failure_is_described_by_its_cause(
    settings_with: Callable[..., Settings], monkeypatch: pytest.MonkeyPatch, error: Exception, message: str, hint: str
) -> None:
    with running_service(settings_with({"JOURNAL_INTERVAL": "3600000"})) as service:

        def fail() -> bool:
            raise error

        monkeypatch.setattr(service.journal._writer, "poll", fail)
        assert not service.journal.flush()
        monkeypatch.undo()
        problem = service.journal.problem
        assert problem is not None
        assert problem.code == "journal_failed"
        assert message in problem.message
        assert hint in problem.hint
        assert "BACKUP_DIR" not in problem.message + problem.hint
        assert service.journal.flush()
        assert service.journal.problem is None

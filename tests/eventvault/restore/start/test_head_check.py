"""An old copy of storage/ is put back: it gets back what it lacks, or health says how, and nothing is ever confused."""

from __future__ import annotations

import errno
import shutil
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

import msgspec
import pytest

from eventvault import data_folders
from eventvault.backups import catalogue_file
from eventvault.backups.catalogue import Catalogue
from eventvault.backups.heads import ArchiveHeads
from eventvault.backups.installation import installation_of
from eventvault.database.generation import Generation
from eventvault.database.opening import open_checked
from eventvault.database.registry import AppendBatch, EventRegistry
from eventvault.database.values import ScanQuery
from eventvault.journal.folder import JournalFolder
from eventvault.kafka import offsets
from eventvault.kafka.offsets import StoredOffset
from eventvault.restore.start import head_replay
from eventvault.restore.start.fork_point import ForkFinder
from eventvault.restore.start.recorded import RecordedHistory
from eventvault.restore.values import Moment
from eventvault.settings import Settings
from eventvault.store.service import StoreService
from tests import processes
from tests.restoring import drafts, flip, ids, leftovers, live, problem_codes
from tests.stores import running_service

pytestmark = pytest.mark.slow


@pytest.fixture
def quick(settings_with: Callable[..., Settings]) -> Settings:
    return settings_with({"JOURNAL_INTERVAL": "10", "AUTO_RECOVER": "true"})


@contextmanager
def put_back(settings: Settings, at: int = 2) -> Iterator[StoreService]:
    """A service whose database is replaced by a copy from when it had `at` events."""
    with running_service(settings) as service:
        service.append(drafts(at, "before"))
    copy = settings.storage_dir.with_name("copy")
    shutil.copytree(settings.database, copy)
    with running_service(settings) as service:
        yield service
    shutil.rmtree(settings.database)
    shutil.copytree(copy, settings.database)


def names_the_restore(service: StoreService, generation: str, sequence: int) -> bool:
    (problem,) = [problem for problem in service.status()["problems"] if problem["code"] == "rolled_back"]
    return f'{{"generation": "{generation}", "sequence": {sequence}}}' in problem["hint"]


def present(service: StoreService) -> Generation:
    return service.bus.registry.identity.present  # type: ignore[union-attr]


def wait_for(service: StoreService, sequence: int) -> None:
    processes.wait_until(lambda: service.status()["journal"]["lastSequence"] == sequence, "it is not in the journal")


def spans(service: StoreService) -> list[tuple[int, int, str]]:
    return [(each.first, each.last, each.generation) for each in service.journal.folder.segments()[0]]


def test_a_database_that_is_behind_its_journal_gets_the_events_back(quick: Settings) -> None:
    with put_back(quick) as service:
        service.append(drafts(3, "lost"))
        before, events = present(service), live(service)
    with running_service(quick) as service:
        assert (present(service), live(service), problem_codes(service)) == (before, events, [])
        assert service.append(drafts(3, "lost")).results[0].duplicate
        assert service.append(drafts(1, "anew")).last_sequence == 6
    with running_service(quick) as service:
        assert live(service)[:5] == events


def test_a_database_that_is_behind_an_archive_gets_the_events_back(quick: Settings) -> None:
    with put_back(quick) as service:
        service.append(drafts(3, "lost"))
        wait_for(service, 5)
        service.create_backup()
        assert service.journal.flush(survey=True)
        assert spans(service) == []
        before, events = present(service), live(service)
    (quick.backup_dir / "journal" / "registry.json").unlink()
    with running_service(quick) as service:
        assert (present(service), live(service), problem_codes(service)) == (before, events, [])
        assert leftovers(quick.storage_dir) == []


def test_a_database_that_is_behind_archive_and_journal_gets_the_events_of_both(quick: Settings) -> None:
    with put_back(quick) as service:
        service.append(drafts(3, "archived"))
        wait_for(service, 5)
        service.create_backup()
        assert service.journal.flush(survey=True)
        service.append(drafts(2, "journaled"))
        before, events = present(service), live(service)
    with running_service(quick) as service:
        assert (present(service), live(service), problem_codes(service)) == (before, events, [])


def test_a_database_as_old_as_the_archive_gets_the_events_after_it(quick: Settings) -> None:
    """The journal's first segment was written after the archive, and names none before it."""
    with put_back(quick) as service:
        service.create_backup()
        assert service.journal.flush(survey=True)
        assert spans(service) == []
        service.append(drafts(2, "journaled"))
        before, events = present(service), live(service)
    with running_service(quick) as service:
        assert (present(service), live(service), problem_codes(service)) == (before, events, [])


def test_an_empty_database_that_was_put_back_gets_all_events_back(quick: Settings) -> None:
    with put_back(quick, at=0) as service:
        service.append(drafts(3, "lost"))
        before, events = present(service), live(service)
    with running_service(quick) as service:
        assert (present(service), live(service), problem_codes(service)) == (before, events, [])


def test_kafkas_offsets_come_back_with_the_events(quick: Settings) -> None:
    with put_back(quick) as service:
        offset = offsets.offset_put("events", 0, StoredOffset(next=7, topic_id="t", cluster_id="c"))
        service.bus.committer.append(AppendBatch(drafts(3, "lost"), b"12345678", [offset]))
        wait_for(service, 5)
    with running_service(quick) as service, service.bus.using() as registry:
        assert registry.get_value(offset[0]) == offset[1]


@pytest.mark.parametrize("written", [0, 1, 2])
def test_a_replay_that_breaks_off_is_continued_by_the_next_start(
    quick: Settings, monkeypatch: pytest.MonkeyPatch, written: int
) -> None:
    """Each event is a write of its own here, and the disk fails after some of them."""
    with put_back(quick) as service:
        offset = offsets.offset_put("events", 0, StoredOffset(next=7, topic_id="t", cluster_id="c"))
        service.bus.committer.append(AppendBatch(drafts(3, "lost"), b"12345678", [offset]))
        wait_for(service, 5)
        before, events = present(service), live(service)
    real, done = EventRegistry.append_recorded, []

    def failing(*arguments: Any) -> None:
        if len(done) == written:
            raise OSError(errno.EIO, "Input/output error")
        done.append(arguments)
        real(*arguments)

    monkeypatch.setattr(head_replay, "_BATCH_EVENTS", 1)
    monkeypatch.setattr(EventRegistry, "append_recorded", failing)
    with running_service(quick) as service:
        assert service.state == "failed" or service.bus.is_read_only
    monkeypatch.setattr(EventRegistry, "append_recorded", real)
    with closing(open_checked(quick.database)) as db:
        registry = EventRegistry(db, quick.database)
        assert registry.last_sequence == 2 + written
        assert registry.get_value(offset[0]) is None
    with running_service(quick) as service:
        assert (present(service), live(service), problem_codes(service)) == (before, events, [])
        with service.bus.using() as registry:
            assert registry.get_value(offset[0]) == offset[1]


def test_what_other_events_precede_is_not_replayed_and_health_says_how_to_bring_it_back(quick: Settings) -> None:
    """The copy went on elsewhere, and has another event 2 than the one that the journal continues."""
    with put_back(quick, at=1) as service:
        service.append(drafts(1, "ours"))
        wait_for(service, 2)
        service.append(drafts(3, "lost"))
        lost, events = present(service).id, live(service)
    with closing(open_checked(quick.database)) as db:
        EventRegistry(db, quick.database).append([AppendBatch(drafts(1, "elsewhere"), b"12345678")])
    assert_rolled_back(quick, lost, events, ["before-0", "elsewhere-0"], shared=1)


@pytest.mark.parametrize(
    ("part", "settled"),
    [
        pytest.param({}, True, id="everything"),
        pytest.param({"after": 1}, False, id="not the first"),
        pytest.param({"upto": 4}, False, id="not the last"),
        pytest.param({"type": "t"}, False, id="a filter"),
    ],
)
def test_what_is_missing_may_be_appended_to_the_present_instead(
    quick: Settings, part: dict[str, Any], settled: bool
) -> None:
    with put_back(quick, at=1) as service:
        service.append(drafts(1, "ours"))
        wait_for(service, 2)
        service.append(drafts(3, "lost"))
        lost = present(service).id
    with closing(open_checked(quick.database)) as db:
        EventRegistry(db, quick.database).append([AppendBatch(drafts(1, "elsewhere"), b"12345678")])
    rest = [] if settled else ["rolled_back"]
    with running_service(quick) as service:
        service.append(drafts(1, "anew"))
        view = service.resolve_moment(Moment(generation=lost, sequence=5))
        query = ScanQuery(generation=view.generation, upto=view.sequence)
        service.copy_events_to_present(msgspec.structs.replace(query, **part))
        assert problem_codes(service) == rest
    with running_service(quick) as service:
        assert problem_codes(service) == rest
        assert {"elsewhere-0", "anew-0", "lost-1"} <= set(ids(service))


def test_what_has_a_hole_before_it_is_not_replayed_and_health_says_so(quick: Settings) -> None:
    with put_back(quick) as service:
        for name in ("first", "second"):
            service.append(drafts(2, name))
            wait_for(service, 4 if name == "first" else 6)
        lost = present(service).id
    for segment in (quick.backup_dir / "journal" / lost).iterdir():
        if segment.name.startswith(f"segment_{3:019d}"):
            segment.unlink()
    with running_service(quick) as service:
        (problem,) = service.status()["problems"]
        assert problem["code"] == "rolled_back"
        assert "The journal has events 5 to 6" in problem["message"]
        assert problem["acceptable"]
        service.accept_problem("rolled_back")
        assert problem_codes(service) == []
    with running_service(quick) as service:
        assert problem_codes(service) == []


@pytest.mark.parametrize(
    ("missing", "gap"),
    [([0], "nothing has events 3 to 3"), ([0, 1], "nothing has events 3 to 4"), ([1], "nothing has events 4 to 4")],
)
def test_events_behind_a_hole_in_the_journal_are_named(quick: Settings, missing: list[int], gap: str) -> None:
    with put_back(quick) as service:
        for number in range(3):
            service.append(drafts(1, f"lost-{number}"))
            wait_for(service, 3 + number)
        lost = present(service).id
    segments = sorted((quick.backup_dir / "journal" / lost).iterdir())[-3:]
    for number in missing:
        segments[number].rename(quick.storage_dir / segments[number].name)

    with running_service(quick) as service:
        (problem,) = service.status()["problems"]
        assert problem["code"] == "rolled_back"
        assert f"of generation {lost}, but " in problem["message"]
        assert gap in problem["message"]
        assert "neither the archives nor the journal" not in problem["hint"]
        for number in missing:
            (quick.storage_dir / segments[number].name).rename(segments[number])
        service.restore_moment(Moment(sequence=5, generation=lost))
        assert (len(ids(service)), problem_codes(service)) == (5, [])


def assert_rolled_back(settings: Settings, lost: str, events: list[bytes], kept: list[str], shared: int) -> None:
    """Check that health names the restore that brings `events` back, until it is done, and again after its undo.

    shared: the last event of the database, which has those in `kept`, that is one of `lost` too.
    """
    with running_service(settings) as service:
        fork = present(service)
        assert (fork.parent, fork.fork_sequence, fork.reason) == (lost, shared, "rolled back")
        service.append(drafts(1, "anew"))
        wait_for(service, len(kept) + 1)
    with running_service(settings) as service:
        assert ids(service) == [*kept, "anew-0"]
        (problem,) = service.status()["problems"]
        assert (problem["code"], problem["about"]) == ("rolled_back", {"kind": "generation", "name": fork.id})
        assert f'{{"generation": "{lost}", "sequence": {len(events)}}}' in problem["hint"]
        service.restore_moment(Moment(sequence=len(events), generation=lost))
        assert (live(service), problem_codes(service)) == (events, [])
        service.undo()
        assert problem_codes(service) == ["rolled_back"]


def test_a_database_that_is_behind_the_record_alone_begins_a_generation(quick: Settings) -> None:
    with put_back(quick) as service:
        service.append(drafts(3, "lost"))
        wait_for(service, 5)
        (quick.backup_dir / "journal" / "registry.json").unlink()
        assert service.journal.flush(survey=True)
        lost = present(service).id
    shutil.rmtree(quick.backup_dir / "journal" / lost)

    with running_service(quick) as service:
        assert (present(service).parent, present(service).fork_sequence) == (lost, 2)


@pytest.mark.parametrize("record", [True, False])
def test_a_database_from_before_a_restore_begins_a_generation(quick: Settings, record: bool) -> None:
    with put_back(quick) as service:
        service.append(drafts(3, "lost"))
        lost = present(service).id
        service.restore_moment(Moment(sequence=4))
        service.append(drafts(1, "after"))
        service.create_backup()
        assert service.journal.flush(survey=True)
    for generation in (quick.backup_dir / "journal").glob("*/"):
        shutil.rmtree(generation)
    if not record:
        (quick.backup_dir / "journal" / "registry.json").unlink()

    with running_service(quick) as service:
        assert (present(service).parent, present(service).fork_sequence) == (lost, 2)


def test_a_database_that_is_up_to_date_stays_what_it_is(quick: Settings) -> None:
    for number in range(2):
        with running_service(quick) as service:
            service.append(drafts(3, f"run-{number}"))
            service.create_backup()
            assert service.journal.flush(survey=True)
    with running_service(quick) as service:
        assert present(service).parent is None


@contextmanager
def unreadable(journal: Path, *, away: bool = True) -> Iterator[None]:
    """Fail as a disk that does not answer. away: False to do nothing."""
    if not away:
        yield
        return
    hidden = journal.with_name("away")
    journal.rename(hidden)
    journal.write_text("in the way")
    yield
    journal.unlink()
    hidden.rename(journal)


def test_a_database_that_cannot_be_compared_begins_a_generation_too(quick: Settings) -> None:
    with put_back(quick) as service:
        service.create_backup()
        service.append(drafts(3, "lost"))
        lost = present(service).id
    with unreadable(quick.backup_dir / "journal"), running_service(quick) as service:
        service.append(drafts(1, "anew"))
        assert service.create_backup().backup.sequence == 3
        processes.wait_until(lambda: problem_codes(service) == ["journal_failed"], "health does not say so")

    with running_service(quick) as service:
        fork = present(service)
        assert (fork.parent, fork.fork_sequence, fork.reason) == (lost, 2, "unchecked")
        service.append(drafts(1, "later"))
        assert ids(service) == ["before-0", "before-1", "anew-0", "later-0"]
        processes.wait_until(lambda: problem_codes(service) == ["rolled_back"], "health does not name what is missing")
        assert names_the_restore(service, lost, 5)
        processes.wait_until((quick.storage_dir / data_folders.PROBLEMS).exists, "the problem is not recorded")
    shutil.rmtree(quick.storage_dir)
    with running_service(quick) as service:
        assert ids(service) == ["before-0", "before-1", "anew-0", "later-0"]
        service.restore_moment(Moment(sequence=5, generation=lost))
        assert ids(service)[2:] == ["lost-0", "lost-1", "lost-2"]


@pytest.mark.parametrize("quarantine", [True, False])
def test_a_database_that_is_behind_a_damaged_segment_begins_a_generation(quick: Settings, quarantine: bool) -> None:
    with put_back(quick) as service:
        service.append(drafts(3, "lost"))
        wait_for(service, 5)
        lost = present(service).id
    (quick.backup_dir / "journal" / "registry.json").unlink()
    segment = max((quick.backup_dir / "journal" / lost).iterdir())
    flip(segment, 3)
    if quarantine:
        segment.rename(segment.with_name(segment.name + ".damaged"))

    with running_service(quick) as service:
        assert (present(service).parent, present(service).fork_sequence) == (lost, 2)


def flip_last_record(database: Path) -> None:
    (log,) = database.glob("*.log")
    flip(log, -20)


def test_events_of_a_damaged_end_of_the_log_come_back_from_the_journal(quick: Settings) -> None:
    with running_service(quick) as service:
        for number in range(5):
            service.append(drafts(3, f"of {number}"))
        before, events = present(service), live(service)
    flip_last_record(quick.database)
    with running_service(quick) as service:
        assert (present(service), live(service), problem_codes(service)) == (before, events, [])
    (retained,) = (quick.storage_dir / "cut_off").iterdir()
    assert retained.suffix == ".log"


@pytest.mark.parametrize("backups", [True, False])
def test_events_of_a_damaged_end_of_the_log_that_nothing_has_are_named_until_that_is_accepted(
    settings_with: Callable[..., Settings], backups: bool
) -> None:
    settings = settings_with({"JOURNAL_INTERVAL": "3600000"})
    with running_service(settings) as service:
        service.append(drafts(3, "journaled"))
        assert service.journal.flush()
        service.append(drafts(2, "not journaled"))
        lost = present(service).id
        shutil.copytree(settings.database, settings.storage_dir / "killed")
        unfinished = shutil.ignore_patterns("*.tmp")
        shutil.copytree(settings.backup_dir, settings.storage_dir / "killed backups", ignore=unfinished)
    for folder, killed in ((settings.database, "killed"), (settings.backup_dir, "killed backups")):
        shutil.rmtree(folder)
        shutil.move(settings.storage_dir / killed, folder)
    flip_last_record(settings.database)

    with unreadable(settings.backup_dir / "journal", away=not backups), running_service(settings) as service:
        fork = present(service)
        assert (fork.parent, fork.fork_sequence, fork.reason) == (lost, 3, "log damaged")
        assert service.append(drafts(2, "not journaled")).last_sequence == 5
    with running_service(settings) as service:
        (problem,) = service.status()["problems"]
        assert (problem["code"], problem["about"]) == ("rolled_back", {"kind": "generation", "name": fork.id})
        assert "log is damaged" in problem["message"]
        service.accept_problem("rolled_back", fork.id)
        assert problem_codes(service) == []
    with running_service(settings) as service:
        assert problem_codes(service) == []
        assert present(service) == fork


def test_a_database_that_lost_events_while_it_was_closed_gets_them_back_before_the_next_append(quick: Settings) -> None:
    with running_service(quick) as service:
        service.append(drafts(2, "before"))
    shutil.copytree(quick.database, quick.storage_dir / "copy")
    with running_service(quick) as service:
        service.append(drafts(3, "lost"))
        before, events = present(service), live(service)
        wait_for(service, 5)

        def put_old_copy_back() -> None:
            shutil.rmtree(quick.database)
            shutil.copytree(quick.storage_dir / "copy", quick.database)

        with service.bus.swapping(), service.bus.replacing():
            put_old_copy_back()
        assert (present(service), live(service), problem_codes(service)) == (before, events, [])
        assert service.append(drafts(1, "anew")).last_sequence == 6


def test_a_database_that_lost_unrecorded_events_while_it_was_closed_begins_a_generation(
    settings_with: Callable[..., Settings],
) -> None:
    settings = settings_with({"JOURNAL_INTERVAL": "3600000"})
    with running_service(settings) as service:
        service.append(drafts(2, "before"))
    shutil.copytree(settings.database, settings.storage_dir / "copy")
    with running_service(settings) as service:
        service.append(drafts(3, "lost"))
        service.bus.before_swap = lambda: None

        def put_old_copy_back() -> None:
            shutil.rmtree(settings.database)
            shutil.copytree(settings.storage_dir / "copy", settings.database)

        with service.bus.swapping(), service.bus.replacing():
            put_old_copy_back()
        assert (present(service).fork_sequence, present(service).reason) == (2, "rolled back")
        assert problem_codes(service) == ["rolled_back"]


def test_a_reopening_needs_no_answer_of_the_backup_folder_if_nothing_is_missing(quick: Settings) -> None:
    with running_service(quick) as service:
        service.append(drafts(2, "before"))
        wait_for(service, 2)
        before = present(service)
        # Else the journal's thread makes the folder again, in the place where this test puts a file.
        with service.journal._turn.held(), unreadable(quick.backup_dir / "journal"):
            service.bus.reopen()
            assert present(service) == before


@pytest.mark.parametrize("how", ["a restore", "a reopening"])
def test_nobody_waits_while_archives_that_came_meanwhile_are_read(quick: Settings, how: str) -> None:
    with running_service(quick) as service:
        service.append(drafts(2, "before"))
        archive = Path(service.create_backup().backup.path)
        read, is_closed = service.catalogue._read_manifest, list[bool]()

        def reading(path: Path) -> Any:
            is_closed.append(service.bus.registry is None)
            return read(path)

        with service.journal._turn.held():  # which looks at them too
            for number in range(3):
                archive.with_name(f"copy-{number}.tar.gz").hardlink_to(archive)
            service.catalogue._read_manifest = reading  # type: ignore[method-assign]
            if how == "a reopening":
                service.bus.reopen()
            else:
                service.bus.before_swap = lambda: None  # it waits for the journal
                service.restore(archive.name)
        assert len(service.catalogue.entries()) == 4
        assert is_closed.count(False) >= 3
        assert True not in is_closed
        assert problem_codes(service) == []


@pytest.mark.slow
def test_comparing_takes_no_time_with_ten_thousand_archives(quick: Settings) -> None:
    with running_service(quick) as service:
        service.append(drafts(2, "before"))
        name = service.create_backup().backup.name
    archive, records = quick.backup_dir / name, catalogue_file.load(quick.backup_dir)
    for number in range(10_000):
        other = archive.with_name(f"backup_2024-12-{number // 1000 + 1:02d}_{number % 1000:06d}.tar.gz")
        other.hardlink_to(archive)
        records[other.name] = msgspec.structs.replace(records[name], origin="created")
    catalogue_file.save(quick.backup_dir, records)
    catalogue = Catalogue(quick.backup_dir, installation_of(quick))
    heads = ArchiveHeads(quick.backup_dir, catalogue)
    assert len(heads.entries()) == 10_001

    history = RecordedHistory(quick.backup_dir, catalogue, heads, JournalFolder(quick.backup_dir))
    forks, seconds = ForkFinder(quick.storage_dir, service.chores, history), []
    with closing(open_checked(quick.database)) as db:
        registry = EventRegistry(db, quick.database)
        for _ in range(5):
            began = time.thread_time()
            recorded = history.find(registry.identity)
            assert (recorded.last, recorded.latest) == (2, None)
            assert forks.find(registry, recorded.heads) is None
            seconds.append(time.thread_time() - began)
    assert min(seconds) < 0.1, seconds

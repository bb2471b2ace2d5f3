"""The database of a copy that was used elsewhere takes the place of the own one, and what only looks like that."""

from __future__ import annotations

import errno
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from eventvault.database.generation import ROLLED_BACK, Generation
from eventvault.database.values import ScanQuery
from eventvault.errors import BackupsChanged
from eventvault.journal import compaction, segment
from eventvault.restore.start.fork_point import Fork
from eventvault.restore.values import Moment
from eventvault.settings import Settings
from eventvault.store.service import StoreService
from tests.copies import Copied
from tests.quarantine import letter, take_letters
from tests.restoring import bytes_of, drafts, flip, generation, live, problem_codes, put
from tests.stores import running_service

pytestmark = pytest.mark.slow

LONGER_AND_EQUAL = pytest.mark.parametrize("events", [3, 4, 7], ids=["equal", "longer", "much longer"])


def present(service: StoreService) -> Generation:
    return service.bus.registry.identity.present  # type: ignore[union-attr]


def journal_of(settings: Settings) -> list[Path]:
    """The segments, in order."""
    return sorted((settings.backup_dir / "journal").glob("*/segment_*"))


def post_own(copied: Copied, *batches: int, archive: bool = False, journal: bool = True) -> tuple[str, list[bytes]]:
    """Append so many events with a segment for each batch; return their generation and all events.

    archive: make one then. journal: False to remove the segments after that, as retention does.
    """
    with running_service(copied.settings) as service:
        for number, batch in enumerate(batches):
            put(service, batch, f"own-{number}")
        if archive:
            service.create_backup("own")
        lost, own = generation(service), live(service)
    for path in journal_of(copied.settings):
        if not journal:
            path.unlink()
    return lost, own


def assert_named_until_restored(settings: Settings, lost: str, own: list[bytes], shared: int = 2) -> None:
    """Check that health names the restore that brings the own events back, and that nothing else has changed."""
    recorded = bytes_of(settings.backup_dir / "journal", ["registry.json"])
    with running_service(settings) as service:
        begun = present(service)
        assert (begun.parent, begun.fork_sequence, begun.reason) == (lost, shared, "rolled back")
        assert problem_codes(service) == ["rolled_back"]
        put(service, 1, "anew")
        theirs = live(service)
    with running_service(settings) as service:
        (problem,) = service.status()["problems"]
        assert (problem["code"], problem["about"]["name"]) == ("rolled_back", begun.id)
        assert f'{{"generation": "{lost}", "sequence": {len(own)}}}' in problem["hint"]
        assert (present(service), live(service)) == (begun, theirs)
        now = bytes_of(settings.backup_dir / "journal", ["registry.json"])
        assert {name: recorded[name] for name in now.keys() & recorded.keys()}.items() <= now.items()
        assert not any(name.endswith(".damaged") for name in now)
        assert not any(service.journal.folder.is_suspect(path) for path in journal_of(settings))
        assert {entry.problem for entry in service.catalogue.entries()} <= {None}

        service.restore_moment(Moment(generation=lost, sequence=len(own)))
        assert (live(service), problem_codes(service)) == (own, [])
        service.undo()
        assert (live(service), problem_codes(service)) == (theirs, ["rolled_back"])


@LONGER_AND_EQUAL
def test_the_database_of_a_copy_begins_a_generation_after_the_last_common_event(copied: Copied, events: int) -> None:
    lost, own = post_own(copied, 1, 2)
    copied.exchange(events)
    assert_named_until_restored(copied.settings, lost, own)


@LONGER_AND_EQUAL
def test_the_last_common_event_is_found_within_a_merged_segment(copied: Copied, events: int) -> None:
    lost, own = post_own(copied, 1, 2)
    with running_service(copied.settings) as service:
        folder = service.journal.folder
        compaction.merge(folder, folder.segments_of(service.catalogue.installation))
    assert len(journal_of(copied.settings)) == 1
    copied.exchange(events)
    assert_named_until_restored(copied.settings, lost, own)


@pytest.mark.parametrize(
    ("batches", "damaged"),
    [
        ((1, 1, 1, 1, 1), ()),
        ((1, 2, 1, 1), ()),
        ((4, 1), ()),
        ((1, 1, 1, 1, 1), (1, -1)),
        ((1, 2, 1, 1), (2,)),
        ((4, 1), (-1,)),
    ],
    ids=str,
)
def test_the_last_common_event_is_found_among_many_segments(
    copied: Copied, batches: tuple[int, ...], damaged: tuple[int, ...]
) -> None:
    """A segment that is damaged decides nothing: the fork is where others still show that both are the same."""
    lost, own = post_own(copied, *batches)
    segments = journal_of(copied.settings)
    for number in damaged:
        flip(segments[number], -12)
    copied.exchange(7)

    with running_service(copied.settings) as service:
        assert (present(service).parent, present(service).fork_sequence) == (lost, 2)
        assert problem_codes(service)[-1:] == ["rolled_back"]
        assert len(own) == 2 + sum(batches)


@LONGER_AND_EQUAL
def test_the_database_of_a_copy_is_noticed_by_an_archive_alone(copied: Copied, events: int) -> None:
    lost, own = post_own(copied, 1, 2, archive=True, journal=False)
    copied.exchange(events)
    assert_named_until_restored(copied.settings, lost, own)


@LONGER_AND_EQUAL
def test_the_database_of_a_copy_is_noticed_by_an_archive_beyond_the_journal(copied: Copied, events: int) -> None:
    lost, own = post_own(copied, 1, 2, archive=True)
    for path in journal_of(copied.settings)[1:]:
        path.unlink()
    copied.exchange(events)
    assert_named_until_restored(copied.settings, lost, own)


@pytest.mark.parametrize("more", [0, 1], ids=["beyond the first segment", "before the first segment"])
@pytest.mark.parametrize(("archived", "shared"), [(True, 2), (False, 0)], ids=["archive", "no archive"])
def test_the_last_common_event_may_be_one_that_only_an_archive_has(
    copied: Copied, archived: bool, shared: int, more: int
) -> None:
    """Where none has it, the new generation shares nothing with the one before: nothing is mixed then either."""
    lost, own = post_own(copied, 1, 2, archive=True)
    (archive,) = copied.settings.backup_dir.glob("*own.tar.gz")
    if more:
        with running_service(copied.settings) as service:
            put(service, more, "last")
            own = live(service)
    for path in journal_of(copied.settings)[:-1]:
        path.unlink()
    away = copied.settings.storage_dir.parent / archive.name
    if not archived:
        archive.rename(away)
    copied.exchange(5)
    with running_service(copied.settings) as service:
        assert (present(service).parent, present(service).fork_sequence) == (lost, shared)
        if not archived:
            away.rename(archive)
        put(service, 1, "anew")
        theirs = live(service)
        service.restore_moment(Moment(generation=lost, sequence=5 + more))
        assert (live(service), problem_codes(service)) == (own, [])
        service.undo()
    shutil.rmtree(copied.settings.storage_dir)
    with running_service(copied.settings) as service:
        assert live(service) == theirs


def test_a_moment_of_the_own_events_is_restored_after_more_was_posted(copied: Copied) -> None:
    lost, own = post_own(copied, 3)
    copied.exchange(5)
    with running_service(copied.settings) as service:
        put(service, 2, "anew")
        theirs = live(service)
        for sequence in (3, 4, 5):
            service.restore_moment(Moment(generation=lost, sequence=sequence))
            assert live(service) == own[:sequence]
            service.undo()
            assert live(service) == theirs


@pytest.mark.parametrize("events", [1, 3, 5], ids=["shorter", "equal", "longer"])
def test_the_events_of_the_copy_are_never_mixed_with_the_own_ones(copied: Copied, events: int) -> None:
    """The journal has those after the fork too, as events of the new generation."""
    post_own(copied, 3)
    copied.exchange(events)
    with running_service(copied.settings) as service:
        put(service, 1, "anew")
        begun, theirs = present(service).id, live(service)
        for sequence in (3, 2 + events):
            service.restore_moment(Moment(generation=begun, sequence=sequence))
            assert live(service) == theirs[:sequence]
            service.undo()
    shutil.rmtree(copied.settings.storage_dir)
    with running_service(copied.settings) as service:
        assert live(service) == theirs


def test_the_database_of_a_copy_that_replaces_the_open_one_is_noticed_too(copied: Copied) -> None:
    lost, _ = post_own(copied, 3)
    copied.exchange(4)
    theirs = copied.settings.storage_dir / "theirs"
    copied.settings.database.rename(theirs)
    shutil.copytree(copied.own, copied.settings.database)

    with running_service(copied.settings) as service:
        assert problem_codes(service) == []

        def replace() -> None:
            shutil.rmtree(copied.settings.database)
            theirs.rename(copied.settings.database)

        with service.bus.swapping(), service.bus.replacing():
            replace()
        assert (present(service).parent, present(service).fork_sequence) == (lost, 2)
        assert problem_codes(service) == ["rolled_back"]


def test_accepting_it_stays_so(copied: Copied) -> None:
    post_own(copied, 3)
    copied.exchange(4)
    with running_service(copied.settings) as service:
        begun = present(service)
        service.accept_problem("rolled_back")
    with running_service(copied.settings) as service:
        assert (present(service), problem_codes(service)) == (begun, [])


def test_the_own_events_may_be_appended_to_those_of_the_copy(copied: Copied) -> None:
    lost, own = post_own(copied, 3)
    copied.exchange(4)
    with running_service(copied.settings) as service:
        view = service.resolve_moment(Moment(generation=lost, sequence=5))
        service.copy_events_to_present(ScanQuery(generation=view.generation, upto=view.sequence))
        assert (len(live(service)), problem_codes(service)) == (2 + 4 + len(own) - 2, [])


def read_anew(settings: Settings, before: Generation, events: list[bytes]) -> None:
    """Check that a start finds nothing to say."""
    with running_service(settings) as service:
        assert (present(service), live(service), problem_codes(service)) == (before, events, [])


def snapshot(settings: Settings, service: StoreService) -> Callable[[], None]:
    """Copy the folders of a service that runs, as a kill leaves them; returns what puts them back."""
    folders = (settings.storage_dir, settings.backup_dir)
    copies = [folder.with_name(f"{folder.name} killed") for folder in folders]
    ignored = shutil.ignore_patterns("*.tmp", "*.sock")
    for folder, copy in zip(folders, copies, strict=True):
        shutil.copytree(folder, copy, ignore=ignored)

    def put_back() -> None:
        for folder, copy in zip(folders, copies, strict=True):
            shutil.rmtree(folder)
            copy.rename(folder)

    assert service.state == "serving"
    return put_back


@pytest.mark.parametrize("journaled", [0, 1, 3])
def test_a_journal_that_lags_behind_is_no_other_history(copied: Copied, journaled: int) -> None:
    with running_service(copied.settings) as service:
        if journaled:
            put(service, journaled, "journaled")
        service.append(drafts(2, "not journaled"))
        before, events = present(service), live(service)
        put_back = snapshot(copied.settings, service)
    put_back()
    read_anew(copied.settings, before, events)


@pytest.mark.parametrize("archived", [1, 2, 3])
def test_an_archive_of_a_copy_is_no_other_history_although_the_journal_lags_behind(
    copied: Copied, archived: int
) -> None:
    """It was put into the archives of the installation, and its events are others than those of the journal."""
    with running_service(copied.settings) as service:
        put(service, 1, "journaled")
        service.append(drafts(3, "not journaled"))
        before, events = present(service), live(service)
        put_back = snapshot(copied.settings, service)
    put_back()
    copied.archive(archived)
    read_anew(copied.settings, before, events)


@pytest.mark.parametrize("archived", [1, 3])
@pytest.mark.parametrize("journal", [True, False], ids=["journal", "archive alone"])
def test_an_archive_of_a_copy_is_no_other_history_beside_an_own_one(
    copied: Copied, archived: int, journal: bool
) -> None:
    _, events = post_own(copied, 3, archive=True, journal=journal)
    copied.archive(archived)
    with running_service(copied.settings) as service:
        assert (live(service), problem_codes(service)) == (events, [])
        assert present(service).parent is None


def test_a_journal_of_a_copy_that_was_merged_into_the_own_one_is_no_other_history(copied: Copied) -> None:
    _, events = post_own(copied, 1, 1)
    copied.journal(2)  # one segment with both
    assert len(journal_of(copied.settings)) == 4
    with running_service(copied.settings) as service:
        assert (live(service), problem_codes(service)) == (events, [])
        assert present(service).parent is None


def test_a_segment_of_another_installation_is_no_other_history(copied: Copied) -> None:
    _, events = post_own(copied, 3)
    newest = segment.read_header(journal_of(copied.settings)[-1])
    lines = segment.read_lines(newest)
    described = {name: getattr(newest.header, name) for name in segment.SegmentInfo.__struct_fields__}
    info = segment.SegmentInfo(**described | {"installation": "another", "first": 2, "previous": None})
    segment.write_segment(newest.path.parent, info, [line.replace(b"own", b"who") for line in [events[1], *lines]])
    with running_service(copied.settings) as service:
        assert (live(service), problem_codes(service)) == (events, [])
        assert present(service).parent is None


def restored(service: StoreService) -> None:
    service.restore_moment(Moment(sequence=3))
    put(service, 1, "after")


def undone(service: StoreService) -> None:
    restored(service)
    service.undo()
    put(service, 2, "after the undo")


def restored_archive(service: StoreService) -> None:
    service.restore(service.create_backup().backup.name)
    put(service, 2, "after")


def copied_into_the_present(service: StoreService) -> None:
    before = generation(service)
    restored(service)
    view = service.resolve_moment(Moment(generation=before, sequence=5))
    service.copy_events_to_present(ScanQuery(generation=view.generation, upto=view.sequence))


def archived_and_pruned(service: StoreService) -> None:
    service.create_backup()
    assert service.journal.flush(survey=True)


def quarantined(service: StoreService) -> None:
    take_letters(service, letter(1), letter(2), drafts=drafts(1, "of Kafka"))


def repeated(service: StoreService) -> None:
    service.append(drafts(3, "own-0"))


@pytest.mark.parametrize(
    "change",
    [restored, undone, restored_archive, copied_into_the_present, archived_and_pruned, quarantined, repeated],
    ids=lambda change: change.__name__,
)
@pytest.mark.parametrize("killed", [True, False], ids=["killed", "stopped"])
def test_what_services_do_is_no_other_history(
    copied: Copied, change: Callable[[StoreService], None], killed: bool
) -> None:
    post_own(copied, 3)
    with running_service(copied.settings) as service:
        change(service)
        before, events = present(service), live(service)
        put_back = snapshot(copied.settings, service) if killed else None
    if put_back is not None:
        put_back()
    read_anew(copied.settings, before, events)


@pytest.mark.parametrize("ending", [".damaged", ""], ids=["quarantined", "damaged"])
def test_a_damaged_segment_decides_nothing(copied: Copied, ending: str) -> None:
    _, events = post_own(copied, 1, 2)
    newest = journal_of(copied.settings)[-1]
    flip(newest, -12)
    os.utime(newest)  # what has just been written may be a copy under way, so it is not quarantined
    newest.rename(newest.with_name(newest.name + ending))
    with running_service(copied.settings) as service:
        assert (present(service).parent, live(service)) == (None, events)
        assert "rolled_back" not in problem_codes(service)


def failing_to_read(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    read = segment.read_file

    def refuse(asked: Path, *arguments: Any) -> bytes:
        if asked == path:
            raise OSError(errno.EIO, os.strerror(errno.EIO), str(asked))
        return read(asked, *arguments)

    monkeypatch.setattr(segment, "read_file", refuse)


@pytest.mark.parametrize("elsewhere", [True, False], ids=["the copy", "the own one"])
@pytest.mark.parametrize("posts", [0, 2])
def test_a_segment_on_a_disk_that_fails_is_compared_at_the_next_start(
    copied: Copied, elsewhere: bool, posts: int
) -> None:
    """Meanwhile a generation is begun unchecked, so that the journal writes nothing in the place of that segment."""
    lost, own = post_own(copied, 3)
    newest = journal_of(copied.settings)[-1]
    content = newest.read_bytes()
    if elsewhere:
        copied.exchange(3)
    with pytest.MonkeyPatch.context() as patch:
        failing_to_read(newest, patch)
        for _ in range(2):
            with running_service(copied.settings) as service:
                unchecked = present(service)
                assert (unchecked.parent, unchecked.reason, unchecked.fork_sequence) == (lost, "unchecked", 5)
                assert "rolled_back" not in problem_codes(service)
                if posts:
                    put(service, posts, "anew")
                events = live(service)
                posts = 0
    assert newest.read_bytes() == content

    with running_service(copied.settings) as service:
        if not elsewhere:
            assert (present(service), live(service), problem_codes(service)) == (unchecked, events, [])
            return
        assert (present(service).parent, present(service).fork_sequence) == (unchecked.id, 2)
        (problem,) = service.status()["problems"]
        assert problem["code"] == "rolled_back"
        assert f'{{"generation": "{lost}", "sequence": 5}}' in problem["hint"]
        service.restore_moment(Moment(generation=lost, sequence=5))
        assert (live(service), problem_codes(service)) == (own, [])


def failing_to_unpack(archive: Path, patch: pytest.MonkeyPatch) -> None:
    check = StoreService._check_opened

    def refuse(name: str, **_: Any) -> dict[str, Any]:
        raise OSError(errno.EIO, os.strerror(errno.EIO), str(archive))

    def check_without_disk(service: StoreService, *arguments: Any) -> None:
        with pytest.MonkeyPatch.context() as chores:
            chores.setattr(service.chores, "run", refuse)
            check(service, *arguments)

    patch.setattr(StoreService, "_check_opened", check_without_disk)


def test_an_archive_that_cannot_be_unpacked_is_compared_at_the_next_start(copied: Copied) -> None:
    lost, own = post_own(copied, 3, archive=True, journal=False)
    copied.exchange(3)
    (archive,) = copied.settings.backup_dir.glob("*own.tar.gz")
    with pytest.MonkeyPatch.context() as patch:
        failing_to_unpack(archive, patch)
        with running_service(copied.settings) as service:
            assert (present(service).parent, present(service).reason) == (lost, "unchecked")
            assert "rolled_back" not in problem_codes(service)
            assert {entry.problem for entry in service.catalogue.entries()} == {None}
    with running_service(copied.settings) as service:
        assert problem_codes(service) == ["rolled_back"]
        service.restore_moment(Moment(generation=lost, sequence=5))
        assert (live(service), problem_codes(service)) == (own, [])


@pytest.mark.parametrize("lost_by", ["the database of a copy", "a gap in the journal"])
def test_the_hint_names_a_generation_that_began_unchecked_for_its_own_events(
    settings_with: Callable[..., Settings], tmp_path: Path, lost_by: str
) -> None:
    environment = {"AUTO_RECOVER": "true", "JOURNAL_INTERVAL": "3600000"}
    own = settings_with(environment)
    folders = {"STORAGE_DIR": str(tmp_path / "copy" / "storage"), "BACKUP_DIR": str(tmp_path / "copy" / "backups")}
    copy = settings_with({**environment, **folders})
    with running_service(own) as service:
        put(service, 2, "first")
    with pytest.MonkeyPatch.context() as patch:
        failing_to_read(journal_of(own)[-1], patch)
        with running_service(own) as service:
            unchecked = present(service)
            assert unchecked.reason == "unchecked"
            put(service, 2, "shared")
    for source, target in ((own.storage_dir, copy.storage_dir), (own.backup_dir, copy.backup_dir)):
        shutil.copytree(source, target, dirs_exist_ok=True)
    for name in ("own", "own-later"):
        with running_service(own) as service:
            put(service, 3, name)
    shutil.rmtree(own.database)
    if lost_by == "the database of a copy":
        with running_service(copy) as service:
            put(service, 3, "elsewhere")
    else:
        sorted((own.backup_dir / "journal" / unchecked.id).glob("segment_*"))[-2].unlink()
    shutil.copytree(copy.database, own.database)

    with running_service(own) as service:
        (problem,) = [each for each in service.status()["problems"] if each["code"] == "rolled_back"]
        assert unchecked.id in problem["hint"]


def test_what_is_in_a_folder_that_cannot_be_trusted_begins_no_generation(
    copied: Copied, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A database that is opened again knows what it had: the backups of another installation there tell nothing."""
    post_own(copied, 3)

    def refuse(*_: object, **__: object) -> None:
        raise BackupsChanged("another folder is mounted there", hint="mount the right one")

    with running_service(copied.settings) as service:
        before, events = present(service), live(service)
        monkeypatch.setattr(service.head_check._history, "find", refuse)
        monkeypatch.setattr(service.head_check._forks, "find", lambda *_: Fork(ROLLED_BACK, 1))
        service.bus.reopen()
        assert (present(service), live(service)) == (before, events)

"""An old copy of storage/ is put back: its new events are never confused with the recorded ones beyond it."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from eventvault.database.generation import Generation
from eventvault.restore.values import Moment
from eventvault.settings import Settings
from eventvault.store.service import StoreService
from tests import processes
from tests.restoring import drafts, flip, ids, problem_codes
from tests.stores import running_service


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


def present(service: StoreService) -> Generation:
    return service.bus.registry.identity.present  # type: ignore[union-attr]


def wait_for(service: StoreService, sequence: int) -> None:
    processes.wait_until(lambda: service.status()["journal"]["lastSequence"] == sequence, "it is not in the journal")


def spans(service: StoreService) -> list[tuple[int, int, str]]:
    return [(each.first, each.last, each.generation) for each in service.journal.folder.segments()[0]]


def assert_kept_beside(settings: Settings, lost: str) -> None:
    """Check that a generation begins at event 2, and that its event and the lost ones can be restored and recovered."""
    with running_service(settings) as service:
        fork = present(service)
        assert (fork.parent, fork.fork_sequence, fork.reason) == (lost, 2, "rolled back")
        service.append(drafts(1, "anew"))
        wait_for(service, 3)
        assert service.journal.flush(survey=True)
        assert (3, 3, fork.id) in spans(service)
    shutil.rmtree(settings.storage_dir)
    with running_service(settings) as service:
        assert ids(service) == ["before-0", "before-1", "anew-0"]
        service.restore_moment(Moment(sequence=5, generation=lost))
        assert ids(service) == ["before-0", "before-1", "lost-0", "lost-1", "lost-2"]


def test_a_database_that_is_behind_its_journal_begins_a_generation(quick: Settings) -> None:
    with put_back(quick) as service:
        service.append(drafts(3, "lost"))
        lost = present(service).id
    assert_kept_beside(quick, lost)


def test_a_database_that_is_behind_an_archive_begins_a_generation(quick: Settings) -> None:
    with put_back(quick) as service:
        service.append(drafts(3, "lost"))
        wait_for(service, 5)
        service.create_backup()
        assert service.journal.flush(survey=True)
        assert spans(service) == []
        lost = present(service).id
    (quick.backup_dir / "journal" / "registry.json").unlink()
    assert_kept_beside(quick, lost)


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
def unreadable(journal: Path) -> Iterator[None]:
    """Fail as a disk that does not answer."""
    away = journal.with_name("away")
    journal.rename(away)
    journal.write_text("in the way")
    yield
    journal.unlink()
    away.rename(journal)


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

"""An archive goes: what only the database would hold then is in the journal before, or soon after if nobody asked."""

from __future__ import annotations

import fcntl
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from eventvault.errors import ArchiveDamaged, BackupProtected, EventVaultError
from eventvault.journal import journal as journal_module
from eventvault.journal import writer
from eventvault.settings import Settings
from eventvault.store.service import StoreService
from tests import processes
from tests.restoring import drafts, flip, live, problem_codes, put, put_in_the_way
from tests.stores import running_service

pytestmark = pytest.mark.slow

EVENTS = 5


@pytest.fixture
def settings(settings_with: Callable[..., Settings]) -> Settings:
    """With a journal that does nothing by itself."""
    return settings_with({"JOURNAL_INTERVAL": "3600000", "AUTO_RECOVER": "true"})


@pytest.fixture
def service(settings: Settings) -> Iterator[StoreService]:
    with running_service(settings) as service:
        yield service


@pytest.fixture
def watching(settings_with: Callable[..., Settings], monkeypatch: pytest.MonkeyPatch) -> Iterator[StoreService]:
    """A journal that looks at the folders only if BACKUP_DIR changes."""
    monkeypatch.setattr(journal_module, "CHANGE_SECONDS", 0.01)
    with running_service(settings_with({"JOURNAL_INTERVAL": "10", "AUTO_RECOVER": "true"})) as service:
        monkeypatch.setattr(journal_module, "SURVEY_SECONDS", 3600.0)
        yield service


def archive_all(service: StoreService) -> Path:
    """Make an archive of all events; the journal has none of them then."""
    put(service, EVENTS, "a")
    path = Path(service.create_backup().backup.path)
    assert service.journal.flush(survey=True)
    processes.wait_until(lambda: not covered(service), "the segments were not removed")
    return path


def covered(service: StoreService) -> list[tuple[int, int]]:
    return [(each.first, each.last) for each in service.journal.folder.segments()[0]]


def recovered(service: StoreService, settings: Settings) -> list[bytes]:
    """The events that a machine has which gets BACKUP_DIR as it is now, and nothing else."""
    elsewhere = settings.storage_dir.with_name("elsewhere")
    shutil.copytree(settings.backup_dir, elsewhere, ignore=shutil.ignore_patterns("*.tmp"))
    service.stop()
    service.bus.close()
    shutil.rmtree(settings.storage_dir)
    shutil.rmtree(settings.backup_dir)
    elsewhere.rename(settings.backup_dir)
    with running_service(settings) as other:
        assert problem_codes(other) == []
        return live(other)


def test_the_last_archive_can_be_deleted_without_any_risk(service: StoreService, settings: Settings) -> None:
    path, events = archive_all(service), live(service)
    with pytest.raises(BackupProtected):
        service.delete_backup(path.name)
    assert covered(service) == []

    service.delete_backup(path.name, force=True)

    assert not path.exists()
    assert covered(service) == [(1, EVENTS)]
    assert recovered(service, settings) == events


def test_events_that_came_since_are_journaled_too(service: StoreService, settings: Settings) -> None:
    path = archive_all(service)
    service.append(drafts(3, "since"))
    events = live(service)

    service.delete_backup(path.name, force=True)

    assert recovered(service, settings) == events


def test_a_journal_that_cannot_be_written_keeps_the_last_archive(service: StoreService, settings: Settings) -> None:
    path, events = archive_all(service), live(service)
    journal = settings.backup_dir / "journal"
    with service.journal._turn.held():
        put_in_the_way(journal)

    with pytest.raises(EventVaultError, match=f"{path.name} was not removed: without it only the database") as caught:
        service.delete_backup(path.name, force=True)

    assert caught.value.hint
    assert path.exists()
    journal.unlink()
    service.delete_backup(path.name, force=True)
    assert recovered(service, settings) == events


def test_other_archives_are_deleted_without_a_word(service: StoreService) -> None:
    older = archive_all(service)
    put(service, 2, "b")
    newest = Path(service.create_backup().backup.path)
    written = service.journal.counts["segments"]

    service.delete_backup(newest.name)
    service.create_backup()
    service.delete_backup(older.name)

    assert service.journal.counts["segments"] == written


def test_a_deletion_that_is_refused_after_all_leaves_the_journal_as_small_as_it_was(service: StoreService) -> None:
    path = archive_all(service)
    with path.open("rb") as read:
        fcntl.flock(read, fcntl.LOCK_SH)
        with pytest.raises(BackupProtected, match="is being read"):
            service.delete_backup(path.name, force=True)

    assert service.journal.flush(survey=True)
    assert covered(service) == []


@pytest.mark.parametrize("how", ["removed by hand", "moved away", "found damaged", "the catalogue is lost"])
def test_what_an_archive_held_that_is_no_good_any_more_is_journaled_again(watching: StoreService, how: str) -> None:
    path, events = archive_all(watching), live(watching)
    match how:
        case "removed by hand":
            path.unlink()
        case "moved away":
            path.rename(watching.settings.storage_dir / "away.tar.gz")
        case "found damaged":
            flip(path, 1000)
            with pytest.raises(ArchiveDamaged):
                watching.verify_backup(path.name)
        case "the catalogue is lost":
            (path.parent / ".catalogue.json").unlink()

    processes.wait_until(lambda: covered(watching) == [(1, EVENTS)], "the journal has not got a beginning again")
    path.unlink(missing_ok=True)
    assert recovered(watching, watching.settings) == events


def test_health_says_what_the_journal_lacks_until_it_is_written(
    watching: StoreService, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = archive_all(watching)
    monkeypatch.setattr(journal_module, "MAX_SECONDS_AT_RISK", 0.0)
    monkeypatch.setattr(journal_module, "MAX_INTERVALS_AT_RISK", 0)
    monkeypatch.setattr(writer, "MAX_RECENT_EVENTS", 1)
    monkeypatch.setattr(journal_module, "BACKLOG_SECONDS", -1.0)

    path.unlink()

    processes.wait_until(lambda: problem_codes(watching) == ["journal_failed"], "health does not say so")
    (problem,) = watching.status()["problems"]
    assert problem["message"].startswith(f"events 1 to {EVENTS} are in the database alone")
    monkeypatch.setattr(journal_module, "BACKLOG_SECONDS", 0.5)
    processes.wait_until(lambda: problem_codes(watching) == [], "health goes on saying so")
    assert covered(watching) == [(1, EVENTS)]

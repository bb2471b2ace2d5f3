"""A full verification: it reads what a restore reads, marks a damaged archive, and the mark has its effects."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from eventvault import data_folders
from eventvault.archive import layout
from eventvault.errors import ArchiveError, BackupNotFound
from eventvault.restore import prepare, unpacked
from eventvault.restore.unproven import UnprovenDatabase
from eventvault.settings import Settings
from eventvault.store.service import StoreService
from tests.restoring import append_random, flip, make_archive
from tests.stores import running_service

pytestmark = pytest.mark.slow


@pytest.fixture
def service(settings: Settings) -> Iterator[StoreService]:
    with running_service(settings) as running:
        yield running


def test_a_good_archive_is_verified(service: StoreService, settings: Settings) -> None:
    append_random(service, 20)
    made = service.create_backup().backup

    verified = service.verify_backup(made.name)

    assert (made.content_checked, verified.content_checked) == (True, True)
    assert verified.verified is not None
    assert made.verified is not None
    assert verified.verified >= made.verified
    assert (verified.digest, verified.sha256, verified.problem) == (made.digest, None, None)
    assert service.list_backups() == [verified]
    assert service.status()["metrics"]["archives_verified"] == 1
    assert service.status()["backup"]["oldestVerified"] == verified.verified
    assert [path for path in settings.storage_dir.iterdir() if path.name.startswith(".restoring")] == []


def test_one_that_is_not_there_is_not_found(service: StoreService) -> None:
    with pytest.raises(BackupNotFound):
        service.verify_backup("backup_2024-12-27_120000.tar.gz")


@pytest.mark.parametrize("place", [0, 3000, -200, -1])
def test_a_flipped_bit_is_found_named_and_marked(place: int, service: StoreService, settings: Settings) -> None:
    append_random(service, 50)
    made = service.create_backup().backup
    path = Path(made.path)
    stamp = path.stat()
    flip(path, place % made.size)
    os.utime(path, ns=(stamp.st_atime_ns, stamp.st_mtime_ns))

    with pytest.raises(ArchiveError) as raised:
        service.verify_backup(made.name)

    (entry,) = service.list_backups()
    assert (entry.problem, entry.verified, entry.content_checked) == (raised.value.message, None, False)
    status = service.status()
    assert (status["status"], status["backup"]["damaged"]) == ("degraded", [made.name])
    assert made.name in status["problems"][0]["message"]
    assert status["metrics"]["archives_damaged"] == 1
    with pytest.raises(ArchiveError):
        service.restore(made.name)
    assert service.status()["store"]["events"] == 50


def test_after_damage_the_next_backup_is_fresh_and_health_recovers_without_the_damaged_one(
    service: StoreService, settings: Settings
) -> None:
    append_random(service, 50)
    made = service.create_backup().backup
    flip(Path(made.path), made.size // 2)
    with pytest.raises(ArchiveError):
        service.verify_backup(made.name)
    assert not (settings.storage_dir / data_folders.ARCHIVED_TABLES).exists()

    again = service.backups.create_if_changed()

    assert again is not None
    assert service.verify_backup(again.backup.name).content_checked
    service.delete_backup(made.name)
    assert service.status()["status"] == "ok"


def elsewhere(path: Path) -> None:
    make_archive(path, events=20)


def copied(path: Path) -> None:
    """An archive of this installation under another name: its seal proves it, but nobody knows of its tables."""
    shutil.copy(next(path.parent.glob("backup_*")), path)


def test_an_archive_that_was_made_here_is_verified_by_its_digests_unless_records_are_wanted(
    service: StoreService,
) -> None:
    append_random(service, 20)
    made = service.create_backup().backup
    assert (made.checked, made.content_checked) == ("digests", True)
    checked = [service.verify_backup(made.name, records=records).checked for records in (False, True, False)]
    assert checked == ["digests", "records", "digests"]


@pytest.mark.parametrize(("put", "then"), [(copied, "digests"), (elsewhere, "records")])
def test_any_other_archive_is_verified_by_its_records(
    put: Callable[[Path], None], then: str, service: StoreService, settings: Settings
) -> None:
    append_random(service, 20)
    service.create_backup()
    put(settings.backup_dir / "other.tar.gz")
    assert service.verify_backup("other.tar.gz").checked == "records"
    assert service.verify_backup("other.tar.gz").checked == then


class Steps:
    """Notes what a restore reads after it has unpacked an archive."""

    def __init__(self, service: StoreService, monkeypatch: pytest.MonkeyPatch) -> None:
        self.taken: list[str] = []
        run = service.chores.run

        def here(name: str, **arguments: object) -> dict[str, object]:
            return getattr(prepare, name)(**arguments) if name == "prepare_restore" else run(name, **arguments)

        monkeypatch.setattr(service.chores, "run", here)
        owners = {"check_all_tables": unpacked, "check_together": unpacked, "replay": UnprovenDatabase}
        for step, owner in owners.items():
            monkeypatch.setattr(owner, step, self._noting(step, getattr(owner, step)))

    def _noting(self, step: str, take: Callable[..., object]) -> Callable[..., object]:
        def noted(*arguments: object, **more: object) -> object:
            self.taken.append(step)
            return take(*arguments, **more)

        return noted


def seal_flipped(path: Path) -> None:
    """Flip a bit of the seal; size and times stay."""
    stamp = path.stat()
    flip(path, -layout.CLOSING_SIZE - 20)
    os.utime(path, ns=(stamp.st_atime_ns, stamp.st_mtime_ns))


@pytest.mark.parametrize("records", [False, True])
def test_a_changed_seal_is_named_and_the_catalogue_proves_the_archive(records: bool, service: StoreService) -> None:
    append_random(service, 20)
    made = service.create_backup().backup
    seal_flipped(Path(made.path))

    verified = service.verify_backup(made.name, records=records)

    assert (verified.seal_changed, verified.origin_proven, verified.problem) == (True, True, None)
    (problem,) = service.status()["problems"]
    assert problem["code"] == "seal_changed"
    assert made.name in problem["message"]
    assert "catalogue still proves it" in problem["message"]
    assert service.restore(made.name).checked == "digests"
    seal_flipped(Path(made.path))
    assert not service.verify_backup(made.name).seal_changed
    assert service.status()["status"] == "ok"


def test_a_changed_seal_is_named_where_nothing_else_proves_the_archive(
    service: StoreService, settings: Settings
) -> None:
    append_random(service, 20)
    path = Path(service.create_backup().backup.path)
    path.rename(path.with_name("copied.tar.gz"))
    (settings.backup_dir / data_folders.CATALOGUE).unlink()
    assert service.list_backups()[0].origin_proven
    seal_flipped(path.with_name("copied.tar.gz"))

    assert not service.verify_backup("copied.tar.gz").origin_proven

    (problem,) = service.status()["problems"]
    assert (problem["code"], "nothing proves" in problem["message"]) == ("seal_changed", True)


def made_here(_path: Path) -> None:
    """What the service made."""


@pytest.mark.parametrize(
    ("put", "checked", "taken"),
    [
        (made_here, "digests", []),
        (copied, "digests", ["check_all_tables"]),
        (elsewhere, "records", ["replay"]),
    ],
)
def test_a_restore_reads_what_is_not_known_to_be_good(
    put: Callable[[Path], None],
    checked: str,
    taken: list[str],
    service: StoreService,
    settings: Settings,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    append_random(service, 20)
    made = service.create_backup().backup
    put(settings.backup_dir / "other.tar.gz")
    steps = Steps(service, monkeypatch)
    name = made.name if put is made_here else "other.tar.gz"

    assert service.plan_restore(name)["checked"] == checked
    restored = service.restore(name)

    assert (restored.events, restored.checked, steps.taken) == (20, checked, taken)
    assert restored.proven is (put is not elsewhere)


def test_an_archive_that_is_another_one_by_now_is_read_again(service: StoreService) -> None:
    append_random(service, 20)
    made = service.create_backup("one").backup
    service.verify_backup(made.name)
    append_random(service, 5, 100)
    other = service.create_backup("two").backup
    Path(other.path).rename(made.path)

    assert not service.list_backups()[0].content_checked

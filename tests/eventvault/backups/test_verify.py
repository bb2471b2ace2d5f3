"""A full verification: it reads what a restore reads, marks a damaged archive, and the mark has its effects."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from eventvault import data_folders
from eventvault.errors import ArchiveError, BackupNotFound
from eventvault.settings import Settings
from eventvault.store.service import StoreService
from tests.restoring import append_random, flip
from tests.stores import running_service


@pytest.fixture
def service(settings: Settings) -> Iterator[StoreService]:
    with running_service(settings) as running:
        yield running


def test_a_good_archive_is_verified_and_proven(service: StoreService, settings: Settings) -> None:
    append_random(service, 20)
    made = service.create_backup().backup

    verified = service.verify_backup(made.name)

    assert (made.records_verified, verified.records_verified) == (False, True)
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
    assert (entry.problem, entry.verified, entry.records_verified) == (raised.value.message, None, False)
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
    assert service.verify_backup(again.backup.name).records_verified
    service.delete_backup(made.name)
    assert service.status()["status"] == "ok"


def test_what_was_verified_is_not_read_record_by_record_again(
    service: StoreService, monkeypatch: pytest.MonkeyPatch
) -> None:
    from eventvault.restore import prepare

    append_random(service, 20)
    made = service.create_backup().backup
    service.verify_backup(made.name)
    read: list[str] = []
    run = service.chores.run

    def here(name: str, **arguments: object) -> dict[str, object]:
        return getattr(prepare, name)(**arguments) if name == "prepare_restore" else run(name, **arguments)

    monkeypatch.setattr(service.chores, "run", here)
    monkeypatch.setattr(prepare, "check_together", lambda *_: read.append("read"))

    assert service.restore(made.name).events == 20
    assert read == []
    unverified = service.create_backup().backup
    service.restore(unverified.name)
    assert read == ["read"]


def test_an_archive_that_is_another_one_by_now_is_read_again(service: StoreService) -> None:
    append_random(service, 20)
    made = service.create_backup("one").backup
    service.verify_backup(made.name)
    append_random(service, 5, 100)
    other = service.create_backup("two").backup
    Path(other.path).rename(made.path)

    assert not service.list_backups()[0].records_verified

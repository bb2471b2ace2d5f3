"""Removal checks once more, under the lock, which archives may be removed."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from eventvault import file_locks
from eventvault.archive import locks
from eventvault.backups import removal
from eventvault.backups.entry import Pin
from eventvault.errors import BackupNotFound, BackupProtected
from eventvault.settings import Settings
from eventvault.store.service import StoreService
from tests.restoring import drafts
from tests.stores import running_service

pytestmark = pytest.mark.slow


@pytest.fixture
def service(settings_with: Callable[..., Settings]) -> Iterator[StoreService]:
    with running_service(settings_with({"MAX_BACKUPS": "2"})) as running:
        running.append(drafts(1))
        yield running


def names(service: StoreService) -> list[str]:
    return [entry.name for entry in service.list_backups()]


def just_before_removal(monkeypatch: pytest.MonkeyPatch, act: Callable[[], object]) -> None:
    """Run something after an archive was locked for removal and before it is removed."""
    claim, acted = removal.exclusive_lock, list[bool]()

    @contextmanager
    def acting(path: Path, patience: float) -> Iterator[None]:
        with claim(path, patience):
            if not acted:
                acted.append(True)
                act()
            yield

    monkeypatch.setattr(removal, "exclusive_lock", acting)


def test_an_archive_that_was_pinned_meanwhile_is_not_deleted(
    service: StoreService, monkeypatch: pytest.MonkeyPatch
) -> None:
    first, second = (service.create_backup(label).backup.name for label in ("one", "two"))
    just_before_removal(monkeypatch, lambda: service.pin_backup(first, pinned=True))

    with pytest.raises(BackupProtected, match="pinned"):
        service.delete_backup(first)

    assert set(names(service)) == {first, second}


def test_an_archive_that_became_the_last_good_one_meanwhile_is_not_deleted(
    service: StoreService, monkeypatch: pytest.MonkeyPatch
) -> None:
    first, second = (service.create_backup(label).backup.name for label in ("one", "two"))
    just_before_removal(monkeypatch, lambda: service.catalogue.record_problem(second, "one byte is wrong"))

    with pytest.raises(BackupProtected, match="last good"):
        service.delete_backup(first)

    assert set(names(service)) == {first, second}


def test_an_archive_that_was_pinned_meanwhile_is_not_rotated_away(
    service: StoreService, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = service.create_backup("one").backup.name
    service.create_backup("two")
    still_removable = removal.retention.still_removable

    def removable_once_pinned(*arguments: Any) -> list[str]:
        service.catalogue.annotations.change(first, pin=Pin("meanwhile"))
        return still_removable(service.catalogue.entries(), *arguments[1:])

    monkeypatch.setattr(removal.retention, "still_removable", removable_once_pinned)
    service.create_backup("three")

    assert first in names(service)
    assert len(names(service)) == 3


def test_a_deletion_waits_for_whoever_only_looks_at_the_archive(
    service: StoreService, monkeypatch: pytest.MonkeyPatch
) -> None:
    first, second = (service.create_backup(label).backup.name for label in ("one", "two"))
    with ExitStack() as reader:
        reader.enter_context(locks.shared_lock(service.settings.backup_dir / first))
        waiting = SimpleNamespace(monotonic=time.monotonic, sleep=lambda _: reader.close())
        monkeypatch.setattr(file_locks, "time", waiting)
        service.delete_backup(first)

    assert names(service) == [second]


@pytest.mark.parametrize("round_", range(5))
def test_two_deletions_at_once_never_take_the_last_good_one(service: StoreService, round_: int) -> None:
    made = [service.create_backup(label).backup.name for label in ("one", "two")]
    together, refused = threading.Barrier(2), list[str]()

    def delete(name: str) -> None:
        together.wait()
        try:
            service.delete_backup(name)
        except BackupProtected:
            refused.append(name)

    threads = [threading.Thread(target=delete, args=(name,)) for name in made]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert names(service) == refused
    assert len(refused) == 1


def test_the_same_archive_deleted_twice_at_once_is_gone_for_the_second(service: StoreService) -> None:
    first = service.create_backup("one").backup.name
    service.create_backup("two")
    together, answers = threading.Barrier(2), list[str]()

    def delete() -> None:
        together.wait()
        try:
            service.delete_backup(first)
            answers.append("deleted")
        except BackupNotFound:
            answers.append("not found")

    threads = [threading.Thread(target=delete) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert sorted(answers) == ["deleted", "not found"]

"""Many new tables are checked after their archive was named; until then nothing relies on it."""

from __future__ import annotations

import os
import shutil
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from eventvault.archive import layout
from eventvault.backups import chores
from eventvault.backups.late_check import UncheckedBackup
from eventvault.errors import ArchiveError, DatabaseError
from eventvault.settings import Settings
from eventvault.store.service import StoreService
from tests.filled import fill
from tests.restoring import drafts, leftovers, problem_codes
from tests.stores import running_service

from .test_create_damage import MIDDLE, flip_in_place, in_filter, read_all

pytestmark = pytest.mark.slow


@pytest.fixture
def service(settings: Settings) -> Iterator[StoreService]:
    """A service that checks no table at once, and keeps one archive."""
    fill(settings.database, 500_000)
    one = settings.__class__(**{**vars(settings), "max_backups": 1})
    with running_service(one) as service:
        service.backups.archiver.check_at_once = 0
        read_all(service)
        yield service


@pytest.fixture
def table(service: StoreService, settings: Settings) -> Path:
    return max(settings.database.glob("*.ldb"), key=lambda path: path.stat().st_size)


@contextmanager
def held_check(service: StoreService, monkeypatch: pytest.MonkeyPatch) -> Iterator[threading.Event]:
    """The check of tables waits until the context ends; the event tells that it was reached."""
    reached, go_on = threading.Event(), threading.Event()
    run = service.chores.run

    def slow(name: str, **arguments: Any) -> dict[str, Any]:
        if name == "check_tables":
            reached.set()
            assert go_on.wait(60)
        return run(name, **arguments)

    monkeypatch.setattr(service.chores, "run", slow)
    try:
        yield reached
    finally:
        go_on.set()
        service.backups.late_check.wait()


def new_table(service: StoreService, settings: Settings, label: str) -> Path:
    before = set(settings.database.glob("*.ldb"))
    service.append(drafts(50, label))
    assert service.journal.flush()
    service.bus.reopen()
    (table,) = set(settings.database.glob("*.ldb")) - before
    return table


def names(service: StoreService) -> set[str]:
    return {entry.name for entry in service.list_backups()}


def test_the_archive_is_verified_once_the_check_ends(
    service: StoreService, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    with held_check(service, monkeypatch) as reached:
        made = service.create_backup("one").backup
        assert reached.wait(60)
        assert made.verified is None
        assert service.backup_manifest(made.name)["events"] == made.events

    assert service.list_backups()[0].verified is not None
    assert problem_codes(service) == []
    assert leftovers(settings.storage_dir, settings.backup_dir) == []


@pytest.mark.parametrize("replace", ["copied over", "moved over", "grown"])
def test_a_file_that_took_the_name_before_the_check_began_is_not_verified(
    service: StoreService, settings: Settings, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, replace: str
) -> None:
    start = service.backups.late_check.start

    def late(run: Callable[[UncheckedBackup], None], backup: UncheckedBackup) -> None:
        path = settings.backup_dir / backup.name
        copy = Path(shutil.copy(path, tmp_path))
        if replace == "moved over":
            copy.rename(path)
        else:
            path.write_bytes(copy.read_bytes() + (b"more" if replace == "grown" else b""))
        start(run, backup)

    monkeypatch.setattr(service.backups.late_check, "start", late)
    made = service.create_backup("one").backup
    service.backups.late_check.wait()

    (entry,) = service.list_backups()
    assert (entry.name, entry.verified) == (made.name, None)


def test_rotation_waits_for_the_check(
    service: StoreService, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = service.create_backup("one").backup
    service.backups.late_check.wait()
    new_table(service, settings, "more")

    with held_check(service, monkeypatch):
        second = service.create_backup("two").backup
        assert names(service) == {first.name, second.name}

    assert names(service) == {second.name}


def test_a_find_marks_the_archive_and_is_told_like_a_failed_backup(service: StoreService, settings: Settings) -> None:
    first = service.create_backup("one").backup
    service.backups.late_check.wait()
    table = new_table(service, settings, "more")
    flip_in_place(table, 100)

    second = service.create_backup("two").backup
    service.backups.late_check.wait()

    entries = {entry.name: entry for entry in service.list_backups()}
    assert set(entries) == {first.name, second.name}
    assert entries[first.name].problem is None
    assert table.name in (entries[second.name].problem or "")
    assert set(problem_codes(service)) == {"database_damaged", "backup_damaged"}
    assert service.backups.counts["failed"] == 1
    assert leftovers(settings.storage_dir, settings.backup_dir) == []
    flip_in_place(table, 100)
    third = service.create_backup("three").backup
    service.backups.late_check.wait()
    assert names(service) == {third.name, second.name}, "a damaged one goes when somebody deletes it"
    assert problem_codes(service) == ["backup_damaged"]
    service.delete_backup(second.name)
    assert problem_codes(service) == []


def test_an_archive_that_was_found_damaged_meanwhile_stays_marked(
    service: StoreService, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = service.create_backup("one").backup
    service.backups.late_check.wait()
    new_table(service, settings, "more")

    with held_check(service, monkeypatch):
        second = service.create_backup("two").backup
        path, before = Path(second.path), Path(second.path).stat()
        flip_in_place(path, second.size // 2)
        os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))
        with pytest.raises(ArchiveError):
            service.verify_backup(second.name)

    entries = {entry.name: entry for entry in service.list_backups()}
    assert set(entries) == {first.name, second.name}
    assert entries[second.name].problem is not None
    assert entries[second.name].verified is None


def test_a_find_in_a_filter_is_not_cleared_by_a_request_that_reads_the_records(
    service: StoreService, table: Path
) -> None:
    flip_in_place(table, in_filter(table))
    made = service.create_backup("one").backup
    service.backups.late_check.wait()

    with pytest.raises(ArchiveError, match=table.name):
        service.verify_backup(made.name)

    assert table.name in (service.list_backups()[0].problem or "")


def test_a_find_is_told_although_the_archive_was_deleted_meanwhile(
    service: StoreService, settings: Settings, table: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    flip_in_place(table, MIDDLE)

    with held_check(service, monkeypatch) as reached:
        made = service.create_backup("one").backup
        assert reached.wait(60)
        service.delete_backup(made.name, force=True)

    assert problem_codes(service) == ["database_damaged"]
    assert leftovers(settings.storage_dir, settings.backup_dir) == []


def test_a_find_is_found_again_by_the_next_backup(service: StoreService, table: Path) -> None:
    flip_in_place(table, MIDDLE)

    for label in ("one", "two"):
        service.create_backup(label)
        service.backups.late_check.wait()

    assert all(table.name in (entry.problem or "") for entry in service.list_backups())
    assert "database_damaged" in problem_codes(service)


def test_the_next_backup_waits_for_the_check_and_checks_nothing_twice(
    service: StoreService, monkeypatch: pytest.MonkeyPatch
) -> None:
    checks: list[str] = []
    run = service.chores.run

    def noting(name: str, **arguments: Any) -> dict[str, Any]:
        checks.append(name)
        return run(name, **arguments)

    monkeypatch.setattr(service.chores, "run", noting)

    for label in ("one", "two"):
        service.create_backup(label)
    service.backups.late_check.wait()

    assert checks == ["write_archive", "check_tables", "check_content", "write_archive"]
    assert service.list_backups()[0].verified is not None


def test_a_disk_that_fails_leaves_the_archive_unverified_and_health_says_why(
    service: StoreService, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = service.chores.run

    def failing(name: str, **arguments: Any) -> dict[str, Any]:
        if name == "check_tables":
            raise DatabaseError("checking the table 000005.ldb failed: Input/output error", hint="check the disk")
        return run(name, **arguments)

    with monkeypatch.context() as patch:
        patch.setattr(service.chores, "run", failing)
        first = service.create_backup("one").backup
        service.backups.late_check.wait()

    (entry,) = service.list_backups()
    assert (entry.verified, entry.problem) == (None, None)
    assert problem_codes(service) == ["database_error"]
    second = service.create_backup("two").backup
    service.backups.late_check.wait()
    assert problem_codes(service) == []
    assert names(service) == {second.name} != {first.name}


def test_a_store_that_stops_leaves_an_archive_that_is_not_verified(
    settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    fill(settings.database, 500_000)
    with running_service(settings) as service:
        service.backups.archiver.check_at_once = 0
        run = service.chores.run

        def stopping(name: str, **arguments: Any) -> dict[str, Any]:
            if name == "check_tables":
                service.chores.cancel()
            return run(name, **arguments)

        monkeypatch.setattr(service.chores, "run", stopping)
        made = service.create_backup("one").backup

    with running_service(settings, service_starts=False) as service:
        (entry,) = service.list_backups()
        assert (entry.name, entry.verified, entry.problem) == (made.name, None, None)
        assert leftovers(settings.storage_dir) == []
        assert service.backups.finish_interrupted(made.name).backup.verified is not None


def test_members_that_do_not_hold_their_file_mark_the_archive_and_nothing_is_copied_from_it(
    service: StoreService, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As if memory failed while a table was compressed: its bytes are on disk as they were written, and wrong."""
    real, run = layout.member, service.chores.run

    def running(name: str, **arguments: Any) -> dict[str, Any]:
        return chores.write_archive(**arguments) if name == "write_archive" else run(name, **arguments)

    def member(content: bytes | memoryview, *more: Any, **others: Any) -> bytes:
        wrong = bytes([content[0] ^ 1]) + bytes(content[1:]) if len(content) > 100_000 else content
        return real(wrong, *more, **others)

    with monkeypatch.context() as patch:
        patch.setattr(layout, "member", member)
        patch.setattr(service.chores, "run", running)
        first = service.create_backup("one").backup
        service.backups.late_check.wait()

    (entry,) = service.list_backups()
    assert (entry.verified, "do not hold that file" in (entry.problem or "")) == (None, True)
    assert "archive_damaged" in problem_codes(service)
    second = service.create_backup("two").backup
    service.backups.late_check.wait()
    assert service.verify_backup(second.name, records=True).events == first.events
    assert "archive_damaged" not in problem_codes(service)

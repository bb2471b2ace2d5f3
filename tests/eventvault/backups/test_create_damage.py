"""A table of the live database that has rotted makes the backup fail, and health says so."""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from eventvault import data_folders
from eventvault.errors import DatabaseDamaged
from eventvault.settings import Settings
from eventvault.store.service import StoreService
from tests.filled import fill
from tests.restoring import drafts, leftovers
from tests.stores import running_service

pytestmark = pytest.mark.slow


@pytest.fixture
def service(settings: Settings) -> Iterator[StoreService]:
    fill(settings.database, 500_000)
    with running_service(settings) as service:
        read_all(service)
        yield service


def read_all(service: StoreService) -> None:
    """Let the journal read all events, so that from now on nothing but a backup meets the damage."""
    assert service.journal.flush()


@pytest.fixture
def table(service: StoreService, settings: Settings) -> Path:
    return max(settings.database.glob("*.ldb"), key=lambda path: path.stat().st_size)


def flip_in_place(path: Path, position: int) -> None:
    """Flip a bit of a file that LevelDB has mapped, so it must not be truncated. position: negative from the end."""
    with path.open("r+b") as file:
        file.seek(position, os.SEEK_SET if position >= 0 else os.SEEK_END)
        byte = file.read(1)[0]
        file.seek(-1, os.SEEK_CUR)
        file.write(bytes([byte ^ 4]))


def in_filter(path: Path) -> int:
    """The filter block lies before the metaindex block, which holds its name."""
    return path.read_bytes().rindex(b"filter.leveldb") - 100


MIDDLE = 100_000
"""Lies in a data block that making a backup does not read through LevelDB."""

PLACES: dict[str, Callable[[Path], int]] = {
    "the first block": lambda _: 100,
    "a block in the middle": lambda _: MIDDLE,
    "the filter": in_filter,
    "the index": lambda _: -100,
    "the footer": lambda _: -44,
    "the magic number": lambda _: -1,
}


def problems(service: StoreService) -> list[dict[str, str]]:
    found: list[dict[str, str]] = service.status()["problems"]
    return found


@pytest.mark.parametrize("place", PLACES.values(), ids=PLACES)
def test_a_flipped_bit_makes_the_backup_fail_until_it_is_repaired(
    place: Callable[[Path], int], service: StoreService, settings: Settings, table: Path
) -> None:
    first = service.create_backup("one").backup
    position = place(table)
    flip_in_place(table, position)

    with pytest.raises(DatabaseDamaged, match=table.name):
        service.create_backup("two")

    (problem,) = problems(service)
    assert service.status()["status"] == "degraded"
    assert problem["code"] == "database_damaged"
    assert table.name in problem["message"]
    assert "POST /api/backup/restore" in problem["hint"]
    assert [entry.name for entry in service.list_backups()] == [first.name]
    assert leftovers(settings.storage_dir, settings.backup_dir) == []
    flip_in_place(table, position)
    assert service.create_backup("two").backup.problem is None
    assert (service.status()["status"], problems(service)) == ("ok", [])


@pytest.mark.parametrize("place", ["the first block", "a block in the middle", "the filter"])
def test_a_table_that_rotted_since_it_was_checked_is_found_where_no_archive_has_it_whole(
    place: str, service: StoreService, table: Path
) -> None:
    """Rot changes neither size nor times, so the table counts as checked; it is compressed anew."""
    first = service.create_backup("one").backup
    service.delete_backup(first.name, force=True)
    before = table.stat()
    flip_in_place(table, PLACES[place](table))
    os.utime(table, ns=(before.st_atime_ns, before.st_mtime_ns))

    with pytest.raises(DatabaseDamaged, match=table.name):
        service.create_backup("two")

    assert service.list_backups() == []


def test_a_note_of_tables_that_is_wrong_is_no_damage(service: StoreService, settings: Settings) -> None:
    first = service.create_backup("one").backup
    service.delete_backup(first.name, force=True)
    notes = settings.storage_dir / data_folders.ARCHIVED_TABLES
    notes.write_text(re.sub(r'"blake3":"[0-9a-f]{64}"', f'"blake3":"{"0" * 64}"', notes.read_text()))

    second = service.create_backup("two").backup

    assert service.verify_backup(second.name, records=True).checked == "records"


def test_a_truncated_table_makes_the_backup_fail(service: StoreService, table: Path) -> None:
    service.create_backup("one")
    content = table.read_bytes()
    os.truncate(table, len(content) - 1)

    with pytest.raises(DatabaseDamaged, match=table.name):
        service.create_backup("two")

    assert [problem["code"] for problem in problems(service)] == ["database_damaged"]
    with table.open("r+b") as file:
        file.write(content)
    service.create_backup("two")
    assert problems(service) == []


def test_a_new_table_is_checked_though_the_other_tables_were(
    settings: Settings, service: StoreService, table: Path
) -> None:
    first = service.create_backup("one").backup
    before = set(settings.database.glob("*.ldb"))
    service.append(drafts(50))
    service.bus.reopen()
    (new,) = set(settings.database.glob("*.ldb")) - before
    flip_in_place(new, 100)

    with pytest.raises(DatabaseDamaged, match=new.name):
        service.create_backup("two")

    assert [entry.name for entry in service.list_backups()] == [first.name]


def test_the_restore_that_the_hint_names_ends_the_problem(service: StoreService, table: Path) -> None:
    first = service.create_backup("one").backup
    flip_in_place(table, MIDDLE)
    with pytest.raises(DatabaseDamaged):
        service.create_backup("two")

    assert service.restore(first.name).events == first.events

    assert problems(service) == []
    service.create_backup("two")


def test_the_problem_outlives_the_store(settings: Settings) -> None:
    fill(settings.database, 500_000)
    table = max(settings.database.glob("*.ldb"), key=lambda path: path.stat().st_size)
    with running_service(settings) as service:
        read_all(service)
        flip_in_place(table, MIDDLE)
        with pytest.raises(DatabaseDamaged):
            service.create_backup()

    with running_service(settings, service_starts=False) as service:
        (problem,) = problems(service)
        flip_in_place(table, MIDDLE)
        service.create_backup()
        assert problems(service) == []

    assert (problem["code"], table.name in problem["message"]) == ("database_damaged", True)
    with running_service(settings, service_starts=False) as service:
        assert problems(service) == []


def test_a_periodic_backup_tells_it_once(settings: Settings, service: StoreService, table: Path) -> None:
    flip_in_place(table, MIDDLE)

    service.schedule._run_interval()

    assert [problem["code"] for problem in problems(service)] == ["database_damaged"]
    assert re.search(table.name, service.status()["jobs"]["autoBackup"]["lastOutcome"])
    flip_in_place(table, MIDDLE)
    service.schedule._run_interval()
    assert problems(service) == []


def test_nothing_is_rotated_while_the_database_is_damaged(
    settings_with: Callable[..., Settings], settings: Settings
) -> None:
    fill(settings.database, 500_000)
    table = max(settings.database.glob("*.ldb"), key=lambda path: path.stat().st_size)
    with running_service(settings_with({"MAX_BACKUPS": "2"})) as service:
        names = []
        for label in ("one", "two"):
            names.append(service.create_backup(label).backup.name)
            service.append(drafts(1, label))
        flip_in_place(table, MIDDLE)
        for _ in range(3):
            with pytest.raises(DatabaseDamaged):
                service.create_backup("three")

        assert sorted(entry.name for entry in service.list_backups()) == sorted(names)
        assert service.restore(names[-1]).events > 0

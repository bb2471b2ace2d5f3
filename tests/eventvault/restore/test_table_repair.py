"""A merge meets a flipped bit: a whole copy takes the table's place, or posts are refused and nothing is lost."""

from __future__ import annotations

import os
import re
import shutil
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import orjson
import pytest

from eventvault import clock
from eventvault.archive import reader
from eventvault.database import registry as registry_module
from eventvault.errors import DatabaseDamaged
from eventvault.events import event
from eventvault.leveldb.examine import file_numbers
from eventvault.leveldb.manifest import read_current, read_version
from eventvault.restore.values import Moment
from eventvault.settings import Settings
from eventvault.store.service import StoreService
from tests import processes
from tests.restoring import flip, leftovers, problem_codes
from tests.stores import running_service

Prepare = Callable[[StoreService], None]

pytestmark = pytest.mark.slow


@pytest.fixture
def quick(settings_with: Callable[..., Settings], monkeypatch: pytest.MonkeyPatch) -> Settings:
    """A store that merges often."""
    monkeypatch.setattr(registry_module, "WRITE_BUFFER_BYTES", 128 * 1024)
    return settings_with({"JOURNAL_INTERVAL": "10"})


def post(service: StoreService, batches: int) -> None:
    """Post events with random identities, so that each table has something to merge with the others."""
    for _ in range(batches):
        drafts = [{"type": "t", "id": os.urandom(8).hex(), "data": os.urandom(200).hex()} for _ in range(100)]
        service.append([event.draft(draft, clock.now()) for draft in drafts])


FIRST, LAST = b"\x00", b"\xff"
"""Keys around all others."""


def merge(service: StoreService) -> None:
    """Merge all tables now: LevelDB merges levels only where their keys overlap, and plyvel none without a range."""
    with service.bus.using():
        for key in (FIRST, LAST):
            service.bus._db.delete(key)
        service.bus._db.compact_range(start=FIRST, stop=LAST)


def events(service: StoreService) -> list[bytes]:
    with service.bus.using() as registry:
        return [value for _, value in registry.events(0, registry.last_sequence)]


def tables(settings: Settings) -> list[Path]:
    """The tables that the MANIFEST names, the largest last."""
    folder = settings.database
    with (folder / read_current(folder)).open("rb") as file:
        named = read_version(file).files
    found = file_numbers([path.name for path in folder.iterdir()], "ldb")
    return sorted((folder / found[number] for number in named), key=lambda path: path.stat().st_size)


def copied(settings: Settings) -> list[Path]:
    """The tables of which an archive or a previous database has a copy, the largest last."""
    previous = {(path.name, path.stat().st_size) for path in settings.storage_dir.glob("previous-*/*.ldb")}
    archives = [reader.read_manifest(path).files for path in settings.backup_dir.glob("*.tar.gz")]
    found = previous | {(file.name, file.size) for files in archives for file in files}
    return [path for path in tables(settings) if (path.name, path.stat().st_size) in found]


def fill(settings: Settings, prepare: Prepare) -> list[bytes]:
    """Put events into tables, and call `prepare`. Returns all events."""
    with running_service(settings) as service:
        post(service, 25)
        merge(service)
        prepare(service)
        return events(service)


def fill_and_copy(settings: Settings, prepare: Prepare) -> list[bytes]:
    """LevelDB may merge tables at any time, so go on until a present table has a copy."""
    before = fill(settings, prepare)
    return before if copied(settings) else fill_and_copy(settings, prepare)


def damage(table: Path, place: Callable[[int], int]) -> bytes:
    """Flip a bit in the table. Returns the damaged table."""
    copy = table.with_name("copy")
    shutil.copyfile(table, copy)
    flip(copy, place(table.stat().st_size))
    copy.rename(table)  # a file of its own: a previous database has the whole one
    return table.read_bytes()


def post_until_refused(service: StoreService) -> None:
    """Have a merge meet the damage, which refuses the posts from then on."""
    merge(service)
    with pytest.raises(DatabaseDamaged):
        post(service, 1)


def post_until_repaired(service: StoreService) -> None:
    """The opening may have met the damage already, or the merge does."""

    def repaired() -> bool:
        with suppress(DatabaseDamaged):
            post(service, 1)
            merge(service)
        return (service.settings.storage_dir / "damaged_tables").exists() and not problem_codes(service)

    processes.wait_until(repaired, "the table is not replaced", 60)


def backed_up(service: StoreService) -> None:
    service.create_backup()


def backed_up_and_forgotten(service: StoreService) -> None:
    """The digests of the archived tables are lost, so both copies are compared block by block."""
    service.create_backup()
    (service.settings.storage_dir / "archived_tables.json").unlink()


def restored(service: StoreService) -> None:
    """The previous database has the same tables, and the archive is gone."""
    name = service.create_backup().backup.name
    service.restore(name)
    service.delete_backup(name, force=True)


PLACES: dict[str, Callable[[int], int]] = {
    "a data block": lambda size: size // 3,
    "the index": lambda size: size - 60,
    "the footer": lambda size: size - 42,
}


@pytest.mark.parametrize(
    ("prepare", "place"),
    [*((backed_up, place) for place in PLACES), (backed_up_and_forgotten, "a data block"), (restored, "a data block")],
)
def test_posts_go_on_with_a_whole_copy_of_the_damaged_table(quick: Settings, prepare: Prepare, place: str) -> None:
    before = fill_and_copy(quick, prepare)
    damaged = damage(copied(quick)[-1], PLACES[place])
    with running_service(quick) as service:
        post_until_repaired(service)
        post(service, 30)
        assert problem_codes(service) == []
        assert events(service)[: len(before)] == before
        assert [orjson.loads(value)["sequence"] for value in events(service)] == list(range(1, last(service) + 1))
        assert leftovers(quick.storage_dir) == []
    assert [file.read_bytes() for file in (quick.storage_dir / "damaged_tables").iterdir()] == [damaged]


def last(service: StoreService) -> int:
    with service.bus.using() as registry:
        return registry.last_sequence


def journaled(service: StoreService) -> None:
    """All events are in the journal, which has no tables."""
    processes.wait_until(lambda: service.status()["journal"]["state"] == "ok", "the journal is behind")


def archive_of_others(service: StoreService) -> None:
    """The archive was made before any of these tables."""
    service.restore_moment(Moment(sequence=0))
    service.create_backup()
    service.undo()
    journaled(service)


@pytest.mark.parametrize("prepare", [journaled, archive_of_others])
def test_without_a_whole_copy_posts_are_refused_and_the_named_restore_loses_nothing(
    quick: Settings, prepare: Prepare
) -> None:
    before = fill(quick, prepare)
    shutil.rmtree(quick.storage_dir / "damaged_tables", ignore_errors=True)
    for previous in quick.storage_dir.glob("previous-*"):
        shutil.rmtree(previous)
    assert copied(quick) == []
    damage(tables(quick)[-1], PLACES["a data block"])
    with running_service(quick) as service:
        post_until_refused(service)
        opened = service.bus.registry

        def names_a_restore() -> bool:
            return bool(re.search(r'\{"sequence": \d+\}.* loses no event', service.status()["problems"][0]["hint"]))

        processes.wait_until(names_a_restore, "health names no restore")
        with pytest.raises(DatabaseDamaged) as refused:
            post(service, 1)
        assert service.bus.registry is opened
        sequence = int(re.search(r'"sequence": (\d+)', refused.value.hint)[1])  # type: ignore[index]
        assert sequence == last(service)
        with service.bus.using() as registry:
            newest = registry.at(sequence)
        service.restore_moment(Moment(sequence=sequence))
        assert events(service)[: len(before)] == before
        assert events(service)[-1] == newest
        began = time.monotonic()
        post(service, 30)
        assert time.monotonic() - began < 30
        assert "database_damaged" not in problem_codes(service)


def test_an_archive_with_the_same_rot_is_named_damaged_and_no_table_is_taken_from_it(quick: Settings) -> None:
    fill_and_copy(quick, backed_up)
    damage(copied(quick)[-1], PLACES["a data block"])
    for archive in quick.backup_dir.glob("*.tar.gz"):
        flip(archive, archive.stat().st_size // 3)
    with running_service(quick) as service:
        post_until_refused(service)

        processes.wait_until(lambda: "backup_damaged" in problem_codes(service), "the archive is not named")
        assert "database_damaged" in problem_codes(service)
        assert not (quick.storage_dir / "damaged_tables").exists()

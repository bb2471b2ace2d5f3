"""A bad sector in a table, which LevelDB maps into memory: no crash loop, the table is named, all else is served."""

from __future__ import annotations

import gc
import http.client
import json
import os
import secrets
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest

from eventvault.database import unreadable_tables
from eventvault.database.bus import EventBus
from eventvault.database.view import DatabaseView
from eventvault.errors import ArchiveUnreadable, DiskFailed
from eventvault.settings import Settings
from tests import processes
from tests.limited_file_system import bad_sectors
from tests.mounts import CannotMount, mount
from tests.restoring import drafts, make_database
from tests.service import Service, services
from tests.stores import running_service

pytestmark = pytest.mark.root
EVENTS = 2000


class FailingDisk:
    """A FUSE mount. root: what is behind it."""

    def __init__(self, mount_point: Path) -> None:
        self.mount_point = mount_point
        self._bad = bad_sectors(mount_point.with_name("folder"))

    def fail(self, file: Path, first: int, last: int) -> None:
        self._bad.write_text(f"{file.name} {first} {last}\n")
        os.utime(file)  # so that the kernel forgets its pages once the file is opened again

    def repair(self) -> None:
        self._bad.unlink()


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[FailingDisk]:
    (tmp_path / "disk").mkdir()
    try:
        with mount("linkless", tmp_path / "disk") as mount_point:
            yield FailingDisk(mount_point)
    except CannotMount as reason:
        pytest.skip(str(reason))


@contextmanager
def service_on(disk: FailingDisk, folder: Path) -> Iterator[Callable[..., Service]]:
    folders = {
        "STORAGE_DIR": str(disk.mount_point / "storage"),
        "BACKUP_DIR": str(folder / "backups"),
        "RESTORE_DIR": str(folder / "restore"),
    }
    with services(folders, folder) as start:
        yield start


def largest_table(storage: Path) -> Path:
    return max((storage / "event_registry_db").glob("*.ldb"), key=lambda table: table.stat().st_size)


def statuses(running: Service) -> dict[int, list[int]]:
    """Status → the events that were answered so, each with the right content."""
    found: dict[int, list[int]] = {}
    for number in range(0, EVENTS, 20):
        reply = running.get(f"/api/events/event-{number}")
        found.setdefault(reply.status, []).append(number)
        if reply.status == 200:
            assert reply.json()["event"]["data"]["n"] == number
        else:
            assert (reply.status, reply.json()["code"]) == (503, "disk_failed"), reply.body
    return found


@pytest.mark.slow
@pytest.mark.parametrize(
    "place", [0.7, pytest.param(0.3, marks=pytest.mark.soak), pytest.param(1.0, marks=pytest.mark.soak)]
)
def test_a_bad_sector_of_a_table_ends_no_more_than_one_store(disk: FailingDisk, tmp_path: Path, place: float) -> None:
    with service_on(disk, tmp_path) as start:
        running = start(workers=1)
        storage = running.folder("STORAGE_DIR")
        for first in range(0, EVENTS, 500):
            events = [
                {"type": "t", "id": f"event-{n}", "data": {"n": n, "x": secrets.token_hex(500)}}
                for n in range(first, first + 500)
            ]
            assert running.post("/api/events", events).status == 201
        running.stop()
        running = start(workers=1)  # it writes what the log holds into a table
        table = largest_table(storage)
        size = table.stat().st_size
        position = min(size - 1, int(size * place)) // 4096 * 4096
        running.stop()
        disk.fail(table, position, position + 4095)
        running = start(workers=1, wait=False)
        seen: set[int] = set()

        def named() -> bool:
            seen.update(running.stores())
            with suppress(OSError, http.client.HTTPException):  # an export ends where the bad sector is
                running.get("/api/events/export", timeout=20)
            with suppress(OSError, http.client.HTTPException):
                health = running.get("/api/health").json()
                return any(table.name in problem["message"] for problem in health["problems"])
            return False

        processes.wait_until(named, "the table is not named")
        found = statuses(running)
        seen.update(running.stores())
        assert len(seen) <= 3, "the stores end one after another"
        health = running.get("/api/health").json()
        assert "disk_failed" in [problem["code"] for problem in health["problems"]]
        assert "database_damaged" not in [problem["code"] for problem in health["problems"]]
        if place < 1.0:  # else the footer is in it, and nothing of the table can be read
            assert health["store"]["state"] == "read_only"
            assert len(found[200]) > 0.8 * EVENTS / 20
        reply = running.post("/api/events", {"type": "t"})
        assert (reply.status, reply.json()["code"]) == (503, "disk_failed")
        assert running.get("/api/backup/list").json()["backups"] == []

        disk.repair()
        os.utime(table)
        processes.wait_until(
            lambda: running.post("/api/events", {"type": "t", "id": "after"}).status in (200, 201), "it fails on"
        )
        assert set(statuses(running)) == {200}
        exported = [json.loads(line) for line in running.get("/api/events/export").body.splitlines()]
        assert [each["id"] for each in exported] == [*(f"event-{n}" for n in range(EVENTS)), "after"]
        assert running.get("/api/health").json()["status"] == "ok"
        assert running.post("/api/backup/create", {}).json()["events"] == EVENTS + 1


@pytest.mark.slow
@pytest.mark.parametrize("place", [0.5, 0.0, 1.0])
def test_a_bad_sector_of_an_archive_marks_nothing_as_damaged(
    disk: FailingDisk, tmp_path: Path, settings_with: Callable[..., Settings], place: float
) -> None:
    settings = settings_with({"BACKUP_DIR": str(disk.mount_point / "backups"), "JOURNAL_INTERVAL": "3600000"})
    with running_service(settings) as service:
        for name in ("a", "b", "c"):
            service.append(drafts(100, name, data=secrets.token_hex(1000)))
        archive = settings.backup_dir / service.create_backup().backup.name
        size = archive.stat().st_size
        position = min(size - 1, int(size * place)) // 4096 * 4096
        disk.fail(archive, position, position + 4095)

        with pytest.raises(ArchiveUnreadable, match="Input/output error"):
            service.verify_backup(archive.name)
        with pytest.raises(ArchiveUnreadable, match="Input/output error"):
            service.restore(archive.name)
        assert "damaged" not in str(service.status()["problems"])
        service.append(drafts(1, "later"))
        newer = service.create_backup().backup  # it copies members of the archive if it can
        assert [entry.problem for entry in service.list_backups() if entry.name == newer.name] == [None]

        disk.repair()
        os.utime(archive)
        assert {entry.name: entry.problem for entry in service.list_backups()} == {archive.name: None, newer.name: None}
        assert service.verify_backup(archive.name).problem is None
        assert service.restore(archive.name).events == 300


def test_a_view_has_zeros_in_place_of_what_the_disk_cannot_read_and_all_else(
    disk: FailingDisk, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    database = disk.mount_point / "event_registry_db"
    make_database(tmp_path / "db", events=500, data=secrets.token_hex(200))
    EventBus(tmp_path / "db").init([])  # its log becomes a table
    database.mkdir()
    for file in (tmp_path / "db").iterdir():
        (database / file.name).write_bytes(file.read_bytes())
    (table,) = [file for file in database.glob("*.ldb") if file.stat().st_size > 10_000]
    whole = table.read_bytes()
    disk.fail(table, 4096, 8191)
    monkeypatch.setattr(unreadable_tables, "_distrusted", True)
    bus = EventBus(database, view=DatabaseView(database))

    with pytest.raises(DiskFailed, match=rf"{table.name} cannot be read at byte 4096: Input/output error"):
        bus.init([])

    assert bus.is_read_only
    copies = [file for file in Path(str(bus._view.folder)).iterdir() if file.name == table.name]  # type: ignore[union-attr]
    assert [file.read_bytes() for file in copies] == [whole[:4096] + bytes(4096) + whole[8192:]]
    served, refused = [], []
    for sequence in range(1, 501):
        try:
            with bus.using() as registry:
                served.append(json.loads(registry.at(sequence))["sequence"])
        except DiskFailed as error:
            refused.append(error.message)
    assert 0 < len(served) < 500
    assert all(table.name in message for message in refused)
    disk.repair()
    os.utime(table)
    bus.init([])
    with bus.using() as registry:
        assert len(list(registry.events(0, 1000))) == 500
    bus.close()
    del bus, registry
    gc.collect()  # a registry closes the handle of its folder at its end, and the disk can then be unmounted

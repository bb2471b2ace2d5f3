"""Archives that share blocks on XFS and btrfs: what is said of the disk is what the disk says."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from eventvault.settings import Settings, load
from eventvault.store.service import StoreService
from tests.filled import fill
from tests.restoring import append_random
from tests.service import Service
from tests.stores import running_service

pytestmark = pytest.mark.root

QUIET = {"JOURNAL_INTERVAL": "3600000", "AUTO_BACKUP_ENABLED": "false"}
BLOCKS = 256 * 1024
"""What the file system and the small files beside an archive take."""


@pytest.fixture(params=["xfs", "btrfs"])
def store(
    request: pytest.FixtureRequest, folder_on: Callable[[str], Path], settings_with: Callable[..., Settings]
) -> Iterator[StoreService]:
    """A service with 8 MB of events whose archives lie on a disk that nobody else uses."""
    settings = settings_with({**QUIET, "BACKUP_DIR": str(folder_on(request.param))})
    fill(settings.database, 8_000_000)
    with running_service(settings) as running:
        yield running


def used(store: StoreService) -> int:
    folder = store.settings.backup_dir
    subprocess.run(["sync", "--file-system", folder], check=True)
    disk = os.statvfs(folder)
    return (disk.f_blocks - disk.f_bfree) * disk.f_frsize


def post(store: StoreService) -> None:
    append_random(store, 50)
    assert store.journal.flush()


def assert_is(claimed: int | None, measured: int) -> None:
    assert claimed is not None
    assert abs(claimed - measured) < BLOCKS, (claimed, measured)


def test_what_is_said_of_each_archive_and_of_all_is_what_the_disk_says(store: StoreService) -> None:
    total = 0
    for _ in range(5):
        post(store)
        before = used(store)
        made = store.create_backup().backup
        total += used(store) - before
        assert_is(made.added_bytes, used(store) - before)
        assert made.added_bytes is not None
        assert made.shared_bytes == made.size - made.added_bytes

    status = store.status()
    assert_is(status["disk"]["backups"]["archives"], total)
    assert status["backup"]["totalSize"] > 3 * status["disk"]["backups"]["archives"]
    assert status["disk"]["backups"]["growthPerDay"] == status["disk"]["backups"]["archives"]
    assert status["disk"]["same"] is False
    for position in (2, -1, 0):
        entry = store.list_backups()[position]
        before = used(store)
        store.delete_backup(entry.name)
        assert_is(entry.unique_bytes, before - used(store))
        total -= before - used(store)
    assert_is(store.status()["disk"]["backups"]["archives"], total)
    newest, oldest = store.list_backups()
    store.delete_backup(newest.name)
    assert store.list_backups()[0].unique_bytes == oldest.size


SIZES = ("size", "addedBytes", "sharedBytes", "uniqueBytes")


def test_the_api_says_what_each_archive_takes_and_shares(
    folder_on: Callable[[str], Path], settings_environment: dict[str, str], service: Callable[..., Service]
) -> None:
    settings_environment["BACKUP_DIR"] = str(folder_on("xfs"))
    fill(load(settings_environment).database, 3_000_000)
    running = service(workers=1, environment={"AUTO_BACKUP_ENABLED": "false"})

    first = running.post("/api/backup/create").json()
    second = running.post("/api/backup/create").json()

    assert (first["addedBytes"], first["sharedBytes"], first["uniqueBytes"]) == (first["size"], 0, first["size"])
    assert second["sharedBytes"] > 0.8 * second["size"]
    assert second["uniqueBytes"] == second["addedBytes"] == second["size"] - second["sharedBytes"]
    newest, oldest = running.get("/api/backup/list").json()["backups"]
    assert [newest[size] for size in SIZES] == [second[size] for size in SIZES]
    assert oldest["uniqueBytes"] == oldest["size"] - second["sharedBytes"]
    assert running.get(f"/api/backup/{first['name']}").json()["backup"]["uniqueBytes"] == oldest["uniqueBytes"]
    disk = running.get("/api/health").json()["disk"]
    assert disk["backups"]["archives"] == first["size"] + second["addedBytes"]
    assert (disk["backups"]["daysLeft"], disk["backups"]["growthPerDay"] > 0) == (None, True)
    assert (disk["same"], disk["storage"].keys()) == (False, {"free", "total", "growthPerDay", "daysLeft"})
    metrics = dict(line.rsplit(" ", 1) for line in running.get("/metrics").body.decode().splitlines())
    assert float(metrics["eventvault_backup_disk_bytes"]) == disk["backups"]["archives"]
    assert float(metrics["eventvault_backup_shared_bytes"]) == second["sharedBytes"]
    assert running.request("DELETE", f"/api/backup/{first['name']}").status == 200
    (remaining,) = running.get("/api/backup/list").json()["backups"]
    assert remaining["uniqueBytes"] == remaining["size"]

"""Archives that share blocks on XFS and btrfs: what is said of the disk is what the disk says."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from benchmarks import events
from eventvault.settings import Settings
from eventvault.store.service import StoreService
from tests.restoring import append_random
from tests.stores import running_service

pytestmark = pytest.mark.root

QUIET = {"JOURNAL_INTERVAL": "3600000", "AUTO_BACKUP_ENABLED": "false"}
BLOCKS = 256 * 1024
"""What the file system and the small files beside an archive take."""


@pytest.fixture(params=["xfs", "btrfs"])
def service(
    request: pytest.FixtureRequest, folder_on: Callable[[str], Path], settings_with: Callable[..., Settings]
) -> Iterator[StoreService]:
    """A service with 8 MB of events whose archives lie on a disk that nobody else uses."""
    settings = settings_with({**QUIET, "BACKUP_DIR": str(folder_on(request.param))})
    events.fill(settings.database, 8_000_000)
    with running_service(settings) as running:
        yield running


def used(service: StoreService) -> int:
    folder = service.settings.backup_dir
    subprocess.run(["sync", "--file-system", folder], check=True)
    disk = os.statvfs(folder)
    return (disk.f_blocks - disk.f_bfree) * disk.f_frsize


def post(service: StoreService) -> None:
    append_random(service, 50)
    assert service.journal.flush()


def assert_is(claimed: int | None, measured: int) -> None:
    assert claimed is not None
    assert abs(claimed - measured) < BLOCKS, (claimed, measured)


def test_what_is_said_of_each_archive_and_of_all_is_what_the_disk_says(service: StoreService) -> None:
    total = 0
    for _ in range(5):
        post(service)
        before = used(service)
        made = service.create_backup().backup
        total += used(service) - before
        assert_is(made.added_bytes, used(service) - before)
        assert made.added_bytes is not None
        assert made.shared_bytes == made.size - made.added_bytes

    status = service.status()
    assert_is(status["disk"]["backups"]["archives"], total)
    assert status["backup"]["totalSize"] > 3 * status["disk"]["backups"]["archives"]
    assert status["disk"]["backups"]["growthPerDay"] == status["disk"]["backups"]["archives"]
    assert status["disk"]["same"] is False
    for position in (2, -1, 0):
        entry = service.list_backups()[position]
        before = used(service)
        service.delete_backup(entry.name)
        assert_is(entry.unique_bytes, before - used(service))
        total -= before - used(service)
    assert_is(service.status()["disk"]["backups"]["archives"], total)
    newest, oldest = service.list_backups()
    service.delete_backup(newest.name)
    assert service.list_backups()[0].unique_bytes == oldest.size

"""What `disk` of `/api/health` shows: the space on the disks of BACKUP_DIR and STORAGE_DIR, and how long it lasts."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from eventvault.backups.archive_totals import ArchiveTotals
from eventvault.settings import Settings


def describe_disks(settings: Settings, totals: ArchiveTotals, database_growth: int | None) -> dict[str, Any]:
    """Return sizes in bytes; None for a folder that cannot be read.

    database_growth: by how much the database grows a day; None if that is not known. Two folders on one disk fill it
    together.
    """
    same = _is_same_disk(settings.backup_dir, settings.storage_dir)
    archive_growth = totals.growth_per_day if totals.has_data_of_a_day else None
    together = sum(max(0, growth or 0) for growth in (archive_growth, database_growth))
    backups, storage = _space(settings.backup_dir), _space(settings.storage_dir)
    if backups is not None:
        backups["archives"] = totals.on_disk
        _forecast(backups, totals.growth_per_day, together if same else archive_growth)
    if storage is not None:
        _forecast(storage, database_growth, together if same else database_growth)
    return {"backups": backups, "storage": storage, "same": same}


def _forecast(disk: dict[str, int | None], growth: int | None, disk_growth: int | None) -> None:
    """Add by how much a folder grows a day, and how many days its disk lasts: null if that does not grow."""
    disk["growthPerDay"] = growth
    disk["daysLeft"] = (disk["free"] or 0) // disk_growth if disk_growth is not None and disk_growth > 0 else None


def _space(folder: Path) -> dict[str, int | None] | None:
    try:
        disk = os.statvfs(folder)
    except OSError:
        return None
    return {"free": disk.f_bavail * disk.f_frsize, "total": disk.f_blocks * disk.f_frsize}


def _is_same_disk(one: Path, other: Path) -> bool | None:
    try:
        return one.stat().st_dev == other.stat().st_dev
    except OSError:
        return None

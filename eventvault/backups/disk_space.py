"""What `disk` of `/api/health` shows: the space on the disks of BACKUP_DIR and STORAGE_DIR, and how long it lasts."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from eventvault.settings import Settings


def describe_disks(settings: Settings, archives: int, growth: int | None) -> dict[str, Any]:
    """Return sizes in bytes; None for a folder that cannot be looked at.

    archives: what all archives take together. growth: by how much they grew a day lately; None if that is not known.
    """
    backups, storage = _space(settings.backup_dir), _space(settings.storage_dir)
    described: dict[str, int | None] | None = None
    if backups is not None:
        days = backups["free"] // growth if growth is not None and growth > 0 else None
        described = {**backups, "archives": archives, "growthPerDay": growth, "daysLeft": days}
    return {"backups": described, "storage": storage, "same": _is_same_disk(settings.backup_dir, settings.storage_dir)}


def _space(folder: Path) -> dict[str, int] | None:
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

"""One archive in BACKUP_DIR: what it says of itself, and how one that was uploaded gets there."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

import msgspec

from eventvault.backups import names
from eventvault.backups.archive import reader
from eventvault.backups.catalogue import Catalogue
from eventvault.chores import Chores
from eventvault.errors import ArchiveError, BackupExists
from eventvault.files import take_name
from eventvault.settings import Settings
from eventvault.store.interface import BackupEntry

log = logging.getLogger("BackupManager")


def manifest_of(entry: BackupEntry) -> dict[str, Any]:
    """The archive's `manifest.json`; empty for a foreign or an unreadable one."""
    path = Path(entry.path)
    try:
        own = reader.kind(path) == "own"
        manifest: dict[str, Any] = msgspec.to_builtins(reader.read_manifest(path)) if own else {}
    except ArchiveError:
        return {}
    return manifest


def adopt(settings: Settings, catalogue: Catalogue, chores: Chores, temporary: str, name: str) -> BackupEntry:
    """Check the archive `temporary`, give it its name and enter it.

    Raises BackupExists, or an ArchiveError; then `temporary` is left to the caller.
    """
    names.check_name(name)
    target = settings.backup_dir / name
    if target.exists():
        raise _exists(name)
    checked = chores.run("verify_archive", path=temporary, scratch=str(settings.storage_dir))
    try:
        take_name(Path(temporary), target, replace=False)
    except FileExistsError:
        raise _exists(name) from None
    log.info("BackupManager: %s was uploaded", name)
    return catalogue.record_uploaded(name, sha256=checked["sha256"])


def _exists(name: str) -> BackupExists:
    return BackupExists(f"there is a backup named {name} already", hint="choose another ?name=, or delete that one")

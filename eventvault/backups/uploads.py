"""Archives that come from outside: checked before they get their name. And what an archive says of itself."""

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


def adopt(settings: Settings, catalogue: Catalogue, chores: Chores, temporary: Path, name: str) -> BackupEntry:
    """See `eventvault.store.interface.Store.adopt_upload`."""
    names.check_name(name)
    target = settings.backup_dir / name
    if target.exists():
        raise _exists(name)
    checked = chores.run("check_archive", archive=str(temporary), scratch=str(settings.storage_dir), records=False)
    try:
        take_name(temporary, target, replace=False)
    except FileExistsError:
        raise _exists(name) from None
    log.info("BackupManager: %s was uploaded", name)
    return catalogue.record_uploaded(name, sha256=checked["sha256"])


def manifest_of(path: Path) -> dict[str, Any]:
    """The manifest of an archive; empty for one that has none, or none that can be read."""
    try:
        own = reader.kind(path) == "own"
        manifest: dict[str, Any] = msgspec.to_builtins(reader.read_manifest(path)) if own else {}
    except ArchiveError:
        return {}
    return manifest


def _exists(name: str) -> BackupExists:
    return BackupExists(f"there is a backup named {name} already", hint="choose another ?name=, or delete that one")

"""Uploaded archives, which are checked before they get their name, and the manifest of an archive."""

from __future__ import annotations

import logging
import math
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import msgspec

from eventvault import data_folders
from eventvault.archive import reader
from eventvault.backups import names
from eventvault.backups.catalogue import Catalogue
from eventvault.backups.entry import BackupEntry
from eventvault.chores import Chores
from eventvault.errors import ArchiveError, BackupExists, EventVaultError
from eventvault.files import matching, removing_on_failure, take_name
from eventvault.operations.operation import current
from eventvault.settings import Settings

log = logging.getLogger("BackupManager")

ABANDONED_SECONDS = 3600.0
"""The process of an upload that got no byte for this long has died."""
NAMED = "named"
"""The note of an operation that is about to give the archive its name: the digests of the archive."""


def adopt(settings: Settings, catalogue: Catalogue, chores: Chores, temporary: Path, name: str) -> BackupEntry:
    """Check an upload and give it its name. See `eventvault.store.ports.backups.Backups.adopt_upload`."""
    names.check_name(name)
    target = settings.backup_dir / name
    operation = current()
    noted = operation.notes.get(NAMED)
    was_adopted = _is_adopted(temporary, target) or (noted is not None and target.exists())
    if was_adopted and catalogue.entry(name).origin == "uploaded" and noted in (None, _digests(catalogue.entry(name))):
        return catalogue.entry(name)
    if target.exists() and not was_adopted:
        raise _exists(name)
    source = target if was_adopted else temporary
    with _naming(source, name):
        result = chores.run("check_archive", archive=str(source), scratch=str(settings.storage_dir), depth="members")
    digests = [result["digest"], result["sha256"]]
    if was_adopted:
        if noted not in (None, digests):
            raise _exists(name)
        temporary.unlink(missing_ok=True)
        return _enter(catalogue, name, result)
    operation.decided()
    operation.note(NAMED, digests)
    try:
        take_name(temporary, target, replace=False)
    except FileExistsError:
        raise _exists(name) from None
    log.info("%s was uploaded", name)
    return _add_to_catalogue(catalogue, target, result)


@contextmanager
def _naming(temporary: Path, name: str) -> Iterator[None]:
    """Let errors name the archive as the client did, and not the temporary file."""
    try:
        yield
    except EventVaultError as error:
        message, hint = (
            text.replace(str(temporary), name).replace(temporary.name, name) for text in (error.message, error.hint)
        )
        raise type(error)(message, hint=hint, **error.details) from error


def _add_to_catalogue(catalogue: Catalogue, target: Path, result: dict[str, Any]) -> BackupEntry:
    # The client gets an error, so it may send the archive again under this name.
    with removing_on_failure(target):
        return _enter(catalogue, target.name, result)


def _enter(catalogue: Catalogue, name: str, result: dict[str, Any]) -> BackupEntry:
    return catalogue.record_uploaded(name, digest=result["digest"], sha256=result["sha256"], checked=result["checked"])


def _is_adopted(temporary: Path, target: Path) -> bool:
    """Return True if a store named the upload already and ended before it could answer."""
    try:
        return target.samefile(temporary) if temporary.exists() else target.exists()
    except FileNotFoundError:
        return False


def manifest_of(path: Path) -> dict[str, Any]:
    """Return the manifest of an archive; empty if it has none or it cannot be read."""
    try:
        own = reader.kind(path) == "own"
        manifest: dict[str, Any] = msgspec.to_builtins(reader.read_manifest(path)) if own else {}
    except ArchiveError:
        return {}
    return manifest


def _digests(entry: BackupEntry) -> list[str | None]:
    return [entry.digest, entry.sha256]


def _exists(name: str) -> BackupExists:
    return BackupExists(f"a backup named {name} already exists", hint="choose another ?name=, or delete that backup")


class AbandonedUploads:
    """Removes, once an hour, the uploads whose processes were killed. check_folder: as for the catalogue."""

    def __init__(self, backup_dir: Path, check_folder: Callable[[], None]) -> None:
        self._backup_dir = backup_dir
        self._check_folder = check_folder
        self._checked_at = -math.inf

    def each_second(self) -> None:
        if time.monotonic() - self._checked_at < ABANDONED_SECONDS:
            return
        self._checked_at = time.monotonic()
        with suppress(EventVaultError, OSError):  # it is tried again in an hour
            self._check_folder()
            for file in matching(self._backup_dir, f"{data_folders.UPLOAD_PREFIX}*{data_folders.TEMPORARY_SUFFIX}"):
                if is_abandoned(file):
                    file.unlink(missing_ok=True)
                    log.info("removed %s, an upload that its process did not finish", file.name)


def is_abandoned(upload: Path) -> bool:
    """Return True if nobody has written to the temporary file of an upload for ABANDONED_SECONDS. Raises OSError."""
    return time.time() - upload.stat().st_mtime > ABANDONED_SECONDS

"""What an operator trusts besides this installation's own archives: keys of other installations, single archives.

`STORAGE_DIR/.trusted.json` has them. It is never copied to BACKUP_DIR: trust is decided on the machine.
"""

from __future__ import annotations

import fcntl
import hashlib
import logging
import os
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Literal, TypeVar

import msgspec

from eventvault import clock, data_folders, small_files
from eventvault.archive.proof import Trust
from eventvault.backups.installation_id import peek_id
from eventvault.backups.installation_key import present_key, read_key
from eventvault.damage import as_answer
from eventvault.errors import BackupNotFound, BackupsUnavailable, InvalidInput
from eventvault.files import make_folder
from eventvault.settings import Settings
from eventvault.small_files import SmallFileDamaged

log = logging.getLogger("BackupManager")

Result = TypeVar("Result")

LOCK_SECONDS = 5.0
"""How long a change waits for another one."""


class Trusted(msgspec.Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True):
    """A key or an archive. id: the first digits of the key's SHA-256, or the archive's checksum. since: microseconds.

    installation: whose key it is, or which one the archive names. name: of the archive. key: in hex; None: an archive.
    """

    id: str
    since: int
    installation: str | None = None
    name: str | None = None
    key: str | None = None


class _TrustFile(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    format: Literal[1]
    trusted: list[Trusted]


class TrustList:
    """The list of one STORAGE_DIR. Methods may raise BackupsUnavailable if it cannot be read or written; NoSpace."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._path = settings.storage_dir / data_folders.TRUSTED

    def entries(self) -> list[Trusted]:
        return self._doing("reading", self._read)

    def trust(self) -> Trust:
        """Return what counts now. A list that cannot be read counts as empty, a damaged one is quarantined."""
        try:
            entries = self._read()
        except OSError:
            return Trust()
        archives = frozenset(entry.id for entry in entries if entry.key is None)
        return Trust(keys=tuple(entry.key for entry in entries if entry.key), checksums=archives)

    def add_key(self, path: Path) -> Trusted | None:
        """Trust the key in the file `path`. Returns None if it is this installation's own, which needs no trust.

        Raises BackupNotFound if there is no file, InvalidInput if it holds no key.
        """
        try:
            key = self._doing("reading", lambda: read_key(path), path)
        except SmallFileDamaged as error:
            raise InvalidInput(str(error), hint="copy the key's file again from the other installation") from error
        if key is None:
            raise BackupNotFound(f"there is no file {path}", hint="name a key's file or an archive")
        if key == present_key(self._settings):
            return None
        fingerprint = hashlib.sha256(key).hexdigest()[:16]
        installation = None
        with suppress(OSError):  # it is only shown
            installation = peek_id(path.parent)
        return self._add(Trusted(fingerprint, clock.now(), installation, key=key.hex()))

    def add_archive(self, checksum: str, *, installation: str | None = None, name: str | None = None) -> Trusted:
        """Trust the archive with this checksum: `blake3:…`, or hex digits alone, a SHA-256 or a root."""
        return self._add(Trusted(checksum, clock.now(), installation, name))

    def remove(self, prefix: str) -> Trusted:
        """Remove the entry whose id begins with `prefix`. Raises BackupNotFound; InvalidInput if several ids do."""
        with self._changing() as entries:
            chosen = [entry for entry in entries if prefix and _begins_with(entry.id, prefix)]
            if not chosen:
                raise BackupNotFound(f"nothing that is trusted has the id {prefix}", hint="flask backup trust --list")
            if len(chosen) > 1:
                raise InvalidInput(
                    f"{len(chosen)} ids begin with {prefix}; nothing was changed", hint="type more of it"
                )
            entries.remove(chosen[0])
        log.info("%s is trusted no longer", chosen[0].id)
        return chosen[0]

    def _add(self, added: Trusted) -> Trusted:
        with self._changing() as entries:
            entries[:] = [*(entry for entry in entries if _digits(entry.id) != _digits(added.id)), added]
        log.info("%s is trusted now: its archives are restored as they are", added.id)
        return added

    @contextmanager
    def _changing(self) -> Iterator[list[Trusted]]:
        """Yield the list to change and write it then; another command that changes it waits until this one is done."""
        self._doing("writing", lambda: make_folder(self._path.parent))
        handle = self._doing("locking", lambda: os.open(self._path.parent, os.O_RDONLY | os.O_DIRECTORY))
        try:
            self._doing("locking", lambda: _lock(handle))
            entries = self.entries()
            yield entries
            self._write(entries)
        finally:
            os.close(handle)

    def _read(self) -> list[Trusted]:
        document = small_files.read_or_quarantine(self._path, _TrustFile)
        return list(document.trusted) if document else []

    def _write(self, entries: list[Trusted]) -> None:
        def write() -> None:
            small_files.write(self._path, _TrustFile(1, entries), mode=0o600)

        self._doing("writing", write)

    def _doing(self, doing: str, work: Callable[[], Result], path: Path | None = None) -> Result:
        try:
            return work()
        except OSError as error:
            raise as_answer(f"{doing} {path or self._path}", error, BackupsUnavailable) from error


def _lock(folder: int) -> None:
    """Lock an open folder. Raises BackupsUnavailable if another process holds the lock for LOCK_SECONDS; OSError."""
    deadline = time.monotonic() + LOCK_SECONDS
    while True:
        try:
            fcntl.flock(folder, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            if time.monotonic() > deadline:
                raise BackupsUnavailable(
                    "the list of what is trusted was not changed: another program holds a lock on STORAGE_DIR",
                    hint="try again when no other `flask backup trust` runs",
                ) from None
            time.sleep(0.01)
        else:
            return


def _digits(checksum: str) -> str:
    return checksum.removeprefix("blake3:")


def _begins_with(checksum: str, prefix: str) -> bool:
    """Return True if `checksum` begins with `prefix`; either may lack the `blake3:`."""
    return checksum.startswith(prefix) or (bool(_digits(prefix)) and _digits(checksum).startswith(_digits(prefix)))

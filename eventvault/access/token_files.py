"""Reads, joins, and under a lock writes the two copies of `tokens.json` of one installation."""

from __future__ import annotations

import logging
import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress

from eventvault import data_folders, small_files
from eventvault.access.joining import Joined, join
from eventvault.access.token_file import Copy, FileCondition, TokenFile, read_copy, write_copy
from eventvault.backups.installation_folder import check_unchanged
from eventvault.backups.installation_key import ensure_key, present_key, read_key
from eventvault.damage import as_answer
from eventvault.errors import DiskFailed, EventVaultError, TokensTooNew, TooBusy
from eventvault.file_locks import holding
from eventvault.files import FileIdentity, is_there, make_folder, matching, remove_durably, write_durably
from eventvault.settings import Settings
from eventvault.small_files import SmallFileDamaged

log = logging.getLogger("eventvault.access")

LOCK_SECONDS = 5.0
"""How long a change waits for another change to end."""


class TokenFiles:
    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self.in_storage = settings.storage_dir / data_folders.TOKENS
        self.in_backups = settings.backup_dir / data_folders.TOKENS
        self.mark = settings.storage_dir / data_folders.TOKENS_MARK
        self._lock = settings.storage_dir / data_folders.TOKENS_LOCK

    def read(self) -> Joined:
        """Return both copies, joined. Never raises."""
        return join(self.read_storage(), self.read_backups(), marked=self.is_marked())

    def identity(self) -> object:
        """Return a value that differs once the file in STORAGE_DIR has changed; None if that is unknown."""
        try:
            return FileIdentity.at(self.in_storage), self.is_marked()
        except OSError:
            return None

    def read_storage(self) -> Copy:
        return read_copy(self.in_storage, self._storage_keys() or None)

    def read_backups(self) -> Copy:
        """Read the copy in BACKUP_DIR. It takes long if that disk does not answer."""
        key = present_key(self._settings)
        return read_copy(self.in_backups, [] if key is None else [key])

    def is_marked(self) -> bool:
        """Return whether a token was made; True if that is unknown."""
        try:
            os.lstat(self.mark)
        except (FileNotFoundError, NotADirectoryError):
            return False
        except OSError:
            return True
        return True

    @contextmanager
    def changing(self) -> Iterator[Joined]:
        """Yield both copies, joined, while no other process changes them.

        Raises TooBusy after LOCK_SECONDS, TokensTooNew if a later version wrote a copy, DiskFailed if the file in
        STORAGE_DIR cannot be read.
        """
        with self._reporting("locking"):
            make_folder(self._settings.storage_dir)
        with holding(self._lock, LOCK_SECONDS) as is_alone:
            if not is_alone:
                raise TooBusy(
                    f"the tokens were not changed: another program changes them for {LOCK_SECONDS:.0f} s",
                    hint="try again in a moment",
                )
            joined = self.read()
            if joined.has_newer:
                raise TokensTooNew(
                    f"the tokens were not changed: {joined.doubts[0].message}", hint="change them with that version"
                )
            if self.read_storage().condition is FileCondition.UNREADABLE:
                raise DiskFailed(
                    f"the tokens were not changed: {joined.doubts[0].message}",
                    hint="let the user of the service read and write that file",
                )
            yield joined

    def write(self, content: TokenFile) -> str | None:
        """Write both copies. Returns why the one in BACKUP_DIR could not be written; None if it was.

        A damaged or foreign file is renamed first. Raises NoSpace, DiskFailed or another EventVaultError if the file
        in STORAGE_DIR could not be written: then nothing was changed.
        """
        key = self._sealing_key()
        with self._reporting(f"writing {self.in_storage}"):
            with self._marked_if(content.closed):
                _make_room(self.read_storage())
                write_copy(self.in_storage, content, key)
            if not content.closed:
                remove_durably(self.mark)
        try:
            self._write_backups(content, key)
        except EventVaultError as error:
            log.warning("%s", error)
            return error.message
        return None

    def settle(self) -> None:
        """Write the copies that lack something, and a missing mark. Raises EventVaultError."""
        with self.changing() as joined:
            content = joined.content
            if content is None:
                return
            key = self._sealing_key()
            for copy in joined.behind:
                if copy.path == self.in_backups:
                    self._write_backups(content, key)
                    continue
                with self._reporting(f"writing {copy.path}"):
                    _make_room(copy)
                    write_copy(copy.path, content, key)
            if content.closed and not self.is_marked():
                with self._reporting(f"writing {self.mark}"):
                    self._set_mark()

    def _write_backups(self, content: TokenFile, key: bytes) -> None:
        """Write the copy in BACKUP_DIR. Raises BackupsChanged first, if BACKUP_DIR belongs to another installation."""
        check_unchanged(self._settings)
        ensure_key(self._settings)  # without the key beside it, nobody can tell whose copy it is
        with self._reporting(f"writing {self.in_backups}"):
            make_folder(self.in_backups.parent)
            copy = self.read_backups()
            if copy.content is None or copy.content.register != content.register:
                _make_room(copy)
            write_copy(self.in_backups, content, key)

    @contextmanager
    def _marked_if(self, closed: bool) -> Iterator[None]:
        """Set the mark before the file is written, if that closes the service; remove a new mark if the write fails.

        An empty file can be made even on a full disk; alone it would close a service that has no token.
        """
        is_new = closed and not self.is_marked()
        if closed:
            self._set_mark()
        try:
            yield
        except (EventVaultError, OSError):
            if is_new:
                with suppress(OSError):
                    self.mark.unlink(missing_ok=True)
            raise

    def _set_mark(self) -> None:
        if not self.is_marked():
            write_durably(self.mark, b"", mode=0o600)

    def _storage_keys(self) -> list[bytes]:
        """Return the key in STORAGE_DIR, and the keys that it has replaced: the file may be older than a renewal."""
        name = data_folders.INSTALLATION_KEY
        keys = []
        with suppress(OSError):
            older = matching(self._settings.storage_dir, f"{name}{data_folders.REPLACED_SUFFIX}*")
            for path in (self._settings.storage_dir / name, *older):
                with suppress(SmallFileDamaged, OSError):
                    keys.append(read_key(path))
        return [key for key in keys if key is not None]

    def _sealing_key(self) -> bytes:
        """Return the installation's key, made if there is none. Raises EventVaultError."""
        key = present_key(self._settings)
        if key is not None:
            return key
        try:
            return ensure_key(self._settings)
        except EventVaultError:
            key = present_key(self._settings)  # the key was made, but a copy of it could not be written
            if key is None:
                raise
        return key

    @contextmanager
    def _reporting(self, doing: str) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            raise as_answer(doing, error) from error


def _make_room(copy: Copy) -> None:
    """Rename a damaged or foreign file, which must not be overwritten. Raises OSError."""
    if copy.condition is FileCondition.DAMAGED and is_there(copy.path):
        log.warning("%s; it is now %s", copy.why, small_files.quarantine(copy.path))
    elif copy.condition is FileCondition.FOREIGN:
        moved = small_files.rename_to_free(copy.path, data_folders.REPLACED_SUFFIX)
        log.warning("%s; it is now %s", copy.why, moved)

"""Which BACKUP_DIR belongs to this installation: STORAGE_DIR and BACKUP_DIR have the same random id in a file each.

If the disk of BACKUP_DIR is not mounted, the folder beneath it lacks that file. If the folder was deleted, so were the
archives. Nothing is written there until the disk or the folder is back, or until an operator accepts what is there.
"""

from __future__ import annotations

import contextlib
import errno
import functools
import hmac
import os
import secrets
from collections.abc import Callable
from pathlib import Path
from typing import Literal

import msgspec

from eventvault import clock, data_folders, small_files
from eventvault.backups import installation_id, names
from eventvault.backups.installation_key import load_keys
from eventvault.damage import as_answer
from eventvault.errors import BackupsChanged, BackupsUnavailable, EventVaultError, NoSpace
from eventvault.files import is_there, make_folder, remove_durably, sync_folder
from eventvault.problems import Problem
from eventvault.progress import Turn
from eventvault.settings import Settings
from eventvault.small_files import SmallFileDamaged

MAX_EXAMINED = 100
"""How many archives of an unknown folder are examined to find out whose they are."""

_binding = Turn("check of BACKUP_DIR")
"""Held while the files are written: a backup and the journal may do so at the same time."""


_confirmed: dict[Path, tuple[int, int]] = {}
"""BACKUP_DIR → its device and inode when this process found its id there last."""


class _FolderFile(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """folder: the id of BACKUP_DIR; empty in STORAGE_DIR while none could be written yet. device: its `st_dev`."""

    format: Literal[1]
    folder: str
    device: int = 0


def check_folder(settings: Settings) -> None:
    """Make sure that BACKUP_DIR belongs to this installation, before anything is written there.

    A new or lost STORAGE_DIR is bound to the folder that it finds, or that it makes. Raises BackupsChanged for any
    other folder, and if its own one is missing but a database is there; BackupsUnavailable if that cannot be decided or
    noted now; NoSpace.
    """
    try:
        examined = _identity(settings.backup_dir)
        reason = _find_change(settings)
        if reason is None:
            _bind_if_needed(settings)
            _confirm(settings.backup_dir, examined)
    except OSError as error:
        raise as_answer(f"examining BACKUP_DIR {settings.backup_dir}", error, BackupsUnavailable) from error
    if reason is not None:
        raise BackupsChanged(reason, hint=_HINT)


def check_unchanged(settings: Settings) -> None:
    """Raise BackupsChanged if BACKUP_DIR surely is not the folder of this installation. Writes nothing."""
    with contextlib.suppress(OSError):
        reason = _find_change(settings)
        if reason is not None:
            raise BackupsChanged(reason, hint=_HINT)


def is_changed(settings: Settings) -> bool:
    """Return True if BACKUP_DIR surely is not the folder of this installation. Writes nothing."""
    try:
        check_unchanged(settings)
    except BackupsChanged:
        return True
    return False


def has_lost_backups(settings: Settings) -> bool:
    """Return True if this installation had another BACKUP_DIR, whatever there is of the database. Raises OSError."""
    bound = _read(settings.storage_dir)
    return bound is not None and _find_difference(settings, bound) is not None


class FolderSource:
    """The source of the problem `backups_changed`."""

    def __init__(self, settings: Settings, on_accepted: Callable[[], None], now: clock.Clock = clock.now) -> None:
        self._settings = settings
        self._on_accepted = on_accepted
        self._now = now
        self._since: int | None = None

    def waiting(self) -> list[Problem]:
        try:
            load_keys(self._settings)
            reason = _find_change(self._settings)
        except (EventVaultError, OSError):  # health has that already, and it cannot be accepted
            reason = None
        if reason is None:
            self._since = None
            return []
        self._since = self._since or self._now()
        return [Problem("backups_changed", reason, _HINT, since=self._since)]

    def accept(self, problem: Problem) -> None:
        """Bind this installation to BACKUP_DIR as it is now. Raises OSError, NoSpace or BackupsChanged."""
        load_keys(self._settings)
        _confirmed.pop(self._settings.backup_dir, None)
        _bind(self._settings, accepted=True)
        self._on_accepted()


_HINT = (
    "nothing is written there, and it is used again by itself once it is back: mount its disk, put the folder back, or "
    "correct BACKUP_DIR. If the folder is meant as it is now, accept this: POST /api/problems/backups_changed/accept"
)


def _find_change(settings: Settings) -> str | None:
    """Return why BACKUP_DIR is not the folder of this installation; None if it is. Raises OSError."""
    bound = _read(settings.storage_dir)
    if installation_id.has_no_database(settings):
        if bound is None or installation_id.peek_id(settings.backup_dir):
            return None  # what is there may be what the database is recovered from
    elif bound is not None and bound.folder and not is_there(settings.backup_dir):
        moved = _device_above(settings.backup_dir) != bound.device
        return f"{settings.backup_dir} is gone" + (", and so is the file system that it was on" if moved else "")
    return _find_difference(settings, bound)


def _find_difference(settings: Settings, bound: _FolderFile | None) -> str | None:
    """Return why BACKUP_DIR is not the folder that STORAGE_DIR is bound to; None if it is."""
    backups = settings.backup_dir
    if bound is not None and not bound.folder:
        return None
    if not backups.is_dir():
        if bound is None or _device_above(backups) == bound.device:
            return None
        return f"{backups} is gone, and so is the file system that it was on"
    present = _read(backups, quarantine=False)
    if bound is not None and present is not None:
        same = present.folder == bound.folder
        return None if same else f"{backups} is another folder than the one that this installation wrote to"
    if not _is_replaced(backups) and _has_signs(settings, bound):
        return None
    return f"{backups} has nothing of this installation, which has an event database in {settings.storage_dir}"


def _is_replaced(backups: Path) -> bool:
    """Return True if this process saw the id in another folder of this name.

    Then our files in this one prove nothing: a write that began before the disk was unmounted may have ended here.
    """
    confirmed = _confirmed.get(backups)
    return confirmed is not None and _identity(backups) != confirmed


def _has_signs(settings: Settings, bound: _FolderFile | None) -> bool:
    """Return True if BACKUP_DIR has the id, the key or an archive of this installation, or the id is not known.

    Of an installation that was never bound, such as one of EventVault 0.1.0, the journal is a sign too.
    """
    ours = installation_id.peek_id(settings.storage_dir)
    if ours is None or installation_id.peek_id(settings.backup_dir) == ours:
        return True
    with contextlib.suppress(EventVaultError):
        stored, beside_archives = load_keys(settings)
        if stored and beside_archives and hmac.compare_digest(stored, beside_archives):
            return True
    if bound is None and installation_id.read_from_journal(settings.backup_dir) == ours:
        return True
    status = settings.backup_dir.stat()
    return _has_archive_of(settings.backup_dir, (status.st_dev, status.st_ino, status.st_mtime_ns), ours)


@functools.lru_cache(maxsize=4)
def _has_archive_of(folder: Path, _version: tuple[int, ...], installation: str) -> bool:
    from eventvault.archive import reader  # late: gunicorn's workers and the dispatcher load this module and read none

    archives = sorted(path for path in folder.iterdir() if names.is_name(path.name))
    for path in archives[-MAX_EXAMINED:]:
        with contextlib.suppress(EventVaultError, OSError, ValueError):
            if reader.read_manifest(path).installation == installation:
                return True
    return False


def _bind_if_needed(settings: Settings) -> None:
    bound = _read(settings.storage_dir)
    present = _read(settings.backup_dir, quarantine=False) if settings.backup_dir.is_dir() else None
    if bound is None or present is None or bound != _FolderFile(1, present.folder, _device(settings.backup_dir)):
        _bind(settings)


def _bind(settings: Settings, *, accepted: bool = False) -> None:
    """Write the same id into both folders, BACKUP_DIR first. Raises OSError or NoSpace.

    The id in BACKUP_DIR counts, or the one in STORAGE_DIR if the other file was deleted. accepted: an operator accepted
    another folder, so it gets a new id if it has none.
    """
    with _binding.held():
        bound = _read(settings.storage_dir)
        earlier = bound.folder if bound and not accepted else ""
        try:
            if is_there(settings.backup_dir) and not settings.backup_dir.is_dir():  # it may go in a moment
                raise NotADirectoryError(errno.ENOTDIR, os.strerror(errno.ENOTDIR), str(settings.backup_dir))
            folder = _make_marked(settings.backup_dir, earlier or secrets.token_hex(8))
        except (OSError, NoSpace):
            if bound is None:
                _write(settings.storage_dir, _FolderFile(1, ""))
            raise
        if earlier and folder != earlier and not installation_id.has_no_database(settings):
            raise BackupsChanged(f"{settings.backup_dir} was replaced by another folder", hint=_HINT)
        now = _FolderFile(1, folder, _device(settings.backup_dir))
        if bound != now:
            _write(settings.storage_dir, now)


def _make_marked(backups: Path, folder: str) -> str:
    """Make sure that BACKUP_DIR exists and has an id, by default `folder`. Returns the id.

    A new folder gets its id before its name, so that a kill leaves no folder without an id.
    """
    if not backups.is_dir():
        make_folder(backups.parent)
        new = backups.with_name(f".{backups.name}.{secrets.token_hex(4)}{data_folders.TEMPORARY_SUFFIX}")
        new.mkdir()
        try:
            _write(new, _FolderFile(1, folder))
            new.rename(backups)
        except BaseException:
            remove_durably(new)
            raise
        sync_folder(backups.parent)
        return folder
    present = _read(backups)
    if present is not None:
        return present.folder
    if _is_replaced(backups):
        raise BackupsChanged(f"{backups} was replaced by another folder", hint=_HINT)
    _write(backups, _FolderFile(1, folder))
    return folder


def _read(folder: Path, *, quarantine: bool = True) -> _FolderFile | None:
    path = folder / data_folders.INSTALLATION_FOLDER
    try:
        if quarantine:
            return small_files.read_or_quarantine(path, _FolderFile)
        return small_files.read(path, _FolderFile)
    except (FileNotFoundError, NotADirectoryError, SmallFileDamaged):
        return None


def _write(folder: Path, content: _FolderFile) -> None:
    make_folder(folder)
    small_files.write(folder / data_folders.INSTALLATION_FOLDER, content)


def _identity(folder: Path) -> tuple[int, int] | None:
    """Return the device and the inode of a folder, None if there is none. Raises OSError."""
    try:
        status = folder.stat()
    except FileNotFoundError:
        return None
    return status.st_dev, status.st_ino


def _confirm(backups: Path, examined: tuple[int, int] | None) -> None:
    """Note the folder that has the id. examined: its identity before the ids were compared; None: it was made since."""
    present = _identity(backups)
    if present is not None and examined in (None, present):
        _confirmed[backups] = present


def _device(folder: Path) -> int:
    return folder.stat().st_dev


def _device_above(folder: Path) -> int:
    """Return the file system that a new folder of this name would be on."""
    return next(parent.stat().st_dev for parent in folder.absolute().parents if parent.is_dir())

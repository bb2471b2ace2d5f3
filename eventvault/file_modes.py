"""Who may read the data files: their owner; with FILE_GROUP_READ also their group, for a backup tool of another user.

Each process sets its umask at its start. A start of the service corrects the modes of files that an earlier version
wrote or that somebody copied.
"""

from __future__ import annotations

import logging
import os
import stat
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

from eventvault import data_folders
from eventvault.settings import Settings

log = logging.getLogger("BackupManager")

_SECRETS = (
    data_folders.INSTALLATION_KEY, data_folders.TRUSTED, data_folders.AUDIT_NOTE, data_folders.AUDIT_WAITING,
)  # fmt: skip
"""Prefixes of names in STORAGE_DIR that the group may not read. It may read the copy of the key in BACKUP_DIR."""
_LOCK_SUFFIX = ".lock"
"""The group may not read lock files either: whoever may read a file can hold a flock on it."""


def restrict_new_files(settings: Settings) -> None:
    """Set this process's umask, which its children inherit."""
    os.umask(0o027 if settings.file_group_read else 0o077)


def mend_modes(settings: Settings, *, backups: bool = True) -> None:
    """Set the modes of the data files and folders that this user owns. What cannot be changed is logged, once.

    backups: False skips BACKUP_DIR, because it is not ours. RESTORE_DIR, the drop folder, keeps its own mode, and so do
    the files that others put into it.
    """
    failed = []
    for path in _paths(settings, backups=backups):
        try:
            _mend(path, settings)
        except (FileNotFoundError, NotADirectoryError):
            continue
        except OSError as error:
            failed.append(f"{path}: {error.strerror}")
    if failed:
        log.warning("the mode of %s files cannot be changed, so other users of this machine may read them: %s",
                    len(failed), failed[0])  # fmt: skip


def _mend(path: Path, settings: Settings) -> None:
    status = path.lstat()
    is_folder, is_file = stat.S_ISDIR(status.st_mode), stat.S_ISREG(status.st_mode)
    if status.st_uid != os.geteuid() or not (is_folder or is_file):
        return
    private = path.name.endswith(_LOCK_SUFFIX) or path.name.startswith(_SECRETS)
    private = (
        private and path.parent == settings.storage_dir
    ) or path.parent == settings.backup_dir / data_folders.AUDIT
    group = 0 if private or not settings.file_group_read else 0o050 if is_folder else 0o040
    mode = stat.S_IMODE(status.st_mode)
    wanted = mode & ~0o077 | group
    if wanted != mode:
        path.chmod(wanted)


def _paths(settings: Settings, *, backups: bool) -> Iterator[Path]:
    """Yield what EventVault makes. BACKUP_DIR may be a folder that has other files too."""
    yield from _tree(settings.storage_dir)
    yield from _tree(settings.restore_dir / data_folders.RESTORED)
    if not backups:
        return
    yield settings.backup_dir
    with suppress(OSError):
        yield from (path for path in settings.backup_dir.iterdir() if _is_ours(path))
    yield from _tree(settings.backup_dir / data_folders.JOURNAL)
    yield from _tree(settings.backup_dir / data_folders.AUDIT)


def _is_ours(path: Path) -> bool:
    """Return True for an archive and for the hidden files beside the archives."""
    return (path.name.startswith(".") or ".tar.gz" in path.name) and not path.is_dir()


def _tree(folder: Path) -> Iterator[Path]:
    yield folder
    for parent, folders, names in os.walk(folder):
        yield from (Path(parent) / name for name in (*folders, *names))

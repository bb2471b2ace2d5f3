"""Replaces a database whose folder cannot be renamed: a link, a mount point, a folder of an overlay's lower layer.

Its files are replaced instead. The old files are first copied to a folder of STORAGE_DIR, by hard link where that
works, so that the complete old database or the complete new one exists at any instant. `begin` marks the new database:
if the process is killed, the next start does the rest again.
"""

from __future__ import annotations

import errno
import logging
import os
import secrets
import shutil
import stat
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

from eventvault import data_folders
from eventvault.errors import DatabaseMissing, NoSpace
from eventvault.files import (
    free_bytes,
    removing_on_failure,
    rename_durably,
    sync_folder,
    sync_tree,
    write_durably,
)
from eventvault.regular_files import open_file
from eventvault.system_errors import reporting_no_space

log = logging.getLogger("BackupManager")

_CANNOT_RENAME = frozenset({errno.EXDEV, errno.EBUSY})
_NO_DATA = frozenset({"lost+found", data_folders.FILLING})
"""What a new volume has, and the mark of a folder that is not filled yet."""


def check_link(database: Path) -> None:
    """Raise DatabaseMissing if the database's folder is a link that leads nowhere: its disk may not be mounted."""
    if database.is_symlink() and not database.is_dir():
        raise DatabaseMissing(
            f"{database} is a link to {database.readlink()}, which is not a folder",
            hint="mount the disk of that folder, or remove the link to have the database in STORAGE_DIR",
        )


def has_files(database: Path) -> bool:
    """Return False if the folder is missing, has no files, or was being filled for the first time."""
    if not database.is_dir() or (database / data_folders.FILLING).exists():
        return False
    return any(path.name not in _NO_DATA for path in database.iterdir())


def rename_away(database: Path, target: Path) -> bool:
    """Rename the database's folder; return False if that cannot be done. A link stays: it says on which disk to be."""
    if database.is_symlink():
        return False
    try:
        rename_durably(database, target)
    except OSError as error:
        if error.errno not in _CANNOT_RENAME:
            raise
        return False
    return True


def begin(new: Path, database: Path) -> None:
    """Mark that the files of `new` will replace those of `database`. Raises NoSpace if they do not fit there."""
    _check_room(new, database)
    log.info("%s cannot be renamed, so its files are replaced", database)
    write_durably(_mark(new), b"")


def is_begun(new: Path) -> bool:
    return _mark(new).exists()


def finish(new: Path, database: Path, previous: Path) -> None:
    """Copy the files of `database` to `previous`, unless that was done, and replace them. May be repeated."""
    if has_files(database) and not previous.exists():
        copy_files(database, previous)
    replace_files(new, database)
    rename_durably(new, new.with_name("done"))  # from here on nothing must be repeated


def copy_files(database: Path, target: Path) -> None:
    """Copy the files of a closed database to the new folder `target`, which appears complete. Raises NoSpace."""
    temporary = target.with_name(f"{data_folders.PAST_PREFIX}{secrets.token_hex(4)}")
    with removing_on_failure(temporary), reporting_no_space(f"copying {database} to {target.parent}"):
        temporary.mkdir()
        _put(_files(database), temporary)
        sync_tree(temporary)
        rename_durably(temporary, target)


def replace_files(new: Path, database: Path) -> None:
    """Replace the files of a closed database by those of `new`, CURRENT last. Folders in it stay."""
    with reporting_no_space(f"copying the new database to {database}"):
        write_durably(database / data_folders.FILLING, b"")
        for file in _files(database):
            if file.name != data_folders.FILLING:
                file.unlink()
        *others, current = sorted(_files(new), key=lambda file: file.name == "CURRENT")
        _put(others, database)
        sync_folder(database)
        _put([current], database)
        (database / data_folders.FILLING).unlink()
        sync_folder(database)


def _mark(new: Path) -> Path:
    return new.with_name("in_place")


def _files(folder: Path) -> list[Path]:
    """Return the regular files, CURRENT first: without it a folder is not a database."""
    files = [path for path in folder.iterdir() if stat.S_ISREG(path.lstat().st_mode)]
    return sorted(files, key=lambda path: path.name != "CURRENT")


def _put(files: Sequence[Path], target: Path) -> None:
    for file in files:
        try:
            os.link(file, target / file.name)
        except OSError:
            shutil.copyfile(file, target / file.name)
            with open_file(target / file.name) as copy:
                os.fsync(copy.fileno())


def _check_room(new: Path, database: Path) -> None:
    if _can_link(new, database):
        return
    needed, freed = (sum(file.stat().st_size for file in _files(folder)) for folder in (new, database))
    free = free_bytes(database) + freed
    if needed > free:
        raise NoSpace(
            f"{database} cannot be renamed, and the new database needs {needed} bytes there, {free} are free",
            hint="free some space on that disk and try again; nothing was changed",
            needed=needed,
            free=free,
        )


def _can_link(new: Path, database: Path) -> bool:
    link = database / f".{secrets.token_hex(4)}{data_folders.TEMPORARY_SUFFIX}"
    with suppress(OSError):
        os.link(new / "CURRENT", link)
        link.unlink()
        return True
    return False

"""Opens archives under a lock: `flock` on the file itself, shared for readers, exclusive for removal.

On a file system without `flock` a removal does not notice readers, but they can still read the file that they opened.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from eventvault.errors import ArchiveUnreadable, BackupNotFound, BackupProtected
from eventvault.file_locks import LOCK_SECONDS, holder_of, lock_handle
from eventvault.files import names_open_file
from eventvault.regular_files import open_handle


@contextmanager
def shared_lock(path: Path, *, follow: bool = False, wait: bool = True) -> Iterator[int]:
    """Open the archive for reading. While it is open, neither rotation nor a delete removes it.

    follow: `path` may be a symbolic link. wait=False: do not wait for a lock, but open the archive without one. Raises
    BackupNotFound if it does not exist or was removed during the wait, ArchiveUnreadable if another program holds a
    lock on it for more than LOCK_SECONDS, OSError if it cannot be opened, NotRegular if it is not a file.
    """
    with _open(path, follow=follow) as handle:
        locked = lock_handle(handle, exclusive=False, seconds=LOCK_SECONDS if wait else 0)
        if wait and not names_open_file(path, handle):
            raise _not_found_error(path)
        if wait and not locked:
            raise ArchiveUnreadable(
                f"opening the archive {path} failed: {holder_of(handle)} holds a lock on it",
                hint="try again when that program has ended; /proc/locks shows who holds a lock",
            )
        yield handle


@contextmanager
def exclusive_lock(path: Path, patience: float = 0.0) -> Iterator[None]:
    """Keep readers away from the archive, so that it can be removed.

    patience: seconds to wait for its readers. Raises BackupProtected if somebody still reads it then,
    BackupNotFound if it does not exist, OSError if it cannot be opened.
    """
    with _open(path, follow=False) as handle:
        if not lock_handle(handle, exclusive=True, seconds=patience):
            raise BackupProtected(
                f"{path.name} is being read and was not removed: {holder_of(handle)} holds a lock on it",
                hint="try again when its rehearsal, restore, check or download has ended",
            )
        if not names_open_file(path, handle):
            raise _not_found_error(path)
        yield


@contextmanager
def _open(path: Path, *, follow: bool) -> Iterator[int]:
    try:
        handle = open_handle(path, follow=follow)
    except FileNotFoundError:
        raise _not_found_error(path) from None
    try:
        yield handle
    finally:
        os.close(handle)


def _not_found_error(path: Path) -> BackupNotFound:
    return BackupNotFound(f"there is no backup {path.name}", hint="GET /api/backup/list shows which there are")

"""Opens archives under a lock: `flock` on the file itself, shared for readers, exclusive for removal.

On a file system without `flock` a removal does not see the readers. They can still read the file that they opened.
"""

from __future__ import annotations

import errno
import fcntl
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from eventvault.errors import BackupNotFound, BackupProtected
from eventvault.files import names_open_file

_NO_FLOCK = frozenset({errno.ENOLCK, errno.EOPNOTSUPP, errno.ENOSYS, errno.EINVAL})
_RETRY_SECONDS = 0.02


@contextmanager
def shared_lock(path: Path, *, follow: bool = False, wait: bool = True) -> Iterator[int]:
    """Open the archive for reading; while its descriptor is open, neither rotation nor a delete removes it.

    follow: `path` may be a symbolic link. wait=False: do not wait for a removal, but open the archive without a
    lock. Raises BackupNotFound if there is none or it was removed during the wait, OSError if it cannot be opened.
    """
    with _open(path, follow=follow) as handle:
        with suppress(OSError):
            fcntl.flock(handle, fcntl.LOCK_SH if wait else fcntl.LOCK_SH | fcntl.LOCK_NB)
        if wait and not names_open_file(path, handle):
            raise _not_found(path)
        yield handle


@contextmanager
def exclusive_lock(path: Path, patience: float = 0.0) -> Iterator[None]:
    """Keep readers away from the archive, so that it can be removed.

    patience: seconds to wait for present readers. Raises BackupProtected if somebody still reads it then,
    BackupNotFound if there is none, OSError if it cannot be opened.
    """
    deadline = time.monotonic() + patience
    while True:
        with _open(path, follow=False) as handle:
            if _try_exclusive(handle):
                if not names_open_file(path, handle):
                    raise _not_found(path)
                yield
                return
        if time.monotonic() >= deadline:
            raise BackupProtected(
                f"{path.name} is being read and was not removed",
                hint="try again when its download or check has ended",
            )
        time.sleep(_RETRY_SECONDS)


@contextmanager
def _open(path: Path, *, follow: bool) -> Iterator[int]:
    # Without O_NONBLOCK, opening a named pipe would wait for a writer.
    flags = os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC | (0 if follow else os.O_NOFOLLOW)
    try:
        handle = os.open(path, flags)
    except FileNotFoundError:
        raise _not_found(path) from None
    try:
        yield handle
    finally:
        os.close(handle)


def _try_exclusive(handle: int) -> bool:
    """Lock the file exclusively. Returns False if somebody else has it locked; True if the file system has no locks."""
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    except OSError as error:
        if error.errno not in _NO_FLOCK:
            raise
    return True


def _not_found(path: Path) -> BackupNotFound:
    return BackupNotFound(f"there is no backup {path.name}", hint="GET /api/backup/list shows which there are")

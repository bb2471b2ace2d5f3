"""Opens archives under a lock: `flock` on the file itself, shared for readers, exclusive for removal.

Where the file system has no `flock`, a removal does not see the readers; a reader's open file outlives it all the same.
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

    follow: `path` may be a symbolic link. wait=False: never wait for the lock, and read an archive that is just being
    removed without one. Raises BackupNotFound where there is none, also if it was removed before the lock was had, and
    OSError where it cannot be opened.
    """
    with _open(path, follow=follow) as handle:
        with suppress(OSError):
            fcntl.flock(handle, fcntl.LOCK_SH if wait else fcntl.LOCK_SH | fcntl.LOCK_NB)
        if wait and not names_open_file(path, handle):
            raise _not_found(path)
        yield handle


@contextmanager
def exclusive_lock(path: Path, patience: float = 0.0) -> Iterator[None]:
    """Hold the archive without any reader, so that it can be removed.

    patience: how many seconds to wait for its readers. Raises BackupProtected if it is still being read then,
    BackupNotFound where there is none, and OSError.
    """
    deadline = time.monotonic() + patience
    while True:
        with _open(path, follow=False) as handle:
            if _lock_alone(handle):
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


def _lock_alone(handle: int) -> bool:
    """Whether nobody else has the file locked, as far as the file system can say."""
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

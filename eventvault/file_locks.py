"""Takes locks on files, always with a deadline, because any program may hold a `flock` on any file of ours.

Lock files of our own are locked by range: such a lock belongs to the open file and does not see a `flock`. The `flock`
is taken too, for EventVault 0.1.0, which has only that one.
"""

from __future__ import annotations

import errno
import fcntl
import logging
import os
import struct
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from eventvault.regular_files import NotRegular, open_handle
from eventvault.small_files import SmallFileDamaged, quarantine_or_log

log = logging.getLogger("BackupManager")

LOCK_SECONDS = 1.0
"""Seconds to wait for a lock that another program holds on a file."""
_RETRY_SECONDS = 0.005
_NO_FLOCK = frozenset({errno.ENOLCK, errno.EOPNOTSUPP, errno.ENOSYS, errno.EINVAL})
_LOCKS = Path("/proc/locks")
_RANGE = struct.Struct("@hhqqi0q")
"""Linux's `struct flock`: type, whence, start, length, process id."""


def lock_handle(handle: int, *, exclusive: bool, seconds: float = LOCK_SECONDS) -> bool:
    """Lock an open file. Returns False if another program holds a lock on it for `seconds`.

    On a file system without `flock` it returns True, because nobody can hold one there. Raises OSError.
    """
    how = fcntl.LOCK_NB | (fcntl.LOCK_EX if exclusive else fcntl.LOCK_SH)
    deadline = time.monotonic() + seconds
    while True:
        try:
            fcntl.flock(handle, how)
        except BlockingIOError:
            if time.monotonic() >= deadline:
                return False
            time.sleep(_RETRY_SECONDS)
        except OSError as error:
            if error.errno not in _NO_FLOCK:
                raise
            return True
        else:
            return True


def lock_range(handle: int, seconds: float, offset: int = 0) -> bool:
    """Lock an open lock file. Returns False if another part of EventVault holds it for `seconds`. Raises OSError.

    offset: of the byte that is locked; locks of different bytes of one file are independent.
    """
    deadline = time.monotonic() + seconds
    while True:
        try:
            fcntl.fcntl(handle, fcntl.F_OFD_SETLK, _RANGE.pack(fcntl.F_WRLCK, os.SEEK_SET, offset, 1, 0))
        except OSError as error:
            if error.errno == errno.EBADF:  # on a read-only disk, where nothing can be opened for writing
                return lock_handle(handle, exclusive=True, seconds=seconds)
            if not isinstance(error, BlockingIOError | PermissionError):
                raise
            if time.monotonic() >= deadline:
                return False
            time.sleep(_RETRY_SECONDS)
        else:
            return True


def is_range_locked(handle: int, offset: int = 0) -> bool:
    """Return whether somebody holds the lock of `lock_range` on an open lock file. Takes no lock."""
    if os.fstatvfs(handle).f_flag & os.ST_RDONLY:  # see `lock_range`
        return _flock_holder(handle) is not None
    asked = _RANGE.pack(fcntl.F_WRLCK, os.SEEK_SET, offset, 1, 0)
    answer = fcntl.fcntl(handle, fcntl.F_OFD_GETLK, asked)
    return int(_RANGE.unpack(answer)[0]) != fcntl.F_UNLCK


def open_lock_file(path: Path) -> int:
    """Open a lock file; make it if it is missing. Anything else in its place is quarantined. Raises OSError."""
    flags = os.O_RDWR | os.O_CREAT
    try:
        return open_handle(path, flags, 0o600)
    except (NotRegular, IsADirectoryError) as error:
        quarantine_or_log(path, SmallFileDamaged(str(error)))
    except OSError as error:
        if error.errno != errno.EROFS or not path.exists():
            raise
        flags = os.O_RDONLY
    return open_handle(path, flags, 0o600)


@contextmanager
def holding(path: Path, seconds: float) -> Iterator[bool]:
    """Hold a lock file until the context is left. Yields False if another process of ours holds it for `seconds`.

    Where no lock file can be made, as on a read-only disk, this does not wait: the lock only puts processes in order.
    """
    try:
        handle = open_lock_file(path)
    except OSError as error:
        log.debug("%s cannot be locked: %s", path, error)
        yield True
        return
    try:
        locked = lock_range(handle, seconds)
        if locked and not lock_handle(handle, exclusive=True, seconds=min(seconds, LOCK_SECONDS)):
            log.warning("%s holds a lock on %s; going on without it", holder_of(handle), path)
        yield locked
    finally:
        os.close(handle)


def holder_of(handle: int) -> str:
    """Name the program that holds a lock on an open file, as far as the kernel shows it to this process."""
    process = _flock_holder(handle)
    if process is None:
        return "another program"
    return (
        f"this service (process {process})" if _is_of_this_process(process) else f"another program (process {process})"
    )


def _is_of_this_process(process: int) -> bool:
    """Return whether it is this process, or a chore of it."""
    with suppress(OSError, ValueError, IndexError):
        parent = Path(f"/proc/{process}/stat").read_bytes().rpartition(b")")[2].split()[1]
        is_chore = b"eventvault.chores" in Path(f"/proc/{process}/cmdline").read_bytes().split(b"\0")
        return process == os.getpid() or (is_chore and int(parent) == os.getpid())
    return False


def _flock_holder(handle: int) -> int | None:
    """Return the process that holds a `flock` on an open file; None if the kernel shows none."""
    inode = f":{os.fstat(handle).st_ino}"
    with suppress(OSError, ValueError):
        for line in _LOCKS.read_text(encoding="ascii").splitlines():
            kind, _, _, process, file = line.split()[1:6]
            if kind == "FLOCK" and file.endswith(inode) and int(process) > 0:
                return int(process)
    return None

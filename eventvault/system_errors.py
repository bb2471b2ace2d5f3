"""Tells the operating system's errors by their numbers, and which process holds a lock.

LevelDB's errors carry text only, such as `IO error: /path/000003.log: No space left on device`. The part after the last
`: ` is the system's own, and is compared with `os.strerror`. The rest is a path, which may contain any word.
"""

from __future__ import annotations

import errno
import fcntl
import os
import struct
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from eventvault import data_folders
from eventvault.errors import NoSpace
from eventvault.regular_files import NotRegular, open_handle

_DISK_FULL = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EFBIG})
_BUSY = frozenset({errno.EMFILE, errno.ENFILE, errno.ENOMEM, errno.EAGAIN})
"""These errors go away without an operator."""
_LOCK_HELD = frozenset({errno.EAGAIN})
_NUMBERS = {os.strerror(number): number for number in errno.errorcode}
_HELD_HERE = "already held by process"
_FLOCK = struct.Struct("@hhqqi0q")
"""Linux's `struct flock`: type, whence, start, length, process id."""


def text_of(error: BaseException) -> str:
    """Return the error's message; plyvel gives LevelDB's as bytes."""
    message = error.args[0] if len(error.args) == 1 else str(error)
    return message.decode(errors="replace") if isinstance(message, bytes) else str(error)


def number_of(error: BaseException) -> int | None:
    """Return the error's `errno`, for LevelDB's errors by their text; None if the system has no part in it."""
    if isinstance(error, MemoryError):
        return errno.ENOMEM
    if isinstance(error, OSError) and error.errno is not None:
        return error.errno
    return _NUMBERS.get(text_of(error).rpartition(": ")[2])


def reason_of(error: BaseException) -> str:
    """Return the system's text, with the path if it has one that a user knows."""
    if isinstance(error, OSError) and error.errno is not None:
        reason = os.strerror(error.errno)
        return f"{reason}: {_lasting(error.filename)}" if isinstance(error.filename, str | os.PathLike) else reason
    text = text_of(error)
    kind, _, rest = text.partition(": ")
    path, _, reason = rest.rpartition(": ")
    if path and reason in _NUMBERS:  # of LevelDB
        return f"{kind}: {_lasting(path)}: {reason}"
    return text or type(error).__name__


def name_of(path: Path) -> str:
    """Return the name of the path for an error; that of a temporary file or folder would tell a user nothing."""
    lasting = _lasting(path)
    return str(path) if lasting == path else f"a copy in {lasting}"


def _lasting(path: str | os.PathLike[str]) -> Path:
    """Return the path, or the folder that holds the temporary file or folder in it."""
    parts = Path(path).parts
    temporary = (number for number, part in enumerate(parts) if data_folders.is_temporary(part))
    return Path(*parts[: next(temporary, len(parts))])


def is_disk_full(error: BaseException) -> bool:
    """Return whether an OSError or a LevelDB error means a full disk, an exhausted quota or a file size limit."""
    return number_of(error) in _DISK_FULL


def is_busy(error: BaseException) -> bool:
    """Return whether the machine or the process has too little memory or too few descriptors."""
    return number_of(error) in _BUSY


def is_lock_refused(error: BaseException) -> bool:
    """Return whether LevelDB could not lock its LOCK file because another process holds it; `lock_holder` says who."""
    return number_of(error) in _LOCK_HELD


def is_lock_held_here(error: BaseException) -> bool:
    """Return whether LevelDB refused to open a database because this process has it open or could not unlock it."""
    return text_of(error).rpartition(": ")[2] == _HELD_HERE


@contextmanager
def reporting_no_space(doing: str) -> Iterator[None]:
    """Turn a full disk into NoSpace that names what was being done; other errors pass."""
    try:
        yield
    except OSError as error:
        if not is_disk_full(error):
            raise
        raise NoSpace(
            f"{doing} failed: {reason_of(error)}",
            hint="free some space or inodes (or raise the quota) on that disk and try again; what was unfinished was "
            "removed",
        ) from error


def lock_holder(lock: Path) -> int | None:
    """Return the id of the process that holds an fcntl lock on the file `lock`, None if there is none.

    0: the holder has no id here, because it runs in another container. A file that is missing is free. A file that this
    process has open counts as locked by it; it is not opened, as closing it would give up that lock. Raises OSError.
    """
    try:
        if _is_open_here(lock):
            return os.getpid()
        handle = open_handle(lock)
    except (FileNotFoundError, NotRegular, IsADirectoryError):
        return None
    try:
        answer = fcntl.fcntl(handle, fcntl.F_GETLK, _FLOCK.pack(fcntl.F_WRLCK, os.SEEK_SET, 0, 0, 0))
    finally:
        os.close(handle)
    kind, _, _, _, process = _FLOCK.unpack(answer)
    return None if kind == fcntl.F_UNLCK else max(process, 0)


def _is_open_here(path: Path) -> bool:
    wanted = path.stat()
    for handle in Path("/dev/fd").iterdir():
        with suppress(OSError):  # the handle that listed the folder is closed by now
            if os.path.samestat(os.fstat(int(handle.name)), wanted):
                return True
    return False

"""Opens the files of the three folders: regular files only, not through a link, and without waiting.

Anybody who can write to BACKUP_DIR can put a pipe, a device or a link in the place of a file. Opening a pipe would wait
for a writer, so every file below the three folders is opened here; a test finds those that are not.
"""

from __future__ import annotations

import errno
import os
import resource
import stat
from io import BufferedRandom
from pathlib import Path
from typing import cast

_KINDS = (
    (stat.S_ISFIFO, "a pipe"),
    (stat.S_ISCHR, "a device"),
    (stat.S_ISBLK, "a device"),
    (stat.S_ISSOCK, "a socket"),
    (stat.S_ISLNK, "a link"),
)
_REFUSED_BY_OPEN = frozenset({errno.ELOOP, errno.ENXIO, errno.ENODEV})
"""What `open` says of a link, of a pipe without a reader, of a socket, and of a device without a driver."""


class NotRegular(OSError):
    """A pipe, a device, a socket or a link is in the place of a file. A folder is an IsADirectoryError."""

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.strerror = reason


def raise_limit() -> None:
    """Raise the number of files that this process may have open, from what it inherited to its hard limit."""
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))


def open_handle(path: Path | str, flags: int = os.O_RDONLY, mode: int = 0o666, *, follow: bool = False) -> int:
    """Return a descriptor of the regular file `path`. follow: it may be a link to one. Raises NotRegular, OSError."""
    flags |= os.O_NONBLOCK | os.O_CLOEXEC | (0 if follow else os.O_NOFOLLOW)
    try:
        handle = os.open(path, flags, mode)
    except OSError as error:
        if not follow and error.errno in _REFUSED_BY_OPEN and (what := _kind_of(os.lstat(path).st_mode)):
            raise NotRegular(f"{path} is {what} and not a regular file") from error
        raise
    try:
        _check_regular(path, os.fstat(handle).st_mode)
    except BaseException:
        os.close(handle)
        raise
    return handle


def open_file(path: Path | str, mode: str = "rb", *, buffering: int = -1, permissions: int = 0o666) -> BufferedRandom:
    """Open a file as `open` does, in binary mode. permissions: of a new file. Raises NotRegular or OSError."""
    return cast(  # another class of file for some modes
        BufferedRandom,
        open(path, mode, buffering, opener=lambda name, flags: open_handle(name, flags, permissions)),
    )


def read_file(path: Path) -> bytes:
    """Return the content of a regular file. Raises NotRegular or OSError."""
    with open_file(path) as file:
        return file.read()


def _check_regular(path: Path | str, mode: int) -> None:
    if stat.S_ISREG(mode):
        return
    if stat.S_ISDIR(mode):
        raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR), str(path))
    raise NotRegular(f"{path} is {_kind_of(mode) or 'special'} and not a regular file")


def _kind_of(mode: int) -> str | None:
    return next((what for is_kind, what in _KINDS if is_kind(mode)), None)

"""Who reads an archive and who may remove it: `flock` on the file itself, shared for readers, exclusive for removal.

On file systems without `flock` readers are not seen; they keep the file that they have open all the same.
"""

from __future__ import annotations

import errno
import fcntl
import os
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import BinaryIO

from eventvault.errors import BackupNotFound, BackupProtected
from eventvault.files import names_open_file

_NO_FLOCK = frozenset({errno.ENOLCK, errno.EOPNOTSUPP, errno.ENOSYS, errno.EINVAL})
_LOOK_AGAIN_SECONDS = 0.02


@contextmanager
def reading(path: Path) -> Iterator[BinaryIO]:
    """The archive, opened for reading: neither rotation nor a delete takes it away meanwhile.

    Raises BackupNotFound where there is none, also when it was being removed.
    """
    with _locked(path, fcntl.LOCK_SH) as file:
        yield file


@contextmanager
def exclusive_lock(path: Path, patience: float = 0.0) -> Iterator[None]:
    """Nobody reads the archive, and nobody begins to until this is left: then it may be removed.

    patience: how many seconds whoever reads it has to come to an end. Raises BackupProtected where it is being read,
    BackupNotFound where there is none.
    """
    deadline = time.monotonic() + patience
    with ExitStack() as claim:
        while True:
            try:
                claim.enter_context(_locked(path, fcntl.LOCK_EX | fcntl.LOCK_NB))
                break
            except _Held:
                if time.monotonic() >= deadline:
                    raise BackupProtected(
                        f"{path.name} is being read and was not removed",
                        hint="try again when its download or check has ended",
                    ) from None
            time.sleep(_LOOK_AGAIN_SECONDS)
        yield


class _Held(Exception):
    """Somebody else's lock is in the way."""


@contextmanager
def _locked(path: Path, how: int) -> Iterator[BinaryIO]:
    try:
        handle = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    except FileNotFoundError:
        raise _not_found(path) from None
    with open(handle, "rb") as file:  # noqa: PTH123 - a descriptor, not a path
        try:
            fcntl.flock(file, how)
        except OSError as error:
            if error.errno == errno.EWOULDBLOCK:
                raise _Held from None
            if error.errno not in _NO_FLOCK:
                raise
        if not names_open_file(path, file.fileno()):
            raise _not_found(path)
        yield file


def _not_found(path: Path) -> BackupNotFound:
    return BackupNotFound(f"there is no backup {path.name}", hint="GET /api/backup/list shows which there are")

"""Decides what is damage and what is a disk that failed.

Damage is wrong bytes, or a file that is surely missing. What the system could not read or write says nothing about the
data: it is never called damaged, skipped or replaced by something older, and it is tried again.
"""

from __future__ import annotations

import errno

import plyvel

from eventvault.errors import DatabaseDamaged, DiskFailed, EventVaultError, NoSpace, TooBusy
from eventvault.system_errors import is_disk_full, number_of, reason_of, text_of

SYSTEM_ERRORS = (OSError, plyvel.Error, MemoryError)
"""What a call of the system, or of LevelDB, raises."""
_BUSY = frozenset({errno.EMFILE, errno.ENFILE, errno.ENOMEM, errno.EAGAIN})


def is_damage(error: BaseException) -> bool:
    """Return whether bytes were read that nobody wrote; False for what the system could not read.

    A damaged footer of a table names a block beyond the end of the file, and LevelDB says EINVAL for that table.
    """
    if isinstance(error, plyvel.CorruptionError | DatabaseDamaged):
        return True
    place = text_of(error).rpartition(": ")[0]
    return isinstance(error, plyvel.IOError) and number_of(error) == errno.EINVAL and place.endswith((".ldb", ".sst"))


def as_answer(doing: str, error: BaseException) -> EventVaultError:
    """Return what a caller is told of a system error during `doing`: NoSpace, TooBusy, or DiskFailed."""
    message = f"{doing} failed: {reason_of(error)}"
    if is_disk_full(error):
        return NoSpace(message, hint="free some space (or raise the quota) on that disk and try again")
    if number_of(error) in _BUSY:
        return TooBusy(
            message, hint="the machine or the process has too little memory or too few descriptors; try again"
        )
    return DiskFailed(
        message, hint="check that disk, its mount and its permissions; the system's log says more. It is tried again"
    )

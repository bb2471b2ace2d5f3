"""Decides what is damage and what is a disk that failed.

Damage is wrong bytes, or a file that is surely missing. What the system could not read or write says nothing about the
data: it is never called damaged, skipped or replaced by something older, and it is tried again.
"""

from __future__ import annotations

import errno

import plyvel

from eventvault.errors import DatabaseDamaged, DiskFailed, EventVaultError, NoSpace, TooBusy
from eventvault.system_errors import is_busy, is_disk_full, number_of, reason_of, text_of

SYSTEM_ERRORS = (OSError, plyvel.Error, MemoryError)
"""What a call of the system, or of LevelDB, raises."""
_DENIED = frozenset({errno.EACCES, errno.EPERM})
_ABSENT = frozenset({errno.ENOENT, errno.ENOTDIR})


def is_damage(error: BaseException) -> bool:
    """Return True if wrong bytes were read; False for what the system could not read.

    LevelDB reports EINVAL for a table whose damaged footer names a block beyond the end of the file.
    """
    if isinstance(error, plyvel.CorruptionError | DatabaseDamaged):
        return True
    place = text_of(error).rpartition(": ")[0]
    return isinstance(error, plyvel.IOError) and number_of(error) == errno.EINVAL and place.endswith((".ldb", ".sst"))


def as_answer(doing: str, error: BaseException, other: type[EventVaultError] = DiskFailed) -> EventVaultError:
    """Return the error for a caller if `doing` failed with a system error: NoSpace, TooBusy, or an `other` one."""
    kind = NoSpace if is_disk_full(error) else TooBusy if is_busy(error) else other
    return kind(f"{doing} failed: {reason_of(error)}", hint=advice(error))


def advice(error: BaseException) -> str:
    """Return what an operator can do about a system error, by its number."""
    if is_disk_full(error):
        return "free some space or inodes (or raise the quota) on that disk; then it works again"
    if is_busy(error):
        return "the machine or the process has too little memory or too few descriptors; try again"
    number = number_of(error)
    if number in _DENIED:
        return "let the user of the service read and write it; then it works again"
    if number == errno.EROFS:
        return "mount that file system so that it can be written; then it works again"
    if number in _ABSENT:
        return "make sure that it exists and that its disk is mounted; then it works again"
    return "check that disk and its mount (the system's log says more); it is tried again"

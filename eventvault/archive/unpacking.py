"""Prepares the folder that an archive is unpacked into, and checks that its content fits on the disk."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from eventvault.archive.source import OpenArchive
from eventvault.errors import ArchiveUnsafe, NoSpace
from eventvault.files import free_bytes, make_folder, sync_folder, sync_tree
from eventvault.system_errors import name_of, reporting_no_space

MAX_DEFLATE_RATIO = 1032
"""One byte inflates to at most 1032 bytes (zlib's technical notes, "Maximum Compression Factor")."""

_BOMB = 100
"""An archive is a bomb if it unpacks to more than this many times its size and does not fit on the disk."""


@contextmanager
def new_folder(target: Path, *, durable: bool = True) -> Iterator[Path]:
    """Create the folder `target` and its parents. On exit sync it to disk; on an exception remove it.

    durable=False: do not sync it, because it will be removed soon. Raises FileExistsError if `target` exists, without
    changing it, and NoSpace if the disk is full.
    """
    with reporting_no_space(f"unpacking into {name_of(target)}"):
        make_folder(target.parent)
        target.mkdir()
        try:
            yield target
            if durable:
                sync_tree(target)
                sync_folder(target.parent)
        except BaseException:
            shutil.rmtree(target, ignore_errors=True)
            raise


def no_space(archive: OpenArchive, needed: int, free: int) -> NoSpace:
    return NoSpace(
        f"unpacking {archive.path} failed: it needs {needed} bytes, {free} are free",
        hint="free some space on the disk of storage/ and try again; nothing was unpacked",
    )


def unsafe(archive: OpenArchive, why: str) -> ArchiveUnsafe:
    return ArchiveUnsafe(
        f"unpacking {archive.path} failed: {why}",
        hint="EventVault refuses this archive; make another one of the database folder alone: tar czf backup.tar.gz"
        " event_registry_db",
    )


def check_fits(archive: OpenArchive, needed: int, folder: Path) -> None:
    """Raise NoSpace if `folder` has no room for `needed` bytes, before anything is written.

    Raises ArchiveUnsafe if no archive of this size can hold that many bytes.
    """
    if needed > archive.size * MAX_DEFLATE_RATIO:
        raise unsafe(archive, f"it claims to hold {needed} bytes, more than its {archive.size} can")
    free = _free(folder)
    if needed > free:
        raise no_space(archive, needed, free)


def _free(folder: Path) -> int:
    return free_bytes(next(parent for parent in (folder, *folder.absolute().parents) if parent.exists()))


class UnpackingBudget:
    """Limits the total bytes of an archive's entries to the free space of the disk."""

    def __init__(self, archive: OpenArchive, folder: Path) -> None:
        self._archive = archive
        self._free = _free(folder)
        self._needed = 0

    def charge(self, size: int) -> None:
        """Add an entry of `size` bytes. Raises NoSpace if the sum does not fit, ArchiveUnsafe if it is a bomb."""
        self._needed += size
        if self._needed <= self._free:
            return
        if self._needed > self._archive.size * _BOMB:
            why = f"its {self._archive.size} bytes unpack to {self._needed} or more, and {self._free} are free"
            raise unsafe(self._archive, why)
        raise no_space(self._archive, self._needed, self._free)

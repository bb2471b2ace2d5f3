"""Where an archive is unpacked to: a folder that is whole and on disk, or not there at all."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from eventvault.archive.source import OpenArchive
from eventvault.errors import ArchiveUnsafe, NoSpace
from eventvault.files import free_bytes, make_folder, sync_folder, sync_tree
from eventvault.system_errors import reporting_no_space

MAX_DEFLATE_RATIO = 1032
"""Deflate makes at most 1032 bytes of one (zlib's technical notes, "Maximum Compression Factor")."""

_BOMB = 100
"""What holds this many times its size, and more than fits on the disk, is taken for a bomb."""


@contextmanager
def fresh_folder(target: Path) -> Iterator[Path]:
    """Make `target` (and what it lies in), and on leaving put all in it on disk; on an exception it is removed again.

    Raises FileExistsError where it is there already (then it is left as it is), NoSpace for a full disk.
    """
    with reporting_no_space(f"unpacking into {target}"):
        make_folder(target.parent)
        target.mkdir()
        try:
            yield target
            sync_tree(target)
            sync_folder(target.parent)
        except BaseException:
            shutil.rmtree(target, ignore_errors=True)
            raise


def no_space(archive: OpenArchive, needed: int, free: int) -> NoSpace:
    return NoSpace(
        f"unpacking {archive.path} failed: it needs {needed} bytes, {free} are free",
        hint="free some space on the disk of storage/ and try again; nothing was kept of this try",
    )


def unsafe(archive: OpenArchive, why: str) -> ArchiveUnsafe:
    return ArchiveUnsafe(
        f"unpacking {archive.path} failed: {why}",
        hint="this archive is not taken in; make it anew from the database folder alone: tar czf backup.tar.gz"
        " event_registry_db",
    )


def check_fits(archive: OpenArchive, needed: int, folder: Path) -> None:
    """Raise, before anything is written, where `needed` bytes are more than `folder` has room for.

    Raises NoSpace, or ArchiveUnsafe where no archive of this size can hold so much.
    """
    if needed > archive.size * MAX_DEFLATE_RATIO:
        raise unsafe(archive, f"it says that it holds {needed} bytes, more than its {archive.size} can")
    free = _free(folder)
    if needed > free:
        raise no_space(archive, needed, free)


def _free(folder: Path) -> int:
    """What is free where `folder` lies or will lie."""
    there = next(parent for parent in (folder, *folder.absolute().parents) if parent.exists())
    return free_bytes(there)


class Budget:
    """What the entries of an archive may hold together: what is free on the disk."""

    def __init__(self, archive: OpenArchive, folder: Path) -> None:
        self._archive = archive
        self._free = _free(folder)
        self._needed = 0

    def charge(self, size: int) -> None:
        """Take in an entry of `size` bytes. Raises ArchiveUnsafe for a bomb, NoSpace for what does not fit."""
        self._needed += size
        if self._needed <= self._free:
            return
        if self._needed > self._archive.size * _BOMB:
            why = f"its {self._archive.size} bytes unpack to {self._needed} or more, and {self._free} are free"
            raise unsafe(self._archive, why)
        raise no_space(self._archive, self._needed, self._free)

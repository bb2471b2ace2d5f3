"""Whether there is room for what a restore makes, said before it begins."""

from __future__ import annotations

from pathlib import Path

from eventvault.backups.archive import reader
from eventvault.errors import ArchiveError, NoSpace
from eventvault.files import free_bytes

_UNPACKED = 4
"""An archive that does not say how large it is when it is unpacked is taken to be so many times its size."""


def unpacked_bytes(archive: Path) -> int:
    """What an archive takes when it is unpacked, at most about."""
    try:
        return reader.read_manifest(archive).total_size
    except ArchiveError:
        return _UNPACKED * archive.stat().st_size


def check_space(storage_dir: Path, needed: int, doing: str) -> None:
    """Raises NoSpace, with the bytes that are `needed` and those that are `free`."""
    free = free_bytes(storage_dir)
    if needed > free:
        raise no_space(storage_dir, needed, free, doing)


def no_space(storage_dir: Path, needed: int, free: int, doing: str) -> NoSpace:
    return NoSpace(
        f"{doing} needs {needed} bytes in {storage_dir}, {free} are free",
        hint="free some space there and try again; nothing was begun",
        needed=needed,
        free=free,
    )

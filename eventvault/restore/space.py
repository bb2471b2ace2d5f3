"""Whether there is room for what a restore makes, said before it begins."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from eventvault.archive import reader
from eventvault.errors import ArchiveError, BackupNotFound, NoSpace
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
        raise NoSpace(
            f"{doing} needs {needed} bytes in {storage_dir}, {free} are free",
            hint="free some space there and try again; nothing was begun",
            needed=needed,
            free=free,
        )


@contextmanager
def room_for(archive: Path, storage_dir: Path) -> Iterator[None]:
    """Raises NoSpace before an archive is unpacked that says how large it is, else when the disk is full.

    It has the bytes that are `needed`, at most about, and those that are `free` either way.
    """
    with suppress(ArchiveError, BackupNotFound):
        check_space(storage_dir, reader.read_manifest(archive).total_size, f"restoring {archive.name}")
    try:
        yield
    except NoSpace as error:
        error.details = {"needed": unpacked_bytes(archive), "free": free_bytes(storage_dir), **error.details}
        raise

"""Checks that there is room for a restore before it begins."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from eventvault.archive import reader
from eventvault.errors import ArchiveError, BackupNotFound, NoSpace
from eventvault.files import free_bytes

_UNPACKED = 4
"""An archive without a manifest is assumed to need this many times its size when it is unpacked."""


def unpacked_bytes(archive: Path) -> int:
    """Return about how many bytes an unpacked archive needs at most."""
    try:
        return reader.read_manifest(archive).total_size
    except ArchiveError:
        return _UNPACKED * archive.stat().st_size


def check_space(storage_dir: Path, needed: int, doing: str) -> None:
    """Raise NoSpace, with the bytes that are `needed` and those that are `free`, if they do not suffice."""
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
    """Raise NoSpace before an archive is unpacked if its manifest says how large it is, else once the disk is full.

    Either error says about how many bytes are `needed`, and how many are `free`.
    """
    with suppress(ArchiveError, BackupNotFound):
        check_space(storage_dir, reader.read_manifest(archive).total_size, f"restoring {archive.name}")
    try:
        yield
    except NoSpace as error:
        error.details = {"needed": unpacked_bytes(archive), "free": free_bytes(storage_dir), **error.details}
        raise

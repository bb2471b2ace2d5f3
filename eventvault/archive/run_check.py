"""Checks single runs of an archive: the data members of one file, wherever the archive is damaged elsewhere."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Any

from blake3 import blake3
from isal import isal_zlib

from eventvault.archive import reader
from eventvault.archive.members import read_member
from eventvault.archive.parallel import in_order
from eventvault.archive.source import OpenArchive, open_archive
from eventvault.archive.stored import StoredFile
from eventvault.errors import ArchiveDamaged


def check_runs(*, archive: str, offsets: list[int]) -> dict[str, Any]:
    """Read the runs that begin at these offsets from the disk; a chore. Returns {damaged: [offset…]}.

    Raises ArchiveError if the end of the archive, which says where runs lie, cannot be read, or the disk fails.
    """
    wanted = frozenset(offsets)
    with open_archive(Path(archive), past_cache=True) as opened:
        _, files = reader.peek_files(opened)
        checks = in_order(partial(_damaged_at, opened, file) for file in files if file.offset in wanted)
        return {"damaged": [offset for offset in checks if offset is not None]}


def _damaged_at(archive: OpenArchive, file: StoredFile) -> int | None:
    position = file.offset
    for member in file.members:
        try:
            packed = read_member(archive, position, member.length)
        except ArchiveDamaged:
            return file.offset
        if member.crc not in (None, isal_zlib.crc32(packed)):
            return file.offset
        if member.blake3 not in (None, blake3(packed).hexdigest()):
            return file.offset
        position += member.length
    return None

"""Checks single runs of an archive (the data members of one file), even if the archive is damaged elsewhere."""

from __future__ import annotations

import os
from functools import partial
from pathlib import Path
from typing import Any

from blake3 import blake3
from isal import isal_zlib

from eventvault.archive import layout, reader
from eventvault.archive.members import inflate_piece, read_member
from eventvault.archive.parallel import in_order
from eventvault.archive.source import OpenArchive, open_archive
from eventvault.archive.stored import StoredFile
from eventvault.errors import ArchiveDamaged


def check_runs(*, archive: str, offsets: list[int]) -> dict[str, Any]:
    """Read the runs that begin at these offsets from the disk; a chore. Returns {damaged: [offset…]}.

    Raises ArchiveError if the disk fails, or if the index, which says where runs lie, cannot be read.
    """
    to_check = frozenset(offsets)
    with open_archive(Path(archive), past_cache=True) as opened:
        _, files = reader.peek_files(opened)
        checks = in_order(partial(_damaged_at, opened, file) for file in files if file.offset in to_check)
        return {"damaged": [offset for offset in checks if offset is not None]}


def check_content(*, archive: str, names: list[str]) -> dict[str, Any]:
    """Inflate the members of these files and compare them with the files' digests, at the lowest priority; a chore.

    Raises ArchiveDamaged, which names the file, or ArchiveUnreadable.
    """
    os.nice(19)
    with open_archive(Path(archive)) as opened:
        about, stored = reader.peek_files(opened)
        to_check, digests = frozenset(names), {file.name: file.blake3 for file in about.files}
        files = (file for file in stored if file.name in to_check)
        for _ in in_order(partial(_check_content, opened, file, digests[file.name]) for file in files):
            pass
    return {}


def _check_content(archive: OpenArchive, file: StoredFile, digest: str | None) -> None:
    content, position = blake3(), file.offset
    for member, piece in zip(file.members, layout.pieces(file.size), strict=True):
        packed = read_member(archive, position, member.length)
        content.update(inflate_piece(archive, packed, position, *piece))
        position += member.length
    if content.hexdigest() != digest:
        raise archive.damaged(f"its members of {file.name} do not hold that file", file.offset)


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

"""Locates the compressed content of a file in an archive, so that a new archive can reuse it."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import NamedTuple

SkippedRuns = Mapping[int, tuple[int, int]]
"""Runs whose blocks were read in another archive that shares them: offset → size of these blocks, and the CRC-32 of the
bytes after them."""
NO_RUNS: SkippedRuns = MappingProxyType({})


class StoredMember(NamedTuple):
    """A data member. crc, blake3: of its bytes; format 1 has only the first, format 2 only the second (in hex)."""

    length: int
    crc: int | None = None
    blake3: str | None = None


class StoredFile(NamedTuple):
    """The data members of a file, one after the other from `offset`. size: of the file's content."""

    name: str
    size: int
    offset: int
    members: tuple[StoredMember, ...]

    @property
    def length(self) -> int:
        return sum(member.length for member in self.members)


class MemberRun(NamedTuple):
    """The data members of one file in the earlier archive `number`, which is open as `handle`.

    read: when they were last read and found good, in microseconds; None if too long ago to clone them unread.
    """

    number: int
    handle: int
    file: StoredFile
    read: int | None = None


class Clone(NamedTuple):
    """The data members of a file of which a new archive shares the whole blocks with the earlier archive `number`.

    source_offset, offset: of the first one in the earlier and in the new archive. size: of the shared blocks. tail:
    CRC-32 of the bytes after them. read: as in `MemberRun`; None if the new archive's bytes are read.
    """

    number: int
    source_offset: int
    offset: int
    size: int
    tail: int
    read: int | None

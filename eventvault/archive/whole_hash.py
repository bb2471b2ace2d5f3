"""Computes the SHA-256 of a whole archive just after other threads checked it, while its pages are still cached."""

from __future__ import annotations

import hashlib

from eventvault.archive.source import OpenArchive
from eventvault.files import IO_BYTES


class WholeHash:
    """The SHA-256 of an archive's bytes up to the farthest `extend`."""

    def __init__(self, archive: OpenArchive) -> None:
        self._archive = archive
        self._sha256 = hashlib.sha256()
        self._end = 0
        self._buffer = memoryview(bytearray(IO_BYTES))

    def extend(self, end: int) -> None:
        """Add the bytes up to `end`. Raises ArchiveDamaged if there are fewer."""
        while self._end < end:
            read = self._archive.read_into(self._buffer[: min(IO_BYTES, end - self._end)], self._end)
            if not read:
                raise self._archive.damaged("it was truncated while it was read", self._end)
            self._sha256.update(self._buffer[:read])
            self._end += read

    def of_all(self) -> str:
        """Return the SHA-256 of the whole archive, in hex."""
        self.extend(self._archive.size)
        return self._sha256.hexdigest()

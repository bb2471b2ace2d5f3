"""Reads `jobs_db` during a turn: the turn's own changes take precedence over the content of the disk."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Protocol


class StoredValues(Protocol):
    """The content of the disk."""

    def get(self, key: bytes) -> bytes | None: ...

    def scan(self, start: bytes, stop: bytes, *, reverse: bool = False) -> Iterator[tuple[bytes, bytes]]:
        """Yield keys and values from `start` on, before `stop`."""


class Changes:
    """The changes of one turn, and a reader below them. written: key → value, None if the key is removed."""

    def __init__(self, reader: StoredValues) -> None:
        self.reader = reader
        self.written: dict[bytes, bytes | None] = {}

    def get(self, key: bytes) -> bytes | None:
        if key in self.written:
            return self.written[key]
        return self.reader.get(key)

    def put(self, key: bytes, value: bytes) -> None:
        self.written[key] = value

    def remove(self, key: bytes) -> None:
        self.written[key] = None

    def scan(self, start: bytes, stop: bytes) -> Iterator[tuple[bytes, bytes]]:
        """Yield keys and values from `start` on, before `stop`, with the changes that were made before the call."""
        changed = sorted((key for key in self.written if start <= key < stop), reverse=True)
        for key, value in self.reader.scan(start, stop):
            while changed and changed[-1] < key:
                yield from self._entry(changed.pop())
            if changed and changed[-1] == key:
                yield from self._entry(changed.pop())
            else:
                yield key, value
        while changed:
            yield from self._entry(changed.pop())

    def _entry(self, key: bytes) -> Iterator[tuple[bytes, bytes]]:
        value = self.written[key]
        if value is not None:
            yield key, value

"""Reading `jobs_db` while a turn decides: what the turn changes lies over what is on disk."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Protocol


class StoredValues(Protocol):
    """What is on disk."""

    def get(self, key: bytes) -> bytes | None: ...

    def scan(self, start: bytes, stop: bytes, *, reverse: bool = False) -> Iterator[tuple[bytes, bytes]]:
        """Yield keys and values from `start` on, before `stop`."""


class Changes:
    """The changes of one turn over a reader. Written in one batch; None: the key is removed."""

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
        """Yield keys and values from `start` on, before `stop`, as they are with the changes made before the call."""
        changed = sorted((key for key in self.written if start <= key < stop), reverse=True)
        for key, value in self.reader.scan(start, stop):
            while changed and changed[-1] < key:
                yield from self._changed(changed.pop())
            if changed and changed[-1] == key:
                yield from self._changed(changed.pop())
            else:
                yield key, value
        while changed:
            yield from self._changed(changed.pop())

    def _changed(self, key: bytes) -> Iterator[tuple[bytes, bytes]]:
        value = self.written[key]
        if value is not None:
            yield key, value

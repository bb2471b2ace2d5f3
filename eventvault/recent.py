"""A mapping of bounded size, which forgets what was put or touched longest ago."""

from __future__ import annotations

from collections import OrderedDict
from typing import Generic, TypeVar

K = TypeVar("K")
V = TypeVar("V")


class Recent(Generic[K, V]):
    """Has at most `most` entries: a further one replaces the one that was put or touched longest ago."""

    def __init__(self, most: int) -> None:
        self._most = most
        self._entries: OrderedDict[K, V] = OrderedDict()

    def put(self, key: K, value: V) -> None:
        self._entries[key] = value
        self._entries.move_to_end(key)
        if len(self._entries) > self._most:
            self._entries.popitem(last=False)

    def touch(self, key: K) -> None:
        """Make this entry the newest one, if it exists."""
        if key in self._entries:
            self._entries.move_to_end(key)

    def get(self, key: K) -> V | None:
        return self._entries.get(key)

    def pop(self, key: K) -> V | None:
        return self._entries.pop(key, None)

    def items(self) -> list[tuple[K, V]]:
        """Return all entries, the one that was put or touched longest ago first."""
        return list(self._entries.items())

    def __len__(self) -> int:
        return len(self._entries)

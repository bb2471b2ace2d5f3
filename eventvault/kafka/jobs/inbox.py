"""Passes items from reading threads to the thread that owns a transport: bounded lanes, a descriptor for a selector."""

from __future__ import annotations

import os
import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import Any

MOST_ITEMS = 20_000
MOST_BYTES = 16 * 2**20
_SLICE_SECONDS = 0.1


class _Lane:
    def __init__(self) -> None:
        self.items: deque[tuple[Any, int]] = deque()
        self.bytes = 0

    @property
    def has_room(self) -> bool:
        return len(self.items) < MOST_ITEMS and self.bytes < MOST_BYTES

    def pop(self, most: int) -> list[Any]:
        pairs = [self.items.popleft() for _ in range(min(most, len(self.items)))]
        self.bytes -= sum(size for _, size in pairs)
        return [item for item, _ in pairs]


class Inbox:
    """One thread puts into each lane, one takes; `wake` and `close` may be called by any.

    A full lane holds up only the thread that puts into it. on_arrival: called after each `put`. was_woken: the last
    `take` ended because of `wake`.
    """

    def __init__(self, lanes: int, on_arrival: Callable[[], None] | None = None) -> None:
        self._lanes = [_Lane() for _ in range(lanes)]
        self._changed = threading.Condition()
        self.was_woken = False
        self._is_woken = False
        self._is_closed = False
        self._on_arrival = on_arrival
        self._descriptor = os.eventfd(0, os.EFD_NONBLOCK | os.EFD_CLOEXEC)

    def fileno(self) -> int:
        """Return a descriptor that is readable while a lane has something."""
        return self._descriptor

    def put(self, number: int, items: Sequence[Any], sizes: Sequence[int]) -> None:
        """Add items to a lane once it has room. sizes: theirs, in bytes. Drops them if the inbox is closed."""
        if not items:
            return
        lane = self._lanes[number]
        with self._changed:
            while not lane.has_room and not self._is_closed:
                self._changed.wait(_SLICE_SECONDS)
            if self._is_closed:
                return
            lane.items.extend(zip(items, sizes, strict=True))
            lane.bytes += sum(sizes)
            os.eventfd_write(self._descriptor, 1)
            self._changed.notify_all()
        if self._on_arrival is not None:
            self._on_arrival()

    def take(self, seconds: float, most: Sequence[int]) -> list[list[Any]]:
        """Return items of each lane, at most `most` of it. Waits for the first item, for `wake`, or so many seconds."""
        deadline = time.monotonic() + seconds
        with self._changed:
            while not self._has_any(most) and not self._is_woken and (rest := deadline - time.monotonic()) > 0:
                self._changed.wait(rest)
            self.was_woken, self._is_woken = self._is_woken, False
            items = [lane.pop(limit) for lane, limit in zip(self._lanes, most, strict=True)]
            if not any(lane.items for lane in self._lanes) and not self._is_closed:
                with suppress(BlockingIOError):
                    os.eventfd_read(self._descriptor)
            self._changed.notify_all()
        return items

    def wake(self) -> None:
        with self._changed:
            self._is_woken = True
            self._changed.notify_all()

    def clear(self) -> None:
        self.take(0, [len(lane.items) for lane in self._lanes])

    def close(self) -> None:
        with self._changed:
            if self._is_closed:
                return
            self._is_closed = True
            self._lanes = [_Lane() for _ in self._lanes]
            os.close(self._descriptor)
            self._changed.notify_all()

    def _has_any(self, most: Sequence[int]) -> bool:
        return any(lane.items and limit for lane, limit in zip(self._lanes, most, strict=True))

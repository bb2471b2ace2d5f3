"""Budgets of memory: the bytes that all requests of a process may take at a time, for bodies and for parsing them."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager

from eventvault.errors import TooBusy

WAIT_SECONDS = 5.0
"""Seconds that a request waits for others to give back what they have taken."""


class Budget:
    """Bytes that requests take and give back.

    A request for more than the total gets the whole total, once no other request has any of it.
    """

    def __init__(self, total: int, what: str, wait_seconds: float = WAIT_SECONDS) -> None:
        self._total = total
        self._what = what
        self._wait_seconds = wait_seconds
        self._free = total
        self._changed = threading.Condition()

    def take(self, count: int) -> int:
        """Take that many bytes; return how many were taken. Raises TooBusy if they do not become free in time."""
        if not count:
            return 0
        count = min(count, self._total)
        deadline = time.monotonic() + self._wait_seconds
        with self._changed:
            while self._free < count:
                if not self._changed.wait(deadline - time.monotonic()) and self._free < count:
                    raise TooBusy(
                        f"{self._what} of this process is taken by other requests", hint="try again in a moment"
                    )
            self._free -= count
        return count

    def give_back(self, count: int) -> None:
        if not count:
            return
        with self._changed:
            self._free += count
            self._changed.notify_all()

    def reservation(self) -> Reservation:
        """Return an empty reservation, which can grow."""
        return Reservation(self)

    @contextmanager
    def reserved(self, count: int) -> Iterator[None]:
        """Take that many bytes for a block of code. Raises TooBusy."""
        reservation = self.reservation()
        reservation.grow(count)
        try:
            yield
        finally:
            reservation.release()


class Reservation:
    """The part of a budget that one request uses. size: its bytes, at most those of the whole budget."""

    def __init__(self, budget: Budget) -> None:
        self.size = 0
        self._budget = budget

    def grow(self, count: int) -> None:
        """Take that many more bytes. Raises TooBusy."""
        self.size += self._budget.take(count)

    def release(self) -> None:
        """Give everything back. May be called repeatedly, by one thread at a time."""
        size, self.size = self.size, 0
        self._budget.give_back(size)

"""Lets threads wait until events were appended, or until another database is open."""

from __future__ import annotations

import threading
from collections.abc import Callable

from eventvault.database.values import Head


class HeadWatch:
    """head: returns the generation and last sequence of the open database, None while none is open."""

    def __init__(self, head: Callable[[], Head | None]) -> None:
        self._head = head
        self._changed = threading.Condition()
        self._ended = False

    def announce(self) -> None:
        """Wake the waiting threads, because the head may have changed."""
        with self._changed:
            self._changed.notify_all()

    def end(self) -> None:
        """End all waits, also later ones."""
        with self._changed:
            self._ended = True
            self._changed.notify_all()

    def wait(self, seen: Head | None, seconds: float) -> Head | None:
        """Return the head once it differs from `seen`, or after `seconds` as it is; None while no database is open."""
        with self._changed:
            self._changed.wait_for(lambda: self._ended or self._head() not in (seen, None), seconds)
        return self._head()

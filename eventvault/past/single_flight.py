"""Databases of the past that are made for their readers: each once, however many ask for it at the same time."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from eventvault.past.pool import PastDatabasePool

MAX_CONCURRENT_BUILDS = 2
"""A small one does not wait for a large one; but each takes disk and cores from what goes on beside it."""


class SingleFlight:
    """Safe for many threads. Who reads what is open already does not wait for what is being made."""

    def __init__(self, past: PastDatabasePool) -> None:
        self._past = past
        self._keys: set[str] = set()
        self._changed = threading.Condition()

    def last_of(self, key: str, make: Callable[[Path], Path]) -> int:
        """The last sequence of the database under `key`, which is made where none is open.

        make: is given a folder that is not there yet, and returns the database in it; what it raises is raised here.
        Raises TooBusy where it finds no place among those that are open.
        """
        with self._past.in_use(key):
            if not self._past.has(key):
                with self._exclusively(key):
                    if not self._past.has(key):
                        staging = self._past.staging()
                        self._past.add(key, make(staging), staging)
            with self._past.reading(key) as registry:
                return registry.last_sequence

    @contextmanager
    def _exclusively(self, key: str) -> Iterator[None]:
        """Nobody else makes the same meanwhile, and only so many make others."""
        with self._changed:
            self._changed.wait_for(lambda: key not in self._keys and len(self._keys) < MAX_CONCURRENT_BUILDS)
            self._keys.add(key)
        try:
            yield
        finally:
            with self._changed:
                self._keys.discard(key)
                self._changed.notify_all()

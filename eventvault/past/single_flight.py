"""Builds a past database once, however many readers ask for it at the same time."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from eventvault.past.pool import PastDatabasePool
from eventvault.progress import Activity, current, wait_for

MAX_CONCURRENT_BUILDS = 2
"""More than one, so that a small build need not wait for a large one; few, as builds compete for disk and cores."""


class SingleFlight:
    """Builds each database once. Safe to use from many threads. Readers of an open database do not wait for a build."""

    def __init__(self, past: PastDatabasePool) -> None:
        self._past = past
        self._builds: dict[str, Activity | None] = {}
        self._changed = threading.Condition()

    def last_of(self, key: str, make: Callable[[Path], Path]) -> int:
        """Return the last sequence of the database under `key`, and build the database if it is not open.

        make: called with a new folder; builds the database in it and returns its path. Raises the errors of `make`, and
        TooBusy if all databases in the pool have readers.
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
        """Let no other thread build the same database, and only MAX_CONCURRENT_BUILDS build at once."""

        def may_build(seconds: float) -> bool:
            with self._changed:
                if not self._changed.wait_for(lambda: self._has_room(key), seconds):
                    return False
                self._builds[key] = current()
                return True

        wait_for(may_build, "a database of the past that is being built", lambda: self._builder_before(key))
        try:
            yield
        finally:
            with self._changed:
                del self._builds[key]
                self._changed.notify_all()

    def _has_room(self, key: str) -> bool:
        return key not in self._builds and len(self._builds) < MAX_CONCURRENT_BUILDS

    def _builder_before(self, key: str) -> Activity | None:
        """Return the activity that builds the same database, or otherwise another one."""
        builds = dict(self._builds)
        return builds.get(key) or next(iter(builds.values()), None)

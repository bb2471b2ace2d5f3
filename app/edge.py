"""What every view needs and Flask keeps for the application: the settings, the store, the room for long requests."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

from flask import Flask, current_app

from eventvault.errors import TooBusy
from eventvault.settings import Settings
from eventvault.store.ports.store import Store

MAX_TRANSFERS = 4
"""Exports, downloads and uploads at once in one process: each holds one of gunicorn's `threads` for its whole time."""

MAX_LONG_CALLS = 8
"""Requests at once in one process that wait for something long: backups, restores, checks, looks into the past.

With LONG_LIVED_MOST these are half of the `threads` in `gunicorn.conf.py`: the others are left to requests that are
short, health among them.
"""

_SLOT_WAIT_SECONDS = 0.25
"""Seconds that a request waits for a place among them: some, such as a look at what is kept, end in no time."""

_KEY = "eventvault"


class Slots:
    """A bounded number of places; `acquire` gives back the function that frees the place, to be called once or more.

    what: who takes the places, for the message. patience: seconds that a free place is waited for.
    """

    def __init__(self, limit: int, what: str, wait_seconds: float = 0.0) -> None:
        self._free = threading.Semaphore(limit)
        self._limit = limit
        self._what = what
        self._wait_seconds = wait_seconds

    def acquire(self) -> Callable[[], None]:
        """Raises TooBusy when there is no place."""
        if not self._free.acquire(timeout=self._wait_seconds):
            raise TooBusy(
                f"{self._limit} {self._what} are under way in this process already",
                hint="try again when one of them has ended",
            )
        return _CallOnce(self._free.release)


class _CallOnce:
    def __init__(self, release: Callable[[], None]) -> None:
        self._release = release
        self._lock = threading.Lock()
        self._called = False

    def __call__(self) -> None:
        with self._lock:
            called, self._called = self._called, True
        if not called:
            self._release()


@dataclass(frozen=True)
class Edge:
    settings: Settings
    store: Store
    transfers: Slots = field(default_factory=lambda: Slots(MAX_TRANSFERS, "exports, downloads and uploads"))
    long_calls: Slots = field(
        default_factory=lambda: Slots(
            MAX_LONG_CALLS, "backups, restores, checks and looks into the past", _SLOT_WAIT_SECONDS
        )
    )


def attach(app: Flask, edge: Edge) -> None:
    app.extensions[_KEY] = edge


def current_edge() -> Edge:
    """Of the application that serves the present request."""
    edge: Edge = current_app.extensions[_KEY]
    return edge


def current_store() -> Store:
    return current_edge().store


@contextmanager
def store_for_long_call() -> Iterator[Store]:
    """The store, for a call that may take minutes. Raises TooBusy when as many of them as may be are under way."""
    release = current_edge().long_calls.acquire()
    try:
        yield current_edge().store
    finally:
        release()

"""What every view needs and Flask keeps for the application: the settings, the store, the room for long requests."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

from flask import Flask, current_app

from eventvault.errors import TooBusy
from eventvault.settings import Settings
from eventvault.store.interface import Store

LONG_LIVED_MOST = 4
"""Exports, downloads and uploads at once in one process: each holds one of gunicorn's `threads` for its whole time."""

LONG_WORK_MOST = 8
"""Requests at once in one process that wait for something long: backups, restores, checks, looks into the past.

With LONG_LIVED_MOST these are half of the `threads` in `gunicorn.conf.py`: the others are left to requests that are
short, health among them.
"""

_PATIENCE = 0.25
"""Seconds that a request waits for a place among them: some, such as a look at what is kept, end in no time."""

_KEY = "eventvault"


class Slots:
    """A bounded number of places; `take` gives back the function that frees the place, to be called once or more.

    what: who takes the places, for the message. patience: seconds that a free place is waited for.
    """

    def __init__(self, most: int, what: str, patience: float = 0.0) -> None:
        self._free = threading.Semaphore(most)
        self._most = most
        self._what = what
        self._patience = patience

    def take(self) -> Callable[[], None]:
        """Raises TooBusy when there is no place."""
        if not self._free.acquire(timeout=self._patience):
            raise TooBusy(
                f"{self._most} {self._what} are under way in this process already",
                hint="try again when one of them has ended",
            )
        return _Once(self._free.release)


class _Once:
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
    long_lived: Slots = field(default_factory=lambda: Slots(LONG_LIVED_MOST, "exports, downloads and uploads"))
    long_work: Slots = field(
        default_factory=lambda: Slots(LONG_WORK_MOST, "backups, restores, checks and looks into the past", _PATIENCE)
    )


def attach(app: Flask, edge: Edge) -> None:
    app.extensions[_KEY] = edge


def edge() -> Edge:
    """Of the application that serves the present request."""
    found: Edge = current_app.extensions[_KEY]
    return found


def store() -> Store:
    return edge().store


@contextmanager
def long_work() -> Iterator[Store]:
    """The store, for a call that may take minutes. Raises TooBusy when as many of them as may be are under way."""
    release = edge().long_work.take()
    try:
        yield edge().store
    finally:
        release()

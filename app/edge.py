"""What every view needs and Flask keeps for the application: the settings, the store, the room for long requests."""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import dataclass, field

from flask import Flask, current_app

from eventvault.errors import TooBusy
from eventvault.settings import Settings
from eventvault.store.interface import Store

LONG_LIVED_MOST = 4
"""Exports, downloads and uploads at once in one process: each holds a thread of gunicorn's eight for its whole time,
and the others must be left to requests that are short."""

_KEY = "eventvault"


class Slots:
    """A bounded number of places; `take` gives back the function that frees the place, to be called once or more."""

    def __init__(self, most: int) -> None:
        self._free = threading.Semaphore(most)
        self._most = most

    def take(self) -> Callable[[], None]:
        """Raises TooBusy when there is no place; never waits."""
        if not self._free.acquire(blocking=False):
            raise TooBusy(
                f"{self._most} exports, downloads and uploads are under way in this process already",
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
    long_lived: Slots = field(default_factory=lambda: Slots(LONG_LIVED_MOST))


def attach(app: Flask, edge: Edge) -> None:
    app.extensions[_KEY] = edge


def edge() -> Edge:
    """Of the application that serves the present request."""
    found: Edge = current_app.extensions[_KEY]
    return found


def store() -> Store:
    return edge().store

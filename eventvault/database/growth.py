"""Estimates how much the database grows per day: the events of the last days, times the average bytes of an event.

It costs a binary search, because `recordedtime` never decreases with the sequence, and the sizes of the files.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path

from eventvault import clock
from eventvault.database.bus import EventBus
from eventvault.errors import EventVaultError
from eventvault.files import folder_size

_DAY = 86_400_000_000
DAYS = 7
AGAIN_SECONDS = 60.0


class DatabaseGrowth:
    """For one thread at a time. folder: the database. now: in microseconds. seconds: a monotonic clock."""

    def __init__(
        self,
        bus: EventBus,
        folder: Path,
        now: clock.Clock = clock.now,
        seconds: Callable[[], float] = time.monotonic,
    ) -> None:
        self._bus = bus
        self._folder = folder
        self._now = now
        self._seconds = seconds
        self._measured: int | None = None
        self._again = 0.0

    def per_day(self) -> int | None:
        """Return bytes per day; None while the events span less than 24 hours, or the database cannot be read."""
        if self._seconds() >= self._again:
            self._measured = self._measure()
            self._again = self._seconds() + AGAIN_SECONDS
        return self._measured

    def _measure(self) -> int | None:
        now = self._now()
        try:
            with self._bus.using() as registry:
                last = registry.last_sequence
                since = max(now - DAYS * _DAY, registry.first_recorded or now)
                events = last + 1 - registry.first_recorded_at_or_after(since, last)
            size = folder_size(self._folder)
        except (EventVaultError, OSError):
            return None
        return round(size / last * events * _DAY / (now - since)) if now - since >= _DAY else None

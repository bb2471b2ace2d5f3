"""Measures the parts of a restore, one after the other."""

from __future__ import annotations

import time
from collections.abc import Callable


class Laps:
    """seconds: part → how long it took. A part that comes twice counts twice."""

    def __init__(self, now: Callable[[], float] = time.monotonic) -> None:
        self.seconds: dict[str, float] = {}
        self._now = now
        self._last = now()

    def end(self, part: str) -> None:
        """Count the time since the part before as this one."""
        before, self._last = self._last, self._now()
        self.seconds[part] = self.seconds.get(part, 0.0) + self._last - before

"""Measures the parts of a restore, one after the other."""

from __future__ import annotations

import time
from collections.abc import Callable


class Laps:
    """seconds: the duration of every part. A part that is measured twice has the sum."""

    def __init__(self, now: Callable[[], float] = time.monotonic) -> None:
        self.seconds: dict[str, float] = {}
        self._now = now
        self._last = now()

    def end(self, part: str) -> None:
        """Count the time since the end of the part before for this part."""
        before, self._last = self._last, self._now()
        self.seconds[part] = self.seconds.get(part, 0.0) + self._last - before

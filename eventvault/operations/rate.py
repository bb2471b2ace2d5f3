"""A smoothed rate: how much comes a second, by what came in about the last ten seconds."""

from __future__ import annotations

import math

_MEMORY_SECONDS = 10.0
"""What came this long ago counts 1/e of what comes now."""


class Rate:
    """A mean with exponentially falling weights. All times are monotonic seconds."""

    def __init__(self, began: float) -> None:
        self._amount = 0.0
        self._seconds = 0.0
        self._at = began

    def add(self, amount: float, now: float) -> None:
        self._amount, self._seconds = self._decayed(now)
        self._amount += amount
        self._at = now

    def per_second(self, now: float) -> float | None:
        """Return the rate; it falls while nothing comes. None before anything came."""
        amount, seconds = self._decayed(now)
        return amount / seconds if amount > 0 and seconds > 0 else None

    def _decayed(self, now: float) -> tuple[float, float]:
        passed = max(0.0, now - self._at)
        weight = math.exp(-passed / _MEMORY_SECONDS)
        return self._amount * weight, self._seconds * weight + passed

"""A smoothed rate: how much comes in a second, measured over about the last ten seconds."""

from __future__ import annotations

import math

_MEMORY_SECONDS = 10.0
"""An amount that came this long ago has 1/e of the weight of a new one."""


class Rate:
    """A mean whose weights fall exponentially with age. All times are monotonic seconds."""

    def __init__(self, began: float) -> None:
        self._amount = 0.0
        self._seconds = 0.0
        self._at = began

    def add(self, amount: float, now: float) -> None:
        self._amount, self._seconds = self._decayed(now)
        self._amount += amount
        self._at = now

    def per_second(self, now: float) -> float | None:
        """Return the rate; it falls while nothing comes. None if nothing has come yet."""
        amount, seconds = self._decayed(now)
        return amount / seconds if amount > 0 and seconds > 0 else None

    def _decayed(self, now: float) -> tuple[float, float]:
        passed = max(0.0, now - self._at)
        weight = math.exp(-passed / _MEMORY_SECONDS)
        return self._amount * weight, self._seconds * weight + passed

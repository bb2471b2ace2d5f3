"""How long to wait after a failure: longer after each one in a row, up to a bound."""

from __future__ import annotations

import math
import time
from collections.abc import Callable


class BackOff:
    """Belongs to one thread. seconds: the wait after the first failure, the second, and so on; the last is the bound.

    failures: how many there were in a row.
    """

    def __init__(self, *seconds: float, monotonic: Callable[[], float] = time.monotonic) -> None:
        self.failures = 0
        self._seconds = seconds
        self._monotonic = monotonic
        self._until = -math.inf

    def fail(self) -> float:
        """Note a failure. Returns how long to wait."""
        self.failures += 1
        seconds = self._seconds[min(self.failures, len(self._seconds)) - 1]
        self._until = self._monotonic() + seconds
        return seconds

    def succeed(self) -> None:
        """Note a success: the next failure counts as the first."""
        self.failures, self._until = 0, -math.inf

    @property
    def remaining(self) -> float:
        """How many seconds are left of the wait; 0 once it is over."""
        return max(0.0, self._until - self._monotonic())

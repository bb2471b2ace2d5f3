"""The dispatcher's ticks over Kafka: the clock of leases, and how two dispatchers of one topic notice each other.

A tick is written only after the one before was read back and its decisions are on disk. So no tick is written while no
broker answers or no dispatcher runs, and at most one is in flight. A tick with a higher number was written by a later
state of the same `jobs_db`, so the present one is an old copy.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from dataclasses import dataclass

from eventvault.jobs.lease import LEASE_TICKS
from eventvault.jobs.messages import Tick
from eventvault.recent import Recent

LISTEN_TICKS = 3
"""For so many of its own ticks a dispatcher listens for another one, if there may be one."""
MOST_OTHERS = 100
"""Most other dispatchers that are remembered: those whose ticks were read last."""
LOST_SECONDS = 10.0
"""If a written tick is not read back for this long, it was lost with its topic."""
ACTS_AFTER = 3
"""If another dispatcher acts for so many ticks while this one acts, too, that is a problem."""


@dataclass
class _Other:
    """Another dispatcher. heard: our tick when its newest one was read. together: its ticks read while both acted."""

    heard: int = 0
    stands_by: bool = False
    together: int = 0


class Ticks:
    """Belongs to one thread. number: that of the newest tick that was read back. dispatcher: this dispatcher's id."""

    def __init__(
        self, dispatcher: str, number: int, seconds: float, monotonic: Callable[[], float] = time.monotonic
    ) -> None:
        self.dispatcher = dispatcher
        self.number = number
        self.has_caught_up = False
        self.is_rewound = False
        self._limit: float = number + 1
        """Before this dispatcher writes a tick, a greater number can only be there if the database is an old copy."""
        self._seconds = seconds
        self._monotonic = monotonic
        self._asked = 0
        self._lost_at = 0.0
        self._due = 0.0
        self._listens_until = 0
        self._others: Recent[str, _Other] = Recent(MOST_OTHERS)

    def read(self, tick: Tick) -> bool:
        """Note a tick that was read. Returns whether it is a new tick of this dispatcher, so that time has passed."""
        if tick.dispatcher != self.dispatcher:
            other = self._others.get(tick.dispatcher) or _Other()
            self._others.put(tick.dispatcher, other)
            other.heard, other.stands_by = self.number, tick.stands_by
            other.together = 0 if tick.stands_by or not self.acts else other.together + 1
            return False
        if not self.has_caught_up and tick.number > self._limit:
            self.is_rewound = True
        if tick.number <= self.number:
            return False
        self.number = tick.number
        return True

    def go_on(self, *, lacks_changes: bool = False) -> None:
        """Act although the database is an old copy. lacks_changes: even if that becomes known only later."""
        self.is_rewound = False
        if lacks_changes:
            self._limit = math.inf

    def caught_up(self, *, is_late: bool) -> None:
        """Note that everything that was there at the start was read. is_late: there are earlier reports, too."""
        self.has_caught_up = True
        if is_late or self._others:
            self._listens_until = self.number + LISTEN_TICKS

    def due_in(self) -> float:
        """Return in how many seconds the next tick is due."""
        if not self.has_caught_up:
            return float("inf")
        wait = self._due if self._asked <= self.number else max(self._due, self._lost_at)
        return max(0.0, wait - self._monotonic())

    def next(self) -> Tick:
        now = self._monotonic()
        self._asked = self.number + 1
        self._due, self._lost_at = now + self._seconds, now + self._seconds + LOST_SECONDS
        return Tick(dispatcher=self.dispatcher, number=self._asked, stands_by=not self.acts)

    def failed(self) -> None:
        """Note that the tick was not written; it is written again when the next one is due."""
        self._asked = 0

    @property
    def stands_by(self) -> bool:
        """Whether a dispatcher with a lower id is alive."""
        return any(name < self.dispatcher and self._is_alive(other) for name, other in self._others.items())

    @property
    def acts(self) -> bool:
        """Whether this dispatcher may take jobs and send work."""
        has_listened = self.has_caught_up and self.number >= self._listens_until
        return has_listened and not self.is_rewound and not self.stands_by

    def others_that_act(self) -> list[str]:
        """Return the ids of other dispatchers that act while this one acts."""
        if not self.acts:
            return []
        return sorted(
            name for name, other in self._others.items() if self._is_alive(other) and other.together >= ACTS_AFTER
        )

    def _is_alive(self, other: _Other) -> bool:
        return self.number - other.heard < LEASE_TICKS

"""The dispatcher's ticks over Kafka: the clock of leases, and how two dispatchers of one topic see each other.

A tick is written only when the one before was read back and what it decided is on disk. So there is no tick while no
broker answers or no dispatcher runs, and at most one is in flight: a tick beyond that was written by a later state of
the same `jobs_db`.
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
"""How many of its own ticks a dispatcher waits for those of another one, where there may be one."""
MOST_OTHERS = 100
"""Of so many other dispatchers is known whether they live: of those that were heard last."""
LOST_SECONDS = 10.0
"""A tick that was written and is not read back for so long was lost with its topic."""
ACTS_AFTER = 3
"""So many ticks of another dispatcher that acts, while this one does too, are a problem."""


@dataclass
class _Other:
    """Another dispatcher. heard: this one's tick when its newest was read. together: ticks read while both acted."""

    heard: int = 0
    stands_by: bool = False
    together: int = 0


class Ticks:
    """Belongs to one thread. number: of the newest tick that was read back. dispatcher: the id of this one."""

    def __init__(
        self, dispatcher: str, number: int, seconds: float, monotonic: Callable[[], float] = time.monotonic
    ) -> None:
        self.dispatcher = dispatcher
        self.number = number
        self.has_caught_up = False
        self.is_rewound = False
        self._limit: float = number + 1
        """No greater one can be there before this one writes any, unless the database is an old copy."""
        self._seconds = seconds
        self._monotonic = monotonic
        self._asked = 0
        self._lost_at = 0.0
        self._due = 0.0
        self._listens_until = 0
        self._others: Recent[str, _Other] = Recent(MOST_OTHERS)

    def read(self, tick: Tick) -> bool:
        """Take in a tick. Returns whether it is a new one of this dispatcher, which counts."""
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
        """Act although the database is an old copy. lacks_changes: also if that shows only later."""
        self.is_rewound = False
        if lacks_changes:
            self._limit = math.inf

    def caught_up(self, *, is_late: bool) -> None:
        """All that was there when this dispatcher began is read. is_late: others wrote before that."""
        self.has_caught_up = True
        if is_late or self._others:
            self._listens_until = self.number + LISTEN_TICKS

    def due_in(self) -> float:
        """Return after how many seconds to write the next tick."""
        if not self.has_caught_up:
            return float("inf")
        wait = self._due if self._asked <= self.number else max(self._due, self._lost_at)
        return max(0.0, wait - self._monotonic())

    def next(self) -> Tick:
        """Return the tick to write now."""
        now = self._monotonic()
        self._asked = self.number + 1
        self._due, self._lost_at = now + self._seconds, now + self._seconds + LOST_SECONDS
        return Tick(dispatcher=self.dispatcher, number=self._asked, stands_by=not self.acts)

    def failed(self) -> None:
        """The tick was not written; write it again when the next one is due."""
        self._asked = 0

    @property
    def stands_by(self) -> bool:
        """Whether a dispatcher with a lower id lives."""
        return any(name < self.dispatcher and self._lives(other) for name, other in self._others.items())

    @property
    def acts(self) -> bool:
        """Whether this dispatcher may take jobs and send work."""
        listened = self.has_caught_up and self.number >= self._listens_until
        return listened and not self.is_rewound and not self.stands_by

    def others_that_act(self) -> list[str]:
        """Return the ids of dispatchers that act although this one does."""
        if not self.acts:
            return []
        return sorted(
            name for name, other in self._others.items() if self._lives(other) and other.together >= ACTS_AFTER
        )

    def _lives(self, other: _Other) -> bool:
        return self.number - other.heard < LEASE_TICKS

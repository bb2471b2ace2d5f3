"""Reports to health when the system clock and the times of the events differ.

`clock_ahead`: the clock leapt ahead and is not trusted; an operator corrects or accepts it. `clock_behind`: the
clock is behind the newest event, so new events get the same time until the clock has passed it.
"""

from __future__ import annotations

import logging
from typing import NamedTuple

import plyvel

from eventvault import clock
from eventvault.clock_guard import MAX_LEAD, ClockGuard
from eventvault.database.bus import EventBus
from eventvault.errors import EventVaultError
from eventvault.problems import Problem

log = logging.getLogger("EventBus")

AHEAD = "clock_ahead"


class _ClockBehind(NamedTuple):
    """first: sequence of the first event that was recorded later than the clock. newest, since: in microseconds."""

    generation: str
    first: int
    newest: int
    since: int


class ClockWatch:
    """Compares clock, guard and database each second. Safe to read from many threads."""

    def __init__(self, guard: ClockGuard, bus: EventBus) -> None:
        self._guard = guard
        self._bus = bus
        self._behind: _ClockBehind | None = None
        self._failure = ""

    def each_second(self) -> None:
        """Compare once. Raises no error of the disk or the database, because others report those."""
        registry = self._bus.registry
        self._guard.settle(registry.last_recorded if registry else 0)
        try:
            self._compare_with_events()
            self._guard.save()
            self._failure = ""
        except (EventVaultError, OSError, plyvel.Error) as error:
            if str(error) != self._failure:
                log.warning("the clock could not be compared with the events: %s", error)
            self._failure = str(error)

    def waiting(self) -> list[Problem]:
        """Return the problem that waits for a decision: a clock that is ahead."""
        since = self._guard.held_since
        if since is None:
            return []
        held = self._guard.now()
        return [
            Problem(
                AHEAD,
                f"the system clock says {_text(held + self._guard.lead)} and leapt ahead by {_span(self._guard.lead)}; "
                f"it is not believed, and new events are recorded at {_text(held)}",
                "set the clock right, and this problem ends automatically; if the clock is right, POST "
                "/api/problems/clock_ahead/accept",
                since=since,
            )
        ]

    def accept(self, problem: Problem) -> None:
        if problem.code == AHEAD:
            self._guard.accept()
            self._guard.save()

    def problems(self) -> list[Problem]:
        """Return the problem that ends with its cause: a clock that is behind the newest event."""
        behind = self._behind
        if behind is None:
            return []
        first, before = behind.first, behind.first - 1
        return [
            Problem(
                "clock_behind",
                f"the system clock says {_text(self._guard.now())}, but the newest event was recorded at "
                f"{_text(behind.newest)}; events from sequence {first} on were recorded later than the clock, and new "
                f"ones get the newest event's time until the clock has passed it",
                f'set the clock right; if it is right, those events were recorded ahead: restore {{"sequence": '
                f'{before}}}, then {{"into": "present", "generation": "{behind.generation}", "filter": '
                f'{{"fromSequence": {first}}}}} records them again at the present time',
                since=behind.since,
                details={"firstSequence": first},
            )
        ]

    def _compare_with_events(self) -> None:
        """Search once when the clock falls behind, and again only in another generation: the events do not change."""
        now, registry = self._guard.now(), self._bus.registry
        if registry is None or registry.last_recorded - now <= MAX_LEAD:
            self._behind = None
            return
        with self._bus.using() as registry:
            generation, last = registry.identity.generation, registry.last_sequence
            newest = registry.last_recorded
            if self._behind is None or self._behind.generation != generation:
                first = registry.first_recorded_at_or_after(now + 1, last)
                self._behind = _ClockBehind(generation, first, newest, now)


def _text(instant: int) -> str:
    return clock.format_milliseconds(min(max(instant, 0), clock.YEAR_10000 - 1))


def _span(microseconds: int) -> str:
    """`3 days`, `2 hours`, `7 minutes`: the largest unit that fits."""
    seconds = microseconds // 1_000_000
    for unit, size in (("day", 86_400), ("hour", 3_600), ("minute", 60)):
        count = seconds // size
        if count:
            return f"{count} {unit}{'' if count == 1 else 's'}"
    return f"{seconds} seconds"

"""When a schedule fires: five fields of cron in a time zone. Pure: instants are passed in, in microseconds.

Where clocks are put forward, a fixed hour that is skipped fires once, at the end of the gap. Where they are put back, a
fixed hour fires once, the first time. `*` as the hour means every hour that passes: it skips none and repeats none.
"""

from __future__ import annotations

from bisect import bisect_left
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import NamedTuple
from zoneinfo import ZoneInfo

import msgspec
from cronsim import CronSim, CronSimError

from eventvault import clock

CRON_ALLOWED = (
    "off, or the five fields of cron (minute, hour, day of month, month, day of week), with a date that exists"
)
ZONE_ALLOWED = "a name of the IANA time zone database, such as UTC or Europe/Berlin"
MAX_SPANS = 50
"""Beyond this number, the oldest span of a history is forgotten."""
_OFF = "off"
_LEAST_GRACE = 600_000_000
_ANY_DAY = datetime(2000, 1, 1, tzinfo=UTC)


@dataclass(frozen=True)
class Cron:
    """A schedule in cron's syntax, or `off`. Raises ValueError for a text that is neither, or that never fires."""

    text: str
    expression: str = field(init=False, compare=False, repr=False)
    """For cronsim; empty if it is off."""

    def __post_init__(self) -> None:
        object.__setattr__(self, "expression", "" if self.text.lower() == _OFF else _expression(self.text))
        never = Schedule(self, ZoneInfo("UTC")).next_after(clock.to_microseconds(_ANY_DAY)) is None
        if self.is_on and never:
            raise ValueError(self.text)

    def __str__(self) -> str:
        return self.text

    @property
    def is_on(self) -> bool:
        return bool(self.expression)

    @property
    def counts_every_hour(self) -> bool:
        """Whether it fires by elapsed time: each hour that passes, whatever the clocks show."""
        return self.is_on and self.expression.split()[1] == "*"


def parse_zone(name: str) -> ZoneInfo:
    """Return the time zone of this name. Raises ValueError if there is none."""
    try:
        zone = ZoneInfo(name)
    except (LookupError, OSError) as error:
        raise ValueError(name) from error
    if name.startswith("right/"):  # counts leap seconds
        raise ValueError(name)
    return zone


class Schedule(NamedTuple):
    """When something runs: at the times of `cron` on the clocks of `zone`."""

    cron: Cron
    zone: ZoneInfo

    def __str__(self) -> str:
        return f"{self.cron} ({self.zone})"

    def next_after(self, instant: int) -> int | None:
        """Return the first firing later than `instant`; None if it is off, or comes after the year 9999."""
        if not self.cron.is_on:
            return None
        try:
            firing = self._simulated(instant)
            change = None if firing is None else self._uneven_change(instant, firing)
            return firing if change is None else self._simulated(change - 1)
        except OverflowError:
            return None

    def _simulated(self, instant: int) -> int | None:
        firings = CronSim(self.cron.expression, clock.from_microseconds(instant).astimezone(self.zone))
        # While an hour passes for the second time, cronsim begins with firings of the first time.
        return next((firing for firing in map(clock.to_microseconds, firings) if firing > instant), None)

    def _uneven_change(self, instant: int, firing: int) -> int | None:
        """Return when the clocks change before `firing` by other than whole hours, if every hour counts; else None.

        cronsim 2.8 goes from such a change to the next full hour: it leaves out what fires between the two.
        """
        if self.cron.counts_every_hour and (self._offset(firing) - self._offset(instant)) % 3600:
            length, offset = 60_000_000, self._offset(instant)
            minutes = range(instant // length + 1, firing // length)
            number = bisect_left(minutes, True, key=lambda minute: self._offset(minute * length) != offset)
            return (minutes.start + number) * length
        return None

    def _offset(self, instant: int) -> float:
        """Return by how many seconds the clocks are ahead of UTC."""
        ahead = clock.from_microseconds(instant).astimezone(self.zone).utcoffset()
        return 0.0 if ahead is None else ahead.total_seconds()

    def grace(self, firing: int) -> int:
        """Return by how many microseconds the run of this firing may be late, see `grace`."""
        following = self.next_after(firing)
        return grace(0 if following is None else following - firing)


def grace(gap: int) -> int:
    """Return by how much a run may be late if the next one comes after `gap`: half of it, at least 10 minutes."""
    return max(gap // 2, _LEAST_GRACE)


class History(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Which firings are over: those in `spans` (first and last instant), in the order in which the spans began.

    A span begins where the schedule is first used, after missed firings, and where the clock is set back to a time
    before all spans. So a clock that is set back repeats no firing, and a clock that was far ahead and returns delays
    none.
    """

    spans: tuple[tuple[int, int], ...] = ()

    def at(self, now: int) -> History:
        """Return the history as it is used at `now`: firings before it are over, unless a span ended before them."""
        return self if any(first <= now for first, _ in self.spans) else self._add(now)

    def next_firing(self, schedule: Schedule, now: int) -> int | None:
        """Return the first firing that is not over: one that is due or missed is not later than `now`."""
        firing = schedule.next_after(self._last(now))
        while firing is not None:
            over = [last for first, last in self.spans if first <= firing <= last]
            if not over:
                break
            firing = schedule.next_after(max(over))
        return firing

    def fired(self, schedule: Schedule, firing: int, now: int) -> History:
        """Return the history once `firing`, which `next_firing` returned, is run at `now`.

        Later firings up to `now` were missed, and this run makes up for all of them.
        """
        before = self._last(now)
        history = History(tuple((first, firing if last == before else last) for first, last in self.spans))
        following = schedule.next_after(firing)
        return history if following is None or following > now else history._add(now)

    def _last(self, now: int) -> int:
        return max(last for first, last in self.spans if first <= now)

    def _add(self, instant: int) -> History:
        return History((*self.spans, (instant, instant))[-MAX_SPANS:])


def _expression(text: str) -> str:
    """Return the fields for cronsim, which takes an hour for fixed only if its field has no `*`. Raises ValueError."""
    fields = text.split()
    if len(fields) != 5:
        raise ValueError(text)
    try:
        hours = CronSim(text, _ANY_DAY).hours
    except CronSimError as error:
        raise ValueError(text) from error
    if len(hours) == 24:
        return " ".join([fields[0], "*", *fields[2:]])
    return " ".join([fields[0].replace("*", "0-59"), fields[1].replace("*", "0-23"), *fields[2:]])

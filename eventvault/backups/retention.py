"""The retention rules: which archives may be removed, and why the others stay. Plain data; nothing is removed here.

The rules remove only good archives that were made here. Damaged, uploaded and copied archives stay.
Generation and sequence decide which one is newer; its time decides its age and its hour, day, week, month and year.
Where the two disagree, or the clock is not believed, age and calendar remove nothing.

An archive is good if it is proven and no problem of it is known. Three are never removed: the newest good archive made
here, the last good one, and the last one that was verified. An archive that was only copied in may be unreadable, and
of an archive that is not proven a restore uses only the events.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from datetime import datetime, tzinfo
from itertools import accumulate
from typing import Any

import msgspec

from eventvault import clock
from eventvault.backups.entry import BackupEntry
from eventvault.backups.order import newest_first
from eventvault.backups.shared_size import RunsOfArchives, SharedSize
from eventvault.errors import BackupProtected, InvalidInput
from eventvault.settings import Settings

PERIODS: dict[str, Callable[[datetime], Any]] = {
    "hourly": lambda local: (local.date(), local.hour, local.fold),
    "daily": lambda local: local.date(),
    "weekly": lambda local: local.isocalendar()[:2],
    "monthly": lambda local: (local.year, local.month),
    "yearly": lambda local: local.year,
}
"""Name of a rule → what tells a period from others of its kind. An hour that passes twice is two hours."""
NEWEST, PINNED, LAST_GOOD, NOT_OURS = "newest", "pinned", "last-good", "not-ours"
DAMAGED, CLOCK, BEING_READ = "damaged", "clock", "being-read"
"""Reasons why an archive stays although no rule keeps it. CLOCK: its time is in doubt."""

_FAR = 2**63
_LAST_DAY = clock.YEAR_10000 - 2 * 86_400_000_000
"""In microseconds: a later instant may have no date in some time zone."""


class Rules(msgspec.Struct, frozen=True, kw_only=True):
    """newest: how many good archives stay, at least 1. calendar: of how many periods the newest one stays, by PERIODS.

    max_age: in microseconds. max_bytes: of all good archives made here together. None: no limit.
    """

    newest: int
    zone: tzinfo
    calendar: Mapping[str, int] = {}
    max_age: int | None = None
    max_bytes: int | None = None


class RetentionPlan(msgspec.Struct, frozen=True):
    """retained: name → all reasons why it stays. removed: oldest first. excess: bytes above `max_bytes` that stay."""

    retained: Mapping[str, tuple[str, ...]]
    removed: tuple[str, ...] = ()
    excess: int = 0


def plan_retention(
    entries: Sequence[BackupEntry],
    rules: Rules,
    now: int,
    *,
    generations: Sequence[str] = (),
    runs: RunsOfArchives | None = None,
    is_clock_held: bool = False,
    is_read: Callable[[str], bool] = lambda _name: False,
    just_made: str | None = None,
) -> RetentionPlan:
    """Return the plan. Applied again to what stays, the rules remove nothing.

    entries: all archives, in any order. now: microseconds. generations: those of the open database, oldest first; they
    decide which archive is newer, whatever the clock was. runs: what archives share; None: nothing. is_clock_held: the
    clock is not believed. is_read: called once for each archive that would go; True: it stays. just_made: this archive
    stays, although it looks like the oldest one if the clock was set back.
    """
    present, removed, read = newest_first(entries, generations), list[str](), dict[str, bool]()

    def is_busy(name: str) -> bool:
        if name not in read:
            read[name] = is_read(name)
        return read[name]

    while True:  # an archive that goes may have put the time of another one in doubt
        pass_ = _Pass(present, rules, now, is_clock_held=is_clock_held, just_made=just_made)
        going = pass_.remove(runs or {}, is_busy)
        if not going:
            return RetentionPlan(pass_.reasons, tuple(removed), pass_.excess)
        removed += going
        gone = set(going)
        present = [entry for entry in present if entry.name not in gone]


class _Pass:
    """One pass over the archives, newest first. reasons: name → why it stays; empty: it may go."""

    def __init__(
        self, present: Sequence[BackupEntry], rules: Rules, now: int, *, is_clock_held: bool, just_made: str | None
    ) -> None:
        self.excess = 0
        self._rules = rules
        self._just_made = just_made
        self._good = [entry for entry in present if _was_made_here(entry) and entry.problem is None]
        self._count = _GoodCount(present)
        dated = [] if is_clock_held else _with_certain_time(self._good)
        self.reasons = _rules_that_keep(self._good, dated, rules, now)
        certain = {entry.name for entry in dated}
        for entry in present:
            self.reasons[entry.name] = self._all_reasons(entry, entry.name in certain)

    def _all_reasons(self, entry: BackupEntry, is_certain: bool) -> tuple[str, ...]:
        reasons = [*self.reasons.get(entry.name, ()), *[PINNED] * entry.pinned]
        if not _was_made_here(entry):
            return (*reasons, NOT_OURS)
        if entry.problem is not None:
            return (*reasons, DAMAGED)
        if self._count.is_last(entry):
            return (*reasons, LAST_GOOD)
        if not reasons and entry.name == self._just_made:
            return (NEWEST,)
        if not reasons and not is_certain and any(self._rules.calendar.values()):
            return (CLOCK,)
        return tuple(reasons)

    def remove(self, runs: RunsOfArchives, is_busy: Callable[[str], bool]) -> list[str]:
        """Return the archives that go, oldest first. If one stays because it is read, no other one goes instead."""
        size, going = SharedSize(self._good, runs), list[str]()
        oldest_first = self._good[::-1]
        unneeded = [entry for entry in oldest_first if not self.reasons[entry.name]]
        others = [entry for entry in oldest_first[:-1] if self.reasons[entry.name] and self._yields_to_size(entry)]
        for entry in unneeded:
            going += self._remove(entry, size, is_busy)
        for entry in others:
            if self._excess(size) > 0:
                going += self._remove(entry, size, is_busy)
        self.excess = self._excess(size)
        return going

    def _remove(self, entry: BackupEntry, size: SharedSize, is_busy: Callable[[str], bool]) -> list[str]:
        if self._count.is_last(entry):
            return []
        size.remove(entry)
        if is_busy(entry.name):
            self.reasons[entry.name] = (BEING_READ,)
            return []
        self._count.remove(entry)
        return [entry.name]

    def _yields_to_size(self, entry: BackupEntry) -> bool:
        return not entry.pinned and entry.name != self._just_made

    def _excess(self, size: SharedSize) -> int:
        return max(0, size.bytes - self._rules.max_bytes) if self._rules.max_bytes is not None else 0


class _GoodCount:
    """Counts the good archives, and those of them that were verified, while archives made here are removed."""

    def __init__(self, present: Sequence[BackupEntry]) -> None:
        self._good = sum(entry.origin_proven and entry.problem is None for entry in present)
        self._verified = sum(_is_verified(entry) for entry in present)

    def is_last(self, entry: BackupEntry) -> bool:
        """Return True for the last good archive, and for the last one that was verified. entry: a good one."""
        return self._good == 1 or (self._verified == 1 and _is_verified(entry))

    def remove(self, entry: BackupEntry) -> None:
        self._good -= 1
        self._verified -= _is_verified(entry)


def still_removable(entries: Sequence[BackupEntry], names: Sequence[str]) -> list[str]:
    """Return those of `names` that may go although things have changed since the plan: in the meantime an archive may
    have been pinned, found damaged, or become the last good one."""
    count, present, going = _GoodCount(entries), {entry.name: entry for entry in entries}, list[str]()
    for entry in (present[name] for name in names if name in present):
        if _was_made_here(entry) and entry.problem is None and not entry.pinned and not count.is_last(entry):
            count.remove(entry)
            going.append(entry.name)
    return going


def _rules_that_keep(
    good: Sequence[BackupEntry], dated: Sequence[BackupEntry], rules: Rules, now: int
) -> dict[str, tuple[str, ...]]:
    """Return the rules by which archives stay. good: newest first. dated: those of them whose time is certain."""
    retained: dict[str, tuple[str, ...]] = {entry.name: (NEWEST,) for entry in good[: rules.newest]}
    for period in (period for period in PERIODS if rules.calendar.get(period)):
        for entry in _newest_of_each(dated, PERIODS[period], rules.zone, rules.calendar[period]):
            retained[entry.name] = (*retained.get(entry.name, ()), period)
    if rules.max_age is not None and good:
        # Ages count to the newest backup: neither a clock that leaps nor a time without backups ages anything.
        oldest = min(now, good[0].created) - rules.max_age
        old = {entry.name for entry in dated if entry.created < oldest}
        retained = {name: reasons for name, reasons in retained.items() if name not in old}
    return retained


def _newest_of_each(
    dated: Sequence[BackupEntry], period_of: Callable[[datetime], Any], zone: tzinfo, count: int
) -> list[BackupEntry]:
    """Return the newest archive of each of the `count` newest periods that hold one."""
    newest: dict[Any, BackupEntry] = {}
    for entry in dated:
        period = period_of(clock.from_microseconds(min(entry.created, _LAST_DAY)).astimezone(zone))
        if len(newest) == count and period not in newest:
            break
        newest.setdefault(period, entry)
    return list(newest.values())


def _with_certain_time(good: Sequence[BackupEntry]) -> list[BackupEntry]:
    """Return the archives that are later than every older one and earlier than every newer one.

    good: newest first, by generation and sequence. Where a clock was set back or ahead, time and order disagree.
    """
    times = [entry.created for entry in good]
    earliest_newer = accumulate([_FAR, *times[:-1]], min)
    latest_older = reversed(list(accumulate([-_FAR, *times[:0:-1]], max)))
    around = zip(good, earliest_newer, latest_older, strict=True) if good else ()
    return [entry for entry, earliest, latest in around if latest < entry.created < earliest]


def _was_made_here(entry: BackupEntry) -> bool:
    # The catalogue may call an archive `created` that is not proven any more, for example after a change of the key.
    return entry.origin == "created" and entry.is_ours


def _is_verified(entry: BackupEntry) -> bool:
    return entry.origin_proven and entry.problem is None and entry.verified is not None


def rules_of(settings: Settings) -> Rules:
    counts = {period: getattr(settings, f"keep_{period}") or 0 for period in PERIODS}
    return Rules(
        newest=settings.max_backups,
        zone=settings.schedule_time_zone,
        calendar={period: count for period, count in counts.items() if count},
        max_age=settings.max_backup_age.microseconds if settings.max_backup_age else None,
        max_bytes=settings.max_backup_bytes,
    )


def check_deletion(entries: Sequence[BackupEntry], name: str, *, force: bool = False) -> None:
    """Raise BackupProtected if this archive must not be deleted without `force`; an unknown one may be."""
    for entry in entries:
        reason = why_protected(entries, entry) if entry.name == name and not force else None
        if reason is not None:
            raise BackupProtected(
                f"{name} was not deleted: {reason}",
                hint="unpin it or make another backup first, or delete it with force=true",
            )


def check_end_of_pin(until: int | None, now: int) -> None:
    """Raise InvalidInput for a pin that would be over at once. until, now: microseconds."""
    if until is not None and until <= now:
        raise InvalidInput(
            f"the pin would end at {clock.format_milliseconds(until)}, which is over; nothing was changed",
            hint="name a later instant, or leave `until` out for a pin that does not end by itself",
            fields={"until": ["This instant is over."]},
        )


def why_protected(entries: Sequence[BackupEntry], entry: BackupEntry) -> str | None:
    """Return why `entry`, one of `entries`, must not be removed; None if nothing protects it."""
    if entry.pinned:
        return "it is pinned"
    others = [other for other in entries if other.problem is None and other.name != entry.name]
    good = [other for other in others if other.origin_proven] if entry.origin_proven else others
    if entry.problem is None and not good:
        return "it is the last good backup" + (" that is proven" if others else "")
    if entry.problem is None and entry.verified is not None and not any(other.verified is not None for other in good):
        return "it is the last backup that was read and found good"
    return None


def protection_of(entries: Sequence[BackupEntry], entry: BackupEntry) -> str | None:
    """Return `pinned` or `last-good` for an archive that is deleted with `force` only; None for any other."""
    if entry.pinned:
        return "pinned"
    return "last-good" if why_protected(entries, entry) else None

"""Instants: microseconds since the epoch in UTC, and their text as RFC 3339."""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Iterable
from datetime import UTC, datetime, timedelta
from functools import lru_cache

Clock = Callable[[], int]
"""Returns the current instant in microseconds since 1970-01-01T00:00:00Z."""

YEAR_10000 = 253_402_300_800_000_000
"""The first instant that RFC 3339 cannot express, in microseconds since the epoch."""

_DAY = 86_400
_LOST_PLUS = re.compile(r"(.+:[0-9.]+) ([0-9]{2}:?[0-9]{2})")
_LEAP = re.compile(r"(.+[0-9]{2}:[0-9]{2}:)60([.,Z+-].*)")
_BEYOND = re.compile(r"[.,][0-9]{6}[0-9]*[1-9]")
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


def system_now() -> int:
    """Return the system clock's instant in microseconds since the epoch."""
    return time.time_ns() // 1000


_now: Clock = system_now


def now() -> int:
    """Return the current instant in microseconds since the epoch: the system clock's, unless `use` chose another."""
    return _now()


def use(source: Clock) -> None:
    """Let `now` return what `source` returns, in the whole process: a store process guards its clock."""
    global _now  # one clock for each process, as the system has it
    _now = source


def correction() -> int:
    """Return by how many microseconds the system clock is ahead of `now`; 0 if it is less than a second."""
    lead = system_now() - now()
    return lead if abs(lead) >= 1_000_000 else 0


def later_than(orders: Iterable[int], instant: int) -> int:
    """Return the number to store with a thing that begins at `instant`, so that `order_of` sorts it after earlier ones.

    orders: `order_of` of the earlier things. The number is 0 if `instant` is later than all of them. Else the clock was
    set back, and the number is the largest of them.
    """
    newest = max(orders, default=0)
    return newest if newest >= instant else 0


def order_of(instant: int, later_than: int) -> int:
    """Return the sort key of a thing that began at `instant` and was stored with the number `later_than`."""
    return max(instant, later_than + 1)


def to_microseconds(instant: datetime) -> int:
    """Convert exactly, without floats. A naive datetime raises TypeError."""
    return (instant - _EPOCH) // timedelta(microseconds=1)


def from_microseconds(instant: int) -> datetime:
    return _EPOCH + timedelta(microseconds=instant)


@lru_cache(maxsize=64)
def format_microseconds(instant: int) -> str:
    """Return `2026-01-31T12:34:56.789012Z`. The events of one append share their instant."""
    seconds, fraction = divmod(instant, 1_000_000)
    return f"{_seconds_text(seconds)}.{fraction:06d}Z"


def format_milliseconds(instant: int) -> str:
    """Return `2026-01-31T12:34:56.789Z`."""
    seconds, fraction = divmod(instant, 1_000_000)
    return f"{_seconds_text(seconds)}.{fraction // 1000:03d}Z"


def optional_microseconds(instant: int | None) -> str | None:
    return None if instant is None else format_microseconds(instant)


def optional_milliseconds(instant: int | None) -> str | None:
    return None if instant is None else format_milliseconds(instant)


def parse(text: str) -> int:
    """Return the microseconds of an RFC 3339 instant. Raises ValueError for any other text, also without an offset."""
    instant = datetime.fromisoformat(text)
    if instant.tzinfo is None:
        raise ValueError(f"{text!r} has no offset: end it in Z or ±hh:mm")
    return to_microseconds(instant)


def parse_lenient(text: str, *, up: bool = False) -> int:
    """Parse an instant as users write it: also with a small `t` or `z`, or a space that was a `+` in a query string.

    Digits beyond the microsecond are cut off. up: they are rounded up, so that no event before the instant is counted
    as after it. A leap second, 23:59:60 in UTC, is the first second of the next day. Raises as `parse` does, and
    for an instant that is not in the years 1 to 9999 in UTC: no other could be shown as RFC 3339 writes it.
    """
    instant = _parse_lenient(text.upper(), up=up)
    if not _FIRST <= instant <= _LAST:
        raise ValueError(f"{text!r} is not in the years 1 to 9999 in UTC")
    return instant


def _parse_lenient(text: str, *, up: bool) -> int:
    lost = _LOST_PLUS.fullmatch(text)
    text = f"{lost[1]}+{lost[2]}" if lost else text
    beyond = bool(up and _BEYOND.search(text))
    leap = _LEAP.fullmatch(text)
    if leap is None:
        return parse(text) + beyond
    instant = parse(f"{leap[1]}59{leap[2]}") + 1_000_000
    if instant // 1_000_000 % _DAY:
        raise ValueError(f"{text!r} is not a leap second: the only one is 23:59:60 in UTC")
    return instant + beyond


_FIRST, _LAST = parse("0001-01-01T00:00:00Z"), parse("9999-12-31T23:59:59.999999Z")


@lru_cache(maxsize=64)
def _seconds_text(seconds: int) -> str:
    date = time.gmtime(seconds)
    return f"{date.tm_year:04d}{time.strftime('-%m-%dT%H:%M:%S', date)}"  # %Y does not pad

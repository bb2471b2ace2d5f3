"""Instants as EventVault writes them: UTC, and with exactly the precision that is printed."""

from __future__ import annotations

import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta

Clock = Callable[[], int]
"""Gives the present instant as microseconds since 1970-01-01T00:00:00Z."""

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


def now() -> int:
    """The present instant in microseconds since the epoch."""
    return time.time_ns() // 1000


def to_microseconds(instant: datetime) -> int:
    """Exact: no float is involved. A naive datetime is an error."""
    return (instant - _EPOCH) // timedelta(microseconds=1)


def from_microseconds(instant: int) -> datetime:
    return _EPOCH + timedelta(microseconds=instant)


def format_microseconds(instant: int) -> str:
    """`2026-01-31T12:34:56.789012Z`."""
    seconds, fraction = divmod(instant, 1_000_000)
    return f"{_seconds_text(seconds)}.{fraction:06d}Z"


def format_milliseconds(instant: int) -> str:
    """`2026-01-31T12:34:56.789Z`."""
    seconds, fraction = divmod(instant, 1_000_000)
    return f"{_seconds_text(seconds)}.{fraction // 1000:03d}Z"


def parse(text: str) -> int:
    """Microseconds since the epoch of an RFC 3339 instant with any offset.

    Raises ValueError for anything else, an instant without an offset included.
    """
    instant = datetime.fromisoformat(text)
    if instant.tzinfo is None:
        raise ValueError(f"{text!r} has no offset: end it in Z or ±hh:mm")
    return to_microseconds(instant)


def _seconds_text(seconds: int) -> str:
    return time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(seconds))

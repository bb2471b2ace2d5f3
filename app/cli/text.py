"""Writes tables, sizes, counts and times for people. Names, ids and times are never shortened.

Text of clients and disks is escaped, so that it cannot control the terminal.
"""

from __future__ import annotations

import shutil
import sys
import textwrap
from collections.abc import Collection, Sequence
from datetime import UTC, datetime

from eventvault import clock
from eventvault.printable import printable
from eventvault.wording import counted as counted

_GAP = "  "
_NARROWEST = 20
"""The last column gets at least this many characters, however wide the others are."""
_WIDEST = 64
"""A longer cell ends its line, and its row continues below, so that the other rows stay narrow."""
_UNITS = ("bytes", "kB", "MB", "GB", "TB", "PB")


def table(header: Sequence[str], rows: Sequence[Sequence[str]], *, right: Collection[int] = ()) -> str:
    """Return rows in columns as wide as their longest cell. On a terminal the last column is folded at its width.

    right: the columns of numbers, which end below each other.
    """
    lines = [header, *([printable(cell) for cell in row] for row in rows)]
    widths = [
        max(len(line[column]) for line in lines if len(line[column]) <= _WIDEST) for column in range(len(header) - 1)
    ]
    return "\n".join(_line(line, widths, right) for line in lines)


def fold(sentence: str, indent: int) -> list[str]:
    """Return the lines of a text that begins in the column `indent`: on a terminal it is folded at its width."""
    room = max(_NARROWEST, shutil.get_terminal_size().columns - indent) if sys.stdout.isatty() else sys.maxsize
    return textwrap.wrap(printable(sentence), room, break_long_words=False, break_on_hyphens=False) or [""]


def _line(cells: Sequence[str], widths: Sequence[int], right: Collection[int]) -> str:
    lines, line, indent = [], "", 0
    for column, (cell, width) in enumerate(zip(cells, widths, strict=False)):
        line += (cell.rjust(width) if column in right else cell.ljust(width)) + _GAP
        indent += width + len(_GAP)
        if len(cell) > width:
            lines.append(line.rstrip())
            line = " " * indent
    first, *others = fold(cells[-1], indent)
    lines += [f"{line}{first}".rstrip(), *(f"{' ' * indent}{rest}" for rest in others)]
    return "\n".join(lines)


def sign(sign: str, plain: str) -> str:
    """Return the sign, or `plain` where standard output takes no UTF-8."""
    try:
        sign.encode(sys.stdout.encoding or "ascii")
    except (UnicodeError, LookupError):
        return plain
    return sign


def safe(lines: str) -> str:
    """Return a text of several lines in which nothing can control a terminal, whatever a service sent."""
    return "\n".join(map(printable, lines.split("\n")))


def size(count: int | None) -> str:
    """Return a number of bytes in decimal units: `739 kB`, `4.2 MB`."""
    if count is None:
        return "-"
    value, unit = float(count), 0
    while value >= 999.5 and unit < len(_UNITS) - 1:
        value, unit = value / 1000, unit + 1
    return f"{value:.1f} {_UNITS[unit]}" if unit > 1 and value < 99.95 else f"{value:.0f} {_UNITS[unit]}"


def number(count: int | None) -> str:
    return "-" if count is None else f"{count:,}"


def seconds(duration: float) -> str:
    """Return a duration: `0.8 s`, `38 s`, `4 min`, `2 h`."""
    if duration < 9.95:
        return f"{duration:.1f} s"
    if duration < 120:
        return f"{duration:.0f} s"
    return f"{duration / 60:.0f} min" if duration < 7200 else f"{duration / 3600:.0f} h"


def ago(instant: int) -> str:
    """Return how long ago an instant in microseconds was."""
    passed = max(0.0, (clock.now() - instant) / 1e6)
    return f"{seconds(passed)} ago" if passed < 48 * 3600 else f"{passed / 86400:.0f} days ago"


class Times:
    """Writes instants, which are in microseconds, in the local time zone or in UTC."""

    def __init__(self, *, utc: bool) -> None:
        self._zone = UTC if utc else None

    @property
    def zone(self) -> str:
        """The name of the zone now, such as `CET`."""
        return datetime.now(UTC).astimezone(self._zone).strftime("%Z")

    def minute(self, instant: int) -> str:
        return self._at(instant).strftime("%Y-%m-%d %H:%M")

    def second(self, instant: int) -> str:
        return self._at(instant).strftime("%Y-%m-%d %H:%M:%S")

    def of_day(self, instant: int, now: int) -> str:
        """Return the time of an instant of today, such as `21:27`; for any other one, the date too."""
        there = self._at(instant)
        return there.strftime("%H:%M") if there.date() == self._at(now).date() else self.minute(instant)

    def with_zone(self, instant: int) -> str:
        """Return an instant alone, with the zone that it is in."""
        return self._at(instant).strftime("%Y-%m-%d %H:%M:%S %Z")

    def exact(self, instant: int) -> str:
        """Return an instant that a command takes back: `2026-11-19T21:24:03.606658+01:00`."""
        return self._at(instant).isoformat()

    def _at(self, instant: int) -> datetime:
        return clock.from_microseconds(instant).astimezone(self._zone)

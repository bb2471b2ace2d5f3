"""Moments as people write them on the command line: an instant, a time of today, `2 min ago`, `#41202`."""

from __future__ import annotations

import re
from datetime import datetime

import click

from eventvault import clock
from eventvault.errors import InvalidInput
from eventvault.past.moment_text import LARGEST
from eventvault.restore.values import Moment

_GENERATION = re.compile(r"(?:([0-9a-f]{16})@)?(.*)", re.DOTALL)
_SEQUENCE = re.compile(r"#([0-9][0-9,]{0,24})")
_AGO = re.compile(r"([0-9]{1,9}(?:\.[0-9]{1,3})?) ?([a-z]+) ago", re.ASCII)
_TIME = re.compile(r"[0-9]{1,2}:[0-9]{2}(:[0-9]{2}(\.[0-9]{1,6})?)?")
_UNITS = {
    **dict.fromkeys(("s", "sec", "second", "seconds"), 1),
    **dict.fromkeys(("min", "mins", "minute", "minutes"), 60),
    **dict.fromkeys(("h", "hour", "hours"), 3600),
    **dict.fromkeys(("d", "day", "days"), 86400),
    **dict.fromkeys(("w", "week", "weeks"), 7 * 86400),
}
"""Unit → seconds."""
_HINT = (
    'write it as 2026-11-28T19:44:12+01:00, "2026-11-28 19:44", 19:44:12 for today, "2 min ago", or "#41202" for a '
    "sequence; <generation>@ may come first"
)


class MomentType(click.ParamType):
    """The type of options that name a moment; converts to a `Moment`. Local times are those of this machine's zone."""

    name = "moment"

    def convert(self, value: object, param: click.Parameter | None, ctx: click.Context | None) -> Moment:
        if isinstance(value, Moment):
            return value
        try:
            return parse_moment(str(value))
        except InvalidInput as error:
            self.fail(f"{error.message}; {error.hint}", param, ctx)


class InstantType(click.ParamType):
    """Like `MomentType`, for an instant only; converts to microseconds."""

    name = "instant"

    def convert(self, value: object, param: click.Parameter | None, ctx: click.Context | None) -> int:
        if isinstance(value, int):
            return value
        try:
            return parse_instant(str(value))
        except InvalidInput as error:
            self.fail(f"{error.message}; {error.hint}", param, ctx)


def parse_moment(text: str) -> Moment:
    """Return the moment that `text` names. Raises InvalidInput."""
    qualified = _GENERATION.fullmatch(text.strip())
    generation, rest = (qualified[1], qualified[2]) if qualified else (None, text)
    sequence = _SEQUENCE.fullmatch(rest)
    if sequence is not None:
        number = int(sequence[1].replace(",", ""))
        if number > LARGEST:
            raise _no_moment(text)
        return Moment(sequence=number, generation=generation)
    if not rest and generation is not None:
        return Moment(generation=generation)
    return Moment(instant=parse_instant(rest), generation=generation)


def parse_instant(text: str) -> int:
    """Return the microseconds of an instant that is written with an offset, in local time, or as `2 min ago`.

    Raises InvalidInput.
    """
    try:
        return _parse(text.strip())
    except (ValueError, OverflowError, KeyError):
        raise _no_moment(text) from None


def _parse(text: str) -> int:
    passed = _AGO.fullmatch(text.lower())
    if passed is not None:
        return clock.now() - round(float(passed[1]) * _UNITS[passed[2]] * 1_000_000)
    if _TIME.fullmatch(text):
        today = clock.from_microseconds(clock.now()).astimezone()
        text = f"{today:%Y-%m-%d} {text.zfill(len(text) + text.index(':') % 2)}"
    try:
        return clock.parse_lenient(text)
    except ValueError:
        instant = datetime.fromisoformat(text)
        return clock.to_microseconds(instant.astimezone())  # without an offset it is local time


def _no_moment(text: str) -> InvalidInput:
    return InvalidInput(f"{text[:80]!r} is not a moment", hint=_HINT)

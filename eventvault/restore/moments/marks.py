"""The timeline for a page: marks count the archives, so that it has at most MOST_BYTES however many there are."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence
from typing import Any

import msgspec

from eventvault import clock
from eventvault.backups.entry import BackupEntry

MOST_BUCKETS = 400
MOST_BYTES = 40_000
"""Of the answer as JSON."""
MOST_GENERATIONS = 24
MOST_GAPS = 20
_RESERVE = 500
"""Bytes for the rest of an answer."""

_SECOND = 1_000_000
_DAY = 86_400 * _SECOND
_WIDTHS = [
    *(seconds * _SECOND for seconds in (1, 2, 5, 10, 15, 30, 60, 120, 300, 600, 900, 1800)),
    *(hours * 3600 * _SECOND for hours in (1, 2, 3, 6, 12)),
    *(days * _DAY for days in (1, 2, 7, 14, 30)),
]
"""Microseconds. Buckets begin at multiples of their width since 1970, so that a past one never changes."""


def thinned(
    timeline: dict[str, Any], gaps: Sequence[dict[str, Any]], archives: Sequence[BackupEntry], buckets: int
) -> dict[str, Any]:
    """Return the timeline with `marks` for the archives, without segments, and with the newest generations only.

    timeline: `window`, `generation` and `generations`, oldest first. buckets: of marks, at most.
    """
    generations = _newest(timeline["generations"])
    thinned_timeline = {
        **timeline,
        "generations": [{name: value for name, value in shown.items() if name != "window"} for shown in generations],
        "generationsOmitted": len(timeline["generations"]) - len(generations),
        "gaps": list(gaps[-MOST_GAPS:]),
        "gapsOmitted": max(0, len(gaps) - MOST_GAPS),
    }
    width, marks = _fitting(archives, buckets, MOST_BYTES - _RESERVE - _size(thinned_timeline))
    return {**thinned_timeline, "bucketSeconds": width // _SECOND, "marks": marks}


def _newest(generations: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """Return the newest generations, and the current one even if the clock dates it earlier."""
    newest = generations[-MOST_GENERATIONS:]
    current = [generation for generation in generations if generation["present"] and generation not in newest]
    return current + list(newest)


def _fitting(archives: Sequence[BackupEntry], buckets: int, most: int) -> tuple[int, list[dict[str, Any]]]:
    """Return the narrowest round width whose marks fit, and these marks."""
    by_time = sorted(archives, key=lambda entry: entry.created)
    for width in itertools.chain(_WIDTHS, _wider()):
        if not by_time or by_time[-1].created // width - by_time[0].created // width < buckets:
            marks = [_mark(list(group), at * width, width) for at, group in _grouped(by_time, width)]
            if len(marks) <= 1 or _size(marks) <= most:
                return width, marks
    raise AssertionError("the widths have no end")


def _wider() -> Iterator[int]:
    return (days * _DAY for days in (30 * 2**power for power in itertools.count(1)))


def _grouped(by_time: Sequence[BackupEntry], width: int) -> Any:
    return itertools.groupby(by_time, key=lambda entry: entry.created // width)


def _mark(entries: Sequence[BackupEntry], begin: int, width: int) -> dict[str, Any]:
    return {
        "from": clock.format_milliseconds(begin),
        "to": clock.format_milliseconds(min(begin + width, clock.YEAR_10000 - 1)),
        "count": len(entries),
        "newest": entries[-1].name,
        "pinned": sum(entry.pinned for entry in entries),
        "damaged": sum(entry.problem is not None for entry in entries),
    }


def _size(value: Any) -> int:
    return len(msgspec.json.encode(value))

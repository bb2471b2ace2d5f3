"""Sorts archives by generation and sequence, not by time, as the clock may have been set meanwhile."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterable, Sequence
from itertools import accumulate

from eventvault.backups.entry import BackupEntry
from eventvault.errors import InvalidInput

_BEFORE_ALL = (-1, 0, 0, 0)


def newest_first(entries: Iterable[BackupEntry], generations: Sequence[str]) -> list[BackupEntry]:
    """Sort archives, newest first.

    generations: those of the open database, oldest first. Archives of an unknown generation stay together, by sequence;
    they come after the archives of known generations that arrived before the last of them. Without `generations` the
    times in the manifests decide between generations.
    """
    archives = list(entries)
    numbers = {generation: number for number, generation in enumerate(generations)}
    ranks = {
        entry.name: (numbers[entry.generation], entry.sequence or 0, 0, 0)
        for entry in archives
        if entry.generation in numbers
    }
    arrived = sorted((entry.arrived, ranks[entry.name]) for entry in archives if entry.name in ranks)
    instants, newest = [instant for instant, _ in arrived], list(accumulate((rank for _, rank in arrived), max))
    for group in _by_generation(entry for entry in archives if entry.name not in ranks):
        instant = max(entry.arrived if numbers else entry.created for entry in group)
        earlier = bisect_right(instants, instant)
        number, sequence, *_ = newest[earlier - 1] if earlier else _BEFORE_ALL
        ranks |= {entry.name: (number, sequence, instant, entry.sequence or 0) for entry in group}
    return sorted(archives, key=lambda entry: (*ranks[entry.name], entry.created, entry.name), reverse=True)


def page_of(entries: Sequence[BackupEntry], limit: int | None, before: str | None) -> list[BackupEntry]:
    """Return the first `limit` of the entries that come after the one named `before`. Raises InvalidInput."""
    first = 0
    if before is not None:
        first = 1 + next((number for number, entry in enumerate(entries) if entry.name == before), -1)
        if not first:
            raise InvalidInput(
                f"there is no backup {before[:200]!r} to list the backups before",
                hint="it may have been removed meanwhile: begin again without `before`",
                fields={"before": ["No backup has this name."]},
            )
    return list(entries[first:] if limit is None else entries[first : first + limit])


def _by_generation(entries: Iterable[BackupEntry]) -> list[list[BackupEntry]]:
    """Group the archives by generation; one without a generation is a group of its own."""
    groups: dict[str, list[BackupEntry]] = {}
    for entry in entries:
        groups.setdefault(entry.generation or f"none: {entry.name}", []).append(entry)
    return list(groups.values())

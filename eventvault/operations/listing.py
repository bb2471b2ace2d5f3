"""Summaries of the operations of the last 30 days, in memory, in the order of the list."""

from __future__ import annotations

import bisect
import heapq
from collections.abc import Iterable, Iterator
from itertools import islice
from typing import NamedTuple

from eventvault.errors import InvalidInput
from eventvault.operations.entry import OperationQuery

KEEP_MICROSECONDS = 30 * 24 * 3600 * 1_000_000
MAX_OPERATIONS = 10_000
"""How long, and how many, operations are listed."""


class OperationSummary(NamedTuple):
    """An operation, in the order of the list."""

    started_at: int
    id: str
    kind: str
    state: str
    started_by: str


class Listing:
    """The operations that do not run. Not safe for many threads: the caller holds a lock."""

    def __init__(self) -> None:
        self._by_id: dict[str, OperationSummary] = {}
        self._oldest_first: list[OperationSummary] = []

    def __contains__(self, operation_id: object) -> bool:
        return operation_id in self._by_id

    def __iter__(self) -> Iterator[OperationSummary]:
        return iter(self._oldest_first)

    def enter(self, summary: OperationSummary) -> None:
        self.remove(summary.id)
        self._by_id[summary.id] = summary
        bisect.insort(self._oldest_first, summary)

    def remove(self, operation_id: str) -> None:
        summary = self._by_id.pop(operation_id, None)
        if summary is not None:
            del self._oldest_first[bisect.bisect_left(self._oldest_first, summary)]

    def matching(self, query: OperationQuery, alive: Iterable[OperationSummary]) -> list[OperationSummary]:
        """Return a page, newest first. alive: operations that run. Raises InvalidInput for an unknown `before`."""
        running = sorted(alive, reverse=True)
        bound = None if query.before is None else self._bound(query.before, running)
        matching = (
            summary
            for summary in heapq.merge(reversed(self._oldest_first), running, reverse=True)
            if (bound is None or summary[:2] < bound)
            and (not query.states or summary.state in query.states)
            and (not query.kinds or summary.kind in query.kinds)
            and query.started_by in (None, summary.started_by)
        )
        return list(islice(matching, query.limit))

    def take_expired(self, now: int) -> list[str]:
        """Remove the operations that are too old or too many; return their ids."""
        count = max(0, len(self._oldest_first) - MAX_OPERATIONS)
        while count < len(self._oldest_first) and self._oldest_first[count].started_at < now - KEEP_MICROSECONDS:
            count += 1
        expired = [summary.id for summary in self._oldest_first[:count]]
        for operation_id in expired:
            self.remove(operation_id)
        return expired

    def _bound(self, before: str, running: list[OperationSummary]) -> tuple[int, str]:
        summary = self._by_id.get(before) or next((other for other in running if other.id == before), None)
        if summary is None:
            raise InvalidInput(
                f"there is no operation {before[:80]!r}",
                hint="`before` is the id of the last operation of the previous page; begin again without it",
                fields={"before": ["Not the id of an operation."]},
            )
        return summary[:2]

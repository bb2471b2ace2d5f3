"""Counts events per bucket of recorded time without reading them all.

`recordedtime` never decreases with the sequence. So a search finds the first event of each bucket; it searches between
the edges that are known already. An edge never changes once a later event exists, so edges are remembered.
"""

from __future__ import annotations

import bisect
import threading
from collections.abc import Callable, Iterator, Sequence
from itertools import count, islice, pairwise
from typing import NamedTuple

from eventvault.database import keys
from eventvault.database.registry import EventRegistry
from eventvault.database.values import EventHistogram, HistogramQuery
from eventvault.events.event import recorded_of

MAX_TYPE_KEYS = 100_000
"""How many of the newest keys of a type are counted. Older ones are estimated from their bytes in tables."""
_SAMPLE_KEYS = 10_000
"""How many of the oldest keys of a type are read to learn how many bytes a key takes."""
_MAX_EDGES = 50_000
_MAX_DATABASES = 4


_GUESSES = 4
"""Steps of a search that assume an even rate of events; later steps halve the range."""
_NEAR = 16
"""A range of this many events is searched by halving: they are neighbours on the disk."""


class Edge(NamedTuple):
    """An instant, and the first sequence recorded at it or later."""

    instant: int
    first: int


class Edges:
    """Instants of one database, and the first sequence recorded at each of them or later, which never changes."""

    def __init__(self) -> None:
        self._instants: list[int] = []
        self._firsts: list[int] = []
        self._lock = threading.Lock()

    def bounds(self, instant: int, oldest: Edge, newest: Edge) -> tuple[Edge, Edge]:
        """Return the nearest edges below and above an instant; twice its own edge if it is known.

        oldest, newest: edges of the first and the last event; the instant lies between them.
        """
        with self._lock:
            at = bisect.bisect_left(self._instants, instant)
            high = Edge(self._instants[at], self._firsts[at]) if at < len(self._firsts) else newest
            if at < len(self._instants) and high.instant == instant:
                return high, high
            return (Edge(self._instants[at - 1], self._firsts[at - 1]) if at else oldest), high

    def remember(self, edge: Edge) -> None:
        instant, first = edge
        with self._lock:
            at = bisect.bisect_left(self._instants, instant)
            if at < len(self._instants) and self._instants[at] == instant:
                return
            if len(self._instants) >= _MAX_EDGES:
                self._instants.clear()
                self._firsts.clear()
                at = 0
            self._instants.insert(at, instant)
            self._firsts.insert(at, first)


class EdgeMemory:
    """Generation → edges, for the databases of the latest queries."""

    def __init__(self) -> None:
        self._edges: dict[str, Edges] = {}
        self._lock = threading.Lock()

    def of(self, generation: str) -> Edges:
        with self._lock:
            edges = self._edges.pop(generation, None) or Edges()
            self._edges[generation] = edges
            while len(self._edges) > _MAX_DATABASES:
                del self._edges[next(iter(self._edges))]
            return edges


class _Range(NamedTuple):
    """The first and the last instant of a query, and the last event to count."""

    begin: int
    end: int
    upto: int


def count_by_time(
    registry: EventRegistry, query: HistogramQuery, edges: Edges, now: Callable[[], int]
) -> EventHistogram:
    """Count the events of each bucket of `query`. edges: of this registry. now: the clock, in microseconds."""
    query_range = _range(registry, query, now)
    instants = [
        query_range.begin + (query_range.end - query_range.begin) * number // query.buckets
        for number in range(query.buckets)
    ]
    firsts = first_sequences(registry, [*instants, query_range.end + 1], query_range.upto, edges)
    counts = [end - first for first, end in pairwise(firsts)]
    exact = True
    if query.type is not None:
        counts, exact = _count_type(registry, query.type, firsts)
    return EventHistogram(
        query_range.begin, query_range.end, counts, firsts[0] - 1, exact, registry.identity.generation
    )


def _range(registry: EventRegistry, query: HistogramQuery, now: Callable[[], int]) -> _Range:
    last = registry.last_sequence
    upto = last if query.upto is None else min(query.upto, last)
    end = query.recorded_to
    if end is None:
        newest = recorded_of(registry.at(upto)) if upto else 0
        end = max(now(), newest, query.recorded_from or 0)
    begin = query.recorded_from
    if begin is None:
        begin = min(end, recorded_of(registry.at(1))) if upto else end
    return _Range(begin, max(begin, end), upto)


def first_sequences(registry: EventRegistry, instants: Sequence[int], upto: int, edges: Edges) -> list[int]:
    """Return for each instant the first sequence recorded at it or later, at most `upto` + 1."""
    last = registry.last_sequence
    if not last:
        return [1] * len(instants)
    oldest, newest = Edge(recorded_of(registry.at(1)), 1), Edge(recorded_of(registry.at(last)), last)
    firsts = [upto + 1] * len(instants)
    for position in _middle_first(len(instants)):
        instant = instants[position]
        if instant <= oldest.instant:
            firsts[position] = 1
        elif instant <= newest.instant:  # otherwise a future event may be the first
            low, high = edges.bounds(instant, oldest, newest)
            edge = low if low == high else Edge(instant, _search(registry, instant, low, high))
            edges.remember(edge)
            firsts[position] = min(edge.first, upto + 1)
    return firsts


def _search(registry: EventRegistry, instant: int, low: Edge, high: Edge) -> int:
    """Return the first sequence recorded at an instant or later, which lies between two edges.

    The first steps assume an even rate of events, and guess a little too far, so that the next step has bounds on both
    sides. The last steps halve. This reads far fewer blocks than halving alone: 970 instead of 2,700 for 400
    edges among 500,000 events.
    """
    beyond, is_before = 0, False
    for number in count():
        span = high.first - low.first
        if span <= 0:
            break
        middle = low.first + span // 2
        if number < _GUESSES and span > _NEAR and high.instant > low.instant:
            guess = _even(instant, low, high)
            middle = min(max(guess + (beyond if is_before else -beyond), low.first), high.first - 1)
        time = recorded_of(registry.at(middle))
        is_before = time < instant
        if is_before:
            low = Edge(time, middle + 1)
        else:
            high = Edge(time, middle)
        beyond = abs(_even(instant, low, high) - middle) // 2 + _NEAR // 4
    return high.first


def _even(instant: int, low: Edge, high: Edge) -> int:
    """Return the sequence of an instant between two edges, assuming an even rate of events."""
    duration = high.instant - low.instant
    return low.first + (high.first - low.first) * (instant - low.instant) // duration if duration else low.first


def _middle_first(count: int) -> Iterator[int]:
    """Yield the numbers below `count` in an order in which each lies halfway between two earlier ones."""
    step = 1 << count.bit_length()
    while step:
        yield from range(step - 1, count, 2 * step)
        step //= 2


def _count_type(registry: EventRegistry, name: str, firsts: Sequence[int]) -> tuple[list[int], bool]:
    """Return the number of events of a type in each bucket, and whether it is exact. firsts: the buckets' edges."""
    counts = [0] * (len(firsts) - 1)
    bucket = len(counts) - 1
    newest_first = registry.indexed(keys.TYPE, name, firsts[0] - 1, firsts[-1] - 1, reverse=True)
    for number, sequence in enumerate(newest_first):
        if number == MAX_TYPE_KEYS:
            _add_estimates(registry, name, firsts, counts, sequence + 1)
            return counts, False
        while firsts[bucket] > sequence:
            bucket -= 1
        counts[bucket] += 1
    return counts, True


def _add_estimates(registry: EventRegistry, name: str, firsts: Sequence[int], counts: list[int], counted: int) -> None:
    """Add to each bucket the estimated number of events of a type below the sequence `counted`."""
    ranges = [(first, min(end, counted)) for first, end in pairwise(firsts) if first < counted]
    sizes = registry.index_sizes(keys.TYPE, name, ranges)
    per_byte = _keys_per_byte(registry, name, firsts[0], counted)
    for bucket, ((first, end), size) in enumerate(zip(ranges, sizes, strict=True)):
        counts[bucket] += min(end - first, round(size * per_byte))


def _keys_per_byte(registry: EventRegistry, name: str, first: int, end: int) -> float:
    """Return how many keys of a type there are per byte of a table, measured at the oldest keys of a range."""
    sample = list(islice(registry.indexed(keys.TYPE, name, first - 1, end - 1), _SAMPLE_KEYS))
    size = sum(registry.index_sizes(keys.TYPE, name, [(first, sample[-1] + 1)])) if sample else 0
    return len(sample) / size if size else 0.0

"""Reads one page of events: narrows the range of sequences, uses an index for one filter, then applies the others."""

from __future__ import annotations

from collections.abc import Iterator

from eventvault.database import keys
from eventvault.database.large_reads import LARGE_READS
from eventvault.database.registry import EventRegistry
from eventvault.database.values import Page, ScanQuery
from eventvault.events.event import indexed_of

PAGE_BYTES = 8 * 2**20
"""A page ends at this size, so that large events never exceed a frame of the store's protocol."""
MAX_CANDIDATES = 20_000
"""A page ends after this many candidates: a rare combination of filters takes more pages, not one long call."""

_INDEXES = (("subject", keys.SUBJECT), ("type", keys.TYPE), ("source", keys.SOURCE))
"""The most selective index first."""


def scan(registry: EventRegistry, query: ScanQuery) -> Page:
    """Read the page that `query` asks for. The caller has chosen the registry of the query's generation."""
    last = registry.last_sequence
    first, upto = _bounds(registry, query, last)
    events: list[bytes] = []
    room = PAGE_BYTES
    position = upto + 1 if query.newest_first else first - 1
    end = first if query.newest_first else upto
    for count, (sequence, value) in enumerate(_candidates(registry, query, first - 1, upto)):
        if len(events) == query.limit or count == MAX_CANDIDATES:
            return Page(events, position, last, registry.identity.generation)
        position = sequence
        if _matches(query, value):
            events.append(value)
            room -= len(value)
            if room <= 0:
                LARGE_READS.note(len(value))
                if position != end:  # do not read on: the next event may be as large
                    return Page(events, position, last, registry.identity.generation)
    return Page(events, None, last, registry.identity.generation)


def _bounds(registry: EventRegistry, query: ScanQuery, last: int) -> tuple[int, int]:
    """Return the first and the last sequence that can be on the page."""
    upto = last if query.upto is None else min(query.upto, last)
    if query.before is not None:
        upto = min(upto, query.before - 1)
    first = query.after + 1
    if query.recorded_from is not None:
        first = max(first, registry.first_recorded_at_or_after(query.recorded_from, upto))
    if query.recorded_to is not None:
        upto = registry.first_recorded_at_or_after(query.recorded_to + 1, upto) - 1
    return first, upto


def _candidates(registry: EventRegistry, query: ScanQuery, after: int, upto: int) -> Iterator[tuple[int, bytes]]:
    for name, index in _INDEXES:
        text = getattr(query, name)
        if text is not None:
            sequences = registry.indexed(index, text, after, upto, reverse=query.newest_first)
            return ((sequence, registry.at(sequence)) for sequence in sequences)
    return registry.events(after, upto, reverse=query.newest_first)


def _matches(query: ScanQuery, value: bytes) -> bool:
    filters = [(name, text) for name, _ in _INDEXES if (text := getattr(query, name)) is not None]
    if len(filters) < 2:
        return True
    attributes = indexed_of(value)
    return all(getattr(attributes, name) == text for name, text in filters)

"""Computes the difference of two moments, page by page, in constant memory.

Events that both share by their lineage are not compared. Every later event of one side is looked up in the other by its
identity (`source`, `id`), so an event that was sent again after a restore is in both.

The lines: `{"in":"from","event":…}`, `{"in":"to","event":…}`, and `{"in":"both","from":…,"to":…}` where the content
differs. Values from the registry (`sequence`, `recordedtime`, a `time` that was filled in) do not count as content.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Protocol

from eventvault.errors import EventNotFound
from eventvault.events import event
from eventvault.past.values import DiffPage, DiffQuery

PAGE_BYTES = 8 * 2**20
MAX_COMPARED = 5_000
"""A page ends after this many compared events, so that no call takes long."""


class Reader(Protocol):
    """The methods of a registry that a comparison uses."""

    @property
    def encoded_upto(self) -> int: ...
    def events(self, after: int, upto: int) -> Iterator[tuple[int, bytes]]: ...
    def find(self, event_id: str, source: str | None = None) -> int: ...
    def at(self, sequence: int) -> bytes: ...


def diff_page(query: DiffQuery, one: Reader, other: Reader, common: int) -> DiffPage:
    """Return the page that begins at `query.at`. common: the last sequence that both share by their lineage."""
    page = _Page(query, one, other, common)
    side, after = query.at or (0, common)
    while side < 2:
        position = page.walk(side, max(after, common))
        if position is not None:
            return page.answer((side, position))
        side, after = side + 1, common
    return page.answer(None)


class _Page:
    """Collects the lines of a page."""

    def __init__(self, query: DiffQuery, one: Reader, other: Reader, common: int) -> None:
        self._ends = (query.one.sequence, query.other.sequence)
        self._readers = (one, other)
        self._common = common
        self._lines: list[bytes] = []
        self._counts = [0, 0, 0]
        self._remaining_bytes = PAGE_BYTES
        self._compared = 0

    def walk(self, side: int, after: int) -> int | None:
        """Compare the events of one side. Returns the sequence at which the page is full, None at the side's end."""
        position = after
        for sequence, value in self._readers[side].events(after, self._ends[side]):
            if self._remaining_bytes <= 0 or self._compared == MAX_COMPARED:
                return position
            self._compare(side, sequence, value)
            position = sequence
        return None

    def answer(self, following: tuple[int, int] | None) -> DiffPage:
        only_one, only_other, different = self._counts
        return DiffPage(self._lines, following, only_one, only_other, different, self._common)

    def _compare(self, side: int, sequence: int, value: bytes) -> None:
        self._compared += 1
        attributes = event.indexed_of(value)
        counterpart = self._counterpart(1 - side, attributes.id, attributes.source)
        if counterpart is None:
            name = b"to" if side else b"from"
            self._add(side, b'{"in":"%s","event":%s}' % (name, value))
        elif side == 0:
            self._compare_content(sequence, value, counterpart)

    def _compare_content(self, sequence: int, value: bytes, other_sequence: int) -> None:
        one, other = self._readers
        counterpart = other.at(other_sequence)
        encoded = {"one_encoded": sequence <= one.encoded_upto, "other_encoded": other_sequence <= other.encoded_upto}
        if not event.same_content(value, counterpart, **encoded):
            self._add(2, b'{"in":"both","from":%s,"to":%s}' % (value, counterpart))

    def _counterpart(self, side: int, event_id: str, source: str) -> int | None:
        """Return the sequence of a side's event with this identity; None if the moment does not have it."""
        try:
            sequence = self._readers[side].find(event_id, source)
        except EventNotFound:
            return None
        return sequence if sequence <= self._ends[side] else None

    def _add(self, count: int, line: bytes) -> None:
        self._counts[count] += 1
        self._lines.append(line)
        self._remaining_bytes -= len(line)

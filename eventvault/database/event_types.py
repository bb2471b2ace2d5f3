"""Lists the types of events, and counts the events of each type, with the index of types."""

from __future__ import annotations

import heapq
from collections.abc import Iterator
from typing import Any

from eventvault.database import keys
from eventvault.database.registry import EventRegistry
from eventvault.database.values import EventTypes, TypeCount, TypesQuery
from eventvault.events.event import recorded_of

MAX_COUNTED = 200_000
"""The newest events that are counted: each event has one key in the index."""
MAX_TYPES = 10_000
"""Types that are counted, the first ones by name."""


def count_types(registry: EventRegistry, query: TypesQuery) -> EventTypes:
    """Return the most frequent types among the newest MAX_COUNTED events of the query's range."""
    last = registry.last_sequence
    upto = last if query.upto is None else min(query.upto, last)
    begin = max(query.after, upto - MAX_COUNTED)
    counts: list[tuple[int, int, str]] = []
    with registry.index_cursor(keys.TYPE) as cursor:
        complete = begin == query.after or upto <= query.after
        for number, name in enumerate(_names(cursor)):
            if number == MAX_TYPES:
                complete = False
                break
            newest = _newest(cursor, name, upto)
            if newest > query.after:
                counts.append((_count(cursor, name, begin, upto), newest, name))
    top = heapq.nlargest(query.limit, counts)
    types = [TypeCount(name, count, last, recorded_of(registry.at(last))) for count, last, name in top]
    return EventTypes(types, sum(count for count, _, _ in counts), complete, registry.identity.generation)


def _names(cursor: Any) -> Iterator[str]:
    """Yield each type once. The cursor may be moved in between."""
    key = next(cursor, None)
    while key is not None:
        name = keys.text_of(key)
        yield name
        cursor.seek(keys.after_index_entry(keys.TYPE, name))
        key = next(cursor, None)


def _newest(cursor: Any, name: str, upto: int) -> int:
    """Return the last sequence of a type up to `upto`; 0 if there is none."""
    cursor.seek(keys.index_key(keys.TYPE, name, upto + 1))
    try:
        key: bytes = cursor.prev()
    except StopIteration:
        return 0
    return keys.sequence_of(key) if key.startswith(keys.index_prefix(keys.TYPE, name)) else 0


def _count(cursor: Any, name: str, after: int, upto: int) -> int:
    count = 0
    end = keys.index_key(keys.TYPE, name, upto)
    cursor.seek(keys.index_key(keys.TYPE, name, after + 1))
    for key in cursor:
        if key > end:
            break
        count += 1
    return count

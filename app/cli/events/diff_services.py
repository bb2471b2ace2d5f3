"""Compares two services by the identity of their events, as they have different sequences.

The events of the first one are remembered as digests, about 250 bytes each; then those of the second one are looked up.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from functools import partial
from hashlib import blake2b
from typing import NamedTuple

import msgspec

from app.cli.events.pages import EventFilter, event_pages
from app.store_retry import retry_while_store_is_away
from eventvault.database.values import ScanQuery
from eventvault.events.event import indexed_of, same_content, without_filled_time
from eventvault.past.values import DiffPage, PastView
from eventvault.store.ports.store import Store

_REGISTRY = re.compile(rb',"sequence":(\d+),"recordedtime":"[^"]*"\}\Z')
_DIGEST_BYTES, _CONTENT_BYTES, _SEQUENCE_BYTES = 16, 12, 8


class Side(NamedTuple):
    """A moment of a service."""

    store: Store
    view: PastView


class _Event(NamedTuple):
    """identity, content: digests of source and id, and of what the sender wrote."""

    identity: bytes
    content: bytes
    sequence: int


def diff_pages(one: Side, other: Side) -> Iterator[DiffPage]:
    """Yield each event that only one side has, and each event whose content differs.

    Each page says in `common` how many equal events were found so far.
    """
    remembered = {
        event.identity: event.content + event.sequence.to_bytes(_SEQUENCE_BYTES, "big")
        for page in _pages(one)
        for event in map(_digest, page)
    }
    common = 0
    for page in _pages(other):
        lines, counts = list[bytes](), [0, 0]
        for value in page:
            event = _digest(value)
            counterpart = remembered.pop(event.identity, None)
            if counterpart is None:
                lines.append(b'{"in":"to","event":%s}' % value)
                counts[0] += 1
            elif (line := _difference_line(one, counterpart, event, value)) is not None:
                lines.append(line)
                counts[1] += 1
            else:
                common += 1
        yield DiffPage(lines, None, 0, counts[0], counts[1], common)
    alone = {int.from_bytes(digest[_CONTENT_BYTES:], "big") for digest in remembered.values()}
    for page in _pages(one) if alone else ():
        lines = [b'{"in":"from","event":%s}' % value for value in page if _digest(value).sequence in alone]
        yield DiffPage(lines, None, len(lines), 0, 0, common)


def _pages(side: Side) -> Iterator[list[bytes]]:
    for page in event_pages(side.store, side.view, EventFilter(ScanQuery(limit=1000))):
        yield page.events


def _digest(value: bytes) -> _Event:
    attributes = indexed_of(value)
    registry = _REGISTRY.search(value)
    content = without_filled_time(value[: registry.start()] if registry else value)
    sequence = int(registry[1]) if registry else int(msgspec.json.decode(value)["sequence"])
    identity = f"{len(attributes.source)}:{attributes.source}{attributes.id}".encode()
    return _Event(
        blake2b(identity, digest_size=_DIGEST_BYTES).digest(),
        blake2b(content, digest_size=_CONTENT_BYTES).digest(),
        sequence,
    )


def _difference_line(one: Side, counterpart: bytes, event: _Event, value: bytes) -> bytes | None:
    """Return the line of two events of one identity; None if their content is the same, however it is written."""
    if counterpart[:_CONTENT_BYTES] == event.content:
        return None
    sequence = int.from_bytes(counterpart[_CONTENT_BYTES:], "big")
    query = ScanQuery(after=sequence - 1, upto=sequence, generation=one.view.generation, limit=1)
    (first,) = retry_while_store_is_away(partial(one.store.scan, query)).events
    return None if same_content(first, value) else b'{"in":"both","from":%s,"to":%s}' % (first, value)

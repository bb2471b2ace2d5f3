"""Moments of the past in the in-memory double."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import orjson

from eventvault import clock
from eventvault.database.generation import is_id
from eventvault.errors import EventNotFound
from eventvault.events import event
from eventvault.past.values import PastView
from eventvault.restore.values import Moment
from eventvault.store.memory.moments import outside


def resolve_moment(
    moment: Moment, kept: Mapping[str, list[bytes]], present: str, open_archive: Callable[[str], PastView], now: int
) -> PastView:
    """As `eventvault.store.ports.past_reader.PastReader.resolve_moment` says.

    kept: the events of each generation that can be read. open_archive: makes an archive readable, by its name.
    """
    if moment.archive is not None:
        return open_archive(moment.archive)
    generation = present if moment.generation is None else moment.generation
    events = kept.get(generation)
    if events is None or not is_id(generation):
        raise outside(f"the generation {generation!r} is not kept", kept[present], present)
    if moment.sequence is not None:
        if not 0 <= moment.sequence <= len(events):
            before = moment.sequence < 0
            raise outside(f"event {moment.sequence} is not there", events, generation, before=before)
        return PastView(generation, moment.sequence)
    if moment.instant is None:
        return PastView(generation, len(events))
    early = bool(events) and moment.instant < event.recorded_of(events[0])
    if moment.instant > now or early:
        raise outside(f"{clock.format_microseconds(moment.instant)} is outside of it", events, generation, before=early)
    return PastView(generation, sum(event.recorded_of(value) <= moment.instant for value in events))


class Events:
    """Events in a list, read as a registry is."""

    def __init__(self, values: Sequence[bytes]) -> None:
        self._values = values
        self._found = {(found["source"], found["id"]): number for number, (_, found) in enumerate(parsed(values), 1)}

    def events(self, after: int, upto: int) -> Iterator[tuple[int, bytes]]:
        return ((number + 1, self._values[number]) for number in range(after, min(upto, len(self._values))))

    def find(self, event_id: str, source: str | None = None) -> int:
        if (source, event_id) not in self._found:
            raise EventNotFound(f"there is no event with the id {event_id!r}", hint="GET /api/events lists them")
        return self._found[str(source), event_id]

    def at(self, sequence: int) -> bytes:
        return self._values[sequence - 1]


def parsed(events: Sequence[bytes]) -> Iterator[tuple[bytes, dict[str, Any]]]:
    return ((value, orjson.loads(value)) for value in events)

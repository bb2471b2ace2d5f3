"""The double of the event log: a list of events for each generation."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from itertools import pairwise

import msgspec

from eventvault.database.values import (
    MOST_CANDIDATES,
    AppendResult,
    EventHistogram,
    EventTypes,
    Head,
    HistogramQuery,
    Page,
    Published,
    Resumption,
    ScanQuery,
    TypeCount,
    TypesQuery,
)
from eventvault.errors import EventNotFound, GenerationSuperseded, InvalidInput
from eventvault.events import event
from eventvault.events.event import Appended, EventDraft
from eventvault.keyed_request import KeyedRequest, is_expired, key_reused_error
from eventvault.restore.values import kind_of
from eventvault.store.memory.state import KeyedAppend, MemoryState, common_length
from eventvault.store.ports.event_log import LONGEST_WAIT_SECONDS, EventLog, Lease


class MemoryEventLog(EventLog):
    def __init__(self, state: MemoryState) -> None:
        self._state = state

    def append(self, drafts: Sequence[EventDraft], request: KeyedRequest | None = None) -> AppendResult:
        with self._state.changed:
            self._state.changed.notify_all()
            answer = self._answer_of(request) if request is not None else None
            if answer is None:
                answer = AppendResult([self._append(draft) for draft in drafts], len(self._state.events))
                if request is not None:
                    self._note_answer(request, answer)
            return answer

    def _answer_of(self, request: KeyedRequest) -> AppendResult | None:
        """Return the answer to an earlier request; None if its events are not there any more, as after a restore."""
        for first in reversed(self._state.answers[request.id]):
            is_there = self._state.events[: len(first.events)] == first.events
            if is_there and not is_expired(first.at, self._state.now()):
                if first.content != request.content:
                    raise key_reused_error()
                return first.answer
        return None

    def _note_answer(self, request: KeyedRequest, answer: AppendResult) -> None:
        ids = [event.indexed_of(self._state.events[result.sequence - 1]).id for result in answer.results]
        again = msgspec.structs.replace(answer, ids=ids, refusal=request.refusal)
        events = list(self._state.events)
        self._state.answers[request.id].append(KeyedAppend(self._state.now(), request.content, events, again))

    def _append(self, draft: EventDraft) -> Appended:
        events = self._state.events
        first_sequence = self._state.sequences.get((draft.source, draft.id))
        if first_sequence is not None:
            first = events[first_sequence - 1]
            differs = event.differs(first, draft.body, draft.filled)
            return Appended(first_sequence, event.recorded_of(first), duplicate=True, differs=differs)
        recorded = max(self._state.now(), event.recorded_of(events[-1]) if events else 0)
        events.append(event.recorded_body(draft.body, len(events) + 1, recorded))
        self._state.sequences[draft.source, draft.id] = len(events)
        return Appended(len(events), recorded)

    def get(self, event_id: str, source: str | None = None, recorded_to: int | None = None) -> bytes:
        query = ScanQuery(source=source, recorded_to=recorded_to)
        matches = [
            value for value in self._state.events if event.indexed_of(value).id == event_id and query.matches(value)
        ]
        if not matches:
            query = ScanQuery(recorded_to=recorded_to)
            ids = sorted({event.indexed_of(value).id for value in self._state.events if query.matches(value)})
            candidates = [other for other in ids if event_id and other != event_id and other.startswith(event_id)]
            details = {"candidates": candidates[:MOST_CANDIDATES]} if candidates else {}
            hint = "GET /api/events lists them"
            raise EventNotFound(f"there is no event with the id {event_id!r}", hint=hint, **details)
        if len(matches) > 1:
            raise InvalidInput(
                f"{len(matches)} events of several sources have the id {event_id!r}", hint="say which with &source="
            )
        return matches[0]

    def scan(self, query: ScanQuery) -> Page:
        with self._state.lock:
            generation = self._readable(query.generation, query.reach, fixed=query.upto is not None)
            events = self._state.generations[generation]
        last = min(len(events), len(events) if query.upto is None else query.upto)
        sequences = range(query.after + 1, last + 1 if query.before is None else min(last + 1, query.before))
        page: list[bytes] = []
        for sequence in reversed(sequences) if query.newest_first else sequences:
            if query.matches(events[sequence - 1]):
                page.append(events[sequence - 1])
            if len(page) == query.limit:
                is_last = sequence == sequences[0 if query.newest_first else -1]
                return Page(page, None if is_last else sequence, len(events), generation)
        return Page(page, None, len(events), generation)

    def histogram(self, query: HistogramQuery) -> EventHistogram:
        with self._state.lock:
            generation = self._readable(query.generation, query.upto or 0, fixed=query.upto is not None)
            events = self._state.generations[generation][: query.upto]
        times = [event.recorded_of(value) for value in events]
        last = max(self._state.now(), query.recorded_from or 0, *times[-1:])
        end = last if query.recorded_to is None else query.recorded_to
        begin = min(end, *times[:1]) if query.recorded_from is None and times else query.recorded_from or end
        end = max(begin, end)
        edges = [begin + (end - begin) * number // query.buckets for number in range(query.buckets)] + [end + 1]
        wanted = ScanQuery(type=query.type)
        matching = [time for time, value in zip(times, events, strict=True) if wanted.matches(value)]
        counts = [sum(first <= time < following for time in matching) for first, following in pairwise(edges)]
        return EventHistogram(begin, end, counts, sum(time < begin for time in times), True, generation)

    def event_types(self, query: TypesQuery) -> EventTypes:
        with self._state.lock:
            reach = max(query.after, query.upto or 0)
            generation = self._readable(query.generation, reach, fixed=query.upto is not None)
            events = self._state.generations[generation][: query.upto]
        last = {event.indexed_of(value).type: sequence for sequence, value in enumerate(events, start=1)}
        counts = Counter(event.indexed_of(value).type for value in events[query.after :])
        top = sorted(((count, last[name], name) for name, count in counts.items()), reverse=True)[: query.limit]
        types = [TypeCount(name, count, newest, event.recorded_of(events[newest - 1])) for count, newest, name in top]
        return EventTypes(types, counts.total(), True, generation)

    def wait_for_events(self, seen: Head | None, seconds: float) -> Head:
        with self._state.changed:
            self._state.changed.wait_for(lambda: self._head() != seen, min(seconds, LONGEST_WAIT_SECONDS))
            return self._head()

    def wait_for_published(self, seen: Published | None, seconds: float) -> Published:
        with self._state.changed:
            self._state.changed.wait_for(lambda: self._published() != seen, min(seconds, LONGEST_WAIT_SECONDS))
            return self._published()

    def _published(self) -> Published:
        return Published(self._state.generation, self._state.published, self._state.refused)

    def _head(self) -> Head:
        return Head(self._state.generation, len(self._state.events))

    def resume(self, reader: Head | None) -> Resumption:
        with self._state.lock:
            present = self._head()
            if reader is None:
                return Resumption(*present)
            if reader.generation == present.generation:
                return Resumption(*reader)
            fork = common_length(self._state.generations.get(reader.generation, []), self._state.events)
            reason = self._state.last_restore.reason if self._state.last_restore is not None else ""
        return Resumption(present.generation, min(reader.sequence, fork), fork, kind_of(reason))

    def _readable(self, generation: str | None, reach: int, *, fixed: bool) -> str:
        """Return the generation to read: the current one, if it shares the events."""
        present = self._state.generation
        if generation in (None, present) or reach <= self._state.forks.get(str(generation), -1):
            return present
        if fixed and generation in self._state.generations:
            return str(generation)
        raise GenerationSuperseded(
            f"a restore replaced the generation {generation!r}", hint="begin again without a cursor"
        )

    def lease_generation(self, generation: str) -> Lease:
        return _Lease(self._state, generation)


class _Lease:
    def __init__(self, state: MemoryState, generation: str) -> None:
        self._leases = state.leases
        self._generation = generation

    def __enter__(self) -> _Lease:
        self._leases[self._generation] += 1
        return self

    def renew(self) -> None:
        return None

    def __exit__(self, *exception: object) -> None:
        self._leases[self._generation] -= 1

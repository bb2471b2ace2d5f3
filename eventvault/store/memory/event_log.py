"""The double of the event log: a list of events for each generation."""

from __future__ import annotations

from collections.abc import Sequence

import msgspec

from eventvault.database.values import AppendResult, Page, ScanQuery
from eventvault.errors import EventNotFound, GenerationSuperseded, InvalidInput
from eventvault.events import event
from eventvault.events.event import Appended, EventDraft
from eventvault.keyed_request import KeyedRequest, is_expired, reused
from eventvault.store.memory.state import KeyedAnswer, MemoryState
from eventvault.store.ports.event_log import EventLog, Lease


class MemoryEventLog(EventLog):
    def __init__(self, state: MemoryState) -> None:
        self._state = state

    def append(self, drafts: Sequence[EventDraft], request: KeyedRequest | None = None) -> AppendResult:
        with self._state.lock:
            answer = self._answer_of(request) if request is not None else None
            if answer is None:
                answer = AppendResult([self._append(draft) for draft in drafts], len(self._state.events))
                if request is not None:
                    self._note_answer(request, answer)
            return answer

    def _answer_of(self, request: KeyedRequest) -> AppendResult | None:
        """The answer to an earlier request; None if its events are not there any more, as after a restore."""
        for first in reversed(self._state.answers[request.id]):
            is_there = self._state.events[: len(first.events)] == first.events
            if is_there and not is_expired(first.at, self._state.now()):
                if first.content != request.content:
                    raise reused()
                return first.answer
        return None

    def _note_answer(self, request: KeyedRequest, answer: AppendResult) -> None:
        ids = [event.indexed_of(self._state.events[result.sequence - 1]).id for result in answer.results]
        again = msgspec.structs.replace(answer, ids=ids, refusal=request.refusal)
        events = list(self._state.events)
        self._state.answers[request.id].append(KeyedAnswer(self._state.now(), request.content, events, again))

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
            value for value in self._state.events if event.indexed_of(value).id == event_id and _matches(value, query)
        ]
        if not matches:
            raise EventNotFound(f"there is no event with the id {event_id!r}", hint="GET /api/events lists them")
        if len(matches) > 1:
            raise InvalidInput(
                f"{len(matches)} events of several sources have the id {event_id!r}", hint="say which with &source="
            )
        return matches[0]

    def scan(self, query: ScanQuery) -> Page:
        with self._state.lock:
            generation = self._readable(query)
            events = self._state.generations[generation]
        last = min(len(events), len(events) if query.upto is None else query.upto)
        page: list[bytes] = []
        for sequence in range(query.after + 1, last + 1):
            if _matches(events[sequence - 1], query):
                page.append(events[sequence - 1])
            if len(page) == query.limit:
                return Page(page, sequence if sequence < last else None, len(events), generation)
        return Page(page, None, len(events), generation)

    def _readable(self, query: ScanQuery) -> str:
        """The generation to read: the present one for what both share."""
        present = self._state.generation
        generation = query.generation or present
        end = query.after if query.upto is None else query.upto
        if generation == present or end <= self._state.forks.get(generation, -1):
            return present
        if query.upto is not None and generation in self._state.generations:
            return generation
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


def _matches(value: bytes, query: ScanQuery) -> bool:
    attributes = event.indexed_of(value)
    recorded = event.recorded_of(value)
    return (
        query.type in (None, attributes.type)
        and query.subject in (None, attributes.subject)
        and query.source in (None, attributes.source)
        and (query.recorded_from is None or recorded >= query.recorded_from)
        and (query.recorded_to is None or recorded <= query.recorded_to)
    )

"""Answers that many pages ask for again and again: made once for all who ask within half a second.

A shared answer is never older than the last change that this worker answered or reported, and hardly ever older than
the last change of another worker: all workers share the memory of `app.worker_memory`.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Hashable, Iterable
from concurrent.futures import Future
from dataclasses import dataclass, field
from typing import Any, Generic, TypeVar, cast

from app.worker_memory import EVENTS, LONGEST, OTHERS, HeldAnswer, WorkerMemory
from eventvault.errors import TooBusy
from eventvault.operations.entry import OperationEntry

SHARED_SECONDS = 0.5
WAIT_SECONDS = 60.0
"""How long a request waits for an answer that another one is making."""
MOST_SHARED = 32
"""Answers to different questions that a worker holds at a time."""
MOST_ENDS = 10_000
"""Ends of operations that a worker remembers: as many as are stored."""

Answer = TypeVar("Answer")


@dataclass(frozen=True)
class Question(Generic[Answer]):
    """A question that many requests ask.

    key: tells questions apart. make: returns the answer, or raises an error that all who ask get. encode, decode: the
    answer as bytes for other workers; None if they do not get it. of_events: the answer depends on the events too, so
    an append makes it old.
    """

    key: Hashable
    make: Callable[[], Answer]
    encode: Callable[[Answer], bytes | None]
    decode: Callable[[bytes], Answer]
    of_events: bool = True


@dataclass
class _Shared:
    """began: when `make` was called, in monotonic nanoseconds."""

    began: int
    answer: Future[Any] = field(default_factory=Future)


class SharedAnswers:
    """Safe for many threads. seconds: how long an answer counts, from when it was begun."""

    def __init__(
        self,
        seconds: float = SHARED_SECONDS,
        clock: Callable[[], int] = time.monotonic_ns,
        memory: WorkerMemory | None = None,
    ) -> None:
        """memory: the memory of all workers; default: a new one for this object alone."""
        self._nanoseconds = round(seconds * 1e9)
        self._clock = clock
        self._memory = memory or WorkerMemory()
        self._lock = threading.Lock()
        self._shared: dict[Hashable, _Shared] = {}
        self._changed = {EVENTS: 0, OTHERS: 0}
        self._ends: set[tuple[str, str, int | None]] = set()

    def get(self, question: Question[Answer], *, before_appends: bool = False) -> Answer:
        """Return the answer, made now or for another request. Raises what making it raised, or TooBusy.

        before_appends: accept an answer also if events were appended since it was begun.
        """
        kind = EVENTS if question.of_events and not before_appends else OTHERS
        with self._lock:
            now = self._clock()
            shared = self._newest(question, kind, now)
            is_own = shared is None
            if shared is None:
                shared = _Shared(now)
            self._shared[question.key] = shared
            self._forget_old(now)
        if is_own:
            self._make(question, shared)
        try:
            return cast(Answer, shared.answer.result(WAIT_SECONDS))
        except TimeoutError:
            raise TooBusy("the same was asked before, and is not answered yet", hint="try again later") from None

    def note_change(self, *, of_events: bool) -> None:
        """Give no later request an answer that was begun before now. of_events: only events were changed."""
        with self._lock:
            self._note(EVENTS, *(() if of_events else (OTHERS,)))

    def note_operations(self, entries: Iterable[OperationEntry]) -> None:
        """Note changes by those of these operations that have ended; call it before a client learns of them.

        So the client finds what they changed. They may end long after the requests that began them were answered.
        """
        ends = {(entry.id, entry.state, entry.ended_at) for entry in entries if entry.ended_at is not None}
        with self._lock:
            if ends <= self._ends:
                return
            if len(self._ends) > MOST_ENDS:
                self._ends.clear()
            self._ends |= ends
            self._note(EVENTS, OTHERS)

    def _note(self, *kinds: int) -> None:
        now = self._clock()
        for kind in kinds:
            self._changed[kind] = now
            self._memory.note_change(kind, now)

    def _newest(self, question: Question[Answer], kind: int, now: int) -> _Shared | None:
        """Return the newest answer of this worker or another one that is not older than the last change of the kind."""
        oldest = max(now - self._nanoseconds, self._changed[kind], self._memory.last_change(kind))
        own = self._shared.get(question.key)
        began = own.began if own is not None else 0
        if self._memory.began(question.key) > max(oldest, began):
            held = self._memory.read(question.key)
            if held is not None and held.began > max(oldest, began):
                shared = _Shared(held.began)
                shared.answer.set_result(question.decode(held.answer))
                return shared
        return own if began > oldest else None

    def _make(self, question: Question[Answer], shared: _Shared) -> None:
        try:
            answer = question.make()
            encoded = question.encode(answer)
            if encoded is not None and self._nanoseconds:
                self._memory.hold(question.key, HeldAnswer(shared.began, encoded))
            if encoded is not None and len(encoded) > LONGEST:
                self._forget(question.key)
            shared.answer.set_result(answer)
        except BaseException as error:
            shared.answer.set_exception(error)
            if not isinstance(error, Exception):
                raise

    def _forget(self, key: Hashable) -> None:
        with self._lock:
            self._shared.pop(key, None)

    def _forget_old(self, now: int) -> None:
        if len(self._shared) > MOST_SHARED:
            oldest = now - self._nanoseconds
            self._shared = {key: shared for key, shared in self._shared.items() if shared.began > oldest}

"""The inputs of one turn of the dispatcher: calls of other threads, and what the transport received."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from typing import Any, Generic, TypeVar

from eventvault.damage import is_damage
from eventvault.errors import EventVaultError
from eventvault.jobs import reports, submissions
from eventvault.jobs.database import answer_to
from eventvault.jobs.job import JobError
from eventvault.jobs.queue import JobQueue
from eventvault.jobs.transport import Loss, OutboxMessage, Received, Submitted

T = TypeVar("T")


class QueueCall(Generic[T]):
    """A thread's call of the queue, and its answer. The answer is valid once `answered` is set: its turn is on disk."""

    def __init__(self, ask: Callable[[JobQueue], T]) -> None:
        self.ask = ask
        self.answered = threading.Event()
        self.result: T | None = None
        self.error: BaseException | None = None

    def run(self, queue: JobQueue) -> None:
        self.error = None  # an earlier turn that was not finished may have set it
        try:
            self.result = self.ask(queue)
        except EventVaultError as error:
            self.error = error

    def fail(self, error: BaseException) -> None:
        self.error = error
        self.answered.set()


class BadInput(Exception):
    """The machine failed at an input, not at the rest of the turn. `__cause__` is the error."""


class Inputs:
    """The inputs of one turn.

    losses: all present losses of topics; None: as before. refused: messages of `jobs` at which the machine failed, and
    why. is_alone: the turn only processes these inputs.
    """

    def __init__(
        self,
        calls: Sequence[QueueCall[Any]] = (),
        received: Sequence[Received] = (),
        submitted: Sequence[Submitted] = (),
        published: Sequence[OutboxMessage] = (),
        refused: Sequence[tuple[Submitted, JobError]] = (),
        *,
        losses: list[Loss] | None = None,
        is_alone: bool = False,
    ) -> None:
        self.losses = losses
        self.is_alone = is_alone
        self.refused = refused
        self.calls = calls
        self.received = received
        self.submitted = submitted
        self.published = published

    def __len__(self) -> int:
        return len(self.calls) + len(self.received) + len(self.submitted) + len(self.refused)

    def one_by_one(self) -> list[Inputs]:
        return [
            *(Inputs(calls=[call]) for call in self.calls),
            *(Inputs(received=[received]) for received in self.received),
            *(Inputs(submitted=[submitted], losses=self.losses) for submitted in self.submitted),
            *(Inputs(refused=[refused], losses=self.losses) for refused in self.refused),
        ]

    def apply(self, queue: JobQueue) -> None:
        queue.outbox.forget(self.published)
        if self.losses is not None:
            queue.note_losses(self.losses)
        for call in self.calls:
            call.run(queue)
        for received in self.received:
            reports.process(queue, received)
        for submitted in self.submitted:
            submissions.process(queue, submitted)
        for submitted, error in self.refused:
            submissions.refuse(queue, submitted, error)


def answer_of(error: BaseException) -> EventVaultError:
    """Return what callers get for an error, also for an unforeseen one."""
    if isinstance(error, EventVaultError) or is_damage(error):
        return answer_to("deciding about jobs", error)
    reason = f"{type(error).__name__}: {error}"
    return EventVaultError(f"the request failed: {reason}", hint="the log of the dispatcher says why")

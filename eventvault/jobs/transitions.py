"""The transitions of a job's state: the changes, and the messages to send once these are on disk. Pure."""

from __future__ import annotations

from collections.abc import Iterable

import msgspec

from eventvault.jobs import keys, messages
from eventvault.jobs.job import (
    ATTEMPTS_LISTED,
    MAX_OUTPUT_OF_ATTEMPT,
    Attempt,
    AttemptOutcome,
    Job,
    JobError,
    State,
)
from eventvault.jobs.queue import JobQueue
from eventvault.jobs.sessions import Active, WorkerSession

FIRST_DELAY_SECONDS = 1.0
MAX_DELAY_SECONDS = 3_600.0
SPREAD = 0.25
"""Fraction by which a delay before the next try varies, so that jobs that failed together are not retried together."""
MAX_AFTER_SECONDS = 10 * 365 * 86_400.0


def send(queue: JobQueue, session: WorkerSession, job: Job) -> None:
    """pending → sent. Record a new attempt with its own token, and queue its message."""
    token = queue.make_token()
    attempt = Attempt(
        number=job.attempt + 1, token=token, session=session.id, host=session.hello.host, sent_at=queue.now
    )
    attempts = (*job.attempts, attempt)
    sent = msgspec.structs.replace(
        job, state="sent", attempt=attempt.number, token=token, session=session.id, progress=None,
        attempts=attempts[-ATTEMPTS_LISTED:],
        earlier_attempts=job.earlier_attempts + max(len(attempts) - ATTEMPTS_LISTED, 0),
    )  # fmt: skip
    queue.waiting.remove(queue.ledger.changes, job)
    queue.ledger.changes.put(keys.active_key(job.id), session.id.encode())
    queue.ledger.replace(job, sent)
    session.active[token] = Active(sent, queue.ticks_of(session))
    queue.work.append(run_message(queue, sent))


def ask_back(queue: JobQueue, session: WorkerSession, tokens: list[str]) -> None:
    """Ask a session to give back jobs that it has not begun."""
    for token in tokens:
        session.active[token].asked_back = queue.ticks_of(session)
    queue.work.append(messages.GiveBack(to=session.id, give_back=tokens))


def end_attempt(
    queue: JobQueue,
    session: WorkerSession,
    active: Active,
    outcome: AttemptOutcome,
    error: JobError | None,
    output: str = "",
    seconds: float | None = None,
) -> Job:
    """End the last attempt. Returns the job without its token; the caller decides its state."""
    job, last = active.job, active.job.attempts[-1]
    started = last.started_at
    if started is None and seconds is not None:
        started = max(queue.now - round(min(max(seconds, 0.0), 1e9) * 1e6), 0)
    attempt = msgspec.structs.replace(
        last, ended_at=queue.now, started_at=started, outcome=outcome, error=error,
        output=output[-MAX_OUTPUT_OF_ATTEMPT:],
    )  # fmt: skip
    del session.active[last.token]
    queue.ledger.changes.remove(keys.active_key(job.id))
    return msgspec.structs.replace(job, token=None, session=None, attempts=(*job.attempts[:-1], attempt))


def wait(queue: JobQueue, before: Job, job: Job, seconds: float | None) -> None:
    """→ pending. seconds: until it is due; None: its due time does not change."""
    run_at = job.run_at if seconds is None else queue.now + round(min(max(seconds, 0.0), MAX_AFTER_SECONDS) * 1e6)
    pending = msgspec.structs.replace(job, state="pending", run_at=run_at)
    queue.ledger.replace(before, pending)
    queue.waiting.add(queue.ledger.changes, pending)


def end(queue: JobQueue, before: Job, job: Job, state: State) -> None:
    """→ done, dead or cancelled. The next job of its key may run."""
    ended = msgspec.structs.replace(job, state=state, ended=queue.now, error=None if state == "done" else job.error)
    queue.ledger.replace(before, ended)
    if ended.unique is not None:
        queue.ledger.changes.remove(keys.unique_key(ended.unique))
    if queue.limits.publishes:
        queue.outbox.put_outcome(ended)
    following = queue.ledger.leave_key(ended)
    if following is not None and following.state == "pending":
        queue.waiting.add(queue.ledger.changes, following)


def update(queue: JobQueue, active: Active, **members: object) -> None:
    before = active.job
    active.job = msgspec.structs.replace(before, **members)
    queue.ledger.replace(before, active.job)


def delay(queue: JobQueue, tries: int) -> float:
    delay: float = min(FIRST_DELAY_SECONDS * 2.0 ** min(tries - 1, 20), MAX_DELAY_SECONDS)
    spread: float = SPREAD * (2 * queue.chance() - 1)
    return delay * (1 + spread)


def stop(queue: JobQueue, active: Active, reason: str) -> None:
    job = active.job
    active.stopped = queue.ticks_of(queue.session_of(job))
    queue.work.append(messages.Stop(to=job.session or "", stop=[job.token or ""], reason=reason))


def send_again(queue: JobQueue, session: WorkerSession, tokens: Iterable[str]) -> None:
    for token in list(tokens):
        active = session.active[token]
        active.sent = queue.ticks_of(session)
        queue.work.append(run_message(queue, active.job))
        if active.job.is_stopping:
            stop(queue, active, "cancelled")


def run_message(queue: JobQueue, job: Job) -> messages.Run:
    payload = queue.ledger.changes.get(keys.payload_key(job.id))
    return messages.Run(
        to=job.session or "", job=job.id, type=job.type, attempt=job.attempt, max_attempts=job.max_attempts,
        token=job.token or "", timeout=job.timeout, payload=msgspec.Raw(payload or b"null"),
    )  # fmt: skip

"""The arrows of a job's life: what each writes, and what is sent once that is on disk. Pure."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

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
from eventvault.jobs.sessions import Active, Session

if TYPE_CHECKING:
    from eventvault.jobs.machine import Machine

FIRST_DELAY_SECONDS = 1.0
MAX_DELAY_SECONDS = 3_600.0
SPREAD = 0.25
"""By how much of itself a delay before the next try varies, so that jobs that failed together come back apart."""
MAX_AFTER_SECONDS = 10 * 365 * 86_400.0


def send(machine: Machine, session: Session, job: Job) -> None:
    """pending → sent: one more attempt, with a token of its own, is on record before it can begin."""
    token = machine.make_token()
    attempt = Attempt(
        number=job.attempt + 1, token=token, session=session.id, host=session.hello.host, sent_at=machine.now
    )
    attempts = (*job.attempts, attempt)
    sent = msgspec.structs.replace(
        job, state="sent", attempt=attempt.number, token=token, session=session.id, progress=None,
        attempts=attempts[-ATTEMPTS_LISTED:],
        earlier_attempts=job.earlier_attempts + max(len(attempts) - ATTEMPTS_LISTED, 0),
    )  # fmt: skip
    machine.waiting.remove(machine.ledger.changes, job)
    machine.ledger.changes.put(keys.active_key(job.id), session.id.encode())
    machine.ledger.replace(job, sent)
    session.active[token] = Active(sent, machine.ticks_of(session))
    machine.work.append(run_message(machine, sent))


def ask_back(machine: Machine, session: Session, tokens: list[str]) -> None:
    """Ask a session for jobs that it has not begun."""
    for token in tokens:
        session.active[token].asked_back = machine.ticks_of(session)
    machine.work.append(messages.GiveBack(to=session.id, give_back=tokens))


def end_attempt(
    machine: Machine,
    session: Session,
    active: Active,
    outcome: AttemptOutcome,
    error: JobError | None,
    output: str = "",
    seconds: float | None = None,
) -> Job:
    """Return the job without its token, its last attempt ended; the caller decides its state."""
    job, last = active.job, active.job.attempts[-1]
    started = last.started_at
    if started is None and seconds is not None:
        started = max(machine.now - round(min(max(seconds, 0.0), 1e9) * 1e6), 0)
    attempt = msgspec.structs.replace(
        last, ended_at=machine.now, started_at=started, outcome=outcome, error=error,
        output=output[-MAX_OUTPUT_OF_ATTEMPT:],
    )  # fmt: skip
    del session.active[last.token]
    machine.ledger.changes.remove(keys.active_key(job.id))
    return msgspec.structs.replace(job, token=None, session=None, attempts=(*job.attempts[:-1], attempt))


def wait(machine: Machine, before: Job, job: Job, seconds: float | None) -> None:
    """→ pending. seconds: until it is due; None: it takes its former place."""
    run_at = job.run_at if seconds is None else machine.now + round(min(max(seconds, 0.0), MAX_AFTER_SECONDS) * 1e6)
    waits = msgspec.structs.replace(job, state="pending", run_at=run_at)
    machine.ledger.replace(before, waits)
    machine.waiting.add(machine.ledger.changes, waits)


def end(machine: Machine, before: Job, job: Job, state: State) -> None:
    """→ done, dead or cancelled. The next job of its key may run."""
    ended = msgspec.structs.replace(job, state=state, ended=machine.now, error=None if state == "done" else job.error)
    machine.ledger.replace(before, ended)
    machine.upkeep.ended(machine.now)
    if ended.unique is not None:
        machine.ledger.changes.remove(keys.unique_key(ended.unique))
    if machine.limits.publishes:
        machine.outbox.put_outcome(machine, ended)
    following = machine.ledger.leave_key(ended)
    if following is not None and following.state == "pending":
        machine.waiting.add(machine.ledger.changes, following)


def update(machine: Machine, active: Active, **members: object) -> None:
    """Write what changed in a job that a session has."""
    before = active.job
    active.job = msgspec.structs.replace(before, **members)
    machine.ledger.replace(before, active.job)


def delay(machine: Machine, tries: int) -> float:
    delay: float = min(FIRST_DELAY_SECONDS * 2.0 ** min(tries - 1, 20), MAX_DELAY_SECONDS)
    spread: float = SPREAD * (2 * machine.chance() - 1)
    return delay * (1 + spread)


def stop(machine: Machine, active: Active, reason: str) -> None:
    job = active.job
    active.stopped = machine.ticks_of(machine.session_of(job))
    machine.work.append(messages.Stop(to=job.session or "", stop=[job.token or ""], reason=reason))


def send_again(machine: Machine, session: Session, tokens: Iterable[str]) -> None:
    for token in list(tokens):
        active = session.active[token]
        active.sent = machine.ticks_of(session)
        machine.work.append(run_message(machine, active.job))
        if active.job.is_stopping:
            stop(machine, active, "cancelled")


def run_message(machine: Machine, job: Job) -> messages.Run:
    payload = machine.ledger.changes.get(keys.payload_key(job.id))
    return messages.Run(
        to=job.session or "", job=job.id, type=job.type, attempt=job.attempt, max_attempts=job.max_attempts,
        token=job.token or "", timeout=job.timeout, payload=msgspec.Raw(payload or b"null"),
    )  # fmt: skip

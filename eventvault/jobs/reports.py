"""What workers report, and what becomes of jobs by it. Only a report with the live token of a job counts. Pure."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

import msgspec

from eventvault.jobs import arrows, asking, keys, messages
from eventvault.jobs.job import JobError
from eventvault.jobs.messages import Report
from eventvault.jobs.sessions import LEASE_TICKS, Active, Session
from eventvault.jobs.submissions import BUILT_IN
from eventvault.jobs.transport import Received

if TYPE_CHECKING:
    from eventvault.jobs.machine import Machine

PROGRESS_SECONDS = 1.0
_encoder = msgspec.json.Encoder()
_OfAttempt = messages.Started | messages.Progressed | messages.Done | messages.Failed | messages.Returned


def take(machine: Machine, received: Received) -> None:
    """Take in one report. Its position is written with what follows from it."""
    report = received.report
    if received.position is not None:
        machine.read_to(received.position)
    if isinstance(report, messages.Tick):
        if received.position is None or report.dispatcher == machine.dispatcher:
            _tick(machine, is_remote=received.position is not None)
    elif isinstance(report, messages.Hello):
        _hello(machine, report, is_remote=received.position is not None)
    else:
        session = machine.sessions.get(report.session)
        if session is None:
            _refuse_session(machine, report)
        else:
            session.heard = machine.ticks_of(session)
            _of_session(machine, session, report)


def _of_session(machine: Machine, session: Session, report: Report) -> None:
    if isinstance(report, messages.Beat):
        _beat(machine, session, report)
    elif isinstance(report, messages.Bye):
        _bye(machine, session)
    elif isinstance(
        report, messages.Started | messages.Progressed | messages.Done | messages.Failed | messages.Returned
    ):
        active = session.active.get(report.token)
        if active is None or active.job.id != report.job:
            _refuse_report(machine, session, report)
        else:
            _of_job(machine, session, active, report)


def _of_job(
    machine: Machine,
    session: Session,
    active: Active,
    report: _OfAttempt,
) -> None:
    match report:
        case messages.Done():
            session.ran(report.seconds)
            _done(machine, session, active, report)
        case messages.Failed():
            session.ran(report.seconds)
            _failed(machine, session, active, report)
        case messages.Returned():
            _give_back(machine, session, active, JobError("returned", "the worker handed the job back"))
        case messages.Started():
            _started(machine, active, report)
        case messages.Progressed():
            _progressed(machine, active, report)


def _hello(machine: Machine, hello: messages.Hello, *, is_remote: bool) -> None:
    """Take a session in. The types of the service's own run beside its folders, so no topic says what they are."""
    if is_remote:
        hello = msgspec.structs.replace(hello, types=[each for each in hello.types if each.name not in BUILT_IN])
    session = machine.sessions.get(hello.session)
    if session is None:
        session = machine.sessions[hello.session] = Session(hello, 0, machine.moment, is_remote=is_remote)
    session.greet(hello)
    session.heard = machine.ticks_of(session)
    for job_type in hello.types:
        if machine.pauses_new and job_type.name not in machine.types:
            asking.pause(machine, job_type.name)
        if machine.types.get(job_type.name) != job_type:
            machine.types[job_type.name] = job_type
            machine.ledger.changes.put(keys.known_type_key(job_type.name), _encoder.encode(job_type))
    machine.schedules.declare(machine, set(session.types), hello.schedules)
    machine.store(session)
    machine.serve()
    _stop_unknown(machine, session, hello.received)
    received = set(hello.received)
    arrows.send_again(machine, session, [token for token in session.active if token not in received])


def _beat(machine: Machine, session: Session, beat: messages.Beat) -> None:
    _stop_unknown(machine, session, beat.have)
    have, ticks = set(beat.have), machine.ticks_of(session)
    missing = [
        token for token, active in session.active.items() if token not in have and ticks - active.sent >= LEASE_TICKS
    ]
    arrows.send_again(machine, session, missing)
    for token in have:
        active = session.active.get(token)
        if active is not None and active.job.is_stopping and ticks - (active.stopped or 0) >= LEASE_TICKS:
            arrows.stop(machine, active, "cancelled")


def _bye(machine: Machine, session: Session) -> None:
    """What was sent to a session that had ended was never run."""
    for active in list(session.active.values()):
        _give_back(machine, session, active, JobError("returned", "the worker ended before it got the job"))
    machine.remove(session)


def _tick(machine: Machine, *, is_remote: bool) -> None:
    machine.ticks[is_remote] += 1
    for session in list(machine.sessions.values()):
        if session.is_remote == is_remote and machine.ticks_of(session) - session.heard >= LEASE_TICKS:
            _lose(machine, session)


def _started(machine: Machine, active: Active, report: messages.Started) -> None:
    started = max(machine.now - round(min(max(report.seconds_ago, 0.0), 1e9) * 1e6), 0)
    attempt = msgspec.structs.replace(active.job.attempts[-1], started_at=started)
    arrows.update(machine, active, state="running", attempts=(*active.job.attempts[:-1], attempt))


def _progressed(machine: Machine, active: Active, report: messages.Progressed) -> None:
    """Progress that comes too soon after the last one is not written: a worker sends one a second."""
    if machine.moment - active.progressed >= PROGRESS_SECONDS / 2:
        active.progressed = machine.moment
        arrows.update(machine, active, progress=report.progress)


def _done(machine: Machine, session: Session, active: Active, report: messages.Done) -> None:
    job = arrows.end_attempt(machine, session, active, "done", None, report.output, report.seconds)
    changes = machine.ledger.changes
    changes.put(keys.result_key(job.id), bytes(report.result))
    changes.remove(keys.payload_key(job.id))
    arrows.end(machine, active.job, job, "done")


def _failed(machine: Machine, session: Session, active: Active, report: messages.Failed) -> None:
    job = arrows.end_attempt(machine, session, active, report.outcome, report.error, report.output, report.seconds)
    if job.is_stopping:
        arrows.end(machine, active.job, job, "cancelled")
        return
    tries = job.tries + 1
    job = msgspec.structs.replace(job, tries=tries, error=report.error)
    if not report.retry or tries >= job.max_attempts:
        arrows.end(machine, active.job, job, "dead")
    else:
        arrows.wait(machine, active.job, job, arrows.delay(machine, tries) if report.after is None else report.after)


def _give_back(machine: Machine, session: Session, active: Active, error: JobError) -> None:
    job = arrows.end_attempt(machine, session, active, "returned", error)
    if job.is_stopping:
        arrows.end(machine, active.job, job, "cancelled")
    else:
        arrows.wait(machine, active.job, job, None)


def _lose(machine: Machine, session: Session) -> None:
    """Let the jobs of a session that is not heard any more go on elsewhere."""
    for active in list(session.active.values()):
        error = JobError("worker_lost", f"the worker on {session.hello.host} was not heard any more")
        job = arrows.end_attempt(machine, session, active, "lost", error)
        job = msgspec.structs.replace(job, tries=job.tries + 1, error=error)
        if job.is_stopping:
            arrows.end(machine, active.job, job, "cancelled")
        elif job.tries >= job.max_attempts:
            arrows.end(machine, active.job, job, "dead")
        else:
            arrows.wait(machine, active.job, job, arrows.delay(machine, job.tries))
    machine.remove(session)


def _refuse_session(machine: Machine, report: Report) -> None:
    if isinstance(report, messages.Tick | messages.Bye):
        return
    if not isinstance(report, messages.Beat):
        machine.ledger.counts.refused += 1
    if report.session not in machine.fenced:
        machine.fenced.add(report.session)
        machine.work.append(messages.Fenced(to=report.session))


def _refuse_report(
    machine: Machine,
    session: Session,
    report: _OfAttempt,
) -> None:
    machine.ledger.counts.refused += 1
    if isinstance(report, messages.Started | messages.Progressed):
        machine.work.append(messages.Stop(to=session.id, stop=[report.token], reason="refused"))


def _stop_unknown(machine: Machine, session: Session, tokens: Iterable[str]) -> None:
    unknown = [token for token in tokens if token not in session.active]
    if unknown:
        machine.work.append(messages.Stop(to=session.id, stop=unknown, reason="refused"))

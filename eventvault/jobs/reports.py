"""Processes the reports of workers. A report about an attempt is used only if it has the job's live token. Pure."""

from __future__ import annotations

from collections.abc import Iterable

import msgspec

from eventvault.jobs import commands, keys, messages, transitions
from eventvault.jobs.job import JobError
from eventvault.jobs.lease import LEASE_TICKS
from eventvault.jobs.messages import Report
from eventvault.jobs.queue import JobQueue
from eventvault.jobs.sessions import Active, WorkerSession
from eventvault.jobs.submissions import BUILT_IN
from eventvault.jobs.transport import Received

PROGRESS_SECONDS = 1.0
_encoder = msgspec.json.Encoder()
_OfAttempt = messages.Started | messages.Progressed | messages.Done | messages.Failed | messages.Returned


def process(queue: JobQueue, received: Received) -> None:
    """Process one report. Its position is written together with the changes that it causes."""
    report = received.report
    if received.position is not None:
        queue.read_to(received.position)
    if isinstance(report, messages.Tick):
        if received.position is None or report.dispatcher == queue.dispatcher:
            _tick(queue, is_remote=received.position is not None)
    elif isinstance(report, messages.SessionHello):
        _hello(queue, report, is_remote=received.position is not None)
    else:
        session = queue.sessions.get(report.session)
        if session is None:
            _refuse_session(queue, report)
        else:
            session.heard = queue.ticks_of(session)
            _process_of_session(queue, session, report)


def _process_of_session(queue: JobQueue, session: WorkerSession, report: Report) -> None:
    if isinstance(report, messages.Beat):
        _beat(queue, session, report)
    elif isinstance(report, messages.Bye):
        _bye(queue, session)
    elif isinstance(report, _OfAttempt):
        active = session.active.get(report.token)
        if active is None or active.job.id != report.job:
            _refuse_report(queue, session, report)
        else:
            _process_of_job(queue, session, active, report)


def _process_of_job(queue: JobQueue, session: WorkerSession, active: Active, report: _OfAttempt) -> None:
    match report:
        case messages.Done():
            session.note_run(report.seconds)
            _done(queue, session, active, report)
        case messages.Failed():
            session.note_run(report.seconds)
            _failed(queue, session, active, report)
        case messages.Returned():
            _give_back(queue, session, active, JobError("returned", "the worker handed the job back"))
        case messages.Started():
            _started(queue, active, report)
        case messages.Progressed():
            _progressed(queue, active, report)


def _hello(queue: JobQueue, hello: messages.SessionHello, *, is_remote: bool) -> None:
    """Add or update a session. A remote session cannot offer built-in types: their jobs run beside the data folders."""
    if is_remote:
        types = [job_type for job_type in hello.types if job_type.name not in BUILT_IN]
        hello = msgspec.structs.replace(hello, types=types)
    session = queue.sessions.get(hello.session)
    if session is None:
        session = queue.sessions[hello.session] = WorkerSession(hello, 0, queue.moment, is_remote=is_remote)
    session.greet(hello)
    session.heard = queue.ticks_of(session)
    for job_type in hello.types:
        if queue.pauses_new and job_type.name not in queue.types:
            commands.pause(queue, job_type.name)
        if queue.types.get(job_type.name) != job_type:
            queue.types[job_type.name] = job_type
            queue.ledger.changes.put(keys.known_type_key(job_type.name), _encoder.encode(job_type))
    queue.schedules.declare(set(session.types), hello.schedules, queue.now)
    queue.store(session)
    queue.serve()
    _stop_unknown(queue, session, hello.received)
    received = set(hello.received)
    transitions.send_again(queue, session, [token for token in session.active if token not in received])


def _beat(queue: JobQueue, session: WorkerSession, beat: messages.Beat) -> None:
    _stop_unknown(queue, session, beat.have)
    have, ticks = set(beat.have), queue.ticks_of(session)
    missing = [
        token for token, active in session.active.items() if token not in have and ticks - active.sent >= LEASE_TICKS
    ]
    transitions.send_again(queue, session, missing)
    for token in have:
        active = session.active.get(token)
        if active is not None and active.job.is_stopping and ticks - (active.stopped or 0) >= LEASE_TICKS:
            transitions.stop(queue, active, "cancelled")


def _bye(queue: JobQueue, session: WorkerSession) -> None:
    """End a session. The jobs that it still has were never run."""
    for active in list(session.active.values()):
        _give_back(queue, session, active, JobError("returned", "the worker ended before it got the job"))
    queue.remove(session)


def _tick(queue: JobQueue, *, is_remote: bool) -> None:
    queue.ticks[is_remote] += 1
    for session in list(queue.sessions.values()):
        if session.is_remote == is_remote and queue.ticks_of(session) - session.heard >= LEASE_TICKS:
            _lose(queue, session)


def _started(queue: JobQueue, active: Active, report: messages.Started) -> None:
    started = max(queue.now - round(min(max(report.seconds_ago, 0.0), 1e9) * 1e6), 0)
    attempt = msgspec.structs.replace(active.job.attempts[-1], started_at=started)
    transitions.update(queue, active, state="running", attempts=(*active.job.attempts[:-1], attempt))


def _progressed(queue: JobQueue, active: Active, report: messages.Progressed) -> None:
    """Write the progress, unless it comes too soon after the last one: a worker should send one per second."""
    if queue.moment - active.progressed >= PROGRESS_SECONDS / 2:
        active.progressed = queue.moment
        transitions.update(queue, active, progress=report.progress)


def _done(queue: JobQueue, session: WorkerSession, active: Active, report: messages.Done) -> None:
    job = transitions.end_attempt(queue, session, active, "done", None, report.output, report.seconds)
    changes = queue.ledger.changes
    changes.put(keys.result_key(job.id), bytes(report.result))
    changes.remove(keys.payload_key(job.id))
    transitions.end(queue, active.job, job, "done")


def _failed(queue: JobQueue, session: WorkerSession, active: Active, report: messages.Failed) -> None:
    job = transitions.end_attempt(queue, session, active, report.outcome, report.error, report.output, report.seconds)
    if job.is_stopping:
        transitions.end(queue, active.job, job, "cancelled")
        return
    tries = job.tries + 1
    job = msgspec.structs.replace(job, tries=tries, error=report.error)
    if not report.retry or tries >= job.max_attempts:
        transitions.end(queue, active.job, job, "dead")
    else:
        seconds = transitions.delay(queue, tries) if report.after is None else report.after
        transitions.wait(queue, active.job, job, seconds)


def _give_back(queue: JobQueue, session: WorkerSession, active: Active, error: JobError) -> None:
    job = transitions.end_attempt(queue, session, active, "returned", error)
    if job.is_stopping:
        transitions.end(queue, active.job, job, "cancelled")
    else:
        transitions.wait(queue, active.job, job, None)


def _lose(queue: JobQueue, session: WorkerSession) -> None:
    """End a session that has not reported for too long. Its jobs are lost attempts, and run elsewhere."""
    for active in list(session.active.values()):
        error = JobError("worker_lost", f"the worker on {session.hello.host} did not report any more")
        job = transitions.end_attempt(queue, session, active, "lost", error)
        job = msgspec.structs.replace(job, tries=job.tries + 1, error=error)
        if job.is_stopping:
            transitions.end(queue, active.job, job, "cancelled")
        elif job.tries >= job.max_attempts:
            transitions.end(queue, active.job, job, "dead")
        else:
            transitions.wait(queue, active.job, job, transitions.delay(queue, job.tries))
    queue.remove(session)


def _refuse_session(queue: JobQueue, report: Report) -> None:
    if isinstance(report, messages.Tick | messages.Bye):
        return
    if not isinstance(report, messages.Beat):
        queue.ledger.counts.refused += 1
    if report.session not in queue.fenced:
        queue.fenced.add(report.session)
        queue.work.append(messages.Fenced(to=report.session))


def _refuse_report(queue: JobQueue, session: WorkerSession, report: _OfAttempt) -> None:
    queue.ledger.counts.refused += 1
    if isinstance(report, messages.Started | messages.Progressed):
        queue.work.append(messages.Stop(to=session.id, stop=[report.token], reason="refused"))


def _stop_unknown(queue: JobQueue, session: WorkerSession, tokens: Iterable[str]) -> None:
    unknown = [token for token in tokens if token not in session.active]
    if unknown:
        queue.work.append(messages.Stop(to=session.id, stop=unknown, reason="refused"))

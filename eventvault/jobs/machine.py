"""Decides what becomes of jobs. Pure: state, what arrived and the clocks go in; changes and messages come out.

A turn is `begin`, any number of requests and reports, and `finish`. What it decided counts once its changes are on
disk; only then its messages are sent. After a failed write the machine is made anew from what is on disk.

Two clocks are passed in. Instants, for what is due, are compared with instants of the same clock alone. Moments
(monotonic) measure how long a worker is idle. Leases are counted in ticks, which the transport delivers.
"""

from __future__ import annotations

import hashlib
import math
import random
import secrets
from collections.abc import Callable, Iterable, Sequence
from itertools import islice
from typing import NamedTuple

import msgspec

from eventvault.errors import JobQueueFull
from eventvault.jobs import dispatch, keys, messages
from eventvault.jobs.database import Ticks
from eventvault.jobs.job import (
    ATTEMPTS_KEPT,
    MAX_ATTEMPTS,
    MAX_OUTPUT_OF_ATTEMPT,
    TIMEOUT_SECONDS,
    Attempt,
    AttemptOutcome,
    Job,
    JobError,
    JobRequest,
    JobSchedule,
    JobType,
    Origin,
    State,
)
from eventvault.jobs.ledger import Ledger
from eventvault.jobs.messages import Report, Work
from eventvault.jobs.outbox import Outbox
from eventvault.jobs.port import Changed, SubmitResult
from eventvault.jobs.schedule import Schedules, StoredSchedule
from eventvault.jobs.sessions import LEASE_TICKS, Active, Session, StoredSession
from eventvault.jobs.transport import Position, Received
from eventvault.jobs.upkeep import Upkeep
from eventvault.jobs.view import Reader
from eventvault.jobs.waiting import PAGE, WaitingQueues

DAY = 86_400_000_000
MAX_UNFINISHED = 1_000_000
FIRST_DELAY_SECONDS = 1.0
MAX_DELAY_SECONDS = 3_600.0
SPREAD = 0.25
"""By how much of itself a delay before the next try varies, so that jobs that failed together come back apart."""
MAX_AFTER_SECONDS = 10 * 365 * 86_400.0
PROGRESS_SECONDS = 1.0
_DIGEST_BYTES = 16
_encoder = msgspec.json.Encoder()


class Limits(msgspec.Struct, frozen=True, kw_only=True):
    """Settings of the machine. keep, keep_dead: how long jobs that ended, or died, stay; keep_max: how many of both.

    unknown_after: a job dies that waits for so long for a worker that knows its type. All spans in microseconds.
    publishes: outcomes go to a topic. refused_from_kafka: types that no message of `jobs` may have.
    """

    max_unfinished: int = MAX_UNFINISHED
    keep: int = 30 * DAY
    keep_dead: int = 90 * DAY
    keep_max: int = 1_000_000
    unknown_after: int = DAY
    publishes: bool = False
    refused_from_kafka: frozenset[str] = frozenset()


class Decision(NamedTuple):
    """What a turn decided. turn: its number, which is among the changes."""

    turn: int
    changes: dict[bytes, bytes | None]
    work: list[Work]


class Machine:
    """The jobs of one `jobs_db`. It belongs to one thread."""

    def __init__(
        self,
        reader: Reader,
        limits: Limits,
        *,
        make_token: Callable[[], str] = lambda: secrets.token_hex(8),
        chance: Callable[[], float] = random.random,
    ) -> None:
        """make_token: returns a text that it never returned before. chance: returns a number from 0 to 1."""
        self.ledger = Ledger(reader)
        self.waiting = WaitingQueues()
        self.sessions: dict[str, Session] = {}
        self.types: dict[str, JobType] = {}
        self.paused: set[str] = set()
        self.dispatcher = ""
        self.ticks = {False: 0, True: 0}
        """Ticks that were read, of the transport without positions and of the one with them."""
        self.now = 0
        self.moment = 0.0
        self.limits = limits
        self._make_token = make_token
        self._chance = chance
        self._turn = 0
        self.is_held = False
        """Whether nothing is sent or fired until somebody resumes."""
        self._is_releasing = False
        self._schedules = Schedules()
        self.upkeep = Upkeep()
        self.outbox = Outbox()
        self._work: list[Work] = []
        self._fenced: set[str] = set()
        self._ticks_on_disk = Ticks()

    # A turn

    def load(self, moment: float) -> None:
        """Take over what is on disk. What was sent is sent again with the next turn."""
        changes = self.ledger.changes
        self.dispatcher = (changes.get(keys.META_DISPATCHER) or b"").decode()
        self._ticks_on_disk = msgspec.json.decode(changes.get(keys.TICKS) or b"{}", type=Ticks)
        self.ticks = {False: self._ticks_on_disk.local, True: self._ticks_on_disk.number}
        self._turn = self._ticks_on_disk.turn
        for _, value in changes.scan(keys.KNOWN_TYPE, keys.behind(keys.KNOWN_TYPE)):
            job_type = msgspec.json.decode(value, type=JobType)
            self.types[job_type.name] = job_type
        self._is_releasing = changes.get(keys.META_RELEASE) is not None
        self.is_held = changes.get(keys.META_HELD) is not None
        self.paused = {key[1:].decode() for key, _ in changes.scan(keys.PAUSED, keys.behind(keys.PAUSED))}
        for _, value in changes.scan(keys.SESSION, keys.behind(keys.SESSION)):
            stored = msgspec.json.decode(value, type=StoredSession)
            session = Session(stored.hello, stored.heard, moment, is_remote=stored.is_remote)
            self.sessions[session.id] = session
        for key, _ in changes.scan(keys.ACTIVE, keys.behind(keys.ACTIVE)):
            job = self.ledger.existing(key[1:].decode())
            session = self._session_of(job)
            session.active[job.token or ""] = Active(job, self._ticks_of(session))
        self._schedules.load(self)
        self.upkeep.start(moment)
        self._serve()
        for session in self.sessions.values():
            self._send_again(session, session.active)

    def begin(self, now: int, moment: float) -> None:
        """Begin a turn. now: an instant. moment: monotonic, in seconds."""
        self.now, self.moment = now, moment

    def finish(self) -> Decision:
        """Decide what is sent, and end the turn."""
        if not self.is_held:
            self._schedules.fire_due(self)
        self.upkeep.turn(self)
        if self._is_releasing:
            self._release()
        if not self.is_held:
            dispatch.dispatch(self)
        for session in self.sessions.values():
            if session.heard != session.heard_on_disk:
                self._store(session)
        changes = self.ledger.finish_turn()
        ticks = Ticks(self.ticks[True], self.ticks[False], self._turn)
        if changes or ticks != self._ticks_on_disk:
            self._turn += 1
            self._ticks_on_disk = msgspec.structs.replace(ticks, turn=self._turn)
            changes[keys.TICKS] = _encoder.encode(self._ticks_on_disk)
        work, self._work = self._work, []
        self._fenced.clear()
        return Decision(self._turn, changes, work)

    def seconds_until_due(self) -> float:
        """Return how long there is nothing to do, if nothing arrives."""
        if self._is_releasing or self.upkeep.has_more:
            return 0.0
        if self.is_held:
            return math.inf
        firing = self._schedules.next_firing
        until_firing = math.inf if firing is None else max(firing - self.now, 0) / 1e6
        return min(until_firing, dispatch.seconds_until_due(self))

    @property
    def is_full(self) -> bool:
        return self.ledger.counts.unfinished >= self.limits.max_unfinished

    # What is asked for

    def submit(
        self, wanted: Sequence[JobRequest], by: str, origin: Origin = "api", schedule: str | None = None
    ) -> list[SubmitResult]:
        """Accept these jobs, which have ids and are checked. Raises JobQueueFull; then none is accepted."""
        if self.ledger.counts.unfinished + len(wanted) > self.limits.max_unfinished:
            raise JobQueueFull(
                f"{self.ledger.counts.unfinished} jobs are unfinished, at most {self.limits.max_unfinished} can be",
                hint="start more workers, or cancel jobs that are not needed",
            )
        return [self.submit_one(request, by, origin, schedule) for request in wanted]

    def cancel(self, ids: Iterable[str]) -> list[Changed]:
        return [self._cancel(job_id, self.ledger.job(job_id)) for job_id in ids]

    def retry(self, ids: Iterable[str]) -> list[Changed]:
        return [self._retry(job_id, self.ledger.job(job_id)) for job_id in ids]

    def pause(self, job_type: str | None) -> list[str]:
        """Send no jobs of this type any more; of all types that are known, if None."""
        for name in [job_type] if job_type is not None else list(self.types):
            self.paused.add(name)
            self.ledger.changes.put(keys.paused_key(name), b"")
        return sorted(self.paused)

    def resume(self, job_type: str | None) -> list[str]:
        for name in [job_type] if job_type is not None else list(self.paused):
            self.paused.discard(name)
            self.ledger.changes.remove(keys.paused_key(name))
        if job_type is None:
            self.is_held, self._is_releasing = False, True
            self.ledger.changes.remove(keys.META_HELD)
            self.ledger.changes.put(keys.META_RELEASE, b"")
        return sorted(self.paused)

    def hold_all(self) -> None:
        """Send and fire nothing until somebody resumes: nobody knows what became of jobs meanwhile."""
        self.is_held = True
        self.ledger.changes.put(keys.META_HELD, b"")

    def _release(self) -> None:
        """Let a page of the held jobs wait for a worker."""
        prefix = keys.STATE + keys.IS_HELD
        page = [value for _, value in islice(self.ledger.changes.scan(prefix, keys.behind(prefix)), PAGE)]
        for value in page:
            job = self.ledger.existing(keys.read_state_value(value)[1])
            released = msgspec.structs.replace(job, state="pending")
            self.ledger.replace(job, released)
            if self.ledger.may_run(released):
                self.waiting.add(self.ledger.changes, released)
        if not page:
            self._is_releasing = False
            self.ledger.changes.remove(keys.META_RELEASE)

    def hold(self, job: Job, payload: bytes) -> bool:
        """Take a job over that another `jobs_db` had, to wait until it is resumed. Returns False if it is there."""
        if self.ledger.job(job.id) is not None:
            return False
        attempts = job.attempts
        if attempts and attempts[-1].outcome is None:
            attempts = (*attempts[:-1], msgspec.structs.replace(attempts[-1], outcome="lost", ended_at=self.now))
        held = msgspec.structs.replace(
            job, state="held", order=self.ledger.next_order(), line=0, token=None, session=None, attempts=attempts,
            origin="recovered",
        )  # fmt: skip
        if held.unique is not None:
            self.ledger.changes.put(keys.unique_key(held.unique), held.id.encode())
        self.ledger.add(held, payload)
        self.ledger.enter_key(held)
        if held.is_stopping:
            self._end(held, held, "cancelled")
        return True

    def submit_one(self, request: JobRequest, by: str, origin: Origin, schedule: str | None = None) -> SubmitResult:
        """Accept a job, which has an id and is checked, even if the queue is full."""
        assert request.id is not None
        digest = digest_of(request)
        there = self.ledger.job(request.id)
        if there is not None:
            self.ledger.counts.duplicates += 1
            return SubmitResult(there.id, there.state, duplicate=True, differs=there.digest != digest)
        if request.unique is not None:
            holder = self.ledger.changes.get(keys.unique_key(request.unique))
            if holder is not None:
                self.ledger.counts.duplicates += 1
                other = self.ledger.existing(holder.decode())
                return SubmitResult(other.id, other.state, duplicate=True, differs=other.digest != digest)
            self.ledger.changes.put(keys.unique_key(request.unique), request.id.encode())
        job = self._new_job(request, digest, by, origin, schedule)
        self.ledger.add(job, bytes(request.payload))
        if self.ledger.enter_key(job):
            self.waiting.add(self.ledger.changes, job)
        return SubmitResult(job.id, job.state)

    def put_schedule(self, schedule: JobSchedule) -> JobSchedule:
        """Raises InvalidInput for a zone or cron that is none or never fires; JobScheduleInCode."""
        return self._schedules.put(self, schedule)

    def take_schedule(self, stored: StoredSchedule) -> None:
        """Take a schedule over that another `jobs_db` had, and which of its firings are over."""
        self._schedules.take(self, stored)

    def take_position(self, position: Position) -> None:
        """Read a topic on where another `jobs_db` was, unless this one has read it."""
        if self.ledger.changes.get(keys.position_key(position.topic, position.partition)) is None:
            self.read_to(position)

    def is_new(self) -> bool:
        """Return whether nothing was taken over from another `jobs_db` yet."""
        return self.ledger.changes.get(keys.META_NEW) is not None

    def take_nothing_more(self) -> None:
        self.ledger.changes.remove(keys.META_NEW)

    def delete_schedule(self, name: str) -> None:
        """Raises JobScheduleNotFound, or JobScheduleInCode."""
        self._schedules.delete(self, name)

    def end_unknown(self, job_id: str, error: JobError) -> None:
        """End a waiting job whose type no worker ever named."""
        job = self.ledger.existing(job_id)
        self.waiting.remove(self.ledger.changes, job)
        self._end(job, msgspec.structs.replace(job, error=error), "dead")

    def _new_job(self, request: JobRequest, digest: str, by: str, origin: Origin, schedule: str | None) -> Job:
        assert request.id is not None
        known = self.types.get(request.type)
        run_at = self.now if request.delay is None else self.now + round(request.delay * 1e6)
        return Job(
            id=request.id, type=request.type, order=self.ledger.next_order(), state="pending", created=self.now,
            run_at=run_at if request.run_at is None else max(request.run_at, 0),
            digest=digest, origin=origin, by=by, priority=request.priority, key=request.key, unique=request.unique,
            max_attempts=request.max_attempts or (known.max_attempts if known else MAX_ATTEMPTS),
            timeout=request.timeout or (known.timeout if known else TIMEOUT_SECONDS), schedule=schedule,
        )  # fmt: skip

    def _cancel(self, job_id: str, job: Job | None) -> Changed:
        if job is None:
            return Changed(job_id, "unknown")
        if job.is_final:
            return Changed(job_id, "unchanged", job.state)
        if job.state in ("pending", "held"):
            if job.state == "pending" and self.ledger.may_run(job):
                self.waiting.remove(self.ledger.changes, job)
            self._end(job, job, "cancelled")
            return Changed(job_id, "changed", "cancelled")
        active = self._session_of(job).active[job.token or ""]
        if not job.is_stopping:
            self._update(active, is_stopping=True)
            self._stop(active, "cancelled")
        return Changed(job_id, "stopping", job.state)

    def _retry(self, job_id: str, job: Job | None) -> Changed:
        if job is None:
            return Changed(job_id, "unknown")
        changes = self.ledger.changes
        is_second = job.unique is not None and changes.get(keys.unique_key(job.unique)) is not None
        if job.state not in ("dead", "cancelled") or is_second:
            return Changed(job_id, "unchanged", job.state)
        again = msgspec.structs.replace(
            job, state="pending", run_at=self.now, tries=0, error=None, ended=None, is_stopping=False,
            line=self.ledger.next_order(),
        )  # fmt: skip
        if job.unique is not None:
            changes.put(keys.unique_key(job.unique), job.id.encode())
        self.ledger.replace(job, again)
        if self.ledger.enter_key(again):
            self.waiting.add(changes, again)
        return Changed(job_id, "changed", "pending")

    # What workers report

    def report(self, received: Received) -> None:
        """Take in one report. Its position is written with what follows from it."""
        report = received.report
        if received.position is not None:
            self.read_to(received.position)
        if isinstance(report, messages.Tick):
            if received.position is None or report.dispatcher == self.dispatcher:
                self._tick(is_remote=received.position is not None)
        elif isinstance(report, messages.Hello):
            self._hello(report, is_remote=received.position is not None)
        else:
            session = self.sessions.get(report.session)
            if session is None:
                self._refuse_session(report)
            else:
                session.heard = self._ticks_of(session)
                self._of_session(session, report)

    def _of_session(self, session: Session, report: Report) -> None:
        if isinstance(report, messages.Beat):
            self._beat(session, report)
        elif isinstance(report, messages.Bye):
            self._bye(session)
        elif isinstance(
            report, messages.Started | messages.Progressed | messages.Done | messages.Failed | messages.Returned
        ):
            active = session.active.get(report.token)
            if active is None or active.job.id != report.job:
                self._refuse_report(session, report)
            else:
                self._of_job(session, active, report)

    def _of_job(
        self,
        session: Session,
        active: Active,
        report: messages.Started | messages.Progressed | messages.Done | messages.Failed | messages.Returned,
    ) -> None:
        match report:
            case messages.Done():
                session.ran(report.seconds)
                self._done(session, active, report)
            case messages.Failed():
                session.ran(report.seconds)
                self._failed(session, active, report)
            case messages.Returned():
                self._give_back(session, active, JobError("returned", "the worker handed the job back"))
            case messages.Started():
                self._started(active, report)
            case messages.Progressed():
                self._progressed(active, report)

    def _hello(self, hello: messages.Hello, *, is_remote: bool) -> None:
        session = self.sessions.get(hello.session)
        if session is None:
            session = self.sessions[hello.session] = Session(hello, 0, self.moment, is_remote=is_remote)
        session.greet(hello)
        session.heard = self._ticks_of(session)
        for job_type in hello.types:
            if self.types.get(job_type.name) != job_type:
                self.types[job_type.name] = job_type
                self.ledger.changes.put(keys.known_type_key(job_type.name), _encoder.encode(job_type))
        self._schedules.declare(self, set(session.types), hello.schedules)
        self._store(session)
        self._serve()
        self._stop_unknown(session, hello.received)
        received = set(hello.received)
        self._send_again(session, [token for token in session.active if token not in received])

    def _beat(self, session: Session, beat: messages.Beat) -> None:
        self._stop_unknown(session, beat.have)
        have, ticks = set(beat.have), self._ticks_of(session)
        missing = [
            token
            for token, active in session.active.items()
            if token not in have and ticks - active.sent >= LEASE_TICKS
        ]
        self._send_again(session, missing)
        for token in have:
            active = session.active.get(token)
            if active is not None and active.job.is_stopping and ticks - (active.stopped or 0) >= LEASE_TICKS:
                self._stop(active, "cancelled")

    def _bye(self, session: Session) -> None:
        """What was sent to a session that had ended was never run."""
        for active in list(session.active.values()):
            self._give_back(session, active, JobError("returned", "the worker ended before it got the job"))
        self._remove(session)

    def _tick(self, *, is_remote: bool) -> None:
        self.ticks[is_remote] += 1
        for session in list(self.sessions.values()):
            if session.is_remote == is_remote and self._ticks_of(session) - session.heard >= LEASE_TICKS:
                self._lose(session)

    def _started(self, active: Active, report: messages.Started) -> None:
        started = max(self.now - round(min(max(report.seconds_ago, 0.0), 1e9) * 1e6), 0)
        attempt = msgspec.structs.replace(active.job.attempts[-1], started_at=started)
        self._update(active, state="running", attempts=(*active.job.attempts[:-1], attempt))

    def _progressed(self, active: Active, report: messages.Progressed) -> None:
        """Progress that comes too soon after the last one is not written: a worker sends one a second."""
        if self.moment - active.progressed >= PROGRESS_SECONDS / 2:
            active.progressed = self.moment
            self._update(active, progress=report.progress)

    def _done(self, session: Session, active: Active, report: messages.Done) -> None:
        job = self._end_attempt(session, active, "done", None, report.output, report.seconds)
        changes = self.ledger.changes
        changes.put(keys.result_key(job.id), bytes(report.result))
        changes.remove(keys.payload_key(job.id))
        self._end(active.job, job, "done")

    def _failed(self, session: Session, active: Active, report: messages.Failed) -> None:
        job = self._end_attempt(session, active, report.outcome, report.error, report.output, report.seconds)
        if job.is_stopping:
            self._end(active.job, job, "cancelled")
            return
        tries = job.tries + 1
        job = msgspec.structs.replace(job, tries=tries, error=report.error)
        if not report.retry or tries >= job.max_attempts:
            self._end(active.job, job, "dead")
        else:
            self._wait(active.job, job, self._delay(tries) if report.after is None else report.after)

    def _give_back(self, session: Session, active: Active, error: JobError) -> None:
        job = self._end_attempt(session, active, "returned", error)
        if job.is_stopping:
            self._end(active.job, job, "cancelled")
        else:
            self._wait(active.job, job, None)

    def _lose(self, session: Session) -> None:
        """Let the jobs of a session that is not heard any more go on elsewhere."""
        for active in list(session.active.values()):
            error = JobError("worker_lost", f"the worker on {session.hello.host} was not heard any more")
            job = self._end_attempt(session, active, "lost", error)
            job = msgspec.structs.replace(job, tries=job.tries + 1, error=error)
            if job.is_stopping:
                self._end(active.job, job, "cancelled")
            elif job.tries >= job.max_attempts:
                self._end(active.job, job, "dead")
            else:
                self._wait(active.job, job, self._delay(job.tries))
        self._remove(session)

    # Arrows

    def send(self, session: Session, job: Job) -> None:
        """pending → sent: one more attempt, with a token of its own, is on record before it can begin."""
        token = self._make_token()
        attempt = Attempt(
            number=job.attempt + 1, token=token, session=session.id, host=session.hello.host, sent_at=self.now
        )
        attempts = (*job.attempts, attempt)
        sent = msgspec.structs.replace(
            job, state="sent", attempt=attempt.number, token=token, session=session.id, progress=None,
            attempts=attempts[-ATTEMPTS_KEPT:],
            earlier_attempts=job.earlier_attempts + max(len(attempts) - ATTEMPTS_KEPT, 0),
        )  # fmt: skip
        self.waiting.remove(self.ledger.changes, job)
        self.ledger.changes.put(keys.active_key(job.id), session.id.encode())
        self.ledger.replace(job, sent)
        session.active[token] = Active(sent, self._ticks_of(session))
        self._work.append(self._run(sent))

    def ask_back(self, session: Session, tokens: list[str]) -> None:
        """Ask a session for jobs that it has not begun."""
        for token in tokens:
            session.active[token].asked_back = self._ticks_of(session)
        self._work.append(messages.GiveBack(to=session.id, give_back=tokens))

    def _end_attempt(
        self,
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
            started = max(self.now - round(min(max(seconds, 0.0), 1e9) * 1e6), 0)
        attempt = msgspec.structs.replace(
            last, ended_at=self.now, started_at=started, outcome=outcome, error=error,
            output=output[-MAX_OUTPUT_OF_ATTEMPT:],
        )  # fmt: skip
        del session.active[last.token]
        self.ledger.changes.remove(keys.active_key(job.id))
        return msgspec.structs.replace(job, token=None, session=None, attempts=(*job.attempts[:-1], attempt))

    def _wait(self, before: Job, job: Job, seconds: float | None) -> None:
        """→ pending. seconds: until it is due; None: it takes its former place."""
        run_at = job.run_at if seconds is None else self.now + round(min(max(seconds, 0.0), MAX_AFTER_SECONDS) * 1e6)
        waits = msgspec.structs.replace(job, state="pending", run_at=run_at)
        self.ledger.replace(before, waits)
        self.waiting.add(self.ledger.changes, waits)

    def _end(self, before: Job, job: Job, state: State) -> None:
        """→ done, dead or cancelled. The next job of its key may run."""
        ended = msgspec.structs.replace(job, state=state, ended=self.now, error=None if state == "done" else job.error)
        self.ledger.replace(before, ended)
        self.upkeep.ended(self.now)
        if ended.unique is not None:
            self.ledger.changes.remove(keys.unique_key(ended.unique))
        if self.limits.publishes:
            self.outbox.put_outcome(self, ended)
        following = self.ledger.leave_key(ended)
        if following is not None and following.state == "pending":
            self.waiting.add(self.ledger.changes, following)

    def _update(self, active: Active, **members: object) -> None:
        """Write what changed in a job that a session has."""
        before = active.job
        active.job = msgspec.structs.replace(before, **members)
        self.ledger.replace(before, active.job)

    def _delay(self, tries: int) -> float:
        delay: float = min(FIRST_DELAY_SECONDS * 2.0 ** min(tries - 1, 20), MAX_DELAY_SECONDS)
        spread: float = SPREAD * (2 * self._chance() - 1)
        return delay * (1 + spread)

    # Sessions

    def _ticks_of(self, session: Session) -> int:
        return self.ticks[session.is_remote]

    def _session_of(self, job: Job) -> Session:
        return self.sessions[job.session or ""]

    def _store(self, session: Session) -> None:
        session.heard_on_disk = session.heard
        self.ledger.changes.put(keys.session_key(session.id), _encoder.encode(session.stored))

    def _remove(self, session: Session) -> None:
        del self.sessions[session.id]
        self.ledger.changes.remove(keys.session_key(session.id))
        self._serve()

    def _serve(self) -> None:
        """Hold the queues of the types that living workers run."""
        self.waiting.serve({name for session in self.sessions.values() for name in session.types})

    def _refuse_session(self, report: Report) -> None:
        if isinstance(report, messages.Tick | messages.Bye):
            return
        if not isinstance(report, messages.Beat):
            self.ledger.counts.refused += 1
        if report.session not in self._fenced:
            self._fenced.add(report.session)
            self._work.append(messages.Fenced(to=report.session))

    def _refuse_report(
        self,
        session: Session,
        report: messages.Started | messages.Progressed | messages.Done | messages.Failed | messages.Returned,
    ) -> None:
        self.ledger.counts.refused += 1
        if isinstance(report, messages.Started | messages.Progressed):
            self._work.append(messages.Stop(to=session.id, stop=[report.token], reason="refused"))

    def _stop_unknown(self, session: Session, tokens: Iterable[str]) -> None:
        unknown = [token for token in tokens if token not in session.active]
        if unknown:
            self._work.append(messages.Stop(to=session.id, stop=unknown, reason="refused"))

    def _stop(self, active: Active, reason: str) -> None:
        job = active.job
        active.stopped = self._ticks_of(self._session_of(job))
        self._work.append(messages.Stop(to=job.session or "", stop=[job.token or ""], reason=reason))

    def _send_again(self, session: Session, tokens: Iterable[str]) -> None:
        for token in list(tokens):
            active = session.active[token]
            active.sent = self._ticks_of(session)
            self._work.append(self._run(active.job))
            if active.job.is_stopping:
                self._stop(active, "cancelled")

    def _run(self, job: Job) -> messages.Run:
        payload = self.ledger.changes.get(keys.payload_key(job.id))
        return messages.Run(
            to=job.session or "", job=job.id, type=job.type, attempt=job.attempt, max_attempts=job.max_attempts,
            token=job.token or "", timeout=job.timeout, payload=msgspec.Raw(payload or b"null"),
        )  # fmt: skip

    def read_to(self, position: Position) -> None:
        key = keys.position_key(position.topic, position.partition)
        self.ledger.changes.put(key, _encoder.encode(position))


def digest_of(request: JobRequest) -> str:
    """Return what tells whether a second request with one id is the same."""
    text = _encoder.encode(msgspec.structs.replace(request, id=None))
    return hashlib.blake2b(text, digest_size=_DIGEST_BYTES).hexdigest()

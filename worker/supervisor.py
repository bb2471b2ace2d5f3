"""The supervisor: receives attempts from the dispatcher, has executors run them, and reports. It runs no user code.

It has one thread and one selector for the transport, the executors, their output, and signals. It enforces the
deadlines of attempts, of handlers that must end, and of the worker's own end.
"""

from __future__ import annotations

import logging
import os
import secrets
import selectors
import signal
import socket
import time
from collections import Counter, defaultdict
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from math import inf

import msgspec

from eventvault.jobs.job import JobError
from eventvault.jobs.lease import tick_seconds
from eventvault.jobs.messages import (
    Beat,
    Bye,
    Done,
    Failed,
    Fenced,
    GiveBack,
    Progressed,
    Report,
    Run,
    SessionHello,
    Started,
    Stop,
    Work,
)
from eventvault.jobs.transport import TransportAway, WorkerTransport
from worker.pool import Pool, Slot
from worker.protocol import WORKER_NAME, Declared, ExecutorReport, Outcome, StopReason, timed_out
from worker.session import SupervisorSession, cancelled, returned

log = logging.getLogger("worker")

GRACE_SECONDS = 5.0
"""How long a handler may still run after the exception that ends it."""
STARTED_SECONDS = 0.02
PROGRESS_SECONDS = 1.0
RETRY_SECONDS = 1.0
RECONNECT_SECONDS = 0.05
CLOSE_SECONDS = 5.0
LONGEST_WAIT = 1.0
"""Most seconds of one turn of the loop."""
MOST_WORK = 256
"""Most messages that are read from the transport at once."""
_REPLACING_ERRORS = ("job_memory", "job_left_processes")
"""Errors after which the process of the executor is replaced, because it may be damaged."""


class ModulesNotImported(Exception):
    """The modules with handlers cannot be imported; the message says which and why."""


@dataclass(frozen=True)
class Options:
    """Options of a supervisor. concurrency: number of executors. Times are in seconds.

    unreachable_seconds: it ends if the dispatcher cannot be reached for this long.
    """

    concurrency: int
    drain_seconds: float
    host: str = WORKER_NAME
    version: str = ""
    is_local: bool = False
    unreachable_seconds: float = inf
    beat_seconds: float = field(default_factory=tick_seconds)
    grace_seconds: float = GRACE_SECONDS


@dataclass
class AttemptCounts:
    """Counts for the metrics. ended: type and outcome → attempts. seconds: type → how long its handlers ran."""

    ended: Counter[tuple[str, str]] = field(default_factory=Counter)
    seconds: dict[str, float] = field(default_factory=lambda: defaultdict(float))
    executors_ended: int = 0
    sessions_fenced: int = 0


class Supervisor:
    """Runs until it has drained. Only `drain` may be called by a signal handler or another thread."""

    def __init__(
        self, transport: WorkerTransport, make_pool: Callable[[selectors.BaseSelector, Supervisor], Pool],
        options: Options, on_turn: Callable[[Supervisor], None] = lambda _: None,
        on_end: Callable[[], None] = lambda: None,
    ) -> None:  # fmt: skip
        """on_turn: called in each turn of the loop, at least once a second. on_end: called once it ends."""
        self.transport = transport
        self.options = options
        self.counts = AttemptCounts()
        self._on_turn = on_turn
        self._on_end = on_end
        self._selector = selectors.DefaultSelector()
        self._wake, self._waker = socket.socketpair()
        for end in (self._wake, self._waker):
            end.setblocking(False)
        self._selector.register(self._wake, selectors.EVENT_READ, lambda: self._wake.recv(4096))
        self.pool = make_pool(self._selector, self)
        self.session = SupervisorSession(_new_id())
        self._declared: Declared | None = None
        self._failure: str | None = None
        self._partition: int | None = None
        self._open_at = 0.0
        self._greeted: int | None = None
        """The transport's number of connections when the last hello was sent; None: send one."""
        self._beat_at = 0.0
        self._receive_at = 0.0
        self._reports: list[Report] = []
        self._progress: dict[str, tuple[float, Progressed | None]] = {}
        """Token → when the next progress may be reported, and the newest progress that was not reported."""
        self._is_drain_requested = False
        self._drain_until: float | None = None
        self._reachable_at = time.monotonic()

    def drain(self) -> None:
        """Begin no further attempt. `run` returns once the running attempts have ended or were returned."""
        self._is_drain_requested = True
        with suppress(OSError):
            self._waker.send(b"\0")

    def run(self) -> None:
        """Run attempts until `drain`. Raises ModulesNotImported if the modules cannot be imported at the start."""
        try:
            while not self._has_drained():
                self._turn()
            self._send_bye()
        finally:
            self._on_end()
            self.pool.close()
            self._selector.close()
            self._wake.close()
            self._waker.close()

    def _turn(self) -> None:
        for key, _ in self._selector.select(self._seconds_to_next(time.monotonic())):
            key.data()
        now = time.monotonic()
        if self._failure is not None:
            raise ModulesNotImported(self._failure)
        self._continue_drain(now)
        self._open(now)
        self.pool.tend(now)
        self._receive(now)
        self._end_if_unreachable(now)
        self._assign(now)
        self._check_times(now)
        self._send(now)
        self._on_turn(self)

    def _seconds_to_next(self, now: float) -> float:
        due = [now + LONGEST_WAIT]
        if self._partition is not None:
            due += [self._receive_at, self._beat_at]
        elif self._declared is not None:
            due.append(self._open_at)
        if (next_due := self.pool.next_due()) is not None:
            due.append(next_due)
        if self._drain_until is not None:
            due.append(self._drain_until)
        for slot in self.pool.busy:
            if slot.stop is None and slot.run is not None:
                due.append(slot.began + (slot.run.timeout if slot.is_started_reported else STARTED_SECONDS))
        due += [at for at, progress in self._progress.values() if progress is not None]
        return max(0.0, min(due) - now)

    # The dispatcher.

    def _open(self, now: float) -> None:
        """Open the transport once the modules are imported, and queue a hello for each new connection."""
        if self._declared is None or now < self._open_at:
            return
        if self._partition is None:
            try:
                self._partition = self.transport.open(self.session.id)
                self._receive_at = 0.0
            except TransportAway as error:
                self._open_at = now + RETRY_SECONDS
                log.debug("the dispatcher cannot be reached; it is retried: %s", error)
                return
            with suppress(KeyError):  # registered for an earlier session
                self._selector.register(self.transport.fileno(), selectors.EVENT_READ, self._expect_work)
        connections = self.transport.connections()
        if self._greeted != connections and self.transport.is_open():
            self._greeted = connections
            self._reports.insert(0, self._hello(self._declared, self._partition))

    def _hello(self, declared: Declared, partition: int) -> SessionHello:
        return SessionHello(
            session=self.session.id, host=self.options.host, version=self.options.version,
            concurrency=0 if self.session.is_draining else self.options.concurrency, partition=partition,
            types=declared.types, schedules=declared.schedules, received=self.session.have,
            local=self.options.is_local,
        )  # fmt: skip

    def _expect_work(self) -> None:
        self._receive_at = 0.0

    def _receive(self, now: float) -> None:
        if self._partition is None or now < self._receive_at:
            return
        work = self.transport.receive(0, MOST_WORK)
        if len(work) < MOST_WORK:
            self._receive_at = now + (LONGEST_WAIT if self.transport.is_open() else RECONNECT_SECONDS)
        for message in work:
            if message.to == self.session.id:
                self._follow(message)

    def _follow(self, work: Work) -> None:
        match work:
            case Run():
                self._reports += self.session.receive(work)
            case Stop():
                reports, running = self.session.stop(work)
                self._reports += reports
                for token, reason in running:
                    self._stop(token, reason)
            case GiveBack():
                self._reports += self.session.give_back(work)
            case Fenced():
                self._begin_new_session()

    def _begin_new_session(self) -> None:
        """End the running attempts, which the dispatcher has given to others, and begin a new session."""
        log.warning("the dispatcher got no reports of this worker and gave its jobs to others; a new session begins")
        self.counts.sessions_fenced += 1
        for slot in self.pool.busy:
            slot.stop = "refused"
            self.pool.kill(slot)
        is_draining = self.session.is_draining
        self.session = SupervisorSession(_new_id())
        self.session.is_draining = is_draining
        self._reports.clear()
        self._progress.clear()
        self._partition, self._greeted, self._open_at = None, None, 0.0

    def _send(self, now: float) -> None:
        if self._partition is None:
            return
        if now >= self._beat_at:
            self._beat_at = now + self.options.beat_seconds
            if self.transport.is_open():
                self._reports.append(Beat(session=self.session.id, have=self.session.have))
        if self._reports:
            reports, self._reports = self._reports, []
            self.transport.report(reports)

    def _end_if_unreachable(self, now: float) -> None:
        if self._partition is not None and self.transport.is_open():
            self._reachable_at = now
        elif now - self._reachable_at > self.options.unreachable_seconds and not self._is_drain_requested:
            log.warning("no dispatcher has answered for %.0f s, and the worker ends", now - self._reachable_at)
            self.drain()

    # Attempts.

    def _assign(self, now: float) -> None:
        while (slot := self.pool.free()) is not None and (run := self.session.start_next()) is not None:
            self.pool.start(slot, run, now)

    def _stop(self, token: str, reason: StopReason) -> None:
        for slot in self.pool.busy:
            if slot.run is not None and slot.run.token == token:
                self.pool.stop(slot, reason, time.monotonic() + self.options.grace_seconds)

    def _check_times(self, now: float) -> None:
        for slot in self.pool.busy:
            run = slot.run
            if run is None or slot.stop is not None:
                continue
            if not slot.is_started_reported and now - slot.began >= STARTED_SECONDS:
                slot.is_started_reported = True
                self._reports.append(
                    Started(session=run.to, token=run.token, job=run.job, seconds_ago=now - slot.began)
                )
            if now - slot.began >= run.timeout:
                self.pool.stop(slot, "timeout", now + self.options.grace_seconds)
        for token, (at, progress) in list(self._progress.items()):
            if progress is not None and now >= at:
                self._reports.append(progress)
                self._progress[token] = now + PROGRESS_SECONDS, None

    # Events of the pool.

    def declared(self, declared: Declared) -> None:
        if declared.error is None:
            self._declared, self._greeted = declared, None
        elif self._declared is None:
            self._failure = declared.error
        else:
            log.error("executors cannot be replaced; it is retried: %s", declared.error)

    def reported(self, slot: Slot, report: ExecutorReport) -> None:
        if isinstance(report, Progressed):
            self._note_progress(report)
            return
        retire = isinstance(report, Failed) and report.error.code in _REPLACING_ERRORS
        self._finish(slot, _with_output(report, slot.output.take()))
        self.pool.finish(slot, retire=retire)

    def ended(self, slot: Slot, status: int | None) -> None:
        self.counts.executors_ended += 1
        run = slot.run
        if run is not None:
            outcome = self._outcome_of_end(run, slot.stop, status, time.monotonic() - slot.began)
            self._finish(slot, _with_output(outcome, slot.output.take()))

    def _outcome_of_end(self, run: Run, stop: StopReason | None, status: int | None, seconds: float) -> Outcome:
        """Return the outcome of an attempt whose process ended before it could report."""
        match stop:
            case "timeout":
                message = f"{timed_out(run.timeout).message}, did not end within {self.options.grace_seconds:g} s more"
                message += ", and was killed"
                return _failed(run, seconds, JobError("job_timeout", message), "timeout")
            case "cancelled":
                return cancelled(run, seconds)
            case "drain" | "refused":
                return returned(run)
        return _failed(run, seconds, _reason_of(status))

    def _finish(self, slot: Slot, outcome: Outcome) -> None:
        run = slot.run
        if run is None or run.to != self.session.id:
            return
        if slot.stop == "refused":
            self.session.end(returned(run))
        else:
            self._reports += self.session.end(outcome)
        self._progress.pop(run.token, None)
        self._count(run, outcome, time.monotonic() - slot.began)

    def _note_progress(self, message: Progressed) -> None:
        at, _ = self._progress.get(message.token, (0.0, None))
        self._progress[message.token] = at, message

    def _count(self, run: Run, outcome: Outcome, seconds: float) -> None:
        name = outcome.outcome if isinstance(outcome, Failed) else "done" if isinstance(outcome, Done) else "returned"
        self.counts.ended[run.type, name] += 1
        self.counts.seconds[run.type] += seconds
        if isinstance(outcome, Failed):
            log.warning("job %s (%s), attempt %d: %s: %s", run.job, run.type, run.attempt, name, outcome.error.message)

    # The end.

    def _continue_drain(self, now: float) -> None:
        if self._is_drain_requested and self._drain_until is None:
            self._drain_until = now + max(0.0, self.options.drain_seconds - self.options.grace_seconds)
            self._reports += self.session.drain()
            self._greeted = None  # the next hello says that this worker accepts no more attempts
        if self._drain_until is not None and now >= self._drain_until:
            self._drain_until = now + LONGEST_WAIT
            for slot in self.pool.busy:
                self.pool.stop(slot, "drain", now + min(self.options.grace_seconds, self.options.drain_seconds))

    def _has_drained(self) -> bool:
        return self._drain_until is not None and self.session.is_idle and not self.pool.busy

    def _send_bye(self) -> None:
        if self._partition is not None:
            self.transport.report([*self._reports, Bye(session=self.session.id)])
        self.transport.close(CLOSE_SECONDS)


def _new_id() -> str:
    return secrets.token_hex(8)


def _failed(run: Run, seconds: float, error: JobError, outcome: str = "failed") -> Failed:
    return Failed(
        session=run.to,
        token=run.token,
        job=run.job,
        seconds=seconds,
        error=error,
        outcome=outcome,  # type: ignore[arg-type]
    )


def _reason_of(status: int | None) -> JobError:
    if status is None:
        return JobError("job_crashed", "the process that starts handlers ended, and the handler with it")
    if os.WIFEXITED(status):
        return JobError("job_crashed", f"the handler ended its process with exit status {os.WEXITSTATUS(status)}")
    number = os.WTERMSIG(status)
    if number == signal.SIGKILL:
        return JobError("job_killed", "killed, probably out of memory: see WORKER_JOB_MEMORY and the machine's log")
    with suppress(ValueError):
        return JobError("job_crashed", f"the handler's process was ended by {signal.Signals(number).name}")
    return JobError("job_crashed", f"the handler's process was ended by signal {number}")


def _with_output(outcome: Outcome, output: str) -> Outcome:
    if not output or not isinstance(outcome, Done | Failed):
        return outcome
    return msgspec.structs.replace(outcome, output=output)

"""The dispatcher's loop: gather → decide → write one synced batch → send and answer.

Nothing is sent or answered before it is on disk. After a failed write the database is closed and opened again, which
shows whether the batch is there. If it is not, and a second write fails, too, then callers get the reason, and reports
of workers are decided again once the database accepts writes.

No unforeseen error loses an input. If schedules, upkeep or sending fail, turns only process inputs. If the machine
fails at an input, only that input is refused. Damage that a turn reads is treated in the same way, so the rest goes on.
Once a merge inside LevelDB has met damage, LevelDB refuses all writes until it is opened again, and may soon meet the
damage again. So the dispatcher rests first; meanwhile jobs can be read.
"""

from __future__ import annotations

import logging
import math
import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, TypeVar

import msgspec

from eventvault import clock
from eventvault.back_off import BackOff
from eventvault.damage import is_damage
from eventvault.errors import EventVaultError, JobsDamaged, JobsUnavailable, WriteFailed
from eventvault.jobs import commands, keys, takeover
from eventvault.jobs.database import FAILED_WRITES, JobsDatabase, answer_to
from eventvault.jobs.inputs import BadInput, Inputs, QueueCall, answer_of
from eventvault.jobs.job import JobError, JobType
from eventvault.jobs.machine import Decision, Machine
from eventvault.jobs.port import QueueStatus
from eventvault.jobs.queue import JobQueue, QueueLimits
from eventvault.jobs.status import status_of
from eventvault.jobs.transport import DispatcherTransport, Loss, OutboxMessage, Position
from eventvault.progress import Activity, running, wait_for, wait_for_thread
from eventvault.system_errors import reason_of

log = logging.getLogger("jobs")

T = TypeVar("T")
MOST_INPUTS = 4_000
LONGEST_WAIT_SECONDS = 1.0
"""How long a turn waits at most, so that a change of the clock is noticed."""
RETRY_SECONDS = 1.0
"""Seconds between two attempts to use the database after a failure."""
_BACK_OFF = (0.0, 1.0, 2.0, 5.0, 10.0)
"""Pauses after one, two, … failures in a row, in RETRY_SECONDS."""
NAME = "dispatcher"
_READING, _WRITING = "reading the database of jobs", "writing the database of jobs"


class Dispatcher:
    """Owns `jobs_db` and the machine. `call` may be used by any thread, `step` by one thread only."""

    def __init__(
        self,
        database: JobsDatabase,
        transport: DispatcherTransport,
        limits: QueueLimits | None = None,
        *,
        now: clock.Clock = clock.now,
        monotonic: Callable[[], float] = time.monotonic,
        make_machine: Callable[[JobsDatabase, QueueLimits], Machine] = Machine,
        unfinished: Path | None = None,
        retry_seconds: float = RETRY_SECONDS,
    ) -> None:
        """unfinished: the file in BACKUP_DIR from which an empty database takes over the unfinished jobs."""
        self.database = database
        self.failure: EventVaultError | None = None
        """Why nothing can be read or written now."""
        self.fault: EventVaultError | None = None
        """Why nothing is sent now, although inputs are accepted."""
        self._transport = transport
        self._limits = limits or QueueLimits()
        self._now = now
        self._monotonic = monotonic
        self._make_machine = make_machine
        self._unfinished = unfinished
        self._machine: Machine | None = None
        self._loaded = 0
        self._calls: deque[QueueCall[Any]] = deque()
        self._calls_changed = threading.Lock()
        self._is_open = False
        self._is_rewound = False
        self._rests_until = -math.inf
        """When the database may be opened again after a merge has met damage (monotonic)."""
        self._accepts_losses = False
        self._again: list[Inputs] = []
        self._retry_seconds = retry_seconds
        waits = [retry_seconds * factor for factor in _BACK_OFF]
        self._failures = BackOff(*waits, monotonic=monotonic)
        self._faults = BackOff(*waits, monotonic=monotonic)
        self._settling = BackOff(*waits, monotonic=monotonic)
        self._ending = threading.Event()
        self._activity: Activity | None = None
        self._thread = threading.Thread(target=self._run, name=NAME, daemon=True)

    def open(self) -> None:
        """Open the database and the transport. Raises the reason why the database cannot be opened."""
        try:
            self._open()
        except (EventVaultError, *FAILED_WRITES) as error:
            self.failure = answer_to("opening the database of jobs", error)
            if self.failure is error:
                raise
            raise self.failure from error
        self.failure, self._is_open = None, True

    def _open(self) -> None:
        if not self.database.is_open:
            self.database.open()
        queue = self._load().queue
        if takeover.is_new(queue):
            self._take_over()
        if self.database.lacks_changes:
            self._ask(commands.hold_all)  # before anything is sent
        sessions = {session.id: session.hello.partition for session in queue.sessions.values()}
        self._transport.open(self.positions(), sessions)
        self._transport.remember(queue.losses)

    def start(self) -> None:
        self._thread.start()

    def stop(self, seconds: float = 10.0) -> None:
        """End the thread, and close transport and database. Later calls raise JobsUnavailable."""
        with self._calls_changed:
            self._ending.set()
        self._transport.wake()
        if self._thread.ident is not None:
            wait_for_thread(self._thread, "the dispatcher", lambda: self._activity, seconds)
        self._transport.close()
        self.database.close()

    def accept_losses(self) -> None:
        """Let the transport go on after the losses of topics. Any thread may call it."""
        self._accepts_losses = True
        self._transport.wake()

    def call(self, ask: Callable[[JobQueue], T]) -> T:
        """Run `ask` on the queue, and return its result once the turn is on disk. Raises its error, or why not."""
        call = self.post(ask)
        wait_for(call.answered.wait, "the dispatcher", lambda: self._activity)
        if call.error is not None:
            raise call.error
        return call.result  # type: ignore[return-value]

    def post(self, ask: Callable[[JobQueue], T]) -> QueueCall[T]:
        """Let the next turn run `ask` on the queue; does not wait for it. Raises JobsUnavailable."""
        call = QueueCall(ask)
        with self._calls_changed:
            if self._ending.is_set():
                raise _stopping()
            if not self._is_open:
                raise self.failure or JobsUnavailable(
                    "the dispatcher of jobs is opening its database", hint="send the request again in a moment"
                )
            self._calls.append(call)
        self._transport.wake()
        return call

    def seconds_without_turn(self) -> float:
        """Return for how long the loop has made no progress; 0 before it runs."""
        return 0.0 if self._activity is None else self._activity.seconds_without_step()

    def version(self) -> int:
        """Return a number that changes with each change of a job or a schedule."""
        machine = self._machine
        return 0 if machine is None else self._loaded << 48 | machine.queue.ledger.version

    def types(self) -> dict[str, JobType]:
        """Return the types that workers have named. Raises JobsUnavailable, or why the database cannot be used."""
        return dict(self._present().queue.types)

    def status(self) -> QueueStatus:
        """Return the queue's state. Raises as `types` does, and, after a failure, until a turn is on disk."""
        machine = self._present()
        if self.failure is not None:
            raise self.failure
        return status_of(machine, self._transport, self.database, self.fault)

    def _present(self) -> Machine:
        machine = self._machine
        if self._ending.is_set():
            raise _stopping()
        if machine is None:
            raise self.failure or JobsUnavailable(
                "the dispatcher of jobs starts again after an error", hint="send the request again in a moment"
            )
        return machine

    def positions(self) -> list[Position]:
        scanned = self.database.scan(keys.POSITION, keys.end_of(keys.POSITION))
        return [msgspec.json.decode(value, type=Position) for _, value in scanned]

    def step(self, seconds: float = LONGEST_WAIT_SECONDS) -> None:
        """Do one turn; wait at most `seconds` for something to do."""
        if self._machine is None and not self._recover():
            return
        machine = self._machine
        assert machine is not None
        self._follow_transport(machine)
        if self._machine is not machine:
            return
        try:
            inputs = self._again.pop(0) if self._again else self._gather(machine, seconds)
        except Exception as error:  # noqa: BLE001 - it is logged, and retried
            if _is_refusal(error):
                self._postpone(Inputs(), answer_to(_READING, error))
                return
            self._process_alone(Inputs(), error)
            self._ending.wait(self._retry_seconds)
        else:
            self._turn(inputs)

    def _take_over(self) -> None:
        if self._unfinished is not None:
            jobs = takeover.take_over(self._unfinished, self._ask)
            if jobs:
                log.warning("%d unfinished jobs of a lost jobs_db are held: resume them, or cancel them", jobs)
        self._ask(takeover.finish)

    def _ask(self, ask: Callable[[JobQueue], None]) -> None:
        """Run `ask` on the queue in a turn of its own, before the thread runs."""
        call = QueueCall(ask)
        self._turn(Inputs(calls=[call]))
        if not call.answered.is_set():
            self._again.clear()
            raise self.fault or _stopping()
        if call.error is not None:
            raise call.error

    # A turn

    def _follow_transport(self, machine: Machine) -> None:
        """Hold all jobs if the database is an old copy; go on once somebody has resumed them."""
        if self._accepts_losses:
            self._accepts_losses = False
            if not machine.queue.is_held:
                self._transport.go_on()
        if not (self._transport.is_rewound() or self.database.lacks_changes):
            self._is_rewound = False
        elif not self._is_rewound:
            log.error("jobs_db lacks its newest changes: no job is sent until somebody resumes")
            call = QueueCall(commands.hold_all)
            self._turn(Inputs(calls=[call], is_alone=True))
            self._is_rewound = call.answered.is_set() and call.error is None
        elif not machine.queue.is_held:
            self._transport.go_on(lacks_changes=self.database.lacks_changes)
            self.database.accept_lack()
        if self.database.unsettled is not None and not self.database.lacks_changes and not self._settling.remaining:
            self._settling.fail()
            self.database.accept_lack()

    def _gather(self, machine: Machine, seconds: float) -> Inputs:
        """Return the inputs of a turn. What may fail is done before inputs are received, so that none is lost."""
        published: Sequence[OutboxMessage] = ()
        if self._faults.remaining:
            seconds = min(seconds, self._faults.remaining)
        else:
            unsent = machine.queue.outbox.unsent()
            published = self._transport.publish(unsent) if unsent else ()
            seconds = 0.0 if published else min(seconds, self._seconds_until_due(machine))
        with self._calls_changed:
            waiting = len(self._calls)
        most = max(MOST_INPUTS - waiting, 1)
        has_room = not machine.queue.is_full
        received, submitted = self._transport.receive(0.0 if waiting else seconds, most, submissions=has_room)
        inputs = Inputs(self._take_calls(), received, submitted, published)
        try:
            inputs.losses = self._transport.losses()  # after `receive`: a message may come from after a loss
        except Exception:
            self._again.insert(0, inputs)
            raise
        return inputs

    def _take_calls(self) -> list[QueueCall[Any]]:
        with self._calls_changed:
            return [self._calls.popleft() for _ in range(min(len(self._calls), MOST_INPUTS))]

    def _turn(self, inputs: Inputs) -> None:
        goes_on = not (inputs.is_alone or self._faults.remaining)
        try:
            decision = self._decide(inputs, goes_on=goes_on)
        except BadInput as error:
            return self._sort_out(inputs, error.__cause__ or error)
        except Exception as error:  # noqa: BLE001 - it is logged, and retried
            if _is_refusal(error):
                return self._postpone(inputs, answer_to(_READING, error))
            return self._process_alone(inputs, error)
        try:
            if decision.changes:
                self._write(decision)
        except Exception as error:
            if not isinstance(error, EventVaultError):
                log.exception("the dispatcher could not write")
            return self._postpone(inputs, answer_of(error))
        self._end_turn(inputs, decision, goes_on=goes_on)
        return None

    def _decide(self, inputs: Inputs, *, goes_on: bool) -> Decision:
        """Return what the machine decides.

        Raises FAILED_WRITES if LevelDB could not read, BadInput if an input failed, and any other error if the rest of
        the turn failed.
        """
        machine = self._machine
        assert machine is not None
        machine.begin(self._now(), self._monotonic())
        try:
            inputs.apply(machine.queue)
        except Exception as error:
            if _is_refusal(error):
                raise
            raise BadInput from error
        return machine.finish(goes_on=goes_on)

    def _end_turn(self, inputs: Inputs, decision: Decision, *, goes_on: bool) -> None:
        """Send and answer, after the decision is on disk."""
        self.failure = None
        if decision.changes:
            self._failures.succeed()
        if goes_on:
            self._faults.succeed()
            self.fault = None
        try:
            if decision.work:
                self._transport.send(decision.work)
        except Exception:
            log.exception("the dispatcher could not send; what has no effect is sent again")
        for call in inputs.calls:
            call.answered.set()

    def _process_alone(self, inputs: Inputs, error: Exception) -> None:
        """Let the next turn process only these inputs, because the rest of the turn failed; that is retried later."""
        if inputs.is_alone:
            self._sort_out(inputs, error)
            return
        wait = self._faults.fail()
        log.error("the dispatcher could not decide; it retries in %s s", wait, exc_info=error)
        self._machine = None
        self.fault = self._note_damage(answer_of(error))
        inputs.is_alone = True
        self._again.insert(0, inputs)

    def _sort_out(self, inputs: Inputs, error: BaseException) -> None:
        """Find the input at which the machine fails, by trying each alone, and refuse it, so that it stops no other.

        A message becomes a dead letter; if that fails, too, health names it as lost. A refused report has no effect, so
        its worker repeats it.
        """
        log.error("the dispatcher failed at an input; it tries each input of this turn alone", exc_info=error)
        self._machine = None
        if len(inputs) > 1:
            self._again = inputs.one_by_one() + self._again
            return
        answer = self._note_damage(answer_of(error))
        for call in inputs.calls:
            call.fail(answer)
        for submitted in inputs.submitted:
            reason = JobError(answer.code, f"the message could not be read: {answer.message}")
            self._again.insert(0, Inputs(refused=[(submitted, reason)]))
        self._transport.remember([_lost(submitted.position, error) for submitted, _ in inputs.refused])
        self._ending.wait(self._retry_seconds)

    def _write(self, decision: Decision) -> None:
        """Write one batch; if that fails, once more after a reopening.

        Raises NoSpace or WriteFailed, after which the batch may be on disk; or JobsDamaged.
        """
        try:
            self.database.write(decision.changes)
        except FAILED_WRITES as error:
            if is_damage(error):
                self._rests_until = self._monotonic() + self._retry_seconds * _BACK_OFF[-1]
                raise self._note_damage(answer_to(_WRITING, error)) from error
            log.warning("a write of jobs failed; the database is reopened: %s", reason_of(error))
            try:
                if self.database.reopen() < decision.turn:
                    self.database.write(decision.changes)
            except FAILED_WRITES as again:
                raise answer_to(_WRITING, again, WriteFailed) from again

    def _postpone(self, inputs: Inputs, error: EventVaultError) -> None:
        """Refuse the calls, and decide about all other inputs again once the database can be used."""
        self._machine = None
        self.failure = error
        self._failures.fail()
        for call in inputs.calls:
            call.fail(error)
        if inputs.received or inputs.submitted or inputs.refused:
            again = Inputs(received=inputs.received, submitted=inputs.submitted, refused=inputs.refused)
            again.losses = inputs.losses
            self._again.insert(0, again)

    def _recover(self) -> bool:
        """Open the database again and load a new machine. Returns whether that worked; if not, waits a moment.

        After several failures in a row it rests first; meanwhile callers get the reason.
        """
        rest = max(self._failures.remaining, self._rests_until - self._monotonic())
        if self.failure is not None and rest > 0:
            self._refuse_calls(self.failure)
            self._ending.wait(min(rest, self._retry_seconds))
            return False
        try:
            if self.failure is not None:
                self.database.reopen()
            self._load()
        except (*FAILED_WRITES, EventVaultError) as error:
            answer = answer_to("opening the database of jobs", error)
            self.failure = answer
            self._refuse_calls(answer)
            self._ending.wait(self._retry_seconds)
            return False
        return True

    def _note_damage(self, answer: EventVaultError) -> EventVaultError:
        """Return the answer. If it is damage, health names it from now on."""
        if isinstance(answer, JobsDamaged):
            self.database.damage = answer
        return answer

    def _refuse_calls(self, error: EventVaultError) -> None:
        for call in self._take_calls():
            call.fail(error)

    def _load(self) -> Machine:
        machine = self._make_machine(self.database, self._limits)
        machine.load(self._monotonic())
        self._loaded += 1
        self._machine = machine
        return machine

    def _seconds_until_due(self, machine: Machine) -> float:
        machine.begin(self._now(), self._monotonic())
        return min(machine.seconds_until_due(), LONGEST_WAIT_SECONDS)

    def _run(self) -> None:
        with running(NAME) as self._activity:
            while not self._ending.is_set():
                self._activity.step("decides about jobs")
                try:
                    self.step()
                except Exception:
                    log.exception("the dispatcher failed unexpectedly, and starts again")
                    self._machine = None
                    self._ending.wait(self._retry_seconds)
        for call in [*self._take_calls(), *(call for inputs in self._again for call in inputs.calls)]:
            call.fail(_stopping())


def _is_refusal(error: Exception) -> bool:
    """Return whether the system or LevelDB refused an operation, so that it must be retried."""
    return isinstance(error, FAILED_WRITES) and not is_damage(error)


def _stopping() -> JobsUnavailable:
    return JobsUnavailable("the dispatcher of jobs is stopping", hint="send the request again")


def _lost(position: Position, error: BaseException) -> Loss:
    """Return the loss of the message before a position, which can be neither consumed nor quarantined."""
    place = f"{position.topic}/{position.partition}/{position.offset - 1}"
    message = f"the message {place} can be neither consumed nor quarantined: {answer_of(error).message}"
    hint = "the log of the dispatcher says why; send the job again, then POST /api/jobs/resume"
    return Loss(place, "kafka_messages_gone", message, hint)

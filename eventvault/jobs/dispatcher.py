"""The dispatcher's loop: gather → decide → write one synced batch → send and answer.

Nothing is sent or answered before it is on disk. After a failed write the database is closed and opened again, and
shows whether the batch is there; if it is not, and a second write fails too, callers get the reason, and what workers
reported is decided again once the database takes writes.
"""

from __future__ import annotations

import logging
import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Generic, TypeVar

import msgspec

from eventvault import clock
from eventvault.damage import as_answer
from eventvault.errors import EventVaultError, JobsUnavailable, WriteFailed
from eventvault.jobs import asking, keys, reports, submissions, unfinished
from eventvault.jobs.database import FAILED_WRITES, JobsDatabase
from eventvault.jobs.job import JobType
from eventvault.jobs.machine import Decision, Limits, Machine
from eventvault.jobs.port import QueueStatus
from eventvault.jobs.status import status_of
from eventvault.jobs.transport import DispatcherTransport, Letter, Position, Received, Submitted
from eventvault.progress import Activity, running, wait_for, wait_for_thread
from eventvault.system_errors import reason_of

log = logging.getLogger("jobs")

T = TypeVar("T")
MOST_INPUTS = 4_000
LONGEST_WAIT_SECONDS = 1.0
"""How long a turn waits at most, so that a clock that is set is noticed."""
RETRY_SECONDS = 1.0
"""How long after a failed write the database is tried again."""
NAME = "dispatcher"


class Call(Generic[T]):
    """What a thread asks of the machine, and the answer, which counts once its turn is on disk."""

    def __init__(self, ask: Callable[[Machine], T]) -> None:
        self.ask = ask
        self.answered = threading.Event()
        self.result: T | None = None
        self.error: BaseException | None = None

    def run(self, machine: Machine) -> None:
        self.error = None  # of a turn that was not finished
        try:
            self.result = self.ask(machine)
        except EventVaultError as error:
            self.error = error

    def fail(self, error: BaseException) -> None:
        self.error = error
        self.answered.set()


class _Inputs:
    """What one turn decides about."""

    def __init__(
        self,
        calls: Sequence[Call[Any]] = (),
        received: Sequence[Received] = (),
        submitted: Sequence[Submitted] = (),
        published: Sequence[Letter] = (),
    ) -> None:
        self.calls = calls
        self.received = received
        self.submitted = submitted
        self.published = published

    def __len__(self) -> int:
        return len(self.calls) + len(self.received) + len(self.submitted)

    def one_by_one(self) -> list[_Inputs]:
        return [
            *(_Inputs(calls=[call]) for call in self.calls),
            *(_Inputs(received=[received]) for received in self.received),
            *(_Inputs(submitted=[submitted]) for submitted in self.submitted),
        ]

    def apply(self, machine: Machine) -> None:
        machine.outbox.sent(machine, self.published)
        for call in self.calls:
            call.run(machine)
        for received in self.received:
            reports.take(machine, received)
        for submitted in self.submitted:
            submissions.take(machine, submitted)


class Dispatcher:
    """Owns `jobs_db` and the machine. `call` may be used by any thread, `step` by one thread only."""

    def __init__(
        self,
        database: JobsDatabase,
        transport: DispatcherTransport,
        limits: Limits | None = None,
        *,
        now: clock.Clock = clock.now,
        monotonic: Callable[[], float] = time.monotonic,
        make_machine: Callable[[JobsDatabase, Limits], Machine] = Machine,
        unfinished: Path | None = None,
        retry_seconds: float = RETRY_SECONDS,
    ) -> None:
        """unfinished: the file in BACKUP_DIR from which an empty database takes over what is unfinished."""
        self.database = database
        self.failure: EventVaultError | None = None
        """Why nothing can be written now."""
        self._transport = transport
        self._limits = limits or Limits()
        self._now = now
        self._monotonic = monotonic
        self._make_machine = make_machine
        self._unfinished = unfinished
        self._machine: Machine | None = None
        self._loaded = 0
        """How many machines were made."""
        self._calls: deque[Call[Any]] = deque()
        self._calls_changed = threading.Lock()
        self._is_rewound = False
        self._accepts_losses = False
        self._again: list[_Inputs] = []
        self._retry_seconds = retry_seconds
        self._ending = threading.Event()
        self._activity: Activity | None = None
        self._thread = threading.Thread(target=self._run, name=NAME, daemon=True)

    def open(self) -> None:
        """Open the database and the transport. Raises the reason why the database cannot be opened."""
        if not self.database.is_open:
            self.database.open()
        machine = self._load()
        if asking.is_new(machine):
            self._take_over()
        sessions = {session.id: session.hello.partition for session in machine.sessions.values()}
        self._transport.open(self.positions(), sessions)

    def start(self) -> None:
        """Run in a thread of its own, once it is open."""
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
        """Let the transport go on behind what topics have lost. Any thread may call it."""
        self._accepts_losses = True
        self._transport.wake()

    def call(self, ask: Callable[[Machine], T]) -> T:
        """Ask the machine; returns once the answer is on disk. Raises what `ask` raises, JobsUnavailable, NoSpace."""
        call = self.post(ask)
        wait_for(call.answered.wait, "the dispatcher", lambda: self._activity)
        if call.error is not None:
            raise call.error
        return call.result  # type: ignore[return-value]

    def post(self, ask: Callable[[Machine], T]) -> Call[T]:
        """Ask the machine in the next turn, without waiting for the answer. Raises JobsUnavailable."""
        call = Call(ask)
        with self._calls_changed:
            if self._ending.is_set():
                raise _stopping()
            self._calls.append(call)
        self._transport.wake()
        return call

    def seconds_without_turn(self) -> float:
        """Return for how long the loop has made no step; 0 before it runs."""
        return 0.0 if self._activity is None else self._activity.seconds_without_step()

    def version(self) -> int:
        """Return a number that differs after each change of a job or a schedule."""
        machine = self._machine
        return 0 if machine is None else self._loaded << 48 | machine.ledger.version

    def types(self) -> dict[str, JobType]:
        """Return the types that workers have named. Raises JobsUnavailable, or why the database cannot be used."""
        return dict(self._present().types)

    def status(self) -> QueueStatus:
        """Raises as `types` does."""
        return status_of(self._present(), self._transport)

    def _present(self) -> Machine:
        machine = self._machine
        if machine is None or self._ending.is_set():
            raise self.failure or _stopping()
        return machine

    def positions(self) -> list[Position]:
        scanned = self.database.scan(keys.POSITION, keys.behind(keys.POSITION))
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
        if self._again:
            inputs = self._again.pop(0)
        else:
            inputs = self._gather(machine, min(seconds, self._seconds_until_due(machine)))
        self._turn(inputs)

    def _take_over(self) -> None:
        if self._unfinished is not None:
            jobs = unfinished.take_over(self._unfinished, self._ask)
            if jobs:
                log.warning("%d unfinished jobs of a lost jobs_db are held: resume them, or cancel them", jobs)
        self._ask(asking.take_nothing_more)

    def _ask(self, ask: Callable[[Machine], None]) -> None:
        """Ask before the thread runs."""
        call = Call(ask)
        self._turn(_Inputs(calls=[call]))
        if call.error is not None:
            raise call.error

    # A turn

    def _follow_transport(self, machine: Machine) -> None:
        """Hold everything if the database is an old copy, until somebody resumes."""
        if self._accepts_losses and not machine.is_held:
            self._accepts_losses = False
            self._transport.go_on()
        if not self._transport.is_rewound():
            self._is_rewound = False
        elif not self._is_rewound:
            log.error("jobs_db is older than the topics say: nothing is sent before the jobs are resumed")
            call = Call(asking.hold_all)
            self._turn(_Inputs(calls=[call]))
            self._is_rewound = call.error is None
        elif not machine.is_held:
            self._transport.go_on()

    def _gather(self, machine: Machine, seconds: float) -> _Inputs:
        calls = self._take_calls()
        most = max(MOST_INPUTS - len(calls), 1)
        is_full = machine.is_full
        received, submitted = self._transport.receive(0.0 if calls else seconds, most, submissions=not is_full)
        letters = machine.outbox.letters(machine)
        published = self._transport.publish(letters) if letters else ()
        return _Inputs([*calls, *self._take_calls()], received, submitted, published)

    def _take_calls(self) -> list[Call[Any]]:
        with self._calls_changed:
            return [self._calls.popleft() for _ in range(min(len(self._calls), MOST_INPUTS))]

    def _turn(self, inputs: _Inputs) -> None:
        decision = self._decide(inputs)
        if decision is None:
            return
        if decision.changes:
            try:
                self._write(decision)
            except EventVaultError as error:
                self._postpone(inputs, error)
                return
        if decision.work:
            self._transport.send(decision.work)
        for call in inputs.calls:
            call.answered.set()

    def _decide(self, inputs: _Inputs) -> Decision | None:
        """Return what the machine decides. An input at which it fails is dropped: it must not stop the others."""
        machine = self._machine
        assert machine is not None
        try:
            machine.begin(self._now(), self._monotonic())
            inputs.apply(machine)
            return machine.finish()
        except FAILED_WRITES as error:  # LevelDB could not read
            self._postpone(inputs, as_answer("reading the database of jobs", error))
        except Exception as error:
            log.exception("the dispatcher could not decide")
            self._machine = None
            if len(inputs) > 1:
                self._again = inputs.one_by_one() + self._again
            else:
                for call in inputs.calls:
                    call.fail(
                        EventVaultError(f"the request failed: {error}", hint="the log of the dispatcher says why")
                    )
                self._ending.wait(self._retry_seconds)
        return None

    def _write(self, decision: Decision) -> None:
        """Write one batch, and once more after a reopening. Raises NoSpace or WriteFailed; then it may be on disk."""
        try:
            self.database.write(decision.changes)
        except FAILED_WRITES as error:
            log.warning("a write of jobs failed; the database is reopened: %s", reason_of(error))
            try:
                if self.database.reopen() < decision.turn:
                    self.database.write(decision.changes)
            except FAILED_WRITES as again:
                raise as_answer("writing the database of jobs", again, WriteFailed) from again

    def _postpone(self, inputs: _Inputs, error: EventVaultError) -> None:
        """Answer the callers, and decide about what workers reported again, once the database takes writes."""
        self._machine = None
        self.failure = error
        for call in inputs.calls:
            call.fail(error)
        if inputs.received or inputs.submitted:
            self._again.insert(0, _Inputs(received=inputs.received, submitted=inputs.submitted))

    def _recover(self) -> bool:
        """Open the database again and make the machine anew. Returns whether that worked; if not, waits a moment."""
        try:
            if self.failure is not None:
                self.database.reopen()
            self._load()
        except (*FAILED_WRITES, EventVaultError) as error:
            answer = error if isinstance(error, EventVaultError) else as_answer("opening the database of jobs", error)
            self.failure = answer
            for call in self._take_calls():
                call.fail(answer)
            self._ending.wait(self._retry_seconds)
            return False
        self.failure = None
        return True

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
                    log.exception("the dispatcher failed unexpectedly, and begins anew")
                    self._machine = None
                    self._ending.wait(self._retry_seconds)
        for call in self._take_calls():
            call.fail(_stopping())


def _stopping() -> JobsUnavailable:
    return JobsUnavailable("the dispatcher of jobs is stopping", hint="send the request again")

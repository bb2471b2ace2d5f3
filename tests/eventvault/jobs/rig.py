"""A dispatcher, workers and clocks that a test moves by hand: a database in memory, and transports that lose things."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager

import msgspec
from sortedcontainers import SortedDict

from eventvault.jobs import commands, keys, messages
from eventvault.jobs.database import StoredTicks
from eventvault.jobs.dispatcher import Dispatcher
from eventvault.jobs.job import Job, JobError, JobRequest, JobSchedule, JobType
from eventvault.jobs.lease import LEASE_TICKS
from eventvault.jobs.local_jobs import LocalJobs
from eventvault.jobs.machine import Machine
from eventvault.jobs.messages import Report, Work
from eventvault.jobs.queue import JobQueue, QueueLimits
from eventvault.jobs.transport import Loss, OutboxMessage, Position, Received, Submitted
from eventvault.problems import Problem

START = 1_800_000_000_000_000
DISPATCHER = "d1"


class Killed(BaseException):
    """The dispatcher was killed at this point."""


class Clocks:
    def __init__(self) -> None:
        self.now = START
        self.moment = 100.0

    def pass_seconds(self, seconds: float) -> None:
        self.now += round(seconds * 1e6)
        self.moment += seconds


class MemoryDatabase:
    """`JobsDatabase` in memory. kill: "before" or "after" the next write."""

    folder = None
    damage = None
    lacks_changes = False
    unsettled = None

    def __init__(self, *, is_new: bool = False) -> None:
        self.entries: SortedDict = SortedDict({keys.META_SCHEMA: b"1", keys.META_DISPATCHER: DISPATCHER.encode()})
        if is_new:
            self.entries[keys.META_NEW] = b""
        self.kill = ""
        self.failures: list[bool] = []
        """For each of the next writes that fails: whether it is on disk nevertheless."""
        self.writes = 0
        self.is_open = False

    dispatcher = DISPATCHER

    def open(self) -> None:
        self.is_open = True

    def close(self) -> None:
        self.is_open = False

    def reopen(self) -> int:
        return self.ticks().turn

    def accept_lack(self) -> None:
        self.lacks_changes = False

    def ticks(self) -> StoredTicks:
        return msgspec.json.decode(self.entries.get(keys.TICKS, b"{}"), type=StoredTicks)

    def get(self, key: bytes) -> bytes | None:
        return self.entries.get(key)

    def scan(self, start: bytes, stop: bytes, *, reverse: bool = False) -> Iterator[tuple[bytes, bytes]]:
        for key in list(self.entries.irange(start, stop, (True, False), reverse)):
            yield key, self.entries[key]

    def write(self, changes: Mapping[bytes, bytes | None]) -> None:
        if self.kill == "before":
            raise Killed
        if self.failures:
            if self.failures.pop(0):
                self._apply(changes)
            raise OSError(28, "No space left on device")
        self._apply(changes)
        self.writes += 1
        if self.kill == "after":
            raise Killed

    def _apply(self, changes: Mapping[bytes, bytes | None]) -> None:
        for key, value in changes.items():
            if value is None:
                self.entries.pop(key, None)
            else:
                self.entries[key] = value

    @contextmanager
    def snapshot(self) -> Iterator[MemoryDatabase]:
        yield self

    # For tests

    def records(self) -> dict[str, Job]:
        scanned = self.scan(keys.RECORD, keys.end_of(keys.RECORD))
        return {key[1:].decode(): msgspec.json.decode(value, type=Job) for key, value in scanned}

    def keys_of(self, prefix: bytes) -> list[bytes]:
        return [key for key, _ in self.scan(prefix, keys.end_of(prefix))]


class Wire:
    """What is on its way between dispatcher and workers. positions: reports stay, as in a topic."""

    tick_seconds = 2.5

    def __init__(self, *, positions: bool) -> None:
        self.positions = positions
        self.reports: list[Report] = []
        self.at = 0
        self.work: dict[str, list[Work]] = {}
        self.kills_before_send = False
        self.drops_work = False
        self.published: list[OutboxMessage] = []
        self.submitted: list[Submitted] = []
        self.topic: list[Submitted] = []
        """Messages of `jobs`, which stay: a dispatcher that was killed reads them again."""
        self.topic_at = 0
        self.drops_published = False
        self.lost: list[Loss] = []
        self._ticks = 0

    def produce(self, value: bytes | None) -> None:
        """Write a message to the topic `jobs`."""
        self.topic.append(Submitted(None, value, (), Position("jobs", 0, len(self.topic) + 1)))

    def tick(self) -> None:
        """A tick comes; over Kafka only once the one before was read."""
        if not self.positions or not any(isinstance(report, messages.Tick) for report in self.reports[self.at :]):
            self._ticks += 1
            self.reports.append(messages.Tick(dispatcher=DISPATCHER, number=self._ticks))

    def open(self, positions: Sequence[Position], sessions: Mapping[str, int]) -> None:
        offsets = {position.topic: position.offset for position in positions}
        self.topic_at = offsets.get("jobs", 0)
        if self.positions:
            self.at = offsets.get("reports", 0)

    def receive(self, seconds: float, most: int, *, submissions: bool = True) -> tuple[list[Received], list[Submitted]]:
        taken = self.reports[self.at : self.at + most]
        received = [
            Received(report, Position("reports", 0, self.at + number + 1) if self.positions else None)
            for number, report in enumerate(taken)
        ]
        self.at += len(taken)
        submitted, self.submitted = (self.submitted, []) if submissions else ([], self.submitted)
        if submissions:
            submitted += self.topic[self.topic_at :]
            self.topic_at = len(self.topic)
        return received, submitted

    def send(self, work: Sequence[Work]) -> None:
        if self.kills_before_send:
            raise Killed
        for message in work:
            if message.to in self.work and not self.drops_work:
                self.work[message.to].append(messages.decode_work(messages.encode(message)))

    def publish(self, messages: Sequence[OutboxMessage]) -> list[OutboxMessage]:
        sent = [] if self.drops_published else list(messages)
        self.published += sent
        return sent

    def is_rewound(self) -> bool:
        return False

    def go_on(self, *, lacks_changes: bool = False) -> None:
        del lacks_changes
        self.lost.clear()

    def losses(self) -> list[Loss]:
        return list(self.lost)

    def remember(self, losses: Sequence[Loss]) -> None:
        self.lost += [loss for loss in losses if loss not in self.lost]

    def is_connected(self) -> bool:
        return self.positions

    def wake(self) -> None: ...

    def problems(self) -> list[Problem]:
        return []

    def close(self) -> None: ...


class Run:
    """One run of a handler. outcome: None while it runs."""

    def __init__(self, message: messages.Run, session: str, number: int) -> None:
        self.message = message
        self.session = session
        self.number = number
        self.outcome: str | None = None


class World:
    """Everything. runs: of handlers, in the order of their beginnings."""

    def __init__(self, *, positions: bool = False, limits: QueueLimits | None = None) -> None:
        self.clocks = Clocks()
        self.database = MemoryDatabase()
        self.wire = Wire(positions=positions)
        self.limits = limits or QueueLimits()
        self.runs: list[Run] = []
        self.workers: list[Worker] = []
        self._numbers = itertools.count(1)
        self.start()

    def start(self) -> None:
        """Start the dispatcher, or another one after a kill."""
        self.database.kill, self.wire.kills_before_send = "", False
        self.dispatcher = Dispatcher(
            self.database, self.wire, self.limits, now=lambda: self.clocks.now, monotonic=lambda: self.clocks.moment,
            make_machine=self._make_machine, retry_seconds=0.0,
        )  # fmt: skip
        self.dispatcher.open()
        self.jobs = LocalJobs(self.dispatcher)

    def _make_machine(self, reader: MemoryDatabase, limits: QueueLimits) -> Machine:
        return Machine(reader, limits, make_token=lambda: f"t{next(self._numbers)}", chance=lambda: 0.5)

    def number(self) -> int:
        return next(self._numbers)

    def turn(self) -> None:
        """Let the dispatcher take in what waits. One that is killed meanwhile is started again."""
        try:
            self.dispatcher.step(0.0)
        except Killed:
            if not self.wire.positions:
                del self.wire.reports[: self.wire.at]
                self.wire.at = 0
            self.start()

    def turns(self, count: int = 3) -> None:
        for _ in range(count):
            self.turn()

    def ask(self, question: Callable[[JobQueue], object]) -> object:
        """Ask the machine in a turn of its own. Returns the answer, or the error."""
        answers: list[object] = []

        def ask(queue: JobQueue) -> None:
            answers.append(question(queue))

        self.dispatcher.post(ask)
        self.turn()
        return answers[-1] if answers else None

    def submit(self, *requests: JobRequest) -> list[object]:
        answer = self.ask(lambda queue: commands.submit(queue, requests, "me"))
        assert isinstance(answer, list)
        return answer

    def worker(self, *types: str, concurrency: int = 1, schedules: Sequence[JobSchedule] = ()) -> Worker:
        worker = Worker(self, [JobType(name=name) for name in types], concurrency, list(schedules))
        self.workers.append(worker)
        self.turn()
        return worker

    def lose_lease(self) -> None:
        for _ in range(LEASE_TICKS):
            self.wire.tick()
            self.turn()

    def job(self, job_id: str) -> Job:
        return self.database.records()[job_id]

    def state(self, job_id: str) -> str:
        return self.job(job_id).state


class Worker:
    """A supervisor and its executors, which do one thing at a time, when the test says so."""

    def __init__(self, world: World, types: list[JobType], concurrency: int, schedules: list[JobSchedule]) -> None:
        self.world = world
        self.types = types
        self.concurrency = concurrency
        self.schedules = schedules
        self.begin_session()

    def begin_session(self) -> None:
        self.session = f"s{self.world.number()}"
        self.world.wire.work[self.session] = []
        self.waiting: list[messages.Run] = []
        self.running: dict[str, Run] = {}
        self.ended: dict[str, Report] = {}
        self.hello()

    @property
    def have(self) -> list[str]:
        return [*(run.token for run in self.waiting), *self.running]

    def report(self, report: Report) -> None:
        self.world.wire.reports.append(messages.decode_report(messages.encode(report)))

    def hello(self) -> None:
        self.report(
            messages.SessionHello(
                session=self.session,
                host="h",
                version="1",
                concurrency=self.concurrency,
                types=self.types,
                schedules=self.schedules,
                received=self.have,
            )
        )

    def beat(self) -> None:
        self.report(messages.Beat(session=self.session, have=self.have))

    def take(self) -> None:
        """Take in what was sent to it, and begin what it has room for."""
        inbox, self.world.wire.work[self.session] = self.world.wire.work[self.session], []
        session = self.session
        for message in inbox:
            if self.session == session:
                self._take(message)
        while self.waiting and len(self.running) < self.concurrency:
            message = self.waiting.pop(0)
            run = Run(message, self.session, self.world.number())
            self.world.runs.append(run)
            self.running[message.token] = run

    def _take(self, message: Work) -> None:
        match message:
            case messages.Run():
                if message.token in self.ended:
                    self.report(self.ended[message.token])
                elif message.token not in self.have:
                    self.waiting.append(message)
            case messages.Stop():
                for token in message.stop:
                    self._stop(token, message.reason)
            case messages.GiveBack():
                for run in [run for run in self.waiting if run.token in message.give_back]:
                    self.waiting.remove(run)
                    self._end(run, messages.Returned(session=self.session, token=run.token, job=run.job))
            case messages.Fenced():
                self.kill_runs()
                self.begin_session()

    def _stop(self, token: str, reason: str) -> None:
        waiting = next((run for run in self.waiting if run.token == token), None)
        if waiting is not None:
            self.waiting.remove(waiting)
        run = self.running.pop(token, None)
        message = run.message if run is not None else waiting
        if run is not None:
            run.outcome = reason
        if message is not None and reason == "cancelled":
            self._end(message, self._failed(message, "cancelled", retry=False, outcome="cancelled"))

    def started(self, token: str) -> None:
        message = self.running[token].message
        self.report(messages.Started(session=self.session, token=token, job=message.job))

    def finish(self, token: str | None = None, outcome: str = "done", after: float | None = None) -> None:
        """End a run (the only one): `done`, `failed` (tried again), `fail` (for good), `timeout`, or `returned`."""
        token = next(iter(self.running)) if token is None else token
        run = self.running.pop(token)
        run.outcome = outcome
        message = run.message
        if outcome == "done":
            report: Report = messages.Done(session=self.session, token=token, job=message.job, seconds=0.01)
        elif outcome == "returned":
            report = messages.Returned(session=self.session, token=token, job=message.job)
        elif outcome == "timeout":
            report = self._failed(message, "timeout", outcome="timeout")
        else:
            report = self._failed(message, "failed", retry=outcome == "failed", after=after)
        self._end(message, report)

    def _failed(self, message: messages.Run, code: str, **members: object) -> messages.Failed:
        return messages.Failed(
            session=self.session, token=message.token, job=message.job, seconds=0.01, error=JobError(code, "it failed"),
            **members,
        )  # fmt: skip

    def _end(self, message: messages.Run, report: Report) -> None:
        self.ended[message.token] = report
        self.report(report)

    def kill_runs(self) -> None:
        for run in self.running.values():
            run.outcome = "killed"
        self.running.clear()
        self.waiting.clear()

    def kill(self) -> None:
        """End it without a word; another one begins in its place."""
        self.kill_runs()
        del self.world.wire.work[self.session]
        self.begin_session()

    def bye(self) -> None:
        """Drain: hand back what it has, and end the session. Another one begins."""
        for run in [*self.waiting, *(run.message for run in self.running.values())]:
            self.report(messages.Returned(session=self.session, token=run.token, job=run.job))
        for run in self.running.values():
            run.outcome = "returned"
        self.report(messages.Bye(session=self.session))
        del self.world.wire.work[self.session]
        self.begin_session()


def request(job_id: str, job_type: str = "report", **members: object) -> JobRequest:
    return JobRequest(type=job_type, id=job_id, **members)  # type: ignore[arg-type]


def foreign_job(job_id: str, key: str | None = None) -> Job:
    """Return a job as another `jobs_db` had it."""
    return Job(
        id=job_id, type="report", order=7, state="pending", created=START - 1, run_at=START - 1, digest="", key=key,
        max_attempts=2,
    )  # fmt: skip

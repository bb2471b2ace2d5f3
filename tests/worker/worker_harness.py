"""A supervisor with real executors in a thread of the test, and the dispatcher's side of its transport in memory."""

from __future__ import annotations

import itertools
import json
import os
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from math import inf
from pathlib import Path
from typing import Any

import msgspec

from eventvault.jobs import messages
from eventvault.jobs.messages import (
    Beat,
    Done,
    Failed,
    GiveBack,
    Report,
    Returned,
    Run,
    SessionHello,
    Started,
    Stop,
    Work,
)
from eventvault.jobs.transport import TransportAway
from tests.processes import states, wait_until
from worker.pool import Pool
from worker.supervisor import Options, Supervisor

PATIENCE_SECONDS = 90.0
Outcome = Done | Failed | Returned


class FakeTransport:
    """The worker's end, and what a test does at the other end of it."""

    def __init__(self) -> None:
        self.reports: list[Report] = []
        self.sessions: list[str] = []
        self.away = False
        self.closed = False
        self._changed = threading.Condition()
        self._work: deque[Work] = deque()
        self._handle = os.eventfd(0, os.EFD_NONBLOCK)
        self._connections = 0

    # The worker's end.

    def open(self, session: str) -> int:
        if self.away:
            raise TransportAway("the test is away")
        with self._changed:
            self.sessions.append(session)
            self._connections += 1
            self._changed.notify_all()
        return 3

    def fileno(self) -> int:
        return self._handle

    def connections(self) -> int:
        return self._connections

    def receive(self, seconds: float, most: int) -> list[Work]:
        del seconds
        with suppress(BlockingIOError):
            os.eventfd_read(self._handle)
        with self._changed:
            return [self._work.popleft() for _ in range(min(most, len(self._work)))]

    def report(self, reports: Sequence[Report]) -> None:
        with self._changed:
            self.reports += [messages.decode_report(messages.encode(report)) for report in reports]
            self._changed.notify_all()

    def is_open(self) -> bool:
        return not self.away

    def close(self, seconds: float) -> None:
        del seconds
        with self._changed:
            self.closed = True
            self._changed.notify_all()

    # The test's end.

    def send(self, *work: Work) -> None:
        with self._changed:
            self._work.extend(messages.decode_work(messages.encode(message)) for message in work)
        os.eventfd_write(self._handle, 1)

    def connect_again(self) -> None:
        self._connections += 1
        os.eventfd_write(self._handle, 1)

    def wait_for(self, condition: Callable[[list[Report]], Any], what: str) -> Any:
        """Return what `condition` makes of all reports, once that is true."""
        found: list[Any] = []

        def is_there() -> bool:
            found[:] = [condition(self.reports)]
            return bool(found[0])

        with self._changed:
            if not self._changed.wait_for(is_there, PATIENCE_SECONDS):
                raise TimeoutError(f"{what}; reported: {self.reports[-5:]}")
        return found[0]


class Harness:
    """The test's hands: sends attempts and waits for what becomes of them."""

    def __init__(self, transport: FakeTransport, supervisor: Supervisor) -> None:
        self.transport = transport
        self.supervisor = supervisor
        self._numbers = itertools.count(1)

    @property
    def session(self) -> str:
        return self.supervisor.session.id

    def hello(self, session: str | None = None) -> SessionHello:
        """The first hello of a session."""
        wanted = session or self.session
        found: SessionHello = self.transport.wait_for(
            lambda reports: next(
                (each for each in reports if isinstance(each, SessionHello) and each.session == wanted), None
            ),
            "no hello",
        )
        return found

    def run_of(self, job_type: str, payload: Any = None, *, timeout: float = 60.0, attempt: int = 1) -> Run:
        number = next(self._numbers)
        return Run(
            to=self.session, job=f"job-{number}", type=job_type, attempt=attempt, max_attempts=5,
            token=f"token-{number}", timeout=timeout, payload=msgspec.Raw(json.dumps(payload).encode()),
        )  # fmt: skip

    def send(self, job_type: str, payload: Any = None, **further: Any) -> Run:
        run = self.run_of(job_type, payload, **further)
        self.transport.send(run)
        return run

    def outcome(self, run: Run) -> Any:
        """The first report of how an attempt ended."""
        return self.transport.wait_for(lambda _: next(iter(self.outcomes(run)), None), f"no end of {run.type}")

    def outcomes(self, run: Run) -> list[Outcome]:
        return [each for each in self.transport.reports if isinstance(each, Outcome) and each.token == run.token]

    def perform(self, job_type: str, payload: Any = None, **further: Any) -> Any:
        return self.outcome(self.send(job_type, payload, **further))

    def wait_for_start(self, *runs: Run) -> None:
        tokens = {run.token for run in runs}
        self.transport.wait_for(
            lambda reports: tokens <= {each.token for each in reports if isinstance(each, Started)}, "no start"
        )

    def stop(self, *runs: Run, reason: str = "cancelled") -> None:
        self.transport.send(Stop(to=self.session, stop=[run.token for run in runs], reason=reason))

    def give_back(self, *runs: Run) -> None:
        self.transport.send(GiveBack(to=self.session, give_back=[run.token for run in runs]))

    def beats(self) -> list[Beat]:
        return [report for report in self.transport.reports if isinstance(report, Beat)]

    def wait_for_beat(self, condition: Callable[[Beat], bool]) -> Beat:
        """The first beat from now on for which `condition` is true."""
        begun = len(self.transport.reports)
        found: Beat = self.transport.wait_for(
            lambda reports: next(
                (each for each in reports[begun:] if isinstance(each, Beat) and condition(each)), None
            ),
            "no such beat",
        )
        return found


def new_supervisor(
    transport: FakeTransport, *, concurrency: int = 2, drain_seconds: float = 0.4, grace_seconds: float = 0.2,
    jobs_per_process: int = 1000, variables: Mapping[str, str] | None = None, unreachable_seconds: float = inf,
    modules: Sequence[str] = ("tests.worker.handlers_for_executors",),
    on_turn: Callable[[Supervisor], None] = lambda _: None,
) -> Supervisor:  # fmt: skip
    environment = {"PATH": os.environ["PATH"], **(variables or {})}
    options = Options(
        concurrency,
        drain_seconds,
        grace_seconds=grace_seconds,
        beat_seconds=0.05,
        unreachable_seconds=unreachable_seconds,
    )
    return Supervisor(
        transport,
        lambda selector, listener: Pool(
            selector, listener, size=concurrency, jobs_per_process=jobs_per_process, memory=2**28,
            modules=list(modules), variables=environment, log_level="info",
        ),
        options,
        on_turn,
    )  # fmt: skip


@contextmanager
def running_worker(**options: Any) -> Iterator[Harness]:
    """A worker that runs; options: as `new_supervisor` has them."""
    transport = FakeTransport()
    supervisor = new_supervisor(transport, **options)
    thread = threading.Thread(target=supervisor.run, name="supervisor")
    thread.start()
    try:
        yield Harness(transport, supervisor)
    finally:
        supervisor.drain()
        thread.join(PATIENCE_SECONDS)
        assert not thread.is_alive()


def is_alive(process: int) -> bool:
    """Whether a process runs; one that has ended and was not waited for does not."""
    try:
        status = (Path("/proc") / str(process) / "stat").read_bytes()
    except OSError:
        return False
    return status.rpartition(b")")[2].split()[0] not in (b"Z", b"X")


def wait_until_dead(process: int) -> None:
    deadline = time.monotonic() + PATIENCE_SECONDS
    while is_alive(process):
        assert time.monotonic() < deadline, f"process {process} still runs"
        time.sleep(0.005)


def wait_until_reported(executor: int, ended: Path) -> None:
    """Wait until a handler that writes `ended` has ended, and its executor waits for the next one."""
    wait_until(lambda: ended.exists() and set(states(executor)) == {"S"}, "the handler does not end", PATIENCE_SECONDS)

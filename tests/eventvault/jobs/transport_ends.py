"""Both ends of each transport between a dispatcher and its workers, for the contract suite."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import Protocol

import msgspec

from eventvault.jobs.job import JobType
from eventvault.jobs.memory_transport import MemoryTransport
from eventvault.jobs.messages import Report, Run, SessionHello, Tick, Work
from eventvault.jobs.socket_transport import SocketTransport
from eventvault.jobs.socket_worker_transport import SocketWorkerTransport
from eventvault.jobs.transport import DispatcherTransport, Position, TransportAway, WorkerTransport
from eventvault.kafka.jobs.dispatcher_transport import KafkaTransport
from eventvault.kafka.jobs.worker_transport import KafkaWorkerTransport
from eventvault.settings import Settings
from tests.eventvault.jobs.serving import serving
from tests.kafka_broker import Kafka

DISPATCHER = "d1"
TICK_SECONDS = 0.1
PATIENCE_SECONDS = 90.0


class TransportEnds(Protocol):
    def start_dispatcher(
        self, positions: Sequence[Position] = (), sessions: Mapping[str, int] = {}
    ) -> DispatcherTransport:
        """Open the dispatcher's end, in place of an earlier one."""

    def make_worker(self) -> WorkerTransport:
        """A worker's end, not open."""

    def close(self) -> None: ...


class MemoryEnds:
    def __init__(self) -> None:
        self._transport = MemoryTransport(TICK_SECONDS)

    def start_dispatcher(
        self, positions: Sequence[Position] = (), sessions: Mapping[str, int] = {}
    ) -> DispatcherTransport:
        self._transport.open(positions, sessions)
        return self._transport

    def make_worker(self) -> WorkerTransport:
        return self._transport.worker()

    def close(self) -> None: ...


class SocketEnds:
    def __init__(self, storage: Path) -> None:
        self._storage = storage
        self._dispatchers = ExitStack()
        self._workers: list[SocketWorkerTransport] = []

    def start_dispatcher(
        self, positions: Sequence[Position] = (), sessions: Mapping[str, int] = {}
    ) -> DispatcherTransport:
        self._dispatchers.close()
        transport = SocketTransport(TICK_SECONDS)
        transport.open(positions, sessions)
        self._dispatchers.enter_context(self._serving(transport))
        return transport

    def make_worker(self) -> WorkerTransport:
        self._workers.append(SocketWorkerTransport(self._storage))
        return self._workers[-1]

    def close(self) -> None:
        for worker in self._workers:
            worker.close(0)
        self._dispatchers.close()

    @contextmanager
    def _serving(self, transport: SocketTransport) -> Iterator[None]:
        """Hand the connections of workers to the transport."""
        try:
            with serving(self._storage, attach=transport.attach):
                yield
        finally:
            with suppress(ValueError, OSError, KeyError):  # a test may have closed it
                transport.close()


class KafkaEnds:
    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        self._dispatchers: list[KafkaTransport] = []
        self._workers: list[KafkaWorkerTransport] = []

    def start_dispatcher(
        self,
        positions: Sequence[Position] = (),
        sessions: Mapping[str, int] = {},
        dispatcher: str = DISPATCHER,
    ) -> KafkaTransport:
        transport = KafkaTransport(self.settings, lambda: dispatcher, tick_seconds=TICK_SECONDS)
        self._dispatchers.append(transport)
        transport.open(positions, sessions)
        return transport

    def make_worker(self) -> KafkaWorkerTransport:
        self._workers.append(KafkaWorkerTransport(self.settings))
        return self._workers[-1]

    def close(self) -> None:
        for worker in self._workers:
            worker.close(0)
        for dispatcher in self._dispatchers:
            dispatcher.close()


def kafka_ends(kafka: Kafka, settings_with: Callable[[dict[str, str]], Settings], **more: str) -> KafkaEnds:
    """A ends through topics that do not exist yet. more: settings."""
    return KafkaEnds(
        settings_with({
            "KAFKA_BOOTSTRAP_SERVERS": kafka.bootstrap,
            "KAFKA_CREATE_TOPICS": "true",
            "KAFKA_JOBS_TOPIC": kafka.name("jobs"),
            "KAFKA_RESULTS_TOPIC": kafka.name("results"),
            "KAFKA_JOBS_GROUP": kafka.name("group"),
            **more,
        })
    )  # fmt: skip


def opened(worker: WorkerTransport, session: str) -> int:
    """Open a worker's end, as soon as the dispatcher can be reached."""
    deadline = time.monotonic() + PATIENCE_SECONDS
    while True:
        with suppress(TransportAway):
            return worker.open(session)
        assert time.monotonic() < deadline, "the dispatcher cannot be reached"
        time.sleep(0.02)


def hello(session: str, partition: int) -> SessionHello:
    return SessionHello(
        session=session, host="here", version="1", concurrency=2, partition=partition, types=[JobType(name="echo")]
    )


def run(session: str, token: str, payload: bytes = b'{"a": 1}') -> Run:
    return Run(
        to=session, job=f"job of {token}", type="echo", attempt=1, max_attempts=5, token=token, timeout=9.0,
        payload=msgspec.Raw(payload),
    )  # fmt: skip


def reports_of(
    dispatcher: DispatcherTransport, until: Callable[[list[Report]], object], positions: list[Position] | None = None
) -> list[Report]:
    """Receive until the reports that are no ticks satisfy a condition; returns them. positions: receives the last."""
    found: list[Report] = []
    for received in received_by(dispatcher):
        for report, position in received:
            if position is not None and positions is not None:
                positions[:] = [position]
            if not isinstance(report, Tick):
                found.append(report)
        if until(found):
            return found
    raise AssertionError(f"no more reports come than {found[-3:]}")


def ticks_of(dispatcher: DispatcherTransport, count: int) -> list[Tick]:
    """Receive until so many ticks came."""
    found: list[Tick] = []
    for received in received_by(dispatcher):
        found += [report for report, _ in received if isinstance(report, Tick)]
        if len(found) >= count:
            return found
    raise AssertionError(f"only {len(found)} ticks come")


def received_by(dispatcher: DispatcherTransport) -> Iterator[list]:  # type: ignore[type-arg]
    deadline = time.monotonic() + PATIENCE_SECONDS
    while time.monotonic() < deadline:
        yield dispatcher.receive(0.2, 4_000)[0]


def work_for(worker: WorkerTransport, count: int, dispatcher: DispatcherTransport) -> list[Work]:
    """Receive until so many messages came to the session. The dispatcher's end sends what waits, and takes nothing."""
    found: list[Work] = []
    deadline = time.monotonic() + PATIENCE_SECONDS
    while len(found) < count:
        assert time.monotonic() < deadline, f"only {len(found)} of {count} messages come"
        found += worker.receive(0.1, 100)
        dispatcher.receive(0, 0)
    return found


def meet(dispatcher: DispatcherTransport, worker: WorkerTransport, session: str) -> int:
    """Let a session begin: the dispatcher has heard its hello, and sends. Returns its partition."""
    partition = opened(worker, session)
    worker.report([hello(session, partition)])

    def has_said_hello(found: list[Report]) -> bool:
        worker.report([])  # a hello that a broker did not take, as the topic is new, is written again
        return any(isinstance(each, SessionHello) and each.session == session for each in found)

    reports_of(dispatcher, has_said_hello)
    ticks_of(dispatcher, 1)
    return partition

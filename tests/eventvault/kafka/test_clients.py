"""A client that gets no answer ends before the next one is made: else all of them go on logging in, beside each other.

They would do so until Python collects garbage, which the store does seldom. A broker that starts has the more to do.
"""

from __future__ import annotations

import gc
import socket
import threading
import weakref
from collections.abc import Callable, Iterator
from contextlib import closing, suppress
from pathlib import Path
from typing import Any

import pytest

from eventvault.database.bus import EventBus
from eventvault.database.nonces import Nonces
from eventvault.database.registry import create_database
from eventvault.errors import KafkaUnreachable
from eventvault.kafka import clients, refusals, topics
from eventvault.kafka.accepted_losses import AcceptedLosses
from eventvault.kafka.broker_bounds import Brokers
from eventvault.kafka.consuming import Consuming
from eventvault.kafka.jobs.jobs_reader import JobsReader
from eventvault.kafka.jobs.reader_state import ReaderState
from eventvault.kafka.jobs.reader_thread import ReaderThread
from eventvault.kafka.jobs.reports_reader import ReportsReader
from eventvault.kafka.jobs.work_reader import WorkReader, WorkState
from eventvault.kafka.monitor import KafkaMonitor
from eventvault.kafka.publish.monitor import PublishMonitor
from eventvault.kafka.publish.publisher import Publisher
from eventvault.settings import Settings
from tests.eventvault.kafka.conftest import Consume, MemoryRegistry
from tests.kafka_broker import PATIENCE_SECONDS, Kafka
from tests.processes import wait_until


@pytest.fixture
def made(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[weakref.ref[Any]]]:
    """Each client that is made while nothing collects garbage."""
    found: list[weakref.ref[Any]] = []

    def remembered(make: Callable[..., None]) -> Callable[..., None]:
        def remember(self: Any, *arguments: Any, **named: Any) -> None:
            found.append(weakref.ref(self))
            make(self, *arguments, **named)

        return remember

    for kind in (clients.Admin, clients.MonotonicConsumer, clients.WatchedProducer):
        monkeypatch.setattr(kind, "__init__", remembered(kind.__init__))
    monkeypatch.setattr(topics, "REQUEST_TIMEOUT_SECONDS", 0.05)
    gc.disable()
    try:
        yield found
    finally:
        gc.enable()


def consume(settings: Settings, folder: Path) -> None:
    registry = MemoryRegistry()
    Consuming(
        settings, registry.sink, registry.load, KafkaMonitor(settings), threading.Event(), AcceptedLosses(folder)
    ).run()


def publish(settings: Settings, folder: Path) -> None:
    create_database(folder / "db")
    bus = EventBus(folder / "db", publishes=True)
    bus.init([])
    try:
        monitor = PublishMonitor("published", bus.backlog)
        Publisher(settings, bus, Nonces(), monitor)._publish_from_beginning(threading.Event())
    finally:
        bus.close()


def ask_for_offsets(settings: Settings, _: Path) -> None:
    Brokers(settings)(["events"])


def read_by(make: Callable[[Settings], Any]) -> Callable[[Settings, Path], None]:
    def read(settings: Settings, _: Path) -> None:
        thread = ReaderThread("a reader", lambda: make(settings), lambda *_: None)
        assert "Kafka does not answer" in (thread._read() or "")
        raise KafkaUnreachable("as its caller found")

    return read


def jobs_reader(settings: Settings) -> JobsReader:
    return JobsReader(settings, ReaderState(None, {}))


def reports_reader(settings: Settings) -> ReportsReader:
    return ReportsReader(settings, ReaderState(None, {}))


def work_reader(settings: Settings) -> WorkReader:
    return WorkReader(settings, WorkState("session"))


@pytest.mark.parametrize(
    "attempt",
    [
        pytest.param(consume, id="consumer"),
        pytest.param(publish, id="publisher"),
        pytest.param(ask_for_offsets, id="offsets"),
        *(pytest.param(read_by(make), id=make.__name__) for make in (jobs_reader, reports_reader, work_reader)),
    ],
)
def test_of_what_got_no_answer_no_client_stays(
    attempt: Callable[[Settings, Path], None],
    made: list[weakref.ref[Any]],
    settings_with: Callable[[dict[str, str]], Settings],
    tmp_path: Path,
) -> None:
    settings = settings_with({"KAFKA_BOOTSTRAP_SERVERS": "127.0.0.1:1", "KAFKA_PUBLISH_TOPIC": "published"})
    try:
        attempt(settings, tmp_path)
    except KafkaUnreachable:
        pass
    else:
        pytest.fail("a broker answered")
    assert made
    assert [client for client in made if client() is not None] == []


class SlowRoad:
    """A port that leads to a broker. Each connection waits on it until one more request has failed."""

    def __init__(self, broker: str, monkeypatch: pytest.MonkeyPatch) -> None:
        self._broker = broker
        self._failed = 0
        self._changed = threading.Condition()
        self._is_open = False
        self._ask = topics.describe_cluster
        monkeypatch.setattr(topics, "describe_cluster", self._describe_cluster)
        monkeypatch.setattr(topics, "REQUEST_TIMEOUT_SECONDS", 1.0)
        monkeypatch.setattr(refusals, "PROBE_SECONDS", 0.1)
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.address = f"127.0.0.1:{self._listener.getsockname()[1]}"
        threading.Thread(target=self._accept, daemon=True).start()

    def close(self) -> None:
        self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()

    def _describe_cluster(self, admin: clients.Admin) -> topics.Cluster:
        try:
            cluster = self._ask(admin)
        except KafkaUnreachable:
            with self._changed:
                self._failed += 1
                self._changed.notify_all()
            raise
        with self._changed:
            self._is_open = True
            self._changed.notify_all()
        return cluster

    def _accept(self) -> None:
        with suppress(OSError):
            while True:
                connection, _ = self._listener.accept()
                threading.Thread(target=self._lead, args=(connection, self._failed), daemon=True).start()

    def _lead(self, connection: socket.socket, failed: int) -> None:
        with self._changed:
            self._changed.wait_for(lambda: self._is_open or self._failed > failed, PATIENCE_SECONDS)
        host, _, port = self._broker.partition(",")[0].rpartition(":")
        with connection, socket.create_connection((host, int(port)), PATIENCE_SECONDS) as broker:
            back = threading.Thread(target=pump, args=(broker, connection), daemon=True)
            back.start()
            pump(connection, broker)
            back.join(PATIENCE_SECONDS)


def pump(source: socket.socket, target: socket.socket) -> None:
    """Pass on what comes, until one of them ends."""
    with suppress(OSError):
        while piece := source.recv(65536):
            target.sendall(piece)
        target.shutdown(socket.SHUT_RDWR)


@pytest.mark.kafka
def test_a_login_that_takes_longer_than_a_request_waits_comes_to_its_end(
    kafka: Kafka, consume: Consume, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A new client for each request would connect and log in from the start, and get as far as the one before."""
    topic = kafka.topic()
    kafka.send(topic, ['{"id": "1", "type": "t"}'])
    with closing(SlowRoad(kafka.bootstrap, monkeypatch)) as road:
        one = consume(road.address, topic)
        wait_until(lambda: one.registry.types() == ["t"], "the event does not come", PATIENCE_SECONDS)
        one.consumer.stop()

"""A client that gets no answer ends before the next one is made: else all of them go on logging in, beside each other.

They would do so until Python collects garbage, which the store does seldom. A broker that starts has the more to do.
"""

from __future__ import annotations

import gc
import threading
import weakref
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from eventvault.database.bus import EventBus
from eventvault.database.nonces import Nonces
from eventvault.database.registry import create_database
from eventvault.errors import KafkaUnreachable
from eventvault.kafka import clients, topics
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
from tests.eventvault.kafka.conftest import MemoryRegistry


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

"""What both ends of the transport know of others, and what waits for a broker, is bounded. Without a broker."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from confluent_kafka import KafkaError

from eventvault.jobs.job import JobProgress
from eventvault.jobs.messages import Beat, Bye, Done, Progressed, Report, Tick, decode_report
from eventvault.jobs.transport import Loss, OutboxMessage, Position
from eventvault.kafka.jobs import dispatcher_transport, outbox_writer, reader_state, ticks, worker_transport
from eventvault.kafka.jobs.dispatcher_transport import KafkaTransport
from eventvault.kafka.jobs.reader_state import ReaderState, ReadReport
from eventvault.kafka.jobs.ticks import Ticks
from eventvault.kafka.jobs.work_reader import WorkState
from eventvault.kafka.jobs.worker_transport import KafkaWorkerTransport
from eventvault.problems import Problem
from eventvault.settings import Settings
from tests.eventvault.jobs.transport_ends import hello


class FakeProducer:
    """A client whose broker is away: what it is given stays with it, up to `room`."""

    def __init__(self, *_: Any, **__: Any) -> None:
        self.room = 100_000
        self.is_outdated = False
        self.queue: list[tuple[Report, Callable[..., None]]] = []

    def produce(self, topic: str, value: bytes, key: bytes, partition: int, on_delivery: Callable[..., None]) -> None:
        del topic, key, partition
        if len(self.queue) >= self.room:
            raise BufferError
        self.queue.append((decode_report(value), on_delivery))

    def poll(self) -> None: ...

    def drop(self) -> None:
        self.deliver(KafkaError(KafkaError._PURGE_QUEUE))

    def deliver(self, error: KafkaError | None = None) -> list[Report]:
        """The broker is back: all that is here arrives, or fails. Returns it."""
        queue, self.queue = self.queue, []
        for _, on_delivery in queue:
            on_delivery(error, None)
        return [report for report, _ in queue]


@pytest.fixture
def kafka_settings(settings_with: Callable[[dict[str, str]], Settings]) -> Settings:
    return settings_with({"KAFKA_BOOTSTRAP_SERVERS": "localhost:1"})


@pytest.fixture
def worker(kafka_settings: Settings, monkeypatch: pytest.MonkeyPatch) -> KafkaWorkerTransport:
    monkeypatch.setattr(worker_transport.clients, "producer", FakeProducer)
    monkeypatch.setattr(worker_transport, "RETRY_SECONDS", 0.0)
    transport = KafkaWorkerTransport(kafka_settings)
    transport._state = WorkState("s1")
    return transport


def producer(worker: KafkaWorkerTransport) -> FakeProducer:
    worker.report([])
    assert isinstance(worker._producer, FakeProducer)
    return worker._producer


def progressed(token: str, fraction: float) -> Progressed:
    return Progressed(session="s1", token=token, job="j", progress=JobProgress(fraction))


def done(token: str) -> Done:
    return Done(session="s1", token=token, job="j", seconds=1.0)


def test_of_progress_the_newest_of_each_job_waits_for_a_broker(worker: KafkaWorkerTransport) -> None:
    for number in range(1_000):
        worker.report([progressed("t1", number / 1_000), progressed("t2", number / 1_000), Beat(session="s1")])
    client = producer(worker)
    assert len(client.queue) + len(worker._waiting) + len(worker._progress) <= 6
    assert client.deliver() == [progressed("t1", 0.0), progressed("t2", 0.0), Beat(session="s1")]
    worker.report([Beat(session="s1")])
    newest = client.deliver()
    assert sorted(newest[1:], key=str) == [progressed("t1", 0.999), progressed("t2", 0.999)]


def test_of_progress_the_newest_waits_for_room_in_a_full_client(worker: KafkaWorkerTransport) -> None:
    worker.report([Beat(session="s1")])
    client = producer(worker)
    client.room = 1
    for number in range(1_000):
        worker.report([progressed("t1", number / 1_000), Beat(session="s1")])
    assert len(worker._waiting) + len(worker._progress) <= 2
    client.deliver()
    client.room = 10
    worker.report([])
    assert client.deliver() == [progressed("t1", 0.0)]
    worker.report([])
    assert client.deliver() == [progressed("t1", 0.999)]


def test_a_job_that_has_ended_has_no_progress_any_more(worker: KafkaWorkerTransport) -> None:
    worker.report([progressed("t1", 0.1)])
    worker.report([progressed("t1", 0.2)])
    worker.report([done("t1")])
    client = producer(worker)
    assert client.deliver() == [progressed("t1", 0.1), done("t1")]
    worker.report([Beat(session="s1")])
    assert client.deliver() == [Beat(session="s1")]


def test_what_could_not_be_written_is_written_again_but_no_old_progress(worker: KafkaWorkerTransport) -> None:
    worker.report([progressed("t1", 0.1), done("t2")])
    client = producer(worker)
    worker.report([progressed("t1", 0.2)])
    client.deliver(KafkaError(KafkaError._MSG_TIMED_OUT))
    worker.report([])
    assert client.deliver() == [done("t2"), progressed("t1", 0.2)]


def test_a_client_that_is_outdated_is_replaced_and_what_it_had_is_written_by_the_next(
    worker: KafkaWorkerTransport,
) -> None:
    worker.report([progressed("t1", 0.1), done("t2"), Beat(session="s1")])
    client = producer(worker)
    client.is_outdated = True
    worker.report([])
    assert producer(worker) is not client
    worker.report([Beat(session="s1")])
    assert producer(worker).deliver() == [done("t2"), progressed("t1", 0.1), Beat(session="s1")]


def test_the_dispatcher_replaces_such_a_client_too(kafka_settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(dispatcher_transport.clients, "producer", FakeProducer)
    transport = KafkaTransport(kafka_settings, lambda: "d1")
    transport._make_producer()
    client = transport._producer
    assert isinstance(client, FakeProducer)
    client.is_outdated = True
    transport._step()
    assert isinstance(transport._producer, FakeProducer)
    assert transport._producer is not client


def test_an_outcome_that_such_a_client_had_is_written_by_the_next_and_one_that_is_there_is_not(
    kafka_settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    written = list[bytes]()

    class OutcomeProducer(FakeProducer):
        def produce(self, topic: str, value: bytes, key: bytes, **more: Any) -> None:
            del topic, key
            written.append(value)
            self.queue.append((Beat(session="s1"), more["on_delivery"]))

    monkeypatch.setattr(outbox_writer.clients, "producer", OutcomeProducer)
    monkeypatch.setattr(outbox_writer, "RETRY_SECONDS", 0.0)
    writer = outbox_writer.OutboxWriter(kafka_settings)
    there, waits = OutboxMessage("result", b"k", b"there", ()), OutboxMessage("result", b"k", b"waits", ())
    writer.publish([there])
    client = writer._producer
    assert isinstance(client, OutcomeProducer)
    client.deliver()
    writer.publish([waits])
    client.is_outdated = True
    assert writer.publish([there, waits]) == [there]
    assert written == [b"there", b"waits", b"waits"]
    assert writer._producer is not client


POSITION = Position("jobs.reports", 0, 1)


def test_of_many_sessions_the_partition_of_those_is_known_that_were_heard_last(
    kafka_settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(dispatcher_transport, "MOST_SESSIONS", 10)
    transport = KafkaTransport(kafka_settings, lambda: "d1")

    def hear(*reports: Report) -> None:
        transport._received([ReadReport(report, POSITION) for report in reports])

    hear(hello("lives", 3))
    for number in range(100):
        hear(hello(f"lost {number}", 1), Beat(session="lives"))
    assert len(transport._partitions) == 10
    assert (transport._partitions.get("lives"), transport._partitions.get("lost 99")) == (3, 1)
    hear(Bye(session="lives"))
    assert transport._partitions.get("lives") is None


def test_of_many_dispatchers_those_are_known_that_were_heard_last(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ticks, "MOST_OTHERS", 5)
    own = Ticks("m", 0, 1.0)
    own.caught_up(is_late=False)
    for number in range(1_000):
        own.read(Tick(dispatcher="a", number=number))
        own.read(Tick(dispatcher=f"z{number}", number=1))
    assert len(own._others) == 5
    assert own.stands_by, "the one that lives is known"


def loss(number: int) -> Loss:
    return Loss(f"jobs/0/{number}", "kafka_messages_gone", f"{number} messages are gone", "send them again")


def test_of_many_losses_the_newest_are_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reader_state, "MOST_LOSSES", 3)
    state = ReaderState(None, {})
    for number in range(5):
        state.note_loss(loss(number))
    assert list(state.losses.values()) == [loss(2), loss(3), loss(4)]


def test_losses_that_the_dispatcher_notes_are_bounded_too(
    kafka_settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(reader_state, "MOST_LOSSES", 3)
    transport = KafkaTransport(kafka_settings, lambda: "d1")
    for number in range(5):
        transport.remember([loss(number)])
    assert transport.losses() == [loss(2), loss(3), loss(4)]


def test_what_is_accepted_is_what_was_known_then(kafka_settings: Settings) -> None:
    transport = KafkaTransport(kafka_settings, lambda: "d1")
    transport._state.note_loss(loss(1))
    transport._state.stopped = {"jobs/1": Problem("kafka_topic_diverged", "others stand there", "accept it")}
    transport.go_on()
    transport._state.note_loss(loss(2))
    assert transport.losses() == [loss(2)]
    assert list(transport._state.accepted) == ["jobs/1"]
    transport.remember([loss(7)])
    assert [problem.code for problem in transport.problems()] == [
        "kafka_topic_diverged", "kafka_messages_gone", "kafka_messages_gone",
    ]  # fmt: skip

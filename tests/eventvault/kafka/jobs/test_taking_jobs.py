"""Messages of the topic `jobs`: each comes once, whatever happens to the topic, and not while old workers take them."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import replace

import msgspec
import pytest
from confluent_kafka import Consumer, TopicPartition

from eventvault.jobs.lease import LEASE_TICKS
from eventvault.jobs.messages import Returned
from eventvault.jobs.transport import DispatcherTransport, Position, Submitted
from eventvault.kafka.jobs import ticks as ticks_module
from eventvault.problems import Problem
from tests.eventvault.jobs.transport_ends import PATIENCE_SECONDS, KafkaEnds, meet, reports_of, ticks_of
from tests.eventvault.kafka import raw_producer
from tests.kafka_broker import Kafka
from tests.processes import wait_until

pytestmark = pytest.mark.kafka

Places = dict[tuple[str, int], Position]


def until(condition: Callable[[], object], what: str) -> None:
    wait_until(condition, what, PATIENCE_SECONDS)


def jobs_of(dispatcher: DispatcherTransport, count: int, places: Places | None = None) -> list[Submitted]:
    """Receive until so many jobs came; fails if more do. places: receives the positions, as the database would."""
    found: list[Submitted] = []
    deadline = time.monotonic() + PATIENCE_SECONDS
    while len(found) < count:
        assert time.monotonic() < deadline, f"only {len(found)} of {count} jobs come"
        _receive(dispatcher, found, places)
    ticks = 0
    while ticks < 3:  # nothing more is on its way
        ticks += _receive(dispatcher, found, places)
    assert len(found) == count, [each.value for each in found]
    return found


def _receive(dispatcher: DispatcherTransport, found: list[Submitted], places: Places | None) -> int:
    received, submitted = dispatcher.receive(0.1, 1_000)
    found += submitted
    positions = [each.position for each in (*received, *submitted) if each.position is not None]
    if places is not None:
        places.update({(position.topic, position.partition): position for position in positions})
    return len(received)


def values(submitted: list[Submitted]) -> list[bytes | None]:
    return [each.value for each in submitted]


def committed(kafka: Kafka, ends: KafkaEnds) -> int:
    group, topic = ends.settings.kafka_jobs_group, ends.settings.kafka_jobs_topic
    consumer = Consumer({"bootstrap.servers": kafka.bootstrap, "group.id": group, "log_level": 0})
    try:
        return int(consumer.committed([TopicPartition(topic, 0)], timeout=30)[0].offset)
    finally:
        consumer.close()


@pytest.fixture
def topic(kafka: Kafka, ends: KafkaEnds) -> str:
    return kafka.topic(name=ends.settings.kafka_jobs_topic)


def test_the_next_dispatcher_goes_on_where_the_one_before_wrote(kafka: Kafka, ends: KafkaEnds, topic: str) -> None:
    places: Places = {}
    kafka.send(topic, ["a", "b", "c"], key=b"k", headers=[("h", b"v")])
    first = ends.start_dispatcher()
    found = jobs_of(first, 3, places)
    assert values(found) == [b"a", b"b", b"c"]
    assert {(each.key, each.headers) for each in found} == {(b"k", (("h", b"v"),))}
    assert [each.position.offset for each in found] == [1, 2, 3]
    first.close()
    kafka.send(topic, ["d"])
    assert values(jobs_of(ends.start_dispatcher(list(places.values())), 1)) == [b"d"]


def test_what_was_not_written_comes_again(kafka: Kafka, ends: KafkaEnds, topic: str) -> None:
    kafka.send(topic, ["a", "b"])
    places: Places = {}
    first = ends.start_dispatcher()
    places[topic, 0] = jobs_of(first, 2, places)[0].position
    first.close()
    assert values(jobs_of(ends.start_dispatcher(list(places.values())), 1)) == [b"b"]


def test_any_message_comes_as_it_is(kafka: Kafka, ends: KafkaEnds, topic: str) -> None:
    kafka.send(topic, [None, b"\xff\x00", b"[" * 5_000])
    raw_producer.produce(kafka.bootstrap, topic, b"{}", [(b"\xff", b"no name")])
    found = jobs_of(ends.start_dispatcher(), 4)
    assert values(found) == [None, b"\xff\x00", b"[" * 5_000, b"{}"]


def test_a_full_queue_gets_reports_but_no_jobs(kafka: Kafka, ends: KafkaEnds, topic: str) -> None:
    dispatcher, worker = ends.start_dispatcher(), ends.make_worker()
    meet(dispatcher, worker, "s1")
    kafka.send(topic, ["a"])
    worker.report([Returned(session="s1", token="t1", job="j")])
    found = []
    deadline = time.monotonic() + PATIENCE_SECONDS
    while not any(isinstance(report, Returned) for report, _ in found):
        assert time.monotonic() < deadline, "no report comes"
        received, jobs = dispatcher.receive(0.1, 100, submissions=False)
        found += received
        assert jobs == []
    assert values(jobs_of(dispatcher, 1)) == [b"a"]


def test_nothing_is_taken_while_old_workers_take_it_and_then_it_begins_behind_them(
    kafka: Kafka, ends: KafkaEnds, topic: str
) -> None:
    kafka.send(topic, ["a", "b", "c"])
    group = ends.settings.kafka_jobs_group
    old = Consumer({"bootstrap.servers": kafka.bootstrap, "group.id": group, "auto.offset.reset": "earliest",
                    "enable.auto.commit": False, "log_level": 0})  # fmt: skip
    old.subscribe([topic])
    until(lambda: old.poll(0.1), "the old worker gets no job")
    dispatcher = ends.start_dispatcher()
    until(
        lambda: dispatcher.receive(0.1, 100) and _problems(dispatcher) == ["old_workers"], "the old worker is not named"
    )
    assert dispatcher.receive(0, 100)[1] == []
    old.commit(offsets=[TopicPartition(topic, 0, 2)], asynchronous=False)
    old.close()
    assert values(jobs_of(dispatcher, 1)) == [b"c"]
    assert dispatcher.problems() == []


def test_old_workers_and_other_dispatchers_see_how_far_all_is_written(
    kafka: Kafka, ends: KafkaEnds, topic: str
) -> None:
    kafka.send(topic, ["a", "b"])
    first = ends.start_dispatcher()
    jobs_of(first, 2)
    until(lambda: first.receive(0.1, 100) and committed(kafka, ends) == 2, "nothing is committed")
    first.close()
    kafka.send(topic, ["c"])
    assert values(jobs_of(ends.start_dispatcher(dispatcher="d2"), 1)) == [b"c"]


def test_of_two_dispatchers_one_stands_by_until_the_other_ends(
    kafka: Kafka, ends: KafkaEnds, topic: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ticks_module, "LEASE_TICKS", 1_000)  # a busy machine may hold up one of them for a while
    lower, worker = ends.start_dispatcher(dispatcher="d1"), ends.make_worker()
    meet(lower, worker, "s1")
    ticks_of(lower, 1)
    higher = ends.start_dispatcher(dispatcher="d2")
    kafka.send(topic, ["a"])
    found: list[Submitted] = []

    def both() -> int:
        reports, jobs = higher.receive(0.02, 100)
        assert jobs == []
        _receive(lower, found, None)
        return len(reports)

    ticks = 0
    deadline = time.monotonic() + PATIENCE_SECONDS
    while ticks < 10 or not found:
        assert time.monotonic() < deadline
        ticks += both()
    assert values(found) == [b"a"]
    assert lower.problems() == higher.problems() == []
    until(lambda: both() or committed(kafka, ends) == 1, "nothing is committed")
    until(lambda: both() >= 0 and committed(kafka, ends) == 1, "nothing is committed")
    monkeypatch.setattr(ticks_module, "LEASE_TICKS", LEASE_TICKS)
    lower.close()
    kafka.send(topic, ["b"])
    assert values(jobs_of(higher, 1)) == [b"b"]


def old_copy(kafka: Kafka, ends: KafkaEnds, topic: str) -> list[Position]:
    """What the database had before the second of three jobs; a dispatcher has taken two of them."""
    places: Places = {}
    first = ends.start_dispatcher()
    kafka.send(topic, ["a"])
    jobs_of(first, 1, places)
    copy = list(places.values())
    kafka.send(topic, ["b"])
    jobs_of(first, 1)
    until(lambda: first.receive(0.1, 100) and committed(kafka, ends) == 2, "nothing is committed")
    first.close()
    kafka.send(topic, ["c"])
    return copy


def test_an_old_copy_of_the_database_takes_and_sends_nothing_until_that_is_accepted(
    kafka: Kafka, ends: KafkaEnds, topic: str
) -> None:
    places: Places = {}
    second = ends.start_dispatcher(old_copy(kafka, ends, topic))
    for _ in range(5):
        assert ticks_of(second, 1)
    assert second.is_rewound()
    assert second.receive(0, 100)[1] == []
    second.go_on()
    assert values(jobs_of(second, 1, places)) == [b"c"]
    second.close()
    third = ends.start_dispatcher(list(places.values()))
    ticks_of(third, 2)
    assert not third.is_rewound()


def test_an_old_copy_whose_lost_changes_were_accepted_before_goes_on_at_once(
    kafka: Kafka, ends: KafkaEnds, topic: str
) -> None:
    second = ends.start_dispatcher(old_copy(kafka, ends, topic))
    second.go_on(lacks_changes=True)
    assert values(jobs_of(second, 1)) == [b"c"]
    assert not second.is_rewound()


def test_a_topic_that_was_made_anew_is_read_from_its_beginning(kafka: Kafka, ends: KafkaEnds, topic: str) -> None:
    places: Places = {}
    kafka.send(topic, ["a", "b", "c"])
    first = ends.start_dispatcher()
    jobs_of(first, 3, places)
    kafka.delete(topic)
    kafka.topic(name=topic)
    kafka.send(topic, ["d", "e"])
    assert values(jobs_of(first, 2, places)) == [b"d", b"e"]
    first.close()
    kafka.delete(topic)
    kafka.topic(name=topic)
    kafka.send(topic, ["f"])
    second = ends.start_dispatcher(list(places.values()))
    assert values(jobs_of(second, 1)) == [b"f"]
    assert second.problems() == []


def test_jobs_that_the_topic_lost_are_named_until_that_is_accepted(kafka: Kafka, ends: KafkaEnds, topic: str) -> None:
    places: Places = {}
    kafka.send(topic, ["a"])
    first = ends.start_dispatcher()
    jobs_of(first, 1, places)
    first.close()
    kafka.send(topic, ["b", "c", "d"])
    kafka.remove_before(topic, 3)
    second = ends.start_dispatcher(list(places.values()))
    assert values(jobs_of(second, 1, places)) == [b"d"]
    (problem,) = second.problems()
    assert problem.code == "kafka_messages_gone"
    assert "2 messages" in problem.message
    losses = second.losses()
    second.close()
    third = ends.start_dispatcher(list(places.values()))
    third.remember(losses)
    assert third.problems() == [Problem(problem.code, problem.message, losses[0].hint)], "a restart does not forget it"
    third.go_on()
    assert (third.problems(), third.losses()) == ([], [])


def test_a_partition_with_other_messages_stays_stopped_until_that_is_accepted(
    kafka: Kafka, ends: KafkaEnds, topic: str
) -> None:
    kafka.send(topic, ["a", "b"])
    places: Places = {}
    first = ends.start_dispatcher()
    jobs_of(first, 2, places)
    first.close()
    places[topic, 0] = msgspec.structs.replace(places[topic, 0], crc=12345)
    second = ends.start_dispatcher(list(places.values()))
    second.go_on()
    until(lambda: second.receive(0.1, 100) and _problems(second) == ["kafka_topic_diverged"], "it is not stopped")
    assert second.receive(0, 100)[1] == [], "what was accepted before the loss was another one"
    second.go_on()
    assert values(jobs_of(second, 2)) == [b"a", b"b"]
    assert second.problems() == []


def test_new_partitions_are_read(kafka: Kafka, ends: KafkaEnds, topic: str) -> None:
    dispatcher = ends.start_dispatcher()
    kafka.send(topic, ["a"])
    jobs_of(dispatcher, 1)
    kafka.add_partitions(topic, 3)
    kafka.send(topic, ["b"], partition=2)
    assert values(jobs_of(dispatcher, 1)) == [b"b"]


def test_without_a_topic_that_is_said_and_reports_go_on(kafka: Kafka, ends: KafkaEnds) -> None:
    ends.settings = replace(ends.settings, kafka_create_topics=False)
    dispatcher = ends.start_dispatcher()
    names = {ends.settings.kafka_jobs_topic, f"{ends.settings.kafka_jobs_topic}.work"}
    until(lambda: {"jobs_topic_missing"} == set(_problems(dispatcher)), "nothing is said")
    assert len(dispatcher.problems()) == 5
    for name in (*names, f"{ends.settings.kafka_jobs_topic}.reports", f"{ends.settings.kafka_jobs_topic}.dead-letter"):
        kafka.topic(name=name)
    kafka.topic(name=ends.settings.kafka_results_topic)
    until(lambda: not dispatcher.problems(), "the topics are not found")
    worker = ends.make_worker()
    meet(dispatcher, worker, "s1")
    reports_of(dispatcher, lambda _: True)


def _problems(dispatcher: DispatcherTransport) -> list[str]:
    return [problem.code for problem in dispatcher.problems()]

"""Events from a real broker into a registry: once, in order, and never beyond an offset that does not match."""

from __future__ import annotations

import json
import signal
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from typing import Any

import pytest
from confluent_kafka import OFFSET_INVALID, Producer, TopicPartition

from eventvault import settings
from eventvault.database.values import AppendResult
from eventvault.errors import NoSpace
from eventvault.events.event import EventDraft
from eventvault.kafka import consuming
from eventvault.kafka.clients import Admin
from eventvault.kafka.consumer import EventsConsumer
from eventvault.kafka.monitor import KafkaMonitor
from eventvault.kafka.offsets import StoredOffset, checksum, offset_put
from eventvault.kafka.values import Reference
from tests.eventvault.kafka import raw_producer
from tests.eventvault.kafka.conftest import MemoryRegistry
from tests.kafka_broker import Kafka
from tests.kafka_process import KafkaBroker
from tests.processes import wait_until

Consume = Callable[..., Any]
PATIENCE_SECONDS = 60


def until(condition: Callable[[], object], what: str) -> None:
    wait_until(condition, what, PATIENCE_SECONDS)


def events(first: int, last: int) -> list[str]:
    return [json.dumps({"id": str(number), "type": f"t{number}"}) for number in range(first, last + 1)]


class SharedRegistry(MemoryRegistry):
    """others: how many events another one appends before each write. batches: events of each write."""

    def __init__(self) -> None:
        super().__init__()
        self.others = 0
        self.batches: list[int] = []
        self._of_others = 0

    def sink(self, drafts: Sequence[EventDraft], *written: Any) -> AppendResult:
        self.batches.append(len(drafts))
        self._of_others += self.others
        found = super().sink(drafts, *written)
        return AppendResult(found.results, found.last_sequence + self._of_others)


def test_without_kafka_nothing_is_started(settings_environment: dict[str, str]) -> None:
    loaded = settings.load(settings_environment)

    def never(*_: object) -> Any:
        raise AssertionError("nothing may be read or stored")

    consumer = EventsConsumer(loaded, begin=never, load=never, monitor=KafkaMonitor(loaded))
    consumer.start()
    assert consumer.monitor.snapshot() == {"configured": False}
    assert consumer.monitor.problems() == []
    consumer.stop()


@pytest.mark.kafka
def test_a_consumer_that_is_started_again_goes_on_where_it_stopped(kafka: Kafka, consume: Consume) -> None:
    topic = kafka.topic()
    kafka.send(topic, events(1, 3))
    first = consume(kafka.bootstrap, topic)
    until(lambda: len(first.registry.drafts) == 3, "the first three events do not come")
    first.consumer.stop()
    assert first.registry.offsets(topic)[0].next == 3
    kafka.send(topic, events(4, 6))
    second = consume(kafka.bootstrap, topic, first.registry)
    until(lambda: len(second.registry.drafts) == 6, "the next three events do not come")
    assert second.registry.types() == ["t1", "t2", "t3", "t4", "t5", "t6"]
    assert second.registry.appended == 6
    second.consumer.stop()
    kafka.send(topic, events(7, 7))
    second.consumer.start()
    until(lambda: second.registry.appended == 7, "a consumer cannot be started again")


@pytest.mark.kafka
def test_a_restored_registry_catches_up_from_the_offsets_in_it(kafka: Kafka, consume: Consume) -> None:
    topic = kafka.topic()
    kafka.send(topic, events(1, 4))
    one = consume(kafka.bootstrap, topic)
    until(lambda: len(one.registry.drafts) == 4, "the events do not come")
    one.consumer.stop()
    one.registry.drafts = dict(list(one.registry.drafts.items())[:2])
    offset = replace_offset(one.registry.offsets(topic)[0], next=2, crc=checksum(events(2, 2)[0].encode()))
    one.registry.metadata = dict([offset_put(topic, 0, offset)])
    one.consumer.start()
    until(lambda: len(one.registry.drafts) == 4, "the registry does not catch up")
    assert one.registry.types() == ["t1", "t2", "t3", "t4"]


@pytest.mark.kafka
def test_what_cannot_be_understood_becomes_a_dead_letter_and_the_rest_goes_on(kafka: Kafka, consume: Consume) -> None:
    topic = kafka.topic()
    kafka.send(
        topic, [*events(1, 1), b"\xff", None, b'{"id": "no type"}', *events(2, 2)], key=b"k", headers=[("h", b"v")]
    )
    one = consume(kafka.bootstrap, topic)
    until(lambda: one.registry.types() == ["t1", "t2"], "the events around the dead letters do not come")
    until(lambda: one.registry.offsets(topic)[0].next == 5, "the offset stays behind")
    letters = kafka.read(f"{topic}.dead-letter", 3)
    assert [letter.value() for letter in letters] == [b"\xff", None, b'{"id": "no type"}']
    assert {letter.key() for letter in letters} == {b"k"}
    headers = [dict(letter.headers()) for letter in letters]
    assert [one["x-eventvault-offset"] for one in headers] == [b"1", b"2", b"3"]
    assert {(one["h"], one["x-eventvault-topic"], one["x-eventvault-partition"]) for one in headers} == {
        (b"v", topic.encode(), b"0")
    }
    assert b"not JSON" in headers[0]["x-eventvault-reason"]
    assert b"no value" in headers[1]["x-eventvault-reason"]
    assert b"type" in headers[2]["x-eventvault-reason"]
    until(lambda: one.monitor.snapshot()["deadLetters"] == 3, "the dead letters are not counted")
    assert [(each.message.offset, each.reference) for each in one.registry.letters] == [
        (offset, Reference(f"{topic}.dead-letter", 0, offset - 1)) for offset in (1, 2, 3)
    ]


@pytest.mark.kafka
def test_a_partition_waits_for_its_dead_letter_and_the_others_go_on(kafka: Kafka, consume: Consume) -> None:
    topic = kafka.topic(2)
    kafka.topic(name=f"{topic}.dead-letter", max_message_bytes="100")
    kafka.send(topic, [*events(1, 1), b"x" * 500, *events(2, 2)], partition=0)
    one = consume(kafka.bootstrap, topic)
    until(lambda: "waiting" in one.states(), "no partition waits")
    kafka.send(topic, events(11, 12), partition=1)
    until(lambda: len(one.registry.drafts) == 3, "the other partition does not go on")
    assert set(one.registry.types()) == {"t1", "t11", "t12"}
    assert one.registry.offsets(topic)[0].next == 1
    assert "kafka_waits" in one.codes()
    kafka.change_config(f"{topic}.dead-letter", max_message_bytes="10000")
    until(lambda: "t2" in one.registry.types(), "the partition does not go on")
    until(lambda: not one.codes(), "health stays degraded")
    assert [letter.value() for letter in kafka.read(f"{topic}.dead-letter", 1)] == [b"x" * 500]


@pytest.mark.kafka
@pytest.mark.parametrize(
    "headers",
    [
        [(b"\xe4", b"v")],
        [(b"good", b"v"), (b"\xff\xfe", b"")],
        [(b"ce_\xc3", b"v"), (b"ce_type", b"t")],
        [(b"ce_id", b"\xff")],
        [(b"\xff", b"v"), (b"\xee", b"v")],
        [(b"\xff", b"v"), (b"\xee", b"v"), (b"h", b"v"), (b"\xf0", b"v")],
    ],
)
def test_a_message_whose_headers_are_not_utf8_is_a_dead_letter(
    kafka: Kafka, consume: Consume, headers: list[tuple[bytes, bytes]]
) -> None:
    topic = kafka.topic()
    kafka.send(topic, events(1, 1))
    raw_producer.produce(kafka.bootstrap, topic, b'{"type": "odd"}', headers)
    kafka.send(topic, events(2, 2))
    one = consume(kafka.bootstrap, topic)
    until(lambda: one.registry.types() == ["t1", "t2"], "the message stops its partition")
    (letter,) = kafka.read(f"{topic}.dead-letter", 1)
    assert letter.value() == b'{"type": "odd"}'
    assert b"not UTF-8" in dict(letter.headers())["x-eventvault-reason"]
    until(lambda: one.codes() == [], "health stays degraded")


@pytest.mark.kafka
def test_without_a_dead_letter_topic_consumption_goes_on_and_health_names_the_messages(
    kafka: Kafka, consume: Consume
) -> None:
    topic = kafka.topic()
    kafka.send(topic, [*events(1, 1), b"\xff", *events(2, 2)])
    one = consume(kafka.bootstrap, topic, create_topics=False)
    until(lambda: one.registry.types() == ["t1", "t2"], "the missing topic stops the partition")
    assert one.codes() == ["kafka_dead_letters_missing"]
    (problem,) = one.monitor.problems()
    assert "0/1" in problem.hint
    assert not kafka.exists(f"{topic}.dead-letter")

    kafka.topic(name=f"{topic}.dead-letter")
    kafka.send(topic, [b"\xfe", *events(3, 3)])
    until(lambda: "t3" in one.registry.types(), "it does not go on")
    assert [letter.value() for letter in kafka.read(f"{topic}.dead-letter", 1)] == [b"\xfe"]
    until(lambda: one.codes() == [], "health stays degraded")


@pytest.mark.kafka
def test_a_recreated_topic_stops_its_partitions_until_the_loss_is_accepted(kafka: Kafka, consume: Consume) -> None:
    topic = kafka.topic()
    kafka.send(topic, events(1, 3))
    one = consume(kafka.bootstrap, topic)
    until(lambda: len(one.registry.drafts) == 3, "the events do not come")
    kafka.delete(topic)
    kafka.topic(name=topic)
    kafka.send(topic, events(3, 9))
    until(lambda: one.codes() == ["kafka_topic_recreated"], "the recreated topic is not noticed")
    assert len(one.registry.drafts) == 3
    assert one.states() == ["stopped"]
    again = consume(kafka.bootstrap, topic, one.registry)
    until(lambda: again.codes() == ["kafka_topic_recreated"], "a restart forgets that the topic was recreated")
    again.consumer.stop()
    one.accept_loss(topic, 0)
    until(lambda: len(one.registry.drafts) == 9, "what the new topic has does not come")
    until(lambda: one.codes() == [], "health stays degraded")


@pytest.mark.kafka
def test_messages_that_were_removed_before_they_were_taken_stop_the_partition(kafka: Kafka, consume: Consume) -> None:
    topic = kafka.topic()
    kafka.send(topic, events(1, 2))
    one = consume(kafka.bootstrap, topic)
    until(lambda: len(one.registry.drafts) == 2, "the events do not come")
    one.consumer.stop()
    kafka.send(topic, events(3, 6))
    kafka.remove_before(topic, 4)
    one.consumer.start()
    until(lambda: one.codes() == ["kafka_messages_gone"], "the gap is not noticed")
    assert "2 messages from 2 on were removed" in one.monitor.stopped_problems()[0].message
    one.accept_loss(topic, 0)
    until(lambda: one.registry.types() == ["t1", "t2", "t5", "t6"], "what is left does not come")


@pytest.mark.kafka
def test_a_loss_that_was_accepted_counts_although_more_messages_are_removed_before_anybody_looks(
    kafka: Kafka, consume: Consume
) -> None:
    topic = kafka.topic()
    kafka.send(topic, events(1, 2))
    one = consume(kafka.bootstrap, topic)
    until(lambda: len(one.registry.drafts) == 2, "the events do not come")
    one.consumer.stop()
    kafka.send(topic, events(3, 6))
    kafka.remove_before(topic, 4)
    one.consumer.start()
    until(lambda: one.codes() == ["kafka_messages_gone"], "the gap is not noticed")
    one.consumer.stop()
    one.accept_loss(topic, 0)
    kafka.remove_before(topic, 5)
    later = consume(kafka.bootstrap, topic, one.registry)  # as after a kill: only the disk knows what was accepted
    until(lambda: one.registry.types() == ["t1", "t2", "t6"], "what is left does not come")
    until(lambda: later.codes() == [], "health stays degraded")


@pytest.mark.kafka
@pytest.mark.parametrize(
    ("changed", "code"),
    [
        ({"crc": 1}, "kafka_topic_diverged"),
        ({"next": 9}, "kafka_topic_truncated"),
        ({"topic_id": None, "cluster_id": "another"}, "kafka_cluster_changed"),
        ({"topic_id": "another", "cluster_id": "another"}, "kafka_cluster_changed"),
    ],
)
def test_a_stored_offset_that_does_not_fit_the_topic_stops_the_partition(
    kafka: Kafka, consume: Consume, changed: dict[str, Any], code: str
) -> None:
    topic = kafka.topic()
    kafka.send(topic, events(1, 3))
    one = consume(kafka.bootstrap, topic)
    until(lambda: len(one.registry.drafts) == 3, "the events do not come")
    one.consumer.stop()
    one.registry.metadata = dict([offset_put(topic, 0, replace_offset(one.registry.offsets(topic)[0], **changed))])
    kafka.send(topic, events(4, 5))
    one.consumer.start()
    until(lambda: one.codes() == [code], "nothing is noticed")
    assert len(one.registry.drafts) == 3


@pytest.mark.kafka
def test_a_broker_that_does_not_say_where_a_partition_ends_is_asked_again(
    kafka: Kafka, consume: Consume, monkeypatch: pytest.MonkeyPatch
) -> None:
    """librdkafka answers so, without an error, if the leader of the partition goes away meanwhile."""
    ask, unknown = Admin.list_offsets, list[TopicPartition]()

    def answer(self: Admin, asked: dict[TopicPartition, Any], **options: Any) -> dict[TopicPartition, Future[Any]]:
        answers = ask(self, asked, **options)
        if len(unknown) < 4:  # two questions, each about both ends
            unknown.extend(asked)
            for future in answers.values():
                future.result(PATIENCE_SECONDS).offset = OFFSET_INVALID
        return answers

    topic = kafka.topic()
    kafka.send(topic, events(1, 1))
    one = consume(kafka.bootstrap, topic)
    until(lambda: one.registry.types() == ["t1"], "the event does not come")
    one.consumer.stop()
    monkeypatch.setattr(Admin, "list_offsets", answer)
    kafka.send(topic, events(2, 2))
    again = consume(kafka.bootstrap, topic, one.registry)
    until(lambda: again.registry.types() == ["t1", "t2"], "the partition does not go on")
    assert len(unknown) >= 4
    until(lambda: again.codes() == [], "health stays degraded")
    again.consumer.stop()


@pytest.mark.kafka
def test_a_topic_that_comes_later_and_grows_is_taken_whole(kafka: Kafka, consume: Consume) -> None:
    topic = kafka.name()
    one = consume(kafka.bootstrap, topic)
    until(lambda: one.monitor.snapshot()["connected"], "no connection")
    assert one.monitor.snapshot()["topicExists"] is False
    assert one.codes() == []
    kafka.topic(name=topic)
    kafka.send(topic, events(1, 1))
    until(lambda: len(one.registry.drafts) == 1, "the new topic is not found")
    kafka.add_partitions(topic, 3)
    kafka.send(topic, events(2, 2), partition=2)
    until(lambda: len(one.registry.drafts) == 2, "the new partition is not found")
    until(lambda: one.monitor.snapshot()["lag"] == 0, "the lag does not become 0")


@pytest.mark.kafka
def test_a_registry_that_cannot_write_gets_each_event_once_it_can(kafka: Kafka, consume: Consume) -> None:
    topic = kafka.topic()
    one = consume(kafka.bootstrap, topic)
    one.registry.failing = NoSpace("the disk is full")
    kafka.send(topic, events(1, 5))
    assert one.registry.failed.wait(PATIENCE_SECONDS)
    until(lambda: one.codes() == ["kafka_waits"], "health does not say so")
    one.registry.failing = None
    until(lambda: one.registry.types() == ["t1", "t2", "t3", "t4", "t5"], "the events are lost")
    assert one.registry.appended == 5
    until(lambda: one.codes() == [], "health stays degraded")


@pytest.mark.kafka
def test_only_what_a_transaction_committed_is_taken_and_the_lag_ends(kafka: Kafka, consume: Consume) -> None:
    topic = kafka.topic()
    producer = Producer({"bootstrap.servers": kafka.bootstrap, "transactional.id": kafka.name("tx"), "log_level": 0})
    producer.init_transactions(PATIENCE_SECONDS)
    for number, finish in ((1, producer.abort_transaction), (2, producer.commit_transaction)):
        producer.begin_transaction()
        producer.produce(topic, events(number, number)[0])
        producer.flush(PATIENCE_SECONDS)
        finish(PATIENCE_SECONDS)
    one = consume(kafka.bootstrap, topic)
    until(lambda: one.monitor.snapshot()["lag"] == 0, "the lag does not become 0")
    assert one.registry.types() == ["t2"]
    one.consumer.stop()
    kafka.send(topic, events(3, 3))
    one.consumer.start()
    until(lambda: one.registry.types() == ["t2", "t3"], "the markers of a transaction stand in the way")
    assert one.registry.appended == 2


@pytest.mark.kafka
def test_a_broker_that_is_away_at_the_start_and_again_later_is_waited_for(
    private_kafka: KafkaBroker, consume: Consume
) -> None:
    one = consume(private_kafka.bootstrap, "events")
    until(lambda: one.monitor.snapshot()["lastError"], "nothing is said")
    assert one.monitor.snapshot()["connected"] is False
    private_kafka.start()
    kafka = Kafka(private_kafka.bootstrap)
    kafka.topic(name="events")
    kafka.send("events", events(1, 1))
    until(lambda: one.registry.types() == ["t1"], "the event does not come after the broker did")
    assert one.monitor.snapshot()["connected"] is True
    until(lambda: one.monitor.snapshot()["lag"] == 0, "the lag does not end")
    private_kafka.stop(signal.SIGKILL)
    until(lambda: one.monitor.snapshot()["lag"] is None, "the lag is told after the broker died")
    assert [partition["lag"] for partition in one.monitor.snapshot()["partitions"]] == [None]
    until(lambda: one.monitor.snapshot()["connected"] is False, "the loss is not noticed")
    one.consumer.stop()


def replace_offset(offset: StoredOffset, **changed: Any) -> StoredOffset:
    return StoredOffset(**{**{name: getattr(offset, name) for name in offset.__struct_fields__}, **changed})


@pytest.mark.kafka
def test_batches_are_small_while_others_append_too(
    kafka: Kafka, consume: Consume, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(consuming, "SHARED_MESSAGES", 20)
    monkeypatch.setattr(consuming, "SHARED_SECONDS", PATIENCE_SECONDS)
    registry = SharedRegistry()
    topic = kafka.topic()
    kafka.send(topic, events(1, 2_000))
    alone = consume(kafka.bootstrap, topic, registry)
    until(lambda: len(registry.drafts) == 2_000, "the events do not come")
    assert max(registry.batches) > 20
    registry.others = 1
    kafka.send(topic, events(2_001, 2_001))
    until(lambda: len(registry.drafts) == 2_001, "the event does not come")
    del registry.batches[:]
    kafka.send(topic, events(2_002, 3_000))
    until(lambda: len(registry.drafts) == 3_000, "the events do not come")
    assert 0 < max(registry.batches) <= 20
    until(lambda: alone.codes() == [], "health stays degraded")

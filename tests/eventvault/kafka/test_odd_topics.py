"""Topics with holes, and messages as large as they come, from a real broker."""

from __future__ import annotations

import json

import pytest
from confluent_kafka import OFFSET_BEGINNING, Consumer, KafkaError, KafkaException, Message, TopicPartition

from eventvault.kafka.offsets import offset_put
from tests.eventvault.kafka.test_consumer import Consume, events, replace_offset, until
from tests.kafka_broker import Kafka

pytestmark = pytest.mark.kafka
COMPACTED = {
    "cleanup_policy": "compact", "segment_ms": "100", "min_cleanable_dirty_ratio": "0.001",
    "max_compaction_lag_ms": "1", "delete_retention_ms": "1",
}  # fmt: skip


def offsets_of(kafka: Kafka, topic: str) -> list[int]:
    """The offsets of the messages that a topic has now."""
    consumer = Consumer({
        "bootstrap.servers": kafka.bootstrap, "group.id": "reader", "log_level": 0, "enable.partition.eof": True,
        "auto.offset.reset": "earliest", "fetch.wait.max.ms": 20,
    })  # fmt: skip
    found: list[int] = []
    consumer.assign([TopicPartition(topic, 0, OFFSET_BEGINNING)])
    try:
        while True:
            message: Message | None = consumer.poll(10)
            assert message is not None, "the end of the topic does not come"
            error = message.error()
            if error is None:
                found.append(message.offset() or 0)
            elif error.code() == KafkaError._PARTITION_EOF:
                return found
            else:
                raise KafkaException(error)
    finally:
        consumer.close()


def compact(kafka: Kafka, topic: str, present: list[int]) -> None:
    """Send until the broker has removed all but these of the messages that are there by now."""
    newest = present[-1]

    def is_compacted() -> bool:
        kafka.send(topic, [b"filler"], key=b"filler")  # the newest segment is never compacted
        return [offset for offset in offsets_of(kafka, topic) if offset <= newest] == present

    until(is_compacted, "the topic is not compacted")


def test_a_compacted_topic_is_taken_as_it_is_and_its_holes_stop_nothing(kafka: Kafka, consume: Consume) -> None:
    topic = kafka.topic(**COMPACTED)
    kafka.topic(name=f"{topic}.dead-letter")
    kafka.send(topic, events(1, 1), key=b"a")
    kafka.send(topic, events(2, 2), key=b"b")
    kafka.send(topic, events(3, 3), key=b"a")
    first = consume(kafka.bootstrap, topic)
    until(lambda: first.registry.types() == ["t1", "t2", "t3"], "the events do not come")
    first.consumer.stop()
    taken = first.registry.offsets(topic)[0].next

    kafka.send(topic, events(4, 4), key=b"a")
    compact(kafka, topic, [1, taken])
    first.consumer.start()  # the last message that it took is not there any more
    until(lambda: "t4" in first.registry.types(), "the holes stop the partition")
    assert first.registry.types() == ["t1", "t2", "t3", "t4"]
    until(lambda: first.monitor.snapshot()["lag"] == 0, "the lag does not end")
    assert "kafka_topic_diverged" not in first.codes()

    second = consume(kafka.bootstrap, topic)
    until(lambda: second.registry.types() == ["t2", "t4"], "another one does not take what there is")
    assert first.monitor.stopped_problems() == second.monitor.stopped_problems() == []


def test_a_topic_of_another_cluster_under_the_same_address_is_named(kafka: Kafka, consume: Consume) -> None:
    """A broker of another cluster has the topic, with another id, or has no such topic."""
    topic = kafka.topic()
    kafka.send(topic, events(1, 2))
    one = consume(kafka.bootstrap, topic)
    until(lambda: len(one.registry.drafts) == 2, "the events do not come")
    one.consumer.stop()
    stored = replace_offset(one.registry.offsets(topic)[0], topic_id="another", cluster_id="the-old-one")
    one.registry.metadata = dict([offset_put(topic, 0, stored)])
    one.consumer.start()
    until(lambda: one.codes() == ["kafka_cluster_changed"], "the other cluster is not noticed")
    (problem,) = one.monitor.stopped_problems()
    assert "KAFKA_BOOTSTRAP_SERVERS" in problem.hint
    one.consumer.stop()
    kafka.delete(topic)
    one.consumer.start()
    until(lambda: one.codes() == ["kafka_topic_missing"], "the missing topic is not named")
    (problem,) = one.monitor.problems()
    assert "the-old-one; another cluster answers now" in problem.message
    assert "KAFKA_BOOTSTRAP_SERVERS" in problem.hint


def largest(kafka: Kafka, topic: str, about: int) -> bytes:
    """Send the largest event that the topic takes; `about` is a size that it does not."""
    for size in range(about, about - 2_000, -25):
        value = json.dumps({"id": "large", "type": "large", "data": ""}).encode()
        value = value[:-2] + b"x" * (size - len(value)) + value[-2:]
        try:
            kafka.send(topic, [value])
        except (AssertionError, KafkaException):
            kafka.forget_producer()
            continue
        return value
    raise AssertionError(f"no message of about {about} bytes is taken")


def test_a_message_of_the_brokers_largest_size_is_an_event(kafka: Kafka, consume: Consume) -> None:
    """By default the largest batch has 1,048,588 bytes."""
    topic = kafka.topic()
    kafka.send(topic, events(1, 1))
    value = largest(kafka, topic, 1_048_588)
    assert len(value) > 1_048_588 - 200
    kafka.send(topic, events(2, 2))
    one = consume(kafka.bootstrap, topic)
    until(lambda: one.registry.types() == ["t1", "large", "t2"], "the large event does not come")


def test_a_message_larger_than_any_event_is_a_dead_letter_and_the_next_one_is_taken(
    kafka: Kafka, consume: Consume
) -> None:
    topic = kafka.topic(max_message_bytes=str(64 * 2**20))
    kafka.send(topic, events(1, 1))
    text = b'{"id": "large", "type": 1, "data": "' + b"x" * (33 * 2**20) + b'"}'
    kafka.send(topic, [text])
    kafka.send(topic, events(2, 2))
    one = consume(kafka.bootstrap, topic)
    until(lambda: one.registry.types() == ["t1", "t2"], "the large message stops the partition")
    (letter,) = kafka.read(f"{topic}.dead-letter", 1)
    assert len(letter.value() or b"") == len(text)

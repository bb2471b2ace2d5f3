"""Reads a message from Kafka again that is too large for the quarantine, which has only its reference."""

from __future__ import annotations

import time

from confluent_kafka import KafkaError, KafkaException, Message, TopicPartition

from eventvault import progress
from eventvault.errors import KafkaUnreachable, QuarantinedNotFound
from eventvault.kafka import config, topics
from eventvault.kafka.clients import MonotonicConsumer
from eventvault.kafka.dead_letters import HEADER_PREFIX, ORIGIN_HEADERS
from eventvault.kafka.records import record_of
from eventvault.kafka.values import MessageContent, Reference
from eventvault.settings import Settings

FETCH_SECONDS = 15.0
_POLL_SECONDS = 0.5


def fetch(settings: Settings, reference: Reference) -> MessageContent:
    """Return the message without the headers that a dead letter adds.

    Raises KafkaNotConfigured, KafkaUnreachable, or QuarantinedNotFound if Kafka no longer has the message.
    """
    consumer = _consumer(settings)
    try:
        consumer.assign([TopicPartition(reference.topic, reference.partition, reference.offset)])
        record = record_of(_read(consumer, reference))
    except KafkaException as error:
        raise topics.unreachable(error) from error
    finally:
        consumer.close()
    headers = record.headers
    last_names = [name for name, _ in headers[-len(ORIGIN_HEADERS) :]]
    if last_names == [HEADER_PREFIX + name for name in ORIGIN_HEADERS]:
        headers = headers[: -len(ORIGIN_HEADERS)]
    return MessageContent(at=0, key=record.key, value=record.value, headers=tuple(headers))


def _consumer(settings: Settings) -> MonotonicConsumer:
    try:
        return MonotonicConsumer({**config.events_consumer(settings), "group.id": "eventvault-quarantine"})
    except KafkaException as error:
        raise topics.unreachable(error) from error


def _read(consumer: MonotonicConsumer, reference: Reference) -> Message:
    deadline = time.monotonic() + FETCH_SECONDS
    while time.monotonic() < deadline:
        progress.step()
        message = consumer.poll(_POLL_SECONDS)
        if message is None:
            continue
        error = message.error()
        if error is None and message.offset() == reference.offset:
            return message
        if error is None or error.code() in (KafkaError._PARTITION_EOF, *topics.UNKNOWN, KafkaError._AUTO_OFFSET_RESET):
            raise QuarantinedNotFound(
                f"{reference.topic}/{reference.partition}@{reference.offset} is not in Kafka any more",
                hint="drop it from the quarantine, or send the message again",
            )
        if error.fatal():
            break
    raise KafkaUnreachable(
        f"Kafka did not send {reference.topic}/{reference.partition}@{reference.offset} within {FETCH_SECONDS:.0f} s",
        hint="check the brokers and KAFKA_BOOTSTRAP_SERVERS, then replay it again",
    )

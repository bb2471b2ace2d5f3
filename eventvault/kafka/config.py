"""The configuration of librdkafka's clients, made from the settings: one function for each kind of client.

`docs/kafka.md` gives the measurements behind the values. librdkafka's own log lines are off (`log_level` 0), because it
writes one for every broken connection; the callers log a cause once. `connection` has the login and TLS.
"""

from __future__ import annotations

from typing import Any

from eventvault.errors import KafkaNotConfigured
from eventvault.kafka import connection
from eventvault.settings import Settings

FETCH_WAIT_MILLISECONDS = 50
PREFETCH_KILOBYTES = 16 * 1024
METADATA_MILLISECONDS = 5_000
LARGEST_MESSAGE_BYTES = 100 * 2**20
"""The largest message that a broker accepts by default (`socket.request.max.bytes`)."""

_CONSUMER = {
    "enable.auto.commit": False,
    "enable.auto.offset.store": False,
    "isolation.level": "read_committed",
    "fetch.wait.max.ms": FETCH_WAIT_MILLISECONDS,
    "queued.max.messages.kbytes": PREFETCH_KILOBYTES,
    "receive.message.max.bytes": 2 * LARGEST_MESSAGE_BYTES,
}
"""What all consumers share. librdkafka itself commits no offsets."""


def client(settings: Settings) -> dict[str, Any]:
    """Return the configuration that all clients share. Raises KafkaNotConfigured, or InvalidSettings."""
    if not settings.kafka_bootstrap_servers:
        raise KafkaNotConfigured(
            "KAFKA_BOOTSTRAP_SERVERS is not set, but Kafka is needed here",
            hint="set it to the brokers' addresses, such as KAFKA_BOOTSTRAP_SERVERS=localhost:9092",
        )
    return {
        **connection.properties(settings),
        "bootstrap.servers": settings.kafka_bootstrap_servers,
        "client.id": "eventvault",
        "log_level": 0,
        "reconnect.backoff.max.ms": 2_000,
        "topic.metadata.refresh.interval.ms": METADATA_MILLISECONDS,
    }


def events_consumer(settings: Settings) -> dict[str, Any]:
    """Return the configuration of a consumer that assigns itself partitions and commits no offsets."""
    return {
        **client(settings),
        **_CONSUMER,
        "group.id": "eventvault-store",
        "enable.partition.eof": True,
        "auto.offset.reset": "error",
    }


def jobs_reader(settings: Settings) -> dict[str, Any]:
    """Return the configuration of a consumer that assigns itself partitions, and commits how far it consumed jobs.

    It commits to the workers' group without being a member, for workers of an earlier release and for another
    dispatcher.
    """
    return {**events_consumer(settings), "group.id": settings.kafka_jobs_group}


def session_reader(settings: Settings) -> dict[str, Any]:
    """Return the configuration of a worker's consumer of one partition. Messages that it misses are sent again."""
    return {**client(settings), **_CONSUMER, "group.id": "eventvault-sessions", "auto.offset.reset": "latest"}


def producer(settings: Settings, delivery_milliseconds: int = 0) -> dict[str, Any]:
    """Return the configuration of a producer that reports a message as delivered once all brokers in sync have it.

    delivery_milliseconds: how long to try before a message counts as not delivered; 0: no limit.
    """
    return {
        **client(settings),
        "enable.idempotence": True,
        "acks": "all",
        "linger.ms": 5,
        "compression.type": "zstd",
        "message.max.bytes": LARGEST_MESSAGE_BYTES,
        "message.timeout.ms": delivery_milliseconds,
        "topic.metadata.propagation.max.ms": 2_000,
    }

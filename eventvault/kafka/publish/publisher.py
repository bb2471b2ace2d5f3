"""The thread that publishes the outbox. After any error it begins again with the first waiting message."""

from __future__ import annotations

import contextlib
import logging
import threading
from typing import Any

from confluent_kafka import KafkaError, KafkaException
from confluent_kafka.admin import ConfigResource, ResourceType  # type: ignore[attr-defined]

from eventvault import progress
from eventvault.database.bus import EventBus
from eventvault.database.nonces import Nonces
from eventvault.errors import EventVaultError, KafkaRefused, KafkaUnreachable
from eventvault.kafka import clients, topics
from eventvault.kafka.clients import Admin, WatchedProducer
from eventvault.kafka.publish.monitor import PublishMonitor
from eventvault.kafka.publish.outbox_reader import OutboxReader, Settled
from eventvault.kafka.publish.relay import MOST_SENT, Relay, TooLargeTogether
from eventvault.kafka.refusals import Refusal
from eventvault.restartable_thread import RestartableThread
from eventvault.settings import Settings

log = logging.getLogger("KafkaPublisher")

RETRY_SECONDS = 1.0
MAX_RETRY_SECONDS = 10.0
FLUSH_SECONDS = 1.0
"""How long a stop waits for messages in flight; the next start sends the rest again."""
REMOVE_SECONDS = 2.0
"""How long a stop waits until delivered messages are removed."""
_LOGIN_PAUSE_SECONDS = 0.1
_MARGIN_BYTES = 1024
_DEFAULT_LARGEST = 1_048_588
"""Kafka's default for `max.message.bytes`, for a broker that does not tell."""
_BATCH_BYTES = 1_000_000


class Publisher:
    """Publishes between `start` and `stop`, and can be started again, as a restore does around its swap."""

    def __init__(self, settings: Settings, bus: EventBus, nonces: Nonces, monitor: PublishMonitor) -> None:
        assert settings.kafka_publish_topic is not None, "nothing is published without a topic"
        self._topic: str = settings.kafka_publish_topic
        self._settings = settings
        self._bus = bus
        self._nonces = nonces
        self._monitor = monitor
        self._thread = RestartableThread("Kafka publisher", "publishes events", self._publish)
        self._careful = 0
        self._settled: Settled | None = None

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        """End the thread, within seconds. Raises TooBusy if it does not end; `start` then begins once it has."""
        self._thread.stop()

    def accept_loss(self, topic: str, partition: int, cause: str) -> None:
        """Do nothing: the outbox has all that is to be published, so nothing is lost."""

    def _publish(self, stopping: threading.Event) -> None:
        """Publish until `stopping` is set. No error may end the thread."""
        pause = RETRY_SECONDS
        while not stopping.is_set():
            progress.step()
            before = self._monitor.published
            try:
                if not self._publish_from_beginning(stopping):
                    pause = RETRY_SECONDS  # so that the topic is found soon after it was created
            except TooLargeTogether as refused:
                self._careful = refused.count
                continue
            except EventVaultError as error:
                self._monitor.failed(error.message, error.hint if isinstance(error, KafkaRefused) else "")
            except KafkaException as error:
                self._monitor.failed(topics.reason_of(error))
            except Exception as error:
                log.exception("the publisher begins again with the first waiting message")
                self._monitor.failed(f"{type(error).__name__}: {error}")
            pause = RETRY_SECONDS if self._monitor.published != before else min(2 * pause, MAX_RETRY_SECONDS)
            self._wait(stopping, pause)

    def _wait(self, stopping: threading.Event, seconds: float) -> None:
        if self._thread.activity is not None:
            self._thread.activity.rest()
        stopping.wait(seconds)

    def _publish_from_beginning(self, stopping: threading.Event) -> bool:
        """Publish until `stopping` is set, or an error comes. Returns False if the topic does not exist."""
        outbox = OutboxReader(self._bus, self._nonces, self._settled)
        self._monitor.oldest_waits_since(outbox.oldest())
        outbox.count()
        admin = Admin(self._settings)
        while topics.cluster_once_logged_in(admin) is None:
            progress.step()
            if stopping.wait(_LOGIN_PAUSE_SECONDS):
                return True
        if not self._ensure_topic(admin):
            return False
        largest = _largest_message(admin, self._topic) - _MARGIN_BYTES
        producer = clients.producer(
            self._settings,
            on_error=self._note_error,
            batch_size=max(1, min(_BATCH_BYTES, largest)),
            queue_buffering_max_messages=2 * MOST_SENT,
            partitioner="murmur2_random",
        )
        relay = Relay(self._topic, producer, outbox, self._monitor, largest=largest, careful=self._careful)
        self._careful = 0
        try:
            relay.run(lambda: stopping.is_set() or producer.is_outdated)
        except KafkaException:
            if not producer.is_outdated:
                raise  # otherwise an earlier error ended the client, and this one follows from it
        finally:
            _end(producer, relay)
            self._settled = relay.settled
        return True

    def _note_error(self, error: KafkaError, refusal: Refusal | None) -> None:
        if refusal is not None:
            self._monitor.heard(f"the Kafka brokers refuse EventVault: {refusal.why}", refusal.hint)
        elif error.code() != KafkaError._ALL_BROKERS_DOWN:  # which says less than the errors before it
            self._monitor.heard(topics.reason_of(error))

    def _ensure_topic(self, admin: Admin) -> bool:
        """Create the topic if it is missing and that is allowed. Returns whether it exists. Raises KafkaUnreachable."""
        if topics.topic_of(topics.ask_topic(admin, self._topic), None) is None:
            may_create = self._settings.kafka_create_topics
            reason = topics.create_topic(admin, self._topic, topics.LARGE_MESSAGES, may_create=may_create)
            if reason is not None:
                self._monitor.topic_missing(f"the topic {self._topic} does not exist, and {reason}")
                return False
        self._monitor.topic_found()
        return True


def _end(producer: WatchedProducer, relay: Relay) -> None:
    """Wait a moment for messages in flight, and remove from the outbox what was delivered."""
    producer.flush(FLUSH_SECONDS if relay.waits_for_brokers else 0.0)
    with contextlib.suppress(KafkaException, TooLargeTogether, EventVaultError):
        relay.settle()
    if relay.must_remove:
        removed = threading.Event()
        relay.remove(lambda _: removed.set())
        removed.wait(REMOVE_SECONDS)  # messages that are not removed are published again
    producer.drop()


def _largest_message(admin: Admin, topic: str) -> int:
    """Return how large a message, or several together, may be in the topic; Kafka's default if no broker tells."""
    resource = ConfigResource(ResourceType.TOPIC, topic)
    try:
        found: dict[str, Any] = topics.answer_of(
            admin, admin.describe_configs([resource], request_timeout=topics.REQUEST_TIMEOUT_SECONDS)[resource]
        )
        return int(found["max.message.bytes"].value)
    except (KafkaUnreachable, KeyError, TypeError, ValueError):
        return _DEFAULT_LARGEST

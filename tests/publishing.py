"""A topic in this process: what a store's outbox publishes to it, message by message, as real brokers would take it."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable
from typing import Any

from confluent_kafka import KafkaError

from eventvault.database.bus import EventBus
from eventvault.database.nonces import Nonces
from eventvault.kafka.publish.monitor import PublishMonitor
from eventvault.kafka.publish.outbox_reader import OutboxReader, Settled
from eventvault.kafka.publish.relay import Relay

Message = tuple[bytes, bytes, dict[str, bytes]]
"""Key, value and headers."""


class Topic:
    """Takes messages in their order. largest: bytes of a value that it takes; it refuses what comes with a larger one.

    room: how many messages it takes before it answers no more.
    """

    def __init__(self) -> None:
        self.messages: list[Message] = []
        self.largest = 2**30
        self.room = 2**30
        self._waiting: list[tuple[Message, Callable[[Any, Any], None]]] = []

    def produce(self, topic: str, value: bytes, key: bytes, **options: Any) -> None:
        self._waiting.append(((key, value, dict(options["headers"])), options["on_delivery"]))

    def poll(self, timeout: float) -> int:
        taken, self._waiting = self._waiting[: self.room], self._waiting[self.room :]
        self.room -= len(taken)
        too_large = any(len(value) > self.largest for (_, value, _), _ in taken)
        for message, report in taken:
            if not too_large:
                self.messages.append(message)
            report(KafkaError(KafkaError.MSG_SIZE_TOO_LARGE) if too_large else None, None)
        return len(taken)

    def drop_unanswered(self) -> None:
        self._waiting.clear()

    @property
    def ids(self) -> list[str]:
        return [headers["ce_id"].decode() for _, _, headers in self.messages]

    def first_ids_by_key(self) -> dict[bytes, list[str]]:
        """The ids of each key in the order in which they came first."""
        by_key: dict[bytes, dict[str, None]] = defaultdict(dict)
        for key, _, headers in self.messages:
            by_key[key][headers["ce_id"].decode()] = None
        return {key: list(ids) for key, ids in by_key.items()}


def relay_of(
    bus: EventBus, topic: Topic, monitor: PublishMonitor | None = None, settled: Settled | None = None, **options: Any
) -> Relay:
    reader = OutboxReader(bus, Nonces(), settled)
    return Relay("published", topic, reader, monitor or PublishMonitor("published"), **{"largest": 2**20, **options})


def publish(bus: EventBus, topic: Topic, most: int = 2**30) -> None:
    """Publish what waits, at most so many messages, and remove what was taken, as a publisher does until it ends."""
    topic.room = most
    relay, before = relay_of(bus, topic), -1
    while len(topic.messages) > before:
        before = len(topic.messages)
        relay.step()
    topic.drop_unanswered()
    relay.settle()
    bus.committer.answer_to(relay.remove)


def assert_in_order(topic: Topic, posted: Iterable[tuple[str, str]]) -> None:
    """posted: subject and id of each event, in order. Each is in the topic, in order per subject."""
    wanted: dict[bytes, list[str]] = defaultdict(list)
    for subject, name in posted:
        wanted[subject.encode()].append(name)
    found = topic.first_ids_by_key()
    for subject, names in wanted.items():
        posted_then = set(names)
        assert [name for name in found.get(subject, []) if name in posted_then] == names

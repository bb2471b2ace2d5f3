"""An EventsConsumer on a registry in memory, which stores events and metadata as a real one does."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from typing import Any

import pytest

from eventvault import settings
from eventvault.database.values import AppendResult
from eventvault.errors import EventVaultError
from eventvault.events.event import Appended, EventDraft
from eventvault.kafka.consumer import EventsConsumer
from eventvault.kafka.monitor import KafkaMonitor
from eventvault.kafka.offset_check import cause_of
from eventvault.kafka.offsets import StoredOffset, stored_by_topic
from eventvault.kafka.quarantine_format import DeadLetter
from eventvault.settings import Settings
from eventvault.topic_names import EventsTopics


class MemoryRegistry:
    """The sink and the load of a consumer. failing: raised by the next writes, until set to None."""

    def __init__(self) -> None:
        self.drafts: dict[tuple[str, str], EventDraft] = {}
        self.appended = 0
        self.metadata: dict[bytes, bytes] = {}
        self.letters: list[DeadLetter] = []
        self.failing: EventVaultError | None = None
        self.failed = threading.Event()
        self._lock = threading.Lock()

    def sink(
        self, drafts: Sequence[EventDraft], metadata: Sequence[tuple[bytes, bytes]], letters: Sequence[DeadLetter]
    ) -> AppendResult:
        with self._lock:
            if self.failing is not None:
                self.failed.set()
                raise self.failing
            results = [self._append(draft) for draft in drafts]
            self.metadata.update(metadata)
            self.letters += letters
            return AppendResult(results, len(self.drafts))

    def load(self) -> dict[bytes, bytes]:
        return dict(self.metadata)

    def offsets(self, topic: str) -> dict[int, StoredOffset]:
        with self._lock:  # a write is seen as a whole or not at all
            return stored_by_topic(self.metadata).get(topic, {})

    def types(self) -> list[str]:
        with self._lock:
            return [draft.type for draft in self.drafts.values()]

    def _append(self, draft: EventDraft) -> Appended:
        self.appended += 1
        known = (draft.source, draft.id) in self.drafts
        self.drafts.setdefault((draft.source, draft.id), draft)
        return Appended(1, 1, known, False)


class Consuming:
    """A consumer with its registry and monitor."""

    def __init__(self, loaded: Settings, registry: MemoryRegistry) -> None:
        self.registry = registry
        loaded.storage_dir.mkdir(parents=True, exist_ok=True)
        self.monitor = KafkaMonitor(loaded)
        self.consumer = EventsConsumer(loaded, begin=lambda: registry.sink, load=registry.load, monitor=self.monitor)
        self.consumer.start()

    def codes(self) -> list[str]:
        return [problem.code for problem in (*self.monitor.stopped_problems(), *self.monitor.problems())]

    def accept_loss(self, topic: str, partition: int) -> None:
        """Accept why a partition is stopped now."""
        causes = {problem.about: cause_of(problem) for problem in self.monitor.stopped_problems()}
        self.consumer.accept_loss(topic, partition, causes.get(f"{topic}/{partition}", ""))

    def topics(self) -> dict[str, dict[str, Any]]:
        """Return what health says of each topic, by its name."""
        return {topic["name"]: topic for topic in self.monitor.snapshot()["topics"]}

    def states(self) -> list[str]:
        return [partition["state"] for partition in self.monitor.snapshot()["partitions"]]


Consume = Callable[..., Consuming]


@pytest.fixture
def consume(settings_environment: dict[str, str]) -> Iterator[Consume]:
    """consume(bootstrap, topics, registry=None) starts a consumer; all are stopped at the end.

    topics: as in KAFKA_EVENTS_TOPIC.

    create_topics: KAFKA_CREATE_TOPICS.
    """
    started: list[Consuming] = []
    loaded = settings.load(settings_environment)

    def begin(
        bootstrap: str, topic: str, registry: MemoryRegistry | None = None, *, create_topics: bool = True
    ) -> Consuming:
        configured = replace(
            loaded,
            kafka_bootstrap_servers=bootstrap,
            kafka_events_topic=EventsTopics(topic),
            kafka_create_topics=create_topics,
        )
        started.append(Consuming(configured, registry or MemoryRegistry()))
        return started[-1]

    yield begin
    for consuming in started:
        consuming.consumer.stop()

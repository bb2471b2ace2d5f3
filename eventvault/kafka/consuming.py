"""One run of the consumer, from the stored offsets to the first error or the stop. One client reads all topics."""

from __future__ import annotations

import logging
import math
import threading
import time
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence

from confluent_kafka import KafkaError, KafkaException, Message

from eventvault import progress
from eventvault.database.values import AppendResult
from eventvault.events.event import EventDraft
from eventvault.kafka import client_errors, config, offsets, refusals, topics
from eventvault.kafka.accepted_losses import AcceptedLosses
from eventvault.kafka.batch import PartitionBatch, read_batches
from eventvault.kafka.clients import Admin, MonotonicConsumer
from eventvault.kafka.dead_letters import DeadLetters, undelivered
from eventvault.kafka.followed_topics import FollowedTopics, RestartConsumer, Unanswered
from eventvault.kafka.monitor import KafkaMonitor
from eventvault.kafka.quarantine_format import DeadLetter
from eventvault.kafka.renewal import Renewal
from eventvault.kafka.topic_info import PartitionPlace
from eventvault.problems import Problem
from eventvault.settings import Settings

log = logging.getLogger("EventBus")

BATCH_MESSAGES = 1_000
SHARED_MESSAGES = 250
"""Most messages of a batch while others append too: a post over HTTP waits for the batch that is being written."""
SHARED_SECONDS = 1.0
"""How long batches are small after somebody else appended."""
POLL_SECONDS = 0.1

_topic: Callable[[Message], str] = Message.topic  # type: ignore[assignment]  # None only for an error
_partition: Callable[[Message], int] = Message.partition  # type: ignore[assignment]

Sink = Callable[[Sequence[EventDraft], Sequence[tuple[bytes, bytes]], Sequence[DeadLetter]], AppendResult]
"""Appends events, puts metadata and quarantines dead letters in one write.

Returns once the write is on disk; otherwise raises an EventVaultError.
"""

Load = Callable[[], Mapping[bytes, bytes]]
"""Returns the registry's metadata, or at least the stored offsets in it."""


class Consuming:
    """accepted: losses that an operator accepted; each stays there until it has taken effect."""

    def __init__(
        self, settings: Settings, sink: Sink, load: Load, monitor: KafkaMonitor,
        stopping: threading.Event, accepted: AcceptedLosses,
    ) -> None:  # fmt: skip
        metadata = load()
        self._sink, self._monitor = sink, monitor
        self._stopping, self._accepted = stopping, accepted
        self._last_sequence: int | None = None
        self._shared_until = -math.inf
        admin = Admin(settings)
        properties = config.events_consumer(settings)
        self._renewal = Renewal(refusals.probe_of(properties))
        self._consumer = MonotonicConsumer(properties, self._client_error)
        self._dead_letters = DeadLetters(settings)
        self._topics = FollowedTopics(settings, admin, self._consumer, monitor, metadata)

    def run(self) -> None:
        """Consume until `stopping` is set. Raises RestartConsumer or an error; the caller then begins another run."""
        try:
            while not self._stopping.is_set():
                progress.step()
                if not self._topics.check_when_due():
                    self._stopping.wait(POLL_SECONDS)
                    continue
                self._accept_losses()
                if messages := self._messages():
                    self._process(messages)
                self._topics.report_when_due()
                self._renew_when_due()
        finally:
            self._dead_letters.close()
            self._consumer.close()

    def _renew_when_due(self) -> None:
        """Raise RestartConsumer if a new client is needed: a login that was refused may be correct now."""
        if self._renewal.is_due:
            raise RestartConsumer
        if self._renewal.is_accepted:
            self._monitor.accepted_by_all()

    def _messages(self) -> list[Message]:
        first = self._consumer.poll(POLL_SECONDS)
        if first is None:
            return []
        self._renewal.has_read = True
        most = SHARED_MESSAGES if time.monotonic() < self._shared_until else BATCH_MESSAGES
        return [first, *self._consumer.consume(most - 1, 0)]

    def _process(self, messages: Sequence[Message]) -> None:
        errors = [(message, error) for message in messages if (error := message.error()) is not None]
        self._consume(_by_place([message for message in messages if message.error() is None] if errors else messages))
        for message, error in errors:
            self._note_error(message, error)

    def _consume(self, by_place: Mapping[PartitionPlace, Sequence[Message]]) -> None:
        """Store the events of messages, if their topics are still those that the stored offsets belong to."""
        requests = self._topics.ask({topic for topic, _ in by_place})
        groups = [self._topics.new_messages(*place, group) for place, group in by_place.items()]
        batches = read_batches([group for group in groups if group])
        refused = self._topics.refusals(requests)
        for batch in batches:
            if batch.topic in refused:
                self._topics.wait(batch.topic, batch.partition, refused[batch.topic])
        self._deliver_and_store([batch for batch in batches if batch.topic not in refused])

    def _deliver_and_store(self, batches: list[PartitionBatch]) -> None:
        """Deliver dead letters, then store events and offsets in one write. A partition waits for its dead letter."""
        waiting = self._deliver(batches)
        self._store([batch for batch in batches if batch.last is not None])
        for batch in batches:
            place = (batch.topic, batch.partition)
            if place in waiting:
                self._topics.wait(*place, waiting[place])
            else:
                self._topics.settle(*place)

    def _deliver(self, batches: list[PartitionBatch]) -> dict[PartitionPlace, Problem]:
        """Cut each batch before the first dead letter that cannot be delivered, and return why it cannot."""
        waiting: dict[PartitionPlace, Problem] = {}
        for topic in dict.fromkeys(batch.topic for batch in batches if batch.letters):
            progress.step()
            of_topic = [batch for batch in batches if batch.topic == topic]
            letters = [letter for batch in of_topic for letter in batch.letters]
            outcomes = iter(self._dead_letters.send(topic, letters))
            self._monitor.letters_sent(
                topic, self._dead_letters.missing, [f"{message.partition}/{message.offset}" for message, _ in letters]
            )
            for batch in of_topic:
                failed = [(message, why) for (message, _), why in zip(batch.letters, outcomes, strict=False) if why]
                if failed:
                    batch.cut_before(failed[0][0].offset)
                    waiting[topic, batch.partition] = undelivered(topic, failed[0][1])
        return waiting

    def _store(self, batches: list[PartitionBatch]) -> None:
        if not batches:
            return
        drafts = [draft for batch in batches for draft in batch.events]
        ends = {
            (batch.topic, batch.partition): batch.offset_to_store(self._topics.topic_info(batch.topic))
            for batch in batches
        }
        letters = [
            DeadLetter(message, reason, self._dead_letters.pop_reference(message))
            for batch in batches
            for message, reason in batch.letters
        ]
        puts = [offsets.offset_put(*place, end) for place, end in ends.items()]
        stored = self._sink(drafts, puts, letters)
        duplicates = [result for result in stored.results if result.duplicate]
        self._note_others(stored.last_sequence, len(drafts) - len(duplicates))
        for place, end in ends.items():
            self._topics.consumed(*place, end)
        self._monitor.batch_stored(
            ends,
            events=len(drafts),
            duplicates=len(duplicates),
            differing=sum(result.differs for result in duplicates),
            dead_letters=len(letters),
        )
        self._monitor.recovered()

    def _note_others(self, last_sequence: int, appended: int) -> None:
        """Note whether others appended since the last batch. appended: how many events this batch has added."""
        if self._last_sequence is not None and last_sequence != self._last_sequence + appended:
            self._shared_until = time.monotonic() + SHARED_SECONDS
        self._last_sequence = last_sequence

    def _note_error(self, message: Message, error: KafkaError) -> None:
        if error.fatal():
            raise KafkaException(error)
        if self._topics.note_error(message.topic(), message.partition(), message.offset(), error):
            return
        self._topics.check_soon()
        if error.code() not in topics.UNKNOWN:
            self._monitor.failed(topics.reason_of(error))

    def _accept_losses(self) -> None:
        """Let stopped partitions go on from their present beginning. A loss stays accepted until that has worked."""
        for accepted in self._accepted.all():
            place = (accepted.topic, accepted.partition)
            try:
                beginning = self._topics.present_beginning(*place, accepted.cause)
            except Unanswered:
                continue
            if beginning is not None:
                self._sink([], [offsets.offset_put(*place, beginning)], [])
            self._accepted.remove(accepted)
            if beginning is not None:
                log.warning("the loss in %s/%d was accepted; it resumes at offset %d", *place, beginning.next)
                raise RestartConsumer

    def _client_error(self, error: KafkaError) -> None:
        if error.code() in client_errors.CONNECTION_BROKEN:
            self._monitor.connection_broken()
            self._topics.check_soon()
        elif (refusal := self._renewal.note(error)) is not None:
            self._monitor.refused(f"a Kafka broker refuses EventVault: {refusal.why}", refusal.hint)
        elif refusals.explain(error) is not None:
            self._monitor.failed(topics.reason_of(error))


def _by_place(messages: Sequence[Message]) -> Mapping[PartitionPlace, Sequence[Message]]:
    """Return the messages of each partition. Often there is only one: brokers send many of a partition at a time."""
    names, numbers = list(map(_topic, messages)), list(map(_partition, messages))
    if messages and names.count(names[0]) == numbers.count(numbers[0]) == len(messages):
        return {(names[0], numbers[0]): messages}
    by_place: dict[PartitionPlace, list[Message]] = defaultdict(list)
    for message, topic, partition in zip(messages, names, numbers, strict=True):
        by_place[topic, partition].append(message)
    return by_place

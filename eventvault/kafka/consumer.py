"""The consumer writes events of the topic to the registry exactly once: offsets are stored in the events' own write.

It assigns itself all partitions at the stored offsets. After any error it starts again from the stored offsets, so that
there is only one recovery path.
"""

from __future__ import annotations

import logging
import threading
import time
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from queue import SimpleQueue

from confluent_kafka import Consumer, KafkaError, KafkaException, Message
from confluent_kafka.admin import AdminClient

from eventvault import progress
from eventvault.database.values import AppendResult
from eventvault.errors import EventVaultError, KafkaUnreachable
from eventvault.events.event import EventDraft
from eventvault.kafka import config, offset_check, offsets, topics
from eventvault.kafka.batch import PartitionBatch, read_batches
from eventvault.kafka.dead_letters import DeadLetters
from eventvault.kafka.monitor import KafkaMonitor
from eventvault.kafka.offsets import StoredOffset
from eventvault.kafka.positions import Positions
from eventvault.kafka.topic_info import TopicInfo
from eventvault.progress import Activity, running, wait_for_thread
from eventvault.settings import Settings

log = logging.getLogger("EventBus")

BATCH_MESSAGES = 1_000
"""Small enough that a post over HTTP does not wait long for a batch."""
POLL_SECONDS = 0.1
TOPIC_CHECK_SECONDS = 2.0
RETRY_SECONDS = 1.0
STOP_SECONDS = 20.0
"""How long a stop waits for a consumer that makes no step; requests to a broker have shorter deadlines."""

_OUT_OF_RANGE = (KafkaError.OFFSET_OUT_OF_RANGE, KafkaError._AUTO_OFFSET_RESET, KafkaError._LOG_TRUNCATION)


class BeginAgain(Exception):
    """Drop what was read and is not stored, and start a new client at the stored offsets.

    It must be a new client, because librdkafka uses its old knowledge of a topic that was recreated.
    """


Sink = Callable[[Sequence[EventDraft], Sequence[tuple[bytes, bytes]]], AppendResult]
"""Appends events and puts metadata in one write. Returns once it is on disk, raises an EventVaultError otherwise."""

Load = Callable[[], Mapping[bytes, bytes]]
"""Returns the registry's metadata, at least the offsets that this folder wrote."""


class EventsConsumer:
    """A thread that consumes events between `start` and `stop`; it can be started again after a stop.

    Every start begins at the offsets that `load` returns then. A restore must stop it before it swaps the database,
    because a batch read before the swap must not be written after it. Without a configured Kafka it does nothing.

    begin: returns the sink for the offsets that are loaded from then on. It fails once the database has lost events, so
    that the consumer loads the offsets again and does not go on behind the messages of those events.
    """

    def __init__(self, settings: Settings, *, begin: Callable[[], Sink], load: Load, monitor: KafkaMonitor) -> None:
        self.monitor = monitor
        self._settings = settings
        self._begin = begin
        self._load = load
        self._stopping = threading.Event()
        self._accepted: SimpleQueue[int] = SimpleQueue()
        self._thread: threading.Thread | None = None
        self._activity: Activity | None = None

    def start(self) -> None:
        if not self.monitor.configured or (self._thread is not None and not self._stopping.is_set()):
            return
        self._stopping = threading.Event()
        arguments = (self._stopping, self._thread)
        self._thread = threading.Thread(target=self._run, args=arguments, name="kafka-events", daemon=True)
        self._thread.start()

    def stop(self) -> None:
        """End the thread, within seconds. A batch that is being stored is stored completely or not at all.

        Raises TooBusy if it does not end; `start` then begins once it has.
        """
        if self._thread is not None:
            self._stopping.set()
            wait_for_thread(self._thread, "the Kafka consumer", lambda: self._activity, STOP_SECONDS)
            self._thread = None

    def accept_loss(self, partition: int) -> None:
        """Resume a stopped partition at its present first offset. Nothing is stored twice.

        Returns at once. The request is remembered while no broker answers or nothing can be written.
        """
        self._accepted.put(partition)

    def _run(self, stopping: threading.Event, before: threading.Thread | None) -> None:
        """Consume until `stopping` is set, once the thread before this one has ended."""
        with running("kafka consumer", "consumes events") as self._activity:
            while before is not None and before.is_alive() and not stopping.is_set():
                before.join(RETRY_SECONDS)
                self._activity.step()
            self._consume(stopping)

    def _consume(self, stopping: threading.Event) -> None:
        """Consume until then. No error may end the thread, because that would lose events silently."""
        while not stopping.is_set():
            progress.step()
            try:
                _Consuming(self._settings, self._begin(), self._load, self.monitor, stopping, self._accepted).run()
            except BeginAgain:
                log.info("the Kafka consumer starts again at the stored offsets")
            except KafkaUnreachable as error:
                self.monitor.lost(error.message)
            except EventVaultError as error:
                self.monitor.failed(error.message)
            except KafkaException as error:
                self.monitor.failed(topics.reason_of(error))
            except Exception as error:
                if self.monitor.failed(f"{type(error).__name__}: {error}"):
                    log.exception("the Kafka consumer starts again at the stored offsets")
            stopping.wait(RETRY_SECONDS)


class _Consuming:
    """One run of the consumer, from the stored offsets to the first error or the stop."""

    def __init__(
        self, settings: Settings, sink: Sink, load: Load, monitor: KafkaMonitor,
        stopping: threading.Event, accepted: SimpleQueue[int],
    ) -> None:  # fmt: skip
        self._topic = settings.kafka_events_topic
        self._sink, self._load, self._monitor = sink, load, monitor
        self._stopping, self._accepted = stopping, accepted
        self._admin = AdminClient(config.client(settings))
        self._consumer = Consumer({**config.events_consumer(settings), "error_cb": self._client_error})
        self._dead_letters = DeadLetters(settings)
        self._positions: Positions | None = None
        self._cluster_id: str | None = None
        self._topic_check_due = 0.0

    def run(self) -> None:
        try:
            while not self._stopping.is_set():
                progress.step()
                self._check_topic_when_due()
                self._accept()
                if messages := self._messages():
                    self._process_messages(messages)
        finally:
            self._dead_letters.close()
            self._consumer.close()

    def _check_topic_when_due(self) -> None:
        """Get the topic's partitions, and check that it is still the same topic."""
        if time.monotonic() < self._topic_check_due:
            return
        cluster = topics.describe_cluster(self._admin)
        topic_info = topics.topic_of(topics.ask_topic(self._admin, self._topic), cluster.cluster_id)
        self._cluster_id = cluster.cluster_id
        self._monitor.connected(cluster.brokers)
        self._monitor.topic_exists(exists=topic_info is not None, expected=topic_info is None and bool(self._stored()))
        self._follow(topic_info)
        self._topic_check_due = time.monotonic() + TOPIC_CHECK_SECONDS

    def _follow(self, topic_info: TopicInfo | None) -> None:
        before = None if self._positions is None else self._positions.topic_info
        if before is not None and (topic_info is None or topic_info.topic_id != before.topic_id):
            raise BeginAgain
        if topic_info is None:
            return
        if self._positions is None:
            self._positions = Positions(self._consumer, self._topic, topic_info, self._stored())
        self._positions.add_partitions(topic_info)
        self._positions.resume_due()
        self._report()

    def _stored(self) -> dict[int, StoredOffset]:
        return offsets.stored_offsets(self._topic, self._load())

    def _report(self) -> None:
        if self._positions is None:
            return
        states = self._positions.states()
        self._monitor.partitions(states, self._positions.stopped())
        if all(state["lag"] == 0 for state in states.values() if state["state"] != "stopped"):
            self._monitor.recovered()

    def _messages(self) -> list[Message]:
        first = self._consumer.poll(POLL_SECONDS)
        return [] if first is None else [first, *self._consumer.consume(BATCH_MESSAGES - 1, 0)]

    def _process_messages(self, messages: Sequence[Message]) -> None:
        positions = self._positions
        if positions is None:
            return
        request = topics.ask_topic(self._admin, self._topic)
        by_partition: dict[int, list[Message]] = defaultdict(list)
        for message in messages:
            error = message.error()
            if error is None:
                by_partition[message.partition() or 0].append(message)
            else:
                self._message_error(positions, message, error)
        new_messages = [positions.new_messages(partition, group) for partition, group in by_partition.items()]
        batches = read_batches([group for group in new_messages if group])
        if not self._same_topic(request, positions):
            raise BeginAgain
        self._deliver_and_store(positions, batches)

    def _same_topic(self, request: topics.TopicRequest, positions: Positions) -> bool:
        """Return whether the messages are from the topic of the stored offsets, which its name alone does not tell.

        The topic's id is asked for after the messages were read, because a recreated topic never gets its old id back.
        """
        topic_info = topics.topic_of(request, self._cluster_id)
        return topic_info is not None and topic_info.topic_id == positions.topic_info.topic_id

    def _deliver_and_store(self, positions: Positions, batches: list[PartitionBatch]) -> None:
        """Deliver dead letters, then store events and offsets in one write. A partition waits for its dead letter."""
        letters = [letter for batch in batches for letter in batch.letters]
        outcomes = iter(self._dead_letters.send(letters))
        if letters:
            positions_of = [f"{message.partition}/{message.offset}" for message, _ in letters]
            self._monitor.letters_sent(self._dead_letters.missing, positions_of)
        waiting: set[int] = set()
        for batch in batches:
            failed = [(message, why) for (message, _), why in zip(batch.letters, outcomes, strict=False) if why]
            if failed:
                batch.cut_before(failed[0][0].offset)
                self._monitor.failed(f"a dead letter cannot be delivered to {self._dead_letters.topic}: {failed[0][1]}")
                waiting.add(batch.partition)
        self._store(positions, [batch for batch in batches if batch.last is not None])
        for batch in batches:
            if batch.partition in waiting:
                positions.wait(batch.partition)
            else:
                positions.by_partition[batch.partition].failures = 0
        if batches and not positions.waiting():
            self._monitor.recovered()

    def _store(self, positions: Positions, batches: list[PartitionBatch]) -> None:
        if not batches:
            return
        drafts = [draft for batch in batches for _, draft in batch.drafts]
        ends = {batch.partition: batch.offset_to_store(positions.topic_info) for batch in batches}
        metadata = [offsets.offset_put(self._topic, partition, end) for partition, end in ends.items()]
        results = self._sink(drafts, metadata).results
        for partition, end in ends.items():
            positions.by_partition[partition].next = end.next
        self._monitor.batch_stored(
            ends,
            events=len(drafts),
            duplicates=sum(result.duplicate for result in results),
            differing=sum(result.differs for result in results),
            dead_letters=sum(len(batch.letters) for batch in batches),
        )

    def _message_error(self, positions: Positions, message: Message, error: KafkaError) -> None:
        partition = message.partition()
        position = positions.by_partition.get(-1 if partition is None else partition)
        if error.fatal():
            raise KafkaException(error)
        if error.code() == KafkaError._PARTITION_EOF and position is not None:
            position.at_end = message.offset() or 0
        elif error.code() in _OUT_OF_RANGE and partition is not None and position is not None:
            positions.stop(partition, offset_check.out_of_range(self._topic, partition, topics.reason_of(error)))
            self._report()
        else:
            self._topic_check_due = 0.0
            if error.code() not in topics.UNKNOWN:
                self._monitor.failed(topics.reason_of(error))

    def _accept(self) -> None:
        if self._positions is None or self._accepted.empty():
            return
        partition = self._accepted.get_nowait()
        if partition not in self._positions.stopped():
            return
        try:
            low = self._store_present_beginning(self._positions, partition)
        except Exception:
            self._accepted.put(partition)
            raise
        log.warning("the loss in partition %d of %s was accepted; it resumes at offset %d", partition, self._topic, low)
        raise BeginAgain

    def _store_present_beginning(self, positions: Positions, partition: int) -> int:
        """Store the partition's present first offset as its next one, and return it."""
        low, _ = positions.bounds(partition)
        beginning = StoredOffset(
            next=low, topic_id=positions.topic_info.topic_id, cluster_id=positions.topic_info.cluster_id
        )
        self._sink([], [offsets.offset_put(self._topic, partition, beginning)])
        return low

    def _client_error(self, error: KafkaError) -> None:
        if error.code() in (KafkaError._ALL_BROKERS_DOWN, KafkaError._TRANSPORT):
            self._monitor.connection_broken()
            self._topic_check_due = 0.0

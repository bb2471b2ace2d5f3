"""The consumer writes events of the topics to the registry exactly once: one write stores the events and the offsets.

It assigns itself all partitions at the stored offsets. After an error that concerns more than one topic it starts again
from the stored offsets, so that there is only one recovery path.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable

from confluent_kafka import KafkaException

from eventvault import progress
from eventvault.errors import EventVaultError, KafkaRefused, KafkaUnreachable
from eventvault.kafka import topics
from eventvault.kafka.accepted_losses import Accepted, AcceptedLosses
from eventvault.kafka.consuming import Consuming, Load, Sink
from eventvault.kafka.followed_topics import RestartConsumer
from eventvault.kafka.monitor import KafkaMonitor
from eventvault.restartable_thread import RestartableThread
from eventvault.settings import Settings

log = logging.getLogger("EventBus")

RETRY_SECONDS = 1.0


class EventsConsumer:
    """A thread that consumes events between `start` and `stop`; it can be started again after a stop.

    Every start begins at the offsets that `load` returns then. A restore must stop it before it swaps the database,
    because a batch that was read before the swap must not be written after it. If Kafka is not configured, it does
    nothing.

    begin: returns the sink for the offsets that are loaded after this call. The sink fails once the database has lost
    events, so that the consumer loads the offsets again and reads the messages of these events again.
    """

    def __init__(self, settings: Settings, *, begin: Callable[[], Sink], load: Load, monitor: KafkaMonitor) -> None:
        self.monitor = monitor
        self._settings = settings
        self._begin = begin
        self._load = load
        self._accepted = AcceptedLosses(settings.storage_dir)
        self._thread = RestartableThread("Kafka consumer", "consumes events", self._consume)

    def start(self) -> None:
        if self.monitor.configured:
            self._thread.start()

    def stop(self) -> None:
        """End the thread, within seconds. A batch that is being stored is stored completely or not at all.

        Raises TooBusy if the thread does not end in time. After a later `start` the new thread waits for its end.
        """
        self._thread.stop()

    def accept_loss(self, topic: str, partition: int, cause: str) -> None:
        """Resume a stopped partition at its present first offset. Nothing is stored twice.

        Returns once the decision is on disk. It takes effect when a broker answers, in this process or a later one,
        unless the partition is stopped for another reason by then. cause: `cause_of` the problem that was accepted.
        Raises NoSpace or OSError.
        """
        self._accepted.add(Accepted(topic, partition, cause))

    def _consume(self, stopping: threading.Event) -> None:
        """Consume until `stopping` is set. No error may end the thread, because that would lose events silently."""
        while not stopping.is_set():
            progress.step()
            try:
                Consuming(self._settings, self._begin(), self._load, self.monitor, stopping, self._accepted).run()
            except RestartConsumer:
                log.info("the Kafka consumer starts again at the stored offsets")
            except KafkaUnreachable as error:
                self.monitor.lost(error.message, error.hint if isinstance(error, KafkaRefused) else None)
            except EventVaultError as error:
                self.monitor.failed(error.message)
            except KafkaException as error:
                self.monitor.failed(topics.reason_of(error))
            except Exception as error:
                if self.monitor.failed(f"{type(error).__name__}: {error}"):
                    log.exception("the Kafka consumer starts again at the stored offsets")
            stopping.wait(RETRY_SECONDS)

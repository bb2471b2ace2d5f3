"""A thread that reads topics, so that no other thread waits for brokers.

After any error it starts again with a new client, after the last message that was read. So there is one recovery path.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Sequence
from typing import Any, Protocol

from confluent_kafka import KafkaError, KafkaException, Message

from eventvault import progress
from eventvault.errors import KafkaUnreachable
from eventvault.kafka import client_errors, topics
from eventvault.kafka.clients import MonotonicConsumer
from eventvault.progress import Activity, running, wait_for_thread

log = logging.getLogger("jobs")

BATCH_MESSAGES = 4_000
POLL_SECONDS = 0.1
CHECK_SECONDS = 2.0
RETRY_SECONDS = 1.0
STOP_SECONDS = 20.0

Put = Callable[[Sequence[Any], Sequence[int]], None]


class RestartReader(Exception):
    """Start a new client after the last message that was read, because the old one still knows a deleted topic."""


class Reader(Protocol):
    def read(self) -> tuple[list[Any], list[int]]:
        """Return the next items, and the size of each in bytes. Waits for a moment.

        Raises RestartReader, KafkaUnreachable or KafkaException; the caller then closes the client and makes a new one.
        """

    def close(self) -> None: ...


class ReaderThread:
    """A thread that reads between `start` and `stop`. put: receives the items and their sizes; it may wait."""

    def __init__(self, name: str, make_reader: Callable[[], Reader], put: Put) -> None:
        self._name = name
        self._make_reader = make_reader
        self._put = put
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, name=name, daemon=True)
        self._activity: Activity | None = None

    def start(self) -> None:
        self._thread.start()

    def request_stop(self) -> None:
        self._stopping.set()

    def stop(self) -> None:
        """End the thread, within seconds. Raises TooBusy if it does not end."""
        self._stopping.set()
        if self._thread.ident is not None:
            wait_for_thread(self._thread, self._name, lambda: self._activity, STOP_SECONDS)

    def _run(self) -> None:
        """Read until `stop`. No error may end the thread: then nothing would be read, and nobody would notice."""
        reported: str | None = None
        with running(self._name, "reads from Kafka") as self._activity:
            while not self._stopping.is_set():
                reason = self._read()
                if reason is not None and reason != reported:
                    log.warning("reading from Kafka (%s) fails, and is retried: %s", self._name, reason)
                reported = reason or reported
                self._stopping.wait(RETRY_SECONDS)
                progress.step()

    def _read(self) -> str | None:
        """Read until the first error. Returns the reason; None if a new client is all that is needed."""
        reader: Reader | None = None
        try:
            reader = self._make_reader()
            while not self._stopping.is_set():
                progress.step()
                self._put(*reader.read())
        except RestartReader:
            return None
        except KafkaUnreachable as error:
            return error.message
        except KafkaException as error:
            return topics.reason_of(error)
        except Exception as error:
            log.exception("%s failed unexpectedly, and begins again", self._name)
            return f"{type(error).__name__}: {error}"
        finally:
            if reader is not None:
                reader.close()
        return None


def poll(consumer: MonotonicConsumer) -> list[Message]:
    """Return the messages that come within POLL_SECONDS, at most BATCH_MESSAGES."""
    first = consumer.poll(POLL_SECONDS)
    return [] if first is None else [first, *consumer.consume(BATCH_MESSAGES - 1, 0)]


def is_end(error: KafkaError) -> bool:
    """Return whether an error says that a partition's end was reached, or that a retry mends it.

    Raises RestartReader if the offset is not in the partition, KafkaException for an error that no retry mends.
    """
    if error.fatal():
        raise KafkaException(error)
    if error.code() in client_errors.OUT_OF_RANGE:
        raise RestartReader
    return bool(error.code() == KafkaError._PARTITION_EOF)

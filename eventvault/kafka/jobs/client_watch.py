"""What each reader of jobs watches of its client: when to look at the topic, and whether to make a new client."""

from __future__ import annotations

import time
from collections.abc import Callable

from confluent_kafka import KafkaError

from eventvault.kafka import client_errors
from eventvault.kafka.jobs.reader_thread import RestartReader
from eventvault.kafka.renewal import Renewal


class ClientWatch:
    """on_broken: called when a connection to a broker has ended. The topic is looked at soon then.

    due: when the topic is looked at next, in seconds of the monotonic clock.
    """

    def __init__(self, on_broken: Callable[[], None] = lambda: None) -> None:
        self.due = 0.0
        self._on_broken = on_broken
        self._renewal = Renewal()
        self._renewal.has_read = True  # as far as is known here

    def is_due(self) -> bool:
        """Return whether to look at the topic now. Raises RestartReader if the client is to be made anew."""
        if self._renewal.is_due:
            raise RestartReader
        return time.monotonic() >= self.due

    def look_soon(self) -> None:
        self.due = 0.0

    def look_in(self, seconds: float) -> None:
        self.due = time.monotonic() + seconds

    def note(self, error: KafkaError) -> None:
        """Note an error that the client met."""
        if error.code() in client_errors.CONNECTION_BROKEN:
            self._on_broken()
            self.look_soon()
        else:
            self._renewal.note(error)

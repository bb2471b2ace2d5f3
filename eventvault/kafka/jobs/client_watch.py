"""Watches the client of a reader of jobs: when to check the topic, and whether to make a new client."""

from __future__ import annotations

import time
from collections.abc import Callable

from confluent_kafka import KafkaError

from eventvault.kafka import client_errors
from eventvault.kafka.jobs.reader_thread import RestartReader
from eventvault.kafka.renewal import Renewal


class ClientWatch:
    """on_broken: called when a connection to a broker has broken. The topic is then checked soon.

    due: when the topic is checked next, in seconds of the monotonic clock.
    """

    def __init__(self, on_broken: Callable[[], None] = lambda: None) -> None:
        self.due = 0.0
        self._on_broken = on_broken
        self._renewal = Renewal()
        self._renewal.has_read = True  # the readers do not report it, so the longer age applies

    def is_due(self) -> bool:
        """Return whether to check the topic now. Raises RestartReader if a new client is needed."""
        if self._renewal.is_due:
            raise RestartReader
        return time.monotonic() >= self.due

    def check_soon(self) -> None:
        self.due = 0.0

    def check_in(self, seconds: float) -> None:
        self.due = time.monotonic() + seconds

    def note(self, error: KafkaError) -> None:
        if error.code() in client_errors.CONNECTION_BROKEN:
            self._on_broken()
            self.check_soon()
        else:
            self._renewal.note(error)

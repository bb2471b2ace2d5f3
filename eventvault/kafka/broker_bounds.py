"""Asks the brokers which offsets they hold, in a thread of its own, so that no list of backups waits for Kafka."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from eventvault.errors import KafkaUnreachable
from eventvault.kafka.replayable import Bounds, TopicBounds
from eventvault.settings import Settings

if TYPE_CHECKING:
    from eventvault.kafka.clients import Admin

log = logging.getLogger("KafkaMonitor")

ASK_SECONDS = 5.0
"""Age of an answer after which the brokers are asked again."""
KNOWN_SECONDS = 30.0
"""Age of an answer after which it is not used any more."""
PLAN_SECONDS = 4.0
"""How long a plan waits for an answer."""

Ask = Callable[[Sequence[str]], Bounds]
"""Asks the brokers for these topics. Raises KafkaUnreachable."""


class BrokerBounds:
    """Safe for many threads. topics: returns the topics that events are consumed from now; none without Kafka."""

    def __init__(
        self, topics: Callable[[], Sequence[str]], ask: Ask, monotonic: Callable[[], float] = time.monotonic
    ) -> None:
        self.topics = topics
        self._ask = ask
        self._monotonic = monotonic
        self._lock = threading.Lock()
        self._bounds: Bounds | None = None
        self._asked_at = float("-inf")
        self._answered_at = float("-inf")
        self._asking: threading.Thread | None = None

    def latest(self) -> Bounds | None:
        """Return what the brokers hold, by their newest answer; None if that is too old. Never waits."""
        if not self.topics():
            return None
        with self._lock:
            if self._monotonic() - self._asked_at >= ASK_SECONDS:
                self._begin_to_ask()
            return self._bounds if self._monotonic() - self._answered_at < KNOWN_SECONDS else None

    def present(self) -> Bounds | None:
        """Return what the brokers hold now; None if they do not answer in time.

        The answer to an earlier question is not used: it may be older than the caller's last change.
        """
        if not self.topics():
            return None
        deadline, earlier = time.monotonic() + PLAN_SECONDS, self._asking
        if earlier is not None:
            earlier.join(PLAN_SECONDS)
            if earlier.is_alive():
                return None
        with self._lock:
            asking = self._begin_to_ask()
        asking.join(max(0.0, deadline - time.monotonic()))
        with self._lock:
            return None if asking.is_alive() else self._bounds

    def _begin_to_ask(self) -> threading.Thread:
        """Return the thread that asks; start one if there is none. The caller holds the lock."""
        if self._asking is None or not self._asking.is_alive():
            self._asked_at = self._monotonic()
            self._asking = threading.Thread(target=self._run, name="broker bounds", daemon=True)
            self._asking.start()
        return self._asking

    def _run(self) -> None:
        bounds: Bounds | None = None
        try:
            bounds = self._ask(list(self.topics()))
        except KafkaUnreachable as error:
            log.debug("what the brokers hold is not known: %s", error)
        except Exception:
            log.exception("the brokers could not be asked what they hold; it is retried")
        with self._lock:
            self._bounds, self._answered_at = bounds, self._monotonic()


class Brokers:
    """Asks the brokers with a client that it keeps while they answer; for one thread at a time."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._admin: Admin | None = None

    def __call__(self, names: Sequence[str]) -> Bounds:
        # Imported here: the client library takes a while to load, and a store without Kafka never needs it.
        from eventvault.kafka import topics
        from eventvault.kafka.clients import Admin

        try:
            admin = self._admin = self._admin or Admin(self._settings)
            requests = topics.ask_topics(admin, names)
            infos = {name: topics.topic_of(request, None) for name, request in requests.items()}
            ends = topics.all_bounds(admin, {name: info.partitions for name, info in infos.items() if info is not None})
        except BaseException:  # after an unforeseen failure the client may stay broken
            self._admin = None
            raise
        return {name: None if info is None else TopicBounds(info.topic_id, ends[name]) for name, info in infos.items()}

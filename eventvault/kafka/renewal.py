"""Tells when a client is to be made anew.

One that a broker refuses: a new one reads passwords and certificates again. One that was made before the clock was set
back: its own threads may wait for as long as that.
"""

from __future__ import annotations

import time

from confluent_kafka import KafkaError

from eventvault.kafka import refusals
from eventvault.kafka.refusals import Probe, Refusal
from eventvault.kafka.waits import ClockSetBack

RENEW_SECONDS = 60.0
"""How old a client is at least before it is made anew: the other brokers are interrupted by that."""
FIRST_RENEW_SECONDS = 10.0
"""The same for a client that has read nothing yet: there is nothing to interrupt."""
SETTLED_SECONDS = 3.0
"""A client that no broker has refused for so long since it was made is refused by none."""


class Renewal:
    """Of one client, from when it is made. is_refused: a login or a certificate is refused.

    has_read: a broker has sent it something; its owner says so.
    """

    def __init__(self, probe: Probe = lambda *_: "") -> None:
        self.is_refused = False
        self.has_read = False
        self._probe = probe
        self._made_at = time.monotonic()
        self._clock = ClockSetBack()

    def note(self, error: KafkaError) -> Refusal | None:
        """Return why a broker refuses the client, if the error says so and a new client may not be refused."""
        found = refusals.explain(error, self._probe if not self.is_refused else lambda *_: "")
        if found is None or not found.by_login:
            return None
        self.is_refused = True
        return found

    @property
    def is_due(self) -> bool:
        is_old = time.monotonic() - self._made_at >= (RENEW_SECONDS if self.has_read else FIRST_RENEW_SECONDS)
        return (self.is_refused and is_old) or self._clock.was_set_back()

    @property
    def is_accepted(self) -> bool:
        return not self.is_refused and time.monotonic() - self._made_at >= SETTLED_SECONDS

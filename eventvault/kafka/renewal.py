"""Tells when a client must be replaced by a new one.

If a broker refuses the client: a new one reads passwords and certificates again. If the clock was set back since it was
made: its own threads may then wait for as long.
"""

from __future__ import annotations

import time

from confluent_kafka import KafkaError

from eventvault.kafka import refusals
from eventvault.kafka.refusals import Probe, Refusal
from eventvault.kafka.waits import ClockSetBack

RENEW_SECONDS = 60.0
"""Age at which a client may be replaced. That interrupts what the other brokers send, so it must not be often."""
FIRST_RENEW_SECONDS = 10.0
"""The same for a client that has read nothing yet, so that nothing is interrupted."""
SETTLED_SECONDS = 3.0
"""A client that no broker has refused for this long since it was made counts as accepted by all."""


class Renewal:
    """Watches one client; made together with it. is_refused: a broker refuses its login or certificate.

    has_read: a broker has sent it something; its owner sets this.
    """

    def __init__(self, probe: Probe = lambda *_: "") -> None:
        self.is_refused = False
        self.has_read = False
        self._probe = probe
        self._made_at = time.monotonic()
        self._clock = ClockSetBack()

    def note(self, error: KafkaError) -> Refusal | None:
        """Return why a broker refuses the client; None if the error is not a refusal that a new client may avoid."""
        refusal = refusals.explain(error, self._probe if not self.is_refused else lambda *_: "")
        if refusal is None or not refusal.by_login:
            return None
        self.is_refused = True
        return refusal

    @property
    def is_due(self) -> bool:
        is_old = time.monotonic() - self._made_at >= (RENEW_SECONDS if self.has_read else FIRST_RENEW_SECONDS)
        return (self.is_refused and is_old) or self._clock.was_set_back()

    @property
    def is_accepted(self) -> bool:
        return not self.is_refused and time.monotonic() - self._made_at >= SETTLED_SECONDS

"""The outbox in `jobs_db`: outcomes and dead letters that wait to be sent to their topics. Pure.

A message is written in the same batch as the change that it reports, and sent afterwards, at least once.
"""

from __future__ import annotations

from collections.abc import Iterable
from itertools import islice

import msgspec

from eventvault.jobs import keys
from eventvault.jobs.job import Job
from eventvault.jobs.ledger import Ledger
from eventvault.jobs.outcomes import dead_letter, outcome_message
from eventvault.jobs.transport import OutboxMessage

AT_ONCE = 1_000
"""Most messages in memory; the others stay on disk until these are sent."""
_encoder = msgspec.msgpack.Encoder()
_message = msgspec.msgpack.Decoder(OutboxMessage)


class JobsOutbox:
    def __init__(self, ledger: Ledger) -> None:
        self._ledger = ledger
        self._waiting: dict[int, OutboxMessage] = {}
        self._next = 0
        """The number of the first message that was not read into memory yet."""

    def put(self, messages: Iterable[OutboxMessage]) -> None:
        counts = self._ledger.counts
        for message in messages:
            counts.outbox += 1
            self._ledger.changes.put(keys.outbox_key(counts.outbox), _encoder.encode(message))

    def put_outcome(self, job: Job) -> None:
        """Add the outcome of a job that has ended, and its dead letter if it is dead."""
        changes = self._ledger.changes
        self.put([outcome_message(job, changes.get(keys.result_key(job.id)))])
        if job.state == "dead":
            self.put([dead_letter(job, changes.get(keys.payload_key(job.id)))])

    def unsent(self) -> list[OutboxMessage]:
        """Return the oldest messages that were not sent. All of them are on disk."""
        newest = self._ledger.counts.outbox
        if not self._waiting and self._next <= newest:
            scanned = self._ledger.changes.reader.scan(keys.outbox_key(self._next), keys.end_of(keys.OUTBOX))
            self._waiting = {keys.order_of(key): _message.decode(value) for key, value in islice(scanned, AT_ONCE)}
            self._next = max(self._waiting, default=newest) + 1
        return list(self._waiting.values())

    def forget(self, messages: Iterable[OutboxMessage]) -> None:
        """Remove messages that the brokers have."""
        delivered = {id(message) for message in messages}
        for number, message in list(self._waiting.items()):
            if id(message) in delivered:
                del self._waiting[number]
                self._ledger.changes.remove(keys.outbox_key(number))

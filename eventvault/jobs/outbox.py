"""What becomes of jobs, for the topics of others: written with it, sent afterwards, at least once. Pure."""

from __future__ import annotations

from collections.abc import Iterable
from itertools import islice
from typing import TYPE_CHECKING

import msgspec

from eventvault.jobs import keys
from eventvault.jobs.job import Job
from eventvault.jobs.outcomes import dead_letter, outcome_letter
from eventvault.jobs.transport import Letter

if TYPE_CHECKING:
    from eventvault.jobs.machine import Machine

AT_ONCE = 1_000
"""So many letters are in memory; the others are on disk until these are sent."""
_encoder = msgspec.msgpack.Encoder()
_letter = msgspec.msgpack.Decoder(Letter)


class Outbox:
    """Belongs to a machine."""

    def __init__(self) -> None:
        self._waiting: dict[int, Letter] = {}
        self._next = 0
        """The number of the first letter that was not in memory yet."""

    def put(self, machine: Machine, letters: Iterable[Letter]) -> None:
        counts = machine.ledger.counts
        for letter in letters:
            counts.outbox += 1
            machine.ledger.changes.put(keys.outbox_key(counts.outbox), _encoder.encode(letter))

    def put_outcome(self, machine: Machine, job: Job) -> None:
        """Let others know what became of a job that has ended."""
        changes = machine.ledger.changes
        self.put(machine, [outcome_letter(job, changes.get(keys.result_key(job.id)))])
        if job.state == "dead":
            self.put(machine, [dead_letter(job, changes.get(keys.payload_key(job.id)))])

    def letters(self, machine: Machine) -> list[Letter]:
        """Return the oldest letters that were not sent. They are on disk."""
        if not self._waiting and self._next <= machine.ledger.counts.outbox:
            scanned = machine.ledger.changes.reader.scan(keys.outbox_key(self._next), keys.behind(keys.OUTBOX))
            self._waiting = {keys.order_of(key): _letter.decode(value) for key, value in islice(scanned, AT_ONCE)}
            self._next = max(self._waiting, default=machine.ledger.counts.outbox) + 1
        return list(self._waiting.values())

    def sent(self, machine: Machine, letters: Iterable[Letter]) -> None:
        """Forget letters that the brokers have."""
        ended = {id(letter) for letter in letters}
        for number, letter in list(self._waiting.items()):
            if id(letter) in ended:
                del self._waiting[number]
                machine.ledger.changes.remove(keys.outbox_key(number))

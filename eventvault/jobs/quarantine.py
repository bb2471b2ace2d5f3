"""Messages of the topic `jobs` that are no job: the newest MAX_QUARANTINED of them stay in `jobs_db`. Pure."""

from __future__ import annotations

from itertools import islice

import msgspec

from eventvault.jobs import keys
from eventvault.jobs.job import JobError
from eventvault.jobs.ledger import Ledger
from eventvault.jobs.transport import Submitted

MAX_QUARANTINED = 1_000
"""So many messages are in quarantine; each further one replaces another one. The topic of dead letters has them all."""
_encoder = msgspec.msgpack.Encoder()


class QuarantinedSubmission(msgspec.Struct, frozen=True, omit_defaults=True):
    """A message that is no job. instant: when it was read. value: cut to what is read of a message."""

    instant: int
    error: JobError
    key: bytes | None = None
    value: bytes | None = None
    headers: tuple[tuple[str, bytes | None], ...] = ()


class JobsQuarantine:
    """Older messages make room once a turn, however many come in it."""

    def __init__(self, ledger: Ledger) -> None:
        self._ledger = ledger
        self._came: dict[bytes, bytes] = {}
        self._begins = keys.QUARANTINE
        """What is before it was removed."""

    def put(self, submitted: Submitted, error: JobError, now: int, most_bytes: int) -> None:
        """most_bytes: of the message's value."""
        position = submitted.position
        self._ledger.counts.quarantined += 1
        value = None if submitted.value is None else submitted.value[:most_bytes]
        entry = QuarantinedSubmission(now, error, submitted.key, value, submitted.headers)
        key = keys.quarantine_key(position.topic, position.partition, position.offset - 1)
        self._came.pop(key, None)
        self._came[key] = _encoder.encode(entry)

    def finish_turn(self) -> None:
        if not self._came:
            return
        newest = dict(islice(reversed(self._came.items()), MAX_QUARANTINED))
        for key, value in newest.items():
            self._ledger.changes.put(key, value)
        self._begins = min(self._begins, *newest)
        self._make_room(newest)
        self._came.clear()

    def _make_room(self, newest: dict[bytes, bytes]) -> None:
        """Remove the first ones of those that were there: at most one for each that comes."""
        too_many = min(self._ledger.counts.quarantined - MAX_QUARANTINED, len(newest))
        if too_many <= 0:
            return
        changes = self._ledger.changes
        there = (key for key, _ in changes.reader.scan(self._begins, keys.behind(keys.QUARANTINE)) if key not in newest)
        first = min(newest)
        for key in islice(there, too_many):
            changes.remove(key)
            self._begins = min(key, first)
